"""The same server and writers, each in a network namespace of its own: what lies between them can be cut."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from tradedb.testing import PostgresServer, migrated_database, throwaway_server

from faults import mutants
from faults.inject.namespaces import Cable, Namespace, cables
from faults.places import Database
from faults.places.embedded import EmbeddedPlace, LocalProcess

T = TypeVar("T")


class NetworkPlace(EmbeddedPlace):
    """One server, and a cable to the namespace of bot "a" and of bot "b"."""

    name = "embedded, network"

    def __init__(self, server: PostgresServer, folder: Path, namespace: Namespace, found: dict[str, Cable]) -> None:
        super().__init__(server, folder)
        self.namespace = namespace
        self.cables = found

    @contextmanager
    def database(self) -> Iterator[Database]:
        with ExitStack() as ending:
            with self.namespace.entered():
                made = ending.enter_context(migrated_database(self.server))
                mutants.apply_in_database(made.execute)
            described = self._described(made)
            yield replace(described, fetch=self._there(described.fetch), execute=self._there(described.execute))
            with self.namespace.entered():
                ending.close()

    def _there(self, function: Callable[..., T]) -> Callable[..., T]:
        """The same function, done from the server's side of every cable."""

        def inside(*args: Any) -> T:
            with self.namespace.entered():
                return function(*args)

        return inside

    def url_through(self, database: Database, where: str) -> str:
        """The bot's URL at the other end of a cable."""
        return re.sub(r"@127\.0\.0\.1:", f"@{self.cables[where].address}:", database.url)

    def spawn(self, config: Path, name: str, where: str, env: dict[str, str]) -> LocalProcess:
        """Start a writer at the end of a cable; without one, beside the server."""
        namespace = self.cables[where].bot if where else self.namespace
        with namespace.entered():
            return super().spawn(config, name, where, env)

    def crash(self) -> None:
        with self.namespace.entered():
            super().crash()

    def kill_backend(self, pid: int) -> None:
        with self.namespace.entered():
            super().kill_backend(pid)

    def restart(self) -> None:
        with self.namespace.entered():
            super().restart()


@contextmanager
def network_place(folder: Path) -> Iterator[NetworkPlace]:
    """A server in a namespace, two bots' namespaces, and nothing of this machine's own network."""
    with ExitStack() as ending:
        namespace, found = ending.enter_context(cables("a", "b"))
        with namespace.entered():
            options = {"listen_addresses": "*", "max_connections": "60"}
            server = ending.enter_context(throwaway_server(durable=True, options=options))
            hba = server.data / "pg_hba.conf"
            hba.write_text(hba.read_text() + "host all all 10.213.0.0/16 scram-sha-256\n")
            server.execute("SELECT pg_reload_conf()")
        yield NetworkPlace(server, folder, namespace, found)
