"""Where an experiment happens: processes of this machine, or containers. The same questions and the same faults."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from faults.final import Fetch


@dataclass(frozen=True)
class Database:
    """One database of a place.

    Args:
        name: in its server.
        url: the bot's, as a writer reaches it.
        fetch: the rows of a SELECT, as the administrator.
        execute: one statement, committed, as the administrator.
    """

    name: str
    url: str
    fetch: Fetch
    execute: Any

    def value(self, query: str) -> Any:
        """The one value of a one-row, one-column SELECT."""
        [row] = self.fetch(query)
        [value] = row.values()
        return value

    def backends(self, user: str = "trading_bot") -> list[int]:
        """The server's processes for a role's sessions here."""
        query = f"SELECT pid FROM pg_stat_activity WHERE usename = '{user}' AND datname = current_database()"
        return [row["pid"] for row in self.fetch(query)]


class Process(ABC):
    """A writer that runs."""

    pid: int

    @abstractmethod
    def kill(self) -> None:
        """SIGKILL it, and return when it is gone."""

    @abstractmethod
    def terminate(self, timeout_s: float) -> int:
        """SIGTERM it, and return its exit code."""

    @abstractmethod
    def ask_to_end(self) -> None:
        """SIGTERM it, and do not wait."""

    @abstractmethod
    def wait(self, timeout_s: float) -> int:
        """Return its exit code when it has ended by itself."""

    @abstractmethod
    def pause(self) -> None:
        """Freeze it."""

    @abstractmethod
    def resume(self) -> None:
        """Let it go on."""

    @abstractmethod
    def stopped(self) -> bool:
        """Whether it is frozen now."""

    @abstractmethod
    def log(self) -> str:
        """What it has written."""


class Place(ABC):
    """A server and room for writers."""

    name: str

    @abstractmethod
    def database(self) -> AbstractContextManager[Database]:
        """A new database with every role and table; dropped at the end."""

    @abstractmethod
    def spawn(self, config: Path, name: str, where: str, env: dict[str, str]) -> Process:
        """Start ``python -m faults.work`` with this configuration."""

    @abstractmethod
    def inside(self, path: Path) -> str:
        """The name that a file of the experiment's folder has for a writer."""

    @abstractmethod
    def crash(self) -> None:
        """Kill every process of the server at once, and bring it up again."""

    @abstractmethod
    def restart(self) -> None:
        """Stop the server in order and start it again."""

    @abstractmethod
    def kill_backend(self, pid: int) -> None:
        """SIGKILL one of the server's processes."""

    @contextmanager
    def observer(self, database: Database, history: Path) -> Iterator[None]:
        """Look at the tables as a reader does while the block runs, and record what was seen."""
        from faults.observer import observing

        with observing(database.fetch, history):
            yield
