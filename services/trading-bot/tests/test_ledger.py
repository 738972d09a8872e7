"""Recorded exactly once: on both databases, under every crash, doubt and rival that can be arranged in one process."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from bot_harness import START, Breaking, Clock, Crash, check_books, expire_lease, facts, make_bot, run_candles
from sqlalchemy import URL, Connection, func, insert, select
from tradedb.manager import DatabaseManager
from tradedb.models import AccountHistory, Fill, OrderIntent, Position, SystemEvent, Trade, TradingSession
from trading_bot import ledger
from trading_bot.broker import PaperBroker
from trading_bot.feed import SIMULATED
from trading_bot.lease import LeadershipLost, Lease
from trading_bot.orders import Intent, Leg
from trading_bot.status import Status

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
ROUND_TRIP_CANDLES, EVERY_S = 3, 8  # from START, a candle every 8 s: an entry, an exit, nothing


def count(manager: DatabaseManager, table: Any) -> int:
    return manager.read(lambda conn: conn.execute(select(func.count()).select_from(table)).scalar_one(), name="count")


# --- what a plain run leaves ----------------------------------------------------------------------------------------


def test_a_run_records_intents_fills_trades_and_a_curve_and_the_books_balance(manager: DatabaseManager) -> None:
    clock, status = Clock(), Status()
    bot = make_bot(manager, clock, status=status)
    run_candles(bot, clock, 200)
    trades = check_books(manager)
    assert trades >= 8
    found = facts(manager)
    assert {row[-1] for row in found["intents"]} == {"FILLED"}
    assert len(found["intents"]) == len(found["fills"]) in (2 * trades, 2 * trades + 1)
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
        assert events == ["SESSION_START", "LEADERSHIP"]

    manager.read(labels, name="labels")
    now = status.get()
    assert (now.role, now.epoch, now.leader) == ("leader", 1, "one")
    assert now.last_candle == clock.at - timedelta(seconds=2)


def test_the_open_position_is_marked_to_the_market(manager: DatabaseManager) -> None:
    clock = Clock()
    bot = make_bot(manager, clock)
    while not facts(manager)["positions"]:
        run_candles(bot, clock, 1)
    bot._snapshot_at = 0
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
    dialect: str, new_url: Callable[[str], URL]
) -> None:
    outcomes = []
    for restart_every in (1_000, 1):
        manager = DatabaseManager(new_url(dialect), service="trading-bot")
        clock, bot = Clock(), None
        for n in range(40):
            if n % restart_every == 0:
                if bot is not None:
                    expire_lease(manager)  # kill -9: nothing was released
                bot = make_bot(manager, clock, holder=f"bot-{n}")
            assert bot is not None
            run_candles(bot, clock, 1)
        check_books(manager)
        assert count(manager, TradingSession) == 1
        outcomes.append(facts(manager))
        manager.dispose()
    assert outcomes[0] == outcomes[1]
    assert len(outcomes[0]["trades"]) >= 1


# --- crashes and lost answers ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def undisturbed() -> dict[str, Any]:
    """What the same candles leave when nothing goes wrong, by dialect; filled by the first test to need it."""
    return {}


def reference(undisturbed: dict[str, Any], dialect: str, new_url: Callable[[str], URL]) -> dict[str, Any]:
    if dialect not in undisturbed:
        manager = DatabaseManager(new_url(dialect), service="trading-bot")
        clock = Clock(step_s=EVERY_S)
        run_candles(make_bot(manager, clock), clock, ROUND_TRIP_CANDLES)
        undisturbed[dialect] = facts(manager)
        fills = sorted(undisturbed[dialect]["fills"], key=lambda row: row[-1])
        assert [row[1] for row in fills] == ["BUY", "SELL"]
        manager.dispose()
    return undisturbed[dialect]


@pytest.mark.timeout(120)
def test_a_crash_at_every_point_changes_nothing(
    dialect: str, new_url: Callable[[str], URL], undisturbed: dict[str, Any]
) -> None:
    expected = reference(undisturbed, dialect, new_url)
    at, crashed = 0, True
    while crashed:
        manager = DatabaseManager(new_url(dialect), service="trading-bot")
        breaking, clock = Breaking(manager, at), Clock(step_s=EVERY_S)
        bot, crashed = make_bot(breaking, clock), False
        try:
            run_candles(bot, clock, ROUND_TRIP_CANDLES)
        except Crash:
            crashed = True
            expire_lease(manager)
            left = ROUND_TRIP_CANDLES - int((clock.at - START).total_seconds()) // EVERY_S
            run_candles(make_bot(manager, clock, holder="two"), clock, left)
        check_books(manager)
        assert facts(manager) == expected, f"after a crash at point {at}: {breaking.seen[at]}"
        manager.dispose()
        at += 1 if dialect == "sqlite" else 2  # the same statements in the same order: every other one will do
    assert at > 40


@pytest.mark.timeout(120)
def test_a_lost_answer_at_every_commit_changes_nothing(
    dialect: str, new_url: Callable[[str], URL], undisturbed: dict[str, Any]
) -> None:
    expected = reference(undisturbed, dialect, new_url)
    at, points = 0, 1
    while at < points:
        manager = DatabaseManager(new_url(dialect), service="trading-bot")
        breaking, clock = Breaking(manager, at, how="unknown"), Clock(step_s=EVERY_S)
        bot = make_bot(breaking, clock)
        bot._backoff = lambda: 0.0
        for _ in range(ROUND_TRIP_CANDLES):
            before = bot._last_index
            bot._guarded_pass()
            if bot._last_index == before:  # the answer was lost in this pass: the next one asks
                bot._guarded_pass()
            clock.next_candle()
        points = max(points, len(breaking.seen))
        check_books(manager)
        assert facts(manager) == expected, f"after a lost answer at point {at}: {breaking.seen[at]}"
        manager.dispose()
        at += 1
    assert points > 10


def test_what_was_decided_before_a_crash_is_carried_out_under_its_own_id_however_late(manager: DatabaseManager) -> None:
    clock = Clock()
    bot = make_bot(manager, clock)

    def crash(*_: Any) -> Any:
        raise Crash("between intent and fill")

    bot._execute = crash  # type: ignore[assignment]
    with pytest.raises(Crash):
        run_candles(bot, clock, 20)
    (intent,) = facts(manager)["intents"]
    assert intent[-1] == "PENDING"
    decided_at = clock.at
    clock.at += timedelta(hours=1)
    expire_lease(manager)
    run_candles(make_bot(manager, clock, holder="two"), clock, 1)
    found = facts(manager)
    assert (*intent[:-1], "FILLED") in found["intents"]
    assert decided_at in [row[-1] for row in found["fills"]]  # at the price and the time of the decision
    check_books(manager)
    events = manager.read(lambda conn: conn.execute(select(SystemEvent.message)).scalars().all(), name="events")
    assert any(message.startswith(f"intent {intent[0]} ") and "was pending" in message for message in events)


# --- everything twice -----------------------------------------------------------------------------------------------


def leading(manager: DatabaseManager, holder: str = "one") -> Lease:
    lease = Lease(manager, holder=holder, ttl_s=15, renew_s=5, margin_s=3)
    assert lease.acquire() is None
    return lease


def new_session(manager: DatabaseManager, lease: Lease, **changes: Any) -> int:
    wanted: dict[str, Any] = {
        "strategy_name": "S", "strategy_config": {}, "symbol": "BTCUSDT", "timeframe": "2s", "venue": SIMULATED,
        "initial_balance": Decimal(10_000),
    }  # fmt: skip
    terms = ledger.SessionTerms(**(wanted | changes))
    return manager.transaction(lambda conn: ledger.open_session(conn, lease, terms), name="session").id


def an_intent(session_id: int, leg: Leg = "ENTRY", n: int = 0) -> Intent:
    return Intent(
        intent_id=f"intent-{leg}-{n}", session_id=session_id, strategy_name="S", venue=SIMULATED, symbol="BTCUSDT",
        side="BUY" if leg == "ENTRY" else "SELL", leg=leg, quantity=Decimal("0.1"),
        reference_price=Decimal("60000.00"), signal_time=NOON + timedelta(seconds=n), reason="test",
    )  # fmt: skip


BROKER = PaperBroker(fee_rate=Decimal("0.0004"), slippage_rate=Decimal("0.0001"))


def place(manager: DatabaseManager, lease: Lease, account: Any, intent: Intent) -> str:
    return manager.transaction(lambda conn: ledger.place_intent(conn, lease, account, intent), name="place")


def record(manager: DatabaseManager, lease: Lease, account: Any, intent: Intent) -> Any:
    def work(conn: Connection) -> Any:
        curve = ledger.load_curve(conn, account)
        return ledger.record_fill(conn, lease, account, curve, BROKER.execute(intent), timeframe="2s")

    return manager.transaction(work, name="record")


def load(manager: DatabaseManager, session_id: int) -> Any:
    return manager.read(lambda conn: ledger.load_account(conn, session_id), name="load")


def test_doing_anything_twice_is_doing_it_once(manager: DatabaseManager) -> None:
    lease = leading(manager)
    assert lease.acquire() is None  # the answer was lost: the hold is found again
    assert lease.epoch == 1
    session_id = new_session(manager, lease)
    assert new_session(manager, lease) == session_id
    for leg in ("ENTRY", "EXIT"):
        account = load(manager, session_id)
        intent = an_intent(session_id, leg)
        assert place(manager, lease, account, intent) == "PENDING"
        assert place(manager, lease, account, intent) == "PENDING"
        done = record(manager, lease, account, intent)
        assert done.outcome == "recorded"
        after = done.account
        rows = [count(manager, table) for table in (Fill, Position, Trade, AccountHistory)]
        assert record(manager, lease, account, intent).outcome == "known"
        assert record(manager, lease, after, intent).outcome == "known"
        assert place(manager, lease, after, intent) == "FILLED"
        assert [count(manager, table) for table in (Fill, Position, Trade, AccountHistory)] == rows
        assert load(manager, session_id) == after
    assert check_books(manager) == 1
    for _ in range(2):
        assert manager.transaction(lambda conn: ledger.end_session(conn, lease, load_in(conn, session_id)), name="end")
    assert facts(manager)["sessions"][0][-1] is False


def load_in(conn: Connection, session_id: int) -> Any:
    return ledger.load_account(conn, session_id)


def test_a_second_decision_waits_for_the_first_to_be_carried_out(manager: DatabaseManager) -> None:
    lease = leading(manager)
    session_id = new_session(manager, lease)
    account = load(manager, session_id)
    place(manager, lease, account, an_intent(session_id))
    with pytest.raises(ledger.StateMoved, match="intent-ENTRY-0 is still pending"):
        place(manager, lease, account, an_intent(session_id, n=1))
    record(manager, lease, account, an_intent(session_id))
    with pytest.raises(ledger.StateMoved, match="holds something else"):
        place(manager, lease, account, an_intent(session_id, n=1))  # the caller still believes to hold nothing
    assert count(manager, OrderIntent) == 1


# --- one writer -----------------------------------------------------------------------------------------------------


def stale_writes(manager: DatabaseManager, old: Lease, account: Any) -> list[Callable[[], Any]]:
    """Everything that a leader may have been about to do when it was put to sleep."""
    session_id = account.session_id

    def snapshot(conn: Connection) -> None:
        ledger.record_snapshot(conn, old, account, ledger.load_curve(conn, account), Decimal(60_000))

    return [
        lambda: place(manager, old, account, an_intent(session_id)),  # decided, and committed before it slept
        lambda: place(manager, old, account, an_intent(session_id, n=1)),
        lambda: record(manager, old, account, an_intent(session_id)),
        lambda: new_session(manager, old, symbol="ETHUSDT"),
        lambda: manager.transaction(snapshot, name="snapshot"),
        lambda: manager.transaction(lambda conn: ledger.end_session(conn, old, account), name="end"),
        old.renew,
    ]


def test_a_leader_that_slept_past_its_lease_writes_nothing(manager: DatabaseManager) -> None:
    old = leading(manager, "old")
    account = load(manager, new_session(manager, old))
    place(manager, old, account, an_intent(account.session_id))
    tables = (OrderIntent, Fill, Position, Trade, AccountHistory, SystemEvent, TradingSession)
    rows = [count(manager, table) for table in tables]
    for n in range(1, 31):
        expire_lease(manager)
        new = leading(manager, "old" if n % 2 else f"new-{n}")  # under the same name only the epoch tells them apart
        assert new.epoch == n + 1
        for attempt in stale_writes(manager, old, account):
            with pytest.raises((LeadershipLost, ledger.StateMoved)):
                attempt()
        manager.transaction(old.release, name="release")  # touches only its own hold
        assert manager.transaction(new.require, name="still") == new.epoch
        assert [count(manager, table) for table in tables] == rows
        old = new
    done = record(manager, old, account, an_intent(account.session_id))  # who leads now carries it out
    assert done.outcome == "recorded"
    (late,) = manager.read(lambda conn: conn.execute(select(Fill.late)).scalars().all(), name="late")
    assert late is True


def test_an_expired_lease_fences_even_when_nobody_took_over(manager: DatabaseManager) -> None:
    lease = leading(manager)
    session_id = new_session(manager, lease)
    account = load(manager, session_id)
    expire_lease(manager)
    with pytest.raises(LeadershipLost):
        place(manager, lease, account, an_intent(session_id))
    assert count(manager, OrderIntent) == 0
    lease.renew()  # nobody else led meanwhile, so the epoch still holds
    assert place(manager, lease, account, an_intent(session_id)) == "PENDING"


def test_the_second_bot_stands_by_and_leads_at_once_after_a_release(manager: DatabaseManager) -> None:
    clock, standby = Clock(), Status()
    first, second = make_bot(manager, clock, holder="first"), make_bot(manager, clock, holder="second", status=standby)
    run_candles(first, clock, 1)
    for _ in range(3):
        second.step()
    assert (standby.get().role, standby.get().leader) == ("standby", "first")
    first._shut_down()
    second.step()
    assert (standby.get().role, standby.get().epoch) == ("leader", 2)
    with pytest.raises(LeadershipLost):
        first._lease.renew()


def test_a_holder_stops_deciding_before_its_lease_ends(manager: DatabaseManager) -> None:
    lease = leading(manager)
    assert lease.may_decide()
    lease._asked_at -= 12.01  # 15 s TTL, 3 s margin
    assert not lease.may_decide()
    lease.renew()
    assert lease.may_decide()


def test_a_take_over_waits_for_the_transaction_in_which_the_leader_writes(new_url: Callable[[str], URL]) -> None:
    manager = DatabaseManager(new_url("postgresql"), service="trading-bot")
    old = Lease(manager, holder="old", ttl_s=0.5, renew_s=0.1, margin_s=0.1)
    assert old.acquire() is None
    order: list[str] = []
    writing = threading.Event()

    def slow(conn: Connection) -> None:
        old.require(conn)
        writing.set()
        time.sleep(1.2)  # longer than the lease: it ends while its holder writes
        order.append("old wrote")

    thread = threading.Thread(target=lambda: manager.transaction(slow, name="slow"))
    thread.start()
    assert writing.wait(5)
    new = Lease(manager, holder="new", ttl_s=15, renew_s=5, margin_s=3)
    while new.acquire() is not None:
        time.sleep(0.05)
    order.append("new leads")
    thread.join()
    assert order == ["old wrote", "new leads"]
    assert new.epoch == 2
    manager.dispose()


def test_a_session_whose_commit_is_still_under_way_gets_no_twin(new_url: Callable[[str], URL]) -> None:
    manager = DatabaseManager(new_url("postgresql"), service="trading-bot")
    lease = leading(manager)
    made = threading.Event()
    ids: list[int] = []

    def slow(conn: Connection) -> None:
        terms = ledger.SessionTerms("S", {}, "BTCUSDT", "2s", SIMULATED, Decimal(10_000))
        ids.append(ledger.open_session(conn, lease, terms).id)
        made.set()
        time.sleep(0.5)

    thread = threading.Thread(target=lambda: manager.transaction(slow, name="slow"))
    thread.start()
    assert made.wait(5)
    ids.append(new_session(manager, lease))
    thread.join()
    assert ids[0] == ids[1]
    assert count(manager, TradingSession) == 1
    manager.dispose()


# --- whose sessions -------------------------------------------------------------------------------------------------


def test_copied_history_is_never_taken_for_ours(manager: DatabaseManager) -> None:
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
    run_candles(make_bot(manager, clock, status=status), clock, 30)
    assert status.get().session_id == len(others) + 1
    assert [row for row in facts(manager)["positions"] if row[1] == "FILLED"] == before
    active = manager.read(
        lambda conn: conn.execute(select(func.count()).where(TradingSession.is_active.is_(True))).scalar_one(),
        name="active",
    )
    assert active == len(others)  # one of theirs was inactive, one of ours is active: nobody ended anything


def test_another_symbol_gets_an_account_of_its_own_and_the_old_one_ends_when_it_holds_nothing(
    manager: DatabaseManager,
) -> None:
    clock = Clock()
    run_candles(make_bot(manager, clock), clock, 1)
    held = bool(facts(manager)["positions"])
    expire_lease(manager)
    run_candles(make_bot(manager, clock, holder="two", bot_symbol="ETHUSDT"), clock, 2)

    def look(conn: Connection) -> list[Any]:
        return list(conn.execute(select(TradingSession.symbol, TradingSession.is_active).order_by(TradingSession.id)))

    assert manager.read(look, name="look") == [("BTCUSDT", held), ("ETHUSDT", True)]
    check_books(manager)


def test_fills_that_do_not_add_up_stop_the_bot_and_say_so(manager: DatabaseManager) -> None:
    clock, status = Clock(), Status()
    bot = make_bot(manager, clock, status=status)
    run_candles(bot, clock, 1)
    lease, session_id = bot._lease, status.get().session_id
    assert session_id is not None
    odd = replace(an_intent(session_id, "EXIT"), intent_id="odd", quantity=Decimal(7))

    def seed(conn: Connection) -> None:
        ledger_row = {name: getattr(odd, name) for name in Intent.__dataclass_fields__}
        conn.execute(
            insert(OrderIntent).values(
                **ledger_row, lease_epoch=lease.epoch, status="FILLED", created_at=NOON, updated_at=NOON
            )
        )
        columns = asdict(BROKER.execute(odd))
        columns["venue_sequence"] = columns.pop("sequence")
        conn.execute(insert(Fill).values(**columns, recorded_at=NOON, lease_epoch=1))

    manager.transaction(seed, name="seed")
    bot._forget_state()
    bot._guarded_pass()
    now = status.get()
    assert now.role == "waiting"
    assert now.reason is not None
    assert now.reason.startswith("BOT-003: fill paper-")
    assert now.loop_alive
