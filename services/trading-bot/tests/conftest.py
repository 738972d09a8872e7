"""Real databases, in both dialects."""

from __future__ import annotations

import itertools
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import URL
from tradedb import migrate
from tradedb.manager import DatabaseManager
from tradedb.models import Base
from tradedb.testing import PostgresServer, ThrowawayDatabase, migrated_database, throwaway_server

sys.path.insert(0, str(Path(__file__).parent))  # bot_harness

DIALECTS = ("sqlite", "postgresql")


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    with throwaway_server() as server:
        yield server


@pytest.fixture(scope="session")
def bot_database(postgres: PostgresServer) -> Iterator[ThrowawayDatabase]:
    with migrated_database(postgres) as database:
        yield database


@pytest.fixture
def quick_folder(tmp_path: Path) -> Iterator[Path]:
    """Return a folder in memory, if there is such a place: a process that is killed loses nothing there either."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else tmp_path) as folder:
        yield Path(folder)


@pytest.fixture
def database(bot_database: ThrowawayDatabase) -> ThrowawayDatabase:
    """Return a migrated database with no rows. It is the same one each time: dropping one costs a second."""
    return emptied(bot_database)


def emptied(database: ThrowawayDatabase) -> ThrowawayDatabase:
    tables = ", ".join(table.name for table in Base.metadata.sorted_tables)
    # the ledger refuses TRUNCATE, as it refuses it to everybody who is not a superuser and says this first
    database.execute(f"SET LOCAL session_replication_role = replica; TRUNCATE {tables} RESTART IDENTITY CASCADE")
    return database


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("template") / "bot.db"
    migrate.upgrade(URL.create("sqlite", database=str(file)))
    return file


@pytest.fixture
def new_url(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[str], URL]:
    """Return a function that gives the URL of a migrated database of a dialect with no rows; the one before is gone."""
    numbers = itertools.count()

    def make(dialect: str) -> URL:
        if dialect == "postgresql":
            return emptied(request.getfixturevalue("bot_database")).url("trading_bot")
        template: Path = request.getfixturevalue("sqlite_template")
        file = tmp_path / f"bot-{next(numbers)}.db"
        file.write_bytes(template.read_bytes())
        return URL.create("sqlite", database=str(file))

    return make


@pytest.fixture(params=DIALECTS)
def dialect(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def manager(dialect: str, new_url: Callable[[str], URL]) -> Iterator[DatabaseManager]:
    manager = DatabaseManager(new_url(dialect), service="trading-bot")
    yield manager
    manager.dispose()
