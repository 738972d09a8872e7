"""One real Postgres for all tests of a run, one database of its own for each test."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tradedb.testing import PostgresServer, ThrowawayDatabase, empty_database, migrated_database, throwaway_server

sys.path.insert(0, str(Path(__file__).parent))  # transfer_harness


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    with throwaway_server() as server:
        yield server


@pytest.fixture
def database(postgres: PostgresServer) -> Iterator[ThrowawayDatabase]:
    """A database with nothing in it."""
    with empty_database(postgres) as made:
        yield made


@pytest.fixture
def stack_database(postgres: PostgresServer) -> Iterator[ThrowawayDatabase]:
    """A database as our stack has it before a copy: roles made, tables migrated."""
    with migrated_database(postgres) as made:
        yield made
