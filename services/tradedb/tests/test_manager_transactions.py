"""Whole transactions on a real Postgres: what is committed, what is tried again, what the caller gets."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from decimal import Decimal

import psycopg2
import pytest
from sqlalchemy import Connection, func, insert, select, text
from sqlalchemy import exc as sa
from tradedb import engine
from tradedb.config.settings import DatabaseSettings
from tradedb.errors import SwitchyardError
from tradedb.manager import DatabaseManager, DatabaseUnavailable, OutcomeUnknown
from tradedb.models import Fill, OrderIntent, Trade, TradingSession
from tradedb.testing import PostgresServer, ThrowawayDatabase
from tradedb.testing_proxy import TcpProxy

MakeManager = Callable[..., DatabaseManager]


@pytest.fixture
def bot(database: ThrowawayDatabase, make_manager: MakeManager) -> DatabaseManager:
    return make_manager(database.url_text("trading_bot"))


@pytest.fixture
def through_proxy(database: ThrowawayDatabase, proxy: TcpProxy, make_manager: MakeManager) -> DatabaseManager:
    return make_manager(database.url("trading_bot").set(port=proxy.port))


def event(connection: Connection, message: str = "test") -> None:
    connection.execute(
        text("INSERT INTO system_events (timestamp, event_type, message) VALUES (now(), 'TEST', :message)"),
        {"message": message},
    )


def events(database: ThrowawayDatabase) -> int:
    return database.execute("SELECT count(*) FROM system_events")[0][0]


def test_a_transaction_is_committed_and_gives_its_result(bot: DatabaseManager, database: ThrowawayDatabase) -> None:
    def work(connection: Connection) -> int:
        event(connection)
        return connection.execute(text("SELECT count(*) FROM system_events")).scalar_one()

    assert bot.transaction(work, name="t") == 1
    assert events(database) == 1


def test_the_callers_own_error_rolls_back_and_comes_out_as_it_is(
    bot: DatabaseManager, database: ThrowawayDatabase
) -> None:
    tries = []

    def work(connection: Connection) -> None:
        tries.append(1)
        event(connection)
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        bot.transaction(work, name="t")
    assert events(database) == 0
    assert len(tries) == 1
    assert bot.pool_status().checked_out == 0


def test_a_broken_constraint_comes_out_as_sqlalchemys_error_once(bot: DatabaseManager) -> None:
    tries = []

    def work(connection: Connection) -> None:
        tries.append(1)
        connection.execute(text("INSERT INTO positions (symbol) VALUES (NULL)"))

    with pytest.raises(sa.IntegrityError) as broken:
        bot.transaction(work, name="t")
    assert broken.value.orig.pgcode == "23502"  # type: ignore[union-attr]
    assert len(tries) == 1


def test_bad_data_comes_out_as_sqlalchemys_error_without_its_values(bot: DatabaseManager) -> None:
    with pytest.raises(sa.DataError) as bad:
        bot.transaction(lambda c: c.execute(text("SELECT CAST(:x AS int)"), {"x": "s3cret-value"}).all(), name="t")
    assert "hide_parameters" in str(bad.value)


def test_a_model_row_round_trips_exactly(bot: DatabaseManager) -> None:
    when = datetime(2026, 1, 2, 3, 4, 5, 678901)  # noqa: DTZ001  the original tables have no zone

    def write(connection: Connection) -> None:
        connection.execute(
            insert(Trade).values(
                symbol="BTCUSDT", side="LONG", source="PAPER", entry_price=Decimal("0.1"), exit_price=Decimal("1e-9"),
                size=Decimal("123456789.123456789123456789"), entry_time=when, exit_time=when,
                pnl=Decimal("-0.30000000000000004"), pnl_percent=float("inf"), strategy_name="s",
                strategy_config={"a": [1, None]},
            )
        )  # fmt: skip

    bot.transaction(write, name="w")
    row = bot.read(lambda c: c.execute(select(Trade)).one(), name="r")
    assert (row.entry_price, row.exit_price, row.size) == (
        Decimal("0.1"),
        Decimal("1e-9"),
        Decimal("123456789.123456789123456789"),
    )
    assert row.pnl == Decimal("-0.30000000000000004")
    assert row.pnl_percent == float("inf")
    assert row.entry_time == when
    assert row.strategy_config == {"a": [1, None]}


@pytest.mark.parametrize("state", ["40001", "40P01", "55P03"])
def test_passing_states_run_the_whole_work_again(
    bot: DatabaseManager, database: ThrowawayDatabase, state: str, caplog: pytest.LogCaptureFixture
) -> None:
    tries = []

    def work(connection: Connection) -> None:
        tries.append(1)
        event(connection)
        if len(tries) < 3:
            connection.execute(text(f"DO $$ BEGIN RAISE EXCEPTION 'x' USING ERRCODE = '{state}'; END $$"))

    with caplog.at_level(logging.WARNING, "tradedb.manager"):
        bot.transaction(work, name="three times")
    assert len(tries) == 3
    assert events(database) == 1  # not three: each try was rolled back
    assert [record.__dict__["transaction"] for record in caplog.records] == ["three times"] * 2


def test_retry_false_tries_once(bot: DatabaseManager) -> None:
    tries = []

    def work(connection: Connection) -> None:
        tries.append(1)
        connection.execute(text("DO $$ BEGIN RAISE EXCEPTION 'x' USING ERRCODE = '40001'; END $$"))

    with pytest.raises(DatabaseUnavailable) as failed:
        bot.transaction(work, name="once", retry=False)
    assert failed.value.code == "DB-014"
    assert len(tries) == 1


def test_a_real_deadlock_is_resolved(bot: DatabaseManager, database: ThrowawayDatabase) -> None:
    """F14: two transactions in opposite order; Postgres ends one of them, and it is tried again."""
    database.execute(
        "INSERT INTO bot_lease SELECT n, 'nobody', 0, now(), now(), now() FROM unnest(ARRAY['a', 'b']) AS n"
    )
    both_hold_one = threading.Barrier(2)
    tries: dict[str, int] = {"ab": 0, "ba": 0}

    def cross(order: str) -> None:
        def work(connection: Connection) -> None:
            tries[order] += 1
            for lease in order:
                connection.execute(text("UPDATE bot_lease SET epoch = epoch + 1 WHERE name = :n"), {"n": lease})
                if tries[order] == 1 and lease == order[0]:
                    both_hold_one.wait(10)

        bot.transaction(work, name=order)

    with ThreadPoolExecutor(2) as threads:
        list(threads.map(cross, tries))
    assert sum(tries.values()) == 3
    assert database.execute("SELECT epoch FROM bot_lease") == [(2,), (2,)]


def test_a_lock_held_too_long_is_reported_with_the_time_it_was_tried(
    bot: DatabaseManager, database: ThrowawayDatabase
) -> None:
    """F16: the role's lock_timeout ends each wait, the deadline ends the tries."""
    holder = database.server.connect(database.name)
    holder.autocommit = False
    with holder.cursor() as cursor:
        cursor.execute("LOCK TABLE trades")
    started = time.monotonic()
    with pytest.raises(DatabaseUnavailable) as failed:
        bot.transaction(lambda c: c.execute(text("SELECT count(*) FROM trades")).all(), name="t", deadline_s=5)
    holder.close()
    assert failed.value.code == "DB-014"
    assert "canceling statement due to lock timeout" in failed.value.what
    assert 2 <= time.monotonic() - started <= 30


