"""F27: a migration that is killed, two at once, and a bot whose schema is not there yet."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from tradedb import migrate, roles
from tradedb.revisions import head_revision
from tradedb.testing import ROLE_PASSWORDS, PostgresServer, ThrowawayDatabase, empty_database

from faults.bench import Bench
from faults.places.embedded import EmbeddedPlace, environment

pytestmark = [pytest.mark.targets("embedded"), pytest.mark.full, pytest.mark.timeout(240)]
SCHEMA = """
    SELECT 'column', c.table_name, c.column_name, c.data_type, c.is_nullable, c.column_default
    FROM information_schema.columns c WHERE table_schema = 'public'
    UNION ALL SELECT 'index', tablename, indexname, indexdef, '', '' FROM pg_indexes WHERE schemaname = 'public'
    UNION ALL SELECT 'constraint', conrelid::regclass::text, conname, pg_get_constraintdef(oid), '', ''
    FROM pg_constraint WHERE connamespace = 'public'::regnamespace
    UNION ALL SELECT 'trigger', tgrelid::regclass::text, tgname, pg_get_triggerdef(oid), '', ''
    FROM pg_trigger WHERE NOT tgisinternal
    UNION ALL SELECT 'revision', version_num, '', '', '', '' FROM alembic_version
    ORDER BY 1, 2, 3, 4
"""


@contextmanager
def _unmigrated(server: PostgresServer) -> Iterator[ThrowawayDatabase]:
    with empty_database(server) as database:
        roles.ensure_roles(database.url(), ROLE_PASSWORDS)
        yield database


def _migrator(database: ThrowawayDatabase) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "faults.migrator", database.url_text("migrator")],
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.fixture(scope="module")
def whole_schema(loopback: EmbeddedPlace) -> Any:
    """What an undisturbed migration makes."""
    with _unmigrated(loopback.server) as database:
        migrate.upgrade(database.url("migrator"))
        return database.execute(SCHEMA)


@pytest.mark.fault("F27", "no-migration-lock")
def test_migrators_at_once(bench: Bench, loopback: EmbeddedPlace, whole_schema: Any) -> None:
    for _ in range(4):
        with _unmigrated(loopback.server) as database:
            several = [_migrator(database) for _ in range(3)]
            for process in several:
                said, _ = process.communicate(timeout=120)
                assert process.returncode == 0, f"a migrator ended with exit code {process.returncode}\n{said}"
            assert database.execute(SCHEMA) == whole_schema
    bench.finish()


@pytest.mark.fault("F27", "migration-in-pieces")
def test_a_migrator_that_is_killed(bench: Bench, loopback: EmbeddedPlace, whole_schema: Any) -> None:
    """At any moment: the schema is a whole one, and the next migrator makes it the newest."""
    whole = {None, *(f"{n:04}" for n in range(1, int(head_revision()) + 1))}
    killed = 0
    for _ in range(20):
        with _unmigrated(loopback.server) as database:
            process = _migrator(database)
            _wait_for_migrator(database)
            time.sleep(random.uniform(0, 0.3))
            process.kill()
            process.communicate(timeout=30)
            killed += process.returncode == -9
            assert _revision(database) in whole, "half a migration is there"
            migrate.upgrade(database.url("migrator"))
            assert database.execute(SCHEMA) == whole_schema
    bench.note(killed=killed)
    bench.finish()
    assert killed


def _wait_for_migrator(database: ThrowawayDatabase) -> None:
    deadline = time.monotonic() + 60
    query = f"SELECT count(*) FROM pg_stat_activity WHERE usename = 'migrator' AND datname = '{database.name}'"
    while database.server.execute(query) == [(0,)] and time.monotonic() < deadline:
        time.sleep(0.01)


def _revision(database: ThrowawayDatabase) -> str | None:
    if database.execute("SELECT to_regclass('alembic_version')") == [(None,)]:
        assert database.execute("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'") == [(0,)], (
            "half a migration"
        )
        return None
    rows = database.execute("SELECT version_num FROM alembic_version")
    return rows[0][0] if rows else None
