"""Ids and sizes: the same question has the same answer."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from trading_bot.ids import intent_id
from trading_bot.sizing import FEE_STEP, MIN_NOTIONAL, QUANTITY_STEP, entry_quantity, fee_of

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
PRICES = st.decimals(min_value="0.01", max_value="1000000", places=2)


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
    this: dict[str, Any] = {"venue": "V", "strategy": "S", "symbol": "BTCUSDT", "signal_time": NOON, "leg": "ENTRY"}
    same_moment = {**this, "signal_time": NOON.astimezone(timezone(timedelta(hours=5)))}
    assert intent_id(**this) == intent_id(**same_moment) == "33f41ed618c6cd2bf67fd6e7580619e3"
    others = [
        {**this, "venue": "W"}, {**this, "strategy": "T"}, {**this, "symbol": "ETHUSDT"}, {**this, "leg": "EXIT"},
        {**this, "n": 1}, {**this, "signal_time": NOON + timedelta(seconds=2)},
    ]  # fmt: skip
    assert len({intent_id(**that) for that in [this, *others]}) == 7
