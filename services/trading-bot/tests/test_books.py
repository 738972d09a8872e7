"""I4: start + sum of pnl - sum of fees = balance, the signed fills are the position, each fill's lines add up to 0."""

from __future__ import annotations

from collections import defaultdict
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tradedb.errors import SwitchyardError
from trading_bot.books import Account, Line, Lot, derive, opening
from trading_bot.orders import Side, VenueFill
from trading_bot.sizing import fee_of

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
START = Decimal(10_000)
PRICE = st.decimals(min_value="0.01", max_value="200000", places=2)
QUANTITY = st.decimals(min_value="0.000001", max_value="50", places=6)
PARTS = st.lists(st.tuples(PRICE, QUANTITY), min_size=1, max_size=4)


def a_fill(
    n: int, side: Side, price: Decimal, quantity: Decimal, fee: Decimal | None = None, intent: str | None = None
) -> VenueFill:
    return VenueFill(
        venue="SIMULATED", venue_trade_id=f"t{n}", intent_id=intent or f"i{n}", symbol="BTCUSDT", side=side,
        price=price, quantity=quantity, fee_currency="USDT", filled_at=NOON + timedelta(seconds=n), sequence=n + 1,
        fee=fee_of(price=price, quantity=quantity, rate=Decimal("0.0004")) if fee is None else fee,
    )  # fmt: skip


@st.composite
def histories(draw: st.DrawFn) -> tuple[list[VenueFill], int]:
    """Round trips, bought in parts and sold in other parts; perhaps one that is left open, in part or as a whole."""
    fills: list[VenueFill] = []

    def add(side: Side, price: Decimal, quantity: Decimal, intent: str) -> None:
        fills.append(a_fill(len(fills), side, price, quantity, intent=intent))

    trips = draw(st.lists(PARTS, max_size=12))
    whole = len(trips)
    for n, bought in enumerate(trips):
        for price, quantity in bought:
            add("BUY", price, quantity, f"entry-{n}")
        held = sum((quantity for _, quantity in bought), Decimal(0))
        last_stays_open = n == len(trips) - 1 and draw(st.booleans())
        while held > 0:
            sold = min(held, draw(QUANTITY))
            sold = sold if draw(st.booleans()) else held
            if last_stays_open and sold == held:
                whole -= 1
                break
            add("SELL", draw(PRICE), sold, f"exit-{n}-{draw(st.integers(0, 1))}")
            held -= sold
    return fills, whole


@given(history=histories())
def test_the_books_balance_to_the_last_decimal(history: tuple[list[VenueFill], int]) -> None:
    fills, whole_trips = history
    account = Account(session_id=1, initial_balance=START)
    trips = []
    booked: defaultdict[str, Decimal] = defaultdict(Decimal)
    for line in opening(START, "USDT"):
        booked[line.account] += line.amount
    for fill in fills:
        posting = account.post(fill)
        assert posting.lines
        assert sum((line.amount for line in posting.lines), Decimal(0)) == 0
        assert all(line.amount != 0 and line.currency == "USDT" for line in posting.lines)
        for line in posting.lines:
            booked[line.account] += line.amount
        account = posting.account
        assert {name: booked[name] for name in account.totals()} == account.totals()
        assert account.cash + account.inventory == account.balance
        trips += [posting.trip] if posting.trip else []
    fees = sum((fill.fee for fill in fills), Decimal(0))
    assert account.balance == START + account.pnl - fees
    signed = sum((fill.quantity if fill.side == "BUY" else -fill.quantity for fill in fills), Decimal(0))
    assert (account.position.quantity if account.position else 0) == signed
    flow = sum((fill.price * fill.quantity * (-1 if fill.side == "BUY" else 1) for fill in fills), Decimal(0))
    assert account.cash == START + flow - fees
    assert account.trades == len(trips) == whole_trips
    realised = sum((trip.pnl for trip in trips), Decimal(0)) + (account.position.pnl if account.position else 0)
    assert account.pnl == realised
    assert derive(1, START, fills) == account


