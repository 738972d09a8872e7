"""What a copy will do: which column goes where, in which order, and what stays behind and why. Nothing silently."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tradedb.errors import SwitchyardError

from switchyard.transfer.kinds import Kind, kind_for

if TYPE_CHECKING:
    from collections.abc import Mapping

    from switchyard.transfer.source import SourceDatabase, SourceTable
    from switchyard.transfer.target import TargetColumn, TargetTable

SHOWN = 10  # how many of many problems one error names


@dataclass(frozen=True)
class ColumnPlan:
    """One column, into the column of the same name in the target; `written` unless the server computes it."""

    name: str
    target: TargetColumn
    kind: Kind
    written: bool


@dataclass(frozen=True)
class TablePlan:
    """One table. `absent`: target columns that the source lacks, and what fills them."""

    source: SourceTable
    target: TargetTable
    columns: tuple[ColumnPlan, ...]
    absent: dict[str, str]

    @property
    def name(self) -> str:
        """The table's name, the same on both sides."""
        return self.source.name

    @property
    def written(self) -> tuple[ColumnPlan, ...]:
        """The columns that COPY writes."""
        return tuple(column for column in self.columns if column.written)

    def column(self, name: str) -> ColumnPlan | None:
        """Return the column of that name."""
        return next((column for column in self.columns if column.name == name), None)


@dataclass(frozen=True)
class Plan:
    """Tables in the order in which they are written, parents before children."""

    tables: tuple[TablePlan, ...]
    skipped: dict[str, str]
    notes: tuple[str, ...]

    @property
    def rows(self) -> int:
        """Rows of all tables together."""
        return sum(table.source.rows for table in self.tables)

    def as_dict(self) -> dict[str, object]:
        """Return the plan for ``--json``."""
        return {
            "tables": [
                {
                    "name": table.name,
                    "rows": table.source.rows,
                    "columns": len(table.columns),
                    "filled_by_target": table.absent,
                }
                for table in self.tables
            ],
            "rows": self.rows,
            "skipped": self.skipped,
            "notes": list(self.notes),
        }


def make_plan(source: SourceDatabase, targets: Mapping[str, TargetTable], server_version: int) -> Plan:
    """Return the plan, or say everything that stands in its way at once.

    Raises: SwitchyardError: COPY-009 no tables, COPY-017 the tables do not fit, COPY-018 foreign keys in a circle.
    """
    skipped = dict(source.skipped)
    problems: list[str] = []
    tables: list[TablePlan] = []
    for table in source.tables:
        target = targets.get(table.name)
        if target is not None:
            tables.append(_match(table, target, server_version, problems))
        elif table.rows:
            problems.append(f"table {table.name} ({table.rows:,} rows) is missing in the target")
        else:
            skipped[table.name] = "missing in the target, and it holds no rows"
    if problems:
        more = f"; and {len(problems) - SHOWN} more" if len(problems) > SHOWN else ""
        raise SwitchyardError(
            "COPY-017",
            "the file does not fit the target: " + "; ".join(problems[:SHOWN]) + more,
            why="Nothing of a source is dropped silently, and the target's tables are never altered. Nothing changed.",
            fix="bring the target to the file's shape with its own migrations "
            "(ours: DATABASE_URL=its-url .venv/bin/tradedb migrate)",
        )
    if not tables:
        raise SwitchyardError(
            "COPY-009",
            "the file holds no table to copy",
            why=f"Tables found: {', '.join(skipped) or 'none'}. Nothing was changed.",
            fix="check that it is the file that the bot writes",
        )
    notes = [*source.notes]
    for plan in tables:
        if plan.target.triggers:
            notes.append(f"{plan.name} has triggers that run for every row: {', '.join(plan.target.triggers)}")
        notes += [f"{plan.name}.{column} is not in the source: {filled}" for column, filled in plan.absent.items()]
    return Plan(tuple(_parents_first(tables)), skipped, tuple(notes))


def _match(source: SourceTable, target: TargetTable, server_version: int, problems: list[str]) -> TablePlan:
    """Pair the columns by their exact names; what has no partner is a problem where rows depend on it."""
    there = {column.name: column for column in target.columns}
    columns = []
    for name in source.columns:
        if (column := there.pop(name, None)) is not None:
            columns.append(ColumnPlan(name, column, kind_for(column, server_version), written=not column.generated))
        elif source.rows:
            alike = next((other for other in there if other.lower() == name.lower()), None)
            hint = f" (it has {alike}, spelt differently)" if alike else ""
            problems.append(f"column {source.name}.{name} is missing in the target{hint}")
    for column in there.values():
        if column.required and source.rows:
            problems.append(
                f"column {source.name}.{column.name} is NOT NULL without a default, and missing in the file"
            )
    return TablePlan(source, target, tuple(columns), {column.name: column.filled_by for column in there.values()})


def _parents_first(tables: list[TablePlan]) -> list[TablePlan]:
    """Return the tables so that a foreign key's parent comes before its child.

    A key into the same table needs no order (it is checked at the end of the statement), nor does a deferrable one.

    Raises: SwitchyardError: COPY-018, they form a circle.
    """
    waiting = {
        plan.target.oid: {
            key.parent_oid
            for key in plan.target.foreign_keys
            if key.parent_oid != plan.target.oid and not key.deferrable
        }
        for plan in tables
    }
    by_oid = {plan.target.oid: plan for plan in tables}
    ordered: list[TablePlan] = []
    while waiting:
        ready = [oid for oid, parents in waiting.items() if not parents & waiting.keys()]
        if not ready:
            names = sorted(by_oid[oid].name for oid in waiting)
            raise SwitchyardError(
                "COPY-018",
                f"foreign keys in a circle, and none of them can wait for the commit: {', '.join(names)}",
                why="No order of these tables lets every row find its parent. Nothing was changed.",
                fix="make one of the keys DEFERRABLE: ALTER TABLE … ALTER CONSTRAINT … DEFERRABLE",
            )
        for oid in ready:
            del waiting[oid]
            ordered.append(by_oid[oid])
    return ordered
