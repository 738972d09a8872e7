"""How the pages are answered: with some 300,000 trades and statistics of them, no plan reads a large table from end to
end, and none reads more of it than a page needs."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import Any

import pytest
from dashboard.reading.consistent import read_consistently
from dashboard.reading.database import read_database_facts
from dashboard.reading.events import EventQuery, read_events
from dashboard.reading.overview import read_overview
from dashboard.reading.strategies import StrategyQuery, read_strategies
from dashboard.reading.trade import read_trade
from dashboard.reading.trades import END, SORTS, TradeQuery, read_trades
from sqlalchemy import Connection, event
from tradedb import DatabaseManager
from tradedb.testing import PostgresServer, ThrowawayDatabase, migrated_database

TRADES = 300_000
LARGE = {"trades", "account_history", "positions", "system_events", "order_intents"}
MOST_ROWS = 20_000
"""So many neighbouring rows of a large table may be fetched by one statement: a day of account records."""
MOST_ENTRIES = 70_000
"""So many entries of an index alone may be passed over: the most that is read and sorted, and some to spare."""
START = datetime(2025, 1, 1)  # noqa: DTZ001 - rows have no zone

ROWS = (
    "INSERT INTO trading_sessions (id, start_time, is_active, mode, initial_balance, strategy_name, symbol, timeframe,"
    " exchange) SELECT s, '2025-01-01', true, 'PAPER', 9, 'S', 'SYM', '1h', 'SIMULATED' FROM generate_series(1, 40) s",
    # a growing market: late results are larger; one symbol was traded early and rarely
    "INSERT INTO trades (order_id, symbol, side, source, entry_price, exit_price, size, entry_time, exit_time, pnl,"
    " pnl_percent, commission, strategy_name, exchange, session_id) SELECT 'i' || n, CASE WHEN n IN (7, 77, 777)"
    " THEN 'RARE' ELSE 'SYM' || n % 8 END, 'LONG', 'PAPER', 1, 1, 1, t - interval '1 hour', t,"
    " (n % 997 - 400) * n / {n}.0, (n % 997 - 400) / 100.0, 1, 'Strategy' || n % 3, 'SIMULATED',"
    " 1 + floor(40 * power((n % 1000) / 1000.0, 3))"
    " FROM (SELECT n, timestamp '2025-01-01' + n * interval '1 minute' AS t FROM generate_series(1, {n}) n) x",
    "INSERT INTO positions (symbol, side, status, entry_price, size, entry_time, strategy_name, session_id)"
    " SELECT 'SYM1', 'LONG', CASE WHEN n % 50000 = 0 THEN 'OPEN' ELSE 'CLOSED' END, 1, 1, '2025-01-01', 'S', 1"
    " FROM generate_series(1, {n} / 2) n",
    "INSERT INTO account_history (timestamp, balance, equity, drawdown, session_id) SELECT localtimestamp"
    " - n * interval '5 seconds', 1, n, 0, 1 FROM generate_series(1, {n}) n",
    "INSERT INTO system_events (timestamp, event_type, severity, message, component) SELECT timestamp '2025-01-01'"
    " + n * interval '1 minute', 'T' || n % 5, 'info', 'm', 'trading-bot' FROM generate_series(1, {n} / 2) n",
    "INSERT INTO order_intents (intent_id, session_id, lease_epoch, strategy_name, venue, symbol, side, leg, quantity,"
    " reference_price, signal_time, status, created_at, updated_at) SELECT 'i' || n, 1, 1, 'S', 'SIM', 'X', 'SELL',"
    " 'EXIT', 1, 1, now(), 'FILLED', now(), now() FROM generate_series(1, {n} / 2) n",
    "VACUUM ANALYZE",
)


@pytest.fixture(scope="module")
def large(postgres: PostgresServer) -> Iterator[ThrowawayDatabase]:
    with migrated_database(postgres) as database:
        for statement in ROWS:
            database.execute(statement.format(n=TRADES))
        yield database


class Plans:
    """Runs readings as the dashboard, and explains each of their statements."""

    def __init__(self, database: ThrowawayDatabase) -> None:
        self.manager = DatabaseManager(database.url("dashboard"), service="test")
        self._statements: list[tuple[str, Any]] = []

    def of(self, work: Callable[[Connection], Any]) -> tuple[Any, list[tuple[str, dict[str, Any]]]]:
        """Return what a reading returned, and (statement, plan with the rows that it really touched) of each."""
        self._statements.clear()

        def run(conn: Connection) -> tuple[Any, list[tuple[str, dict[str, Any]]]]:
            event.listen(conn, "before_cursor_execute", self._remember)
            try:
                answer = work(conn)
            finally:
                event.remove(conn, "before_cursor_execute", self._remember)
            plans: list[tuple[str, dict[str, Any]]] = []
            for sql, parameters in self._statements:
                if sql.lstrip().upper().startswith(("SELECT", "WITH")):
                    cursor: Any = conn.connection.cursor()
                    cursor.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {sql}", parameters)
                    found = cursor.fetchone()[0]
                    plans.append((sql, (json.loads(found) if isinstance(found, str) else found)[0]["Plan"]))
            return answer, plans

        found = read_consistently(self.manager, run, name="test")
        assert isinstance(found, tuple)
        return found

    def _remember(self, _conn: Any, _cursor: Any, sql: str, parameters: Any, _context: Any, _many: bool) -> None:
        self._statements.append((sql, parameters or None))


@pytest.fixture
def plans(large: ThrowawayDatabase) -> Iterator[Plans]:
    found = Plans(large)
    yield found
    found.manager.dispose()


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for below in plan.get("Plans", []):
        yield from nodes(below)


def require_small(explained: list[tuple[str, dict[str, Any]]]) -> None:
    assert explained
    for sql, plan in explained:
        for node in nodes(plan):
            if node.get("Relation Name") not in LARGE:
                continue
            assert node["Node Type"] not in {"Seq Scan", "Parallel Seq Scan"}, (sql, node)
            touched = (node["Actual Rows"] + node.get("Rows Removed by Filter", 0)) * node["Actual Loops"]
            assert touched <= (MOST_ENTRIES if node["Node Type"] == "Index Only Scan" else MOST_ROWS), (sql, node)


LATE, EARLY = START + timedelta(days=150), START + timedelta(days=20)
QUESTIONS: dict[str, TradeQuery] = {
    f"{sort}-{'down' if down else 'up'}-{name}": TradeQuery(**{**given, "sort": sort, "descending": down})
    for sort in SORTS
    for down in (True, False)
    for name, given in {
        "all": {},
        "symbol": {"filters": (("symbol", "SYM3"),)},
        "rare": {"filters": (("symbol", "RARE"),)},
        "two": {"filters": (("strategy", "Strategy1"), ("source", "PAPER"))},
        "large-session": {"session_id": 1},
        "small-session": {"session_id": 40, "filters": (("symbol", "SYM5"),)},
        "early": {"since": START, "until": EARLY},
        "hours": {"since": LATE + timedelta(hours=5), "until": LATE + timedelta(days=1, hours=7)},
        "symbol-in-a-long-span": {"filters": (("symbol", "SYM2"),), "since": EARLY, "until": LATE},
    }.items()
}


@pytest.mark.parametrize("name", QUESTIONS)
def test_a_page_of_trades_reads_no_more_than_it_needs(plans: Plans, name: str) -> None:
    query = QUESTIONS[name]
    page, explained = plans.of(lambda conn: read_trades(conn, query))
    assert page.rows
    require_small(explained)
    if page.next:
        from dataclasses import replace

        for cursor in (page.next, END):
            _, explained = plans.of(lambda conn, cursor=cursor: read_trades(conn, replace(query, cursor=cursor)))
            require_small(explained)


@pytest.mark.parametrize(
    "work",
    [
        read_overview,
        lambda conn: read_overview(conn, chart_range="all"),
        lambda conn: read_overview(conn, chart_range="1h"),
        lambda conn: read_overview(conn, session_id=7, chart_range="all"),
        lambda conn: read_strategies(conn, StrategyQuery()),
        lambda conn: read_strategies(conn, StrategyQuery((("symbol", "SYM3"),))),
        lambda conn: read_trade(conn, 123_456),
        lambda conn: read_events(conn, EventQuery()),
    ],
    ids=[
        "overview",
        "overview-all",
        "overview-1h",
        "overview-copied",
        "strategies",
        "strategies-of",
        "trade",
        "events",
    ],
)
def test_a_page_reads_no_large_table_from_end_to_end(plans: Plans, work: Callable[[Connection], Any]) -> None:
    answer, explained = plans.of(work)
    assert answer is not None
    require_small(explained)


def test_the_database_page_counts_no_large_table(plans: Plans) -> None:
    facts = read_database_facts(plans.manager)
    tables = {table.name: table for table in facts.state.tables.value or []}
    assert all(tables[name].estimated for name in LARGE)
    assert re.fullmatch(r"\d+", str(tables["trades"].rows))
