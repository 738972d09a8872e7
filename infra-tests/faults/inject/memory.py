"""A control group with a limit of memory: the kernel kills what grows beyond it."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from faults.inject.refusal import refuse

V1 = Path("/sys/fs/cgroup/memory")
V2 = Path("/sys/fs/cgroup")


@contextmanager
def memory_limit(megabytes: int) -> Iterator[Path]:
    """A group whose processes get so much together; write a process id into its ``cgroup.procs``."""
    root, limit = (V1, "memory.limit_in_bytes") if (V1 / "memory.limit_in_bytes").exists() else (V2, "memory.max")
    group = root / f"faults-{secrets.token_hex(3)}"
    try:
        group.mkdir()
        (group / limit).write_text(str(megabytes * 1024 * 1024))
    except OSError as error:
        refuse(f"no control group for memory can be made here ({error.strerror})")
    try:
        yield group
    finally:
        for _ in range(100):
            try:
                group.rmdir()
            except OSError:  # its processes are ending
                time.sleep(0.1)
            else:
                break
