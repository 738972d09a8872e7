"""How much to buy, in steps that every venue and both databases hold exactly.

Prices from 100 up have 2 decimals, quantities 6 and fees 8, so each product and each sum stays within 8 decimals:
nothing is ever rounded after the fill, and up to 9,999,999 the value survives SQLite's REAL, whose doubles give 15
significant digits back. Cheaper things need finer prices; their amounts have up to 14 decimals, exact in the ledger on
both databases and in every table on Postgres.
"""

from __future__ import annotations

from decimal import ROUND_DOWN, ROUND_UP, Decimal

PRICE_STEP = Decimal("0.01")
_FINER_STEPS = ((Decimal(100), PRICE_STEP), (Decimal(1), Decimal("0.0001")), (Decimal("0.01"), Decimal("0.000001")))
FINEST_PRICE_STEP = Decimal("0.00000001")
MIN_PRICE = FINEST_PRICE_STEP * 100  # below it, rounding to a step is more than a percent of the price
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


def price_step(price: Decimal) -> Decimal:
    """Return the step of prices near ``price``: at most a ten-thousandth of it, down to 8 decimals."""
    return next((step for least, step in _FINER_STEPS if price >= least), FINEST_PRICE_STEP)


def fee_of(*, price: Decimal, quantity: Decimal, rate: Decimal) -> Decimal:
    """Return the venue's fee in quote currency, rounded up as venues do."""
    return (price * quantity * rate).quantize(FEE_STEP, rounding=ROUND_UP)
