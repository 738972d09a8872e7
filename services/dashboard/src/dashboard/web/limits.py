"""Five attempts a minute, counted per account and per client address."""

from __future__ import annotations

import math
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable


class AttemptLimit:
    """A sliding window of attempts per key, in memory.

    Args:
        attempts: how many within the window.
        window_s: length of the window in seconds.
        keys: how many keys are remembered; the longest unused is forgotten first, so memory is bounded.
        clock: seconds that only grow.
    """

    def __init__(
        self, attempts: int = 5, window_s: float = 60.0, keys: int = 10_000, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._attempts = attempts
        self._window_s = window_s
        self._max_keys = keys
        self._clock = clock
        self._times: OrderedDict[str, deque[float]] = OrderedDict()
        self._lock = threading.Lock()

    def take(self, *keys: str) -> int:
        """Count an attempt under every key, before it is tried; return 0, or the seconds to wait and count none."""
        with self._lock:
            now = self._clock()
            full = [window for key in keys if len(window := self._window(key, now)) >= self._attempts]
            if full:
                return math.ceil(max(window[0] + self._window_s - now for window in full))
            # only here a key is remembered: refused attempts under made-up names must not push the real ones out
            for key in keys:
                self._times.setdefault(key, deque()).append(now)
                self._times.move_to_end(key)
            while len(self._times) > self._max_keys:
                self._times.popitem(last=False)
            return 0

    def forgive(self, *keys: str) -> None:
        """Take the last attempt back: it was the right password."""
        with self._lock:
            for key in keys:
                if window := self._times.get(key):
                    window.pop()

    def _window(self, key: str, now: float) -> deque[float]:
        window = self._times.get(key, deque[float]())
        while window and window[0] <= now - self._window_s:
            window.popleft()
        return window
