"""A bot that is started again with other settings: another venue, strategy, parameters, or one that cannot be used."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from bot_harness import START, Clock, check_books, expire_lease, facts, kill, make_bot, make_venue, run_candles
from sqlalchemy import select
from tradedb.errors import SwitchyardError
from tradedb.manager import DatabaseManager
from tradedb.models import OrderIntent, SystemEvent, Trade, TradingSession
from trading_bot.feeds.candles import Candle
from trading_bot.feeds.simulated import SimulatedFeed
from trading_bot.settings import BotSettings
from trading_bot.status import Status
from trading_bot.strategies import Decision
from trading_bot.strategies.moving_average import MovingAverageCross
from trading_bot.strategies.registry import build_strategy


class Says:
    """Answers what it is told to, be it nonsense."""

    warmup = 1

    def __init__(self, answer: Any = None, name: str = "Says") -> None:
        self.name = name
        self.answer = answer or Decision("LONG", "told")

    def decide(self, candles: Sequence[Candle]) -> Any:
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    def config(self) -> dict[str, Any]:
        return {}


LONG, FLAT = Decision("LONG", "told"), Decision("FLAT", "told")


def said(manager: DatabaseManager, *types: str) -> list[str]:
    query = select(SystemEvent.message).where(SystemEvent.event_type.in_(types)).order_by(SystemEvent.id)
    return manager.read(lambda conn: list(conn.execute(query).scalars()), name="events")


def on_venue(name: str) -> SimulatedFeed:
    feed = SimulatedFeed(seed=7, symbol="BTCUSDT", interval_s=3600)
    feed.venue = name
    return feed


@pytest.mark.parametrize("partial", [True, False])
def test_the_same_signal_on_another_venue_is_another_decision(
    manager: DatabaseManager, tmp_path: Path, partial: bool
) -> None:
    clock = Clock(at=START + timedelta(seconds=5), step_s=3600)
    options: dict[str, Any] = {"bot_candle_interval_s": 3600, "bot_partial_fills": partial}
    settings = BotSettings(bot_partial_fills=partial)
    for holder, name in (("one", "PAPER-KRAKEN"), ("two", "PAPER-BINANCE")):
        venue = make_venue(tmp_path, settings, name=name)
        bot = make_bot(
            manager, clock, tmp_path, holder=holder, strategy=Says(), feed=on_venue(name), venue=venue, **options
        )
        bot.step()
        kill(bot)
        expire_lease(manager)
        clock.at += timedelta(minutes=20)  # the same candle is still the newest
    rows = manager.read(
        lambda conn: conn.execute(select(OrderIntent.intent_id, OrderIntent.venue, OrderIntent.session_id)).all(),
        name="intents",
    )
    assert [row.venue for row in rows] == ["PAPER-KRAKEN", "PAPER-BINANCE"]
    assert len({row.intent_id for row in rows}) == len({row.session_id for row in rows}) == 2
    assert len({row[0] for row in facts(manager)["orders"]}) == 2
    assert len(facts(manager)["positions"]) == 2
    check_books(manager)


def test_what_a_strategy_left_is_sold_when_it_is_configured_no_longer(manager: DatabaseManager, tmp_path: Path) -> None:
    clock = Clock()
    bot = make_bot(manager, clock, tmp_path, strategy=Says(name="Old"))
    run_candles(bot, clock, 4)
    kill(bot)
    expire_lease(manager)
    two = make_bot(manager, clock, tmp_path, holder="two", strategy=Says(FLAT, name="New"))
    run_candles(two, clock, 6)
    kill(two)

    query = select(TradingSession.strategy_name, TradingSession.is_active, TradingSession.total_trades)
    rows = manager.read(lambda conn: conn.execute(query.order_by(TradingSession.id)).all(), name="sessions")
    assert [tuple(row) for row in rows] == [("Old", False, 1), ("New", True, 0)]
    reasons = manager.read(lambda conn: list(conn.execute(select(Trade.exit_reason)).scalars()), name="trades")
    assert reasons == ["its strategy is configured no longer"]
    assert "is sold at the next candle" in said(manager, "ALERT")[0]
    assert [text for text in said(manager, "SESSION_END") if "ended" in text]
    check_books(manager)


def test_other_parameters_and_candles_are_written_to_the_account_and_said(
    manager: DatabaseManager, tmp_path: Path
) -> None:
    clock = Clock()
    bot = make_bot(manager, clock, tmp_path)
    run_candles(bot, clock, 2)
    kill(bot)
    expire_lease(manager)
    clock.step_s = 60
    other = MovingAverageCross(fast_candles=5, slow_candles=21)
    two = make_bot(manager, clock, tmp_path, holder="two", bot_candle_interval_s=60, strategy=other)
    run_candles(two, clock, 2)
    kill(two)
    expire_lease(manager)
    run_candles(make_bot(manager, clock, tmp_path, holder="two", bot_candle_interval_s=60, strategy=other), clock, 1)

    query = select(TradingSession.strategy_config, TradingSession.timeframe)
    rows = manager.read(lambda conn: conn.execute(query).all(), name="sessions")
    assert [tuple(row) for row in rows] == [({"fast_candles": 5, "slow_candles": 21}, "60s")]
    (change,) = said(manager, "SESSION_CHANGE")
    assert "timeframe 2s -> 60s" in change
    assert "'fast_candles': 3" in change


@pytest.mark.parametrize(
    "bad", ["LONG", 1, Decision("SHORT", "x"), Decision("long", "x"), Decision("LONG", None), ValueError("no")]  # type: ignore[arg-type]
)  # fmt: skip
def test_a_strategy_without_an_answer_opens_nothing_and_is_named(
    manager: DatabaseManager, tmp_path: Path, bad: Any
) -> None:
    clock, status, strategy = Clock(), Status(), Says(bad)
    bot = make_bot(manager, clock, tmp_path, strategy=strategy, status=status)
    run_candles(bot, clock, 3)
    assert facts(manager)["intents"] == []
    (halt,) = status.get().halted
    assert halt.startswith("BOT-029: strategy Says: decide()")
    assert status.get().role == "leader"
    assert len([text for text in said(manager, "ALERT") if "BOT-029" in text]) == 1
    strategy.answer = Decision("LONG", "a NUL \x00 and half a pair \ud83d of what databases refuse" + "." * 500)
    run_candles(bot, clock, 1)
    assert status.get().halted == ()
    assert len(facts(manager)["intents"]) == 1


def test_a_position_is_still_stopped_out_while_its_strategy_fails(manager: DatabaseManager, tmp_path: Path) -> None:
    class Falling(SimulatedFeed):
        factor = Decimal(1)

        def candle(self, index: int) -> Candle:
            candle = super().candle(index)
            prices = {name: getattr(candle, name) * self.factor for name in ("open", "high", "low", "close")}
            return replace(candle, **prices)

    clock, strategy = Clock(), Says()
    feed = Falling(seed=7, symbol="BTCUSDT", interval_s=2)
    bot = make_bot(manager, clock, tmp_path, strategy=strategy, feed=feed, bot_partial_fills=False)
    run_candles(bot, clock, 2)
    strategy.answer, Falling.factor = RuntimeError("broken"), Decimal("0.9")
    run_candles(bot, clock, 3)
    reasons = manager.read(lambda conn: list(conn.execute(select(Trade.exit_reason)).scalars()), name="trades")
    assert len(reasons) == 1
    assert str(reasons[0]).startswith("stop loss")


def test_parameters_that_no_database_takes_are_refused_at_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MovingAverageCross, "config", lambda self: {"level": Decimal("1.5")})
    with pytest.raises(SwitchyardError, match="config") as refused:
        build_strategy("MovingAverageCross", {})
    assert (refused.value.code, refused.value.exit_code) == ("BOT-023", 78)


def test_an_entry_that_risk_refuses_again_and_again_is_said_once(manager: DatabaseManager, tmp_path: Path) -> None:
    clock, status = Clock(), Status()
    bot = make_bot(manager, clock, tmp_path, strategy=Says(), status=status, bot_initial_balance=Decimal(15))
    run_candles(bot, clock, 5)
    (text,) = said(manager, "ALERT")
    assert text.startswith("no entry: a balance of 15")
    assert facts(manager)["intents"] == []


def test_a_loss_that_is_the_first_thing_of_a_day_counts_for_the_day(
    manager: DatabaseManager, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, strategy, status = Clock(at=datetime(2026, 1, 1, 0, 0, 3, tzinfo=UTC), step_s=86_400), Says(), Status()
    for name, module in list(sys.modules.items()):
        if name.startswith("trading_bot") and hasattr(module, "wall_clock"):
            monkeypatch.setattr(module, "wall_clock", lambda: clock.at.replace(tzinfo=None))

    class Crash(SimulatedFeed):
        def candle(self, index: int) -> Candle:
            candle = super().candle(index)
            fall = Decimal("0.6") if candle.close_time >= datetime(2026, 1, 4, tzinfo=UTC) else Decimal(1)
            prices = {name: getattr(candle, name) * fall for name in ("open", "high", "low", "close")}
            return replace(candle, **prices)

    options: dict[str, Any] = {
        "bot_candle_interval_s": 86_400, "bot_partial_fills": False, "bot_stop_loss_percent": Decimal(0),
        "bot_take_profit_percent": Decimal(0),
    }  # fmt: skip
    feed = Crash(seed=7, symbol="BTCUSDT", interval_s=86_400)
    bot = make_bot(manager, clock, tmp_path, strategy=strategy, feed=feed, status=status, **options)
    run_candles(bot, clock, 3)
    strategy.answer = FLAT
    bot.step()
    (halt,) = status.get().halted
    assert halt.startswith("daily loss limit 5%")
    assert bot._desk is not None
    before = bot._desk.books().curve.first_balance_of_day()
    kill(bot)
    expire_lease(manager)
    again = Status()
    two = make_bot(manager, clock, tmp_path, holder="two", strategy=strategy, feed=feed, status=again, **options)
    two.step()
    assert again.get().halted == (halt,), "a restarted bot thinks the same"
    assert two._desk is not None
    assert two._desk.books().curve.first_balance_of_day() == before
    strategy.answer = LONG
    clock.next_candle()
    two.step()
    assert again.get().halted == (), "the next day"
    assert two._desk.account().position is not None
    kill(two)


def test_more_than_was_ordered_goes_into_quarantine(manager: DatabaseManager, tmp_path: Path) -> None:
    clock, strategy, status = Clock(), Says(), Status()
    bot = make_bot(manager, clock, tmp_path, strategy=strategy, status=status, bot_partial_fills=False)
    bot.step()
    assert bot._desk is not None
    (fill,) = bot._kit.venue.fills(0)
    again = replace(fill, venue_trade_id="another", sequence=fill.sequence + 1)
    assert bot._desk.intake.absorb(again) == "quarantined"
    assert len(facts(manager)["fills"]) == 1
    (halt,) = status.get().halted
    assert "quarantined_facts" in halt
    check_books(manager)
    kill(bot)


def test_settings_that_would_spend_more_than_there_is_are_refused() -> None:
    with pytest.raises(ValueError, match="more than there is"):
        BotSettings(bot_position_fraction=Decimal("0.9"), bot_fee_rate=Decimal("0.1"), bot_slippage_rate=Decimal("0.1"))
