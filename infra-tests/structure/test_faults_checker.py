"""The checker sees each way in which a promise can be broken: otherwise the fault tests would prove nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal as D
from typing import Any

import pytest
from faults.checker import check, longest_call, resumed_after
from faults.final import Final, Row
from faults.record import BARE_ROW, History, Mark, Op

# bought 1 at 100 in two parts, sold at 110 in two parts, then bought 1 at 120; fee 1 a leg; and one bare row
LEGS = {"in-1": ("ENTRY", 1), "out-1": ("EXIT", 1), "in-2": ("ENTRY", 2)}
PARTS = (("f1", "in-1", "0.4", "100"), ("f2", "in-1", "0.6", "101"), ("f3", "out-1", "0.5", "110"))
PARTS += (("f4", "out-1", "0.5", "111"), ("f5", "in-2", "1", "120"))
PNL = D("0.4") * 10 + D("0.1") * 9 + D("0.5") * 10
ENTRIES: tuple[tuple[str | None, str, str], ...] = (
    (None, "cash", "1000"), (None, "equity", "-1000"),
    ("f1", "cash", "-40.5"), ("f1", "inventory", "40"), ("f1", "fees", "0.5"),
    ("f2", "cash", "-61.1"), ("f2", "inventory", "60.6"), ("f2", "fees", "0.5"),
    ("f3", "cash", "54.5"), ("f3", "inventory", "-50.1"), ("f3", "fees", "0.5"), ("f3", "pnl", "-4.9"),
    ("f4", "cash", "55"), ("f4", "inventory", "-50.5"), ("f4", "fees", "0.5"), ("f4", "pnl", "-5"),
    ("f5", "cash", "-120.5"), ("f5", "inventory", "120"), ("f5", "fees", "0.5"),
)  # fmt: skip


def final() -> Final:
    """One session whose books balance."""
    intents: list[Row] = [
        {"intent_id": key, "session_id": 1, "leg": leg, "lease_epoch": epoch, "status": "FILLED", "quantity": D(1)}
        | {"reason": "in turn", "venue": "V"}
        for key, (leg, epoch) in LEGS.items()
    ]
    intents.append(intents[2] | {"intent_id": "row-1", "status": "CANCELLED", "reason": BARE_ROW})
    fills: list[Row] = [
        {"venue": "V", "venue_trade_id": key, "intent_id": intent, "session_id": 1, "fee": D("0.5")}
        | {"quantity": D(quantity), "price": D(price), "leg": LEGS[intent][0], "lease_epoch": LEGS[intent][1]}
        | {"side": "SELL" if intent.startswith("out") else "BUY"}
        for key, intent, quantity, price in PARTS
    ]
    orders: list[Row] = [
        {"venue": "V", "client_order_id": key, "status": "FILLED", "quantity": D(1), "filled_quantity": D(1)}
        for key in LEGS
    ]
    positions: list[Row] = [
        {"id": 1, "session_id": 1, "order_id": "in-1", "status": "CLOSED", "quantity": D(1)},
        {"id": 2, "session_id": 1, "order_id": "in-2", "status": "OPEN", "quantity": D(1)},
    ]
    trades: list[Row] = [{"id": 1, "session_id": 1, "order_id": "out-1", "position_id": 1, "pnl": PNL}]
    accounts: list[Row] = [
        {"id": n, "session_id": 1, "balance": 1000 + earned - n * D("0.5")}
        for n, earned in enumerate((D(0), D(0), D(0), D("4.9"), PNL, PNL))
    ]
    sessions: list[Row] = [
        {"id": 1, "initial_balance": D(1000), "total_pnl": PNL - D("2.5"), "total_trades": 1},
    ]
    entries: list[Row] = [
        {"session_id": 1, "venue": "V", "venue_trade_id": fact, "account": account, "amount": D(amount)}
        | {"currency": "USDT"}
        for fact, account, amount in ENTRIES
    ]
    leases: list[Row] = [{"name": "trading-bot"}]
    return Final(intents, fills, orders, positions, trades, accounts, sessions, entries, [], leases)


def history() -> History:
    """Everything in it was acknowledged, each call within a second."""
    ops = [Op("w", "intent", key, at, at + 0.5, "ok", body={"quantity": "1"}) for at, key in enumerate(LEGS)]
    ops += [Op("w", "fill", p[0], 10 + at, 10.5 + at, "ok", body={"price": p[3]}) for at, p in enumerate(PARTS)]
    ops.append(Op("w", "row", "row-1", 20, 20.5, "ok"))
    ops.append(Op("reader", "observe", "", 21, 21.5, "ok", body={"closed positions without a trade": 0}))
    marks = (
        Mark("w", "started", 0),
        Mark("bench", "fault", 11),
        Mark("bench", "heal", 12),
        Mark("w", "pool", 22, {"in_use": 0, "open": 2, "most": 2}),
    )
    return History(tuple(ops), marks, ended=30)


def changed(rows: list[Row], number: int, **values: object) -> list[Row]:
    return [row | values if at == number else row for at, row in enumerate(rows)]


def with_op(h: History, number: int, **values: Any) -> History:
    return replace(h, ops=tuple(replace(op, **values) if at == number else op for at, op in enumerate(h.ops)))


def with_mark(h: History, name: str, at: float, **body: Any) -> History:
    return replace(h, marks=(*h.marks, Mark("w", name, at, body)))


def test_good_books_balance() -> None:
    assert check(history(), final()) == []


DAMAGED_DATABASE: dict[str, tuple[str, Callable[[Final], Final]]] = {
    "a fill that was acknowledged is lost": ("I1", lambda f: replace(f, fills=f.fills[1:])),
    "an intent that was acknowledged is lost": ("I1", lambda f: replace(f, intents=f.intents[:2] + f.intents[3:])),
    "a bare row that was acknowledged is lost": ("I1", lambda f: replace(f, intents=f.intents[:3])),
    "a fill is there with another price": ("I1", lambda f: replace(f, fills=changed(f.fills, 0, price=D("100.01")))),
    "an intent is there twice": ("I2", lambda f: replace(f, intents=[*f.intents, f.intents[0]])),
    "a fill is there twice": ("I2", lambda f: replace(f, fills=[*f.fills, f.fills[4]])),
    "a fill is there again under another id": (
        "I2",
        lambda f: replace(f, fills=[*f.fills, f.fills[4] | {"venue_trade_id": "again"}]),
    ),
    "an order is there twice": ("I2", lambda f: replace(f, orders=[*f.orders, f.orders[0]])),
    "a trade is there twice": ("I2", lambda f: replace(f, trades=[*f.trades, f.trades[0] | {"id": 2}])),
    "a position is there twice": ("I2", lambda f: replace(f, positions=[*f.positions, f.positions[1] | {"id": 3}])),
    "a ledger entry is there twice": ("I2", lambda f: replace(f, entries=[*f.entries, f.entries[2]])),
    "a signal was decided on twice": (
        "I2",
        lambda f: replace(f, intents=[*f.intents, f.intents[2] | {"intent_id": "in-3", "status": "PENDING"}]),
    ),
    "a fill that nobody attempted": (
        "I3",
        lambda f: replace(f, fills=[*f.fills, f.fills[4] | {"venue_trade_id": "made up"}]),
    ),
    "a fill of another venue than its intent's": ("I3", lambda f: replace(f, fills=changed(f.fills, 4, venue="W"))),
    "an order at another venue than its intent's": ("I3", lambda f: replace(f, orders=changed(f.orders, 2, venue="W"))),
    "a fact in quarantine": (
        "I3",
        lambda f: replace(f, quarantined=[{"venue": "V", "venue_trade_id": "f1", "kind": "fill"}]),
    ),
    "a fill of no intent": ("I3", lambda f: replace(f, fills=changed(f.fills, 4, intent_id="unknown"))),
    "the balance is off by the smallest digit": (
        "I4",
        lambda f: replace(f, accounts=changed(f.accounts, 5, balance=f.accounts[5]["balance"] + D("1E-18"))),
    ),
    "a fee was taken twice": ("I4", lambda f: replace(f, fills=changed(f.fills, 0, fee=D(1)))),
    "a profit does not follow from its fills": ("I4", lambda f: replace(f, trades=changed(f.trades, 0, pnl=D(9)))),
    "more is held than the fills say": ("I4", lambda f: replace(f, positions=changed(f.positions, 1, quantity=D(2)))),
    "more was sold than was held": ("I4", lambda f: replace(f, fills=changed(f.fills, 3, quantity=D("0.7")))),
    "the entries of a fill do not add up": ("I4", lambda f: replace(f, entries=changed(f.entries, 2, amount=D(-40)))),
    "two entries are wrong by the same amount": (
        "I4",
        lambda f: replace(f, entries=changed(changed(f.entries, 2, amount=D("-41")), 4, amount=D(1))),
    ),
    "an older balance is off by the smallest digit": (
        "I4",
        lambda f: replace(f, accounts=changed(f.accounts, 2, balance=f.accounts[2]["balance"] + D("1E-18"))),
    ),
    "a fill moved the balance and left no point of it": (
        "I4",
        lambda f: replace(f, accounts=f.accounts[:3] + f.accounts[4:]),
    ),
    "there are fills and no balance at all": ("I4", lambda f: replace(f, accounts=[])),
    "there are fills and no ledger at all": ("I4", lambda f: replace(f, entries=[])),
    "the session's profit does not follow from its fills": (
        "I4",
        lambda f: replace(f, sessions=changed(f.sessions, 0, total_pnl=D(99))),
    ),
    "the session has more trades than it made": (
        "I4",
        lambda f: replace(f, sessions=changed(f.sessions, 0, total_trades=2)),
    ),
    "a closed position has more than was bought": (
        "I4",
        lambda f: replace(f, positions=changed(f.positions, 0, quantity=D(9))),
    ),
    "a fill is not in the ledger": ("I4", lambda f: replace(f, entries=f.entries[:-3])),
    "a decision of an older epoch": ("I5", lambda f: replace(f, intents=changed(f.intents, 2, lease_epoch=0))),
    "a fill of an older epoch than the one before": (
        "I5",
        lambda f: replace(f, fills=changed(changed(f.fills, 3, lease_epoch=3), 4, lease_epoch=2)),
    ),
    "a fill of an older epoch than its intent": ("I5", lambda f: replace(f, fills=changed(f.fills, 4, lease_epoch=1))),
    "a position is closed without its trade": ("I7", lambda f: replace(f, trades=[])),
    "a trade is there, its position still open": (
        "I7",
        lambda f: replace(f, positions=changed(f.positions, 0, status="OPEN")),
    ),
    "an intent is filled and a part of its fills is missing": ("I8", lambda f: replace(f, fills=f.fills[1:])),
    "all fills are there, their intent still pending": (
        "I8",
        lambda f: replace(f, intents=changed(f.intents, 2, status="PENDING")),
    ),
    "fills of an order that is not there": ("I8", lambda f: replace(f, orders=f.orders[:2])),
    "an order says more than its fills": (
        "I8",
        lambda f: replace(f, orders=changed(f.orders, 2, filled_quantity=D(7))),
    ),
    "an order says that nothing of it is filled": (
        "I8",
        lambda f: replace(f, orders=changed(f.orders, 2, filled_quantity=D(0), status="ACCEPTED")),
    ),
    "an order is filled and says that it is open": (
        "I8",
        lambda f: replace(f, orders=changed(f.orders, 2, status="PARTIALLY_FILLED")),
    ),
    "an entry was filled and opened nothing": ("I8", lambda f: replace(f, positions=f.positions[:1])),
}

DAMAGED_HISTORY: dict[str, tuple[str, Callable[[History], History]]] = {
    "it is there, and its writer was told that it failed": ("I3", lambda h: with_op(h, 8, outcome="fail")),
    "it is there, and only something else was attempted": ("I3", lambda h: with_op(h, 8, key="row-2", outcome="fail")),
    "a call lasted too long": ("I6", lambda h: with_op(h, 8, ended=32.6)),
    "a call never came back": ("I6", lambda h: replace(with_op(h, 8, ended=None), ended=33)),
    "nothing was written for long after the heal": ("I6", lambda h: with_mark(replace(h, ended=60), "heal", 40)),
    "the first write came late after the heal": (
        "I6",
        lambda h: replace(h, marks=(*h.marks, Mark("bench", "heal", 1)), ops=(h.ops[0], *h.ops[8:])),
    ),
    "only an answer that was under way came soon after the heal": (
        "I6",
        lambda h: replace(h, marks=(*h.marks, Mark("bench", "heal", 0.2)), ops=(h.ops[0], *h.ops[8:])),
    ),
    "a writer ended by itself": ("I6", lambda h: with_mark(h, "died", 21, who="w", code=1)),
    "a writer was started again": ("I6", lambda h: with_mark(h, "started", 15)),
    "a connection stayed in use": ("I6", lambda h: with_mark(h, "pool", 23, in_use=1, open=2, most=2)),
    "the pool grew": ("I6", lambda h: with_mark(h, "pool", 23, in_use=0, open=3, most=2)),
    "a reader saw half a transaction": (
        "I7",
        lambda h: with_op(h, 9, body={"closed positions without a trade": 1}),
    ),
}


@pytest.mark.parametrize(("promise", "damage"), DAMAGED_DATABASE.values(), ids=DAMAGED_DATABASE.keys())
def test_each_damage_to_the_database_is_found(promise: str, damage: Callable[[Final], Final]) -> None:
    found = check(history(), damage(final()))
    assert promise in {violation.invariant for violation in found}, found


@pytest.mark.parametrize(("promise", "damage"), DAMAGED_HISTORY.values(), ids=DAMAGED_HISTORY.keys())
def test_each_damage_in_the_history_is_found(promise: str, damage: Callable[[History], History]) -> None:
    found = check(damage(history()), final())
    assert promise in {violation.invariant for violation in found}, found


def test_an_unknown_outcome_may_be_there_or_not() -> None:
    unknown = with_op(history(), 8, outcome="unknown", ended=None)
    assert check(unknown, final()) == []
    without = replace(final(), intents=final().intents[:3])
    assert check(unknown, without) == []


def test_where_not_everybody_was_recorded_more_may_be_there() -> None:
    partly = replace(history(), ops=history().ops[:3], marks=(), complete=False)
    assert check(partly, final()) == []


def test_a_fill_is_known_by_its_intent_too() -> None:
    said = History((Op("bot", "filled", "in-1", 1, 1, "ok"), Op("bot", "filled", "in-9", 1, 1, "ok")), complete=False)
    assert [str(found) for found in check(said, final())] == [
        "I1: filled in-9 of bot was acknowledged and is not there"
    ]


def test_a_process_that_was_stopped_is_not_slow() -> None:
    slow = with_op(history(), 8, ended=29.0)
    longer = with_op(slow, 8, began=9.0)
    assert longest_call(longer)[0] == 20
    assert longest_call(with_mark(longer, "paused", 15, who="w"))[0] == 0.5
    assert longest_call(with_mark(longer, "paused", 15, who="another"))[0] == 20


def test_the_time_from_a_heal_to_the_first_write() -> None:
    assert resumed_after(history()) == [(12, 0.5)]
    assert resumed_after(with_mark(history(), "heal", 25))[1] == (25, None)


def test_two_sessions_with_leases_of_their_own_have_no_common_order() -> None:
    two = final()
    leases: list[Row] = [{"name": "a"}, {"name": "b"}]
    other = changed(two.intents, 3, session_id=2, lease_epoch=1)
    assert check(history(), replace(two, intents=other, leases=leases)) == []
    assert {v.invariant for v in check(history(), replace(two, intents=other))} == {"I5"}
