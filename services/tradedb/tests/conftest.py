"""One real Postgres for all tests of a run, one database of its own for each test."""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import URL
from tradedb import redaction
from tradedb.config import aws
from tradedb.manager import DatabaseManager
from tradedb.migrate import upgrade
from tradedb.testing import PostgresServer, ThrowawayDatabase, empty_database, migrated_database, throwaway_server
from tradedb.testing_proxy import TcpProxy, tcp_proxy

MakeManager = Callable[..., DatabaseManager]
OUR_VARIABLES = ("AWS_", "BOT_", "DASHBOARD_", "DATABASE_", "LOG_", "PG", "RAILWAY_", "SHOP_", "SWITCHYARD_")


@pytest.fixture
def bare_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The working directory: empty, no variable of ours set, no secret known, no AWS account in reach."""
    for name in [name for name in os.environ if name.startswith(OUR_VARIABLES)] + ["HOST", "PORT"]:
        monkeypatch.delenv(name, raising=False)
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("HOME", str(tmp_path))  # ~/.aws
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(redaction, "_secrets", set())
    monkeypatch.setattr(redaction, "_known", None)
    aws.read_secret.cache_clear()
    return folder


@pytest.fixture(autouse=True)
def log_as_before() -> Iterator[None]:
    """A command configures the log of its process; in tests that is everybody's."""
    root, before = logging.getLogger(), (sys.excepthook, threading.excepthook)
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:], root.level = handlers, level
    sys.excepthook, threading.excepthook = before
    logging.captureWarnings(False)


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    with throwaway_server() as server:
        yield server


@pytest.fixture
def database(postgres: PostgresServer) -> Iterator[ThrowawayDatabase]:
    """A database with every table and every role."""
    with migrated_database(postgres) as database:
        yield database


@pytest.fixture
def empty(postgres: PostgresServer) -> Iterator[ThrowawayDatabase]:
    """A database with nothing in it."""
    with empty_database(postgres) as database:
        yield database


@pytest.fixture
def make_manager() -> Iterator[MakeManager]:
    """Makes managers that are disposed of at the end."""
    made: list[DatabaseManager] = []

    def make(url: URL | str, **arguments: object) -> DatabaseManager:
        made.append(DatabaseManager(url, service="test", **arguments))  # type: ignore[arg-type]
        return made[-1]

    yield make
    for manager in made:
        manager.dispose()


@pytest.fixture
def proxy(postgres: PostgresServer) -> Iterator[TcpProxy]:
    with tcp_proxy(postgres.port) as proxy:
        yield proxy


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    """The URL of a migrated SQLite file."""
    url = f"sqlite:///{tmp_path}/trading_bot.db"
    upgrade(url)
    return url
