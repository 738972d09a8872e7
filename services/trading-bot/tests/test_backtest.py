"""A backtest trades as the bot does, its figures are those of a calculation by hand, its command says what is wrong."""

from __future__ import annotations

import io
import json
import math
import statistics
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from importlib import import_module
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from click.testing import CliRunner, Result
from fake_exchange import fake_exchange
from trading_bot.backtest.engine import Engine, Run
from trading_bot.backtest.measures import DAY_S, HOUR_S, drawdown, measures, sharpe
from trading_bot.backtest.progress import Progress
from trading_bot.backtest.source import past
from trading_bot.cli import main
from trading_bot.feeds.candles import Candle
from trading_bot.feeds.replay import Playback
from trading_bot.feeds.simulated import SimulatedFeed
from trading_bot.risk import RiskLimits
from trading_bot.settings import BotSettings
from trading_bot.strategies import Decision, Strategy, Target
from trading_bot.strategies.registry import build_strategy
from trading_bot.venue.paper import PaperVenue

START = datetime(2026, 1, 1, tzinfo=UTC)
CALM = RiskLimits(
    position_fraction=Decimal("0.5"),
    max_exposure_percent=Decimal(90),
    stop_loss_percent=Decimal(0),
    take_profit_percent=Decimal(0),
    daily_loss_limit_percent=Decimal(0),
)


class Plan:
    """A strategy that wants what the test says, candle by candle."""

    name = "Plan"
    warmup = 1

    def __init__(self, targets: str, first: int) -> None:
        self.targets = targets
        self.first = first

    def decide(self, candles: Sequence[Candle]) -> Decision:
        target: Target = "LONG" if self.targets[candles[-1].index - self.first] == "L" else "FLAT"
        return Decision(target, "the plan")

    def config(self) -> dict[str, Any]:
        return {}


def candles(*closes: str, interval_s: int = 3_600, low: dict[int, str] | None = None) -> list[Candle]:
    first = int(START.timestamp()) // interval_s
    made = []
    for n, close in enumerate(closes):
        opens = START + timedelta(seconds=n * interval_s)
        before = Decimal(closes[max(n - 1, 0)])
        now = Decimal(close)
        made.append(
            Candle(
                venue="TEST", symbol="BTCUSDT", index=first + n, open_time=opens,
                close_time=opens + timedelta(seconds=interval_s), open=before, high=max(before, now),
                low=Decimal((low or {}).get(n, str(min(before, now)))), close=now, volume=Decimal(1),
            )
        )  # fmt: skip
    return made


def played(
    past_candles: list[Candle],
    strategy: Strategy,
    *,
    limits: RiskLimits = CALM,
    fee: str = "0.001",
    slippage: str = "0",
    partial_fills: bool = False,
) -> Run:
    interval_s = int((past_candles[0].close_time - past_candles[0].open_time).total_seconds())
    feed = Playback(past_candles, name="test", venue="TEST", symbol="BTCUSDT", interval_s=interval_s, simulated=False)
    venue = PaperVenue(
        "TEST", None, fee_rate=Decimal(fee), slippage_rate=Decimal(slippage), partial_fills=partial_fills
    )
    engine = Engine(feed, strategy=strategy, limits=limits, venue=venue, initial_balance=Decimal(1_000))
    run = engine.play()
    venue.close()
    return run


def planned(targets: str, past_candles: list[Candle]) -> Plan:
    return Plan(targets, past_candles[0].index)


