"""The strategies that ship, and how others are found: a stranger's package is installed for real."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

import pytest
import uv
from hypothesis import given
from hypothesis import strategies as st
from tradedb.errors import SwitchyardError
from trading_bot.feeds.candles import Candle
from trading_bot.feeds.simulated import SimulatedFeed
from trading_bot.strategies.moving_average import MovingAverageCross
from trading_bot.strategies.registry import build_strategy, installed
from trading_bot.strategies.rsi import RsiMeanReversion

TEMPLATE = SimulatedFeed(seed=1, symbol="BTCUSDT", interval_s=2).candle(1_000)
CLOSES = st.lists(st.decimals(min_value="90", max_value="110", places=2), min_size=12, max_size=12)


def candles(*closes: str | Decimal) -> list[Candle]:
    return [replace(TEMPLATE, close=Decimal(close)) for close in closes]


@pytest.mark.parametrize(
    ("closes", "target"),
    [
        (("1", "1", "1", "4"), "LONG"),
        (("4", "4", "4", "1"), "FLAT"),
        (("3", "3", "3", "3"), "FLAT"),  # equal is not above
        (("9", "1", "1", "1", "1.01"), "LONG"),  # only the last slow window counts
        (("0.1", "0.1", "0.1", "0.1000000001"), "LONG"),  # nothing is rounded
    ],
)
def test_long_exactly_while_the_fast_mean_is_above(closes: tuple[str, ...], target: str) -> None:
    decision = MovingAverageCross(fast_candles=2, slow_candles=4).decide(candles(*closes))
    assert decision.target == target
    assert 0 < len(decision.reason) <= 100


def rsi_by_the_book(closes: list[Decimal], period: int) -> Fraction | None:
    """Cutler's RSI in fractions, of the last ``period`` changes; None when nothing moved."""
    changes = [Fraction(b) - Fraction(a) for a, b in zip(closes[-period - 1 :], closes[-period:], strict=False)]
    gains = sum((c for c in changes if c > 0), Fraction(0))
    losses = sum((-c for c in changes if c < 0), Fraction(0))
    return None if gains + losses == 0 else 100 * gains / (gains + losses)


@given(closes=CLOSES)
def test_rsi_decides_by_the_level_that_was_touched_last(closes: list[Decimal]) -> None:
    strategy = RsiMeanReversion(period_candles=4, buy_below=30, sell_above=60, hold_candles=6)
    seen = closes[-strategy.warmup :]
    expected = "FLAT"
    for end in range(len(seen), strategy.period, -1):
        rsi = rsi_by_the_book(seen[:end], strategy.period)
        if rsi is not None and (rsi <= 30 or rsi >= 60):
            expected = "LONG" if rsi <= 30 else "FLAT"
            break
    assert strategy.decide(candles(*closes)).target == expected


def test_rsi_buys_what_fell_holds_it_and_sells_when_it_is_back_or_too_long_ago() -> None:
    strategy = RsiMeanReversion(period_candles=2, buy_below=20, sell_above=60, hold_candles=3)
    assert strategy.warmup == 5
    said = [
        strategy.decide(candles(*path))
        for path in (
            ("100", "100", "100", "99", "98"),
            ("100", "100", "99", "98", "98.5"),  # RSI 33: neither
            ("100", "99", "98", "98.5", "99"),
            ("100", "99", "98", "98.5", "98"),  # the fall is just within the three candles
            ("99", "98", "98.5", "98", "98.4"),  # and here too long ago
            ("100", "100", "100", "100", "100"),
        )
    ]
    assert [(decision.target, decision.reason) for decision in said] == [
        ("LONG", "RSI (2) at or below 20 now"),
        ("LONG", "RSI (2) at or below 20 1 candle ago"),
        ("FLAT", "RSI (2) at or above 60 now"),
        ("LONG", "RSI (2) at or below 20 2 candles ago"),
        ("FLAT", "RSI (2) between 20 and 60 for 3 candles"),
        ("FLAT", "RSI (2) between 20 and 60 for 3 candles"),
    ]


@pytest.mark.parametrize("name", ["MovingAverageCross", "RsiMeanReversion"])
def test_a_strategy_that_ships_is_found_and_built_again_from_what_it_says_of_itself(name: str) -> None:
    strategy = build_strategy(name, {})
    assert strategy.name == name
    assert build_strategy(name, json.loads(json.dumps(strategy.config()))).config() == strategy.config()
    (row,) = [row for row in installed() if row.name == name]
    assert (row.package, row.problem, row.parameters) == ("trading-bot", None, strategy.config())
    assert row.summary


