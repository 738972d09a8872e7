"""Mean reversion on the relative strength index."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from itertools import pairwise
from typing import Any

from trading_bot.feeds.candles import Candle
from trading_bot.strategies import Decision, whole_number


class RsiMeanReversion:
    """Buys what fell too fast: long from an RSI at or below buy_below until one at or above sell_above.

    The RSI is Cutler's: gains and losses are plain sums over the period, so it depends on those candles alone and not,
    as Wilder's smoothing does, on where somebody began to look. For the same reason nothing is remembered between
    decisions: whichever of the two levels was touched last, within ``hold_candles``, decides; so that is also the
    longest that a position is held without the level being touched again.

    Args:
        period_candles: price changes in the RSI.
        buy_below: RSI, 0 to 100, at or below which to be long.
        sell_above: RSI, 0 to 100, at or above which to be flat; more than ``buy_below``.
        hold_candles: how far back a touched level still counts.
    """

    name = "RsiMeanReversion"

    def __init__(
        self, *, period_candles: int = 14, buy_below: int = 30, sell_above: int = 55, hold_candles: int = 60
    ) -> None:
        self.period = whole_number("period_candles", period_candles, at_least=2, at_most=1_000)
        self.low = whole_number("buy_below", buy_below, at_least=0, at_most=100)
        self.high = whole_number("sell_above", sell_above, at_least=0, at_most=100)
        self.hold = whole_number("hold_candles", hold_candles, at_least=1, at_most=5_000)
        if self.low >= self.high:
            raise ValueError(f"buy_below={self.low} must be less than sell_above={self.high}")
        self.warmup = self.period + self.hold

    def decide(self, candles: Sequence[Candle]) -> Decision:
        """Return what the level that was touched last says; FLAT when none was."""
        closes = [candle.close for candle in candles[-self.warmup :]]
        changes = [after - before for before, after in pairwise(closes)]
        end = len(changes)
        gains = sum((change for change in changes[end - self.period :] if change > 0), Decimal(0))
        losses = sum((-change for change in changes[end - self.period :] if change < 0), Decimal(0))
        while end >= self.period:
            # compared by multiplication: RSI = 100 * gains / (gains + losses), and no division rounds anything.
            # A price that did not move at all is neither cheap nor dear.
            moved = gains + losses
            ago = len(changes) - end
            if moved and 100 * gains <= self.low * moved:
                return Decision("LONG", f"RSI ({self.period}) at or below {self.low} {_when(ago)}")
            if moved and 100 * gains >= self.high * moved:
                return Decision("FLAT", f"RSI ({self.period}) at or above {self.high} {_when(ago)}")
            end -= 1
            if end >= self.period:  # the window one candle earlier
                gains, losses = _moved(gains, losses, changes[end], -1)
                gains, losses = _moved(gains, losses, changes[end - self.period], +1)
        return Decision("FLAT", f"RSI ({self.period}) between {self.low} and {self.high} for {self.hold} candles")

    def config(self) -> dict[str, Any]:
        """Return the period, the two levels and how long they count."""
        return {
            "period_candles": self.period,
            "buy_below": self.low,
            "sell_above": self.high,
            "hold_candles": self.hold,
        }


def _moved(gains: Decimal, losses: Decimal, change: Decimal, sign: int) -> tuple[Decimal, Decimal]:
    """Add a change to its sum, or take it away."""
    return (gains + sign * change, losses) if change > 0 else (gains, losses - sign * change)


def _when(ago: int) -> str:
    return "now" if ago == 0 else f"{ago} candle{'s' if ago > 1 else ''} ago"
