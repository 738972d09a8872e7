"""Every forbidden act is attempted, as the role, on a real server; and what a role is for works."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg2
import pytest
from tradedb.testing import ROLE_PASSWORDS, PostgresServer, ThrowawayDatabase, migrated_database

DENIED = "42501"
READ_ONLY = "25006"
APPEND_ONLY = "23001"  # restrict_violation, from the ledger's own trigger
UNBALANCED = "23514"  # check_violation, from a CHECK or the trigger that adds up
LEDGER_PAIR = (
    "INSERT INTO ledger_entries (session_id, venue, account, currency, amount, recorded_at, lease_epoch)"
    " VALUES (1, 'v', 'cash', 'USD', 100, now(), 1), (1, 'v', 'equity', 'USD', -100, now(), 1)"
)
INSERT_TRADE = (
    "INSERT INTO trades (symbol, side, source, entry_price, exit_price, size, entry_time, exit_time, pnl, pnl_percent,"
    " strategy_name) VALUES ('X', 'LONG', 'PAPER', 1, 1, 1, now(), now(), 0, 0, 's')"
)
INSERT_SESSION = (
    "INSERT INTO trading_sessions (start_time, mode, initial_balance, strategy_name, symbol, timeframe)"
    " VALUES (now(), 'PAPER', 1, 's', 'X', '1m')"
)
INSERT_EVENT = "INSERT INTO system_events (timestamp, event_type, message) VALUES (now(), 'T', 'm')"
WRITABLE = "SET default_transaction_read_only = off; "  # what an attacker with the session would do first

# fmt: off
FORBIDDEN: list[tuple[str, str, str]] = [
    # the bot appends to the ledger; it never rewrites it
    ("trading_bot", "UPDATE trades SET pnl = 0", DENIED),
    ("trading_bot", "DELETE FROM trades", DENIED),
    ("trading_bot", "TRUNCATE trades", DENIED),
    ("trading_bot", "UPDATE fills SET price = 1", DENIED),
    ("trading_bot", "DELETE FROM fills", DENIED),
    ("trading_bot", "TRUNCATE fills", DENIED),
    ("trading_bot", "UPDATE account_history SET balance = 1000000", DENIED),
    ("trading_bot", "DELETE FROM account_history", DENIED),
    ("trading_bot", "UPDATE system_events SET message = 'nothing happened'", DENIED),
    ("trading_bot", "DELETE FROM system_events", DENIED),
    ("trading_bot", "UPDATE strategy_executions SET price = 1", DENIED),
    ("trading_bot", "DELETE FROM order_intents", DENIED),
    ("trading_bot", "UPDATE order_intents SET quantity = 100", DENIED),
    ("trading_bot", "UPDATE order_intents SET lease_epoch = 99", DENIED),
    ("trading_bot", "UPDATE ledger_entries SET amount = 1", DENIED),
    ("trading_bot", "DELETE FROM ledger_entries", DENIED),
    ("trading_bot", "TRUNCATE ledger_entries", DENIED),
    ("trading_bot", "ALTER TABLE ledger_entries DISABLE TRIGGER ALL", DENIED),
    ("trading_bot", "DROP FUNCTION ledger_is_append_only()", DENIED),
    ("trading_bot", "SET session_replication_role = replica", DENIED),
    ("trading_bot", LEDGER_PAIR.replace("-100", "-99") + "; SET CONSTRAINTS ALL IMMEDIATE", UNBALANCED),
    ("trading_bot", LEDGER_PAIR.replace("100", "0"), UNBALANCED),
    ("trading_bot", "UPDATE quarantined_facts SET resolved_at = now()", DENIED),
    ("trading_bot", "DELETE FROM quarantined_facts", DENIED),
    ("trading_bot", "UPDATE venue_orders SET quantity = 100", DENIED),
    ("trading_bot", "DELETE FROM venue_orders", DENIED),
    ("trading_bot", "INSERT INTO trade_groups (symbol) VALUES ('X')", DENIED),
    ("trading_bot", "UPDATE trade_groups SET pnl = 1e9", DENIED),
    ("trading_bot", "DELETE FROM trade_days", DENIED),
    ("trading_bot", "ALTER TABLE trades DISABLE TRIGGER ALL", DENIED),
    ("trading_bot", "DROP FUNCTION trades_sums_after_insert()", DENIED),
    ("trading_bot", "DELETE FROM positions", DENIED),
    ("trading_bot", "UPDATE positions SET entry_time = now()", DENIED),
    ("trading_bot", "UPDATE positions SET order_id = 'other'", DENIED),
    ("trading_bot", "UPDATE trading_sessions SET initial_balance = 1", DENIED),
    ("trading_bot", "DELETE FROM bot_lease", DENIED),
    ("trading_bot", "UPDATE bot_lease SET name = 'other'", DENIED),
    ("trading_bot", "UPDATE alembic_version SET version_num = '0001'", DENIED),
    ("trading_bot", "CREATE TABLE public.mine (id int)", DENIED),
    ("trading_bot", "CREATE TEMPORARY TABLE mine (id int)", DENIED),
    ("trading_bot", "CREATE SCHEMA mine", DENIED),
    ("trading_bot", "ALTER TABLE trades ADD COLUMN mine int", DENIED),
    ("trading_bot", "DROP TABLE trades", DENIED),
    ("trading_bot", "CREATE INDEX ON trades (pnl)", DENIED),
    ("trading_bot", "SET ROLE owner", DENIED),
    ("trading_bot", "SET ROLE migrator", DENIED),
    ("trading_bot", "SET SESSION AUTHORIZATION postgres", DENIED),
    ("trading_bot", "ALTER ROLE trading_bot SUPERUSER", DENIED),
    ("trading_bot", "ALTER ROLE trading_bot CONNECTION LIMIT -1", DENIED),
    ("trading_bot", "CREATE ROLE mine", DENIED),
    ("trading_bot", "COPY trades TO PROGRAM 'cat'", DENIED),
    ("trading_bot", "COPY trades TO '/tmp/trades'", DENIED),
    ("trading_bot", "SELECT pg_read_file('/etc/passwd')", DENIED),
    ("trading_bot", "SELECT rolpassword FROM pg_authid", DENIED),
    ("trading_bot", "SELECT lo_create(0)", DENIED),
    ("trading_bot", "SELECT query FROM pg_stat_statements", DENIED),
    ("trading_bot", "SELECT pg_stat_statements_reset()", DENIED),
    ("trading_bot", "ALTER SYSTEM SET fsync = off", DENIED),
    ("trading_bot", "SELECT pg_reload_conf()", DENIED),
    ("trading_bot", "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'postgres'", DENIED),
    ("trading_bot", "CREATE TABLE switchyard.mine (id int)", DENIED),
    ("trading_bot", "CREATE EXTENSION pageinspect", DENIED),
    # the dashboard reads; also when it lifts the read-only setting of its own session
    ("dashboard", INSERT_TRADE, READ_ONLY),
    ("dashboard", "UPDATE positions SET status = 'CLOSED'", READ_ONLY),
    ("dashboard", "CREATE TABLE mine (id int)", READ_ONLY),
    ("dashboard", WRITABLE + INSERT_TRADE, DENIED),
    ("dashboard", WRITABLE + "UPDATE trades SET pnl = 0", DENIED),
    ("dashboard", WRITABLE + "UPDATE positions SET status = 'CLOSED'", DENIED),
    ("dashboard", WRITABLE + "DELETE FROM trades", DENIED),
    ("dashboard", WRITABLE + "TRUNCATE trades", DENIED),
    ("dashboard", WRITABLE + "INSERT INTO bot_lease VALUES ('x', 'x', 1, now(), now(), now())", DENIED),
    ("dashboard", WRITABLE + "SELECT * FROM bot_lease FOR SHARE", DENIED),
    ("dashboard", WRITABLE + "LOCK TABLE trades IN ACCESS EXCLUSIVE MODE", DENIED),
    ("dashboard", WRITABLE + "CREATE TABLE public.mine (id int)", DENIED),
    ("dashboard", WRITABLE + "CREATE TEMPORARY TABLE mine (id int)", DENIED),
    ("dashboard", WRITABLE + "SELECT lo_from_bytea(0, 'x')", DENIED),
    ("dashboard", "SELECT pg_logical_emit_message(false, 'x', repeat('x', 1000000))", DENIED),
    ("dashboard", "SET temp_file_limit = -1", DENIED),
    ("dashboard", WRITABLE + "ALTER ROLE dashboard SET temp_file_limit = -1", DENIED),
    ("dashboard", WRITABLE + "SELECT setval('trades_id_seq', 1)", DENIED),
    ("dashboard", WRITABLE + LEDGER_PAIR, DENIED),
    ("dashboard", WRITABLE + "UPDATE quarantined_facts SET resolved_at = now()", DENIED),
    ("dashboard", "SET ROLE owner", DENIED),
    ("dashboard", "SELECT pg_ls_dir('/')", DENIED),
    # monitor sees the server, not the trades
    ("monitor", "SELECT * FROM trades", DENIED),
    ("monitor", "SELECT * FROM account_history", DENIED),
    ("monitor", "SELECT * FROM positions", DENIED),
    ("monitor", WRITABLE + "INSERT INTO switchyard.ledger VALUES (1)", DENIED),
    ("monitor", "SET ROLE owner", DENIED),
    # backup reads everything and changes nothing
    ("backup", INSERT_EVENT, READ_ONLY),
    ("backup", WRITABLE + INSERT_EVENT, DENIED),
    ("backup", WRITABLE + "DELETE FROM trades", DENIED),
    ("backup", WRITABLE + "CREATE TABLE public.mine (id int)", DENIED),
    # migrator is nobody until it says SET ROLE owner, and even the owner is no superuser
    ("migrator", "SELECT * FROM trades", DENIED),
    ("migrator", "CREATE TABLE public.mine (id int)", DENIED),
    ("migrator", "DROP TABLE trades", DENIED),
    ("migrator", "SET ROLE postgres", DENIED),
    # the owner of the books cannot rewrite them by a statement, nor can the superuser
    ("migrator", "SET ROLE owner; UPDATE ledger_entries SET amount = 1", APPEND_ONLY),
    ("migrator", "SET ROLE owner; DELETE FROM ledger_entries", APPEND_ONLY),
    ("migrator", "SET ROLE owner; TRUNCATE ledger_entries", APPEND_ONLY),
    ("migrator", "SET ROLE owner; TRUNCATE trading_sessions CASCADE", APPEND_ONLY),
    ("postgres", "UPDATE ledger_entries SET amount = 1", APPEND_ONLY),
    ("postgres", "DELETE FROM ledger_entries", APPEND_ONLY),
    ("migrator", "SET ROLE owner; CREATE ROLE mine", DENIED),
    ("migrator", "SET ROLE owner; COPY trades TO PROGRAM 'cat'", DENIED),
    ("migrator", "SET ROLE owner; ALTER SYSTEM SET fsync = off", DENIED),
]

ALLOWED: list[tuple[str, str]] = [
    ("trading_bot", INSERT_TRADE),
    ("trading_bot", INSERT_SESSION + " RETURNING id"),
    ("trading_bot", INSERT_EVENT),
    ("trading_bot", "INSERT INTO account_history (timestamp, balance, equity) VALUES (now(), 1, 1)"),
    ("trading_bot", "INSERT INTO strategy_executions (timestamp, strategy_name, symbol) VALUES (now(), 's', 'X')"),
    ("trading_bot", "UPDATE positions SET status = 'CLOSED', current_price = 1, updated_at = now()"),
    ("trading_bot", "UPDATE trading_sessions SET is_active = false, end_time = now(), final_balance = 1"),
    ("trading_bot", "UPDATE order_intents SET status = 'FILLED', updated_at = now()"),
    ("trading_bot", "INSERT INTO bot_lease VALUES ('t', 'me', 1, now(), now(), now()) ON CONFLICT (name) DO UPDATE"
                    " SET holder = excluded.holder, epoch = bot_lease.epoch + 1, expires_at = excluded.expires_at"),
    ("trading_bot", "SELECT epoch FROM bot_lease WHERE holder = 'me' AND expires_at > clock_timestamp() FOR SHARE"),
    ("trading_bot", "INSERT INTO fills VALUES ('v', 't1', 'i', 'X', 'BUY', 1, 1, 0, 'USD', now(), now(), 1)"
                    " ON CONFLICT DO NOTHING"),
    ("trading_bot", LEDGER_PAIR + "; SET CONSTRAINTS ALL IMMEDIATE"),
    ("trading_bot", "INSERT INTO quarantined_facts (venue, venue_trade_id, kind, digest, received, differing,"
                    " quarantined_at, lease_epoch) VALUES ('v', 't', 'fill', 'd', '{}', 'price', now(), 1)"
                    " ON CONFLICT DO NOTHING"),
    ("trading_bot", "INSERT INTO venue_orders VALUES ('v', 'i', 'o', 1, 'X', 'BUY', 1, 0, 'ACCEPTED', now(), now(),"
                    " now(), 1) ON CONFLICT (venue, client_order_id) DO UPDATE SET status = excluded.status,"
                    " filled_quantity = excluded.filled_quantity, updated_at = excluded.updated_at"),
    ("trading_bot", "SELECT version_num FROM alembic_version"),
    ("trading_bot", "SELECT system_identifier FROM pg_control_system()"),
    ("dashboard", "SELECT * FROM trades"),
    ("dashboard", "SELECT * FROM positions JOIN trading_sessions s ON s.id = session_id"),
    ("dashboard", "SELECT * FROM bot_lease"),
    ("dashboard", "SELECT * FROM switchyard.ledger"),
    ("dashboard", "SELECT usename, count(*) FROM pg_stat_activity GROUP BY 1"),
    ("dashboard", "SELECT * FROM pg_locks"),
    ("dashboard", "SELECT pg_database_size(current_database())"),
    ("dashboard", "SELECT timeline_id FROM pg_control_checkpoint()"),
    ("monitor", "SELECT query FROM pg_stat_activity"),
    ("monitor", "SELECT query, calls FROM pg_stat_statements"),
    ("monitor", "SELECT * FROM pg_settings"),
    ("monitor", "SELECT version_num FROM alembic_version"),
    ("monitor", "SELECT * FROM switchyard.ledger"),
    ("backup", "COPY trades TO STDOUT"),
    ("backup", "SELECT * FROM switchyard.ledger"),
    ("backup", "SELECT last_value FROM trades_id_seq"),
    ("migrator", "SELECT version_num FROM alembic_version"),
    ("migrator", "SET ROLE owner; CREATE TABLE public.theirs (id int); DROP TABLE public.theirs"),
    ("migrator", "SET ROLE owner; CREATE TABLE switchyard.theirs (id int); DROP TABLE switchyard.theirs"),
    ("migrator", "SET ROLE owner; CREATE SCHEMA IF NOT EXISTS switchyard"),
    ("migrator", "SET ROLE owner; CREATE TEMPORARY TABLE t (id int)"),
]
# fmt: on


@pytest.fixture(scope="module")
def shared(postgres: PostgresServer) -> Iterator[ThrowawayDatabase]:
    """One database for all acts: each is rolled back."""
    with migrated_database(postgres) as database:
        database.execute("SET ROLE owner; CREATE TABLE switchyard.ledger (id int)")
        database.execute(INSERT_SESSION)
        database.execute(
            "INSERT INTO order_intents VALUES ('i', 1, 1, 's', 'v', 'X', 'BUY', 'ENTRY', 1, 1, now(), NULL, 'PENDING',"
            " now(), now())"
        )
        yield database


@contextmanager
def session(database: ThrowawayDatabase, role: str) -> Iterator[Any]:
    connection = psycopg2.connect(database.url_text(role))
    try:
        with connection.cursor() as cursor:
            yield cursor
    finally:
        connection.rollback()
        connection.close()


def attempt(cursor: Any, sql: str) -> None:
    """Run an act; SET default_transaction_read_only takes effect with the next transaction."""
    if sql.startswith(WRITABLE):
        cursor.execute(WRITABLE)
        cursor.connection.commit()
        sql = sql.removeprefix(WRITABLE)
    if sql.startswith("ALTER SYSTEM"):
        cursor.connection.commit()
        cursor.connection.autocommit = True
    for statement in sql.split("; "):
        if statement.startswith("ALTER SYSTEM") and statement != sql:
            cursor.connection.commit()
            cursor.connection.autocommit = True
        if statement.startswith("COPY trades TO STDOUT"):
            with open("/dev/null", "w") as nowhere:  # noqa: PTH123
                cursor.copy_expert(statement, nowhere)
        else:
            cursor.execute(statement)


def test_there_are_enough() -> None:
    assert len(FORBIDDEN) >= 40
    assert len(set(FORBIDDEN)) == len(FORBIDDEN)


@pytest.mark.parametrize(("role", "sql", "state"), FORBIDDEN)
def test_refused(shared: ThrowawayDatabase, role: str, sql: str, state: str) -> None:
    with session(shared, role) as cursor:
        with pytest.raises(psycopg2.Error) as refused:
            attempt(cursor, sql)
        assert refused.value.pgcode == state, refused.value


@pytest.mark.parametrize(("role", "sql"), ALLOWED)
def test_allowed(shared: ThrowawayDatabase, role: str, sql: str) -> None:
    with session(shared, role) as cursor:
        attempt(cursor, sql)


@pytest.mark.parametrize(
    ("role", "database"), [(role, name) for role in ROLE_PASSWORDS for name in ("postgres", "template1")]
)
def test_no_role_gets_into_the_servers_other_databases(shared: ThrowawayDatabase, role: str, database: str) -> None:
    with pytest.raises(psycopg2.OperationalError, match=f'permission denied for database "{database}"'):
        shared.server.connect(database, role, ROLE_PASSWORDS[role])


def test_the_owner_cannot_log_in(shared: ThrowawayDatabase) -> None:
    with pytest.raises(psycopg2.OperationalError, match=r"password authentication failed|not permitted to log in"):
        shared.server.connect(shared.name, "owner", "any-password")


def test_the_dashboards_statements_end_after_5_s(shared: ThrowawayDatabase) -> None:
    with session(shared, "dashboard") as cursor, pytest.raises(psycopg2.errors.QueryCanceled):
        cursor.execute("SELECT pg_sleep(20)")


@pytest.mark.parametrize("role", ["monitor", "backup"])
def test_a_role_cannot_take_more_connections_than_its_limit(shared: ThrowawayDatabase, role: str) -> None:
    held = [shared.server.connect(shared.name, role, ROLE_PASSWORDS[role]) for _ in range(4)]
    with pytest.raises(psycopg2.OperationalError, match=f'too many connections for role "{role}"'):
        shared.server.connect(shared.name, role, ROLE_PASSWORDS[role])
    for connection in held:
        connection.close()


def test_a_backup_can_be_taken_with_the_backup_role(shared: ThrowawayDatabase) -> None:
    url = shared.url("backup")
    done = subprocess.run(
        [str(shared.server.bin / "pg_dump"), "--format=custom", "--no-sync", "--file=/dev/null", "--host=127.0.0.1",
         f"--port={url.port}", f"--username={url.username}", f"--dbname={url.database}"],
        env={**os.environ, "PGPASSWORD": str(url.password)}, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
