"""What the bot decides and what the venue answers, as plain values."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Literal

Side = Literal["BUY", "SELL"]
Leg = Literal["ENTRY", "EXIT"]


@dataclass(frozen=True, slots=True)
class Intent:
    """A decision, as it stands in ``order_intents`` before anything is done about it."""

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


@dataclass(frozen=True, slots=True)
class VenueFill:
    """What the venue says happened, under its own id."""

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
