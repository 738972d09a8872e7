"""How fast the database grows: seen by this dashboard since it was started, and expected from the rows of the last day.

Nothing is written anywhere for it: the role of the dashboard writes nothing. What was seen is in this process's memory
and begins anew with it; what is expected comes from sums that are there anyway.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

DAY_S = 86_400.0


@dataclass(frozen=True)
class Growth:
    """``seen_bytes`` is how much larger the database is than ``seen_for_s`` seconds ago; None: not watched long enough.

    ``expected_bytes_a_day`` is what the rows of the last 24 hours take, None without statistics; ``rows_a_day`` says of
    which tables.
    """

    seen_bytes: int | None
    seen_for_s: float | None
    expected_bytes_a_day: int | None
    rows_a_day: dict[str, int]

    @property
    def seen_bytes_a_day(self) -> float | None:
        """Return what was seen, in bytes a day."""
        if self.seen_bytes is None or not self.seen_for_s:
            return None
        return self.seen_bytes / self.seen_for_s * DAY_S


class SizeHistory:
    """Remembers how large the database was, for a week, in a few hundred numbers.

    Args:
        every_s: seconds between two remembered sizes.
        keep_s: how long they are remembered, in seconds.
        settle_s: seconds before the first comparison: a minute says nothing of a day.
        clock: seconds that only ever go forward.
    """

    def __init__(
        self,
        *,
        every_s: float = 600.0,
        keep_s: float = 7 * DAY_S,
        settle_s: float = 900.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._every_s, self._settle_s, self._clock = every_s, settle_s, clock
        self._samples: deque[tuple[float, int]] = deque(maxlen=int(keep_s / every_s) + 1)
        self._lock = threading.Lock()

    def seen(self, size_bytes: int) -> tuple[int, float] | None:
        """Remember a size, and return how much it is above the oldest one and for how many seconds; None: too soon."""
        now = self._clock()
        with self._lock:
            if not self._samples or now - self._samples[-1][0] >= self._every_s:
                self._samples.append((now, size_bytes))
            at, then = self._samples[0]
        return (size_bytes - then, now - at) if now - at >= self._settle_s else None
