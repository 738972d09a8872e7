"""The state of the database itself: which one it is, how big, who is connected, who waits for whom."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Generic, TypeVar

from sqlalchemy import Connection, bindparam, text
from sqlalchemy.exc import DBAPIError
from tradedb import DatabaseManager, DatabaseUnavailable
from tradedb.errors import SwitchyardError
from tradedb.models import Base
from tradedb.reports import ConnectionStats, DatabaseInfo, PoolStatus

from dashboard.reading.consistent import bounded_read
from dashboard.reading.overview import LeaseRow, database_now, read_lease
from dashboard.reading.schema import SchemaState, schema_state

T = TypeVar("T")
INSUFFICIENT_PRIVILEGE = "42501"
LOCK_NOT_AVAILABLE = "55P03"
COUNT_EXACTLY_UP_TO_ROWS = 200_000  # above, the planner's estimate: counting would read the whole table for a page


@dataclass(frozen=True)
class Part(Generic[T]):
    """A part of the page: its value, or why there is none (which privilege it needs)."""

    value: T | None
    missing: str | None = None


@dataclass(frozen=True)
class TableRow:
    """A table with its size. ``rows`` is None without the privilege to count."""

    name: str
    rows: int | None
    estimated: bool
    size_bytes: int | None


@dataclass(frozen=True)
class WaitRow:
    """A session that waits for a lock, and the sessions that it waits for."""

    pid: int
    role: str | None
    waits_for: str
    waited_s: float | None
    blocked_by: list[str]


@dataclass(frozen=True)
class LockRow:
    """How many locks of one kind a role holds."""

    role: str
    mode: str
    held: int
    waiting: int


@dataclass(frozen=True)
class SessionTls:
    """How this dashboard's own connection is encrypted."""

    version: str | None
    cipher: str | None


@dataclass(frozen=True)
class DatabaseState:
    """What the page shows beside what DatabaseManager already knows."""

    schema: SchemaState
    now: datetime
    lease: Part[LeaseRow | None]
    tables: Part[list[TableRow]]
    waits: Part[list[WaitRow]]
    locks: Part[list[LockRow]]
    tls: SessionTls | None


@dataclass(frozen=True)
class DatabaseFacts:
    """All of the database page: what DatabaseManager says, and what this page asks itself."""

    info: DatabaseInfo
    connections: ConnectionStats | None
    connections_missing: str | None
    pool: PoolStatus
    state: DatabaseState


def read_database_facts(manager: DatabaseManager) -> DatabaseFacts:
    """Return all that the database page shows, each part as the manager or one transaction sees it.

    Args:
        manager: the way to the database.

    Raises: DatabaseUnavailable, as ``DatabaseManager.read``.
    """
    state = bounded_read(manager, read_database, name="database page")  # first: it is the one that gives up early
    connections, missing = None, None
    info = manager.database_info()
    try:
        connections = manager.connection_stats()
    except DatabaseUnavailable:
        raise
    except SwitchyardError as error:  # DB-006, this role may not see them
        missing = error.what
    return DatabaseFacts(info, connections, missing, manager.pool_status(), state)


def read_database(conn: Connection) -> DatabaseState:
    """Return the state of the database; a part that this role may not see says what it needs.

    Args:
        conn: in a transaction.
    """
    if conn.dialect.name == "postgresql":  # a locked table is what this page is looked at for: it must not hang on it
        conn.execute(text("SET LOCAL lock_timeout = '500ms'"))
    now = database_now(conn)
    schema = schema_state(conn)
    lease: Part[LeaseRow | None] = Part(None)
    if schema.readable:
        lease = _part(conn, lambda: read_lease(conn, now), "SELECT on bot_lease")
    if conn.dialect.name != "postgresql":
        return DatabaseState(schema, now, lease, Part(_sqlite_tables(conn)), Part([]), Part([]), None)
    return DatabaseState(
        schema=schema,
        now=now,
        lease=lease,
        tables=_part(conn, lambda: _tables(conn), "USAGE on schema public"),
        waits=_part(conn, lambda: _waits(conn), "EXECUTE on pg_blocking_pids"),
        locks=_part(conn, lambda: _locks(conn), "SELECT on pg_locks"),
        tls=_tls(conn),
    )


def _part(conn: Connection, read: Callable[[], T], needs: str) -> Part[T]:
    """Read one part in a savepoint, so that a refusal does not end the transaction for the others."""
    try:
        with conn.begin_nested():
            return Part(read())
    except DBAPIError as error:
        code = getattr(error.orig, "pgcode", None)
        if code == LOCK_NOT_AVAILABLE:
            return Part(None, "somebody to release a lock on these tables: see who waits for whom")
        if code != INSUFFICIENT_PRIVILEGE:
            raise
        return Part(None, needs)


