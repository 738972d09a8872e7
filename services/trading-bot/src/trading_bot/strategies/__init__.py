"""What a strategy is. Two ship here; any installed package adds its own through the entry points of ``registry``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from trading_bot.feeds.candles import Candle

Target = Literal["LONG", "FLAT"]


@dataclass(frozen=True, slots=True)
class Decision:
    """What to hold from now on, and why, in words that fit ``trades.exit_reason`` (at most 100 characters)."""

    target: Target
    reason: str


class Strategy(Protocol):
    """Looks at the candles up to now and says what to hold.

    It holds no state: the same candles give the same decision, so a restarted bot decides as the one before it would
    have, and a backtest decides as the bot would have. Its class takes its parameters by keyword, each with a default,
    and raises ValueError for values that make no sense.
    """

    name: str
    warmup: int  # how many candles it needs to see, at least 1

    def decide(self, candles: Sequence[Candle]) -> Decision:
        """Return what to hold after the last of ``candles`` (oldest first, at least ``warmup`` of them)."""
        ...

    def config(self) -> dict[str, Any]:
        """Return its parameters as they were given, for ``trading_sessions.strategy_config``."""
        ...


def whole_number(name: str, value: Any, *, at_least: int, at_most: int) -> int:
    """Return a strategy's parameter that counts something.

    Raises: ValueError, it is no whole number in that range.
    """
    if not isinstance(value, int) or isinstance(value, bool) or not at_least <= value <= at_most:
        raise ValueError(f"{name}={value!r}: expected a whole number from {at_least} to {at_most}")
    return value
