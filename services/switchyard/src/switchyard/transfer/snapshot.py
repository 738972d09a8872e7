"""A consistent copy of a SQLite file that may be in use: checked, in a private folder, removed afterwards.

Two ways, and each is right where the other is not:

* SQLite's backup API on a ``mode=ro`` connection, for a file that may be open elsewhere. A writer in WAL mode is not
  disturbed at all; one in rollback mode waits for one step of it (8 MB), not for the whole file.
* A copy of the files themselves (database, ``-wal``, ``-journal``), for a WAL database that nobody has open (no
  ``-shm``), a crashed journal, and a folder in which we may not write: there even a ``mode=ro`` connection would
  leave a ``-shm`` behind or refuse. SQLite's own shared lock is held meanwhile, and the copy counts only if nothing
  changed while it was made.

``immutable=1`` is never used: it ignores the ``-wal``, and with it the newest rows.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
import sqlite3
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from tradedb.errors import EXIT_CONFIG, SwitchyardError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from switchyard.output import Step

LOCK_WAIT_S = 10.0  # how long a writer may hold the file before we give up
PAGES_PER_STEP = 2000
FOLDER_PREFIX = "switchyard-copy-"
MAGIC = b"SQLite format 3\0"
_WAL_VERSION = 2  # bytes 18 and 19 of the header
_SHARED_FIRST, _SHARED_SIZE = (
    0x40000002,
    510,
)  # the bytes that a SQLite reader locks (sqlite.org/fileformat2.html, os_unix.c)
_RESTARTS_BEFORE_HOLDING = 3
# what integrity_check says about values, not about pages: the value rules judge those
_ABOUT_VALUES = re.compile(r"(NULL|NUMERIC|TEXT|non-\w+) value in |CHECK constraint failed in ")


@dataclass(frozen=True)
class Source:
    """A SQLite file and the label under which the ledger knows it."""

    label: str
    path: Path


class _ChangedError(Exception):
    """The files changed while they were copied."""


class _LockedError(Exception):
    """Another process holds the file's exclusive lock."""


class _NeedsFilesError(Exception):
    """A read-only connection cannot read this state (a crashed writer's journal, no shared memory)."""


