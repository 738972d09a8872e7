"""Runs the migrations: one at a time, each in its own transaction, under a lock, by as many processes as like to.

There are no downgrades. A change goes in steps that old and new code both work with (expand, then contract),
so going back is deploying the old code, and losing data is never a command.
"""

from __future__ import annotations

import functools
import io
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import URL, Connection, text
from sqlalchemy import exc as sa
from sqlalchemy.types import TypeEngine

from tradedb import adopt
from tradedb.errors import EXIT_CONFIG, EXIT_FAILED, EXIT_UNREACHABLE, SwitchyardError
from tradedb.manager import DatabaseManager, DatabaseUnavailable
from tradedb.models import Base
from tradedb.redaction import redact
from tradedb.revisions import LOST_REVISION, current_revision, lost_revision, newer_revision
from tradedb.roles import OWNER, grant_tables

MIGRATION_LOCK = 7_303_021_990  # pg_advisory_xact_lock's key in this database
VERSION_TABLE = "alembic_version"


@dataclass(frozen=True)
class MigrationResult:
    """What a run found and did. ``adopted``: an unversioned database had the original tables, and keeps them."""

    before: str | None
    after: str
    applied: list[str] = field(default_factory=list)
    adopted: bool = False


def upgrade(
    manager_or_url: DatabaseManager | URL | str,
    *,
    lock_timeout_s: float = 3.0,
    wait_s: float = 60.0,
    statement_timeout_s: float = 1800.0,
) -> MigrationResult:
    """Bring the database to the code's revision; return what was done.

    On Postgres it acts as the role ``owner`` where the user may. Each migration is one transaction, together with its
    revision: killed at any time, the database is at one revision or the next.

    Args:
        manager_or_url: of the database; a SQLite file named by a URL is made when it is not there.
        lock_timeout_s: how long to wait in a queue for one lock, in which readers and writers would queue up behind us;
            then we step back and try again.
        wait_s: how long to go on trying before giving up.
        statement_timeout_s: the longest that one migration may run: indexes over tens of millions of rows take minutes.

    Raises:
        SwitchyardError: SCHEMA-002 the database is newer than the code, SCHEMA-003 its tables are not ours, SCHEMA-004
            another process held the lock all the time, SCHEMA-005 the user may not, SCHEMA-008 the database refused its
            SQL; DatabaseUnavailable.
    """
    if not isinstance(manager_or_url, DatabaseManager):
        manager = DatabaseManager(manager_or_url, service="switchyard-migrate", create_file=True)
        try:
            return upgrade(
                manager, lock_timeout_s=lock_timeout_s, wait_s=wait_s, statement_timeout_s=statement_timeout_s
            )
        finally:
            manager.dispose()
    manager = manager_or_url
    _wait_for_a_connection(manager, wait_s)
    before = manager.read(current_revision, name="revision")
    if before is not None and before not in _revisions():
        raise lost_revision() if before == LOST_REVISION else newer_revision(before)
    applied: list[str] = []
    adopted = False
    while True:

        def step(connection: Connection) -> _Step:
            prepare(connection, lock_timeout_s=lock_timeout_s, statement_timeout_s=statement_timeout_s)
            return _one_step(connection)

        try:
            done = manager.transaction(
                step, name="migrate", deadline_s=wait_s + statement_timeout_s, retry_for_s=wait_s, idempotent=True
            )
        except DatabaseUnavailable as error:
            if error.code in ("DB-014", "DB-016"):
                raise _locked(manager, wait_s, error) from error
            if error.code == "DB-012":
                raise _not_allowed(error) from error
            raise
        except SwitchyardError as error:
            if error.code == "DB-006":
                raise _not_allowed(error) from error
            raise
        except sa.DBAPIError as error:
            raise _failed(manager, error) from error
        adopted = adopted or done.kind == "adopted"
        if done.kind == "nothing":
            return MigrationResult(before, done.revision, applied, adopted)
        if done.kind == "applied":
            applied.append(done.revision)


def _wait_for_a_connection(manager: DatabaseManager, wait_s: float) -> None:
    """Return when the database answers: an absent server is found out about in seconds, not after `wait_s`.

    A server or a role without a free connection is not absent: others migrate at the same moment, and will leave. Once
    there is a connection, the pool keeps it.
    """
    until = time.monotonic() + wait_s
    while True:
        try:
            return manager.wait()
        except DatabaseUnavailable as error:
            if error.code != "DB-007" or time.monotonic() >= until:
                raise


def prepare(connection: Connection, *, lock_timeout_s: float = 3.0, statement_timeout_s: float = 1800.0) -> None:
    """Make the transaction fit for DDL: as the owner, its waits bounded, and alone.

    Raises: sqlalchemy.exc.OperationalError, 55P03, when another process migrates for longer than ``lock_timeout_s``.
    """
    if connection.dialect.name != "postgresql":
        return  # BEGIN IMMEDIATE has the file locked
    # in SQL, after connecting: PgBouncer refuses startup options; LOCAL: it may hand the session to somebody else next
    connection.exec_driver_sql(f"SET LOCAL lock_timeout = {int(lock_timeout_s * 1000)}")
    connection.exec_driver_sql(f"SET LOCAL statement_timeout = {int(statement_timeout_s * 1000)}")
    connection.exec_driver_sql("SET LOCAL search_path = public")
    if connection.execute(_MAY_ACT_AS_OWNER).scalar():
        connection.exec_driver_sql(f"SET LOCAL ROLE {OWNER}")
    connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({MIGRATION_LOCK})")


