"""Names that are derived from what they name, so that the same thing always has the same name."""

from __future__ import annotations

from datetime import UTC, datetime
from hashlib import blake2b

_DIGEST_BYTES = 16


def intent_id(*, venue: str, strategy: str, symbol: str, signal_time: datetime, leg: str, n: int = 0) -> str:
    """Return the id of the decision: deciding the same thing again gives the same one.

    Args:
        venue: where it is to be carried out: the same signal on another venue is another decision.
        strategy: its name.
        symbol: like ``BTCUSDT``.
        signal_time: close of the candle that was decided on, aware.
        leg: ``ENTRY`` or ``EXIT``.
        n: number of the order, when one decision makes several.
    """
    return _digest("intent", venue, strategy, symbol, signal_time.astimezone(UTC).isoformat(), leg, str(n))


def paper_order_id(intent: str) -> str:
    """Return the paper venue's id of the order that an intent became."""
    return f"paper-{_digest('order', intent)}"


def paper_trade_id(intent: str, n: int = 0) -> str:
    """Return the paper venue's id of the ``n``-th fill of an intent."""
    return f"paper-{_digest('fill', intent, str(n))}"


def _digest(*parts: str) -> str:
    return blake2b("\x1f".join(parts).encode(), digest_size=_DIGEST_BYTES).hexdigest()
