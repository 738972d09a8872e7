"""A SQLite file as a container may see it: a consistent snapshot in a folder that only its reader can open."""

from __future__ import annotations

import os
import shutil
import sqlite3
import tempfile
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from tradedb.errors import SwitchyardError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from switchyard.checkout import Checkout
    from switchyard.targets import SourceArg

CONTAINER_UID = 10001  # of our images
MOUNT = "/source"
BUSY_TIMEOUT_S = 5


@dataclass(frozen=True)
class Mounted:
    """Snapshots that a container can read.

    Args:
        sources: label and path inside the container, in the order they were given.
        options: what ``docker compose run`` needs to mount them.
    """

    sources: tuple[tuple[str, str], ...]
    options: tuple[str, ...]


@contextmanager
def mounted_snapshots(checkout: Checkout, sources: Sequence[SourceArg]) -> Iterator[Mounted]:
    """Yield snapshots of `sources` under the instance's folder; they are deleted afterwards, whatever happens.

    The container runs as whoever may read them: as our user, or, when we are root, as the image's own.
    """
    checkout.make_home()
    folder = Path(tempfile.mkdtemp(dir=checkout.home, prefix="source-"))  # mode 0700
    try:
        mounted: list[tuple[str, str]] = []
        for number, source in enumerate(sources, start=1):
            place = folder / str(number)
            place.mkdir()
            snapshot(source, place / source.path.name)
            mounted.append((source.label, f"{MOUNT}/{number}/{source.path.name}"))
        options = ["--volume", f"{folder}:{MOUNT}:ro"]
        if os.getuid() == 0:
            for path in [folder, *folder.rglob("*")]:
                os.chown(path, CONTAINER_UID, CONTAINER_UID)
        else:
            options += ["--user", f"{os.getuid()}:{os.getgid()}"]
        yield Mounted(tuple(mounted), tuple(options))
    finally:
        shutil.rmtree(folder)


def snapshot(source: SourceArg, place: Path) -> None:
    """Write a snapshot of the source to `place`: one moment of it, with the rows that live in its ``-wal``.

    Raises: SwitchyardError: COMPOSE-012, it cannot be read.
    """
    address = f"file:{quote(str(source.path.absolute()))}?mode=ro"
    try:
        with (
            closing(sqlite3.connect(address, uri=True, timeout=BUSY_TIMEOUT_S)) as original,
            closing(sqlite3.connect(place)) as copy,
        ):
            original.backup(copy)
    except sqlite3.Error as error:
        raise SwitchyardError(
            "COMPOSE-012",
            f"source {source.label}: {source.path.absolute()} cannot be read: {error}",
            why="The containers read a snapshot of it, and making one failed. Nothing was changed.",
            fix="stop the program that writes to the file, check it with: sqlite3 FILE 'PRAGMA integrity_check'",
        ) from error
