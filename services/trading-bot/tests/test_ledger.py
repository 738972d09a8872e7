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
from sqlalchemy import URL, Connection, func, insert, select, update
from sqlalchemy.exc import IntegrityError
from tradedb.errors import SwitchyardError
from tradedb.manager import DatabaseManager
from tradedb.models import (
    AccountHistory,
    BotLease,
    Fill,
    LedgerEntry,
    OrderIntent,
    Position,
    QuarantinedFact,
    SystemEvent,
    Trade,
    TradingSession,
)
from tradedb.testing import ThrowawayDatabase
from trading_bot import ledger
from trading_bot.feeds import SIMULATED
from trading_bot.lease import LeadershipLost, Lease
from trading_bot.orders import Intent, Leg, OrderReport, VenueFill
from trading_bot.sizing import fee_of

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
NOW = NOON.replace(tzinfo=None)
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
    assert check_books(manager, orders_too=False) == 1
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
    old = Lease(manager, holder="old", ttl_s=2, renew_s=0.5, margin_s=0.2)
    assert old.acquire() is None
    order: list[str] = []
    writing = threading.Event()

    def slow(conn: Connection) -> None:
        old.require(conn)
        writing.set()
        time.sleep(3)  # longer than the lease: it ends while its holder writes
        order.append("old wrote")

    thread = threading.Thread(target=lambda: manager.transaction(slow, name="slow"))
    thread.start()
    assert writing.wait(60)
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
    assert made.wait(60)
    ids.append(new_session(manager, lease))
    thread.join()
    assert ids[0] == ids[1]
    assert count(manager, TradingSession) == 1
    manager.dispose()


# --- parts, orders and lines ----------------------------------------------------------------------------------------


def test_an_order_in_parts_is_one_position_one_trade_and_lines_that_balance(manager: DatabaseManager) -> None:
    lease = leading(manager)
    session_id = new_session(manager, lease)
    entry, exit_ = an_intent(session_id), an_intent(session_id, "EXIT")

    def order(intent: Intent, filled: str = "0", status: Any = "ACCEPTED") -> bool:
        report = a_report(intent, filled, status)
        return manager.transaction(lambda conn: ledger.record_order(conn, lease, intent, report), name="order")

    place(manager, lease, load(manager, session_id), entry)
    assert order(entry, "0.03", "PARTIALLY_FILLED") is False
    assert facts(manager)["orders"] == [(entry.intent_id, Decimal(0), "ACCEPTED")]  # no more than what is recorded
    for n, quantity in enumerate(("0.03", "0.07")):
        account = load(manager, session_id)
        done = record(manager, lease, account, entry, a_fill(entry, n, Decimal(quantity)))
        assert (done.outcome, done.intent_over) == ("recorded", n == 1)
        (position,) = facts(manager)["positions"]
        assert position[2] == done.account.position.quantity
        assert load(manager, session_id) == done.account
    assert facts(manager)["orders"] == [(entry.intent_id, Decimal("0.1"), "FILLED")]
    assert facts(manager)["positions"][0][3] == Decimal("60000.7")  # (0.03 x 60000 + 0.07 x 60001) / 0.1

    place(manager, lease, load(manager, session_id), exit_)
    order(exit_)
    done = record(manager, lease, load(manager, session_id), exit_, a_fill(exit_, 0, Decimal("0.04")))
    assert count(manager, Trade) == 0
    assert facts(manager)["positions"][0][1:3] == ("OPEN", Decimal("0.06"))
    assert order(exit_, "0.04", "CANCELLED") is True  # the rest was taken back
    assert facts(manager)["orders"][1] == (exit_.intent_id, Decimal("0.04"), "CANCELLED")
    rest = an_intent(session_id, "EXIT", 9)
    place(manager, lease, load(manager, session_id), replace(rest, quantity=Decimal("0.06")))
    done = record(manager, lease, load(manager, session_id), rest, a_fill(rest, 2, Decimal("0.06")))
    assert done.account.position is None
    (trade,) = facts(manager)["trades"]
    assert (trade[0], trade[1]) == (rest.intent_id, done.account.pnl)
    assert facts(manager)["positions"][0][1:3] == ("CLOSED", Decimal("0.1"))
    assert {row[0]: row[-1] for row in facts(manager)["intents"]} == {
        entry.intent_id: "FILLED", exit_.intent_id: "CANCELLED", rest.intent_id: "FILLED",
    }  # fmt: skip
    assert check_books(manager, orders_too=False) == 1
    manager.read(lambda conn: ledger.require_balance(conn, done.account), name="balance")


