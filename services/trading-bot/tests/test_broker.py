"""The paper broker, sizing and ids: the same question has the same answer."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from trading_bot.broker import PaperBroker, quote_currency
from trading_bot.feed import SIMULATED
from trading_bot.ids import intent_id, paper_trade_id
from trading_bot.orders import Intent, Side
from trading_bot.sizing import FEE_STEP, MIN_NOTIONAL, PRICE_STEP, QUANTITY_STEP, entry_quantity, fee_of

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
PRICES = st.decimals(min_value="0.01", max_value="1000000", places=2)
RATES = st.decimals(min_value="0", max_value="0.1", places=6)


def an_intent(side: Side, price: Decimal, quantity: Decimal) -> Intent:
    return Intent(
        intent_id="abc", session_id=1, strategy_name="S", venue=SIMULATED, symbol="BTCUSDT", side=side,
        leg="ENTRY" if side == "BUY" else "EXIT", quantity=quantity, reference_price=price,
        signal_time=NOON, reason="r",
    )  # fmt: skip


@given(
    side=st.sampled_from(["BUY", "SELL"]),
    price=PRICES,
    quantity=st.decimals(min_value="0.000001", max_value="1000", places=6),
    fee_rate=RATES,
    slippage=RATES,
)
def test_executing_twice_gives_one_fact_that_is_never_better_than_the_market(
    side: Side, price: Decimal, quantity: Decimal, fee_rate: Decimal, slippage: Decimal
) -> None:
    intent = an_intent(side, price, quantity)
    fill = PaperBroker(fee_rate=fee_rate, slippage_rate=slippage).execute(intent)
    assert fill == PaperBroker(fee_rate=fee_rate, slippage_rate=slippage).execute(intent)
    assert fill.venue == SIMULATED
    assert fill.venue_trade_id == paper_trade_id(intent.intent_id)
    assert (fill.quantity, fill.filled_at, fill.fee_currency) == (quantity, NOON, "USDT")
    assert fill.price >= price if side == "BUY" else fill.price <= price
    assert fill.price == fill.price.quantize(PRICE_STEP)
    assert fill.fee == fill.fee.quantize(FEE_STEP)
    assert fill.fee >= fill.price * quantity * fee_rate


def test_a_known_fill() -> None:
    broker = PaperBroker(fee_rate=Decimal("0.0004"), slippage_rate=Decimal("0.0001"))
    buy = broker.execute(an_intent("BUY", Decimal("60000.00"), Decimal("0.083333")))
    sell = broker.execute(an_intent("SELL", Decimal("60000.00"), Decimal("0.083333")))
    assert (str(buy.price), str(buy.fee)) == ("60006.00", "2.00019200")
    assert str(sell.price) == "59994.00"


@given(
    balance=st.decimals(min_value="-1000", max_value="9999999", places=8),
    price=PRICES,
    fraction=st.decimals(min_value="0.01", max_value="1", places=2),
)
def test_an_entry_never_costs_more_than_its_share(balance: Decimal, price: Decimal, fraction: Decimal) -> None:
    quantity = entry_quantity(balance=balance, price=price, fraction=fraction)
    assert quantity == quantity.quantize(QUANTITY_STEP)
    assert quantity == 0 or MIN_NOTIONAL <= quantity * price <= balance * fraction


def test_fees_are_rounded_up() -> None:
    assert fee_of(price=Decimal("0.01"), quantity=Decimal("0.000001"), rate=Decimal("0.0004")) == FEE_STEP
    assert fee_of(price=Decimal("0.01"), quantity=Decimal("0.000001"), rate=Decimal(0)) == 0


def test_the_id_of_a_decision_depends_on_the_decision_and_nothing_else() -> None:
    this = {"strategy": "S", "symbol": "BTCUSDT", "signal_time": NOON, "leg": "ENTRY"}
    same_moment = {**this, "signal_time": NOON.astimezone(timezone(timedelta(hours=5)))}
    assert intent_id(**this) == intent_id(**same_moment) == "b1fb455904e1d7cb9c874305e4c6cee1"
    others = [
        {**this, "strategy": "T"}, {**this, "symbol": "ETHUSDT"}, {**this, "leg": "EXIT"}, {**this, "n": 1},
        {**this, "signal_time": NOON + timedelta(seconds=2)},
    ]  # fmt: skip
    assert len({intent_id(**that) for that in [this, *others]}) == 6


@pytest.mark.parametrize(
    ("symbol", "currency"),
    [("BTCUSDT", "USDT"), ("ETHBTC", "BTC"), ("BTCEUR", "EUR"), ("ABC", "quote"), ("USD", "quote")],
)
def test_the_currency_of_a_symbol(symbol: str, currency: str) -> None:
    assert quote_currency(symbol) == currency
