"""The database page: what is slow, who waits, what grows; what this role may not see says what it needs."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from dashboard.reading.database import (
    Archive,
    Counters,
    DatabaseFacts,
    LongSession,
    Part,
    Queries,
    QueryRow,
    TableRow,
    read_database_facts,
)
from dashboard.reading.growth import Growth, SizeHistory
from dashboard.server_verdicts import archive_verdict, growth_verdict, verdicts
from dashboard.thresholds import Thresholds
from dashboard.verdicts import database_verdicts
from sqlalchemy import text
from tradedb import DatabaseManager
from tradedb.testing import PostgresServer, ThrowawayDatabase, migrated_database, throwaway_server

LIMITS = Thresholds()


@pytest.fixture
def manager(database: ThrowawayDatabase) -> Iterator[DatabaseManager]:
    manager = DatabaseManager(database.url("dashboard"), service="dashboard")
    yield manager
    manager.dispose()


def sentences(facts: DatabaseFacts, limits: Thresholds = LIMITS) -> list[str]:
    return [f"{verdict.level}: {verdict.sentence}" for verdict in database_verdicts(facts, limits)]


def test_the_dashboard_sees_what_is_slow_and_never_a_password(
    manager: DatabaseManager, database: ThrowawayDatabase
) -> None:
    database.execute("ALTER ROLE monitor PASSWORD 'a-word-that-must-not-show'")
    for _ in range(3):
        manager.read(lambda conn: conn.execute(text("SELECT pg_sleep(0.03)")), name="slow")
    facts = read_database_facts(manager, limits=Thresholds(slow_query_calls=2))
    queries = facts.state.queries.value
    assert queries is not None
    slow = [query for query in queries.rows if query.slow]
    assert [(query.query, query.role, query.calls) for query in slow] == [("SELECT pg_sleep($1)", "dashboard", 3)]
    assert slow[0].mean_ms >= 30
    assert queries.rows[0] == slow[0]
    seen = database.execute("SELECT string_agg(query, ' ') FROM pg_stat_statements")[0][0]
    assert "PASSWORD" not in seen.upper()
    assert any("1 statement takes more than 20 ms on average" in line for line in sentences(facts))


def test_without_the_right_to_look_it_says_what_it_needs(manager: DatabaseManager, database: ThrowawayDatabase) -> None:
    database.execute("REVOKE SELECT ON pg_stat_statements FROM dashboard")
    try:
        facts = read_database_facts(manager)
        assert facts.state.queries == Part(None, "SELECT on pg_stat_statements (switchyard db prepare)")
        database.execute("REVOKE pg_read_all_stats FROM dashboard")
        facts = read_database_facts(manager)
        for part in (facts.state.queries, facts.state.long_sessions):
            assert part == Part(None, "membership in pg_read_all_stats: switchyard db prepare grants it")
        database.execute("DROP EXTENSION pg_stat_statements")
        facts = read_database_facts(manager)
        assert "the extension pg_stat_statements" in str(facts.state.queries.missing)
        assert "info: Slow queries are not available: needs the extension" in " ".join(sentences(facts))
        assert facts.state.counters.value is not None  # the rest of the page is there
    finally:
        database.execute("GRANT pg_read_all_stats TO dashboard WITH ADMIN FALSE, INHERIT TRUE, SET TRUE")


def test_a_server_that_does_not_load_the_statistics_says_so() -> None:
    with throwaway_server(options={"shared_preload_libraries": ""}) as server, migrated_database(server) as database:
        database.execute("CREATE EXTENSION pg_stat_statements SCHEMA public; GRANT SELECT ON pg_stat_statements"
                         " TO dashboard")  # fmt: skip
        manager = DatabaseManager(database.url("dashboard"), service="dashboard")
        try:
            missing = read_database_facts(manager).state.queries.missing
        finally:
            manager.dispose()
    assert missing == "pg_stat_statements in the server's shared_preload_libraries"


def test_who_takes_long_and_who_waits_is_named(
    manager: DatabaseManager, database: ThrowawayDatabase, postgres: PostgresServer
) -> None:
    holder, waiter = postgres.connect(database.name), postgres.connect(database.name)
    stuck = threading.Thread(target=lambda: waiter.cursor().execute("BEGIN; LOCK TABLE trades IN SHARE MODE"))
    try:
        with holder.cursor() as cursor:
            cursor.execute("BEGIN; LOCK TABLE trades IN ACCESS EXCLUSIVE MODE")
        stuck.start()
        limits = Thresholds(idle_transaction_s=0.001, lock_wait_s=1e6)
        deadline = time.monotonic() + 60
        facts = read_database_facts(manager, limits=limits)
        while not (facts.state.waits.value and facts.state.long_sessions.value) and time.monotonic() < deadline:
            time.sleep(0.05)
            facts = read_database_facts(manager, limits=limits)
        [wait] = facts.state.waits.value or []
        assert wait.blocked_by == [f"postgres (pid {holder.info.backend_pid})"]
        long = {session.pid: session for session in facts.state.long_sessions.value or []}
        assert long[holder.info.backend_pid].state == "idle in transaction"
        assert "warn: 1 session waits for a lock" in " ".join(sentences(facts, limits))
        tables = facts.state.tables  # the locked one is not waited for
        assert tables.value is not None or "release a lock" in str(tables.missing)
    finally:
        holder.close()
        if stuck.ident is not None:
            stuck.join(60)
        waiter.close()


def test_a_session_that_sets_a_password_does_not_show_it(
    manager: DatabaseManager, database: ThrowawayDatabase, postgres: PostgresServer
) -> None:
    holder = postgres.connect(database.name)
    long: dict[int, LongSession] = {}
    try:
        with holder.cursor() as cursor:  # not committed
            cursor.execute("BEGIN; ALTER ROLE monitor PASSWORD 'a-word-that-must-not-show'")
        for _ in range(600):
            facts = read_database_facts(manager, limits=Thresholds(idle_transaction_s=0.001))
            long = {session.pid: session for session in facts.state.long_sessions.value or []}
            if holder.info.backend_pid in long:
                break
            threading.Event().wait(0.05)
        assert long[holder.info.backend_pid].query == "(not shown: it is about a password)"
    finally:
        holder.close()


def test_dead_rows_and_empty_space_are_found(manager: DatabaseManager, database: ThrowawayDatabase, rows: Any) -> None:
    database.execute("ALTER TABLE system_events SET (autovacuum_enabled = off)")
    database.execute("INSERT INTO system_events (timestamp, event_type, message) SELECT now(), 'T', repeat('x', 300)"
                     " FROM generate_series(1, 30000)")  # fmt: skip
    database.execute("DELETE FROM system_events WHERE id % 10 > 1")
    database.execute("ANALYZE system_events")

    def table(name: str) -> TableRow:
        for _ in range(600):  # the server's counters come with a little delay
            facts = read_database_facts(manager)
            found = next(table for table in facts.state.tables.value or [] if table.name == name)
            if found.dead_rows or found.bloat_percent:
                return found
            threading.Event().wait(0.05)
        raise AssertionError(name)

    events = table("system_events")
    assert (events.dead_percent or 0) > 75
    assert 60 < (events.bloat_percent or 0) < 95
    assert (events.index_bytes or 0) > 0
    assert events.analyzed_at is not None
    text = " ".join(sentences(read_database_facts(manager)))
    assert "of the rows of system_events are dead (24,000)" in text or "24,000" in text
    database.execute("VACUUM system_events")
    assert "of system_events is empty space" in " ".join(sentences(read_database_facts(manager)))


def test_a_copy_and_the_rows_of_a_day_are_told(
    manager: DatabaseManager, database: ThrowawayDatabase, rows: Any
) -> None:
    session = rows.session()
    rows.equity(session, ["100"] * 20)
    rows.trade()
    assert read_database_facts(manager).state.copy == Part(None)
    database.execute("SET ROLE owner; CREATE TABLE switchyard.copy_run (run_id uuid, source_label text,"
                     " source_name text, source_digest text, source_bytes bigint, started_at timestamptz,"
                     " finished_at timestamptz, row_count bigint, tables json)")  # fmt: skip
    database.execute(
        "INSERT INTO switchyard.copy_run VALUES ('00000000-0000-4000-8000-000000000001', 'bot', 'bot.db', 'aa', 10,"
        """ now(), now(), 2, '{"trades": 2}')"""
    )
    facts = read_database_facts(manager)
    assert facts.state.copy.value is not None
    assert (facts.state.copy.value.file, facts.state.copy.value.tables) == ("bot.db", {"trades": 2})
    assert facts.growth.rows_a_day == {"account_history": 20, "trades": 1}
    assert (facts.growth.expected_bytes_a_day or 0) > 0


def test_a_sqlite_file_has_what_a_file_can_have(sqlite_url: str, rows_on: Any) -> None:
    rows_on(sqlite_url).bot()
    manager = DatabaseManager(sqlite_url, service="dashboard")
    try:
        facts = read_database_facts(manager, SizeHistory())
    finally:
        manager.dispose()
    for part in (facts.state.queries, facts.state.long_sessions, facts.state.counters, facts.state.archive):
        assert part == Part(None, "PostgreSQL; this is a SQLite file")
    assert facts.growth.rows_a_day["trades"] == 1
    assert [line.split(":")[0] for line in sentences(facts)] == ["info", "ok", "ok", "info"]


def test_growth_is_what_was_seen_and_begins_after_a_while() -> None:
    now = [0.0]
    sizes = SizeHistory(every_s=600, keep_s=3600, settle_s=900, clock=lambda: now[0])
    assert sizes.seen(1000) is None
    now[0] = 800
    assert sizes.seen(1500) is None
    now[0] = 900
    assert sizes.seen(1600) == (600, 900)
    found = None
    for step in range(20):
        now[0] = 1000 + step * 600
        found = sizes.seen(2000 + step)
    assert found is not None
    assert found[1] <= 4200  # the oldest are forgotten
    assert Growth(600, 900, None, {}).seen_bytes_a_day == 57_600


@pytest.mark.parametrize("every", [dict.fromkeys(Thresholds.__dataclass_fields__, 1)])
def test_each_threshold_is_a_setting(every: dict[str, int]) -> None:
    from dashboard.settings import DashboardSettings

    given = DashboardSettings.model_validate({f"dashboard_{name}": value for name, value in every.items()})
    assert Thresholds.of(given) == Thresholds(**every)
    assert Thresholds.of(DashboardSettings.model_validate({})) == Thresholds()


COUNTERS = Counters(99.5, 10**6, 0, 0, 0, 0, 3.0, None)
QUERY = QueryRow("SELECT 1", "dashboard", 60, 25.0, 90.0, 1500.0, 60, 40.0, slow=True)
LONG = LongSession(7, "postgres", "psql", "active", 95.0, "SELECT 1")
TABLE = TableRow("t", 9, estimated=True, size_bytes=9)
NOW = datetime(2026, 1, 5, tzinfo=UTC)


@pytest.mark.parametrize(
    ("part", "value", "said"),
    [
        ("counters", replace(COUNTERS, cache_hit_percent=98.9), "warn: 98.9% of block reads were answered"),
        ("counters", replace(COUNTERS, cache_hit_percent=99.0), "ok: 99.0% of block reads were answered"),
        ("counters", replace(COUNTERS, cache_hit_percent=None), "info: Too little was read so far"),
        ("counters", replace(COUNTERS, checksum_failures=2), "fail: 2 blocks failed the checksum"),
        ("counters", replace(COUNTERS, transaction_ids_percent=50), "warn: 50% of the transaction ids are used"),
        ("counters", replace(COUNTERS, transaction_ids_percent=91), "fail: 91% of the transaction ids are used"),
        ("long_sessions", [LONG], "warn: 1 session takes long: postgres (pid 7) has been running a query for 1 min"),
        ("long_sessions", [], "ok: No query has been running for 30 s"),
        ("queries", Queries([QUERY], None), "warn: 1 statement takes more than 20 ms on average, the slowest 25 ms"),
        ("queries", Queries([replace(QUERY, slow=False)], None), "ok: No statement with 50 calls or more takes 20 ms"),
        ("tables", [replace(TABLE, dead_rows=20_000, dead_percent=20.0)], "warn: 20% of the rows of t are dead"),
        ("tables", [replace(TABLE, dead_rows=20_000, dead_percent=19.0)], "ok: No table holds many dead rows"),
        ("tables", [replace(TABLE, dead_rows=99, dead_percent=90.0)], "ok: No table holds many dead rows"),
        ("tables", [replace(TABLE, bloat_bytes=10**7, bloat_percent=51.0)], "warn: About 51% of t is empty"),
        ("archive", None, "info: No backup is recorded here"),
        ("archive", Archive(3, NOW, 0, None), "ok: The log was last archived at 2026-01-05"),
        ("archive", Archive(3, NOW, 2, NOW + timedelta(hours=1)), "fail: Archiving the log has failed 2 times"),
        ("archive", Archive(3, NOW, 2, NOW - timedelta(hours=1)), "ok: The log was last archived"),
        ("archive", Archive(0, None, 0, None), "info: The server archives its log; nothing was due yet."),
    ],
)  # fmt: skip
def test_each_sentence_has_its_threshold(manager: DatabaseManager, part: str, value: Any, said: str) -> None:
    state = replace(read_database_facts(manager).state, **{part: Part(value)})
    found = [*verdicts(state, LIMITS), archive_verdict(state)]
    assert any(f"{verdict.level}: {verdict.sentence}".startswith(said) for verdict in found), found


def test_growth_is_said_with_where_it_comes_from() -> None:
    assert "a quarter of an hour" in growth_verdict(Growth(None, None, None, {})).sentence
    said = growth_verdict(Growth(2_000_000, 3600, 5_000_000, {"account_history": 17280, "trades": 12}))
    assert said.sentence == "It grew by 2.0 MB in the last 1 h."
    assert said.more == "The rows of the last 24 hours (17,280 of account_history and 12 of trades) come to 5.0 MB."
    assert growth_verdict(Growth(-5_000, 3600, None, {})).sentence.startswith("It shrank by 5.0 kB")
