"""Snapshots of SQLite files where a container may read them: in a folder that nobody but its reader can enter."""

from __future__ import annotations

import os
import shutil
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from switchyard.transfer.snapshot import snapshot

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from switchyard.checkout import Checkout
    from switchyard.output import Progress
    from switchyard.transfer.snapshot import Source

CONTAINER_UID = 10001  # of our images
MOUNT = Path("/source")


@dataclass(frozen=True)
class Mounted:
    """Snapshots that a container can read.

    Args:
        sources: label and path inside the container, in the order they were given.
        options: what ``docker compose run`` needs to mount them.
    """

    sources: tuple[tuple[str, Path], ...]
    options: tuple[str, ...]


@contextmanager
def mounted_snapshots(report: Progress, checkout: Checkout, sources: Sequence[Source]) -> Iterator[Mounted]:
    """Yield checked snapshots of `sources` in the instance's folder; they are removed afterwards, whatever happens.

    The container runs as whoever may read them: as our user, or, when we are root, as the image's own. Its temporary
    files go there too, for its own /tmp is memory.

    Raises: SwitchyardError: COPY-001 to COPY-008, a file cannot be read, is not SQLite, is damaged or stays locked.
    """
    checkout.make_home()
    folder = Path(tempfile.mkdtemp(dir=checkout.home, prefix="source-"))  # mode 0700
    try:
        mounted: list[tuple[str, Path]] = []
        for source in sources:
            name = source.path.absolute().relative_to("/")  # so that messages from inside still name the place
            place = folder / name
            place.parent.mkdir(parents=True, exist_ok=True)
            with (
                report.step(f"snapshot of {source.path}") as step,
                snapshot(source, step) as file,
            ):
                shutil.move(file, place)
            mounted.append((source.label, MOUNT / name))
        options = ["--volume", f"{folder}:{MOUNT}", "--env", f"TMPDIR={MOUNT}"]
        if os.getuid() == 0:
            for path in [folder, *folder.rglob("*")]:
                os.chown(path, CONTAINER_UID, CONTAINER_UID)
        else:
            options += ["--user", f"{os.getuid()}:{os.getgid()}"]
        yield Mounted(tuple(mounted), tuple(options))
    finally:
        shutil.rmtree(folder)
