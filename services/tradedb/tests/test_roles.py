"""Roles are made once, equal to the table, and kept so."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import psycopg2
import pytest
from sqlalchemy import text
from tradedb import roles
from tradedb.errors import SwitchyardError
from tradedb.manager import DatabaseManager
from tradedb.migrate import upgrade
from tradedb.models import Base
from tradedb.roles import ROLES, TABLE_GRANTS, ensure_roles, passwords_from, scram_matches
from tradedb.testing import ROLE_PASSWORDS, PostgresServer, ThrowawayDatabase, empty_database, throwaway_server

MakeManager = Callable[..., DatabaseManager]


@pytest.fixture(scope="module")
def fresh() -> Iterator[PostgresServer]:
    """A server on which no role was ever made; it logs every statement, as a careful operator's does."""
    with throwaway_server(options={"log_statement": "all", "log_min_duration_statement": "0"}) as server:
        yield server


def test_every_table_has_its_grants_listed() -> None:
    assert set(TABLE_GRANTS) == set(Base.metadata.tables) | {"alembic_version"}


def test_updatable_columns_exist() -> None:
    for table, grants in TABLE_GRANTS.items():
        for privilege in grants.get("trading_bot", ()):
            if found := re.fullmatch(r"UPDATE \((\w+)\)", privilege):
                assert found[1] in Base.metadata.tables[table].columns


def test_nobody_but_the_bot_writes_and_nobody_deletes() -> None:
    for grants in TABLE_GRANTS.values():
        for role, privileges in grants.items():
            assert not set(privileges) & {"DELETE", "TRUNCATE", "UPDATE", "REFERENCES", "TRIGGER", "ALL"}
            if role != "trading_bot":
                assert set(privileges) == {"SELECT"}


def test_a_password_is_required_once_and_nothing_is_left_half_made(fresh: PostgresServer) -> None:
    """The first test on this server: no role is there yet."""
    with empty_database(fresh) as database:
        with pytest.raises(SwitchyardError) as missing:
            ensure_roles(database.url(), {"migrator": ROLE_PASSWORDS["migrator"]})
        assert missing.value.code == "ROLE-001"
        assert missing.value.exit_code == 78
        assert missing.value.what == "TRADING_BOT_DB_PASSWORD is not set, and trading_bot has no password yet"
        assert database.execute("SELECT count(*) FROM pg_roles WHERE rolname = ANY(%s)", [list(roles.NAMES)]) == [(0,)]

        changes = ensure_roles(database.url(), ROLE_PASSWORDS)
        assert "CREATE ROLE trading_bot" in changes
        assert "CREATE EXTENSION pg_stat_statements SCHEMA public" in changes
        assert ensure_roles(database.url(), ROLE_PASSWORDS) == []
        assert ensure_roles(database.url(), {}) == []


def test_no_password_and_no_verifier_reaches_the_servers_log_or_statistics(fresh: PostgresServer) -> None:
    with empty_database(fresh) as database:
        ensure_roles(database.url(), {**ROLE_PASSWORDS, "monitor": "another-canary-password"})
        seen = fresh.log + str(database.execute("SELECT query FROM pg_stat_statements"))
        assert "BEGIN" in seen  # it is the log of every statement
        for secret in (*ROLE_PASSWORDS.values(), "another-canary-password", "SCRAM-SHA-256$4096"):
            assert secret not in seen
        ensure_roles(database.url(), ROLE_PASSWORDS)


def test_changes_never_name_a_password(fresh: PostgresServer) -> None:
    with empty_database(fresh) as database:
        changes = ensure_roles(database.url(), {**ROLE_PASSWORDS, "monitor": "yet-another-password"})
        assert "password of monitor" in changes
        assert "yet-another" not in str(changes)
        assert "SCRAM" not in str(changes)
        ensure_roles(database.url(), ROLE_PASSWORDS)