@pytest.mark.parametrize(
    ("name", "parameters", "code", "said"),
    [
        ("MovingAverageCros", {}, "BOT-023", "no strategy 'MovingAverageCros' is installed"),
        ("MovingAverageCross", {"fast": 3}, "BOT-024", "MovingAverageCross has no parameter 'fast'"),
        ("MovingAverageCross", {"fast_candles": 8}, "BOT-024", "fast_candles=8 must be less than slow_candles=8"),
        ("MovingAverageCross", {"fast_candles": 0}, "BOT-024", "fast_candles=0: expected a whole number from 1"),
        ("MovingAverageCross", {"fast_candles": "3"}, "BOT-024", "fast_candles='3': expected a whole number"),
        ("MovingAverageCross", {"fast_candles": True}, "BOT-024", "fast_candles=True: expected a whole number"),
        ("RsiMeanReversion", {"buy_below": 70}, "BOT-024", "buy_below=70 must be less than sell_above=55"),
    ],
)
def test_what_cannot_be_traded_by_is_refused_at_the_start(
    name: str, parameters: dict[str, object], code: str, said: str
) -> None:
    with pytest.raises(SwitchyardError) as caught:
        build_strategy(name, parameters)
    assert (caught.value.code, caught.value.exit_code) == (code, 78)
    assert said in caught.value.what
    assert ("Installed are: MovingAverageCross" if code == "BOT-023" else "It takes: ") in caught.value.why


DOCUMENT = Path(__file__).parents[3] / "docs" / "trading-bot.md"
BROKEN = """
class NoDecision:
    pass
"""
BROKEN_ENTRIES = """
NoDecision = "dip_strategies:NoDecision"
Missing = "dip_strategies:Missing"
NotThere = "nothing_of_that_name:Strategy"
"""


def documented(language: str) -> str:
    """Return the one block of code in that language in the page that tells how it is done."""
    (code,) = re.findall(rf"```{language}\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
    return code


@pytest.fixture(scope="module")
def strangers_package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install the package of docs/trading-bot.md into a folder of its own, with some that are broken beside it."""
    project = tmp_path_factory.mktemp("stranger")
    (project / "dip_strategies.py").write_text(documented("python") + BROKEN)
    ours = 'BuyTheDip = "dip_strategies:BuyTheDip"\n'
    (project / "pyproject.toml").write_text(documented("toml").replace(ours, ours + BROKEN_ENTRIES))
    site = project / "site"
    command = [uv.find_uv_bin(), "pip", "install", "--quiet", "--offline", "--no-deps", "--no-build-isolation"]
    subprocess.run([*command, "--python", sys.executable, "--target", site, project], check=True, timeout=120)
    return site


def trading_bot(site: Path, *args: str) -> subprocess.CompletedProcess[str]:
    """Run the bot's command line with the stranger's package installed."""
    code = "import sys; from trading_bot.cli import main; sys.argv[0] = 'trading-bot'; main()"
    return subprocess.run(
        [sys.executable, "-c", code, *args],
        env={**os.environ, "PYTHONPATH": str(site)},
        cwd=site,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_a_strangers_strategy_is_listed_beside_ours_and_broken_ones_say_why(strangers_package: Path) -> None:
    listed = trading_bot(strangers_package, "strategies", "--json")
    assert listed.returncode == 0, listed.stderr
    rows = {row["name"]: row for row in json.loads(listed.stdout)["strategies"]}
    assert {"MovingAverageCross", "RsiMeanReversion"} < set(rows)
    assert rows["BuyTheDip"] == {
        "name": "BuyTheDip", "package": "dip-strategies", "version": "2.1", "problem": None,
        "summary": "Long after candles that closed lower than they opened.", "parameters": {"candles_down": 1},
    }  # fmt: skip
    assert "it has no method decide()" in rows["NoDecision"]["problem"]
    assert "AttributeError" in rows["Missing"]["problem"]
    assert "ModuleNotFoundError" in rows["NotThere"]["problem"]
    text = trading_bot(strangers_package, "strategies")
    assert "BuyTheDip" in text.stdout
    assert "dip-strategies 2.1" in text.stdout
    assert "candles_down=1" in text.stdout
    assert "cannot be used: strategy NotThere" in text.stdout


def test_a_strangers_strategy_is_backtested_like_ours(strangers_package: Path) -> None:
    args = ("backtest", "--feed", "simulated", "--to", "2026-01-01T00:10", "--strategy")
    run = trading_bot(strangers_package, *args, "BuyTheDip", "--parameters", '{"candles_down": 2}', "--json")
    assert run.returncode == 0, run.stderr
    result = json.loads(run.stdout)
    assert (result["strategy"]["name"], result["strategy"]["parameters"]) == ("BuyTheDip", {"candles_down": 2})
    assert result["trades"] > 3
    refused = trading_bot(strangers_package, *args, "BuyTheDip", "--parameters", '{"candles_down": 0}')
    assert refused.returncode == 78
    assert "error BOT-024: strategy BuyTheDip: candles_down must be at least 1" in refused.stderr
    broken = trading_bot(strangers_package, *args, "NotThere")
    assert broken.returncode == 78
    assert "error BOT-023: strategy NotThere (nothing_of_that_name:Strategy) cannot be imported" in broken.stderr