def differences(connection: Connection) -> list[Any]:
    """Return how the database differs from the models, as ``alembic check`` would; empty when it does not."""
    options = comparison_options(connection)
    metadata = options.pop("target_metadata")
    return compare_metadata(
        MigrationContext.configure(connection, opts={**options, "target_metadata": metadata}), metadata
    )


def comparison_options(connection: Connection) -> dict[str, Any]:
    """Return Alembic's options: our models, and only our tables (the owner may have others in the same schema)."""
    sqlite = connection.dialect.name == "sqlite"
    return {
        "target_metadata": Base.metadata,
        "compare_type": _affinity_differs if sqlite else _precision_differs,
        "compare_server_default": not sqlite,
        "include_object": adopt.objects_to_compare(connection),
        "render_as_batch": sqlite,
    }


_MAY_ACT_AS_OWNER = text(
    "SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = :owner AND pg_has_role(current_user, oid, 'SET')"
    " AND has_schema_privilege(oid, 'public', 'CREATE'))"
).bindparams(owner=OWNER)


@dataclass(frozen=True)
class _Step:
    """One transaction's work, and the revision after it."""

    revision: str
    kind: Literal["applied", "adopted", "nothing"]


def _one_step(connection: Connection) -> _Step:
    """Apply the next migration, if there is one."""
    current = current_revision(connection)
    if current is None and adopt.has_original_tables(connection):
        adopt.require_original_shape(connection)
        command.stamp(_config(connection), adopt.ORIGINAL_REVISION)
        _grant(connection)
        return _Step(adopt.ORIGINAL_REVISION, "adopted")
    if current is not None and current not in _revisions():
        raise newer_revision(current)
    todo = _revisions()[_revisions().index(current) + 1 :] if current else _revisions()
    if not todo:
        return _Step(str(current), "nothing")
    command.upgrade(_config(connection), todo[0])
    _grant(connection)
    return _Step(todo[0], "applied")


def _grant(connection: Connection) -> None:
    """Give the tables their grants in the same transaction, where the roles have been set up."""
    if connection.dialect.name == "postgresql" and connection.execute(text("SELECT current_user")).scalar() == OWNER:
        grant_tables(connection)


@functools.cache
def _scripts() -> ScriptDirectory:
    return ScriptDirectory.from_config(_config())


@functools.cache
def _revisions() -> list[str]:
    """Return every revision that this code knows, oldest first."""
    return [script.revision for script in reversed(list(_scripts().walk_revisions()))]


def _config(connection: Connection | None = None) -> Config:
    """Return Alembic's configuration: no file, the folder in this package."""
    config = Config(stdout=io.StringIO())  # stdout is data; Alembic's own lines are not ours
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    config.attributes["connection"] = connection
    return config


def _affinity_differs(
    _context: Any, _inspected: Any, _column: Any, inspected_type: TypeEngine[Any], wanted_type: TypeEngine[Any]
) -> bool:
    """Return whether two SQLite types store values differently. Their names do not matter there: FLOAT or DOUBLE."""
    from sqlalchemy.dialects import sqlite

    dialect = sqlite.dialect()
    return adopt.affinity(inspected_type.compile(dialect)) != adopt.affinity(
        wanted_type.dialect_impl(dialect).compile(dialect)
    )


def _precision_differs(
    _context: Any, _inspected: Any, _column: Any, inspected_type: TypeEngine[Any], wanted_type: TypeEngine[Any]
) -> bool | None:
    """Return True for a numeric with a precision where ours has none, which would round; None lets Alembic compare."""
    from sqlalchemy.dialects import postgresql

    dialect = postgresql.dialect()
    found, wanted = inspected_type.compile(dialect), wanted_type.compile(dialect)
    return True if found != wanted and found.startswith("NUMERIC") and wanted.startswith("NUMERIC") else None


def _failed(manager: DatabaseManager, error: sa.DBAPIError) -> SwitchyardError:
    """Return the error for a migration whose SQL the database refused."""
    first_line = str(error.orig).strip().splitlines()[0]
    return SwitchyardError(
        "SCHEMA-008",
        f"a migration of {manager.url_redacted} failed: {redact(first_line)}",
        why="the database holds something that is in its way. That migration was rolled back; those before it stay.",
        fix="rename or remove what is named above if it is not ours, then: tradedb migrate",
        exit_code=EXIT_FAILED,
    )


def _locked(manager: DatabaseManager, wait_s: float, error: SwitchyardError) -> SwitchyardError:
    """Return the error for a lock that somebody else kept."""
    return SwitchyardError(
        "SCHEMA-004",
        f"could not migrate {manager.url_redacted} within {wait_s:.0f} s: another process holds a lock that it needs",
        why=f"{error.what}. The revisions applied before stay; the rest was not begun.",
        fix="end the transaction that holds the lock (the dashboard's database page shows it), then: tradedb migrate",
        exit_code=EXIT_UNREACHABLE,
    )


def _not_allowed(error: SwitchyardError) -> SwitchyardError:
    """Return the error for a user that may not make tables."""
    return SwitchyardError(
        "SCHEMA-005",
        f"this user may not change the schema: {error.what}",
        why="migrations run as migrator, or as the superuser. Nothing was changed.",
        fix="DATABASE_URL=$(switchyard db url --role migrator) tradedb migrate; if that fails too: switchyard db roles",
        exit_code=EXIT_CONFIG,
    )
