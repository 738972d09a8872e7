"""The state of the database itself: which one it is, how big, who is connected, what is slow, who waits for whom."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Generic, TypeVar

from sqlalchemy import Connection, bindparam, func, select, text
from sqlalchemy.exc import DBAPIError
from tradedb import DatabaseManager, DatabaseUnavailable
from tradedb.errors import SwitchyardError
from tradedb.models import Base, EquityHour, Trade
from tradedb.reports import ConnectionStats, DatabaseInfo, PoolStatus

from dashboard.reading.consistent import bounded_read
from dashboard.reading.growth import Growth, SizeHistory
from dashboard.reading.odd_times import read_odd_times
from dashboard.reading.overview import LeaseRow, database_now, read_lease
from dashboard.reading.provenance import CopyRun, copy_runs
from dashboard.reading.schema import SchemaState, schema_state
from dashboard.thresholds import Thresholds

T = TypeVar("T")
INSUFFICIENT_PRIVILEGE = "42501"
LOCK_NOT_AVAILABLE = "55P03"
NOT_LOADED = "55000"  # object_not_in_prerequisite_state
COUNT_EXACTLY_UP_TO_ROWS = 20_000  # above, the planner's estimate: counting would read the whole table for a page
COUNT_EXACTLY_UP_TO_BYTES = 8 * 1024 * 1024
MAX_QUERIES = 15
MAX_QUERY_LENGTH = 2_000
MAX_LONG_SESSIONS = 20
POSTGRES = "PostgreSQL; this is a SQLite file"
HIDDEN_QUERY = "(not shown: it is about a password)"  # running statements still have their constants in them
ENOUGH_READS = 100_000  # blocks; of fewer, the first reading of everything is most
MAX_TRADES_A_DAY = 50_000
SEES_ALL = "pg_read_all_stats"


@dataclass(frozen=True)
class Part(Generic[T]):
    """A part of the page: its value, or why there is none (which privilege it needs)."""

    value: T | None
    missing: str | None = None


@dataclass(frozen=True)
class TableRow:
    """A table with its size. ``rows`` is None without the privilege to count.

    ``size_bytes`` is with indexes, of which ``index_bytes``. ``dead_rows`` wait for vacuum. ``bloat_bytes`` is the
    empty space in the table itself, estimated from column widths, None for a small or never analysed one.
    ``vacuumed_at`` and ``analyzed_at`` are the last times, by hand or not (aware UTC).
    """

    name: str
    rows: int | None
    estimated: bool
    size_bytes: int | None
    index_bytes: int | None = None
    dead_rows: int | None = None
    dead_percent: float | None = None
    bloat_bytes: int | None = None
    bloat_percent: float | None = None
    vacuumed_at: datetime | None = None
    analyzed_at: datetime | None = None


@dataclass(frozen=True)
class QueryRow:
    """One statement with its constants left out, as pg_stat_statements has it; times in milliseconds.

    ``share_percent`` is its part of the time of all statements of this database. ``slow``: called often enough to know,
    and slower on average than the threshold.
    """

    query: str
    role: str
    calls: int
    mean_ms: float
    max_ms: float
    total_ms: float
    rows: int
    share_percent: float
    slow: bool


@dataclass(frozen=True)
class Queries:
    """The slow statements first, then those that took most time in all, since ``since`` (aware UTC)."""

    rows: list[QueryRow]
    since: datetime | None


@dataclass(frozen=True)
class LongSession:
    """A session whose statement has been running, or whose transaction has been idle, for ``age_s`` seconds."""

    pid: int
    role: str
    application: str
    state: str
    age_s: float
    query: str


@dataclass(frozen=True)
class Counters:
    """What the server has counted for this database since ``since`` (aware UTC; None: since it was made).

    ``cache_hit_percent`` is the part of block reads that memory answered, None with too few to say.
    ``transaction_ids_percent`` is how far the oldest row is on the way to the point where the server stops writing.
    """

    cache_hit_percent: float | None
    reads: int
    deadlocks: int
    temp_bytes: int
    rolled_back: int
    checksum_failures: int | None
    transaction_ids_percent: float
    since: datetime | None


@dataclass(frozen=True)
class Archive:
    """What the server says of its own log archive, from which it can be restored to a moment; times aware UTC."""

    archived: int
    last_at: datetime | None
    failed: int
    last_failed_at: datetime | None

    @property
    def failing(self) -> bool:
        """Return whether the newest attempt failed."""
        return self.last_failed_at is not None and (self.last_at is None or self.last_failed_at > self.last_at)


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
    """What the page shows beside what DatabaseManager already knows.

    ``copy`` is the last finished copy into this database, ``archive`` the server's log archive; both None where there
    is none.
    """

    schema: SchemaState
    now: datetime
    lease: Part[LeaseRow | None]
    tables: Part[list[TableRow]]
    waits: Part[list[WaitRow]]
    locks: Part[list[LockRow]]
    tls: SessionTls | None
    queries: Part[Queries] = Part(None, POSTGRES)
    long_sessions: Part[list[LongSession]] = Part(None, POSTGRES)
    counters: Part[Counters] = Part(None, POSTGRES)
    archive: Part[Archive | None] = Part(None, POSTGRES)
    copy: Part[CopyRun | None] = Part(None, POSTGRES)
    rows_a_day: Part[dict[str, int]] = Part(None, "the tables of the newest schema")


@dataclass(frozen=True)
class DatabaseFacts:
    """All of the database page: what DatabaseManager says, and what this page asks itself."""

    info: DatabaseInfo
    connections: ConnectionStats | None
    connections_missing: str | None
    pool: PoolStatus
    state: DatabaseState
    growth: Growth


def read_database_facts(
    manager: DatabaseManager, sizes: SizeHistory | None = None, limits: Thresholds | None = None
) -> DatabaseFacts:
    """Return all that the database page shows, each part as the manager or one transaction sees it.

    Args:
        manager: the way to the database.
        sizes: remembers how large it was; without it nothing is said of what was seen.
        limits: from where on a statement is slow and a session long; the defaults if not given.

    Raises: DatabaseUnavailable, as ``DatabaseManager.read``.
    """
    wanted = limits or Thresholds()
    # first: it is the one that gives up early
    state = bounded_read(manager, lambda conn: read_database(conn, wanted), name="database page")
    connections, missing = None, None
    info = manager.database_info()
    try:
        connections = manager.connection_stats()
    except DatabaseUnavailable:
        raise
    except SwitchyardError as error:  # DB-006, this role may not see them
        missing = error.what
    seen = sizes.seen(info.size_bytes) if sizes is not None else None
    growth = Growth(*(seen or (None, None)), *_expected(state))
    return DatabaseFacts(info, connections, missing, manager.pool_status(), state, growth)


def _expected(state: DatabaseState) -> tuple[int | None, dict[str, int]]:
    """Return how many bytes a day the rows of the last day come to, at what a row of each table takes now."""
    sizes = {table.name: table for table in state.tables.value or [] if table.rows and table.size_bytes}
    rows = state.rows_a_day.value or {}
    if not sizes or not rows:
        return None, rows
    each = {name: (sizes[name].size_bytes or 0) / (sizes[name].rows or 1) for name in rows if name in sizes}
    return round(sum(each[name] * rows[name] for name in each)), rows


def read_database(conn: Connection, limits: Thresholds | None = None) -> DatabaseState:
    """Return the state of the database; a part that this role may not see says what it needs.

    Args:
        conn: in a transaction.
        limits: from where on a statement is slow and a session long; the defaults if not given.
    """
    wanted = limits or Thresholds()
    read_odd_times(conn)
    if conn.dialect.name == "postgresql":  # a locked table is what this page is looked at for: it must not hang on it
        conn.execute(text("SET LOCAL lock_timeout = '500ms'"))
    now = database_now(conn)
    schema = schema_state(conn)
    lease: Part[LeaseRow | None] = Part(None)
    if schema.readable:
        lease = _part(conn, lambda: read_lease(conn, now), "SELECT on bot_lease")
    rows_a_day: Part[dict[str, int]] = Part(None, "the tables of the newest schema")
    if schema.problem is None:
        rows_a_day = _part(conn, lambda: _rows_a_day(conn, now), "SELECT on equity_hours and trade_days")
    if conn.dialect.name != "postgresql":
        tables = Part(_sqlite_tables(conn))
        return DatabaseState(schema, now, lease, tables, Part([]), Part([]), None, rows_a_day=rows_a_day)
    return DatabaseState(
        schema=schema,
        now=now,
        lease=lease,
        tables=_part(conn, lambda: _tables(conn), "USAGE on schema public"),
        waits=_part(conn, lambda: _waits(conn), "EXECUTE on pg_blocking_pids"),
        locks=_part(conn, lambda: _locks(conn), "SELECT on pg_locks"),
        tls=_tls(conn),
        queries=_queries(conn, wanted),
        long_sessions=_long_sessions(conn, wanted),
        counters=_part(conn, lambda: _counters(conn), "SELECT on pg_stat_database"),
        archive=_part(conn, lambda: _archive(conn), "SELECT on pg_stat_archiver"),
        copy=_part(conn, lambda: next(iter(copy_runs(conn)), None), "SELECT on switchyard.copy_run"),
        rows_a_day=rows_a_day,
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
            WITH widths AS (
                SELECT tablename, sum((1 - null_frac) * avg_width) AS width FROM pg_stats
                WHERE schemaname = 'public' GROUP BY tablename
            )
            SELECT c.oid::regclass::text AS quoted, c.relname AS name, c.reltuples::bigint AS estimate,
                   pg_total_relation_size(c.oid) AS size_bytes, pg_relation_size(c.oid) AS main_bytes,
                   pg_indexes_size(c.oid) AS index_bytes, has_table_privilege(c.oid, 'SELECT') AS may_read,
                   s.n_live_tup AS live, s.n_dead_tup AS dead,
                   greatest(s.last_vacuum, s.last_autovacuum) AS vacuumed_at,
                   greatest(s.last_analyze, s.last_autoanalyze) AS analyzed_at,
                   -- a row's header and pointer are 28 bytes, its start is aligned to 8; a page holds 8168 bytes
                   CASE WHEN c.relpages > 128 AND c.reltuples > 0 THEN
                       greatest(0, (c.relpages - ceil(c.reltuples * (32 + w.width) / 8168)) * 8192)::bigint
                   END AS bloat_bytes
            FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
            LEFT JOIN pg_stat_user_tables s ON s.relid = c.oid LEFT JOIN widths w ON w.tablename = c.relname
            WHERE n.nspname = 'public' AND c.relkind IN ('r', 'p', 'm')
            ORDER BY pg_total_relation_size(c.oid) DESC, c.relname
            """
        )
    ).all()
    # a table that was never analysed has no estimate (-1); its size says whether counting is cheap
    exact = [
        row
        for row in rows
        if row.may_read and row.estimate <= COUNT_EXACTLY_UP_TO_ROWS and row.main_bytes <= COUNT_EXACTLY_UP_TO_BYTES
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
            index_bytes=row.index_bytes,
            dead_rows=row.dead,
            dead_percent=_dead_percent(row.dead, max(row.live or 0, counts.get(row.quoted, row.estimate))),
            bloat_bytes=row.bloat_bytes,
            bloat_percent=100 * row.bloat_bytes / row.main_bytes if row.bloat_bytes is not None else None,
            vacuumed_at=_utc(row.vacuumed_at),
            analyzed_at=_utc(row.analyzed_at),
        )
        for row in rows
    ]


