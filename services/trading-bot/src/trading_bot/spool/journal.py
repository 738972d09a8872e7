"""The spool itself: append, acknowledge, read back, prune."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from trading_bot.spool import files, segments
from trading_bot.spool.errors import SpoolFull
from trading_bot.spool.frames import frame
from trading_bot.spool.segments import Entry, Record, Torn

MIB = 1024 * 1024
PROBE_DISK_S = 1.0  # after it refused
CLOSE_ONLY_SHARE = 0.75  # of the limit: the rest is for what closing a position takes
_PROBE_BYTES = 4096
_SEGMENTS = 16  # files that a spool at its limit has
_SEGMENT_BYTES = (64 * 1024, 4 * MIB)  # of a file, at least and at most

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Opened:
    """What a spool found when it was opened.

    ``identity`` is that of the database that acknowledged last; None when none ever did.
    """

    torn_bytes: int
    entries: int
    unacknowledged: int
    identity: str | None


@dataclass(frozen=True, slots=True)
class SpoolState:
    """How the spool stands. ``close_only``: nothing may be opened any more; ``full``: nothing more can be written.

    ``bytes`` are those of the entries that are not acknowledged, which ``limit_bytes`` bounds; ``disk_bytes`` those of
    all its files. ``reason`` says in words why it is close-only or full.
    """

    entries: int
    unacknowledged: int
    bytes: int
    limit_bytes: int
    oldest_unacknowledged_s: float | None
    close_only: bool
    full: bool
    disk_bytes: int
    reason: str | None


@dataclass(slots=True)
class _Segment:
    """A file of the spool, and what of it is still needed."""

    first: int
    path: Path
    size: int = 0
    entries: int = 0
    unacknowledged: int = 0
    acknowledged_at: datetime | None = None  # when the last of its entries was


@dataclass(slots=True)
class _Waiting:
    """An entry that no database has acknowledged."""

    segment: _Segment
    size: int
    since: float  # monotonic


class Spool:
    """A journal of facts in a folder, for one process at a time.

    Args:
        folder: its own; made where it is not there.
        limit_bytes: how much may wait for the database.
        limit_age_s: seconds after which an entry that waits makes the spool close-only.
        keep_acked_s: seconds that an entry is kept after it was acknowledged, at least.
        keep_bytes: how much is kept of what was acknowledged, at most; four times ``limit_bytes`` without it.
        now: the wall clock, aware UTC. Only how long acknowledged entries are kept depends on it.
        monotonic: seconds of a clock that nobody sets.
    """

    def __init__(
        self,
        folder: Path,
        *,
        limit_bytes: int = 64 * MIB,
        limit_age_s: float = 900,
        keep_acked_s: float = 86_400,
        keep_bytes: int | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.folder = folder
        self._limit_bytes = limit_bytes
        self._limit_age_s = limit_age_s
        self._keep_acked = timedelta(seconds=keep_acked_s)
        self._keep_bytes = 4 * limit_bytes if keep_bytes is None else keep_bytes
        self._segment_bytes = min(max(limit_bytes // _SEGMENTS, _SEGMENT_BYTES[0]), _SEGMENT_BYTES[1])
        self._now = now
        self._monotonic = monotonic
        self._guard = threading.RLock()  # the loop writes, the probes ask how it stands
        self._lock_fd: int | None = None
        self._fd = -1
        self._segments: list[_Segment] = []
        self._waiting: dict[int, _Waiting] = {}  # by number, oldest first
        self._waiting_bytes = 0
        self._unwritten: dict[str, set[int]] = {}  # acknowledgements that the disk had no room for, by identity
        self._next = 1
        self._refused: str | None = None  # why the disk took the last record not
        self._refused_bytes = 0  # of that record
        self._probe_at = 0.0  # when to ask it again
        self._rest = False  # there may be something after the last record
        self._readers = 0

    # --- opening ------------------------------------------------------------------------------------------------------

    def open(self) -> Opened:
        """Take the folder, look at everything in it, and cut off the torn record that a crash may have left.

        Raises:
            SpoolBusy: another process has it.
            SpoolCorrupt: something in it is not what was written; nothing is changed.
            SwitchyardError: BOT-032, the folder cannot be used.
        """
        with self._guard:
            if self._lock_fd is not None:
                raise RuntimeError("the spool is open")
            files.make_folder(self.folder)
            self._lock_fd = files.lock(self.folder)
            try:
                return self._read()
            except OSError as error:
                self.close()
                raise files.unusable(self.folder, error.strerror or str(error)) from error
            except BaseException:
                self.close()
                raise

    def _read(self) -> Opened:
        identity: str | None = None
        now, monotonic = self._now(), self._monotonic()
        torn: Torn | None = None
        for path, record in segments.records(self.folder):
            if not self._segments or self._segments[-1].path != path:
                self._segments.append(_Segment(first=int(path.stem), path=path))
                self._next = self._segments[-1].first
            if isinstance(record, Torn):
                torn = record
            elif record is not None:
                self._next = record.content.number + 1
                if isinstance(record.content, Entry):
                    age_s = max(0.0, (now - record.content.appended_at).total_seconds())
                    self._enter(record.content.number, record.size, since=monotonic - age_s)
                else:
                    self._segments[-1].size += record.size
                    identity = record.content.identity
                    self._settle(record.content.numbers(), record.content.at)
        if self._segments:
            self._fd = os.open(self._segments[-1].path, os.O_RDWR | os.O_CLOEXEC)
            if torn is not None:
                files.cut(self._fd, torn.offset)
                log.warning("spool_torn_record_cut", extra={"file": str(torn.path), "bytes": torn.size})
            # what a killed process wrote may stand in the page cache only: it is taken for durable from now on
            files.cut(self._fd, self._segments[-1].size)
        return Opened(
            torn_bytes=torn.size if torn else 0,
            entries=self._entries(),
            unacknowledged=len(self._waiting),
            identity=identity,
        )

    def close(self) -> None:
        """Let go of the folder. What is in it stays."""
        with self._guard:
            if self._fd >= 0:
                os.close(self._fd)
                self._fd = -1
            if self._lock_fd is not None:
                os.close(self._lock_fd)
                self._lock_fd = None
            self._segments.clear()
            self._waiting.clear()
            self._unwritten.clear()
            self._waiting_bytes = 0
            self._next = 1
            self._refused, self._refused_bytes = None, 0
            self._rest = False

    # --- writing ------------------------------------------------------------------------------------------------------

    def append(self, kind: str, key: str, body: Mapping[str, Any]) -> int:
        """Write a fact down and return its number; it is on the disk then.

        Args:
            kind: like ``fill``.
            key: what names the fact among those of its kind.
            body: JSON; decimals and times as text.

        Raises: SpoolFull, nothing was written. TypeError, ValueError: the body is no JSON.
        """
        with self._guard:
            self._require_open()
            number = self._next
            data = frame(segments.payload_of_entry(number, self._now(), kind, key, body))
            self._refuse_beyond_limit()
            self._write(data)
            self._enter(number, len(data), since=self._monotonic())
            return number

    def acknowledge(self, numbers: Iterable[int], identity: str) -> None:
        """Write down that the database ``identity`` has these entries; they are kept for a while all the same.

        A disk without room does not stop this: it is written with the next one then, and if the process ends before,
        the entries are replayed once more.
        """
        with self._guard:
            self._require_open()
            new = [number for number in numbers if number in self._waiting]
            if not new:
                return
            now = self._now()
            self._settle(new, now)
            self._unwritten.setdefault(identity, set()).update(new)
            for by, taken in list(self._unwritten.items()):
                try:
                    data = frame(segments.payload_of_acknowledgement(self._next, now, by, taken))
                    self._write(data)
                except SpoolFull as error:
                    log.warning("spool_acknowledgement_not_written", extra={"entries": len(taken), "why": error.what})
                    return
                self._segments[-1].size += len(data)
                del self._unwritten[by]

    def prune(self) -> int:
        """Remove the oldest files of which everything was acknowledged long enough ago; return how many entries went.

        When more is kept than there is room for, files go before their time, and the log says so.
        """
        with self._guard:
            self._require_open()
            gone = 0
            while not self._readers and len(self._segments) > 1 and self._may_go(self._segments[0]):
                oldest = self._segments[0]
                oldest.path.unlink(missing_ok=True)
                files.sync_folder(self.folder)
                self._segments.pop(0)
                gone += oldest.entries
            return gone

    def _may_go(self, segment: _Segment) -> bool:
        if segment.unacknowledged:
            return False
        if segment.acknowledged_at is None or self._now() - segment.acknowledged_at >= self._keep_acked:
            return True
        if self._disk_bytes() - self._waiting_bytes <= self._keep_bytes:
            return False
        log.warning("spool_kept_for_less_long", extra={"file": segment.path.name, "keep_bytes": self._keep_bytes})
        return True

    def _write(self, data: bytes) -> None:
        """Put one record at the end; on an error the file ends where it did before."""
        try:
            if not self._segments or self._segments[-1].size + len(data) > self._segment_bytes:
                self._begin_segment()
            self._put(data)
        except OSError as error:
            self._refused, self._refused_bytes = error.strerror or str(error), len(data)
            self._probe_at = self._monotonic() + PROBE_DISK_S
            raise self._disk_refuses(error) from error
        if len(data) >= self._refused_bytes:  # the last few bytes of a disk take an acknowledgement, and not a fill
            self._refused, self._refused_bytes = None, 0
        self._next += 1

    def _put(self, data: bytes) -> None:
        self._cut_rest()
        self._rest = True
        try:
            files.append(self._fd, data, end=self._segments[-1].size)
            self._rest = False
        finally:
            with suppress(OSError):  # what cannot be cut off now is cut off before anything else is written
                self._cut_rest()

    def _cut_rest(self) -> None:
        """Cut off what a write that failed may have left, so that nothing is ever written before it."""
        if self._rest:
            files.cut(self._fd, self._segments[-1].size)
            self._rest = False

    def _begin_segment(self) -> None:
        path = self.folder / segments.segment_name(self._next)
        if self._segments and self._segments[-1].path == path:
            return  # a file that has nothing in it yet is as good as a new one
        if self._segments:
            self._cut_rest()  # only the newest file may end in something torn
        fd = files.create(path)
        if self._fd >= 0:
            os.close(self._fd)
        self._fd = fd
        self._segments.append(_Segment(first=self._next, path=path))
        self.prune()

    # --- reading ------------------------------------------------------------------------------------------------------

    def unacknowledged(self) -> list[Entry]:
        """Return what no database has acknowledged, oldest first."""
        with self._guard:
            self._require_open()
            oldest = next(iter(self._waiting), None)
            if oldest is None:
                return []
            return [entry for entry in self._read_back(oldest) if not entry.acknowledged]

    def retained(self) -> Iterator[Entry]:
        """Give everything that is there now, acknowledged or not, oldest first, reading as it goes.

        Meanwhile entries may be acknowledged and appended; nothing is pruned.
        """
        with self._guard:
            self._require_open()
            end = self._next
            self._readers += 1
        try:
            for entry in self._read_back(0):
                if entry.number >= end:
                    break
                yield entry
        finally:
            with self._guard:
                self._readers -= 1

    def _read_back(self, since: int) -> Iterator[Entry]:
        for _, record in segments.records(self.folder, since=since):
            if isinstance(record, Record) and isinstance(record.content, Entry):
                yield replace(record.content, acknowledged=record.content.number not in self._waiting)

    def state(self) -> SpoolState:
        """Return how the spool stands."""
        with self._guard:
            self._require_open()
            self._probe_disk()
            oldest = next(iter(self._waiting.values()), None)
            age_s = None if oldest is None else max(0.0, self._monotonic() - oldest.since)
            full = self._refused or self._at_limit()
            close_only = full
            if close_only is None and self._waiting_bytes >= CLOSE_ONLY_SHARE * self._limit_bytes:
                close_only = f"{self._waiting_bytes} of {self._limit_bytes} bytes wait for the database"
            if close_only is None and age_s is not None and age_s >= self._limit_age_s:
                close_only = f"an entry waits for the database since {age_s:.0f} s"
            return SpoolState(
                entries=self._entries(),
                unacknowledged=len(self._waiting),
                bytes=self._waiting_bytes,
                limit_bytes=self._limit_bytes,
                oldest_unacknowledged_s=age_s,
                close_only=close_only is not None,
                full=full is not None,
                disk_bytes=self._disk_bytes(),
                reason=close_only,
            )

    # --- helpers ------------------------------------------------------------------------------------------------------

    def _enter(self, number: int, size: int, *, since: float) -> None:
        """Count an entry that is in the newest file."""
        segment = self._segments[-1]
        segment.size += size
        segment.entries += 1
        segment.unacknowledged += 1
        self._waiting[number] = _Waiting(segment, size, since)
        self._waiting_bytes += size

    def _settle(self, numbers: Iterable[int], at: datetime) -> None:
        """Count entries as acknowledged; those that are pruned already are passed over."""
        for number in numbers:
            waiting = self._waiting.pop(number, None)
            if waiting is not None:
                waiting.segment.unacknowledged -= 1
                waiting.segment.acknowledged_at = at
                self._waiting_bytes -= waiting.size

    def _entries(self) -> int:
        return sum(segment.entries for segment in self._segments)

    def _disk_bytes(self) -> int:
        return sum(segment.size for segment in self._segments)

    def _require_open(self) -> None:
        if self._lock_fd is None:
            raise RuntimeError("the spool is not open")

    def _at_limit(self) -> str | None:
        """Why nothing more may be appended; None when something may."""
        if self._waiting_bytes >= self._limit_bytes:
            return f"{self._waiting_bytes} bytes wait for the database, and {self._limit_bytes} may"
        most = self._limit_bytes + self._keep_bytes + self._segment_bytes
        if self._disk_bytes() >= most:  # one entry that is never acknowledged keeps all that came after it
            return f"its files have {self._disk_bytes()} bytes, and {most} is the most that they may"
        return None

    def _refuse_beyond_limit(self) -> None:
        if reason := self._at_limit():
            raise SpoolFull(
                "BOT-033",
                f"the spool {self.folder} is full: {reason}",
                why="The database has not taken what waits for it. What is in the spool stays, and nothing is dropped: "
                "no position is opened any more.",
                fix="bring the database back: the bot replays the spool by itself then",
            )

    def _disk_refuses(self, error: OSError) -> SpoolFull:
        if error.errno in files.NO_ROOM:
            fix = f"make room on the disk of {self.folder}: the bot goes on by itself then"
        else:
            fix = f"see what the system says about the disk of {self.folder} (dmesg), repair it, then restart the bot"
        return SpoolFull(
            "BOT-034",
            f"the spool {self.folder} cannot be written: {error.strerror or error}",
            why="The entry is not in it. What was there before stays, and nothing is dropped: no position is opened "
            "any more.",
            fix=fix,
        )

    def _probe_disk(self) -> None:
        """After a refusal, find out whether the disk takes something again, so that one full minute is not for ever."""
        if self._refused is None or self._monotonic() < self._probe_at:
            return
        self._probe_at = self._monotonic() + PROBE_DISK_S
        try:
            if not self._segments:
                self._begin_segment()
            self._put(bytes(max(_PROBE_BYTES, self._refused_bytes)))  # zeros: a crash leaves a torn record
            self._rest = True
            self._cut_rest()
        except OSError as error:
            self._refused = error.strerror or str(error)
        else:
            self._refused, self._refused_bytes = None, 0