def test_two_trades_by_hand() -> None:
    told = candles("100", "110", "120", "100", "80", "80")
    run = played(told, planned("LLFLFF", told))
    # buys 5 at 100 (fee 0.5), sells at 120 (fee 0.6): 1098.9. Buys 5.4945 at 100 (0.54945), sells at 80 (0.43956).
    first, second = run.trades
    assert (first.trip.pnl, first.trip.fees, first.net) == (Decimal(100), Decimal("1.1"), Decimal("98.9"))
    assert (second.trip.quantity, second.net) == (Decimal("5.4945"), Decimal("-110.87901"))
    assert run.account.balance == Decimal("988.02099")
    assert run.account.position is None
    assert list(run.equity) == pytest.approx([999.5, 1049.5, 1098.9, 1098.35055, 988.02099, 988.02099], abs=1e-9)
    found = measures(run)
    assert found.final_equity == Decimal("988.02099")
    assert found.return_percent == pytest.approx(-1.197901)
    assert found.market_percent == pytest.approx(-20)
    assert found.drawdown.percent == pytest.approx(100 * (1098.9 - 988.02099) / 1098.9)
    assert (found.drawdown.peak_at, found.drawdown.lowest_at) == (
        told[2].close_time.timestamp(),
        told[4].close_time.timestamp(),
    )
    assert (found.trades, found.win_rate_percent, found.fees) == (2, 50.0, Decimal("2.08901"))
    assert found.profit_factor == pytest.approx(98.9 / 110.87901)
    assert (found.best_trade, found.worst_trade) == (Decimal("98.9"), Decimal("-110.87901"))
    assert found.mean_held_s == 1.5 * HOUR_S
    assert found.invested_percent == 50
    assert dict(found.exits) == {"strategy": 2}
    assert found.sharpe.value is None


def test_a_position_that_is_still_open_counts_at_the_last_price() -> None:
    told = candles("100", "110")
    run = played(told, planned("LL", told))
    assert run.account.position is not None
    assert measures(run).final_equity == Decimal("1049.5")
    assert measures(run).trades == 0


def test_a_run_that_never_trades_has_figures_too() -> None:
    told = candles("100", "110", "120")
    found = measures(played(told, planned("FFF", told)))
    assert (found.return_percent, found.trades, found.win_rate_percent, found.mean_trade) == (0.0, 0, None, None)
    assert (found.drawdown.percent, found.sharpe.value) == (0.0, None)


def test_a_stop_closes_the_position_at_the_end_of_its_candle_and_waits_for_a_fresh_signal() -> None:
    told = candles("100", "100", "99", "99", "99", "99", low={2: "94"})
    limits = RiskLimits(**{**_fields(CALM), "stop_loss_percent": Decimal(5)})
    run = played(told, planned("LLLLFL", told), limits=limits)
    (trade,) = run.trades
    assert trade.reason == "stop loss 5%: low 94 at or below 95.00"
    assert (trade.trip.exit_price, trade.trip.exit_time) == (Decimal(99), told[2].close_time)
    assert run.refused_entries["risk closed the last position"] == 1
    assert run.account.position is not None  # bought again at the signal after FLAT
    assert run.account.position.opened_at == told[5].close_time


def test_a_bad_day_ends_at_midnight() -> None:
    told = candles(*["100"] * 20, "50", *["50"] * 9)
    limits = RiskLimits(**{**_fields(CALM), "daily_loss_limit_percent": Decimal(10)})
    run = played(told, planned("F" * 19 + "LF" + "LLLLLLLLL", told), limits=limits)
    assert run.refused_entries["daily loss limit 10%"] == 2
    assert run.account.position is not None
    # the candle that closes at midnight is the first of the new day
    assert run.account.position.opened_at == START + timedelta(days=1)


def _fields(limits: RiskLimits) -> dict[str, Decimal]:
    return {name: getattr(limits, name) for name in RiskLimits.__slots__}  # pyright: ignore[reportAttributeAccessIssue]


def test_an_entry_in_parts_is_taken_back_when_the_market_turns() -> None:
    """In so many orders some are split in parts; whatever is cut off, all is sold and the books add up."""
    told = candles(*["100", "101", "102", "101"] * 60)
    run = played(told, planned("LFFF" * 60, told), slippage="0.001", partial_fills=True)
    assert len(run.trades) == 60
    assert run.account.position is None
    cut = [trade for trade in run.trades if trade.trip.quantity * 100 < Decimal("0.49") * run.account.balance]
    assert len(cut) > 10  # an entry of which only a part was bought before it was taken back
    assert any(len({trade.trip.exit_time, trade.trip.entry.entered_at}) == 2 for trade in run.trades)
    assert run.account.balance == Decimal(1_000) + sum((trade.net for trade in run.trades), Decimal(0))


