"""The loop, on both databases: recorded exactly once under every crash, doubt and rival that fit into one process."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal

import pytest
from bot_harness import (
    START,
    Breaking,
    Clock,
    Crash,
    EveryOther,
    check_books,
    expire_lease,
    facts,
    kill,
    make_bot,
    run_candles,
)
from sqlalchemy import URL, Connection, func, insert, select
from tradedb.manager import DatabaseManager
from tradedb.models import AccountHistory, Fill, OrderIntent, Position, SystemEvent, Trade, TradingSession
from trading_bot.feeds import SIMULATED
from trading_bot.feeds.candles import Candle
from trading_bot.lease import LeadershipLost
from trading_bot.status import Status
from trading_bot.strategies import Decision

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def count(manager: DatabaseManager, table: Any) -> int:
    return manager.read(lambda conn: conn.execute(select(func.count()).select_from(table)).scalar_one(), name="count")


# --- what a plain run leaves ----------------------------------------------------------------------------------------


def test_a_run_records_intents_orders_fills_trades_and_a_curve_and_the_books_balance(
    manager: DatabaseManager, tmp_path: Path
) -> None:
    clock, status = Clock(), Status()
    bot = make_bot(manager, clock, tmp_path, status=status)
    run_candles(bot, clock, 200)
    trades = check_books(manager)
    assert trades >= 8
    found = facts(manager)
    assert {row[-1] for row in found["intents"]} == {"FILLED"}
    assert {row[-1] for row in found["orders"]} == {"FILLED"}
    assert len(found["intents"]) == len(found["orders"]) in (2 * trades, 2 * trades + 1)
    assert len(found["fills"]) > len(found["intents"]), "orders are filled in parts"
    assert found["sessions"][0][1] == trades
    assert count(manager, AccountHistory) == len(found["fills"]) + 1

    def labels(conn: Connection) -> None:
        trade = conn.execute(select(Trade.__table__).limit(1)).one()
        assert (trade.source, trade.exchange, trade.side, trade.timeframe) == ("PAPER", SIMULATED, "LONG", "2s")
        assert trade.exit_reason.startswith("fast mean (3) not above")
        assert trade.commission > 0
        assert trade.entry_time < trade.exit_time
        session = conn.execute(select(TradingSession.__table__)).one()
        assert (session.mode, session.exchange, session.is_active) == ("PAPER", SIMULATED, True)
        assert session.session_name.startswith("switchyard-MovingAverageCross-BTCUSDT-")
        assert session.strategy_config == {"fast_candles": 3, "slow_candles": 8}
        events = conn.execute(select(SystemEvent.event_type).order_by(SystemEvent.id)).scalars().all()
        assert events == ["SESSION_START", "LEADERSHIP", "RECOVERY"]
        assert set(conn.execute(select(Fill.late)).scalars()) == {False}
        entries = set(conn.execute(select(OrderIntent.intent_id).where(OrderIntent.leg == "ENTRY")).scalars())
        closed = conn.execute(select(OrderIntent.entry_intent_id).where(OrderIntent.leg == "EXIT")).scalars().all()
        assert set(closed) <= entries
        assert len(closed) == trades

    manager.read(labels, name="labels")
    now = status.get()
    assert (now.role, now.epoch, now.leader, now.halted) == ("leader", 1, "one", ())
    assert now.last_candle == clock.at - timedelta(seconds=2)
    assert now.spool is not None
    assert now.spool.unacknowledged == 0
    assert now.spool.entries == len(found["intents"]) + len(found["fills"])


def test_the_open_position_is_marked_to_the_market(manager: DatabaseManager, tmp_path: Path) -> None:
    clock = Clock()
    bot = make_bot(manager, clock, tmp_path, bot_partial_fills=False)
    while not facts(manager)["positions"]:
        run_candles(bot, clock, 1)
    bot._upkeep._snapshot_at = 0
    run_candles(bot, clock, 1)

    def marked(conn: Connection) -> None:
        position = conn.execute(select(Position.__table__)).one()
        point = conn.execute(select(AccountHistory.__table__).order_by(AccountHistory.id.desc()).limit(1)).one()
        assert position.unrealized_pnl == (position.current_price - position.entry_price) * position.quantity
        assert point.equity == point.balance + position.unrealized_pnl
        assert point.margin_used == position.entry_price * position.quantity
        assert point.open_positions == 1

    manager.read(marked, name="marked")


def test_a_restarted_bot_goes_on_with_the_session_the_position_and_the_balance(
    dialect: str, new_url: Callable[[str], URL], tmp_path: Path
) -> None:
    outcomes = []
    for restart_every in (1_000, 1):
        manager = DatabaseManager(new_url(dialect), service="trading-bot")
        clock, bot = Clock(), None
        folder = tmp_path / str(restart_every)
        for n in range(40):
            if n % restart_every == 0:
                if bot is not None:
                    kill(bot)
                    expire_lease(manager)  # kill -9: nothing was released
                bot = make_bot(manager, clock, folder, holder=f"bot-{n}")
            assert bot is not None
            run_candles(bot, clock, 1)
        check_books(manager)
        assert count(manager, TradingSession) == 1
        outcomes.append(facts(manager))
        manager.dispose()
    assert outcomes[0] == outcomes[1]
    assert len(outcomes[0]["trades"]) >= 1


# --- crashes and lost answers ---------------------------------------------------------------------------------------

EVERY_POINT = bool(os.environ.get("SWITCHYARD_EVERY_POINT"))
CANDLES = 6  # an entry that is cancelled when it is filled in part, its exit in parts, another entry
BEGIN = START + timedelta(seconds=114)
STEP = {"sqlite": 11, "postgresql": 23}  # of the points: each one, as SWITCHYARD_EVERY_POINT=1 has it, takes minutes


@pytest.fixture(scope="module")
def undisturbed() -> dict[str, Any]:
    """What the same candles leave when nothing goes wrong, by dialect; filled by the first test to need it."""
    return {}


def reference(undisturbed: dict[str, Any], dialect: str, new_url: Callable[[str], URL], folder: Path) -> dict[str, Any]:
    if dialect not in undisturbed:
        manager = DatabaseManager(new_url(dialect), service="trading-bot")
        clock = Clock(at=BEGIN)
        run_candles(make_bot(manager, clock, folder / "undisturbed", strategy=EveryOther()), clock, CANDLES)
        found = undisturbed[dialect] = facts(manager)
        assert {row[-1] for row in found["intents"]} >= {"FILLED", "CANCELLED"}
        assert len(found["trades"]) == 1
        assert len(found["fills"]) >= 4
        manager.dispose()
    return undisturbed[dialect]


@pytest.mark.timeout(1800 if EVERY_POINT else 240)
def test_a_crash_at_every_point_changes_nothing(
    dialect: str, new_url: Callable[[str], URL], undisturbed: dict[str, Any], tmp_path: Path
) -> None:
    expected = reference(undisturbed, dialect, new_url, tmp_path)
    at, crashed = 0, True
    while crashed:
        manager = DatabaseManager(new_url(dialect), service="trading-bot")
        breaking, clock, folder = Breaking(manager, at), Clock(at=BEGIN), tmp_path / str(at)
        bot, crashed = make_bot(breaking, clock, folder, strategy=EveryOther()), False
        try:
            run_candles(bot, clock, CANDLES)
        except Crash:
            crashed = True
            kill(bot)
            expire_lease(manager)
            left = CANDLES - int((clock.at - BEGIN).total_seconds()) // clock.step_s
            bot = make_bot(manager, clock, folder, holder="two", strategy=EveryOther())
            run_candles(bot, clock, left)
        check_books(manager)
        assert facts(manager) == expected, f"after a crash at point {at}: {breaking.seen[at]}"
        kill(bot)
        manager.dispose()
        at += 1 if EVERY_POINT else STEP[dialect]
    assert at > 150


@pytest.mark.timeout(1800 if EVERY_POINT else 240)
def test_a_lost_answer_at_every_commit_changes_nothing(
    dialect: str, new_url: Callable[[str], URL], undisturbed: dict[str, Any], tmp_path: Path
) -> None:
    expected = reference(undisturbed, dialect, new_url, tmp_path)
    at, points = 0, 1
    while at < points:
        manager = DatabaseManager(new_url(dialect), service="trading-bot")
        breaking, clock = Breaking(manager, at, how="unknown"), Clock(at=BEGIN)
        bot = make_bot(breaking, clock, tmp_path / str(at), strategy=EveryOther())
        bot._backoff = lambda: 0.0
        for _ in range(CANDLES):
            bot._guarded_pass()
            if bot._doubtful:  # the answer was lost in this pass: the next one asks
                bot._guarded_pass()
            clock.next_candle()
        points = max(points, len(breaking.seen))
        check_books(manager)
        assert facts(manager) == expected, f"after a lost answer at point {at}: {breaking.seen[at]}"
        kill(bot)
        manager.dispose()
        at += 1 if EVERY_POINT else STEP[dialect] // 3
    assert points > 25


def test_the_second_bot_stands_by_and_leads_at_once_after_a_release(manager: DatabaseManager, tmp_path: Path) -> None:
    clock, standby = Clock(), Status()
    first = make_bot(manager, clock, tmp_path, holder="first")
    second = make_bot(manager, clock, tmp_path, holder="second", status=standby)
    run_candles(first, clock, 1)
    for _ in range(3):
        second.step()
    assert (standby.get().role, standby.get().leader) == ("standby", "first")
    first._shut_down()
    second.step()
    assert (standby.get().role, standby.get().epoch) == ("leader", 2)
    with pytest.raises(LeadershipLost):
        first._lease.renew()


# --- whose sessions -------------------------------------------------------------------------------------------------


def test_copied_history_is_never_taken_for_ours(manager: DatabaseManager, tmp_path: Path) -> None:
    legacy = {
        "start_time": NOON.replace(tzinfo=None), "is_active": True, "mode": "PAPER", "initial_balance": Decimal(100),
        "strategy_name": "MovingAverageCross", "symbol": "BTCUSDT", "timeframe": "1h",
    }  # fmt: skip
    others = [
        {"session_name": "MlBasic_20250704_200712", "exchange": "binance"},
        {"session_name": "switchyard-MovingAverageCross-BTCUSDT-x", "exchange": "binance"},
        {"session_name": "somebody else's", "exchange": SIMULATED},
        {"session_name": "switchyard-MovingAverageCross-BTCUSDT-y", "exchange": SIMULATED, "is_active": False},
        {"session_name": "switchyard-MovingAverageCross-BTCUSDT-z", "exchange": SIMULATED, "mode": "BACKTEST"},
        {"session_name": None, "exchange": None},
    ]

    def seed(conn: Connection) -> None:
        for other in others:
            session_id = conn.execute(insert(TradingSession).values(**(legacy | other)).returning(TradingSession.id))
            conn.execute(
                insert(Position).values(
                    symbol="BTCUSDT", side="LONG", status="FILLED", entry_price=Decimal(1), size=Decimal(1),
                    entry_time=NOON.replace(tzinfo=None), strategy_name="MlBasic", session_id=session_id.scalar_one(),
                )
            )  # fmt: skip

    manager.transaction(seed, name="seed")
    before = [row for row in facts(manager)["positions"] if row[1] == "FILLED"]
    clock, status = Clock(), Status()
    run_candles(make_bot(manager, clock, tmp_path, status=status), clock, 30)
    assert status.get().session_id == len(others) + 1
    assert [row for row in facts(manager)["positions"] if row[1] == "FILLED"] == before
    active = manager.read(
        lambda conn: conn.execute(select(func.count()).where(TradingSession.is_active.is_(True))).scalar_one(),
        name="active",
    )
    assert active == len(others)  # one of theirs was inactive, one of ours is active: nobody ended anything


def test_another_symbol_gets_an_account_of_its_own_and_the_old_one_ends_when_it_holds_nothing(
    manager: DatabaseManager, tmp_path: Path
) -> None:
    clock = Clock()
    run_candles(make_bot(manager, clock, tmp_path), clock, 1)
    held = bool(facts(manager)["positions"])
    expire_lease(manager)
    run_candles(make_bot(manager, clock, tmp_path, holder="two", bot_symbol="ETHUSDT"), clock, 2)

    def look(conn: Connection) -> list[Any]:
        return list(conn.execute(select(TradingSession.symbol, TradingSession.is_active).order_by(TradingSession.id)))

    assert manager.read(look, name="look") == [("BTCUSDT", held), ("ETHUSDT", True)]
    check_books(manager)


class Told:
    """Wants what the test wants."""

    name = "Told"
    warmup = 1

    def __init__(self, target: Literal["LONG", "FLAT"] = "LONG") -> None:
        self.target: Literal["LONG", "FLAT"] = target

    def decide(self, candles: Sequence[Candle]) -> Decision:
        return Decision(self.target, "told")

    def config(self) -> dict[str, Any]:
        return {}


@pytest.mark.parametrize("leg", ["ENTRY", "EXIT"])
def test_an_order_that_rests_on_another_symbol_keeps_nobody_from_trading(
    manager: DatabaseManager, tmp_path: Path, leg: str
) -> None:
    clock, told = Clock(), Told()
    bot = make_bot(manager, clock, tmp_path, strategy=told)
    for _ in range(100):  # until an order rests, a part of it still to be filled
        run_candles(bot, clock, 1)
        assert bot._desk is not None
        if leg in [intent.leg for intent in bot._desk.working.values()]:
            break
        told.target = "FLAT" if bot._desk.account().position else "LONG"
    assert bot._desk is not None
    (resting,) = bot._desk.working.values()
    assert resting.leg == leg
    kill(bot)
    expire_lease(manager)
    two = make_bot(manager, clock, tmp_path, holder="two", bot_symbol="ETHUSDT", strategy=Told())
    run_candles(two, clock, 3)
    assert two._desk is not None
    assert two._desk.account().position is not None, "it trades its own symbol"
    statuses = {row[0]: row[3] for row in facts(manager)["intents"]}
    # an entry that nobody wants any more is taken back; an exit is still the venue's to fill
    assert statuses[resting.intent_id] == ("CANCELLED" if leg == "ENTRY" else "PENDING")
    check_books(manager)
    kill(two)
    expire_lease(manager)
    again = make_bot(manager, clock, tmp_path, holder="three", strategy=Told("FLAT"))
    run_candles(again, clock, 8)
    statuses = {row[0]: row[3] for row in facts(manager)["intents"]}
    assert "PENDING" not in statuses.values()
    assert statuses[resting.intent_id] == ("CANCELLED" if leg == "ENTRY" else "FILLED")
    assert check_books(manager) >= 1
    kill(again)


def test_fills_that_do_not_add_up_stop_the_bot_and_say_so(manager: DatabaseManager, tmp_path: Path) -> None:
    clock, status = Clock(), Status()
    bot = make_bot(manager, clock, tmp_path, status=status)
    run_candles(bot, clock, 1)
    seed_fill(manager, status.get().session_id, "SELL", "odd")
    bot._doubtful = True
    bot._guarded_pass()
    now = status.get()
    assert now.role == "waiting"
    assert now.reason is not None
    assert now.reason.startswith("BOT-003: fill odd")
    assert now.loop_alive
    kill(bot)


def seed_fill(manager: DatabaseManager, session_id: int | None, side: str, key: str) -> None:
    """Write an intent and its fill by hand, as no code of ours would."""
    intent = {
        "intent_id": key, "session_id": session_id, "strategy_name": "S", "venue": SIMULATED, "symbol": "BTCUSDT",
        "side": side, "leg": "EXIT" if side == "SELL" else "ENTRY", "quantity": Decimal(7),
        "reference_price": Decimal(1), "signal_time": NOON, "lease_epoch": 1, "status": "FILLED", "created_at": NOON,
        "updated_at": NOON,
    }  # fmt: skip
    fill = {
        "venue": SIMULATED, "venue_trade_id": key, "intent_id": key, "symbol": "BTCUSDT", "side": side,
        "price": Decimal(1), "quantity": Decimal(7), "fee": Decimal(0), "fee_currency": "USDT", "filled_at": NOON,
        "recorded_at": NOON, "lease_epoch": 1,
    }  # fmt: skip

    def work(conn: Connection) -> None:
        conn.execute(insert(OrderIntent).values(**intent))
        conn.execute(insert(Fill).values(**fill))

    manager.transaction(work, name="seed")