def test_an_order_that_ended_is_over_only_when_each_of_its_fills_is_recorded(manager: DatabaseManager) -> None:
    lease = leading(manager)
    session_id = new_session(manager, lease)
    intent = an_intent(session_id)
    place(manager, lease, load(manager, session_id), intent)

    def order(**options: bool) -> bool:
        report = a_report(intent, "0.03", "CANCELLED")
        return manager.transaction(lambda conn: ledger.record_order(conn, lease, intent, report, **options), name="o")

    assert order() is False
    assert facts(manager)["intents"][0][-1] == "PENDING"
    assert order(complete=True) is True  # but not for a fill that is in quarantine
    assert facts(manager)["intents"][0][-1] == "CANCELLED"
    record(manager, lease, load(manager, session_id), intent, a_fill(intent, 0, Decimal("0.1")))
    assert facts(manager)["intents"][0][-1] == "FILLED"  # a fact goes before what was believed


def test_the_same_fact_with_other_content_is_quarantined_once_and_changes_nothing(manager: DatabaseManager) -> None:
    lease = leading(manager)
    session_id = new_session(manager, lease)
    intent = an_intent(session_id)
    place(manager, lease, load(manager, session_id), intent)
    fill = a_fill(intent)
    record(manager, lease, load(manager, session_id), intent, fill)
    before = facts(manager)
    account = load(manager, session_id)
    assert record(manager, lease, account, intent, replace(fill, sequence=99)).outcome == "known"
    other = replace(fill, price=fill.price + 1, quantity=fill.quantity / 2)
    for _ in range(3):
        done = record(manager, lease, account, intent, other)
        assert (done.outcome, done.account) == ("quarantined", account)
    assert facts(manager) == before
    assert manager.read(ledger.open_quarantine, name="look") == 1

    def kept(conn: Connection) -> None:
        fact = conn.execute(select(QuarantinedFact.__table__)).one()
        assert (fact.venue_trade_id, fact.kind, fact.differing) == (fill.venue_trade_id, "fill", "price, quantity")
        assert (fact.received["price"], fact.stored["price"]) == ("60001.00", "60000.00")
        (event,) = conn.execute(select(SystemEvent.__table__).where(SystemEvent.error_code == "BOT-005"))
        assert (event.event_type, event.severity, event.session_id) == ("ALERT", "critical", session_id)

    manager.read(kept, name="kept")


def test_a_fill_of_nobodys_decision_and_one_that_does_not_fit_are_refused_whole(manager: DatabaseManager) -> None:
    lease = leading(manager)
    session_id = new_session(manager, lease)
    account = load(manager, session_id)
    with pytest.raises(ledger.UnknownIntent, match="intent-ENTRY-0, which nobody decided here"):
        record(manager, lease, account, an_intent(session_id))
    intent = an_intent(session_id, "EXIT")
    place(manager, lease, account, intent)
    with pytest.raises(SwitchyardError, match="BOT-003"):
        record(manager, lease, account, intent)
    assert count(manager, Fill) == count(manager, Trade) == 0
    assert count(manager, LedgerEntry) == 2  # the opening


def test_a_fill_that_comes_by_replay_is_late(manager: DatabaseManager) -> None:
    lease = leading(manager)
    session_id = new_session(manager, lease)
    intent = an_intent(session_id)
    terms = ledger.SessionTerms("S", {}, "BTCUSDT", "2s", SIMULATED, Decimal(10_000))
    assert ledger.SessionTerms.from_body(terms.as_body()) == terms
    restored = [
        manager.transaction(lambda conn: ledger.restore_intent(conn, lease, intent), name="restore") for _ in range(2)
    ]
    assert restored == ["PENDING", "PENDING"]
    record(manager, lease, load(manager, session_id), intent, replayed=True)
    assert manager.read(lambda conn: conn.execute(select(Fill.late)).scalars().all(), name="late") == [True]


def test_a_session_that_was_lost_is_made_again_from_its_terms(manager: DatabaseManager) -> None:
    lease = leading(manager)
    terms = ledger.SessionTerms(
        "S",
        {"a": 1},
        "BTCUSDT",
        "2s",
        SIMULATED,
        Decimal("123.45"),
        "switchyard-S-BTCUSDT-x",
        NOON.replace(tzinfo=None),
    )
    ids = set()
    for _ in range(2):
        session = manager.transaction(lambda conn: ledger.open_session(conn, lease, terms), name="open")
        assert session.terms == terms
        ids.add(session.id)
    assert len(ids) == 1
    wanted = replace(terms, name=None, start_time=None, initial_balance=Decimal(1))
    taken_up = manager.transaction(lambda conn: ledger.open_session(conn, lease, wanted), name="open")
    assert (taken_up.id in ids, taken_up.terms) == (True, terms)


