"""Where orders are executed: what a broker is, and the one that only pretends."""

from __future__ import annotations

from decimal import ROUND_DOWN, ROUND_UP, Decimal
from typing import Protocol

from trading_bot.feed import SIMULATED
from trading_bot.ids import paper_trade_id
from trading_bot.orders import Intent, VenueFill, quote_currency
from trading_bot.sizing import PRICE_STEP, fee_of


class Broker(Protocol):
    """Carries an intent out. Asked twice about one intent it gives the same answer and acts once."""

    venue: str

    def execute(self, intent: Intent) -> VenueFill:
        """Return the fill of an intent that is already committed."""
        ...


class PaperBroker:
    """Fills every order at once and in full, at the intent's reference price made worse by the slippage.

    The fill is computed from the intent alone: whoever executes it, and however often, gets the same fact under the
    same id.

    Args:
        fee_rate: share of the traded value, like 0.0004.
        slippage_rate: share of the price, like 0.0001.
    """

    venue = SIMULATED

    def __init__(self, *, fee_rate: Decimal, slippage_rate: Decimal) -> None:
        self.fee_rate = fee_rate
        self.slippage_rate = slippage_rate

    def execute(self, intent: Intent) -> VenueFill:
        """Return the one fill that this intent ever has."""
        if intent.side == "BUY":
            price = (intent.reference_price * (1 + self.slippage_rate)).quantize(PRICE_STEP, rounding=ROUND_UP)
        else:
            price = (intent.reference_price * (1 - self.slippage_rate)).quantize(PRICE_STEP, rounding=ROUND_DOWN)
        return VenueFill(
            venue=self.venue,
            venue_trade_id=paper_trade_id(intent.intent_id),
            intent_id=intent.intent_id,
            symbol=intent.symbol,
            side=intent.side,
            price=price,
            quantity=intent.quantity,
            fee=fee_of(price=price, quantity=intent.quantity, rate=self.fee_rate),
            fee_currency=quote_currency(intent.symbol),
            filled_at=intent.signal_time,
        )
