"""One installation of the stack in a folder of its own: settings, state, and the real ``switchyard`` command."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

CHECKOUT = Path(__file__).resolve().parents[2]
SWITCHYARD = Path(sys.executable).with_name("switchyard")

# everything of the developer's that would change what a test sees
NOT_OURS = ("DATABASE_", "PG", "RAILWAY_", "SWITCHYARD_", "AWS_", "BOT_", "DASHBOARD_", "COMPOSE_", "LOG_", "PYTEST_")
KEPT = ("SWITCHYARD_PG_BIN",)  # another Postgres installation is a property of the machine


@dataclass(frozen=True)
class Completed:
    """What a command printed, and how it ended."""

    command: tuple[str, ...]
    returncode: int
    stdout: str
    stderr: str

    def json(self) -> dict[str, Any]:
        """The one object on stdout."""
        try:
            return json.loads(self.stdout)
        except json.JSONDecodeError as error:
            raise AssertionError(f"not one JSON object on stdout:\n{self}") from error

    def __str__(self) -> str:
        return (
            f"$ {' '.join(self.command)}\nexit code {self.returncode}\n"
            f"--- stdout\n{self.stdout}\n--- stderr\n{self.stderr}"
        )


def run(command: list[str], *, env: dict[str, str], timeout_s: float, check: bool, cwd: Path = CHECKOUT) -> Completed:
    """Run a command without a terminal; with ``check`` a failure shows everything it printed."""
    done = subprocess.run(
        command,
        env=env,
        cwd=cwd,
        timeout=timeout_s,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    completed = Completed(tuple(command), done.returncode, done.stdout, done.stderr)
    assert not check or done.returncode == 0, str(completed)
    return completed


def clean_environment() -> dict[str, str]:
    """This process's environment without anything that belongs to another installation."""
    return {k: v for k, v in os.environ.items() if k in KEPT or not k.startswith(NOT_OURS)}


@dataclass(frozen=True)
class Instance:
    """A folder with ``.env`` and ``.switchyard`` apart from the developer's.

    Args:
        target: embedded or compose.
        folder: holds everything of it; removed by ``destroy``.
        settings: lines of ``.env`` that differ from what ``switchyard env`` writes.
    """

    target: str
    folder: Path
    settings: dict[str, str] = field(default_factory=dict, repr=False, hash=False, compare=False)

    @classmethod
    def create(cls, target: str, **settings: str) -> Instance:
        """Return a new one with its ``.env`` written: ``switchyard env``, then canaries in place of its secrets."""
        folder = Path(tempfile.mkdtemp(prefix="switchyard-test-"))
        folder.chmod(0o755)  # Postgres runs as another user when the tests run as root
        instance = cls(target, folder, settings)
        try:
            instance.switchyard("env")
            instance.edit_env(instance._canaries() | settings)
        except BaseException:
            shutil.rmtree(folder)
            raise
        return instance

    @property
    def home(self) -> Path:
        """SWITCHYARD_HOME."""
        return self.folder / ".switchyard"

    @property
    def env_file(self) -> Path:
        """SWITCHYARD_ENV_FILE."""
        return self.folder / ".env"

    def environment(self) -> dict[str, str]:
        """What its commands run with."""
        return clean_environment() | {
            "SWITCHYARD_HOME": str(self.home),
            "SWITCHYARD_ENV_FILE": str(self.env_file),
            "NO_COLOR": "1",
        }

    def read_env(self) -> dict[str, str]:
        """The settings in ``.env``."""
        lines = (line for line in self.env_file.read_text().splitlines() if line and not line.startswith("#"))
        return dict(line.split("=", 1) for line in lines)

    def edit_env(self, changes: dict[str, str]) -> None:
        """Replace these settings in ``.env``, and add those it has not."""
        left = dict(changes)
        lines: list[str] = []
        for line in self.env_file.read_text().splitlines():
            key = line.split("=", 1)[0]
            lines.append(f"{key}={left.pop(key)}" if key in left else line)
        lines += [f"{key}={value}" for key, value in left.items()]
        self.env_file.write_text("\n".join(lines) + "\n")

    def _canaries(self) -> dict[str, str]:
        """Recognisable secrets in place of random ones."""
        return {key: f"canary-{key.lower().replace('_', '-')}~{secrets.token_urlsafe(18)}" for key in self.secrets()}

    def secrets(self) -> dict[str, str]:
        """Every secret of this instance by the name of its setting."""
        return {
            key: value for key, value in self.read_env().items() if key.endswith(("_PASSWORD", "_SECRET")) and value
        }

    def switchyard(
        self,
        *args: str,
        check: bool = True,
        timeout_s: float = 120,
        env: dict[str, str] | None = None,
        cwd: Path = CHECKOUT,
    ) -> Completed:
        """Run the real command line in this instance."""
        return run(
            [str(SWITCHYARD), *args], env=self.environment() | (env or {}), timeout_s=timeout_s, check=check, cwd=cwd
        )

    def popen(self, *args: str) -> subprocess.Popen[str]:
        """Start the real command line and do not wait; stdout and stderr come together."""
        return subprocess.Popen(
            [str(SWITCHYARD), *args],
            env=self.environment(),
            cwd=CHECKOUT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def up(self, *args: str, check: bool = True, timeout_s: float = 900) -> Completed:
        """``switchyard up`` on this instance's target."""
        return self.switchyard("up", "--target", self.target, *args, check=check, timeout_s=timeout_s)

    def destroy(self) -> None:
        """Stop it and remove every trace: processes, containers, volumes, the folder."""
        if self.env_file.exists():
            self.switchyard("down", check=False)
            self.switchyard("reset", "--yes", check=False)
            if self.target == "compose":
                self._remove_images()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _remove_images(self) -> None:
        """Take this project's names off its images; the layers stay, as the cache of the next build."""
        ours = f"--filter=reference={self.read_env()['COMPOSE_PROJECT_NAME']}-*"
        form = "--format={{.Repository}}"
        listed = run(["docker", "images", ours, form], env=clean_environment(), timeout_s=60, check=False)
        if names := listed.stdout.split():
            run(["docker", "rmi", "--no-prune", *names], env=clean_environment(), timeout_s=60, check=False)