def test_bad_candles_are_left_out_and_counted() -> None:
    told = candles("100", "101", "102", "103")
    bad = [told[0], told[1], told[1], candles("100", "101", "102000")[2], told[3]]
    run = played(bad, planned("FFFF", told))
    assert dict(run.bad_candles) == {"repeated": 1, "jump": 1, "gap": 1}
    assert len(run.times) == 3


def test_drawdown_and_sharpe_by_the_book() -> None:
    times = [float(n * DAY_S) for n in range(1, 41)]
    equity = [1_000.0 + 10 * math.sin(n) + n for n in range(1, 41)]
    returns = [b / a - 1 for a, b in zip([1_000.0, *equity], equity, strict=False)]
    found = sharpe(times, equity, start=1_000.0)
    assert found.value == pytest.approx(statistics.fmean(returns) / statistics.stdev(returns) * math.sqrt(365))
    assert (found.step_s, found.returns) == (DAY_S, 40)
    deepest = max(
        (100 * (peak - low) / peak, i, j) for i, peak in enumerate(equity) for j, low in enumerate(equity) if j > i
    )
    fell = drawdown(times, equity, start=1_000.0)
    assert (fell.percent, fell.peak_at, fell.lowest_at) == (deepest[0], times[deepest[1]], times[deepest[2]])
    # half-hourly values of the same curve give the same daily returns: midnight belongs to the day before
    finer = [(at - DAY_S + HOUR_S * h, value) for at, value in zip(times, equity, strict=True) for h in (1, 23.5, 24)]
    assert sharpe([at for at, _ in finer], [value for _, value in finer], start=1_000.0).value == pytest.approx(
        found.value
    )


@pytest.mark.parametrize(
    ("equity", "step_s"),
    [([1_000.0] * 40, 60), ([1_000.0 + n for n in range(29)], 60), ([1_000.0, -5.0] * 20, 60), ([1_000.0], 0)],
)
def test_where_there_is_no_sharpe_ratio_there_is_none(equity: list[float], step_s: float) -> None:
    found = sharpe([60.0 * n for n in range(1, len(equity) + 1)], equity, start=1_000.0)
    assert found.value is None
    assert found.step_s == step_s


def test_the_same_past_gives_the_same_trades_whoever_plays_it() -> None:
    """The simulated market by itself, and the same candles out of a file, are one past."""
    settings = BotSettings(bot_candle_interval_s=60)
    end = START + timedelta(hours=4)
    one = past(settings, START, end, end)
    assert one.expected == 240
    runs = []
    market = SimulatedFeed(seed=settings.bot_seed, symbol="BTCUSDT", interval_s=60)
    for told in (list(one.playback.poll(end)), market.history(240, end)):
        runs.append(played(told, build_strategy("MovingAverageCross", {}), partial_fills=True))
    assert [trade.trip.entry for trade in runs[0].trades] == [trade.trip.entry for trade in runs[1].trades]
    assert len(runs[0].trades) > 3


# --- the command ----------------------------------------------------------------------------------------------------


