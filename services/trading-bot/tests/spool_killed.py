"""Kill a writer of a spool (SIGKILL) before, after and in the middle of each call that it makes to the file system.

Each time another process looks at what is left. On success the last line is the number of places that were tried.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from trading_bot.spool import Spool, files

ENTRIES = 14
CALLS = ("open", "pwrite", "ftruncate", "fsync", "unlink")


def spool_in(folder: Path) -> Spool:
    return Spool(folder / "spool", limit_bytes=256 * 1024, keep_acked_s=0)


def write(folder: Path, say: Callable[[str, int], None]) -> None:
    """Append entries of 20 KiB, so that a file has three, and acknowledge each third one and those before."""
    spool = spool_in(folder)
    found = spool.open()
    waiting = [entry.number for entry in spool.unacknowledged()]
    for n in range(found.entries, ENTRIES):
        number = spool.append("fill", str(n), {"pad": "x" * 20_000})
        say("appended", number)
        waiting.append(number)
        if n % 3 == 2:
            for taken in waiting:
                say("acknowledging", taken)
            spool.acknowledge(waiting, "server")
            for taken in waiting:
                say("acknowledged", taken)
            waiting.clear()
    spool.close()


class Killer:
    """Counts the calls, and ends the process at one of them: before it, in its middle, or after it."""

    def __init__(self, at: int) -> None:
        self.at = at
        self.seen = 0

    def here(self) -> None:
        self.seen += 1
        if self.seen == self.at:
            os.kill(os.getpid(), signal.SIGKILL)

    def around(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*args: Any, **options: Any) -> Any:
            self.here()
            result = call(*args, **options)
            self.here()
            return result

        return wrapped

    def pwrite(self, fd: int, data: bytes, offset: int) -> int:
        self.here()
        half = len(data) // 2
        written = WRITE(fd, data[:half], offset)
        self.here()
        written += WRITE(fd, data[half:], offset + half)
        self.here()
        return written

    def install(self) -> None:
        for name in CALLS:
            setattr(os, name, self.around(getattr(os, name)))
        os.pwrite = self.pwrite
        files._fdatasync = self.around(files._fdatasync)


WRITE = os.pwrite


def killed_at(at: int, folder: Path) -> bool:
    """Run a writer that is killed at this place; return whether it came there."""
    said = os.open(folder / "said", os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def say(what: str, number: int) -> None:
        os.write(said, f"{what} {number}\n".encode())

    pid = os.fork()
    if pid == 0:
        Killer(at).install()
        write(folder, say)
        os._exit(0)
    os.close(said)
    _, status = os.waitpid(pid, 0)
    assert status in (0, signal.SIGKILL), status
    return status != 0


def check(folder: Path, *, kills: int) -> None:
    """See that nothing is gone of which the writer was told that it is there, and nothing else is there."""
    said = [line.split() for line in (folder / "said").read_text().splitlines()]
    appended, acknowledging, acknowledged = (
        {int(number) for what, number in said if what == wanted}
        for wanted in ("appended", "acknowledging", "acknowledged")
    )
    spool = spool_in(folder)
    spool.open()
    waiting = {entry.number for entry in spool.unacknowledged()}
    retained = list(spool.retained())
    spool.close()
    assert waiting >= appended - acknowledging
    assert not waiting & acknowledged
    kept = {entry.number for entry in retained}
    assert len(kept - appended) <= kills  # what each was just writing
    assert kept | acknowledging >= appended
    assert all(entry.body == {"pad": "x" * 20_000} for entry in retained)


def main() -> None:
    """Try one place after another until the writer comes to its end."""
    at = 0
    while True:
        at += 1
        with TemporaryDirectory(dir=sys.argv[1]) as name:
            folder = Path(name)
            was_killed = killed_at(at, folder)
            check(folder, kills=was_killed)
            if was_killed:
                check(folder, kills=1 + killed_at(at, folder))  # once more, in what is left
        if not was_killed:
            sys.stdout.write(f"{at - 1}\n")
            return


if __name__ == "__main__":
    main()
