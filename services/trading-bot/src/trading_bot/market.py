"""The market as the loop sees it: sound candles, the last of them at hand, and what was wrong with the others."""

from __future__ import annotations

import logging
import time
from collections import Counter, deque
from collections.abc import Callable
from datetime import datetime
from typing import Any

from tradedb.errors import SwitchyardError

from trading_bot.diary import Diary
from trading_bot.feeds import Feed
from trading_bot.feeds.candles import Candle
from trading_bot.feeds.screen import Refusal, Screen
from trading_bot.halts import Halts

REFUSALS_TOLD_EVERY_S = 60.0
REFUSED_CODE = "BOT-022"
DISTRUSTED_AFTER = 3  # refused candles in a row
SILENT_CODE = "BOT-020"
SILENT_CANDLES = 3
SILENT_AT_LEAST_S = 60.0

log = logging.getLogger(__name__)


class Market:
    """The newest candles of a feed.

    Args:
        feed: where candles come from, raw.
        window: how many candles are looked at when one closes.
        diary: told of refused candles, at most once a minute for each reason.
        halts: nothing is opened while the feed does not answer, or gives nothing.
        monotonic: seconds that no clock's step changes; tests set it.
    """

    def __init__(
        self,
        feed: Feed,
        *,
        window: int,
        diary: Diary,
        halts: Halts,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._feed = Screen(feed, report=self._refused)
        self._diary = diary
        self._halts = halts
        self._window: deque[Candle] = deque(maxlen=window)
        self._refusals: Counter[str] = Counter()
        self._told_at: dict[str, float] = {}
        self._past_read = False
        self._unread: list[Candle] = []  # came, but the past that leads up to them could not be asked for
        self._refused_in_a_row = 0
        self._silent_after_s = max(SILENT_CANDLES * feed.interval_s, SILENT_AT_LEAST_S)
        self._monotonic = monotonic
        self._given_at = monotonic()
        self.refused = 0

    @property
    def window(self) -> list[Candle]:
        """Return the last candles, oldest first: as many as are looked at, where there are that many."""
        return list(self._window)

    @property
    def newest(self) -> Candle | None:
        """Return the last candle; None before the first."""
        return self._window[-1] if self._window else None

    def poll(self, now: datetime) -> list[Candle]:
        """Return the candles that closed since the last call, oldest first; none while the feed does not answer."""
        try:
            if not self._past_read:  # before the first candle: there is nothing else to hold its price against
                self._read_past(now, before=None)
                self._past_read = True
            self._unread += self._feed.poll(now)
            if self._unread and self._broken_before(self._unread[0]):
                self._read_past(now, before=self._unread[0].index)
        except SwitchyardError as error:
            if not error.code.startswith("BOT-02"):
                raise
            self._halts.set("feed", f"{error.code}: {error.what}", error_code=error.code)
            return []
        candles, self._unread = self._unread, []
        if candles:
            self._refused_in_a_row = 0
            self._given_at = self._monotonic()
        self._window.extend(candles)
        why = self._distrust()
        self._halts.set("feed", why, severity="error", error_code=why and why.partition(":")[0])
        return candles

    def close(self) -> None:
        """Close the feed."""
        self._feed.close()

    def _read_past(self, now: datetime, *, before: int | None) -> None:
        """Fill the window with what closed before a candle; before none: with the newest."""
        past = self._feed.history(self._window.maxlen or 0, now)
        self._window.clear()
        self._window.extend(candle for candle in past if before is None or candle.index < before)

    def _distrust(self) -> str | None:
        """Return why nothing is to be opened on this feed now; None when its last candle was sound."""
        if self._refused_in_a_row >= DISTRUSTED_AFTER:
            return (
                f"{REFUSED_CODE}: the feed's last {DISTRUSTED_AFTER} candles or more were refused; the events say why"
            )
        if self._monotonic() - self._given_at > self._silent_after_s:
            return (
                f"{SILENT_CODE}: no candle for more than {self._silent_after_s:.0f} s, so no stop is looked at either: "
                "the feed is silent, or this machine's clock was put back"
            )
        return None

    def _broken_before(self, candle: Candle) -> bool:
        """Whether the window does not lead up to this candle: at the start, and after a gap."""
        return not self._window or self._window[-1].index != candle.index - 1

    def _refused(self, refusal: Refusal) -> None:
        """Count it, and tell of it when the minute of its reason is over."""
        self.refused += 1
        self._refused_in_a_row += refusal.refused
        self._refusals[refusal.reason] += 1
        last = self._told_at.get(refusal.reason)
        if last is not None and time.monotonic() < last + REFUSALS_TOLD_EVERY_S:
            return
        self._told_at[refusal.reason] = time.monotonic()
        count = self._refusals.pop(refusal.reason)
        details: dict[str, Any] = {**refusal.details(), "count": count}
        log.warning("candle_refused" if refusal.refused else "candles_missing", extra=details)
        what = f"{count} candles were refused, the last one" if count > 1 else "a candle was refused"
        self._diary.tell(
            "ALERT",
            "warning",
            f"{what}: {refusal.reason}, {refusal.detail}" if refusal.refused else f"candles: {refusal.detail}",
            error_code=REFUSED_CODE,
            details=details,
        )