@pytest.fixture
def backtest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Run the command in an empty folder, with no settings around."""
    monkeypatch.chdir(tmp_path)

    def run(*args: str) -> Result:
        return CliRunner().invoke(main, ["backtest", *args])

    return run


def test_the_report_for_people(backtest: Callable[..., Result], tmp_path: Path) -> None:
    result = backtest("--feed", "replay", "--strategy", "RsiMeanReversion", "--plot", "plot.svg")
    assert result.exit_code == 0, result.output
    first, period, *rows = result.stdout.splitlines()
    assert first.startswith("RsiMeanReversion (period_candles=14, buy_below=30, ")
    assert first.endswith("on BTCUSDT from sample-synthetic.csv")
    assert period == "2026-01-01 00:00 to 2026-01-03 00:00 UTC, 576 candles of 5 min"
    names = [row[:18].strip() for row in rows if row.strip()]
    assert names[:9] == [
        "return", "final equity", "max drawdown", "Sharpe ratio", "trades", "win rate", "a trade", "fees", "invested",
    ]  # fmt: skip
    assert "drawn in plot.svg" in result.stderr
    assert "drawn" not in result.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["plot.svg"]


def test_the_plot_is_one_picture_that_needs_nothing_from_elsewhere(
    backtest: Callable[..., Result], tmp_path: Path
) -> None:
    (tmp_path / "plot.svg").write_text("old")
    command = ("--to", "2026-01-01T01:00", "--plot", "plot.svg", "--quiet")
    assert backtest(*command).exit_code == 0
    text = (tmp_path / "plot.svg").read_text()
    assert backtest(*command).stderr == ""
    assert (tmp_path / "plot.svg").read_text() == text
    root = ElementTree.fromstring(text)
    kinds = {element.tag.split("}")[1] for element in root.iter() if isinstance(element.tag, str)}
    assert "script" not in kinds
    assert not [name for element in root.iter() for name in element.attrib if name.endswith("href")]
    assert "@import" not in text
    assert "url(" not in text
    title, description = root[0].text, root[1].text
    assert title == "Backtest: MovingAverageCross on the simulated market BTCUSDT, seed 7"
    assert description is not None
    assert "deepest drawdown" in description
    assert sum(element.tag.endswith("}svg") for element in root.iter()) == 3
    paths = [len(element.get("d", "")) for element in root.iter() if element.tag.endswith("}path")]
    assert 5_000 < max(paths) < 100_000  # 1800 candles, thinned


def test_the_report_for_programs_is_exact_and_the_same_every_time(backtest: Callable[..., Result]) -> None:
    command = ("--from", "2026-03-01", "--to", "2026-03-01T02:00+01:00", "--interval-s", "10", "--seed", "3", "--json")
    one, other = backtest(*command), backtest(*command)
    assert one.stdout == other.stdout
    found = json.loads(one.stdout)
    assert found["schema_version"] == 1
    assert (found["feed"]["from"], found["feed"]["to"]) == ("2026-03-01T00:00:00+00:00", "2026-03-01T01:00:00+00:00")
    assert (found["feed"]["venue"], found["feed"]["candles"]) == ("SIMULATED", 360)
    trades = found["closed_trades"]
    assert found["trades"] == len(trades) > 10
    balance = Decimal(found["initial_balance"])
    balance += sum((Decimal(trade["pnl"]) - Decimal(trade["fees"]) for trade in trades), Decimal(0))
    assert Decimal(found["open_quantity"]) == 0
    assert balance == Decimal(found["final_balance"])
    assert Decimal(found["fees"]) == sum((Decimal(trade["fees"]) for trade in trades), Decimal(0))
    assert json.loads(backtest(*command[:-2], "4", "--json").stdout)["closed_trades"] != trades


def test_settings_come_from_the_environment_and_the_command_line_goes_before(
    backtest: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BOT_STRATEGY", "RsiMeanReversion")
    monkeypatch.setenv("BOT_STRATEGY_PARAMETERS", '{"buy_below": 20}')
    monkeypatch.setenv("BOT_INITIAL_BALANCE", "500")
    short = ("--to", "2026-01-01T00:10", "--json")
    found = json.loads(backtest(*short).stdout)
    assert found["strategy"]["name"] == "RsiMeanReversion"
    assert found["strategy"]["parameters"]["buy_below"] == 20
    assert found["initial_balance"] == "500"
    ours = ("--strategy", "MovingAverageCross", "--parameters", '{"fast_candles": 2}')
    for args, fast in ((ours, 2), (ours[:2], 3)):  # the environment's parameters are another strategy's
        parameters = json.loads(backtest(*short, *args).stdout)["strategy"]["parameters"]
        assert parameters == {"fast_candles": fast, "slow_candles": 8}


def test_an_exchanges_past(backtest: Callable[..., Result], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(import_module("ccxt.base.exchange").Exchange, "throttle", lambda *_: None)  # the server is ours
    with fake_exchange() as kraken:
        market = SimulatedFeed(seed=9, symbol="BTCUSD", interval_s=3_600)
        hours = market.history(600, datetime.now(UTC))
        kraken.rows = [
            (int(c.open_time.timestamp()), str(c.open), str(c.high), str(c.low), str(c.close), str(c.volume))
            for c in hours
        ]
        monkeypatch.setenv("BOT_EXCHANGE_URL", kraken.url)
        command = ("--feed", "ccxt", "--exchange", "kraken", "--symbol", "BTCUSD", "--interval-s", "3600", "--json")
        result = backtest(*command, "--from", hours[0].open_time.isoformat())
        assert result.exit_code == 0, result.output
        found = json.loads(result.stdout)
        assert (found["feed"]["venue"], found["feed"]["candles"]) == ("PAPER-KRAKEN", 600)
        assert (found["currency"], found["feed"]["refused_candles"]) == ("USD", {})
        assert json.loads(backtest(*command).stdout)["feed"]["candles"] == 500
        kraken.trouble = (503, "<html>maintenance</html>")
        away = backtest(*command)
        assert away.exit_code == 69
        assert json.loads(away.stdout)["error"]["code"] == "BOT-020"


@pytest.mark.parametrize(
    ("args", "code", "said"),
    [
        (("--from", "2026-01-02", "--to", "2026-01-01"), 2, "is not before --to"),
        (("--from", "yesterday"), 2, "expected a date or a time like 2026-01-31"),
        (("--parameters", "{fast: 3}"), 2, "expected a JSON object like"),
        (("--parameters", "[3]"), 2, "expected a JSON object like"),
        (("--interval-s", "0"), 2, "bot_candle_interval_s: Input should be greater than or equal to 1"),
        (("--symbol", "btc/usdt"), 2, "bot_symbol: String should match pattern"),
        (("--from", "2026-01-01T00:00:01", "--to", "2026-01-01T00:00:02"), 2, "error BOT-027: the simulated market"),
        (("--feed", "replay", "--from", "2030-01-01"), 2, "BOT-027: BTCUSDT from sample-synthetic.csv has no candle"),
        (("--feed", "replay", "--file", "none.csv"), 78, "error BOT-026: file of candles none.csv: it cannot be read"),
        (("--feed", "ccxt", "--exchange", "mtgox"), 78, "error BOT-021: ccxt knows no exchange 'mtgox'"),
        (("--strategy", "HoldOn"), 78, "error BOT-023: no strategy 'HoldOn' is installed"),
        (("--parameters", '{"fast": 3}'), 78, "error BOT-024: MovingAverageCross has no parameter 'fast'"),
        (("--plot", "plot.png"), 2, "error BOT-028: the plot cannot be written to plot.png"),
        (("--plot", "no/such/plot.svg"), 2, "error BOT-028: the plot cannot be written to no/such/plot.svg"),
    ],
)
def test_what_cannot_be_tested_says_why(
    backtest: Callable[..., Result], tmp_path: Path, args: tuple[str, ...], code: int, said: str
) -> None:
    result = backtest(*args)
    assert said in result.stderr
    assert result.exit_code == code
    assert result.stdout == ""
    assert list(tmp_path.iterdir()) == []


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("stream", [io.StringIO(), Terminal()])
def test_a_long_run_says_how_far_it_is(stream: io.StringIO) -> None:
    now = 0.0
    progress = Progress(stream, 10_240, clock=lambda: now)
    for n in range(1, 5_121):
        now += 0.01
        progress(START + timedelta(minutes=n), n)
    progress.end()
    written = stream.getvalue()
    if stream.isatty():
        assert written.count("\r") > 10
        assert "\n" not in written
        assert written.rsplit("\r", 2)[1].strip() == ""  # the line is taken away at the end
    else:
        lines = written.splitlines()
        assert len(lines) == 5  # every ten seconds
        assert lines[0] == "10 % 2026-01-01 17:04 UTC, 1,024 candles, 100/s, 92 s left"


def test_a_short_run_says_nothing_on_the_way(backtest: Callable[..., Result]) -> None:
    result = backtest("--feed", "replay")
    assert len(result.stderr.splitlines()) == 1
    assert result.stderr.startswith("done in ")
