"""A target runs the one picture (Postgres, trading-bot, dashboard) somewhere: what each offers, and which one is used.

The command line knows only what is in this module; `embedded` and `compose` are imported when they are needed.
"""

from __future__ import annotations

import shutil
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

from tradedb.errors import EXIT_CONFIG, EXIT_USAGE, SwitchyardError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from switchyard.checkout import Checkout
    from switchyard.output import Progress
    from switchyard.transfer.snapshot import Source

SCHEMA_VERSION = 1
TARGET_NAMES = ("embedded", "compose")
SERVICES = ("postgres", "trading-bot", "dashboard")  # what `logs` and `restart` take; Compose knows `ops` as well

Role = Literal["admin", "migrator", "trading-bot", "dashboard", "monitor", "backup"]
ROLES: tuple[Role, ...] = ("admin", "migrator", "trading-bot", "dashboard", "monitor", "backup")
# the word on the command line -> (the Postgres role, the key of its password in .env)
ROLE_LOGIN: dict[Role, tuple[str, str]] = {
    "admin": ("postgres", "POSTGRES_PASSWORD"),
    "migrator": ("migrator", "MIGRATOR_DB_PASSWORD"),
    "trading-bot": ("trading_bot", "TRADING_BOT_DB_PASSWORD"),
    "dashboard": ("dashboard", "DASHBOARD_DB_PASSWORD"),
    "monitor": ("monitor", "MONITOR_DB_PASSWORD"),
    "backup": ("backup", "BACKUP_DB_PASSWORD"),
}


@dataclass(frozen=True)
class ServiceStatus:
    """One line of ``switchyard status``.

    Args:
        name: as in docker-compose.yml: ``postgres``, ``trading-bot``, ``dashboard``.
        state: one word: ``running``, ``starting``, ``stopped``, ``failed``, ``exited``, ``unwatched`` (it runs, and
            nothing would restart it) …
        url: where a browser finds it; None for what has no page.
        healthy: the service itself says that it is ready (``/readyz`` 200; for postgres: it answers a query), and it
            is watched.
        own: what runs in the place of our program, if that is the owner's: a command, or a Compose file.
        reason: what the service says against itself: why it is not ready, or what it leaves undone though it is.
    """

    name: str
    state: str
    url: str | None
    healthy: bool
    own: str | None = None
    reason: str | None = None


@dataclass(frozen=True)
class DatabaseStatus:
    """The database behind the services; every field is None while it does not answer, except where it is expected.

    Args:
        reason: why nothing is known of it although it runs; None when it answered, and when it is stopped.
    """

    host: str | None = None
    port: int | None = None
    server_version: str | None = None
    system_identifier: str | None = None
    revision: str | None = None
    head: str | None = None
    reason: str | None = None


@dataclass(frozen=True)
class StackStatus:
    """What ``switchyard status`` shows."""

    target: str | None
    services: tuple[ServiceStatus, ...]
    database: DatabaseStatus

    @property
    def healthy(self) -> bool:
        """Whether every service says that it is ready."""
        return bool(self.services) and all(service.healthy for service in self.services)

    def as_dict(self) -> dict[str, Any]:
        """Return the object that ``status --json`` prints."""
        return {"schema_version": SCHEMA_VERSION, **asdict(self)}


class Target(Protocol):
    """A place where the stack runs; making one (``EmbeddedTarget(checkout)``) touches nothing.

    Every method that fails raises SwitchyardError; `report` takes the lines that say what is being done (on stderr).
    """

    name: str

    def running(self) -> bool:
        """Return whether any part of the stack runs here; bounded to a few seconds."""
        ...

    def up(self, report: Progress, sources: Sequence[Source], *, assume_yes: bool) -> StackStatus:
        """Start everything, migrate, copy `sources` into tables that are still empty, wait until all is ready."""
        ...

    def down(self, report: Progress) -> None:
        """Stop everything and leave no process; the data stays."""
        ...

    def status(self) -> StackStatus:
        """Return what runs; never raises because something is away."""
        ...

    def logs(self, service: str | None, *, follow: bool) -> int:
        """Write the newest log lines to stdout; return an exit code."""
        ...

    def restart(self, report: Progress, service: str) -> None:
        """Restart one service and wait until it is ready."""
        ...

    def database_url(self, role: Role) -> str:
        """Return the URL, password included, with which this machine reaches the database as `role`."""
        ...

    def psql(self, args: Sequence[str]) -> int:
        """Run psql on the terminal as the superuser; return its exit code."""
        ...

    def exec(self, service: str, command: Sequence[str]) -> int:
        """Run `command` with exactly that service's environment; return its exit code."""
        ...

    def prepare(self, report: Progress) -> None:
        """Wait for the database, create the roles, migrate: what must be done before the services start."""
        ...

    def ensure_roles(self) -> list[str]:
        """Create or update the Postgres roles; return a sentence for each change."""
        ...

    def copy(self, sources: Sequence[Source], *, assume_yes: bool, as_json: bool, dry_run: bool) -> int:
        """Copy SQLite files into this target's database (`copy` without ``--target-url``); return an exit code."""
        ...

    def reset(self, report: Progress) -> None:
        """Stop everything and delete the data. The question was asked before."""
        ...

    def data_place(self) -> str | None:
        """Return where this target keeps its database, running or not; None if it has none. Never raises."""
        ...


