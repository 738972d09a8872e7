"""An instance of the stack apart from the developer's, and the real command line on it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from switchyard.checkout import Checkout

ROOT = Path(__file__).resolve().parents[3]
COMMAND_TIMEOUT_S = 120
NOT_PASSED_ON = ("SWITCHYARD_", "DATABASE_", "RAILWAY_", "AWS_", "PG", "BOT_", "DASHBOARD_", "LOG_")


@dataclass(frozen=True)
class Answer:
    """What a command printed, and how it ended."""

    code: int
    out: str
    err: str

    def json(self) -> dict[str, Any]:
        """The one object on stdout."""
        return json.loads(self.out)


@dataclass(frozen=True)
class Instance:
    """A home and a .env in a folder of their own."""

    folder: Path
    path: str

    @property
    def home(self) -> Path:
        return self.folder / "home"

    @property
    def env_file(self) -> Path:
        return self.folder / "env"

    @property
    def checkout(self) -> Checkout:
        return Checkout(root=ROOT, home=self.home, env_file=self.env_file)

    def variables(self) -> dict[str, str]:
        """The environment of a command: the machine's, without whatever the developer has set for the stack."""
        kept = {key: value for key, value in os.environ.items() if not key.startswith(NOT_PASSED_ON)}
        pg_bin = {key: os.environ[key] for key in ("SWITCHYARD_PG_BIN",) if key in os.environ}
        own = {"SWITCHYARD_HOME": str(self.home), "SWITCHYARD_ENV_FILE": str(self.env_file), "PATH": self.path}
        return {**kept, **pg_bin, **own}

    def run(self, *args: str) -> Answer:
        """Run ``switchyard ARGS`` without a terminal."""
        done = subprocess.run(
            [str(Path(sys.executable).with_name("switchyard")), *args],
            env=self.variables(),
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=COMMAND_TIMEOUT_S,
            check=False,
        )
        return Answer(done.returncode, done.stdout, done.stderr)


@pytest.fixture(scope="module")
def instance() -> Iterator[Instance]:
    """An instance in which nothing was started yet; whatever a test starts in it is gone at the end."""
    folder = Path(tempfile.mkdtemp(prefix="sy-"))  # a short path: sockets have a limit
    folder.chmod(0o755)  # as root, Postgres runs as another user and must get through
    made = Instance(folder, os.environ["PATH"])
    try:
        yield made
    finally:
        made.run("reset", "--yes")
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    """A checkout with the real .env.example, whose other files are the test's own."""
    shutil.copy(ROOT / ".env.example", tmp_path / ".env.example")
    return Checkout(root=tmp_path, home=tmp_path / ".switchyard", env_file=tmp_path / ".env")


FakeDocker = Callable[[str], Path]


@pytest.fixture
def fake_docker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeDocker:
    """Put a ``docker`` with the given shell body in front of every other one; return the folder it is in."""

    def put(body: str) -> Path:
        folder = tmp_path / "bin"
        folder.mkdir(exist_ok=True)
        program = folder / "docker"
        program.write_text(f"#!/bin/sh\n{body}\n")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
        return folder

    return put
