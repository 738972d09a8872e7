"""The end of what an earlier supervisor lost, under an init that never reaps (many a container's does not)."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from switchyard.targets.embedded import ending, target
from switchyard.targets.embedded.postgres import Server

# a parent that never asks how its child ended
PARENT = "import subprocess, sys, time; print(subprocess.Popen(sys.argv[1:]).pid, flush=True); time.sleep(600)"
Start = Callable[..., psutil.Process]


@pytest.fixture
def start() -> Iterator[Start]:
    """Start a command as the child of a parent that does not reap it."""
    parents: list[subprocess.Popen[str]] = []
    children: list[psutil.Process] = []

    def run(*command: str) -> psutil.Process:
        parent = subprocess.Popen([sys.executable, "-c", PARENT, *command], stdout=subprocess.PIPE, text=True)
        parents.append(parent)
        assert parent.stdout is not None
        children.append(psutil.Process(int(parent.stdout.readline())))
        return children[-1]

    yield run
    for parent in parents:
        with parent:
            parent.kill()
    for child in children:
        if not ending.is_over(child):
            child.kill()


def is_zombie(process: psutil.Process) -> bool:
    return process.status() == psutil.STATUS_ZOMBIE


def test_a_service_that_nobody_reaps_is_over_when_it_has_ended(start: Start) -> None:
    child = start("sleep", "600")
    target._end(child.pid)
    assert is_zombie(child)
    target._end(child.pid)  # and nothing more is needed


def test_a_service_that_does_not_listen_is_killed(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(target, "LOST_SERVICE_TIMEOUT_S", 0.2)
    child = start("sh", "-c", "trap '' TERM; while :; do sleep 1; done")
    target._end(child.pid)
    assert is_zombie(child)


def test_a_server_that_nobody_reaps_is_over_when_it_has_ended(start: Start, tmp_path: Path) -> None:
    # it says when it listens: a signal before that is lost where whoever started the tests ignores SIGINT
    code = (
        "import pathlib, signal, sys, time; signal.signal(signal.SIGINT, signal.SIG_DFL);"
        " pathlib.Path(sys.argv[1], 'ready').touch(); time.sleep(600)"
    )
    child = start(sys.executable, "-c", code, str(tmp_path))
    deadline = time.monotonic() + 60
    while not (tmp_path / "ready").exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    (tmp_path / "postmaster.pid").write_text(f"{child.pid}\n")
    server = Server(tmp_path, tmp_path, None, tmp_path / "note")
    assert server.stop_lost()
    assert is_zombie(child)
    assert server.lost_pid() is None


def test_what_runs_is_not_over(start: Start) -> None:
    child = start("sleep", "600")
    assert not ending.wait_over(child, 0.1)
    child.kill()
    assert ending.wait_over(child, 30)
