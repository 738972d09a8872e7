"""From inside each service, with its own URL: what it may not do is refused by the database, what it must do works."""

from __future__ import annotations

import json

import pytest
from targets import Target

PROGRAM = """
import json, os, sys
import psycopg2
said = {}
for statement in json.loads(sys.argv[1]):
    connection = psycopg2.connect(os.environ["DATABASE_URL"])
    connection.autocommit = statement.startswith(("ALTER SYSTEM", "CREATE DATABASE"))  # never inside a transaction
    try:
        connection.cursor().execute(statement)
        said[statement] = "done"
    except psycopg2.Error as error:
        said[statement] = error.pgcode or str(error)
    connection.rollback()
    connection.close()
print(json.dumps(said))
"""
REFUSED = {"42501", "25006"}  # insufficient privilege; read-only transaction

EVERYBODY_MAY_NOT = [
    "DROP TABLE trades",
    "TRUNCATE fills",
    "DELETE FROM trades",
    "DELETE FROM fills",
    "ALTER TABLE trades ADD COLUMN mine int",
    "CREATE TABLE mine (i int)",
    "CREATE SCHEMA mine",
    "CREATE ROLE mine",
    "CREATE DATABASE mine",
    "SET ROLE owner",
    "SET ROLE migrator",
    "SET ROLE postgres",
    "UPDATE alembic_version SET version_num = 'mine'",
    "SELECT pg_read_file('/etc/passwd')",
    "COPY trades TO PROGRAM 'true'",
    "SELECT rolpassword FROM pg_authid",
    "ALTER SYSTEM SET fsync = off",
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'postgres' OR usename IS NULL",
]
DASHBOARD_MAY_NOT = [
    "INSERT INTO trading_sessions (start_time, mode, initial_balance, strategy_name, symbol, timeframe) "
    "VALUES (now(), 'PAPER', 1, 's', 's', 't')",
    "INSERT INTO bot_lease (name, holder, epoch, acquired_at, renewed_at, expires_at) "
    "VALUES ('x', 'x', 1, now(), now(), now())",
    "UPDATE bot_lease SET epoch = epoch + 1",
    "UPDATE trades SET pnl = 0",
    "SELECT nextval(pg_get_serial_sequence('trades', 'id'))",
]
BOT_MAY_NOT = [
    "UPDATE trades SET pnl = 0",
    "UPDATE fills SET fee = 0",
    "DELETE FROM order_intents",
    "UPDATE fills SET price = 1",
]


@pytest.mark.parametrize(
    ("service", "statements"),
    [("dashboard", EVERYBODY_MAY_NOT + DASHBOARD_MAY_NOT), ("trading-bot", EVERYBODY_MAY_NOT + BOT_MAY_NOT)],
    ids=["dashboard", "trading-bot"],
)
def test_forbidden_acts_are_refused(target: Target, service: str, statements: list[str]) -> None:
    said = json.loads(target.python(service, PROGRAM, json.dumps(statements)).stdout)
    assert {statement: code for statement, code in said.items() if code not in REFUSED} == {}


def test_the_dashboard_cannot_talk_itself_out_of_read_only(target: Target) -> None:
    statements = ["SET default_transaction_read_only = off; SET transaction_read_only = off; DELETE FROM trades"]
    said = json.loads(target.python("dashboard", PROGRAM, json.dumps(statements)).stdout)
    assert set(said.values()) == {"42501"}


def test_what_each_service_must_do_works(target: Target) -> None:
    read = [
        f"SELECT * FROM {table} LIMIT 1" for table in ("trades", "positions", "account_history", "fills", "bot_lease")
    ]
    write = ["INSERT INTO system_events (timestamp, event_type, message) VALUES (now(), 'TEST', 'rolled back')"]
    for service, statements in (("dashboard", read), ("trading-bot", read + write)):
        said = json.loads(target.python(service, PROGRAM, json.dumps(statements)).stdout)
        assert set(said.values()) == {"done"}, said


def test_a_long_statement_of_the_dashboard_is_ended_by_its_role(target: Target) -> None:
    said = json.loads(target.python("dashboard", PROGRAM, json.dumps(["SELECT pg_sleep(20)"])).stdout)
    assert set(said.values()) == {"57014"}


def test_no_role_of_a_service_owns_anything(target: Target) -> None:
    owners = target.sql(
        "SELECT DISTINCT relowner::regrole::text AS owner FROM pg_class JOIN pg_namespace n ON n.oid = relnamespace "
        "WHERE nspname IN ('public', 'switchyard') "
        # but what belongs to an extension
        "AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = pg_class.oid AND d.deptype = 'e')"
    )
    assert {row["owner"] for row in owners} == {"owner"}
    super_roles = target.sql(
        "SELECT rolname FROM pg_roles "
        "WHERE (rolsuper OR rolbypassrls OR rolcreaterole OR rolcreatedb) AND rolname !~ '^pg_'"
    )
    assert {row["rolname"] for row in super_roles} == {"postgres"}
