"""What an order on paper costs, and in how many parts it is filled: computed from the order alone."""

from __future__ import annotations

from decimal import ROUND_DOWN, ROUND_UP, Decimal
from hashlib import blake2b

from trading_bot.orders import Side
from trading_bot.sizing import QUANTITY_STEP, price_step

_LEAST_SHARE, _MOST_SHARE = 30, 70  # percent of what is left that a part takes, unless it is the last one


def price_after_slippage(reference: Decimal, side: Side, rate: Decimal) -> Decimal:
    """Return the price that an order gets: never better than the market's, and never below one step.

    Args:
        reference: the market's price, above 0.
        side: a buyer pays more, a seller gets less.
        rate: share of the price, like 0.0001.
    """
    step = price_step(reference)
    if side == "BUY":
        return (reference * (1 + rate)).quantize(step, rounding=ROUND_UP)
    return max((reference * (1 - rate)).quantize(step, rounding=ROUND_DOWN), step)


def split(client_order_id: str, quantity: Decimal) -> list[Decimal]:
    """Return the parts in which an order is filled: one to three, in whole steps, and together all of it.

    The same order is always split in the same way.
    """
    digest = blake2b(client_order_id.encode(), digest_size=8, person=b"paper-parts").digest()
    parts: list[Decimal] = []
    rest = quantity
    for byte in digest[1 : 1 + digest[0] % 3]:
        share = Decimal(_LEAST_SHARE + byte % (_MOST_SHARE - _LEAST_SHARE + 1)) / 100
        part = (rest * share).quantize(QUANTITY_STEP, rounding=ROUND_DOWN)
        if part > 0:
            parts.append(part)
            rest -= part
    return [*parts, rest]
