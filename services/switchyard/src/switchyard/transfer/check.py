"""Looks at every value before anything is written: the target may neither refuse it nor silently change it.

The same pass makes the digest by which a copy is recognised when it is repeated.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tradedb.errors import SwitchyardError

from switchyard.transfer.plan import SHOWN
from switchyard.transfer.source import TableDigest, content_digest, quoted

if TYPE_CHECKING:
    from collections.abc import Callable

    from switchyard.transfer.plan import Plan, TablePlan
    from switchyard.transfer.source import Row, SourceDatabase

VALUE_CHARACTERS = 80
_EXAMPLES = 3


@dataclass
class Finding:
    """Values of one column that the target would refuse or change for the same reason.

    Args:
        table, column: where.
        reason: what is wrong, in a few words.
        count: how many rows.
        examples: the first of them: how the row is named, and its value, cut to a readable length.
    """

    table: str
    column: str
    reason: str
    count: int = 0
    examples: list[tuple[str, str]] = field(default_factory=list)

    def add(self, row_name: str, value: str) -> None:
        """Count one more row."""
        self.count += 1
        if len(self.examples) < _EXAMPLES:
            self.examples.append((row_name, value))

    def sentence(self) -> str:
        """Return what a person reads."""
        row_name, value = self.examples[0]
        more = f" (and {self.count - 1:,} more rows)" if self.count > 1 else ""
        return f"{self.table}.{self.column}, {row_name}: {value}: {self.reason}{more}"


class FindingsError(SwitchyardError):
    """Values or rows that cannot land as they are. ``--json`` lists all of them under ``findings``."""

    def __init__(self, code: str, findings: list[Finding], *, why: str, fix: str) -> None:
        shown = [finding.sentence() for finding in findings[:SHOWN]]
        if len(findings) > SHOWN:
            shown.append(f"and {len(findings) - SHOWN} more kinds, see --json")
        super().__init__(code, "; ".join(shown), why=why, fix=fix)
        self.findings = findings

    def as_dict(self) -> dict[str, Any]:
        """Return the error with its findings."""
        return {
            **super().as_dict(),
            "findings": [
                {
                    "table": finding.table,
                    "column": finding.column,
                    "reason": finding.reason,
                    "rows": finding.count,
                    "examples": [{"row": row, "value": value} for row, value in finding.examples],
                }
                for finding in self.findings
            ],
        }


def shown(value: object) -> str:
    """Return a value as an error shows it: its Python literal, cut to VALUE_CHARACTERS."""
    text = ascii(value[: VALUE_CHARACTERS + 1]) if isinstance(value, bytes | str) else repr(value)
    return text if len(text) <= VALUE_CHARACTERS else text[:VALUE_CHARACTERS] + "…"


def check_values(source: SourceDatabase, plan: Plan, on_rows: Callable[[int], None]) -> str:
    """Read every value of the source and return the digest of its content.

    Args:
        source: the snapshot.
        plan: which column goes where.
        on_rows: told how many rows were looked at.
    Raises: FindingsError: COPY-020, some values cannot land as they are.
    """
    findings: list[Finding] = []
    digests = []
    for table in plan.tables:
        digest = source.table_digest(table.source)
        try:
            found = _check_table(source, table, digest, on_rows)
        except sqlite3.OperationalError as error:
            if "UTF-8" not in str(error):
                raise
            # some text is no UTF-8: read the table again in a way that can name it
            found = _check_table(source, table, source.table_digest(table.source), on_rows, lenient=True)
        findings += found
        digests.append((table.source, digest))
    if findings:
        total = sum(finding.count for finding in findings)
        raise FindingsError(
            "COPY-020",
            findings,
            why=f"{total:,} values would be refused or changed by the target; a copy keeps every value as it is. "
            "Nothing was changed.",
            fix="correct these rows in the SQLite file (the bot stopped), or widen the target's column by a migration",
        )
    return content_digest(digests)


def _check_table(
    source: SourceDatabase,
    table: TablePlan,
    digest: TableDigest,
    on_rows: Callable[[int], None],
    *,
    lenient: bool = False,
) -> list[Finding]:
    findings: dict[tuple[str, str], Finding] = {}
    names = len(table.source.naming)
    positions = [(names + table.source.columns.index(column.name), column) for column in table.columns]
    for rows in source.batches(table.source, lenient=lenient, named=True):
        values_by_position = list(zip(*rows, strict=True))
        digest.feed([row[names:] for row in rows])
        for position, column in positions:
            values = values_by_position[position]
            types = set(map(type, values))
            if column.target.not_null and type(None) in types:
                _note_nulls(findings, table, column.name, rows, position)
            if column.kind.accepts(values, types):
                continue
            for row in rows:
                value = row[position]
                if value is not None and (reason := column.kind.why_not(value)) is not None:
                    key = (column.name, reason)
                    finding = findings.setdefault(key, Finding(table.name, column.name, reason))
                    finding.add(row_name(table, row), shown(value))
        on_rows(len(rows))
    return list(findings.values())


def _note_nulls(
    findings: dict[tuple[str, str], Finding], table: TablePlan, column: str, rows: list[Row], position: int
) -> None:
    reason = "the target's column is NOT NULL"
    for row in rows:
        if row[position] is None:
            finding = findings.setdefault((column, reason), Finding(table.name, column, reason))
            finding.add(row_name(table, row), "NULL")


def row_name(table: TablePlan, row: Row) -> str:
    """Return how people find a row that was read with its naming columns first: ``id=4711``."""
    return ", ".join(
        f"{name.strip(chr(34))}={shown(value)}" for name, value in zip(table.source.naming, row, strict=False)
    )


def check_keys(source: SourceDatabase, plan: Plan) -> None:
    """Look for rows that the target's keys forbid: duplicates, and children whose parent is not in the file.

    What only the server can judge (CHECK, exclusion, parents in tables that are not copied) it judges when the rows are
    written, and then everything is taken back.

    Raises: FindingsError: COPY-021.
    """
    findings: list[Finding] = []
    for table in plan.tables:
        if table.source.rows:
            findings += _duplicates(source, table)
            findings += _orphans(source, table, plan)
    if findings:
        raise FindingsError(
            "COPY-021",
            findings,
            why="The target's keys forbid these rows; SQLite did not enforce them. Nothing was changed.",
            fix="correct these rows in the SQLite file (the bot stopped), then run the same command again",
        )


def _duplicates(source: SourceDatabase, table: TablePlan) -> list[Finding]:
    findings = []
    for key in table.target.unique_keys:
        if not all(table.column(name) for name in key.columns) or key.columns == table.source.key:
            continue
        columns = [f"{quoted(name)} COLLATE BINARY" for name in key.columns]
        there = " AND ".join(f"{quoted(name)} IS NOT NULL" for name in key.columns) if key.nulls_differ else "1"
        rows = source.connection.execute(
            f"SELECT count(*), {', '.join(map(quoted, key.columns))} FROM {quoted(table.name)} WHERE {there} "  # noqa: S608
            f"GROUP BY {', '.join(columns)} HAVING count(*) > 1"
        )
        finding = Finding(table.name, "+".join(key.columns), f"the target's {key.name} wants each only once")
        for count, *values in rows:
            finding.add(f"{count} rows", ", ".join(map(shown, values)))
        if finding.count:
            findings.append(finding)
    return findings


def _orphans(source: SourceDatabase, table: TablePlan, plan: Plan) -> list[Finding]:
    findings = []
    parents = {parent.target.oid: parent for parent in plan.tables}
    for key in table.target.foreign_keys:
        parent = parents.get(key.parent_oid)
        if parent is None or not all(table.column(name) for name in key.columns):
            continue
        if not all(parent.column(name) for name in key.parent_columns):
            continue
        pairs = zip(key.columns, key.parent_columns, strict=True)
        same = " AND ".join(f"p.{quoted(theirs)} COLLATE BINARY = c.{quoted(ours)}" for ours, theirs in pairs)
        there = " AND ".join(f"c.{quoted(name)} IS NOT NULL" for name in key.columns)
        named = ", ".join(f"c.{name}" for name in (*table.source.naming, *map(quoted, key.columns)))
        rows = source.connection.execute(
            f"SELECT {named} FROM {quoted(table.name)} c WHERE {there} "  # noqa: S608
            f"AND NOT EXISTS (SELECT 1 FROM {quoted(parent.name)} p WHERE {same})"
        )
        finding = Finding(table.name, "+".join(key.columns), f"{parent.name} has no such row")
        for row in rows:
            finding.add(row_name(table, row), ", ".join(map(shown, row[len(table.source.naming) :])))
        if finding.count:
            findings.append(finding)
    return findings
