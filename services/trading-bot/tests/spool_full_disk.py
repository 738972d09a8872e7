"""Fill the disk under a spool, make room again, and see what it did: ``spool_full_disk.py FOLDER ballast|limit``.

"ballast": FOLDER is a small file system of its own, and a file of ours takes up the rest of it. "limit": the system
refuses files above a size (RLIMIT_FSIZE), which any user can set for himself.
"""

from __future__ import annotations

import resource
import sys
from pathlib import Path

from trading_bot.spool import Spool, SpoolFull

SECONDS = [0.0]


def fill_up(ballast: Path) -> None:
    """Take all the room that is left, to the last byte."""
    with ballast.open("ab", buffering=0) as file:
        for size in (4096, 1):
            try:
                while True:
                    file.write(bytes(size))
            except OSError:
                continue


def main() -> None:
    """Every assertion holds, or the exit code is 1."""
    folder, how = Path(sys.argv[1]), sys.argv[2]
    ballast = folder / "ballast"
    spool = Spool(folder / "spool", monotonic=lambda: SECONDS[0])
    spool.open()
    first = [spool.append("fill", str(n), {"pad": "x" * 1_000}) for n in range(10)]
    if how == "ballast":
        fill_up(ballast)
    else:
        resource.setrlimit(resource.RLIMIT_FSIZE, (spool.state().disk_bytes + 1_500, resource.RLIM_INFINITY))
    refused = None
    more: list[int] = []
    while refused is None:  # there may be room in the last block
        try:
            more.append(spool.append("fill", "more", {"pad": "y" * 1_000}))
        except SpoolFull as error:
            refused = error
        assert len(more) < 10
    assert refused.code == "BOT-034", refused
    assert ("No space left on device" if how == "ballast" else "File too large") in refused.what, refused
    assert "make room" in refused.fix
    state = spool.state()
    assert (state.full, state.close_only, state.entries) == (True, True, 10 + len(more)), state
    assert state.reason is not None
    assert state.reason in refused.what

    spool.acknowledge(first, "server")  # no room for that either: it counts all the same, and is written later
    assert [entry.number for entry in spool.unacknowledged()] == more
    SECONDS[0] += 1
    assert spool.state().full, "the disk is as full as before"
    if how == "ballast":
        ballast.unlink()
    else:
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert spool.state().full, "it is not asked more often than once a second"
    SECONDS[0] += 1
    assert not spool.state().full, "there is room again, and nobody had to say so"
    more.append(spool.append("fill", "after", {}))
    spool.acknowledge([more[-1]], "server")
    spool.close()

    again = spool.open()
    assert (again.torn_bytes, again.entries, again.identity) == (0, 10 + len(more), "server"), again
    assert [entry.number for entry in spool.unacknowledged()] == more[:-1]
    spool.close()


if __name__ == "__main__":
    main()
