"""Each write of the ledger: once, however often; by the leader only; in the order that the books need."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from bot_harness import check_books, expire_lease, facts
from sqlalchemy import URL, Connection, func, select
from tradedb.manager import DatabaseManager
from tradedb.models import (
    AccountHistory,
    Fill,
    OrderIntent,
    Position,
    SystemEvent,
    Trade,
    TradingSession,
)
from trading_bot import ledger
from trading_bot.feeds import SIMULATED
from trading_bot.lease import LeadershipLost, Lease
from trading_bot.orders import Intent, Leg, OrderReport, VenueFill
from trading_bot.sizing import fee_of

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
SEQUENCE = itertools.count(1)


def count(manager: DatabaseManager, table: Any) -> int:
    return manager.read(lambda conn: conn.execute(select(func.count()).select_from(table)).scalar_one(), name="count")


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


def a_fill(intent: Intent, n: int = 0, quantity: Decimal | None = None, **changes: Any) -> VenueFill:
    """What a venue would say; another ``n`` is another part."""
    quantity = intent.quantity if quantity is None else quantity
    fill = VenueFill(
        venue=SIMULATED, venue_trade_id=f"t-{intent.intent_id}-{n}", intent_id=intent.intent_id, symbol="BTCUSDT",
        side=intent.side, price=Decimal("60000.00") + n, quantity=quantity,
        fee=fee_of(price=Decimal("60000.00"), quantity=quantity, rate=Decimal("0.0004")), fee_currency="USDT",
        filled_at=intent.signal_time + timedelta(seconds=n), sequence=next(SEQUENCE),
    )  # fmt: skip
    return replace(fill, **changes)


def a_report(intent: Intent, filled: str = "0", status: Any = "ACCEPTED") -> OrderReport:
    return OrderReport(
        venue=SIMULATED, client_order_id=intent.intent_id, venue_order_id=f"o-{intent.intent_id}", symbol="BTCUSDT",
        side=intent.side, quantity=intent.quantity, filled_quantity=Decimal(filled), status=status,
        accepted_at=intent.signal_time, updated_at=intent.signal_time,
    )  # fmt: skip


def place(manager: DatabaseManager, lease: Lease, account: Any, intent: Intent) -> str:
    return manager.transaction(lambda conn: ledger.place_intent(conn, lease, account, intent), name="place")


def record(
    manager: DatabaseManager, lease: Lease, account: Any, intent: Intent, fill: VenueFill | None = None, **options: Any
) -> Any:
    def work(conn: Connection) -> Any:
        curve = ledger.load_curve(conn, account)
        return ledger.record_fill(conn, lease, account, curve, fill or a_fill(intent), timeframe="2s", **options)

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
