"""The guard before every feed: what cannot be true, or comes at the wrong time, is refused and reported."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from statistics import median
from typing import Literal

from trading_bot.feeds import Feed
from trading_bot.feeds.candles import Candle, open_time

JUMP_FACTOR = 10  # no market's price grows or shrinks tenfold within one candle; a slipped decimal point does
LATE_AT_MOST_S = 120.0
LATE_AT_LEAST_S = 5.0
_REMEMBERED = 64  # given candles that a repetition is recognised by

Reason = Literal["absurd", "jump", "misaligned", "not_closed", "late", "repeated", "out_of_order", "gap"]


@dataclass(frozen=True, slots=True)
class Refusal:
    """What was wrong with a candle. ``refused`` is False for a gap: the candle itself is sound."""

    reason: Reason
    detail: str
    candle: Candle
    refused: bool = True

    def details(self) -> dict[str, str | int | bool]:
        """Return the same as plain values, for ``system_events.details``."""
        candle = self.candle
        return {
            "reason": self.reason,
            "refused": self.refused,
            "detail": self.detail,
            "venue": candle.venue,
            "symbol": candle.symbol,
            "open_time": candle.open_time.isoformat(),
            "open": str(candle.open),
            "high": str(candle.high),
            "low": str(candle.low),
            "close": str(candle.close),
            "volume": str(candle.volume),
        }


class Screen:
    """A feed that lets only sound candles of another feed through, each once and in order.

    Refused is what is ``absurd`` (not a number, not above zero, a high below a low, a negative volume), a ``jump`` (the
    price ten times what it was, or a tenth), ``misaligned`` (not on the grid of the interval), ``not_closed`` yet,
    ``late`` (its interval was over, and asked for, before), ``repeated`` or ``out_of_order``. A ``gap`` is reported and
    the candle behind it let through; whoever needs an unbroken row asks for ``history`` again.

    Args:
        feed: what is looked at.
        report: told of each refusal and each gap.
    """

    def __init__(self, feed: Feed, report: Callable[[Refusal], None]) -> None:
        self.name = feed.name
        self.venue = feed.venue
        self.symbol = feed.symbol
        self.interval_s = feed.interval_s
        self.simulated = feed.simulated
        self._feed = feed
        self._report = report
        self._given: deque[Candle] = deque(maxlen=_REMEMBERED)
        self._reference: Decimal | None = None  # the last price that was believed
        self._asked_at: datetime | None = None
        self._late = timedelta(seconds=min(max(feed.interval_s, LATE_AT_LEAST_S), LATE_AT_MOST_S))

    def history(self, count: int, now: datetime) -> list[Candle]:
        """Return the sound ones of the last ``count`` candles closed at ``now``, oldest first.

        Their prices are compared with the middle one of them all, so a wrong one at the start does not make the others
        look wrong.
        """
        sound: list[Candle] = []
        for candle in self._feed.history(count, now):
            if self._believable(candle, now) and self._in_order(candle, sound):
                sound.append(candle)
        if not sound:
            return []
        middle = median(candle.close for candle in sound)
        kept = [candle for candle in sound if self._near(candle, middle)]
        if self._reference is None and kept:
            self._reference = kept[-1].close
        return kept

    def poll(self, now: datetime) -> list[Candle]:
        """Return the sound ones of the candles that closed since the last call."""
        before, raw = self._asked_at, self._feed.poll(now)
        self._asked_at = now if before is None else max(before, now)
        # asked for the first time, a candle is late when the one after it has closed as well
        due = now - timedelta(seconds=self.interval_s) if before is None else before
        given = []
        for candle in raw:
            if (
                self._believable(candle, now)
                and self._in_order(candle, self._given)
                and self._in_time(candle, due)
                and (self._reference is None or self._near(candle, self._reference))
            ):
                self._note_gap(candle)
                self._given.append(candle)
                self._reference = candle.close
                given.append(candle)
        return given

    def close(self) -> None:
        """Close the feed behind."""
        self._feed.close()

    # --- what can be wrong --------------------------------------------------------------------------------------------

    def _believable(self, candle: Candle, now: datetime) -> bool:
        """Whether the values can be true, and their time has come."""
        prices = (candle.open, candle.high, candle.low, candle.close)
        if not all(value.is_finite() for value in (*prices, candle.volume)):
            return self._refuse("absurd", candle, "not every value is a number")
        if min(prices) <= 0:
            return self._refuse("absurd", candle, f"a price of {min(prices):f} is not above zero")
        if candle.high < max(prices) or candle.low > min(prices):
            return self._refuse("absurd", candle, "a price lies outside low and high")
        if candle.volume < 0:
            return self._refuse("absurd", candle, f"a volume of {candle.volume:f} is negative")
        span = timedelta(seconds=self.interval_s)
        opens = open_time(candle.index, self.interval_s)
        if candle.open_time != opens or candle.close_time != opens + span:
            said = f"{candle.open_time.isoformat()} to {candle.close_time.isoformat()}"
            return self._refuse("misaligned", candle, f"{said} is no interval of {self.interval_s} s")
        if candle.close_time > now:
            return self._refuse("not_closed", candle, f"its interval ends after {now.isoformat()}")
        return True

    def _in_order(self, candle: Candle, given: Sequence[Candle]) -> bool:
        """Whether it is newer than those that were given, which are in order."""
        if not given or candle.index > given[-1].index:
            return True
        same = next((other for other in given if other.index == candle.index), None)
        if same is not None:
            return self._refuse("repeated", candle, "given before" if same == candle else "given with other values")
        newest = given[-1].open_time.isoformat()
        return self._refuse("out_of_order", candle, f"the one of {newest} came before it")

    def _in_time(self, candle: Candle, due: datetime) -> bool:
        """Whether it came at the first time that somebody asked after its close, but for what a venue needs."""
        if candle.close_time + self._late >= due:
            return True
        return self._refuse("late", candle, f"it closed {(due - candle.close_time).total_seconds():.0f} s too early")

    def _near(self, candle: Candle, reference: Decimal) -> bool:
        if candle.high < reference * JUMP_FACTOR and candle.low * JUMP_FACTOR > reference:
            return True
        return self._refuse(
            "jump", candle, f"{candle.low:f} to {candle.high:f} is {JUMP_FACTOR} times away from {reference:f}"
        )

    def _note_gap(self, candle: Candle) -> None:
        if self._given and candle.index > self._given[-1].index + 1:
            missing = candle.index - self._given[-1].index - 1
            detail = f"{missing} candle{'s are' if missing > 1 else ' is'} missing before it"
            self._report(Refusal("gap", detail, candle, refused=False))

    def _refuse(self, reason: Reason, candle: Candle, detail: str) -> bool:
        self._report(Refusal(reason, detail, candle))
        return False
