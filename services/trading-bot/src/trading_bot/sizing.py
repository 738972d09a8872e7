"""How much to buy, in steps that every venue and both databases hold exactly.

Prices have 2 decimals, quantities 6 and fees 8, so each product and each sum stays within 8 decimals: nothing is ever
rounded after the fill, and up to 9,999,999 the value survives SQLite's REAL, whose doubles give 15 significant digits
back.
"""

from __future__ import annotations

from decimal import ROUND_DOWN, ROUND_UP, Decimal

PRICE_STEP = Decimal("0.01")
QUANTITY_STEP = Decimal("0.000001")
FEE_STEP = Decimal("0.00000001")
MIN_NOTIONAL = Decimal(10)


def entry_quantity(*, balance: Decimal, price: Decimal, fraction: Decimal) -> Decimal:
    """Return what ``fraction`` of ``balance`` buys at ``price``; 0 when that is worth less than MIN_NOTIONAL.

    Args:
        balance: in quote currency; may be negative after losses.
        price: in quote currency, above 0.
        fraction: of the balance, above 0 and at most 1.
    """
    quantity = (balance * fraction / price).quantize(QUANTITY_STEP, rounding=ROUND_DOWN)
    return quantity if quantity * price >= MIN_NOTIONAL else Decimal(0)


def fee_of(*, price: Decimal, quantity: Decimal, rate: Decimal) -> Decimal:
    """Return the venue's fee in quote currency, rounded up as venues do."""
    return (price * quantity * rate).quantize(FEE_STEP, rounding=ROUND_UP)