def test_a_new_password_is_applied_by_the_next_run(fresh: PostgresServer) -> None:
    with empty_database(fresh) as database:
        ensure_roles(database.url(), ROLE_PASSWORDS)
        new = "n3w:p@ss/wörd#"
        assert ensure_roles(database.url(), {**ROLE_PASSWORDS, "dashboard": new}) == ["password of dashboard"]
        assert ensure_roles(database.url(), {"dashboard": new}) == []
        fresh.connect(database.name, "dashboard", new).close()
        with pytest.raises(psycopg2.OperationalError, match="password authentication failed"):
            fresh.connect(database.name, "dashboard", ROLE_PASSWORDS["dashboard"])
        assert ensure_roles(database.url(), ROLE_PASSWORDS) == ["password of dashboard"]


def test_passwords_are_stored_as_scram(fresh: PostgresServer) -> None:
    stored = dict(
        fresh.execute("SELECT rolname, rolpassword FROM pg_authid WHERE rolname = ANY(%s)", [list(roles.NAMES)])
    )
    assert stored.pop("owner") is None
    assert len(stored) == 5
    for name, verifier in stored.items():
        assert scram_matches(verifier, ROLE_PASSWORDS[name])
        assert not scram_matches(verifier, ROLE_PASSWORDS[name] + "x")
    assert not scram_matches("md5" + "0" * 32, "x")
    assert not scram_matches("nonsense", "x")


@pytest.mark.parametrize("password", ["short", "", "nul\0inside-it"])
def test_a_password_that_cannot_be_used_is_refused_before_connecting(password: str) -> None:
    with pytest.raises(SwitchyardError) as refused:
        ensure_roles("postgresql://postgres:x@127.0.0.1:1/x", {"backup": password})
    assert refused.value.code == "ROLE-003"
    assert refused.value.fix.startswith("write a longer one to BACKUP_DB_PASSWORD in .env")


def test_only_a_superuser_makes_roles(database: ThrowawayDatabase) -> None:
    with pytest.raises(SwitchyardError) as refused:
        ensure_roles(database.url("migrator"), ROLE_PASSWORDS)
    assert refused.value.code == "ROLE-002"
    assert refused.value.exit_code == 78
    assert refused.value.what == "migrator is not a superuser of this server, so it cannot make roles"


def test_sqlite_has_no_roles(sqlite_url: str) -> None:
    with pytest.raises(SwitchyardError) as refused:
        ensure_roles(sqlite_url, ROLE_PASSWORDS)
    assert refused.value.code == "ROLE-004"
    assert refused.value.exit_code == 78


def test_passwords_come_from_the_environment_by_role() -> None:
    environment = {"TRADING_BOT_DB_PASSWORD": "a", "DASHBOARD_DB_PASSWORD": "", "POSTGRES_PASSWORD": "c"}
    assert passwords_from(environment) == {"trading_bot": "a"}


@pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)
def test_attributes_and_settings_are_those_of_the_table(database: ThrowawayDatabase, role: roles.Role) -> None:
    found = database.execute(
        "SELECT rolcanlogin, rolinherit, rolconnlimit, rolsuper OR rolcreatedb OR rolcreaterole OR rolreplication"
        " OR rolbypassrls, coalesce(rolconfig, '{}') FROM pg_roles WHERE rolname = %s",
        [role.name],
    )
    login, inherit, limit, powerful, config = found[0]
    assert (login, inherit, limit, powerful) == (role.login, role.inherit, role.connection_limit, False)
    assert set(config) == {f"{name}={value}" for name, value in role.settings.items()}


@pytest.mark.parametrize(
    ("role", "settings"),
    [
        (
            "trading_bot",
            {"statement_timeout": "10s", "lock_timeout": "2s", "idle_in_transaction_session_timeout": "10s"},
        ),
        (
            "dashboard",
            {"statement_timeout": "5s", "default_transaction_read_only": "on", "temp_file_limit": "1GB", "jit": "off"},
        ),
        ("monitor", {"default_transaction_read_only": "on"}),
        ("backup", {"default_transaction_read_only": "on"}),
        ("migrator", {}),
    ],
)
def test_a_session_really_has_its_settings(
    database: ThrowawayDatabase, make_manager: MakeManager, role: str, settings: dict[str, str]
) -> None:
    manager = make_manager(database.url(role))
    for name, value in {**settings, "TimeZone": "UTC"}.items():
        assert manager.read(lambda c, n=name: c.execute(text(f"SHOW {n}")).scalar_one(), name="t") == value


