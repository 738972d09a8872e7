"""Where rows came from: written by the bot, or copied in from a file, by which run and when."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import Connection, text


@dataclass(frozen=True)
class CopyRun:
    """One finished copy, from the ledger that commits with the rows it tells of.

    ``label`` is what the source was called (bot=FILE), ``file`` its name, ``digest`` the SHA-256 of its content.
    ``tables`` counts the rows copied into each table; ``next_keys`` is the number that each key went on with.
    """

    run_id: str
    label: str
    file: str
    digest: str
    size_bytes: int
    started_at: datetime
    finished_at: datetime
    rows: int
    tables: dict[str, int]
    next_keys: dict[str, int] | None

    def brought(self, table: str, key: int, *, ours: bool) -> bool:
        """Return whether this run brought the row: it has a number from before the copy's end.

        Args:
            table: the row's.
            key: its id.
            ours: the bot of this project wrote it, here or into the file; that decides for a run that kept no numbers.
        """
        if not self.tables.get(table):
            return False
        if self.next_keys is None or f"{table}.id" not in self.next_keys:
            return not ours
        return key < self.next_keys[f"{table}.id"]


def copy_runs(conn: Connection) -> list[CopyRun]:
    """Return the finished copies into this database, newest first; none on SQLite, which is never copied into."""
    if conn.dialect.name != "postgresql":
        return []
    # to_regclass would raise for a schema that this role may not look into
    columns = set(
        conn.execute(
            text(
                "SELECT a.attname FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid"
                " JOIN pg_namespace n ON n.oid = c.relnamespace"
                " WHERE n.nspname = 'switchyard' AND c.relname = 'copy_run' AND a.attnum > 0"
                " AND has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(c.oid, 'SELECT')"
            )
        ).scalars()
    )
    if not columns:
        return []
    keys = "next_keys::text" if "next_keys" in columns else "NULL"
    rows = conn.execute(
        text(
            "SELECT run_id::text, source_label, source_name, source_digest, source_bytes, started_at, finished_at,"  # noqa: S608
            f" row_count, tables::text AS tables, {keys} AS next_keys"
            " FROM switchyard.copy_run ORDER BY finished_at DESC"
        )
    )
    return [
        CopyRun(
            run_id=row.run_id,
            label=row.source_label,
            file=row.source_name,
            digest=row.source_digest,
            size_bytes=row.source_bytes,
            started_at=row.started_at.astimezone(UTC),
            finished_at=row.finished_at.astimezone(UTC),
            rows=row.row_count,
            tables=json.loads(row.tables),
            next_keys=json.loads(row.next_keys) if row.next_keys else None,
        )
        for row in rows
    ]


def brought_by(runs: Sequence[CopyRun], table: str, key: int, *, ours: bool) -> CopyRun | None:
    """Return the run that copied a row here; None: it was written here."""
    return next((run for run in runs if run.brought(table, key, ours=ours)), None)
