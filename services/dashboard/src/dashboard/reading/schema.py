"""Whether the tables are the ones that this dashboard was made for."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection
from tradedb.revisions import current_revision, head_revision, revision_problem


@dataclass(frozen=True)
class SchemaState:
    """The schema's revision and ours. ``problem`` is None if they are the same."""

    revision: str | None
    head: str
    problem: str | None
    remedy: str

    @property
    def readable(self) -> bool:
        """Return whether the database was ever migrated: tables of another revision are worth a try."""
        return self.revision is not None


def schema_state(conn: Connection) -> SchemaState:
    """Return the state of the schema; an absent table of revisions does not end the transaction.

    Args:
        conn: in a transaction.
    """
    revision = current_revision(conn)
    problem = revision_problem(revision)
    sentence = f"{problem.what[0].upper()}{problem.what[1:]}." if problem else None
    return SchemaState(revision, head_revision(), sentence, problem.fix if problem else "")