def _dead_percent(dead: int | None, live: int) -> float | None:
    """Dead rows in percent of all; the server forgets its count of living ones in a crash, hence the larger of two."""
    if dead is None:
        return None
    return 100 * dead / (max(live, 0) + dead) if dead else 0.0


def _utc(when: datetime | None) -> datetime | None:
    return when.astimezone(UTC) if when is not None else None


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


def _queries(conn: Connection, limits: Thresholds) -> Part[Queries]:
    """The statements that took time. Three things may be missing, and each has another remedy."""
    there = conn.scalar(text("SELECT count(*) FROM pg_extension WHERE extname = 'pg_stat_statements'"))
    if not there:
        return Part(None, "the extension pg_stat_statements: switchyard db prepare makes it where the server loads it")
    if not _sees_all(conn):
        return Part(None, f"membership in {SEES_ALL}: switchyard db prepare grants it")
    try:
        return _part(conn, lambda: _statements(conn, limits), "SELECT on pg_stat_statements (switchyard db prepare)")
    except DBAPIError as error:
        if getattr(error.orig, "pgcode", None) != NOT_LOADED:
            raise
        return Part(None, "pg_stat_statements in the server's shared_preload_libraries")


def _sees_all(conn: Connection) -> bool:
    return bool(conn.scalar(text("SELECT pg_has_role(current_user, 'pg_read_all_stats', 'USAGE')")))


