"""The few places where the two databases want different words."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Connection, func, literal
from sqlalchemy.dialects import postgresql, sqlite
from tradedb.types import UtcDateTime


def is_postgres(conn: Connection) -> bool:
    """Return whether the connection is to Postgres; otherwise it is SQLite."""
    return conn.dialect.name == "postgresql"


def insert_into(conn: Connection, table: Any) -> postgresql.Insert | sqlite.Insert:
    """Return an INSERT that knows ON CONFLICT."""
    return postgresql.insert(table) if is_postgres(conn) else sqlite.insert(table)


def db_clock(conn: Connection) -> ColumnElement[datetime]:
    """Return the database's clock, read when the row is looked at. SQLite has no other clock than this machine's."""
    if is_postgres(conn):
        return func.clock_timestamp()
    return literal(datetime.now(UTC), UtcDateTime())


def db_clock_in(conn: Connection, seconds: float) -> ColumnElement[datetime]:
    """Return the database's clock, ``seconds`` from now."""
    if is_postgres(conn):
        return func.clock_timestamp() + literal(timedelta(seconds=seconds))
    return literal(datetime.now(UTC) + timedelta(seconds=seconds), UtcDateTime())


def locked(conn: Connection, query: Any, *, share: bool = False) -> Any:
    """Return the query with its rows locked until the end of the transaction. SQLite's writer is alone anyway."""
    return query.with_for_update(read=share) if is_postgres(conn) else query


def wall_clock() -> datetime:
    """Return the UTC wall clock without a zone, as the original tables keep it."""
    return naive(datetime.now(UTC))


def naive(aware: datetime) -> datetime:
    """Return an aware time as UTC wall clock without a zone."""
    return aware.astimezone(UTC).replace(tzinfo=None)
