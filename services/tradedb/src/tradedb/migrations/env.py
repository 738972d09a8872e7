"""How Alembic runs: on the connection that ``tradedb.migrate`` hands over, or, for a developer, on DATABASE_URL's."""

from __future__ import annotations

from alembic import context
from sqlalchemy import Connection

from tradedb.config import DatabaseSettings, load_settings
from tradedb.errors import EXIT_USAGE, SwitchyardError
from tradedb.manager import DatabaseManager
from tradedb.migrate import comparison_options


def run(connection: Connection) -> None:
    """Run the migrations in the transaction that the connection is in; its owner commits."""
    context.configure(connection=connection, **comparison_options(connection))
    with context.begin_transaction():
        context.run_migrations()


handed_over: Connection | None = context.config.attributes.get("connection")
if handed_over is not None:
    run(handed_over)
elif context.is_offline_mode():
    raise SwitchyardError(
        "SCHEMA-007",
        "migrations as SQL text are not offered",
        why="they look at the database while they run (which roles are there, what it holds). Nothing was changed.",
        fix="tradedb migrate",
        exit_code=EXIT_USAGE,
    )
else:
    manager = DatabaseManager.from_settings(load_settings(DatabaseSettings), service="alembic")
    try:
        manager.transaction(run, name="alembic", deadline_s=300)
    finally:
        manager.dispose()
