"""SQLAlchemy engines whose every wait has an end, for Postgres and for SQLite. Only ``tradedb.manager`` makes them."""

from __future__ import annotations

import ipaddress
import os
import queue
import select
import socket
import sqlite3
import threading
import time
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg2
from sqlalchemy import URL, Connection, Engine, create_engine, event
from sqlalchemy.exc import InvalidatePoolError
from sqlalchemy.pool import ConnectionPoolEntry, QueuePool

from tradedb.config.settings import DatabaseSettings
from tradedb.deadline import Guard, watchdog

PING_AFTER_IDLE_S = 1.0
PING_TIMEOUT_S = 2.0
RESOLVE_TIMEOUT_S = 3.0
LEAST_CONNECT_TIMEOUT_S = 2  # libpq waits no less, whatever it is told
SQLITE_BUSY_TIMEOUT_S = 5.0
READ_ONLY = "tradedb_read_only"
"""The execution option of a transaction that may not write."""


def postgres_engine(url: URL, settings: DatabaseSettings, *, service: str, writes: bool) -> Engine:
    """Return an engine for Postgres; nothing is connected yet.

    Args:
        url: with its TLS arguments; libpq parameters that it names win over ours.
        settings: pool sizes and timeouts.
        service: shown as application_name in pg_stat_activity.
        writes: refuse a server that is read-only (a replica after a failover).
    """
    ours: dict[str, Any] = {
        "connect_timeout": settings.connect_timeout_s,
        "tcp_user_timeout": settings.tcp_user_timeout_ms,
        "keepalives": 1,
        "keepalives_idle": settings.keepalives_idle_s,
        "keepalives_interval": settings.keepalives_interval_s,
        "keepalives_count": settings.keepalives_count,
        "application_name": f"{service}/{(os.environ.get('RAILWAY_DEPLOYMENT_ID') or str(os.getpid()))[:36]}"[:63],
    }
    if writes:
        ours["target_session_attrs"] = "read-write"
    engine = create_engine(
        url,
        connect_args={name: value for name, value in ours.items() if name not in url.query},
        poolclass=QueuePool,
        pool_size=settings.pool_size,
        max_overflow=settings.max_overflow,
        pool_timeout=settings.pool_timeout_s,
        pool_recycle=settings.pool_recycle_s,
        pool_use_lifo=True,
        hide_parameters=True,  # a failed INSERT must not put its values into a log
    )
    event.listen(engine, "do_connect", _bounded_connect)
    event.listen(engine, "connect", _watch_new, insert=True)  # before SQLAlchemy's own first questions to the server
    event.listen(engine, "checkout", _watch_and_ping)
    event.listen(engine, "checkin", _remember_use)
    event.listen(engine, "close", _forget)
    return engine


