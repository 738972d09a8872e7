"""The processes' log files, shown as they are: the newest lines, and on demand those that follow, across rotations."""

from __future__ import annotations

import os
import sys
import time
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

NEWEST_LINES = 100
BLOCK = 64 * 1024
POLL_S = 0.2


def tail(path: Path, count: int) -> list[str]:
    """Return the last `count` lines of the file; none if there is no file."""
    try:
        with path.open("rb") as handle:
            size = handle.seek(0, os.SEEK_END)
            handle.seek(max(0, size - BLOCK * max(1, count // 100)))
            lines = handle.read().decode(errors="replace").splitlines()
    except FileNotFoundError:
        return []
    return lines[-count:]


def size(path: Path) -> int:
    """Return how long the file is; 0 if there is none."""
    return path.stat().st_size if path.exists() else 0


def added(path: Path, offset: int) -> list[str]:
    """Return the lines after `offset`, or all if the file was rotated since and is shorter."""
    if size(path) < offset:
        offset = 0
    try:
        with path.open("rb") as handle:
            handle.seek(offset)
            return handle.read(BLOCK).decode(errors="replace").splitlines()
    except FileNotFoundError:
        return []


class _Follower:
    """One file that is read on as it grows, also after it was rotated away."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._handle: BinaryIO | None = None
        self._open(at_end=True)

    def _open(self, *, at_end: bool) -> None:
        try:
            self._handle = self._path.open("rb")
        except FileNotFoundError:
            return
        if at_end:
            self._handle.seek(0, os.SEEK_END)

    def new_lines(self) -> list[str]:
        """Return the complete lines that were added since the last call."""
        if self._handle is None:
            self._open(at_end=False)
            if self._handle is None:
                return []
        lines = self._read(self._handle)
        try:
            rotated = self._path.stat().st_ino != os.fstat(self._handle.fileno()).st_ino
        except FileNotFoundError:
            rotated = False
        if rotated:
            lines += self._read(self._handle)
            self._handle.close()
            self._open(at_end=False)
        return lines

    @staticmethod
    def _read(handle: BinaryIO) -> list[str]:
        lines: list[str] = []
        while True:
            start = handle.tell()
            line = handle.readline()
            if not line.endswith(b"\n"):  # nothing, or a line that is still being written
                handle.seek(start)
                return lines
            lines.append(line.decode(errors="replace").rstrip("\n"))


def show(files: Mapping[str, Path], *, follow: bool) -> None:
    """Write the newest lines of each file to stdout, with its name in front if there are several; go on if `follow`."""
    width = max(len(name) for name in files)

    def write(name: str, lines: list[str]) -> None:
        prefix = f"{name.ljust(width)} | " if len(files) > 1 else ""
        for line in lines:
            sys.stdout.write(f"{prefix}{line}\n")
        if lines:
            sys.stdout.flush()

    followers = {name: _Follower(path) for name, path in files.items()} if follow else {}
    for name, path in files.items():
        write(name, tail(path, NEWEST_LINES))
    while follow:
        for name, follower in followers.items():
            write(name, follower.new_lines())
        time.sleep(POLL_S)
