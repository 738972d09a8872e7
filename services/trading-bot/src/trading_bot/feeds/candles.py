"""A candle, and how candles are numbered."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal


@dataclass(frozen=True, slots=True)
class Candle:
    """What one interval traded at, in quote currency. ``index`` counts intervals since 1970-01-01 UTC."""

    venue: str
    symbol: str
    index: int
    open_time: datetime
    close_time: datetime
    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal
    volume: Decimal


def latest_closed(now: datetime, interval_s: int) -> int:
    """Return the index of the newest candle that is complete at ``now`` (aware UTC).

    Args:
        now: aware.
        interval_s: length of a candle in seconds.
    """
    return int(now.timestamp()) // interval_s - 1


def open_time(index: int, interval_s: int) -> datetime:
    """Return when candle ``index`` opens; candle ``index - 1`` closes then."""
    return datetime.fromtimestamp(0, UTC) + timedelta(seconds=index * interval_s)
