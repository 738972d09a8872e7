"""What was copied, kept in the target: ``switchyard.copy_run``. A row of it commits with the rows that it tells of."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

_LOCK = "SELECT pg_advisory_xact_lock(hashtextextended('switchyard.copy', 0))"

_CREATE = """
CREATE TABLE IF NOT EXISTS switchyard.copy_run (
    run_id           uuid PRIMARY KEY,
    source_label     text NOT NULL,
    source_name      text NOT NULL,
    source_digest    text NOT NULL,
    source_bytes     bigint NOT NULL,
    started_at       timestamptz NOT NULL,
    finished_at      timestamptz NOT NULL DEFAULT clock_timestamp(),
    row_count        bigint NOT NULL,
    tables           json NOT NULL,
    next_keys        json
)
"""
# a ledger of before it was kept: which numbers came with a run, and which were given here afterwards
_KEEP_KEYS = "ALTER TABLE switchyard.copy_run ADD COLUMN IF NOT EXISTS next_keys json"


@dataclass(frozen=True)
class PastRun:
    """One finished copy."""

    run_id: str
    label: str
    digest: str
    finished_at: datetime
    rows: int
    tables: dict[str, int]


def lock(cursor: Any) -> None:
    """Keep other copies out until the transaction ends; psycopg2.errors.LockNotAvailable when one holds it too long."""
    cursor.execute(_LOCK)


def past_runs(cursor: Any) -> list[PastRun]:
    """Return the finished copies, newest first; none where nothing was ever copied."""
    cursor.execute("SELECT to_regclass('switchyard.copy_run') IS NOT NULL")
    if not cursor.fetchall()[0][0]:
        return []
    cursor.execute(
        "SELECT run_id::text, source_label, source_digest, finished_at, row_count, tables::text "
        "FROM switchyard.copy_run ORDER BY finished_at DESC"
    )
    return [
        PastRun(run_id, label, digest, finished_at, rows, json.loads(tables))
        for run_id, label, digest, finished_at, rows, tables in cursor.fetchall()
    ]


def record(
    cursor: Any,
    *,
    run_id: str,
    label: str,
    name: str,
    digest: str,
    size_bytes: int,
    started_at: datetime,
    tables: Mapping[str, int],
    next_keys: Mapping[str, int],
) -> datetime:
    """Write the run's row (the schema and table too, if need be) and return its time. Commits with the rest.

    Args:
        cursor: of the transaction that copies.
        run_id: a UUID.
        label: what the source was called.
        name: the file's name.
        digest: of its content.
        size_bytes: of the file.
        started_at: when the run began.
        tables: rows by table.
        next_keys: the number that each key column ("trades.id") goes on with: rows of the copy have lesser ones.
    """
    cursor.execute("SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = 'switchyard')")
    if not cursor.fetchall()[0][0]:  # IF NOT EXISTS would ask for CREATE on the database also when it exists
        cursor.execute("CREATE SCHEMA switchyard")
    cursor.execute(_CREATE)
    cursor.execute(_KEEP_KEYS)
    cursor.execute(
        "INSERT INTO switchyard.copy_run "
        "(run_id, source_label, source_name, source_digest, source_bytes, started_at, row_count, tables, next_keys) "
        "VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s) RETURNING finished_at",
        (
            run_id, label, name, digest, size_bytes, started_at, sum(tables.values()), json.dumps(dict(tables)),
            json.dumps(dict(next_keys)),
        ),
    )  # fmt: skip
    [(finished_at,)] = cursor.fetchall()
    return finished_at


def outcome(cursor: Any, run_id: str, transaction: str) -> str:
    """Return what became of a run whose COMMIT was not answered: ``committed``, ``aborted`` or ``in progress``.

    Args:
        cursor: of a new connection.
        run_id: which run.
        transaction: its ``pg_current_xact_id()``.
    """
    cursor.execute("SELECT pg_xact_status(%s::xid8)", (transaction,))
    [(status,)] = cursor.fetchall()
    if status is not None:
        return status
    committed = any(run.run_id == run_id for run in past_runs(cursor))  # too old for the server to remember
    return "committed" if committed else "aborted"
