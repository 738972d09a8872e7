"""One owner of DDL: what it makes equals the models, whoever runs it, however many run it, whenever it is killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg2
import pytest
from sqlalchemy import create_engine, text
from tradedb.errors import SwitchyardError
from tradedb.manager import FIRST_ANSWER_S, DatabaseManager
from tradedb.migrate import MIGRATION_LOCK, differences, upgrade
from tradedb.models import Base
from tradedb.revisions import current_revision, head_revision, known_revisions, revision_problem
from tradedb.roles import ensure_roles
from tradedb.rollups import TABLES as ROLLUPS
from tradedb.testing import ROLE_PASSWORDS, PostgresServer, ThrowawayDatabase, empty_database

MakeManager = Callable[..., DatabaseManager]
TABLES = set(Base.metadata.tables)
REVISIONS = ["0001", "0002", "0003", "0004"]
HEAD = REVISIONS[-1]
NEW_IN_0002 = {"bot_lease", "order_intents", "fills"}
NEW_IN_0003 = {"venue_orders", "ledger_entries", "quarantined_facts"}
NEW_IN_0004 = set(ROLLUPS)
REPOSITORY = Path(__file__).parents[3]

CATALOG = {
    "columns": "SELECT table_name, column_name, data_type, character_maximum_length, numeric_precision, numeric_scale,"
    " is_nullable, column_default, is_identity, identity_generation FROM information_schema.columns"
    " WHERE table_schema = 'public' AND table_name <> 'alembic_version' ORDER BY 1, ordinal_position",
    "indexes": "SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'public'"
    " AND tablename <> 'alembic_version' ORDER BY 1",
    "constraints": "SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint"
    " WHERE connamespace = 'public'::regnamespace AND conrelid <> 0 AND conrelid::regclass::text <> 'alembic_version'"
    " AND contype <> 't' ORDER BY 1, 2",  # triggers are the migrations' alone: the models know none
    "sequences": "SELECT sequencename, data_type::text FROM pg_sequences WHERE schemaname = 'public' ORDER BY 1",
}


def tables(database: ThrowawayDatabase) -> set[str]:
    return {name for (name,) in database.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")}


def test_an_empty_postgres_gets_every_table(empty: ThrowawayDatabase) -> None:
    result = upgrade(empty.url_text())
    assert (result.before, result.after, result.applied, result.adopted) == (None, HEAD, REVISIONS, False)
    assert tables(empty) == TABLES | {"alembic_version"}
    assert head_revision() == HEAD


def test_a_second_run_does_nothing(empty: ThrowawayDatabase) -> None:
    upgrade(empty.url_text())
    result = upgrade(empty.url_text())
    assert (result.before, result.after, result.applied) == (HEAD, HEAD, [])


def test_migrations_on_postgres_are_the_models(empty: ThrowawayDatabase, postgres: PostgresServer) -> None:
    """Stronger than Alembic's comparison, which does not see CHECK constraints: the catalogs of both, row by row."""
    upgrade(empty.url_text())
    with empty_database(postgres) as other:
        engine = create_engine(other.url())
        Base.metadata.create_all(engine)
        engine.dispose()
        for what, sql in CATALOG.items():
            assert empty.execute(sql) == other.execute(sql), what


def test_alembic_finds_no_difference_on_postgres(empty: ThrowawayDatabase, make_manager: MakeManager) -> None:
    upgrade(empty.url_text())
    assert make_manager(empty.url_text()).read(differences, name="check") == []


def test_alembic_finds_no_difference_on_sqlite(sqlite_url: str, make_manager: MakeManager) -> None:
    assert make_manager(sqlite_url).read(differences, name="check") == []