@pytest.mark.parametrize(
    "sql",
    [
        "GRANT DELETE ON trades TO trading_bot",
        "GRANT UPDATE (pnl) ON trades TO trading_bot",
        "GRANT SELECT ON trades TO PUBLIC",
        "GRANT INSERT ON trades TO dashboard",
        "GRANT CREATE ON SCHEMA public TO PUBLIC",
        "GRANT owner TO dashboard",
        "GRANT pg_write_all_data TO trading_bot",
        "ALTER ROLE dashboard CREATEDB",
        "ALTER ROLE dashboard CONNECTION LIMIT -1",
        "ALTER ROLE dashboard SET default_transaction_read_only = off",
        "ALTER ROLE trading_bot RESET statement_timeout",
        "ALTER ROLE dashboard RESET temp_file_limit",
        "DO $$ BEGIN EXECUTE format('ALTER ROLE dashboard IN DATABASE %I SET statement_timeout = 0',"
        " current_database()); END $$",
        "GRANT EXECUTE ON FUNCTION pg_catalog.pg_logical_emit_message(boolean, text, text, boolean) TO PUBLIC",
        "ALTER ROLE migrator INHERIT",
        "ALTER TABLE trades OWNER TO postgres",
        "ALTER TABLE trades OWNER TO trading_bot",
        "REVOKE SELECT ON trades FROM dashboard",
        "REVOKE UPDATE (status) ON positions FROM trading_bot",
        "GRANT EXECUTE ON FUNCTION pg_catalog.lo_create(oid) TO PUBLIC",
        "ALTER DEFAULT PRIVILEGES FOR ROLE owner IN SCHEMA public GRANT DELETE ON TABLES TO trading_bot",
        "DROP SCHEMA switchyard",
    ],
)
def test_whatever_was_changed_by_hand_is_put_right(database: ThrowawayDatabase, sql: str) -> None:
    before = catalog(database)
    database.execute(sql)
    assert catalog(database) != before
    assert ensure_roles(database.url(), ROLE_PASSWORDS) != []
    assert catalog(database) == before
    assert ensure_roles(database.url(), ROLE_PASSWORDS) == []


def test_grants_of_other_roles_are_left(database: ThrowawayDatabase) -> None:
    """An operator's own reporting role is nobody else's business."""
    database.execute("DROP ROLE IF EXISTS own_reports")
    database.execute("CREATE ROLE own_reports")
    database.execute("GRANT SELECT ON trades TO own_reports")
    assert ensure_roles(database.url(), ROLE_PASSWORDS) == []
    assert database.execute("SELECT has_table_privilege('own_reports', 'trades', 'SELECT')") == [(True,)]
    database.execute("REVOKE ALL ON trades FROM own_reports")
    database.execute("DROP ROLE own_reports")


def test_roles_after_migrations_end_like_migrations_after_roles(
    database: ThrowawayDatabase, postgres: PostgresServer
) -> None:
    with empty_database(postgres) as other:
        upgrade(other.url())  # by the superuser; the roles exist on this server, but know nothing of this database
        owners = other.execute("SELECT DISTINCT tableowner FROM pg_tables WHERE schemaname = 'public'")
        assert owners == [("postgres",)]
        ensure_roles(other.url(), ROLE_PASSWORDS)
        assert catalog(other) == catalog(database)
        assert ensure_roles(other.url(), ROLE_PASSWORDS) == []