def test_a_round_trip_by_hand() -> None:
    account = Account(session_id=1, initial_balance=Decimal(1_000))
    account, none = account.apply(a_fill(1, "BUY", Decimal("100.00"), Decimal("2"), Decimal("0.08")))
    assert none is None
    assert account.balance == Decimal("999.92")
    assert account.equity(Decimal("103.00")) == Decimal("1005.92")
    assert account.position is not None
    assert account.position.balance_share == Decimal("0.2")
    account, trip = account.apply(a_fill(2, "SELL", Decimal("101.00"), Decimal("2"), Decimal("0.09")))
    assert trip is not None
    assert (trip.pnl, trip.fees, trip.pnl_percent) == (Decimal("2.00"), Decimal("0.17"), 1.0)
    assert account.balance == Decimal("1001.83")
    assert (account.trades, account.wins, account.win_rate) == (1, 1, 100.0)


def test_parts_first_in_first_out_by_hand() -> None:
    """1 at 100, 2 at 103; 2 sold at 104, 1 at 99. FIFO: 1 x 4 + 1 x 1, then 1 x -4."""
    account = Account(session_id=1, initial_balance=Decimal(1_000))
    account, _ = account.apply(a_fill(1, "BUY", Decimal(100), Decimal(1), Decimal("0.1"), "in"))
    account, _ = account.apply(a_fill(2, "BUY", Decimal(103), Decimal(2), Decimal("0.2"), "in"))
    held = account.position
    assert held is not None
    assert (held.quantity, held.cost, held.entry_price) == (Decimal(3), Decimal(306), Decimal(102))
    assert (held.opened_at, held.entered_at) == (NOON + timedelta(seconds=1), NOON + timedelta(seconds=2))

    posting = account.post(a_fill(3, "SELL", Decimal(104), Decimal(2), Decimal("0.3"), "out"))
    assert posting.trip is None
    assert posting.lines == (
        Line("cash", "USDT", Decimal("207.7")), Line("inventory", "USDT", Decimal(-203)),
        Line("fees", "USDT", Decimal("0.3")), Line("pnl", "USDT", Decimal(-5)),
    )  # fmt: skip
    held = posting.account.position
    assert held is not None
    assert held.lots == (Lot(Decimal(1), Decimal(103)),)
    assert (held.quantity, held.entry_price, held.pnl) == (Decimal(1), Decimal(103), Decimal(5))
    assert held.unrealized_pnl(Decimal(101)) == Decimal(-2)

    account, trip = posting.account.apply(a_fill(4, "SELL", Decimal(99), Decimal(1), Decimal("0.4"), "out"))
    assert trip is not None
    assert (trip.quantity, trip.entry_price) == (Decimal(3), Decimal(102))
    assert trip.exit_price == Decimal("102.333333333333")  # 307 / 3, for people
    assert (trip.pnl, trip.fees) == (Decimal(1), Decimal("1.0"))
    assert account.balance == Decimal(1_000)
    assert (account.trades, account.wins, account.position) == (1, 0, None)


def test_a_gain_smaller_than_its_fees_is_no_win() -> None:
    account = derive(
        1,
        Decimal(1_000),
        [
            a_fill(1, "BUY", Decimal("100.00"), Decimal("2"), Decimal("0.08")),
            a_fill(2, "SELL", Decimal("100.01"), Decimal("2"), Decimal("0.08")),
        ],
    )
    assert (account.wins, account.win_rate) == (0, 0.0)


@pytest.mark.parametrize(
    ("fills", "held"),
    [
        ([("SELL", "1")], "nothing is held"),
        ([("BUY", "1"), ("BUY", "1")], "1 BTCUSDT is held already"),
        ([("BUY", "1"), ("SELL", "1.5")], "1 BTCUSDT is held"),
        ([("BUY", "1"), ("SELL", "0.5"), ("SELL", "0.6")], "0.5 BTCUSDT is held"),
    ],
)
def test_fills_that_do_not_fit_are_refused(fills: list[tuple[Side, str]], held: str) -> None:
    with pytest.raises(SwitchyardError) as caught:
        derive(1, Decimal(1), [a_fill(n, side, Decimal(1), Decimal(amount)) for n, (side, amount) in enumerate(fills)])
    assert caught.value.code == "BOT-003"
    assert caught.value.what.endswith(f"does not fit the account: {held}")


def test_a_fee_in_a_currency_that_the_account_does_not_have_is_refused() -> None:
    fill: Any = {**{f: getattr(a_fill(1, "BUY", Decimal(1), Decimal(1)), f) for f in VenueFill.__dataclass_fields__}}
    with pytest.raises(SwitchyardError, match="its fee is in BNB, and the account in USDT"):
        derive(1, START, [VenueFill(**{**fill, "fee_currency": "BNB"})])
