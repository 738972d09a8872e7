"""What a database says about itself: health, connections, identity. Used by ``DatabaseManager`` only."""

from __future__ import annotations

import sqlite3
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from sqlalchemy import Connection, Engine, text
from sqlalchemy import exc as sa
from sqlalchemy.pool import QueuePool

from tradedb.errors import SwitchyardError
from tradedb.redaction import redact

if TYPE_CHECKING:
    from tradedb.manager import DatabaseManager


@dataclass(frozen=True)
class Health:
    """Whether the database answers and its schema is the code's. ``reason`` and ``code`` say why not."""

    ok: bool
    reason: str | None
    revision: str | None
    head: str
    latency_ms: float | None
    code: str | None = None


@dataclass(frozen=True)
class RoleConnections:
    """One role's connections to the server, and how many it may have (None: no limit of its own)."""

    role: str
    used: int
    limit: int | None


@dataclass(frozen=True)
class ConnectionStats:
    """Connections by role, and in all, against the server's limit."""

    roles: tuple[RoleConnections, ...]
    total: int
    max_connections: int


@dataclass(frozen=True)
class DatabaseInfo:
    """Which database this is. On SQLite ``system_identifier`` is the file's path and the rest of the server is None."""

    dialect: Literal["postgresql", "sqlite"]
    host: str | None
    port: int | None
    database: str
    server_version: str
    system_identifier: str
    size_bytes: int
    user: str | None
    tls: str | None
    timeline_id: int | None


@dataclass(frozen=True)
class PoolStatus:
    """The connections of this process: how many it keeps at most, how many are free, in use, and beyond ``size``."""

    size: int
    checked_in: int
    checked_out: int
    overflow: int


def health(manager: DatabaseManager, deadline_s: float) -> Health:
    """Return the health of the manager's database; never raises.

    Args:
        manager: of the database.
        deadline_s: the longest wait for its answer, in seconds.
    """
    from tradedb.revisions import head_revision, revision_problem

    head = head_revision()
    started = time.monotonic()
    try:
        revision = manager.read(_revision, name="health", deadline_s=deadline_s, retry=False)
    except SwitchyardError as error:
        return Health(False, f"{error.what}: {error.why}", None, head, None, error.code)
    except Exception as error:  # a health check answers, whatever happens
        return Health(False, redact(f"{type(error).__name__}: {error}"), None, head, None, "DB-020")
    latency_ms = round((time.monotonic() - started) * 1000, 3)
    problem = revision_problem(revision)
    if problem is not None:
        return Health(False, problem.what, revision, head, latency_ms, problem.code)
    return Health(True, None, revision, head, latency_ms)


def _revision(connection: Connection) -> str | None:
    """Return the schema's revision in one round trip; None when there is no table of revisions, "" when it is empty."""
    try:
        return connection.execute(text("SELECT version_num FROM alembic_version")).scalar() or ""
    except sa.DBAPIError as error:
        missing = getattr(error.orig, "pgcode", None) == "42P01"
        missing = missing or (isinstance(error.orig, sqlite3.Error) and "no such table" in str(error.orig))
        if missing:
            return None
        raise


def connection_stats(connection: Connection) -> ConnectionStats:
    """Return the server's connections by role.

    A role without pg_read_all_stats does not see the kind of other roles' sessions; what has a database is a client.
    """
    if connection.dialect.name == "sqlite":
        return ConnectionStats((RoleConnections("(file)", 1, None),), 1, 1)
    rows = connection.execute(
        text(
            "SELECT r.rolname, count(a.pid), nullif(r.rolconnlimit, -1) FROM pg_roles r"
            " LEFT JOIN pg_stat_activity a ON a.usesysid = r.oid AND a.datid IS NOT NULL"
            " AND coalesce(a.backend_type, 'client backend') = 'client backend'"
            " WHERE r.rolcanlogin GROUP BY r.rolname, r.rolconnlimit ORDER BY r.rolname"
        )
    ).all()
    total, maximum = connection.execute(
        text(
            "SELECT (SELECT count(*) FROM pg_stat_activity a WHERE a.datid IS NOT NULL"
            " AND coalesce(a.backend_type, 'client backend') = 'client backend'),"
            " current_setting('max_connections')::int"
        )
    ).one()
    return ConnectionStats(tuple(RoleConnections(role, used, limit) for role, used, limit in rows), total, maximum)


def database_info(connection: Connection, host: str | None, port: int | None) -> DatabaseInfo:
    """Return which database the connection is to.

    Args:
        connection: to the database.
        host: as the URL names it.
        port: as the URL names it; the server knows only its own side of a forwarded port.
    """
    if connection.dialect.name == "sqlite":
        path = str(connection.exec_driver_sql("PRAGMA database_list").all()[0][2])
        size = sum(p.stat().st_size for p in (Path(path), Path(f"{path}-wal")) if p.exists())
        return DatabaseInfo("sqlite", None, None, path, sqlite3.sqlite_version, path, size, None, None, None)
    row = connection.execute(
        text(
            "SELECT current_database()::text AS database,"
            " current_setting('server_version') AS version, s.system_identifier::text AS system_identifier,"
            " pg_database_size(current_database()) AS size_bytes, current_user::text AS user_name,"
            " (SELECT version FROM pg_stat_ssl WHERE pid = pg_backend_pid() AND ssl) AS tls, c.timeline_id"
            " FROM pg_control_system() s, pg_control_checkpoint() c"
        )
    ).one()
    return DatabaseInfo(
        "postgresql",
        host,
        port,
        row.database,
        row.version,
        row.system_identifier,
        row.size_bytes,
        row.user_name,
        row.tls,
        row.timeline_id,
    )


def pool_status(engine: Engine) -> PoolStatus:
    """Return the state of the engine's pool."""
    pool = engine.pool
    assert isinstance(pool, QueuePool)  # noqa: S101  both our engines have one
    return PoolStatus(pool.size(), pool.checkedin(), pool.checkedout(), max(0, pool.overflow()))
