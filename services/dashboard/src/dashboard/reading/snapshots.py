"""The database's last good answer to each question: a page never waits for a dead one, and never shows zeros.

A question (a page with its parameters) is asked in a thread of its own. The page waits for it for a moment; if no
answer has come by then, or an error has, it shows the last good answer with its age, and the question goes on in the
background: that is how the page recovers by itself.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Generic, TypeVar, cast

from tradedb.errors import SwitchyardError

T = TypeVar("T")
OUTAGE_PATIENCE_S = 0.5
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Trouble:
    """Why there is no fresh answer. ``since`` is when the first question failed or fell silent."""

    error: Exception | None
    since: datetime


@dataclass(frozen=True)
class Answer(Generic[T]):
    """What is known now. ``value`` is None if there was never a good answer."""

    value: T | None
    read_at: datetime | None
    age_s: float
    trouble: Trouble | None


@dataclass
class _Slot:
    value: Any = None
    read_at: datetime | None = None
    read_mono: float = 0.0
    checked_mono: float = float("-inf")
    asked_at: datetime | None = None
    trouble: Trouble | None = None
    running: asyncio.Future[Any] | None = None


class Snapshots:
    """Asks, waits a moment, and remembers.

    Args:
        patience_s: how long a page waits for the database before it shows what it has.
        fresh_for_s: how long an answer is given again without asking (a failure too: a dead database is not hammered).
        keep: how many questions are remembered; the longest unused is forgotten first.
        threads: how many questions may be under way at once.
    """

    def __init__(self, *, patience_s: float = 2.0, fresh_for_s: float = 0.7, keep: int = 48, threads: int = 4) -> None:
        self._patience_s = patience_s
        self._fresh_for_s = fresh_for_s
        self._keep = keep
        self._slots: OrderedDict[Hashable, _Slot] = OrderedDict()
        self._threads = asyncio.Semaphore(threads)
        self._tasks: set[asyncio.Task[None]] = set()
        self._out_since: datetime | None = None

    async def get(self, key: Hashable, ask: Callable[[], T]) -> Answer[T]:
        """Return the answer to a question, fresh if the database gives it in time.

        Args:
            key: names the question; the same key is asked once at a time.
            ask: asks it; called in a thread, bounded in time by what it calls.
        """
        slot = self._slots.setdefault(key, _Slot())
        self._slots.move_to_end(key)
        self._forget()
        if time.monotonic() - slot.checked_mono >= self._fresh_for_s:
            if slot.running is None:
                slot.asked_at = datetime.now(UTC)
                slot.running = asyncio.get_running_loop().create_future()
                task = asyncio.create_task(self._ask(key, slot, ask))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
            # once the database is known to be away, nobody waits long: recovery is seen by the next look
            out = self._out_since is not None
            await asyncio.wait(
                [slot.running], timeout=min(self._patience_s, OUTAGE_PATIENCE_S) if out else self._patience_s
            )
        trouble = slot.trouble
        if trouble is None and slot.running is not None and slot.asked_at is not None:
            self._out_since = self._out_since or slot.asked_at
            trouble = Trouble(None, slot.asked_at)
        if trouble is not None and self._out_since is not None:  # one outage has one beginning, whichever page saw it
            trouble = Trouble(trouble.error, min(trouble.since, self._out_since))
        age_s = time.monotonic() - slot.read_mono if slot.read_at else 0.0
        return Answer(cast("T | None", slot.value), slot.read_at, age_s, trouble)

    def newest(self) -> datetime | None:
        """Return when the database last gave a good answer to any remembered question."""
        return max((slot.read_at for slot in self._slots.values() if slot.read_at), default=None)

    async def _ask(self, key: Hashable, slot: _Slot, ask: Callable[[], Any]) -> None:
        started = datetime.now(UTC)
        try:
            async with self._threads:
                value = await _in_daemon_thread(ask)
        except Exception as error:
            if slot.trouble is None:
                known = isinstance(error, SwitchyardError)
                logger.warning("reading failed", extra={"key": str(key)[:100], "error": str(error)}, exc_info=not known)
            slot.trouble = Trouble(error, slot.trouble.since if slot.trouble else started)
            self._out_since = self._out_since or started
        else:
            self._out_since = None
            slot.value, slot.read_at, slot.read_mono = value, datetime.now(UTC), time.monotonic()
            slot.trouble = None
        finally:
            slot.checked_mono = time.monotonic()
            running, slot.running = slot.running, None
            if running is not None and not running.done():
                running.set_result(None)

    async def settle(self, timeout_s: float) -> None:
        """Wait until no question is under way, so that its connection comes back; not longer than so many seconds."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=timeout_s)

    def _forget(self) -> None:
        for key in [key for key, slot in self._slots.items() if slot.running is None][
            : max(0, len(self._slots) - self._keep)
        ]:
            del self._slots[key]


def _in_daemon_thread(work: Callable[[], T]) -> asyncio.Future[T]:
    """Run work in a thread that does not keep the process alive: a dead connection must not delay SIGTERM."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def settle(result: T | None, error: Exception | None) -> None:
        if future.done():
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(cast("T", result))

    def run() -> None:
        result, failure = None, None
        try:
            result = work()
        except Exception as error:
            failure = error
        try:
            loop.call_soon_threadsafe(settle, result, failure)
        except RuntimeError:  # the loop has closed: the process is ending
            return

    threading.Thread(target=run, daemon=True, name="database-read").start()
    return future