def _statements(conn: Connection, limits: Thresholds) -> Queries:
    rows = conn.execute(
        text(
            """
            SELECT left(s.query, :length) AS query, coalesce(r.rolname::text, 'unknown') AS role, s.calls,
                   s.mean_exec_time AS mean_ms, s.max_exec_time AS max_ms, s.total_exec_time AS total_ms, s.rows,
                   coalesce(100 * s.total_exec_time / nullif(sum(s.total_exec_time) OVER (), 0), 0) AS share_percent,
                   s.mean_exec_time >= :slow_ms AND s.calls >= :calls AS slow
            FROM pg_stat_statements s LEFT JOIN pg_roles r ON r.oid = s.userid
            WHERE s.dbid = (SELECT oid FROM pg_database WHERE datname = current_database()) AND s.toplevel
            ORDER BY slow DESC, s.total_exec_time DESC LIMIT :most
            """
        ),
        {
            "length": MAX_QUERY_LENGTH,
            "slow_ms": limits.slow_query_ms,
            "calls": limits.slow_query_calls,
            "most": MAX_QUERIES,
        },
    )
    found = [QueryRow(**row._asdict()) for row in rows]
    return Queries(found, _utc(conn.scalar(text("SELECT stats_reset FROM pg_stat_statements_info"))))