@contextlib.contextmanager
def private_folder() -> Iterator[Path]:
    """Yield a folder that only this user can enter; removed at the end, also those of runs that were killed."""
    _remove_leftovers()
    made = Path(tempfile.mkdtemp(prefix="switchyard-new-"))  # mode 0700
    lock = os.open(made / "lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    fcntl.flock(lock, fcntl.LOCK_EX)
    # under its final name only now, so that another run never takes it for a leftover
    folder = made.rename(made.with_name(made.name.replace("switchyard-new-", FOLDER_PREFIX)))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


@contextlib.contextmanager
def snapshot(source: Source, step: Step) -> Iterator[Path]:
    """Yield the path of a checked copy of the source as it is at this moment, rows in its ``-wal`` included.

    Args:
        source: the file; it is only read.
        step: gets a word about progress.
    Raises: SwitchyardError: COPY-001 … COPY-008, the file cannot be read, is not SQLite, is damaged or stays locked.
    """
    path = source.path.expanduser().absolute()
    _check_file(path)
    path = path.resolve()  # SQLite looks for the -wal beside the file that a link points to
    with private_folder() as folder:
        copy = folder / "snapshot.db"
        try:
            _make(path, copy, step)
        except OSError as error:
            raise SwitchyardError(
                "COPY-008",
                f"no snapshot of {path} in {folder}: {error.strerror or error}",
                why=f"The file is copied there before it is read ({_size(path):,} bytes). Nothing was changed.",
                fix="free some space, or name another folder: TMPDIR=/path/with/room switchyard copy …",
            ) from error
        step.detail = "checking its pages"
        _check_integrity(path, copy)
        step.detail = ""
        yield copy


def _make(path: Path, copy: Path, step: Step) -> None:
    """Write the snapshot, by the way that suits the file's state; wait for a writer a bounded time."""
    free, needed = shutil.disk_usage(copy.parent).free, _size(path) + _size(_beside(path, "-wal"))
    if free < needed:
        raise OSError(28, f"{needed:,} bytes are needed and {free:,} are free")
    deadline = time.monotonic() + LOCK_WAIT_S
    by_files = False
    while True:
        for old in copy.parent.glob(f"{copy.name}*"):
            old.unlink()
        try:
            if by_files or _nobody_has_it_open(path):
                _copy_files(path, copy)
            else:
                _copy_by_backup(path, copy, step, deadline)
        except _NeedsFilesError:
            by_files = True
        except _ChangedError:
            by_files = False
            if time.monotonic() > deadline:
                _raise_locked(path, "it changes all the time and its shared memory cannot be read")
        except _LockedError:
            if time.monotonic() > deadline:
                _raise_locked(path, "another process holds its exclusive lock")
        except PermissionError as error:
            _raise_unreadable(path, error)
        except sqlite3.DatabaseError as error:
            _raise_damaged(path, str(error))
        else:
            return
        step.detail = "waiting for its writer"
        time.sleep(0.05)


def _check_file(path: Path) -> None:
    """Raise unless `path` is a readable file that begins like a SQLite database."""
    wal = _beside(path, "-wal")
    if not path.exists():
        if wal.exists():
            raise SwitchyardError(
                "COPY-006",
                f"{wal} is there, its database {path} is not",
                why="A -wal holds only the newest pages; without its database they mean nothing. Nothing was changed.",
                fix=f"put the database file back beside it, under the name {path.name}",
            )
        raise SwitchyardError(
            "COPY-001",
            f"there is no file {path}",
            why="The source is a SQLite file. Nothing was changed.",
            fix="name the file: switchyard copy --source bot=path/to/trading_bot.db",
        )
    if not path.is_file():
        _raise_unreadable(path, None)
    try:
        with path.open("rb") as file:
            head = file.read(100)
    except OSError as error:
        _raise_unreadable(path, error)
    if not head:
        raise SwitchyardError(
            "COPY-003",
            f"{path} is empty (0 bytes)",
            why=f"An empty file has no tables{', and its -wal cannot be used without them' if _size(wal) else ''}. "
            "Nothing was changed.",
            fix="find the file that the bot really writes; an empty one often comes from a wrong path",
        )
    if head[:16] != MAGIC:
        _raise_not_sqlite(path, head)


def _raise_unreadable(path: Path, error: OSError | None) -> NoReturn:
    raise SwitchyardError(
        "COPY-002",
        f"{path} cannot be read: {(error.strerror or error) if error else 'it is not a regular file'}",
        why="The file and, if there is one, its -wal must be readable. Nothing was changed.",
        fix=f"let this user read it: chmod u+r {path} (or sudo), or copy it with its -wal to a folder of your own",
        exit_code=EXIT_CONFIG,
    ) from error


def _raise_not_sqlite(path: Path, head: bytes) -> NoReturn:
    text = sum(byte in b"\t\n\r" or 32 <= byte < 127 for byte in head) >= len(head) - 2
    if text:
        seen = f"it begins with the text {head[:24].decode('ascii', 'replace')!r}"
    elif head[:2] == b"\x1f\x8b" or head[:4] == b"PK\x03\x04":
        seen = "it is a compressed archive"
    elif len(head) == 100 and len(set(head)) > 60 and _size(path) % 512 == 0:
        seen = "its first bytes look random: it is probably encrypted (SQLCipher or the like)"
    else:
        seen = f"it begins with {head[:16].hex(' ')}"
    raise SwitchyardError(
        "COPY-004",
        f"{path} is not a SQLite database: {seen}",
        why=f"A SQLite file begins with {MAGIC[:15].decode()!r}. Nothing was changed.",
        fix="unpack or decrypt it with the program that wrote it, then name the result",
    )


def _raise_damaged(path: Path, detail: str) -> NoReturn:
    raise SwitchyardError(
        "COPY-005",
        f"{path} is damaged: {detail}",
        why="SQLite's own check fails, so rows may be missing or wrong. Nothing was changed.",
        fix=f"take a backup, or salvage what reads: sqlite3 {path} .recover | sqlite3 recovered.db",
    )


def _raise_locked(path: Path, reason: str) -> NoReturn:
    raise SwitchyardError(
        "COPY-007",
        f"{path} could not be read for {LOCK_WAIT_S:.0f} s: {reason}",
        why="An ordinary running bot does not keep others from reading. Nothing was changed.",
        fix=f"see who it is with: lsof {path} (or fuser -v {path}), stop it, and run the same command again",
    )


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _nobody_has_it_open(path: Path) -> bool:
    """Whether this is a WAL database that no process has open: then there is no ``-shm`` beside it."""
    if _beside(path, "-shm").exists():
        return False
    with path.open("rb") as file:
        head = file.read(20)
    return len(head) == 20 and (head[18] == _WAL_VERSION or _size(_beside(path, "-wal")) > 0)


def _copy_files(path: Path, copy: Path) -> None:
    """Copy the database with its ``-wal`` and ``-journal`` and let SQLite recover the copy.

    Raises: _ChangedError, _LockedError, sqlite3.DatabaseError.
    """
    with _shared_lock(path):
        before = _state(path)
        for suffix in ("", "-wal", "-journal"):
            if _beside(path, suffix).exists():
                shutil.copyfile(_beside(path, suffix), _beside(copy, suffix))
        if _state(path) != before:
            raise _ChangedError
    with contextlib.closing(sqlite3.connect(copy, isolation_level=None)) as recovered:
        recovered.execute("PRAGMA journal_mode=DELETE")


def _copy_by_backup(path: Path, copy: Path, step: Step, deadline: float) -> None:
    """Copy through SQLite's backup API.

    Raises: _LockedError, _NeedsFilesError, sqlite3.DatabaseError.
    """
    for hold in (False, True):
        try:
            with (
                contextlib.closing(_open_read_only(path)) as origin,
                contextlib.closing(sqlite3.connect(copy, isolation_level=None)) as into,
            ):
                # one view of a WAL database holds nobody up; of any other it would make the writer wait
                if hold or origin.execute("PRAGMA journal_mode").fetchone()[0] == "wal":
                    origin.execute("BEGIN")
                    origin.execute("SELECT count(*) FROM sqlite_master").fetchone()
                into.execute("PRAGMA synchronous=OFF")
                origin.backup(into, pages=PAGES_PER_STEP, progress=_watch(step, deadline, hold=hold), sleep=0.05)
                into.execute("PRAGMA journal_mode=DELETE")
                return
        except _ChangedError:
            continue  # it was written to between the steps again and again: hold it still for one go
        except sqlite3.DatabaseError as error:
            name = getattr(error, "sqlite_errorname", "")
            if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED", "SQLITE_PROTOCOL")):
                raise _LockedError from error
            if name.startswith(("SQLITE_READONLY", "SQLITE_CANTOPEN")):
                raise _NeedsFilesError from error
            raise


def _watch(step: Step, deadline: float, *, hold: bool) -> Callable[[int, int, int], None]:
    """Return the backup's progress callback: says how far it is, ends a wait that is too long."""
    seen = {"remaining": -1, "restarts": 0}

    def progress(status: int, remaining: int, total: int) -> None:
        if status & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            if time.monotonic() > deadline:
                raise _LockedError
            return
        if 0 <= seen["remaining"] < remaining:
            seen["restarts"] += 1
            if seen["restarts"] > _RESTARTS_BEFORE_HOLDING and not hold:
                raise _ChangedError
        seen["remaining"] = remaining
        step.detail = f"{total - remaining:,} of {total:,} pages"

    return progress


def _open_read_only(path: Path) -> sqlite3.Connection:
    """Return a ``mode=ro`` connection that has read the schema.

    Raises: sqlite3.DatabaseError.
    """
    connection = sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, isolation_level=None, timeout=0.2)
    try:
        connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except BaseException:
        connection.close()
        raise
    return connection


