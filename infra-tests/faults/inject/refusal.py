"""Which faults can be injected on this machine. What cannot is refused in so many words, never passed.

A test says what it needs: ``@pytest.mark.needs("network")``. Where that is not to be had, the test is not collected and
the end of the run lists it as REFUSED; where ``CI`` is set everything has to be there, and a refusal is a failure.
"""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

FAKETIME = Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1")
MEMORY_GROUPS = (Path("/sys/fs/cgroup/memory"), Path("/sys/fs/cgroup"))
PACKAGES = {"ip": "iproute2", "tc": "iproute2", "nsenter": "util-linux", "mkfs.ext4": "e2fsprogs"}


def faketime_library() -> Path | None:
    """Return the library that gives a process another clock, if it is here."""
    found = [FAKETIME, *Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1")]
    return next((path for path in found if path.exists()), None)


@functools.cache
def missing(what: str) -> str | None:
    """Return what this machine lacks for a kind of fault: "network", "disks", "memory", "containers", "clock"."""
    if what == "clock":
        return None if faketime_library() else "no libfaketime: apt-get install faketime"
    if os.geteuid() != 0:
        return "not root on Linux"
    commands = {
        "network": ("ip", "iptables", "tc"),
        "disks": ("mkfs.ext4", "mount"),
        "memory": (),
        "containers": ("nsenter", "iptables"),
    }[what]
    for command in commands:
        if shutil.which(command) is None:
            return f"no command {command}: apt-get install {PACKAGES.get(command, command)}"
    return {"network": _no_namespace, "disks": _no_mount, "memory": _no_group, "containers": lambda: None}[what]()


def _no_namespace() -> str | None:
    name = f"faults-probe-{os.getpid()}"
    made = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True, check=False)
    if made.returncode != 0:
        return f"no network namespace can be made here: {made.stderr.strip()}"
    subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)
    return None


def _no_mount() -> str | None:
    with tempfile.TemporaryDirectory() as folder:
        words = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", folder]
        made = subprocess.run(words, capture_output=True, text=True, check=False)
        if made.returncode != 0:
            return f"nothing can be mounted here: {made.stderr.strip()}"
        subprocess.run(["umount", folder], check=True)
    return None


def _no_group() -> str | None:
    root = next((path for path in MEMORY_GROUPS if path.is_dir()), MEMORY_GROUPS[-1])
    group = root / f"faults-probe-{os.getpid()}"
    try:
        group.mkdir()
        group.rmdir()
    except OSError as error:
        return f"no control group for memory can be made here: {error.strerror}"
    return None
