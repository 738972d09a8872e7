"""A control group with a limit of memory: the kernel kills what grows beyond it."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from faults.inject.refusal import MEMORY_GROUPS


@contextmanager
def memory_limit(megabytes: int) -> Iterator[Path]:
    """A group whose processes get so much together; write a process id into its ``cgroup.procs``."""
    first, second = MEMORY_GROUPS
    root, limit = (first, "memory.limit_in_bytes") if first.is_dir() else (second, "memory.max")
    group = root / f"faults-{secrets.token_hex(3)}"
    group.mkdir()
    try:
        (group / limit).write_text(str(megabytes * 1024 * 1024))
        yield group
    finally:
        for _ in range(100):
            try:
                group.rmdir()
            except OSError:  # its processes are ending
                time.sleep(0.1)
            else:
                break