def _tables(conn: Connection) -> list[TableRow]:
    rows = conn.execute(
        text(
            """
            SELECT c.oid::regclass::text AS quoted, c.relname AS name, c.reltuples::bigint AS estimate,
                   pg_total_relation_size(c.oid) AS size_bytes, pg_relation_size(c.oid) AS main_bytes,
                   has_table_privilege(c.oid, 'SELECT') AS may_read
            FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
            WHERE n.nspname = 'public' AND c.relkind IN ('r', 'p', 'm')
            ORDER BY pg_total_relation_size(c.oid) DESC, c.relname
            """
        )
    ).all()
    # a table that was never analysed has no estimate (-1); its size says whether counting is cheap
    exact = [
        row
        for row in rows
        if row.may_read and row.estimate <= COUNT_EXACTLY_UP_TO_ROWS and row.main_bytes <= 64 * 1024 * 1024
    ]
    counts: dict[str, int] = {}
    if exact:
        # quoted is Postgres's own spelling of the name (regclass), so it is safe inside SQL
        union = " UNION ALL ".join(f"SELECT {i} AS i, count(*) AS n FROM {row.quoted}" for i, row in enumerate(exact))  # noqa: S608
        counts = {exact[row.i].quoted: row.n for row in conn.execute(text(union.replace(":", r"\:")))}
    return [
        TableRow(
            name=row.name,
            rows=counts.get(row.quoted, row.estimate if row.may_read and row.estimate >= 0 else None),
            estimated=row.quoted not in counts,
            size_bytes=row.size_bytes,
        )
        for row in rows
    ]


def _sqlite_tables(conn: Connection) -> list[TableRow]:
    present = set(conn.execute(text("SELECT name FROM sqlite_master WHERE type = 'table'")).scalars())
    found = []
    for name in sorted(present & {*Base.metadata.tables, "alembic_version"}):
        rows: int = conn.scalar(text(f'SELECT count(*) FROM "{name}"'))  # noqa: S608 - names from our own models
        found.append(TableRow(name, rows, estimated=False, size_bytes=None))
    return sorted(found, key=lambda table: -(table.rows or 0))


def _waits(conn: Connection) -> list[WaitRow]:
    rows = conn.execute(
        text(
            """
            SELECT l.pid, a.usename AS role, l.locktype, l.mode, l.relation::regclass::text AS relation,
                   extract(epoch FROM clock_timestamp() - l.waitstart)::float8 AS waited_s,
                   pg_blocking_pids(l.pid) AS blockers
            FROM pg_locks l LEFT JOIN pg_stat_activity a ON a.pid = l.pid
            WHERE NOT l.granted
            ORDER BY l.waitstart NULLS LAST
            LIMIT 50
            """
        )
    ).all()
    pids = {pid for row in rows for pid in row.blockers}
    names: dict[int, str] = {}
    if pids:
        known = text("SELECT pid, usename FROM pg_stat_activity WHERE pid IN :pids").bindparams(
            bindparam("pids", expanding=True)
        )
        names = {row.pid: row.usename or "a server process" for row in conn.execute(known, {"pids": sorted(pids)})}
    return [
        WaitRow(
            pid=row.pid,
            role=row.role,
            waits_for=f"{row.mode} on {row.relation}" if row.relation else f"{row.mode} on a {row.locktype}",
            waited_s=row.waited_s,
            blocked_by=[
                f"{names.get(pid, 'unknown')} (pid {pid})" if pid else "a prepared transaction" for pid in row.blockers
            ],
        )
        for row in rows
    ]


def _locks(conn: Connection) -> list[LockRow]:
    rows = conn.execute(
        text(
            """
            SELECT coalesce(a.usename::text, 'server process') AS role, l.mode,
                   count(*) FILTER (WHERE l.granted) AS held, count(*) FILTER (WHERE NOT l.granted) AS waiting
            FROM pg_locks l LEFT JOIN pg_stat_activity a ON a.pid = l.pid
            WHERE l.pid IS DISTINCT FROM pg_backend_pid() AND l.locktype <> 'virtualxid'
              AND (l.database IS NULL OR l.database = (SELECT oid FROM pg_database WHERE datname = current_database()))
            GROUP BY 1, 2 ORDER BY 1, 2
            """
        )
    )
    return [LockRow(**row._asdict()) for row in rows]


def _tls(conn: Connection) -> SessionTls:
    row = conn.execute(text("SELECT ssl, version, cipher FROM pg_stat_ssl WHERE pid = pg_backend_pid()")).one_or_none()
    return SessionTls(row.version, row.cipher) if row and row.ssl else SessionTls(None, None)
