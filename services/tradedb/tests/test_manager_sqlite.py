"""The same API on a SQLite file."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path

import pytest
from sqlalchemy import Connection, insert, select, text
from sqlalchemy import exc as sa
from tradedb.manager import DatabaseManager, DatabaseUnavailable
from tradedb.models import BotLease, Fill, OrderIntent, TradingSession
from tradedb.revisions import head_revision

MakeManager = Callable[..., DatabaseManager]


@pytest.fixture
def manager(sqlite_url: str, make_manager: MakeManager) -> DatabaseManager:
    return make_manager(sqlite_url)


def session(connection: Connection) -> int:
    return connection.execute(
        insert(TradingSession)
        .values(start_time=datetime(2026, 1, 1), mode="PAPER", initial_balance=Decimal("0.1"), strategy_name="s",  # noqa: DTZ001
                symbol="X", timeframe="1m")
        .returning(TradingSession.id)
    ).scalar_one()  # fmt: skip


def count(manager: DatabaseManager) -> int:
    return manager.read(lambda c: c.execute(text("SELECT count(*) FROM trading_sessions")).scalar_one(), name="count")


def file_of(url: str) -> str:
    return url.removeprefix("sqlite:///")


def test_commit_and_rollback(manager: DatabaseManager) -> None:
    assert manager.transaction(session, name="t") == 1

    def fails(connection: Connection) -> None:
        session(connection)
        raise KeyError("mine")

    with pytest.raises(KeyError):
        manager.transaction(fails, name="t")
    assert count(manager) == 1


def test_ddl_is_part_of_the_transaction(manager: DatabaseManager) -> None:
    def fails(connection: Connection) -> None:
        connection.execute(text("CREATE TABLE half (id int)"))
        raise KeyError("mine")

    with pytest.raises(KeyError):
        manager.transaction(fails, name="t")
    found = manager.read(
        lambda c: c.execute(text("SELECT name FROM sqlite_master WHERE name = 'half'")).all(), name="t"
    )
    assert found == []


@pytest.mark.parametrize(
    ("pragma", "value"), [("foreign_keys", 1), ("journal_mode", "wal"), ("synchronous", 2), ("query_only", 0)]
)
def test_every_connection_is_safe(manager: DatabaseManager, pragma: str, value: object) -> None:
    assert manager.transaction(lambda c: c.execute(text(f"PRAGMA {pragma}")).scalar_one(), name="t") == value


def test_a_broken_reference_is_sqlalchemys_error(manager: DatabaseManager) -> None:
    with pytest.raises(sa.IntegrityError):
        manager.transaction(
            lambda c: c.execute(
                text(
                    "INSERT INTO account_history (timestamp, balance, equity, session_id)"
                    " VALUES ('2026-01-01', 1, 1, 99)"
                )
            ),
            name="t",
        )


def test_read_cannot_write_and_the_next_one_can(manager: DatabaseManager) -> None:
    with pytest.raises(DatabaseUnavailable) as refused:
        manager.read(session, name="sneaky")
    assert refused.value.code == "DB-015"
    manager.transaction(session, name="t")
    assert count(manager) == 1


def test_a_writer_waits_for_another_process(manager: DatabaseManager, sqlite_url: str) -> None:
    other = sqlite3.connect(file_of(sqlite_url), isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    threading.Timer(0.5, lambda: other.execute("COMMIT")).start()
    manager.transaction(session, name="t")
    assert count(manager) == 1
    other.close()


def test_a_lock_held_for_ever_is_said_in_time(manager: DatabaseManager, sqlite_url: str) -> None:
    other = sqlite3.connect(file_of(sqlite_url), isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    started = time.monotonic()
    with pytest.raises(DatabaseUnavailable) as locked:
        manager.transaction(session, name="record", deadline_s=1.5)
    assert time.monotonic() - started < 30
    other.close()
    assert locked.value.code == "DB-016"
    assert locked.value.exit_code == 69
    assert locked.value.what.startswith(f"record: another process held {file_of(sqlite_url)} locked for ")
    assert f"lsof {file_of(sqlite_url)}" in locked.value.fix


def test_a_reader_is_not_stopped_by_a_writer(manager: DatabaseManager, sqlite_url: str) -> None:
    other = sqlite3.connect(file_of(sqlite_url), isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    assert manager.read(lambda c: c.execute(text("SELECT 1")).scalar_one(), name="t", deadline_s=20) == 1
    other.close()


def test_a_long_query_is_ended_at_the_deadline(manager: DatabaseManager) -> None:
    endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"
    started = time.monotonic()
    with pytest.raises(DatabaseUnavailable) as ended:
        manager.read(lambda c: c.execute(text(endless)).all(), name="endless", deadline_s=0.5)
    assert 0.4 <= time.monotonic() - started < 30
    assert ended.value.code == "DB-008"
    assert count(manager) == 0


def test_read_then_write_by_many_threads_loses_nothing(manager: DatabaseManager) -> None:
    """BEGIN IMMEDIATE: after a deferred one, a reader that turns writer fails at once, whatever the timeout."""
    manager.transaction(
        lambda c: c.execute(
            insert(BotLease).values(
                name="n", holder="h", epoch=0, acquired_at=datetime.now(UTC), renewed_at=datetime.now(UTC),
                expires_at=datetime.now(UTC),
            )
        ),
        name="t",
    )  # fmt: skip

    def bump(connection: Connection) -> None:
        epoch = connection.execute(select(BotLease.epoch)).scalar_one()
        connection.execute(text("UPDATE bot_lease SET epoch = :e"), {"e": epoch + 1})

    with ThreadPoolExecutor(6) as threads:
        list(threads.map(lambda _: manager.transaction(bump, name="bump", retry=False), range(40)))
    assert manager.read(lambda c: c.execute(select(BotLease.epoch)).scalar_one(), name="t") == 40


def test_money_and_times_of_new_tables_are_exact(manager: DatabaseManager) -> None:
    when = datetime(2026, 3, 29, 3, 0, 0, 123456, tzinfo=timezone(timedelta(hours=2)))
    price = Decimal("0.1234567890123456789012345678")

    def work(connection: Connection) -> None:
        connection.execute(
            insert(OrderIntent).values(
                intent_id="i", session_id=session(connection), lease_epoch=1, strategy_name="s", venue="v", symbol="X",
                side="BUY", leg="ENTRY", quantity=price, reference_price=Decimal("1E+3"), signal_time=when,
                status="PENDING", created_at=when, updated_at=when,
            )
        )  # fmt: skip
        connection.execute(
            insert(Fill).values(
                venue="v", venue_trade_id="1", intent_id="i", symbol="X", side="BUY", price=price, quantity=Decimal(1),
                fee=Decimal("1e-28"), fee_currency="USD", filled_at=when, recorded_at=when, lease_epoch=1,
            )
        )  # fmt: skip

    manager.transaction(work, name="t")
    intent = manager.read(lambda c: c.execute(select(OrderIntent)).one(), name="t")
    fill = manager.read(lambda c: c.execute(select(Fill)).one(), name="t")
    assert intent.quantity == fill.price == price
    assert intent.reference_price == 1000
    assert fill.fee == Decimal("1e-28")
    assert intent.signal_time == when
    assert intent.signal_time.tzinfo is UTC


def test_health_and_reports(manager: DatabaseManager, sqlite_url: str) -> None:
    health = manager.health()
    assert (health.ok, health.reason, health.revision, health.head) == (True, None, head_revision(), head_revision())
    info = manager.database_info()
    assert (info.dialect, info.host, info.user, info.tls, info.timeline_id) == ("sqlite", None, None, None, None)
    assert info.system_identifier == info.database == file_of(sqlite_url)
    assert info.server_version == sqlite3.sqlite_version
    assert info.size_bytes > 50_000
    stats = manager.connection_stats()
    assert [role.role for role in stats.roles] == ["(file)"]
    assert manager.pool_status().checked_out == 0


def test_health_of_a_missing_file_does_not_make_it(tmp_path: Path, make_manager: MakeManager) -> None:
    health = make_manager(f"sqlite:///{tmp_path}/absent.db").health()
    assert (health.ok, health.code) == (False, "DB-023")
    assert list(tmp_path.iterdir()) == []


def test_a_path_with_odd_characters(tmp_path: Path, make_manager: MakeManager) -> None:
    from tradedb.migrate import upgrade

    url = f"sqlite:///{tmp_path}/a folder/50% off & more.db"
    upgrade(url)
    assert make_manager(url).health().ok
    assert (tmp_path / "a folder" / "50% off & more.db").is_file()
