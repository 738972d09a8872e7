"""What a strategy is, and the one that ships: the moving-average cross."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal, Protocol

from trading_bot.feed import Candle

Target = Literal["LONG", "FLAT"]


@dataclass(frozen=True, slots=True)
class Decision:
    """What to hold from now on, and why, in words that fit ``trades.exit_reason`` (at most 100 characters)."""

    target: Target
    reason: str


class Strategy(Protocol):
    """Looks at the candles up to now and says what to hold.

    It holds no state: the same candles give the same decision, so a restarted bot decides as the one before it would
    have.
    """

    name: str
    warmup: int  # how many candles it needs to see

    def decide(self, candles: Sequence[Candle]) -> Decision:
        """Return what to hold after the last of ``candles`` (oldest first, at least ``warmup`` of them)."""
        ...

    def config(self) -> dict[str, Any]:
        """Return its parameters, for ``trading_sessions.strategy_config``."""
        ...


class MovingAverageCross:
    """Long while the fast mean of closes is above the slow one, flat otherwise. Never short.

    Args:
        fast: candles in the fast mean, at least 1.
        slow: candles in the slow mean, more than ``fast``.
    """

    name = "MovingAverageCross"

    def __init__(self, *, fast: int, slow: int) -> None:
        if not 1 <= fast < slow:
            raise ValueError(f"fast={fast} and slow={slow}: expected 1 <= fast < slow")
        self.fast = fast
        self.slow = slow
        self.warmup = slow

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