@pytest.mark.parametrize(
    "sql",
    [
        "ALTER TABLE trades DROP COLUMN exit_reason",
        "ALTER TABLE trades ADD COLUMN surprise text",
        "ALTER TABLE trades ALTER COLUMN entry_price TYPE numeric(18, 8)",
        "ALTER TABLE fills ALTER COLUMN fee DROP NOT NULL",
        "ALTER TABLE trades ALTER COLUMN id DROP IDENTITY",
        "DROP INDEX ix_fills_intent_id",
        "ALTER TABLE trades DROP CONSTRAINT uq_trades_order_id",
        "ALTER TABLE trades DROP CONSTRAINT trades_position_id_fkey",
        "ALTER TABLE fills ALTER COLUMN filled_at TYPE timestamp",
        "DROP TABLE fills",
    ],
)
def test_alembic_finds_each_difference_on_postgres(
    empty: ThrowawayDatabase, make_manager: MakeManager, sql: str
) -> None:
    """The comparison is not blind: each of these drifts is seen."""
    upgrade(empty.url_text())
    empty.execute(sql)
    assert make_manager(empty.url_text()).read(differences, name="check") != []


@pytest.mark.parametrize(
    "sql",
    [
        "ALTER TABLE trades DROP COLUMN exit_reason",
        "ALTER TABLE trades ADD COLUMN surprise TEXT",
        "DROP INDEX ix_fills_intent_id",
        "DROP TABLE fills",
    ],
)
def test_alembic_finds_each_difference_on_sqlite(sqlite_url: str, make_manager: MakeManager, sql: str) -> None:
    manager = make_manager(sqlite_url)
    manager.transaction(lambda c: c.execute(text(sql)), name="drift")
    assert manager.read(differences, name="check") != []


def test_tables_of_somebody_else_are_left_alone(empty: ThrowawayDatabase, make_manager: MakeManager) -> None:
    empty.execute("CREATE TABLE my_notes (id int)")
    upgrade(empty.url_text())
    assert make_manager(empty.url_text()).read(differences, name="check") == []
    assert "my_notes" in tables(empty)