def test_a_table_that_a_later_migration_makes_has_its_readers_at_once(database: ThrowawayDatabase) -> None:
    connection = database.server.connect(database.name, "migrator", ROLE_PASSWORDS["migrator"])
    with connection.cursor() as cursor:
        cursor.execute("SET ROLE owner")
        cursor.execute("CREATE TABLE public.later (id int)")
        cursor.execute("CREATE TABLE switchyard.copy_run (id int)")
        cursor.execute("CREATE FUNCTION public.f() RETURNS int LANGUAGE sql AS 'SELECT 1'")
    connection.close()
    checks = {
        ("dashboard", "later", "SELECT"): True,
        ("trading_bot", "later", "SELECT"): True,
        ("trading_bot", "later", "INSERT"): False,
        ("monitor", "later", "SELECT"): False,
        ("dashboard", "switchyard.copy_run", "SELECT"): True,
        ("monitor", "switchyard.copy_run", "SELECT"): True,
        ("trading_bot", "switchyard.copy_run", "SELECT"): False,
        ("backup", "later", "SELECT"): True,
    }
    for (role, table, privilege), may in checks.items():
        assert database.execute("SELECT has_table_privilege(%s, %s, %s)", [role, table, privilege]) == [(may,)]
    assert database.execute("SELECT has_function_privilege('dashboard', 'f()', 'EXECUTE')") == [(False,)]
    assert ensure_roles(database.url(), ROLE_PASSWORDS) == []


def test_public_has_nothing(database: ThrowawayDatabase) -> None:
    for sql in (
        "SELECT a.privilege_type FROM pg_database, aclexplode(coalesce(datacl, acldefault('d', datdba))) a"
        " WHERE datname IN (current_database(), 'postgres', 'template1') AND a.grantee = 0",
        "SELECT a.privilege_type FROM pg_namespace, aclexplode(coalesce(nspacl, acldefault('n', nspowner))) a"
        " WHERE nspname IN ('public', 'switchyard') AND a.grantee = 0",
        "SELECT c.relname, a.privilege_type FROM pg_class c, aclexplode(c.relacl) a"
        " WHERE relnamespace IN ('public'::regnamespace, 'switchyard'::regnamespace) AND a.grantee = 0",
    ):
        assert database.execute(sql) == []


def catalog(database: ThrowawayDatabase) -> list[tuple[object, ...]]:
    """Who owns what, who may do what, and what the roles are: compared without regard to the order of grants."""
    found: list[tuple[object, ...]] = []
    for sql in (
        "SELECT c.relname, o.rolname, g.rolname, a.privilege_type FROM pg_class c JOIN pg_roles o ON o.oid = c.relowner"
        " LEFT JOIN aclexplode(c.relacl) a ON a.grantee <> c.relowner LEFT JOIN pg_roles g ON g.oid = a.grantee"
        " WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'S', 'v')",
        "SELECT t.attrelid::regclass::text, t.attname, a.grantee, a.privilege_type FROM pg_attribute t,"
        " aclexplode(t.attacl) a WHERE t.attacl IS NOT NULL AND t.attrelid > 16384",
        "SELECT nspname, o.rolname, a.grantee, a.privilege_type FROM pg_namespace n JOIN pg_roles o"
        " ON o.oid = nspowner, aclexplode(nspacl) a WHERE nspname IN ('public', 'switchyard')",
        "SELECT a.grantee, a.privilege_type FROM pg_database, aclexplode(datacl) a WHERE datname = current_database()",
        "SELECT p.oid, a.grantee FROM pg_proc p, aclexplode(proacl) a WHERE pronamespace = 'pg_catalog'::regnamespace",
        "SELECT n.nspname, defaclobjtype, a.grantee, a.privilege_type FROM pg_default_acl d"
        " LEFT JOIN pg_namespace n ON n.oid = defaclnamespace, aclexplode(defaclacl) a",
        "SELECT rolname, rolcanlogin, rolinherit, rolconnlimit, rolcreatedb, (SELECT array_agg(c ORDER BY c)"
        " FROM unnest(rolconfig) c)::text FROM pg_roles WHERE rolname !~ '^pg_'",
        "SELECT s.setrole::regrole::text, s.setconfig::text FROM pg_db_role_setting s JOIN pg_database d"
        " ON d.oid = s.setdatabase WHERE d.datname = current_database()",
        "SELECT roleid::regrole::text, member::regrole::text, inherit_option, set_option FROM pg_auth_members"
        " WHERE member > 16384",
    ):
        found += sorted((sql[:20], *map(str, row)) for row in set(database.execute(sql)))
    return found
