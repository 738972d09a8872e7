"""What Postgres says about itself, and that it says the same to every role."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from click.testing import CliRunner
from sqlalchemy import text
from tradedb import migrate, revisions
from tradedb.cli import main
from tradedb.manager import DatabaseManager
from tradedb.testing import ROLE_PASSWORDS, ThrowawayDatabase

MakeManager = Callable[..., DatabaseManager]
HEAD = revisions.head_revision()
EVERY_ROLE = ["postgres", *ROLE_PASSWORDS]


@pytest.mark.parametrize("role", EVERY_ROLE)
def test_every_role_sees_which_server_this_is(
    database: ThrowawayDatabase, make_manager: MakeManager, role: str
) -> None:
    info = make_manager(database.url(role)).database_info()
    (identifier,) = database.execute("SELECT system_identifier::text FROM pg_control_system()")[0]
    assert (info.dialect, info.host, info.port) == ("postgresql", "127.0.0.1", database.server.port)
    assert (info.database, info.user, info.system_identifier) == (database.name, role, identifier)
    assert info.server_version.startswith("18.")
    assert info.timeline_id == 1
    assert info.tls is None
    assert info.size_bytes > 1_000_000


@pytest.mark.parametrize("role", EVERY_ROLE)
def test_every_role_sees_the_schemas_health(database: ThrowawayDatabase, make_manager: MakeManager, role: str) -> None:
    health = make_manager(database.url(role)).health()
    assert (health.ok, health.reason, health.revision, health.head, health.code) == (True, None, HEAD, HEAD, None)
    assert health.latency_ms is not None
    assert health.latency_ms > 0


def test_health_is_one_statement(database: ThrowawayDatabase, make_manager: MakeManager) -> None:
    """Readiness is asked every few seconds, by several machines."""
    manager = make_manager(database.url("trading_bot"))
    manager.health()
    seen = []
    from sqlalchemy import event

    event.listen(manager._engine, "before_cursor_execute", lambda *args: seen.append(args[2]))
    assert manager.health().ok
    assert seen == ["SELECT version_num FROM alembic_version"]


def test_connections_are_counted_by_role(database: ThrowawayDatabase, make_manager: MakeManager) -> None:
    bot = make_manager(database.url("trading_bot"))
    bot.read(lambda c: c.execute(text("SELECT 1")), name="t")
    stats = make_manager(database.url("dashboard")).connection_stats()
    used = {role.role: role.used for role in stats.roles}
    limits = {role.role: role.limit for role in stats.roles}
    assert used["trading_bot"] == 1
    assert used["dashboard"] == 1
    assert (limits["trading_bot"], limits["dashboard"], limits["monitor"], limits["postgres"]) == (16, 16, 4, None)
    assert stats.max_connections == 100
    assert stats.total >= sum(used.values())
    assert "owner" not in used


def test_the_pool_is_reported(database: ThrowawayDatabase, make_manager: MakeManager) -> None:
    manager = make_manager(database.url("trading_bot"))
    assert (manager.pool_status().size, manager.pool_status().checked_in) == (4, 0)
    inside = manager.read(lambda _: manager.pool_status(), name="t")
    assert (inside.checked_out, inside.overflow) == (1, 0)
    assert (manager.pool_status().checked_in, manager.pool_status().checked_out) == (1, 0)


def test_info_and_health_on_the_command_line(monkeypatch: pytest.MonkeyPatch, database: ThrowawayDatabase) -> None:
    monkeypatch.setenv("DATABASE_URL", database.url_text("trading_bot"))
    found = json.loads(CliRunner().invoke(main, ["info", "--json"]).stdout)
    assert found["schema_version"] == 1
    assert found["database"]["user"] == "trading_bot"
    assert found["connections"]["max_connections"] == 100
    plain = CliRunner().invoke(main, ["info"])
    assert plain.exit_code == 0
    assert f"system_identifier  {found['database']['system_identifier']}" in plain.stdout
    health = CliRunner().invoke(main, ["health", "--json"])
    assert health.exit_code == 0
    assert json.loads(health.stdout)["health"]["ok"] is True
    assert CliRunner().invoke(main, ["health"]).stdout.startswith(f"ok: revision {HEAD}, answered in ")


def test_migrate_and_roles_on_the_command_line(monkeypatch: pytest.MonkeyPatch, empty: ThrowawayDatabase) -> None:
    monkeypatch.setenv("DATABASE_URL", empty.url_text())
    for role, password in ROLE_PASSWORDS.items():
        monkeypatch.setenv(f"{role.upper()}_DB_PASSWORD", password)
    made = CliRunner().invoke(main, ["roles"])
    assert made.exit_code == 0
    assert "GRANT CONNECT ON DATABASE" in made.stdout
    for password in ROLE_PASSWORDS.values():
        assert password not in made.output
    again = CliRunner().invoke(main, ["roles"])
    assert again.stdout == "every role and grant is as it should be: nothing changed\n"
    assert json.loads(CliRunner().invoke(main, ["roles", "--json"]).stdout) == {"schema_version": 1, "changes": []}
    monkeypatch.setenv("DATABASE_URL", empty.url_text("migrator"))
    first = CliRunner().invoke(main, ["migrate"])
    assert first.exit_code == 0
    assert first.stdout.endswith(f"migrated to {HEAD} ({', '.join(migrate._revisions())})\n")
    assert ROLE_PASSWORDS["migrator"] not in first.output
    assert CliRunner().invoke(main, ["migrate"]).stdout.endswith(f"is at {HEAD}: nothing to do\n")
    result = json.loads(CliRunner().invoke(main, ["migrate", "--json"]).stdout)
    assert result == {"schema_version": 1, "before": HEAD, "after": HEAD, "applied": [], "adopted": False}
