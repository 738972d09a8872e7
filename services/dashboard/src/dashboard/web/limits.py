"""How often somebody may try: passwords, tokens, and the API as such. All in memory, all bounded."""

from __future__ import annotations

import math
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass

PER_CLIENT = 5
PER_ACCOUNT = 5
PER_ACCOUNT_AGAIN = 4  # of the five, for networks that have failed before: one is always left for one that has not
PER_DEVICE = 5
REMEMBER_FAILURES_S = 24 * 60 * 60
MAX_KEYS = 10_000


class AttemptLimit:
    """A sliding window of attempts per key, in memory.

    Args:
        window_s: length of the window in seconds.
        keys: how many keys are remembered; the longest unused is forgotten first, so memory is bounded.
        clock: seconds that only grow.
    """

    def __init__(
        self, window_s: float = 60.0, keys: int = MAX_KEYS, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._window_s = window_s
        self._max_keys = keys
        self._clock = clock
        self._times: OrderedDict[str, deque[float]] = OrderedDict()
        self._lock = threading.Lock()

    def take(self, limits: Mapping[str, int]) -> int:
        """Count an attempt under every key, before it is tried; return 0, or the seconds to wait and count none.

        Args:
            limits: for each key, how many attempts a window may have.
        """
        with self._lock:
            now = self._clock()
            full = [window for key, most in limits.items() if len(window := self._window(key, now)) >= most]
            if full:
                return math.ceil(max(window[0] + self._window_s - now for window in full))
            # only here a key is remembered: refused attempts under made-up names must not push the real ones out
            for key in limits:
                self._times.setdefault(key, deque()).append(now)
                self._times.move_to_end(key)
            while len(self._times) > self._max_keys:
                self._times.popitem(last=False)
            return 0

    def wait_s(self, limits: Mapping[str, int]) -> int:
        """Return the seconds that `take` would say, and count nothing."""
        with self._lock:
            now = self._clock()
            full = [window for key, most in limits.items() if len(window := self._window(key, now)) >= most]
            return math.ceil(max((window[0] + self._window_s - now for window in full), default=0))

    def forgive(self, *keys: str) -> None:
        """Take the last attempt back: it was the right one."""
        with self._lock:
            for key in keys:
                if window := self._times.get(key):
                    window.pop()

    def _window(self, key: str, now: float) -> deque[float]:
        window = self._times.get(key, deque[float]())
        while window and window[0] <= now - self._window_s:
            window.popleft()
        return window


@dataclass(frozen=True)
class Attempt:
    """One attempt to sign in. It may be tried if ``wait_s`` is 0; ``again``: its network has failed before."""

    wait_s: int
    network: str
    device: str | None = None
    again: bool = False


class LoginLimit:
    """Five attempts a minute per client and for the account, without giving strangers a way to keep the owner out.

    - A browser that has signed in before shows its device cookie and has a count of its own: what strangers do does not
      touch it. A stolen device cookie buys five attempts a minute, as any address does.
    - Everybody else shares the account's five. Networks that have failed within a day share four of them, so a stranger
      who tries without end leaves one a minute to the owner at a new browser.

    There is one account, so every name counts as it: made-up names neither gain attempts nor tell which name is right.

    Source: https://owasp.org/www-community/Slow_Down_Online_Guessing_Attacks_with_Device_Cookies

    Args:
        clock: seconds that only grow.
        keys: how many clients and devices are remembered.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic, keys: int = MAX_KEYS) -> None:
        self._clock = clock
        self._limit = AttemptLimit(keys=keys, clock=clock)
        self._shared = AttemptLimit(keys=2, clock=clock)  # apart: no number of clients pushes the account's count out
        self._failed: OrderedDict[str, float] = OrderedDict()
        self._max_failed = keys
        self._lock = threading.Lock()

    def take(self, network: str, device: str | None) -> Attempt:
        """Count an attempt before it is tried, or say how long to wait, and then count none.

        Args:
            network: whence, as ``Visitor.network`` says.
            device: the id in a device cookie that we signed, else None.
        """
        if device is not None:
            return Attempt(self._limit.take({f"device:{device}": PER_DEVICE}), network, device)
        client = {f"client:{network}": PER_CLIENT}
        with self._lock:
            again = self._failed.get(network, float("-inf")) > self._clock() - REMEMBER_FAILURES_S
            shared = {"account": PER_ACCOUNT} | ({"account-again": PER_ACCOUNT_AGAIN} if again else {})
            wait_s = self._limit.wait_s(client) or self._shared.take(shared)
            if not wait_s:
                self._limit.take(client)
                self._failed[network] = self._clock()
                self._failed.move_to_end(network)
                while len(self._failed) > self._max_failed:
                    self._failed.popitem(last=False)
            return Attempt(wait_s, network, again=again)

    def forgive(self, attempt: Attempt) -> None:
        """Take an attempt back: it was the right password."""
        if attempt.device is not None:
            self._limit.forgive(f"device:{attempt.device}")
            return
        with self._lock:
            self._limit.forgive(f"client:{attempt.network}")
            self._shared.forgive("account", *(["account-again"] if attempt.again else []))
            self._failed.pop(attempt.network, None)