def test_a_session_ended_by_the_server_is_replaced(bot: DatabaseManager, database: ThrowawayDatabase) -> None:
    tries = []

    def work(connection: Connection) -> None:
        tries.append(1)
        event(connection)
        if len(tries) == 1:
            pid = connection.execute(text("SELECT pg_backend_pid()")).scalar_one()
            database.execute("SELECT pg_terminate_backend(%s, 5000)", [pid])  # returns when it is gone

    bot.transaction(work, name="t")
    assert len(tries) == 2
    assert events(database) == 1


def test_idle_connections_that_the_server_closed_are_not_handed_out(
    bot: DatabaseManager, database: ThrowawayDatabase
) -> None:
    """Also without a second of idleness: the farewell is on the socket, so not even retry=False sees an error."""
    bot.read(lambda c: c.execute(text("SELECT 1")).all(), name="warm")
    # returns when they are gone, each after its farewell
    ended = "SELECT pg_terminate_backend(pid, 60000) FROM pg_stat_activity WHERE usename = 'trading_bot'"
    assert database.execute(ended) == [(True,)]
    tries = []
    bot.transaction(lambda c: tries.append(event(c)), name="t", retry=False)
    assert len(tries) == 1


def test_a_connection_idle_for_long_is_asked_before_use(
    through_proxy: DatabaseManager, proxy: TcpProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A silent network says no farewell; the question is answered or, after two seconds, the connection replaced."""
    monkeypatch.setattr("tradedb.engine.PING_AFTER_IDLE_S", 0.2)
    monkeypatch.setattr("tradedb.engine.PING_TIMEOUT_S", 0.3)
    through_proxy.read(lambda c: c.execute(text("SELECT 1")).all(), name="warm")
    assert proxy.accepted == 1
    ask = engine._ping

    def ask_and_be_heard_again(connection: object) -> None:
        try:
            ask(connection)
        finally:
            proxy.silent = False

    monkeypatch.setattr(engine, "_ping", ask_and_be_heard_again)
    proxy.silent = True
    time.sleep(0.3)
    through_proxy.read(lambda c: c.execute(text("SELECT 1")).all(), name="t", retry=False)
    assert proxy.accepted == 2


def test_a_busy_connection_is_not_asked(through_proxy: DatabaseManager, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr("tradedb.engine._ping", asked.append)
    for _ in range(5):
        through_proxy.read(lambda c: c.execute(text("SELECT 1")).all(), name="t")
    assert asked == []


@pytest.mark.parametrize(("fault", "rows"), [("lose reply", 1), ("swallow request", 0)])
def test_a_connection_lost_in_commit_is_unknown_and_not_repeated(
    through_proxy: DatabaseManager, proxy: TcpProxy, database: ThrowawayDatabase, fault: str, rows: int
) -> None:
    """F3: from the client both look the same, so it must not claim either."""
    tries = []

    def work(connection: Connection) -> None:
        tries.append(1)
        event(connection)
        proxy.on_commit = fault  # type: ignore[assignment]

    with pytest.raises(OutcomeUnknown) as unknown:
        through_proxy.transaction(work, name="record fill")
    assert unknown.value.code == "DB-010"
    assert unknown.value.exit_code == 69
    assert unknown.value.what.startswith("record fill: the connection to 127.0.0.1:")
    assert "may be in the database, or may not" in unknown.value.why
    assert len(tries) == 1
    deadline = time.monotonic() + 60
    while events(database) != rows and time.monotonic() < deadline:
        time.sleep(0.05)
    assert events(database) == rows


def test_idempotent_work_is_repeated_after_an_unknown_commit(
    through_proxy: DatabaseManager, proxy: TcpProxy, database: ThrowawayDatabase
) -> None:
    """F3 with a key: the reply was lost, the work is done again, and there is one row."""
    tries = []

    def work(connection: Connection) -> None:
        tries.append(1)
        connection.execute(
            text("INSERT INTO bot_lease VALUES ('k', 'h', 1, now(), now(), now()) ON CONFLICT DO NOTHING")
        )
        if len(tries) == 1:
            proxy.on_commit = "lose reply"

    through_proxy.transaction(work, name="t", idempotent=True)
    assert len(tries) == 2
    assert database.execute("SELECT count(*) FROM bot_lease") == [(1,)]


def test_an_unknown_commit_stays_unknown_when_no_later_try_reaches_the_server(
    through_proxy: DatabaseManager, proxy: TcpProxy, database: ThrowawayDatabase
) -> None:
    """F3, and then the server is gone: "nothing was changed" would be wrong."""

    def work(connection: Connection) -> None:
        event(connection)
        proxy.on_commit = "lose reply and refuse"

    with pytest.raises(OutcomeUnknown, match="was lost while COMMIT was under way"):
        through_proxy.transaction(work, name="t", idempotent=True, deadline_s=3)
    proxy.refusing = False
    assert events(database) == 1


def test_a_deferred_constraint_that_fails_in_commit_is_known(bot: DatabaseManager, database: ThrowawayDatabase) -> None:
    database.execute("CREATE TABLE deferred (id int UNIQUE DEFERRABLE INITIALLY DEFERRED)")
    database.execute("GRANT INSERT ON deferred TO trading_bot")
    with pytest.raises(sa.IntegrityError):
        bot.transaction(lambda c: c.execute(text("INSERT INTO deferred VALUES (1), (1)")), name="t")


def test_a_lost_connection_in_copy_is_tried_again(
    through_proxy: DatabaseManager, proxy: TcpProxy, database: ThrowawayDatabase
) -> None:
    """Work that talks to the driver itself raises the driver's error, which SQLAlchemy has not seen."""
    tries = []

    def work(connection: Connection) -> None:
        tries.append(1)
        driver = connection.connection.dbapi_connection
        with driver.cursor() as cursor:  # type: ignore[union-attr]
            if len(tries) == 1:
                proxy.cut()
            cursor.execute("INSERT INTO system_events (timestamp, event_type, message) VALUES (now(), 'T', 'm')")

    through_proxy.transaction(work, name="t")
    assert len(tries) == 2
    assert events(database) == 1
    assert through_proxy.pool_status().checked_out == 0


def test_a_server_that_turned_read_only_empties_the_pool(
    database: ThrowawayDatabase, make_manager: MakeManager
) -> None:
    """25006, as after a failover: the connection is fine, the server behind it is a replica now."""
    manager = make_manager(database.url())
    manager.transaction(lambda c: c.execute(text("SELECT 1")), name="warm")
    pids = []

    def work(connection: Connection) -> None:
        pids.append(connection.execute(text("SELECT pg_backend_pid()")).scalar_one())
        if len(pids) == 1:
            connection.execute(text("SET LOCAL transaction_read_only = on"))
        event(connection)

    manager.transaction(work, name="t")
    assert len(pids) == 2
    assert pids[0] != pids[1]
    assert events(database) == 1


def test_a_writer_refuses_a_read_only_server(database: ThrowawayDatabase, make_manager: MakeManager) -> None:
    database.execute(f'ALTER DATABASE "{database.name}" SET default_transaction_read_only = on')
    with pytest.raises(DatabaseUnavailable) as refused:
        make_manager(database.url()).transaction(lambda c: c.execute(text("SELECT 1")), name="t", deadline_s=3)
    assert refused.value.code == "DB-012"
    assert refused.value.what == f"127.0.0.1:{database.server.port}/{database.name} is read-only"
    assert refused.value.exit_code == 69
    reader = make_manager(database.url("dashboard"))
    assert reader.read(lambda c: c.execute(text("SELECT 1")).scalar_one(), name="t") == 1


def test_read_cannot_write(bot: DatabaseManager, database: ThrowawayDatabase) -> None:
    with pytest.raises(DatabaseUnavailable) as refused:
        bot.read(event, name="sneaky", deadline_s=2)
    assert refused.value.code == "DB-012"
    assert events(database) == 0
    bot.transaction(event, name="t")  # the connection is not read-only for the next one
    assert events(database) == 1


def test_too_many_connections_for_the_role_is_waited_for(
    database: ThrowawayDatabase, make_manager: MakeManager
) -> None:
    """F13: psycopg2 has no code for it; it passes when the others leave."""
    holders = [psycopg2.connect(database.url_text("monitor")) for _ in range(4)]
    manager = make_manager(database.url("monitor"))
    with pytest.raises(DatabaseUnavailable) as full:
        manager.read(lambda c: c.execute(text("SELECT 1")), name="t", deadline_s=3)
    assert full.value.code == "DB-007"
    assert full.value.what == f"127.0.0.1:{database.server.port}/{database.name} has no connection left for monitor"
    threading.Timer(1, lambda: [holder.close() for holder in holders]).start()
    assert manager.read(lambda c: c.execute(text("SELECT 1")).scalar_one(), name="t") == 1


def test_a_restart_of_the_server_is_survived(postgres: PostgresServer, bot: DatabaseManager) -> None:
    """F1, F4: writers go on after kill -9 without a restart of their process; what was acknowledged is there."""
    acknowledged: list[str] = []
    stop = threading.Event()

    def write() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            key = f"{threading.get_ident()}-{number}"
            sql = "INSERT INTO bot_lease VALUES (:k, 'h', 1, now(), now(), now()) ON CONFLICT DO NOTHING"
            bot.transaction(lambda c, k=key, s=sql: c.execute(text(s), {"k": k[-50:]}), name="w", idempotent=True)
            acknowledged.append(key[-50:])

    with ThreadPoolExecutor(3) as threads:
        writers = [threads.submit(write) for _ in range(3)]
        for _ in range(2):
            time.sleep(0.3)
            postgres.kill()
            postgres.start()
        time.sleep(0.5)
        stop.set()
        for writer in writers:
            writer.result(timeout=60)
    there = {row.name for row in bot.read(lambda c: c.execute(text("SELECT name FROM bot_lease")).all(), name="r")}
    assert len(acknowledged) > 10
    assert set(acknowledged) <= there
    assert len(there) - len(acknowledged) <= 3  # at most one unacknowledged a writer


def test_a_permission_that_is_missing_is_said(bot: DatabaseManager, database: ThrowawayDatabase) -> None:
    with pytest.raises(SwitchyardError) as denied:
        bot.transaction(lambda c: c.execute(text("DELETE FROM trades")), name="clean up")
    assert denied.value.code == "DB-006"
    assert denied.value.exit_code == 78
    assert denied.value.what == (
        f"clean up: trading_bot may not do this in 127.0.0.1:{database.server.port}/{database.name}:"
        " permission denied for table trades"
    )
    assert not isinstance(denied.value, DatabaseUnavailable)


def test_intents_and_fills_are_exactly_once(bot: DatabaseManager) -> None:
    now = datetime.now(UTC)

    def record(connection: Connection) -> None:
        session = connection.execute(
            insert(TradingSession)
            .values(start_time=now.replace(tzinfo=None), mode="PAPER", initial_balance=Decimal(1), strategy_name="s",
                    symbol="X", timeframe="1m")
            .returning(TradingSession.id)
        ).scalar_one()  # fmt: skip
        connection.execute(
            insert(OrderIntent).values(
                intent_id="i", session_id=session, lease_epoch=1, strategy_name="s", venue="v", symbol="X", side="BUY",
                leg="ENTRY", quantity=Decimal("0.1"), reference_price=Decimal(1), signal_time=now, status="PENDING",
                created_at=now, updated_at=now,
            )
        )  # fmt: skip
        for _ in range(2):
            connection.execute(
                text(
                    "INSERT INTO fills VALUES ('v', 't1', 'i', 'X', 'BUY', 1, 0.1, 0, 'USD', now(), now(), 1)"
                    " ON CONFLICT DO NOTHING"
                )
            )

    bot.transaction(record, name="t")
    assert bot.read(lambda c: c.execute(select(func.count()).select_from(Fill)).scalar_one(), name="r") == 1
    filled = bot.read(lambda c: c.execute(select(OrderIntent.signal_time)).scalar_one(), name="r")
    assert filled == now
    assert filled.tzinfo is not None


def test_the_pool_gives_all_it_has_and_no_more(database: ThrowawayDatabase, make_manager: MakeManager) -> None:
    """F13: the seventh thread waits for its turn; a wait that lasts too long is said, within its time."""
    settings = DatabaseSettings.model_construct(pool_size=1, max_overflow=1, pool_timeout_s=0.3)
    manager = make_manager(database.url("trading_bot"), settings=settings)
    entered, leave = threading.Semaphore(0), threading.Event()

    def hold(connection: Connection) -> None:
        connection.execute(text("SELECT 1"))
        entered.release()
        leave.wait(120)

    with ThreadPoolExecutor(2) as threads:
        holders = [threads.submit(manager.transaction, hold, name="hold") for _ in range(2)]
        for _ in holders:
            assert entered.acquire(timeout=60)
        status = manager.pool_status()
        assert (status.size, status.checked_out, status.overflow) == (1, 2, 1)
        started = time.monotonic()
        with pytest.raises(DatabaseUnavailable) as full:
            manager.read(lambda c: c.execute(text("SELECT 1")), name="third", retry=False)
        assert time.monotonic() - started < 20
        assert full.value.code == "DB-011"
        assert full.value.what.startswith("third: every pooled connection to 127.0.0.1:")
        leave.set()
        for holder in holders:
            holder.result(timeout=60)
    assert manager.pool_status().checked_out == 0


def test_a_manager_connects_only_when_asked_and_hides_its_password(make_manager: MakeManager) -> None:
    manager = make_manager("postgresql://trading_bot:hunter2-secret@127.0.0.1:1/railway")
    assert "hunter2-secret" not in repr(manager)
    assert manager.url_redacted.startswith("postgresql://trading_bot:***@127.0.0.1:1/railway")
    assert manager.dialect == "postgresql"
    assert manager.pool_status().checked_in == 0


def test_disposing_leaves_the_manager_usable(bot: DatabaseManager) -> None:
    bot.read(lambda c: c.execute(text("SELECT 1")), name="t")
    bot.dispose()
    assert bot.pool_status().checked_in == 0
    bot.read(lambda c: c.execute(text("SELECT 1")), name="t")
