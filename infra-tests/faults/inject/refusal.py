"""A fault that cannot be injected on this machine is refused in so many words: never passed, never left out."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import NoReturn

import pytest

FAKETIME = Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1")


def refuse(why: str) -> NoReturn:
    """End the test: as a failure where everything must be there (CI), else as a skip that says what is missing."""
    text = f"REFUSED, not tested: {why}"
    if os.environ.get("CI"):
        pytest.fail(text, pytrace=False)
    pytest.skip(text)


def needs_root(*commands: str) -> None:
    """Refuse unless this is root on Linux with these commands."""
    if os.geteuid() != 0:
        refuse("this fault is injected by root (namespaces, mounts, control groups); run as root, or in a container")
    for command in commands:
        if shutil.which(command) is None:
            package = {"ip": "iproute2", "tc": "iproute2", "mkfs.ext4": "e2fsprogs"}.get(command, command)
            refuse(f"there is no command {command}: apt-get install {package}")


def faketime_library() -> str:
    """Return the library that gives a process another clock; refuse when it is not here."""
    found = FAKETIME if FAKETIME.exists() else next(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"), None)
    if found is None:
        refuse("there is no libfaketime: apt-get install faketime")
    return str(found)
