"""A clock that ends what a socket's own timers cannot: a call to a server that is there but says nothing.

``tcp_user_timeout`` and keepalives notice a network that is gone. They do not notice a frozen server, or a proxy that
goes silent: the kernel at the other end still acknowledges. So every transaction has a deadline, at which its
connection's socket is shut down from here, and the blocked call returns with an error.
"""

from __future__ import annotations

import contextlib
import heapq
import itertools
import threading
import time
from collections.abc import Callable, Iterator

Abort = Callable[[], None]


class Guard:
    """One transaction's deadline. What is given to ``watch`` is aborted when the deadline passes."""

    def __init__(self, at: float) -> None:
        self.at = at
        self.expired = False
        self._lock = threading.Lock()
        self._aborts: dict[int, Abort] = {}
        self._done = False

    @property
    def remaining_s(self) -> float:
        """Return the seconds that are left; 0 when the deadline has passed."""
        return max(0.0, self.at - time.monotonic())

    def watch(self, key: int, abort: Abort) -> None:
        """Abort this at the deadline too; at once when it has passed already."""
        with self._lock:
            self._aborts[key] = abort
            if self.expired:
                abort()

    def forget(self, key: int) -> None:
        """Leave this alone from now on: it is closed."""
        with self._lock:
            self._aborts.pop(key, None)

    def release(self) -> None:
        """Abort nothing any more: the transaction is over. After this returns, no abort is under way."""
        with self._lock:
            self._done = True
            self._aborts.clear()

    def expire(self) -> None:
        """Abort everything that is watched, unless the transaction is over."""
        with self._lock:
            if self._done:
                return
            self.expired = True
            for abort in self._aborts.values():
                with contextlib.suppress(Exception):  # closed meanwhile: then nothing is blocked on it
                    abort()


class Watchdog:
    """One thread that expires guards on time. It starts with the first guard; a transaction pays a few microseconds."""

    def __init__(self) -> None:
        self._wake = threading.Condition()
        self._heap: list[tuple[float, int, Guard]] = []
        self._order = itertools.count()
        self._thread: threading.Thread | None = None
        self._current = threading.local()

    def current(self) -> Guard | None:
        """Return the guard of the transaction that this thread is in."""
        return getattr(self._current, "guard", None)

    @contextlib.contextmanager
    def guard(self, at: float) -> Iterator[Guard]:
        """Yield a guard that expires at this ``time.monotonic()``, unless an outer one expires earlier."""
        outer = self.current()
        guard = Guard(min(at, outer.at) if outer else at)
        with self._wake:
            heapq.heappush(self._heap, (guard.at, next(self._order), guard))
            if self._thread is None or not self._thread.is_alive():  # also in a child after fork
                self._thread = threading.Thread(target=self._run, name="tradedb-deadlines", daemon=True)
                self._thread.start()
            elif self._heap[0][2] is guard:
                self._wake.notify()
        self._current.guard = guard
        try:
            yield guard
        finally:
            self._current.guard = outer
            guard.release()

    def _run(self) -> None:
        """Wait for the earliest guard, expire it, and so on."""
        while True:
            with self._wake:
                while not self._heap:
                    self._wake.wait()
                left = self._heap[0][0] - time.monotonic()
                if left > 0:
                    self._wake.wait(left)
                    continue
                guard = heapq.heappop(self._heap)[2]
            guard.expire()


watchdog = Watchdog()
"""The process's one clock."""
