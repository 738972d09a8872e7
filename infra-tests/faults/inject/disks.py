"""Small disks of the suite's own: files with a file system in them, and memory with a limit."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from faults.inject.namespaces import run


@contextmanager
def small_disk(megabytes: int) -> Iterator[Path]:
    """A folder on an ext4 disk of that size, which any user may write to."""
    folder = Path(tempfile.mkdtemp(prefix="faults-disk-"))
    folder.chmod(0o755)
    image, mount = folder / "image", folder / "disk"
    mount.mkdir()
    with image.open("wb") as file:
        file.truncate(megabytes * 1024 * 1024)
    run("mkfs.ext4", "-q", "-m", "0", str(image))
    run("mount", "-o", "loop", str(image), str(mount))
    try:
        mount.chmod(0o777)
        yield mount
    finally:
        _gone(mount)
        image.unlink()
        folder.rmdir()


@contextmanager
def memory_disk(size: str) -> Iterator[Path]:
    """A folder in memory that takes no more than a size like 1m."""
    mount = Path(tempfile.mkdtemp(prefix="faults-memory-"))
    run("mount", "-t", "tmpfs", "-o", f"size={size},mode=0777", "tmpfs", str(mount))
    try:
        yield mount
    finally:
        _gone(mount)


def _gone(mount: Path) -> None:
    subprocess.run(["umount", "--lazy", str(mount)], check=False, capture_output=True)
    mount.rmdir()


def fill(folder: Path) -> Path:
    """Leave no room on the disk that a folder is on; return the file that takes it all."""
    ballast = folder / "ballast"
    with ballast.open("wb", buffering=0) as file:
        for size in (1024 * 1024, 4096, 512):
            with suppress(OSError):
                while file.write(b"\0" * size):
                    pass
        with suppress(OSError):
            os.fsync(file.fileno())
    return ballast
