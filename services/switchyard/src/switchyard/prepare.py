"""What must be done to a database before the services start: wait for it, create the roles, migrate."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from tradedb.errors import EXIT_CONFIG, EXIT_UNREACHABLE, SwitchyardError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from switchyard.output import Progress

WAIT_TIMEOUT_S = 60.0
POLL_S = 0.1
ROLES_ARE_RIGHT = "The roles are as they should be."


def admin_url_of_environment() -> str:
    """Return DATABASE_URL of this process: in the ops image it is the superuser's.

    Raises: SwitchyardError: STACK-040, it is not set, and there is no stack here either.
    """
    url = os.environ.get("DATABASE_URL")
    if url:
        return url
    raise SwitchyardError(
        "STACK-040",
        "there is no database to prepare: no stack was started from here and DATABASE_URL is not set",
        why="In a checkout the stack's own database is meant; in the ops image DATABASE_URL names it.",
        fix="make up, or set DATABASE_URL to the administrator's URL",
        exit_code=EXIT_CONFIG,
    )


def prepare(admin_url: str, role_passwords: Mapping[str, str], report: Progress) -> None:
    """Wait until the database answers, create the roles or set them right, and bring the schema to head.

    Args:
        admin_url: the superuser's.
        role_passwords: by the role's name.
        report: gets one line for each of the two changes.

    Raises: SwitchyardError: DB-0xx, it does not answer, or refuses; what was done before stays, and is done only once.
    """
    with report.step("Roles and schema are up to date") as step:
        from tradedb import migrate

        step.detail = "waiting for the database"
        wait(admin_url)
        step.detail = "roles"
        changes = ensure_roles(admin_url, role_passwords)
        step.detail = "migrations"
        result = migrate.upgrade(as_role(admin_url, "migrator", role_passwords["migrator"]))
    if changes or result.applied:
        report.changed = True
    if changes:
        report.note(f"roles: {len(changes)} settings made or corrected")
    if result.applied:
        report.note(f"schema: {result.before or 'empty'} -> {result.after}")


def ensure_roles(admin_url: str, role_passwords: Mapping[str, str]) -> list[str]:
    """Create the roles or set them right; return a sentence for each change."""
    from tradedb import roles

    return roles.ensure_roles(admin_url, role_passwords)


def wait(url: str, timeout_s: float = WAIT_TIMEOUT_S) -> None:
    """Return when the database at `url` runs a query. A wrong password or name ends it at once: waiting does not help.

    Raises: SwitchyardError: DB-0xx, what the last attempt met.
    """
    from sqlalchemy import text
    from tradedb import DatabaseManager

    manager = DatabaseManager(url, service="switchyard")
    deadline = time.monotonic() + timeout_s
    try:
        while True:
            try:
                manager.read(
                    lambda connection: connection.execute(text("SELECT 1")).scalar(), name="wait", deadline_s=2
                )
            except SwitchyardError as error:
                if error.exit_code != EXIT_UNREACHABLE or time.monotonic() > deadline:
                    raise
                time.sleep(POLL_S)
            else:
                return
    finally:
        manager.dispose()


def as_role(admin_url: str, role: str, password: str) -> str:
    """Return the same database's URL for another role."""
    from tradedb.urls import parse_database_url

    url = parse_database_url(admin_url).set(username=role, password=password)
    return url.render_as_string(hide_password=False)
