"""Memory: what is free goes back to the system, what stays is not looked at again and again.

glibc would keep free memory, in each heap, for a next time that may not come.
"""

from __future__ import annotations

import ctypes
import gc
import sys
from functools import cache
from typing import Any

_M_MMAP_THRESHOLD, _M_ARENA_MAX = -3, -8  # mallopt(3)


def keep_little() -> None:
    """Let large pieces return at once, such as the 19 MiB of a password check, and threads share two heaps."""
    mallopt = getattr(_libc(), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, 1024 * 1024)
        mallopt(_M_ARENA_MAX, 2)


def give_back() -> None:
    """Return the free pages between what is used; takes about a millisecond."""
    trim = getattr(_libc(), "malloc_trim", None)
    if trim is not None:
        trim(0)


def set_apart() -> None:
    """Take what has been made until now out of the collector's rounds: one over all modules stops a page for 0.1 s."""
    gc.collect()
    gc.freeze()


@cache
def _libc() -> Any:
    """The C library where it is glibc; musl has none of these, and does not keep memory either."""
    return ctypes.CDLL(None) if sys.platform == "linux" else None