def _long_sessions(conn: Connection, limits: Thresholds) -> Part[list[LongSession]]:
    if not _sees_all(conn):
        return Part(None, f"membership in {SEES_ALL}: switchyard db prepare grants it")
    rows = conn.execute(
        text(
            """
            SELECT pid, coalesce(role, 'unknown') AS role, application, state, age_s, query FROM (
                SELECT pid, usename::text AS role, application_name AS application, state,
                       CASE WHEN query ~* 'passw' THEN :hidden ELSE left(query, 500) END AS query,
                       extract(epoch FROM clock_timestamp()
                           - CASE WHEN state = 'active' THEN query_start ELSE state_change END)::float8 AS age_s
                FROM pg_stat_activity
                WHERE datname = current_database() AND backend_type = 'client backend' AND pid <> pg_backend_pid()
            ) s
            WHERE (state = 'active' AND age_s >= :long_s) OR (state LIKE 'idle in transaction%' AND age_s >= :idle_s)
            ORDER BY age_s DESC LIMIT :most
            """
        ),
        {
            "long_s": limits.long_query_s,
            "idle_s": limits.idle_transaction_s,
            "most": MAX_LONG_SESSIONS,
            "hidden": HIDDEN_QUERY,
        },
    )
    return Part([LongSession(**row._asdict()) for row in rows])


def _counters(conn: Connection) -> Counters:
    row = conn.execute(
        text(
            """
            SELECT blks_hit + blks_read AS reads, 100.0 * blks_hit / nullif(blks_hit + blks_read, 0) AS hit, deadlocks,
                   temp_bytes, xact_rollback, checksum_failures, stats_reset,
                   100.0 * age(d.datfrozenxid) / 2147483648 AS ids
            FROM pg_stat_database s JOIN pg_database d ON d.oid = s.datid WHERE s.datname = current_database()
            """
        )
    ).one()
    return Counters(
        cache_hit_percent=float(row.hit) if row.reads >= ENOUGH_READS else None,
        reads=row.reads,
        deadlocks=row.deadlocks,
        temp_bytes=row.temp_bytes,
        rolled_back=row.xact_rollback,
        checksum_failures=row.checksum_failures,
        transaction_ids_percent=float(row.ids),
        since=_utc(row.stats_reset),
    )


def _archive(conn: Connection) -> Archive | None:
    row = conn.execute(
        text(
            "SELECT archived_count, last_archived_time, failed_count, last_failed_time FROM pg_stat_archiver"
            " WHERE current_setting('archive_mode') <> 'off'"
        )
    ).one_or_none()
    if row is None:
        return None
    return Archive(row.archived_count, _utc(row.last_archived_time), row.failed_count, _utc(row.last_failed_time))


def _rows_a_day(conn: Connection, now: datetime) -> dict[str, int]:
    """Return how many rows the last 24 hours brought to the two tables that grow without end, by their sums."""
    since = now.replace(tzinfo=None) - timedelta(days=1)
    hours = select(func.coalesce(func.sum(EquityHour.records), 0)).where(
        EquityHour.hour >= since, EquityHour.hour <= now.replace(tzinfo=None)
    )
    newest = select(Trade.id).where(Trade.exit_time >= since, Trade.exit_time <= now.replace(tzinfo=None))
    counted = select(func.count()).select_from(newest.limit(MAX_TRADES_A_DAY).subquery())
    return {"account_history": int(conn.scalar(hours) or 0), "trades": conn.scalar(counted) or 0}


def _tls(conn: Connection) -> SessionTls:
    row = conn.execute(text("SELECT ssl, version, cipher FROM pg_stat_ssl WHERE pid = pg_backend_pid()")).one_or_none()
    return SessionTls(row.version, row.cipher) if row and row.ssl else SessionTls(None, None)