def test_fills_from_before_there_were_books_get_their_lines(
    manager: DatabaseManager, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    lease = leading(manager)
    session_id = new_session(manager, lease)
    for n in range(6):
        intent = an_intent(session_id, "EXIT" if n % 2 else "ENTRY", n)
        place(manager, lease, load(manager, session_id), intent)
        record(manager, lease, load(manager, session_id), intent, a_fill(intent, n))
    account, booked = load(manager, session_id), facts(manager)["ledger"]
    forget_the_books(manager, request)
    assert manager.read(ledger.sessions_without_books, name="look") == [session_id]
    with pytest.raises(SwitchyardError, match=r"BOT-007: the books of session \d+ do not balance: cash is 0 in"):
        manager.read(lambda conn: ledger.require_balance(conn, account), name="balance")
    monkeypatch.setattr("trading_bot.ledger.entries.CATCH_UP_FILLS", 4)
    step = manager.transaction(lambda conn: ledger.catch_up(conn, lease, session_id), name="books")
    assert step == 4
    assert load(manager, session_id) == account  # half done, and in order all the same
    assert manager.read(ledger.sessions_without_books, name="look") == [session_id]  # a crash here: found again
    for after in (0, 4, 0, 4):
        manager.transaction(lambda conn, after=after: ledger.catch_up(conn, lease, session_id, after=after), name="b")
    assert facts(manager)["ledger"] == booked
    assert manager.read(ledger.sessions_without_books, name="look") == []
    manager.read(lambda conn: ledger.require_balance(conn, account), name="balance")
    assert load(manager, session_id) == account


def forget_the_books(manager: DatabaseManager, request: pytest.FixtureRequest) -> None:
    """As a database from before 0003."""
    if manager.dialect == "postgresql":
        database: ThrowawayDatabase = request.getfixturevalue("bot_database")
        database.execute("SET LOCAL session_replication_role = replica; DELETE FROM ledger_entries")
        return

    def work(conn: Connection) -> None:
        (sql,) = conn.exec_driver_sql("SELECT sql FROM sqlite_master WHERE name = 'ledger_refuses_delete'").scalars()
        conn.exec_driver_sql("DROP TRIGGER ledger_refuses_delete")
        conn.exec_driver_sql("DELETE FROM ledger_entries")
        conn.exec_driver_sql(sql)

    manager.transaction(work, name="forget")


def test_the_database_itself_refuses_books_that_do_not_balance(new_url: Callable[[str], URL]) -> None:
    manager = DatabaseManager(new_url("postgresql"), service="trading-bot")
    session_id = new_session(manager, leading(manager))
    for amounts in ((1,), (1, -2), (5, -4)):
        entries = [
            {"session_id": session_id, "venue": "v", "venue_trade_id": "t", "account": account, "currency": "USDT",
             "amount": Decimal(amount), "recorded_at": NOON, "lease_epoch": 1}
            for account, amount in zip(("cash", "inventory"), amounts, strict=False)
        ]  # fmt: skip
        with pytest.raises(IntegrityError, match="out of balance by"):
            manager.transaction(lambda conn, entries=entries: conn.execute(insert(LedgerEntry), entries), name="odd")
    assert count(manager, LedgerEntry) == 2
    manager.dispose()


def test_a_lease_that_ends_far_ahead_is_an_error_that_says_how_to_free_it(manager: DatabaseManager) -> None:
    leading(manager, "old")
    far = datetime(2099, 1, 1, tzinfo=UTC)
    manager.transaction(lambda conn: conn.execute(update(BotLease).values(expires_at=far)), name="by hand")
    new = Lease(manager, holder="new", ttl_s=15, renew_s=5, margin_s=3)
    with pytest.raises(SwitchyardError) as caught:
        new.acquire()
    assert caught.value.code == "BOT-004"
    assert "held by old until 2099-01-01T00:00:00+00:00" in caught.value.what
    assert "UPDATE bot_lease SET expires_at = now() WHERE name = 'trading-bot'" in caught.value.what
    expire_lease(manager)
    assert new.acquire() is None
