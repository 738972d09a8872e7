"""The checker of the books sees each way in which they can be wrong: otherwise the fault tests would prove nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal as D

import pytest
from ledger import Books, Row, broken_promises


def good() -> Books:
    """One session: bought at 100, sold at 110, one unit, one in fees a leg; then bought again."""
    intents = [
        {"intent_id": key, "session_id": 1, "lease_epoch": epoch, "status": "FILLED"}
        for key, epoch in (("in-1", 1), ("out-1", 1), ("in-2", 2))
    ]
    fills = [
        {
            "venue_trade_id": f"v-{i['intent_id']}",
            "intent_id": i["intent_id"],
            "session_id": 1,
            "fee": D(1),
            "quantity": D(1),
        }
        | {"side": "SELL" if i["intent_id"].startswith("out") else "BUY"}
        for i in intents
    ]
    positions = [
        {"id": 1, "session_id": 1, "order_id": "in-1", "status": "CLOSED", "quantity": D(1)},
        {"id": 2, "session_id": 1, "order_id": "in-2", "status": "OPEN", "quantity": D(1)},
    ]
    trades = [
        {"id": 1, "session_id": 1, "order_id": "out-1", "position_id": 1, "pnl": D(10), "quantity": D(1)}
        | {"entry_price": D(100), "exit_price": D(110)}
    ]
    accounts = [{"id": 1, "session_id": 1, "balance": D(1007)}]
    sessions = [{"id": 1, "initial_balance": D(1000)}]
    return Books(intents, fills, positions, trades, accounts, sessions)


def changed(rows: list[Row], number: int, **values: object) -> list[Row]:
    return [row | values if at == number else row for at, row in enumerate(rows)]


def test_good_books_balance() -> None:
    assert broken_promises(good(), ["in-1", "out-1", "in-2"]) == []


MUTANTS: dict[str, tuple[str, Callable[[Books], Books]]] = {
    "a fill that was acknowledged is lost": ("I1", lambda b: replace(b, fills=b.fills[1:])),
    "an intent has two fills": (
        "I2",
        lambda b: replace(b, fills=[*b.fills, b.fills[0] | {"venue_trade_id": "v-again"}]),
    ),
    "a trade is there twice": ("I2", lambda b: replace(b, trades=[*b.trades, b.trades[0] | {"id": 2}])),
    "a position is there twice": ("I2", lambda b: replace(b, positions=[*b.positions, b.positions[1] | {"id": 3}])),
    "the balance is off by the smallest digit": (
        "I4",
        lambda b: replace(b, accounts=changed(b.accounts, 0, balance=D("1007.00000001"))),
    ),
    "a fee was taken twice": ("I4", lambda b: replace(b, fills=changed(b.fills, 0, fee=D(2)))),
    "a profit does not follow from its prices": ("I4", lambda b: replace(b, trades=changed(b.trades, 0, pnl=D(9)))),
    "more is held than the positions say": (
        "I4",
        lambda b: replace(b, positions=changed(b.positions, 1, quantity=D(2))),
    ),
    "a writer of an older epoch wrote": ("I5", lambda b: replace(b, intents=changed(b.intents, 2, lease_epoch=0))),
    "a position is closed without its trade": ("I7", lambda b: replace(b, trades=[])),
    "a trade is there, its position still open": (
        "I7",
        lambda b: replace(b, positions=changed(b.positions, 0, status="OPEN")),
    ),
    "an intent is filled without a fill": ("I8", lambda b: replace(b, fills=b.fills[:2])),
    "a fill is there, its intent still pending": (
        "I8",
        lambda b: replace(b, intents=changed(b.intents, 2, status="PENDING")),
    ),
}


@pytest.mark.parametrize(("promise", "mutate"), MUTANTS.values(), ids=MUTANTS.keys())
def test_each_broken_promise_is_found(promise: str, mutate: Callable[[Books], Books]) -> None:
    found = broken_promises(mutate(good()), ["in-1", "out-1", "in-2"])
    assert any(line.startswith(promise) for line in found), found
