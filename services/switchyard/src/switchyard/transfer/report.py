"""What a copy reports: as one JSON object, and as a table for people."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from switchyard.output import printable
from switchyard.output import table as text_table

if TYPE_CHECKING:
    from switchyard.transfer.plan import Plan

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class TableReport:
    """One table: rows read from the source, written, and found equal on both sides."""

    name: str
    rows_read: int
    rows_written: int
    rows_verified: int
    next_ids: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class CopyReport:
    """What a copy did.

    Args:
        run_id: of this run; of the earlier one when status is ``unchanged``.
        status: ``copied``; ``unchanged`` (the same content was copied before); ``planned`` (--dry-run); ``declined``.
        source: label, file name, digest of the content.
        target: the URL without its password.
        tables: what became of each; empty unless copied.
        plan: what was planned.
        seconds: the whole run.
        copied_at: when the rows were committed, ISO 8601; None when planned or declined.
        notes: what a person should know.
    """

    run_id: str | None
    status: str
    source: dict[str, Any]
    target: str
    tables: tuple[TableReport, ...]
    plan: Plan
    seconds: float
    copied_at: str | None = None
    notes: tuple[str, ...] = ()

    @property
    def rows(self) -> int:
        """Rows written and verified."""
        return sum(table.rows_verified for table in self.tables)

    def as_dict(self) -> dict[str, Any]:
        """Return the object that ``--json`` prints."""
        return {
            "schema_version": SCHEMA_VERSION,
            "run_id": self.run_id,
            "status": self.status,
            "source": self.source,
            "target": self.target,
            "tables": [asdict(table) for table in self.tables],
            "rows": self.rows,
            "seconds": round(self.seconds, 3),
            "rows_per_s": round(self.rows / self.seconds) if self.seconds and self.rows else 0,
            "copied_at": self.copied_at,
            "notes": list(self.notes),
            "plan": self.plan.as_dict(),
        }

    def text(self) -> str:
        """Return what a person reads."""
        notes = "".join(f"note: {printable(note)}\n" for note in self.notes)
        file = printable(self.source["file"])
        if self.status == "unchanged":
            when = (self.copied_at or "").partition(".")[0].replace("T", " ")
            return (
                f"{notes}Already copied on {when} UTC, run {self.run_id}. Nothing was changed.\n"
                f"The content of {file} is the same as then ({self.plan.rows:,} rows)."
            )
        if self.status in ("planned", "declined"):
            return f"{notes}Nothing was changed."
        rows = [
            [table.name, f"{table.rows_read:,}", f"{table.rows_written:,}", f"{table.rows_verified:,}"]
            for table in self.tables
        ]
        rate = f"{self.rows / self.seconds:,.0f}" if self.seconds else "?"
        return (
            f"{text_table(['table', 'read', 'written', 'verified'], rows)}\n{notes}"
            f"Copied {self.rows:,} rows of {file} into {self.target} in {self.seconds:.1f} s "
            f"({rate} rows/s). Every value was read back and compared.\nRun {self.run_id}."
        )


def plan_text(plan: Plan, source: str, target: str) -> str:
    """Return the plan as a person reads it before saying yes."""
    rows = [
        [table.name, f"{table.source.rows:,}", str(len(table.columns)), ", ".join(table.absent) or "-"]
        for table in plan.tables
    ]
    lines = [printable(f"Copy {source} into {target}:")]
    lines.append(text_table(["table", "rows", "columns", "filled by the target"], rows))
    lines += [printable(f"not copied: {name} ({reason})") for name, reason in plan.skipped.items()]
    lines += [printable(f"note: {note}") for note in plan.notes]
    lines.append(f"{plan.rows:,} rows in all, written in one transaction and verified before it commits.")
    return "\n".join(lines)
