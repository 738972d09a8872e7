"""What the bot decides and what the venue answers, as plain values."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Literal

Side = Literal["BUY", "SELL"]
Leg = Literal["ENTRY", "EXIT"]
OrderStatus = Literal["ACCEPTED", "PARTIALLY_FILLED", "FILLED", "CANCELLED", "REJECTED"]

_QUOTE_CURRENCIES = ("USDT", "USDC", "USD", "EUR", "BTC")


@dataclass(frozen=True, slots=True)
class Intent:
    """A decision, as it stands in ``order_intents`` before anything is done about it.

    ``intent_id`` is the client order id at the venue too. An exit names the entry that it closes.
    """

    intent_id: str
    session_id: int
    strategy_name: str
    venue: str
    symbol: str
    side: Side
    leg: Leg
    quantity: Decimal
    reference_price: Decimal
    signal_time: datetime
    reason: str
    entry_intent_id: str | None = None


@dataclass(frozen=True, slots=True)
class OrderReport:
    """What the venue says about an order: how it stands now. ``client_order_id`` is the intent's id."""

    venue: str
    client_order_id: str
    venue_order_id: str
    symbol: str
    side: Side
    quantity: Decimal
    filled_quantity: Decimal
    status: OrderStatus
    accepted_at: datetime
    updated_at: datetime

    @property
    def over(self) -> bool:
        """Return whether nothing more will be filled."""
        return self.status in ("FILLED", "CANCELLED", "REJECTED")


@dataclass(frozen=True, slots=True)
class VenueFill:
    """What the venue says happened, under its own id.

    ``sequence`` is the venue's own order of its fills, from 1; 0 in those recorded before the venue numbered them.
    """

    venue: str
    venue_trade_id: str
    intent_id: str
    symbol: str
    side: Side
    price: Decimal
    quantity: Decimal
    fee: Decimal
    fee_currency: str
    filled_at: datetime
    sequence: int = 0


def quote_currency(symbol: str) -> str:
    """Return the currency of a symbol's prices: ``USDT`` for ``BTCUSDT``, ``quote`` where the name does not say."""
    return next((name for name in _QUOTE_CURRENCIES if symbol.endswith(name) and symbol != name), "quote")