@pytest.mark.parametrize("command", [["check"], ["current"], ["history"]])
def test_the_alembic_command_itself_works(empty: ThrowawayDatabase, tmp_path: Path, command: list[str]) -> None:
    """``alembic check`` as a developer runs it, with the [tool.alembic] of the repository's pyproject.toml."""
    upgrade(empty.url_text())
    for url in (empty.url_text(), f"sqlite:///{tmp_path}/x.db"):
        if url.startswith("sqlite"):
            upgrade(url)
        done = subprocess.run(
            [sys.executable, "-m", "alembic", *command],
            cwd=REPOSITORY, env={**os.environ, "DATABASE_URL": url}, capture_output=True, text=True, timeout=60,
            check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        if command == ["check"]:
            assert "No new upgrade operations detected." in done.stdout


def test_revisions_are_one_line_and_only_forward() -> None:
    from tradedb import migrate

    assert migrate._revisions() == REVISIONS
    assert known_revisions() == REVISIONS, "the files are named after their revisions"
    assert len(migrate._scripts().get_heads()) == 1
    for script in migrate._scripts().walk_revisions():
        assert not hasattr(script.module, "downgrade"), "downgrades are not offered: they lose data"


def test_migrations_are_in_the_package() -> None:
    """They must ship in the wheel: a deploy has no checkout."""
    import tradedb

    folder = Path(tradedb.__file__).parent / "migrations"
    assert (folder / "env.py").is_file()
    assert sorted(path.name[:4] for path in (folder / "versions").glob("*.py")) == REVISIONS


# --- many at once --------------------------------------------------------------------------------------------------


def start(url: str, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tradedb.cli", "migrate", "--json", *arguments],
        env={**os.environ, "DATABASE_URL": url}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


# Imports everything once, forks that many processes, lets them go together, so that they really meet, and prints what
# each of them did.
AT_ONCE = """
import dataclasses, json, os, sys, tempfile
from tradedb import migrate
from tradedb.migrate import upgrade
migrate._revisions()
url, count = sys.argv[1], int(sys.argv[2])
closed, opened = os.pipe()
children = {}
for _ in range(count):
    said = tempfile.TemporaryFile("w+")
    child = os.fork()
    if child == 0:
        os.close(opened)
        os.read(closed, 1)  # until the gate is opened
        json.dump(dataclasses.asdict(upgrade(url)), said)
        said.flush()
        os._exit(0)
    children[child] = said
os.close(opened)
codes = [os.waitpid(child, 0)[1] for child in children]
assert not any(codes), codes
print(json.dumps([json.loads([said.seek(0), said.read()][1]) for said in children.values()]))
"""


def migrate_at_once(url: str, count: int) -> list[dict[str, Any]]:
    """Return what each of `count` processes did that began to migrate at the same moment."""
    done = subprocess.run(
        [sys.executable, "-c", AT_ONCE, url, str(count)], capture_output=True, text=True, timeout=150, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def finish(processes: list[subprocess.Popen[str]]) -> list[dict[str, Any]]:
    results = []
    for process in processes:
        out, err = process.communicate(timeout=120)
        assert process.returncode == 0, err
        results.append(json.loads(out))
    return results


@pytest.mark.slow
def test_twenty_processes_at_once_migrate_an_empty_database_once(empty: ThrowawayDatabase) -> None:
    """As migrator, whose role has fewer connections than that: those turned away come again."""
    ensure_roles(empty.url(), ROLE_PASSWORDS)
    results = migrate_at_once(empty.url_text("migrator"), 20)
    assert len(results) == 20
    assert {result["after"] for result in results} == {HEAD}
    applied = sorted(revision for result in results for revision in result["applied"])
    assert applied == REVISIONS
    assert tables(empty) == TABLES | {"alembic_version"}
    assert empty.execute("SELECT version_num FROM alembic_version") == [(HEAD,)]


def test_five_processes_at_once_migrate_an_empty_sqlite_file_once(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/new/folder/x.db"
    results = migrate_at_once(url, 5)
    assert sorted(revision for result in results for revision in result["applied"]) == REVISIONS


@pytest.mark.slow
def test_killed_at_any_time_it_is_at_one_revision_or_the_next(postgres: PostgresServer) -> None:
    """F27: SIGKILL while it migrates; a second run finishes it."""
    for delay_s in (0.9, 1.0, 1.1, 1.2, 1.3):
        with empty_database(postgres) as database:
            process = start(database.url_text())
            time.sleep(delay_s)
            process.send_signal(signal.SIGKILL)
            process.communicate(timeout=60)
            there = tables(database) - {"alembic_version"}
            revision = (
                database.execute("SELECT version_num FROM alembic_version")[0][0]
                if "alembic_version" in tables(database)
                else None
            )
            expected = {None: 0, "0001": 7, "0002": 10, "0003": 13, "0004": 19}[revision]
            assert len(there) == expected
            assert upgrade(database.url_text()).after == HEAD
            assert tables(database) == TABLES | {"alembic_version"}


def test_it_waits_while_others_hold_every_connection_of_the_role(empty: ThrowawayDatabase) -> None:
    """As twenty at once do; an absent server would be given up on long before."""
    ensure_roles(empty.url(), ROLE_PASSWORDS)
    url, [(limit,)] = (
        empty.url_text("migrator"),
        empty.execute("SELECT rolconnlimit FROM pg_roles WHERE rolname = 'migrator'"),
    )
    holders = [psycopg2.connect(url) for _ in range(limit)]
    leave = threading.Timer(FIRST_ANSWER_S + 2, lambda: [holder.close() for holder in holders])
    leave.start()
    try:
        assert upgrade(url).after == head_revision()
    finally:
        leave.join()


def test_it_waits_for_another_migration(empty: ThrowawayDatabase) -> None:
    other = empty.server.connect(empty.name)
    other.autocommit = False
    with other.cursor() as cursor:
        cursor.execute(f"SELECT pg_advisory_xact_lock({MIGRATION_LOCK})")
    waiting = start(empty.url_text())
    time.sleep(4)  # longer than lock_timeout
    assert waiting.poll() is None
    other.rollback()
    other.close()
    assert finish([waiting])[0]["applied"] == REVISIONS


def test_it_gives_up_after_its_time_and_says_why(empty: ThrowawayDatabase) -> None:
    other = empty.server.connect(empty.name)
    other.autocommit = False
    with other.cursor() as cursor:
        cursor.execute(f"SELECT pg_advisory_xact_lock({MIGRATION_LOCK})")
    started = time.monotonic()
    with pytest.raises(SwitchyardError) as locked:
        upgrade(empty.url_text(), lock_timeout_s=0.2, wait_s=3)
    other.close()
    assert time.monotonic() - started < 60
    assert locked.value.code == "SCHEMA-004"
    assert locked.value.exit_code == 69
    assert locked.value.what.startswith("could not migrate postgresql")
    assert locked.value.what.endswith("within 3 s: another process holds a lock that it needs")
    assert ROLE_PASSWORDS["migrator"] not in str(locked.value)
    assert tables(empty) == set()


def test_it_steps_back_from_a_table_that_is_in_use(empty: ThrowawayDatabase) -> None:
    """F16: a migration in the queue for a lock stops everybody behind it, so it does not stay there."""
    empty.execute("CREATE VIEW ix_fills_intent_id AS SELECT 1")  # stops it at 0001
    with pytest.raises(SwitchyardError):
        upgrade(empty.url_text())
    empty.execute("DROP VIEW ix_fills_intent_id")
    reader = empty.server.connect(empty.name)
    reader.autocommit = False
    with reader.cursor() as cursor:  # creating a foreign key to it needs a lock that this one prevents
        cursor.execute("LOCK TABLE trading_sessions IN ROW EXCLUSIVE MODE")
    with pytest.raises(SwitchyardError) as locked:
        upgrade(empty.url_text(), lock_timeout_s=0.3, wait_s=3)
    reader.close()
    assert locked.value.code == "SCHEMA-004"
    assert tables(empty) == TABLES - NEW_IN_0002 - NEW_IN_0003 - NEW_IN_0004 | {"alembic_version"}
    assert upgrade(empty.url_text()).applied == REVISIONS[1:]


# --- whose schema is it --------------------------------------------------------------------------------------------


def test_a_schema_newer_than_the_code_is_refused_and_left(
    database: ThrowawayDatabase, make_manager: MakeManager
) -> None:
    database.execute("UPDATE alembic_version SET version_num = '0099'")
    with pytest.raises(SwitchyardError) as newer:
        upgrade(database.url("migrator"))
    assert newer.value.code == "SCHEMA-002"
    assert newer.value.exit_code == 1
    assert (
        newer.value.what == f"the schema is newer than the code: the database is at revision 0099, the code at {HEAD}"
    )
    assert newer.value.why.endswith("Nothing was changed.")
    assert database.execute("SELECT version_num FROM alembic_version") == [("0099",)]
    health = make_manager(database.url("trading_bot")).health()
    assert (health.ok, health.code, health.revision, health.head) == (False, "SCHEMA-002", "0099", HEAD)
    assert health.reason == newer.value.what


def test_a_schema_older_than_the_code_is_not_healthy(database: ThrowawayDatabase, make_manager: MakeManager) -> None:
    database.execute("UPDATE alembic_version SET version_num = '0001'")
    health = make_manager(database.url("dashboard")).health()
    assert (health.ok, health.code, health.revision) == (False, "SCHEMA-001", "0001")
    assert (
        health.reason == f"the schema is older than the code: the database is at revision 0001, the code needs {HEAD}"
    )


def test_a_database_that_lost_the_note_of_its_revision(database: ThrowawayDatabase, make_manager: MakeManager) -> None:
    """It is neither empty nor somebody else's; nothing is guessed, and the way out works."""
    database.execute("DELETE FROM alembic_version")
    with pytest.raises(SwitchyardError) as lost:
        upgrade(database.url("migrator"))
    assert (lost.value.code, lost.value.exit_code) == ("SCHEMA-009", 1)
    assert "alembic_version, which says of which revision they are, is empty" in lost.value.what
    health = make_manager(database.url("trading_bot")).health()
    assert (health.ok, health.code, health.reason) == (False, "SCHEMA-009", lost.value.what)
    assert manager_says(make_manager(database.url("dashboard"))) == "SCHEMA-009"
    way_out = lost.value.fix.partition('psql -c "')[2].removesuffix('"')
    database.execute(way_out)
    assert upgrade(database.url("migrator")).applied == []
    assert make_manager(database.url("trading_bot")).health().ok


def manager_says(manager: DatabaseManager) -> str | None:
    problem = revision_problem(manager.read(current_revision, name="revision"))
    return problem.code if problem else None


def test_an_empty_table_of_revisions_without_our_tables_is_an_empty_database(empty: ThrowawayDatabase) -> None:
    """As `alembic current` leaves it."""
    empty.execute("CREATE TABLE alembic_version (version_num varchar(32) PRIMARY KEY)")
    assert upgrade(empty.url_text()).after == head_revision()


def test_an_empty_database_is_not_healthy(empty: ThrowawayDatabase, make_manager: MakeManager) -> None:
    health = make_manager(empty.url_text()).health()
    assert (health.ok, health.code, health.revision) == (False, "SCHEMA-001", None)
    assert health.latency_ms is not None
    problem = revision_problem(None)
    assert problem is not None
    assert problem.fix == "tradedb migrate"
    assert "has no tables yet" in problem.what


def test_a_user_who_may_not_is_told_so(empty: ThrowawayDatabase) -> None:
    ensure_roles(empty.url(), ROLE_PASSWORDS)
    with pytest.raises(SwitchyardError) as denied:
        upgrade(empty.url("trading_bot"))
    assert denied.value.code == "SCHEMA-005"
    assert denied.value.exit_code == 78
    assert "permission denied for schema public" in denied.value.what
    assert tables(empty) == set()


def test_a_migration_that_the_database_refuses_is_rolled_back_whole(empty: ThrowawayDatabase) -> None:
    """Somebody's view has the name of an index that revision 0002 makes: 0001 stays, of 0002 there is nothing."""
    empty.execute("CREATE VIEW ix_fills_intent_id AS SELECT 1")
    with pytest.raises(SwitchyardError) as failed:
        upgrade(empty.url_text())
    assert failed.value.code == "SCHEMA-008"
    assert failed.value.exit_code == 1
    assert failed.value.what.endswith('failed: relation "ix_fills_intent_id" already exists')
    assert empty.execute("SELECT version_num FROM alembic_version") == [("0001",)]
    assert not tables(empty) & (NEW_IN_0002 | NEW_IN_0003 | NEW_IN_0004)
    empty.execute("DROP VIEW ix_fills_intent_id")
    assert upgrade(empty.url_text()).applied == REVISIONS[1:]


def test_migrator_makes_everything_as_the_owner(empty: ThrowawayDatabase) -> None:
    ensure_roles(empty.url(), ROLE_PASSWORDS)
    upgrade(empty.url("migrator"))
    owners = empty.execute("SELECT DISTINCT tableowner FROM pg_tables WHERE schemaname = 'public'")
    assert owners == [("owner",)]


def test_the_superuser_too_makes_everything_as_the_owner_where_there_is_one(empty: ThrowawayDatabase) -> None:
    ensure_roles(empty.url(), ROLE_PASSWORDS)
    upgrade(empty.url())
    owners = empty.execute("SELECT DISTINCT tableowner FROM pg_tables WHERE schemaname = 'public'")
    assert owners == [("owner",)]


def test_current_revision_inside_a_transaction_does_not_break_it(
    empty: ThrowawayDatabase, make_manager: MakeManager
) -> None:
    def work(connection: Any) -> tuple[object, object]:
        return current_revision(connection), connection.execute(text("SELECT 1")).scalar_one()

    assert make_manager(empty.url_text()).read(work, name="t") == (None, 1)