@dataclass(frozen=True)
class Choice:
    """A target, and the half sentence that says why it was chosen."""

    target: Target
    reason: str


def make_target(name: str, checkout: Checkout) -> Target:
    """Return the target of that name; nothing is started or looked at."""
    if name == "compose":
        from switchyard.targets.compose import ComposeTarget

        return ComposeTarget(checkout)
    if name == "embedded":
        from switchyard.targets.embedded import EmbeddedTarget

        return EmbeddedTarget(checkout)
    raise SwitchyardError(
        "STACK-001",
        f"there is no target {name!r}",
        why=f"The targets are: {', '.join(TARGET_NAMES)}. Nothing was changed.",
        fix="make up TARGET=embedded",
        exit_code=EXIT_USAGE,
    )


def choose_target(checkout: Checkout, requested: str | None) -> Choice:
    """Return the target for ``up``: the requested one, else last time's, else Compose where it can run, else embedded.

    Args:
        checkout: whose stack it is.
        requested: ``embedded``, ``compose`` or None for "choose".
    Raises: SwitchyardError: STACK-001 unknown name; STACK-002 the other one runs; STACK-010 to 013 Compose cannot run.
    """
    from switchyard.targets import docker_engine

    found = find_target(checkout)
    remembered = found.name if found else None
    name, reason = requested, "asked for"
    if name is None and remembered is not None:
        name, reason = remembered, "as last time"
    if name is None:
        engine = docker_engine.probe()
        name = "compose" if engine.usable else "embedded"
        reason = engine.sentence
    choice = Choice(make_target(name, checkout), reason)
    if remembered is not None and remembered != name:
        _refuse_two_at_once(checkout, remembered, name)
    if name == "compose":
        docker_engine.require()
    return choice


def find_target(checkout: Checkout) -> Target | None:
    """Return the target that ``up`` chose last, else Compose where `docker compose up` was typed by hand, else None."""
    name = checkout.known_target()
    if name is not None:
        return make_target(name, checkout)
    if checkout.env_file.exists() and shutil.which("docker"):
        by_hand = make_target("compose", checkout)
        if by_hand.running():
            return by_hand
    return None


def current_target(checkout: Checkout) -> Target:
    """Return the target that runs, or ran last; ``status``, ``logs``, ``copy`` … follow it.

    Raises: SwitchyardError: STACK-003, nothing was ever started here.
    """
    target = find_target(checkout)
    if target is None:
        raise SwitchyardError(
            "STACK-003",
            "no stack was started from this checkout yet",
            why=f"{checkout.state_file} names no target. Nothing was changed.",
            fix="make up",
        )
    return target


def superuser_refused(checkout: Checkout) -> SwitchyardError:
    """Return the error for a POSTGRES_PASSWORD that is not the one that the database was made with."""
    return SwitchyardError(
        "STACK-042",
        "Postgres refuses the password of its superuser",
        why="POSTGRES_PASSWORD in .env is not the one that this database was made with. Nothing was changed.",
        fix=f"put the old one back into {checkout.env_file}, or make reset (deletes the data)",
        exit_code=EXIT_CONFIG,
    )


def require_service(service: str | None, allowed: Sequence[str]) -> None:
    """Do nothing for None or a service of `allowed`.

    Raises: SwitchyardError: STACK-035, there is no such service.
    """
    if service is not None and service not in allowed:
        raise SwitchyardError(
            "STACK-035",
            f"there is no service {service!r} here",
            why=f"The services are: {', '.join(allowed)}. Nothing was done.",
            fix="switchyard status shows them",
            exit_code=EXIT_USAGE,
        )


def _refuse_two_at_once(checkout: Checkout, running: str, wanted: str) -> None:
    """Raise if the other target still runs: two stacks of one checkout would have two databases."""
    if make_target(running, checkout).running():
        raise SwitchyardError(
            "STACK-002",
            f"the {running} target runs; it and {wanted} do not run side by side",
            why="Each has a database of its own, and you would not know which one you look at. Nothing was changed.",
            fix=f"make down, then make up TARGET={wanted}",
        )
