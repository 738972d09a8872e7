"""One page, one transaction that sees one state of the database."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError
from tradedb import DatabaseManager

from dashboard.reading.odd_times import read_odd_times
from dashboard.reading.schema import SchemaState, schema_state

T = TypeVar("T")
DEADLINE_S = 6.0  # the role's statement_timeout is 5 s; a page has long shown the last good data by then
RETRY_FOR_S = 1.0  # a stale pooled connection is worth a second try; the rest is for the next look at the page


class _UnreadableError(Exception):
    """The tables are not the ones that this code knows."""

    def __init__(self, schema: SchemaState) -> None:
        super().__init__(schema.problem)
        self.schema = schema


def bounded_read(
    manager: DatabaseManager, work: Callable[[Connection], T], *, name: str, once_within_s: float | None = None
) -> T:
    """Return what ``work(connection)`` returns in a read-only transaction, bounded as a page needs it.

    Args:
        manager: the way to the database.
        work: reads.
        name: what it is called in errors and logs.
        once_within_s: not bounded as a page, but by this; and never begun a second time, because it hands on rows.

    Raises: DatabaseUnavailable, as ``DatabaseManager.read``.
    """
    if once_within_s is not None:
        return manager.transaction(work, name=name, deadline_s=once_within_s, read_only=True, retry=False)
    return manager.transaction(
        work, name=name, deadline_s=DEADLINE_S, read_only=True, idempotent=True, retry_for_s=RETRY_FOR_S
    )


def read_consistently(
    manager: DatabaseManager, work: Callable[[Connection], T], *, name: str, once_within_s: float | None = None
) -> T | SchemaState:
    """Return what ``work(connection)`` returns, or the schema's state if that is why the pages cannot be read.

    All queries of ``work`` see one moment: never a closed position without its trade.

    Args:
        manager: the way to the database.
        work: reads; gets a connection in a read-only transaction.
        name: what it is called in errors and logs.
        once_within_s: as for ``bounded_read``.

    Raises: DatabaseUnavailable, as ``DatabaseManager.read``.
    """

    def run(conn: Connection) -> T | SchemaState:
        read_odd_times(conn)
        if conn.dialect.name == "postgresql":  # SQLite's BEGIN sees one moment anyway
            conn.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ"))
        schema = schema_state(conn)
        if not schema.readable:
            return schema
        try:
            return work(conn)
        except DBAPIError as error:
            if schema.problem is not None and not error.connection_invalidated and _misses_something(error):
                raise _UnreadableError(schema) from error
            raise

    try:
        return bounded_read(manager, run, name=name, once_within_s=once_within_s)
    except _UnreadableError as error:
        return error.schema


def _misses_something(error: DBAPIError) -> bool:
    """Return whether a table or column that we read is not there."""
    return getattr(error.orig, "pgcode", None) in {"42P01", "42703"} or "no such" in str(error.orig)
