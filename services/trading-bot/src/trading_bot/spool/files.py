"""The few things that a journal asks of a file system, each durable when it returns."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import socket
import time
from contextlib import suppress
from pathlib import Path

from tradedb.errors import EXIT_CONFIG, SwitchyardError

from trading_bot.spool.errors import SpoolBusy

FOLDER_MODE = 0o700
FILE_MODE = 0o600
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_LOCK = "lock"
_LOCKED = (errno.EAGAIN, errno.EACCES)
_LOOK_S = 0.2


def make_folder(folder: Path) -> None:
    """Make the folder, readable by nobody else, and its parents.

    Raises: SwitchyardError BOT-032, it cannot be made or written into.
    """
    try:
        if not folder.is_dir():
            folder.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
            sync_folder(folder.parent)
        if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
            raise unusable(folder, "it cannot be written into")
    except OSError as error:
        raise unusable(folder, error.strerror or str(error)) from error


def lock(folder: Path) -> int:
    """Return a file descriptor that holds the folder until it is closed, or its process ends in whatever way.

    Raises: SpoolBusy, SwitchyardError BOT-032.
    """
    path = folder / _LOCK
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, FILE_MODE)
    except OSError as error:
        raise unusable(folder, error.strerror or str(error)) from error
    try:
        _flock(fd)
    except OSError as error:
        holder = _holder(fd)
        os.close(fd)
        if error.errno not in _LOCKED:
            raise unusable(folder, error.strerror or str(error)) from error
        raise SpoolBusy(
            "BOT-031",
            f"the spool {folder} is in use by {holder}",
            why="One bot writes a spool; another one in the same folder waits. Nothing was changed.",
            fix="stop the other bot, or give this one a folder of its own in BOT_STATE_DIR",
        ) from error
    with suppress(OSError):  # who holds it is told for people only, and a full disk is no reason not to read
        os.ftruncate(fd, 0)
        os.pwrite(fd, json.dumps({"pid": os.getpid(), "host": socket.gethostname()}).encode(), 0)
    return fd


def _flock(fd: int) -> None:
    """Lock, or raise; somebody who only looks whether there is a lock (``holder_of``) is waited for."""
    end = time.monotonic() + _LOOK_S
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in _LOCKED or time.monotonic() > end:
                raise
            time.sleep(0.02)
        else:
            return


def holder_of(folder: Path) -> str | None:
    """Return who holds the folder's lock, as text; None when nobody does. Takes nothing and writes nothing."""
    try:
        fd = os.open(folder / _LOCK, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return _holder(fd)
    else:
        return None
    finally:
        os.close(fd)


def _holder(fd: int) -> str:
    try:
        told = json.loads(os.pread(fd, 1_000, 0))
        return f"process {told['pid']} on {told['host']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"


def append(fd: int, data: bytes, *, end: int) -> None:
    """Write ``data`` at ``end``, the end of the file, so that it is on the disk.

    Raises: OSError; some of it may be there.
    """
    written = 0
    while written < len(data):
        written += os.pwrite(fd, data[written:], end + written)
    _fdatasync(fd)


def cut(fd: int, size: int) -> None:
    """Make the file end at ``size``, durably.

    Raises: OSError.
    """
    os.ftruncate(fd, size)
    _fdatasync(fd)


def create(path: Path) -> int:
    """Make an empty file for the journal and return a file descriptor of it; the folder knows of it durably.

    Raises: OSError.
    """
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, FILE_MODE)
    try:
        sync_folder(path.parent)
    except OSError:
        os.close(fd)
        raise
    return fd


def sync_folder(folder: Path) -> None:
    """Make the names in the folder durable.

    Raises: OSError.
    """
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def unusable(folder: Path, why: str) -> SwitchyardError:
    """Return the error of a folder that cannot be used."""
    return SwitchyardError(
        "BOT-032",
        f"the spool's folder {folder} cannot be used: {why}",
        why="Without it a fact could be lost while the database is away, so the bot does not trade.",
        fix=f"make {folder} a folder that the user with id {os.geteuid()} may write into, or set BOT_STATE_DIR to one",
        exit_code=EXIT_CONFIG,
    )


# macOS has no fdatasync in Python, and its fsync leaves data in the drive's cache: F_FULLFSYNC does not
if hasattr(os, "fdatasync"):
    _fdatasync = os.fdatasync
else:

    def _fdatasync(fd: int) -> None:
        fcntl.fcntl(fd, fcntl.F_FULLFSYNC)  # pyright: ignore[reportAttributeAccessIssue]
