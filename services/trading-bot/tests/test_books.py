"""I4: start + sum of pnl - sum of fees = balance, and the signed fills are the position. Tolerance 0."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tradedb.errors import SwitchyardError
from trading_bot.books import Account, derive
from trading_bot.orders import Side, VenueFill
from trading_bot.sizing import fee_of

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
PRICE = st.decimals(min_value="0.01", max_value="200000", places=2)
QUANTITY = st.decimals(min_value="0.000001", max_value="50", places=6)


def a_fill(n: int, side: Side, price: Decimal, quantity: Decimal, fee: Decimal | None = None) -> VenueFill:
    return VenueFill(
        venue="SIMULATED", venue_trade_id=f"t{n}", intent_id=f"i{n}", symbol="BTCUSDT", side=side, price=price,
        quantity=quantity, fee=fee_of(price=price, quantity=quantity, rate=Decimal("0.0004")) if fee is None else fee,
        fee_currency="USDT", filled_at=NOON + timedelta(seconds=n),
    )  # fmt: skip


@given(trips=st.lists(st.tuples(PRICE, PRICE, QUANTITY), max_size=30), left_open=st.none() | st.tuples(PRICE, QUANTITY))
def test_the_books_balance_to_the_last_decimal(
    trips: list[tuple[Decimal, Decimal, Decimal]], left_open: tuple[Decimal, Decimal] | None
) -> None:
    fills: list[VenueFill] = []
    for bought, sold, quantity in trips:
        fills += [a_fill(len(fills), "BUY", bought, quantity), a_fill(len(fills) + 1, "SELL", sold, quantity)]
    if left_open is not None:
        fills.append(a_fill(len(fills), "BUY", *left_open))
    account = Account(session_id=1, initial_balance=Decimal(10_000))
    closed = []
    for fill in fills:
        account, trip = account.apply(fill)
        closed += [trip] if trip else []
    fees = sum((fill.fee for fill in fills), Decimal(0))
    assert account.balance == Decimal(10_000) + sum((trip.pnl for trip in closed), Decimal(0)) - fees
    signed = sum((fill.quantity if fill.side == "BUY" else -fill.quantity for fill in fills), Decimal(0))
    assert (account.position.quantity if account.position else 0) == signed
    cash = sum(
        (fill.price * fill.quantity * (-1 if fill.side == "BUY" else 1) - fill.fee for fill in fills), Decimal(0)
    )
    assert account.balance == Decimal(10_000) + cash + (account.position.cost if account.position else 0)
    assert account.trades == len(trips)
    assert derive(1, Decimal(10_000), fills) == account


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
    assert (trip.pnl, trip.fees) == (Decimal("2.00"), Decimal("0.17"))
    assert account.balance == Decimal("1001.83")
    assert (account.trades, account.wins, account.win_rate) == (1, 1, 100.0)


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
        ([("BUY", "1"), ("SELL", "0.5")], "1 BTCUSDT is held"),
    ],
)
def test_fills_that_do_not_fit_are_refused(fills: list[tuple[Side, str]], held: str) -> None:
    with pytest.raises(SwitchyardError) as caught:
        derive(1, Decimal(1), [a_fill(n, side, Decimal(1), Decimal(amount)) for n, (side, amount) in enumerate(fills)])
    assert caught.value.code == "BOT-003"
    assert caught.value.what.endswith(f"does not fit the account: {held}")
