"""The moving-average cross."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from trading_bot.feeds.candles import Candle
from trading_bot.strategies import Decision, whole_number


class MovingAverageCross:
    """Long while the fast mean of closes is above the slow one, flat otherwise. Never short.

    Args:
        fast_candles: candles in the fast mean, at least 1.
        slow_candles: candles in the slow mean, more than ``fast_candles``.
    """

    name = "MovingAverageCross"

    def __init__(self, *, fast_candles: int = 3, slow_candles: int = 8) -> None:
        self.fast = whole_number("fast_candles", fast_candles, at_least=1, at_most=5_000)
        self.slow = whole_number("slow_candles", slow_candles, at_least=2, at_most=5_000)
        if self.fast >= self.slow:
            raise ValueError(f"fast_candles={self.fast} must be less than slow_candles={self.slow}")
        self.warmup = self.slow

    def decide(self, candles: Sequence[Candle]) -> Decision:
        """Return LONG when the fast mean is above the slow one, else FLAT."""
        closes = [candle.close for candle in candles[-self.slow :]]
        fast_sum = sum(closes[-self.fast :], Decimal(0))
        slow_sum = sum(closes, Decimal(0))
        # means compared by cross multiplication: no division, so nothing is rounded
        if fast_sum * self.slow > slow_sum * self.fast:
            return Decision("LONG", f"fast mean ({self.fast}) above slow mean ({self.slow})")
        return Decision("FLAT", f"fast mean ({self.fast}) not above slow mean ({self.slow})")

    def config(self) -> dict[str, Any]:
        """Return the two window lengths."""
        return {"fast_candles": self.fast, "slow_candles": self.slow}
