"""Free memory goes back to the system: glibc would keep it, in each heap, for a next time that may not come."""

from __future__ import annotations

import ctypes
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


@cache
def _libc() -> Any:
    """The C library where it is glibc; musl has none of these, and does not keep memory either."""
    return ctypes.CDLL(None) if sys.platform == "linux" else None