@contextlib.contextmanager
def _shared_lock(path: Path) -> Iterator[None]:
    """Hold the lock that a reading SQLite holds; it keeps exclusive writers out.

    Raises: _LockedError: one has it already.
    """
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        try:
            fcntl.lockf(fd, fcntl.LOCK_SH | fcntl.LOCK_NB, _SHARED_SIZE, _SHARED_FIRST)
        except (BlockingIOError, PermissionError) as error:
            raise _LockedError from error
        yield
    finally:
        os.close(fd)


def _state(path: Path) -> list[tuple[int, int, int] | None]:
    """Return what changes when anyone writes: size, time and identity of each file of the database."""
    found: list[tuple[int, int, int] | None] = []
    for suffix in ("", "-wal", "-journal", "-shm"):
        try:
            stat = _beside(path, suffix).stat()
        except FileNotFoundError:
            found.append(None)
        else:
            found.append((stat.st_ino, stat.st_size, stat.st_mtime_ns))
    return found


def _check_integrity(path: Path, copy: Path) -> None:
    """Raise unless every page, index and row record of the snapshot is well formed."""
    try:
        with contextlib.closing(_open_read_only(copy)) as connection:
            connection.text_factory = lambda raw: raw.decode("utf-8", "replace")
            lines = [row[0] for row in connection.execute("PRAGMA integrity_check(100)")]
    except sqlite3.DatabaseError as error:
        _raise_damaged(path, str(error))
    broken = [line.replace("\n", "; ") for line in lines if line != "ok" and not _ABOUT_VALUES.match(line)]
    if broken:
        _raise_damaged(path, "; ".join(broken[:3]) + (f"; {len(broken) - 3} more" if len(broken) > 3 else ""))


def _remove_leftovers() -> None:
    """Remove the folders of runs that were killed: owned by this user, and their lock is free."""
    for folder in Path(tempfile.gettempdir()).glob(f"{FOLDER_PREFIX}*"):
        with contextlib.suppress(OSError):
            if folder.stat().st_uid != os.geteuid():
                continue
            fd = os.open(folder / "lock", os.O_RDWR | os.O_CLOEXEC)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder)
            finally:
                os.close(fd)
