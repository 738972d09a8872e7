"""The places the same tests run against, and what a test may ask of any of them.

A target is chosen with ``--target``. Its module has ``start(config)``, which brings up an installation of its own
(never the developer's) through the real ``switchyard`` command, and returns a frozen ``Target``.
"""

from __future__ import annotations

import functools
import importlib
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, cast

import pytest

from targets.instance import Completed, Instance

SERVICES = ("postgres", "trading-bot", "dashboard")

# name -> module; imported only when chosen
TARGETS = {"embedded": "targets.embedded", "compose": "targets.compose", "railway": "targets.railway"}


class TargetUnreachable(Exception):
    """The chosen target cannot be tested: its one sentence ends the run with exit code 69."""


@dataclass(frozen=True)
class Target(ABC):
    """A running stack.

    Args:
        instance: the installation, and how to run ``switchyard`` in it.
        database_url: the administrator's.
        server_version: as the server says it.
        writable: False where tests must not change data.
    """

    instance: Instance
    database_url: str = field(repr=False)
    server_version: str
    writable: bool = True

    @property
    def name(self) -> str:
        """The word after ``--target``."""
        return self.instance.target

    # ------------------------------------------------------------------ the same on every target
    def status(self) -> dict[str, Any]:
        """What ``switchyard status --json`` says now."""
        return self.instance.switchyard("status", "--json", check=False).json()

    def service(self, name: str) -> dict[str, Any]:
        """One service's entry in the status."""
        return next(entry for entry in self.status()["services"] if entry["name"] == name)

    @property
    def dashboard_url(self) -> str:
        """Where a browser finds the dashboard; asked once, because ports stay."""
        return _dashboard_url(self)

    def execute(self, service: str, *command: str, check: bool = True, timeout_s: float = 60) -> Completed:
        """Run a command with that service's own environment."""
        return self.instance.switchyard("exec", service, "--", *command, check=check, timeout_s=timeout_s)

    def python(self, service: str, program: str, *args: str, check: bool = True, timeout_s: float = 60) -> Completed:
        """Run a Python program in that service's place, with its environment."""
        return self.execute(service, "python", "-c", program, *args, check=check, timeout_s=timeout_s)

    def sql(self, query: str, role: str = "admin") -> list[dict[str, Any]]:
        """The rows of one SELECT as dictionaries: numbers are exact, times are text."""
        wrapped = f"SELECT coalesce(json_agg(t), '[]')::text FROM ({query}) t"  # our own queries
        return json.loads(self._one_value(wrapped, role), parse_float=Decimal)

    def value(self, query: str, role: str = "admin") -> Any:
        """The one value of a one-row, one-column SELECT."""
        [row] = self.sql(query, role)
        [value] = row.values()
        return value

    def answer(self, service: str, path: str) -> tuple[int, dict[str, Any]]:
        """Status code and JSON of ``GET path``; 0 and {} when nobody answers."""
        code, text = self.get(service, path)
        return (code, json.loads(text)) if code else (0, {})

    # ------------------------------------------------------------------ where the targets differ
    @abstractmethod
    def _one_value(self, query: str, role: str) -> str: ...

    @abstractmethod
    def run_sql(self, statement: str, role: str = "admin") -> None:
        """Run one statement and commit it."""

    @abstractmethod
    def get(self, service: str, path: str) -> tuple[int, str]:
        """Status code and body of ``GET path`` on a service's own port; 0 when nobody answers in 8 s."""

    @abstractmethod
    def kill(self, service: str) -> None:
        """SIGKILL the service's own process: no goodbye, and nobody asked it to stay away."""

    @abstractmethod
    def pause(self, service: str) -> None:
        """Freeze every process of a service."""

    @abstractmethod
    def resume(self, service: str) -> None:
        """Let a frozen service go on."""

    @abstractmethod
    def logs(self, service: str) -> str:
        """Everything the service has written to its log so far."""

    @abstractmethod
    def identity(self, service: str) -> str:
        """Changes when the service's process is another one."""

    @abstractmethod
    def terminate(self, service: str) -> tuple[int, float]:
        """SIGTERM the service's process; its exit code and the seconds it took."""

    @abstractmethod
    def kill_backend(self, pid: int) -> None:
        """SIGKILL one process of Postgres, by the pid that Postgres gives it."""

    @abstractmethod
    def public_texts(self) -> Iterable[tuple[str, str]]:
        """(where, text) of every place in which no secret may be: logs, argv, image layers, state files."""

    @abstractmethod
    def leftovers(self) -> list[str]:
        """What of this instance still runs: processes, containers, networks."""


@functools.cache
def _dashboard_url(target: Target) -> str:
    return target.service("dashboard")["url"]


def start(name: str, config: pytest.Config) -> Target:
    """Return the started target of that name. Raises: TargetUnreachable."""
    module = importlib.import_module(TARGETS[name])
    return cast("Callable[[pytest.Config], Target]", module.start)(config)


def attach(instance: Instance) -> Target:
    """Return a Target for an instance that is already up."""
    module = importlib.import_module(TARGETS[instance.target])
    return cast("Callable[[Instance], Target]", module.attach)(instance)


# What every instance of the tests has different from a user's: a market that trades often enough to watch it
SETTINGS = {"BOT_CANDLE_INTERVAL_S": "1"}


def described_start(name: str, attach: Callable[[Instance], Target]) -> Target:
    """Start a fresh instance through the real command.

    Raises: TargetUnreachable, with the command's own error; nothing is left running.
    """
    instance = Instance.create(name, **SETTINGS)
    try:
        done = instance.up(check=False)
        if done.returncode != 0:
            what = f"target {name}: `switchyard up --target {name}` failed with exit code {done.returncode}"
            raise TargetUnreachable(f"{what}\n{done.stderr[-4000:]}")
        return attach(instance)
    except BaseException:
        instance.destroy()
        raise
