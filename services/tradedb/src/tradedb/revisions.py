"""Which revision of the schema a database has, and which one this code needs.

Whoever only asks does not pay for Alembic, which takes 10 MB: ``migrate`` runs the migrations.
"""

from __future__ import annotations

import functools
from pathlib import Path

from sqlalchemy import Connection, text

from tradedb import adopt
from tradedb.errors import EXIT_FAILED, SwitchyardError

LOST_REVISION = ""  # of a database that was migrated and no longer says how far


@functools.cache
def known_revisions() -> list[str]:
    """Return every revision that this code knows, oldest first: the files of migrations are named after theirs."""
    folder = Path(__file__).parent / "migrations" / "versions"
    return sorted(path.name.partition("_")[0] for path in folder.glob("[0-9]*_*.py"))


@functools.cache
def head_revision() -> str:
    """Return the newest revision that this code knows, which is the one it needs."""
    known = known_revisions()
    if not known:
        raise SwitchyardError(
            "SCHEMA-006",
            f"no migrations in {Path(__file__).parent / 'migrations'}",
            why="the package is not complete. Nothing was changed.",
            fix="install it again: make setup",
        )
    return known[-1]


def current_revision(connection: Connection) -> str | None:
    """Return the revision of the database that the connection is to.

    None when it was never migrated; `LOST_REVISION` when it was, and the note of it is gone.
    """
    if connection.dialect.name == "postgresql":
        there = connection.execute(text("SELECT to_regclass('alembic_version') IS NOT NULL")).scalar()
    else:
        there = connection.execute(text("SELECT count(*) FROM sqlite_master WHERE name = 'alembic_version'")).scalar()
    if not there:
        return None
    noted = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    if noted is None and adopt.has_original_tables(connection):
        return LOST_REVISION
    return noted


def revision_problem(revision: str | None) -> SwitchyardError | None:
    """Return why this code cannot work with a database of this revision, or None when it can."""
    head = head_revision()
    if revision == head:
        return None
    if revision == LOST_REVISION:
        return lost_revision()
    if revision is not None and revision not in known_revisions():
        return newer_revision(revision)
    found = "has no tables yet" if revision is None else f"is at revision {revision}"
    return SwitchyardError(
        "SCHEMA-001",
        f"the schema is older than the code: the database {found}, the code needs {head}",
        why="its migrations have not been run. Nothing was changed.",
        fix="tradedb migrate",
        exit_code=EXIT_FAILED,
    )


def lost_revision() -> SwitchyardError:
    """Return the error for a database of ours that no longer says how far it was migrated."""
    note = f"INSERT INTO alembic_version VALUES ('{head_revision()}')"  # noqa: S608  # for a person to run
    return SwitchyardError(
        "SCHEMA-009",
        "the tables are there, but alembic_version, which says of which revision they are, is empty",
        why="somebody emptied it; migrating from the start would meet tables that are there. Nothing was changed.",
        fix=f'restore it from a backup; if this code worked on it before: switchyard psql -c "{note}"',
        exit_code=EXIT_FAILED,
    )


def newer_revision(revision: str) -> SwitchyardError:
    """Return the error for a database that newer code has migrated."""
    return SwitchyardError(
        "SCHEMA-002",
        f"the schema is newer than the code: the database is at revision {revision}, the code at {head_revision()}",
        why="newer code has migrated it. Nothing was changed.",
        fix="run the newer version of this code (git pull && make setup), or point DATABASE_URL at the right database",
        exit_code=EXIT_FAILED,
    )