def sqlite_engine(url: URL, settings: DatabaseSettings, *, create: bool) -> Engine:
    """Return an engine for a SQLite file: foreign keys on, WAL, a commit on disk before it returns.

    Args:
        url: of the file.
        settings: pool sizes.
        create: make the file and its folder when it is not there; else that is an error.
    """
    path = sqlite_path(url)

    def connect() -> sqlite3.Connection:
        if create:
            try:
                Path(path).parent.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                unable = sqlite3.OperationalError(f"unable to make its folder: {error.strerror}")
                unable.sqlite_errorname = "SQLITE_CANTOPEN"
                raise unable from error
        connection = sqlite3.connect(
            f"file:{quote(path)}?mode={'rwc' if create else 'rw'}",
            uri=True,
            timeout=SQLITE_BUSY_TIMEOUT_S,
            isolation_level=None,  # we say BEGIN ourselves; the driver's own rules leave DDL and SELECT outside
            check_same_thread=False,
        )
        try:
            connection.execute("PRAGMA foreign_keys = ON")
            if connection.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
                connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
        except BaseException:
            connection.close()
            raise
        return connection

    engine = create_engine(
        url,
        creator=connect,
        poolclass=QueuePool,
        pool_size=settings.pool_size,
        max_overflow=settings.max_overflow,
        pool_timeout=settings.pool_timeout_s,
        hide_parameters=True,
    )
    event.listen(engine, "checkout", _watch_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def sqlite_path(url: URL) -> str:
    """Return the absolute path of the file that a SQLite URL names."""
    return str(Path(url.database or "").absolute())


def resolve(host: str, timeout_s: float) -> list[str]:
    """Return the addresses of a host, in the system's order.

    libpq would ask the name service itself, without any limit on the wait.

    Args:
        host: a name.
        timeout_s: how long to wait for the name service, in seconds.

    Raises: psycopg2.OperationalError, with libpq's own words: no such name, or no answer in time.
    """
    answers: queue.SimpleQueue[list[str] | OSError] = queue.SimpleQueue()

    def ask() -> None:
        try:
            found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            answers.put(error if isinstance(error, OSError) else OSError(str(error)))
        else:
            answers.put(list(dict.fromkeys(str(entry[4][0]) for entry in found)))

    threading.Thread(target=ask, name="tradedb-resolve", daemon=True).start()
    try:
        answer = answers.get(timeout=timeout_s)
    except queue.Empty:
        answer = OSError(f"did not resolve within {timeout_s:.0f} s")
    if isinstance(answer, OSError):
        raise psycopg2.OperationalError(f'could not translate host name "{host}" to address: {answer}')
    return answer


def _bounded_connect(_dialect: Any, _record: Any, _args: Any, parameters: dict[str, Any]) -> None:
    """Make name resolution and connecting end in time, also for a host with several addresses."""
    guard = watchdog.current()
    host = str(parameters.get("host") or "")
    if _needs_name_service(host) and "hostaddr" not in parameters:
        left = guard.remaining_s if guard else RESOLVE_TIMEOUT_S
        addresses = resolve(host, min(RESOLVE_TIMEOUT_S, left))
    else:
        addresses = []
    budget = min(int(parameters["connect_timeout"]), int(guard.remaining_s) if guard else 60)
    if addresses:
        addresses = addresses[: max(1, budget // LEAST_CONNECT_TIMEOUT_S)]
        parameters["host"] = ",".join([host] * len(addresses))
        parameters["hostaddr"] = ",".join(addresses)
    parameters["connect_timeout"] = max(LEAST_CONNECT_TIMEOUT_S, budget // max(1, len(addresses)))


def _needs_name_service(host: str) -> bool:
    """Return whether this is one host name: no socket folder, no address, no list."""
    if not host or host.startswith(("/", "@")) or "," in host:
        return False
    try:
        ipaddress.ip_address(host.split("%")[0])
    except ValueError:
        return True
    return False


def _watch_new(connection: Any, record: ConnectionPoolEntry) -> None:
    """Keep a second handle on the new connection's socket, through which a deadline can end a blocked call."""
    handle = socket.socket(fileno=os.dup(connection.fileno()))
    record.info["socket"] = handle
    record.info["used"] = time.monotonic()
    if guard := watchdog.current():
        guard.watch(id(handle), lambda: handle.shutdown(socket.SHUT_RDWR))


def _watch_and_ping(connection: Any, record: ConnectionPoolEntry, _proxy: Any) -> None:
    """Put the connection under the transaction's deadline, and replace it if the server has left it.

    A round trip for every transaction would cost as much as the INSERT. A server that ended a session has said so on
    the socket, which costs nothing to see; only after a second's idleness is it worth asking.

    Raises: InvalidatePoolError, the pool then makes new connections in place of all old ones.
    """
    handle: socket.socket = record.info["socket"]
    if guard := watchdog.current():
        guard.watch(id(handle), lambda: handle.shutdown(socket.SHUT_RDWR))
    idle_s = time.monotonic() - record.info["used"]
    if idle_s < PING_AFTER_IDLE_S and not _has_something_to_say(handle):
        return
    try:
        with watchdog.guard(time.monotonic() + PING_TIMEOUT_S) as ping_guard:
            ping_guard.watch(id(handle), lambda: handle.shutdown(socket.SHUT_RDWR))
            _ping(connection)
    except psycopg2.Error as error:
        raise InvalidatePoolError from error


def may_be_lost(connection: Connection) -> bool:
    """Return whether the server has said something that nobody asked for, on a connection that waits for nothing."""
    handle: socket.socket | None = connection.connection.info.get("socket")
    return handle is not None and _has_something_to_say(handle)


def _has_something_to_say(handle: socket.socket) -> bool:
    """Return whether an idle connection's socket is readable: mostly the server's farewell."""
    poll = select.poll()
    poll.register(handle, select.POLLIN)
    return bool(poll.poll(0))


def _ping(connection: Any) -> None:
    """Ask the server for an answer, in one round trip: outside a transaction."""
    before = connection.autocommit
    connection.autocommit = True
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
    finally:
        if not connection.closed:
            connection.autocommit = before


def _remember_use(_connection: Any, record: ConnectionPoolEntry) -> None:
    """Note when the connection was last used."""
    record.info["used"] = time.monotonic()


def _forget(_connection: Any, record: ConnectionPoolEntry) -> None:
    """Close our handle with the connection."""
    handle: socket.socket | None = record.info.pop("socket", None)
    if handle is not None:
        if guard := watchdog.current():
            guard.forget(id(handle))
        handle.close()


def _watch_sqlite(connection: sqlite3.Connection, _record: ConnectionPoolEntry, _proxy: Any) -> None:
    """Put the connection under the transaction's deadline."""
    if guard := watchdog.current():
        guard.watch(id(connection), connection.interrupt)


def _begin_sqlite(connection: Connection) -> None:
    """Begin as a writer at once, or as a reader that cannot become one: upgrading half way is what deadlocks SQLite."""
    guard: Guard | None = watchdog.current()
    wait_s = min(SQLITE_BUSY_TIMEOUT_S, guard.remaining_s) if guard else SQLITE_BUSY_TIMEOUT_S
    read_only = bool(connection.get_execution_options().get(READ_ONLY))
    connection.exec_driver_sql(f"PRAGMA busy_timeout = {int(wait_s * 1000)}")
    connection.exec_driver_sql(f"PRAGMA query_only = {int(read_only)}")
    connection.exec_driver_sql("BEGIN" if read_only else "BEGIN IMMEDIATE")
