"""The end of processes that are not our children: when is one over, whoever has to reap it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import psutil

POLL_S = 0.02


def is_over(process: psutil.Process) -> bool:
    """Return whether `process` has ended: it is gone, or a zombie.

    A zombie has closed its files and its ports; its pid stays until its parent asks how it ended, and the init of many
    a container never does.
    """
    import psutil

    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
    except psutil.AccessDenied:  # it is there, and not ours to look at
        return False


def wait_over(process: psutil.Process, timeout_s: float) -> bool:
    """Return whether `process` ended within `timeout_s`."""
    deadline = time.monotonic() + timeout_s
    while not is_over(process):
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_S)
    return True
