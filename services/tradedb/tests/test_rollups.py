"""The sums that triggers keep equal those made anew, whatever was inserted, changed, deleted or copied, on both."""

from __future__ import annotations

import io
import random
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from decimal import Decimal
from importlib import import_module
from typing import Any

import pytest
from sqlalchemy import Connection, delete, insert, select, text, update
from tradedb.manager import DatabaseManager
from tradedb.migrate import upgrade
from tradedb.models import AccountHistory, Trade, TradingSession
from tradedb.rollups import EDGES, TABLES
from tradedb.testing import ThrowawayDatabase

Key = tuple[Any, ...]


@pytest.fixture(params=["postgres", "sqlite"])
def manager(request: pytest.FixtureRequest) -> Iterator[DatabaseManager]:
    if request.param == "postgres":
        database: ThrowawayDatabase = request.getfixturevalue("database")
        url: Any = database.url("postgres")
    else:
        url = f"sqlite:///{request.getfixturevalue('tmp_path') / 'trading_bot.db'}"
        upgrade(url)
    manager = DatabaseManager(url, service="test")
    yield manager
    manager.dispose()


def do(manager: DatabaseManager, work: Callable[[Connection], Any]) -> Any:
    return manager.transaction(work, name="test", deadline_s=60)


def random_trade(chance: random.Random, sessions: list[int | None]) -> dict[str, Any]:
    closed = datetime(2025, 3, 1) + timedelta(seconds=chance.randrange(86_400 * 4))  # noqa: DTZ001
    pnl = Decimal(chance.choice([0, 1, -1]) * chance.randrange(1, 10**6)) / chance.choice([1, 64])
    return {
        "symbol": chance.choice(["BTCUSDT", "ETHUSDT"]),
        "side": "LONG",
        "source": chance.choice(["PAPER", "BACKTEST"]),
        "entry_price": Decimal(100),
        "exit_price": Decimal(101),
        "size": Decimal(1),
        "entry_time": closed - timedelta(seconds=chance.choice([0, 4, 59, 3600, 10**6])),
        "exit_time": closed,
        "pnl": pnl,
        "pnl_percent": float(pnl) / 4096,
        "commission": chance.choice([None, Decimal(0), Decimal("0.5")]),
        "strategy_name": chance.choice(["Cross", "Reversion"]),
        "exchange": chance.choice([None, "SIMULATED"]),
        "session_id": chance.choice(sessions),
    }


def expected(conn: Connection) -> dict[str, dict[Key, Any]]:
    """The sums, made in Python from the rows."""
    groups: dict[Key, Any] = {}
    days: dict[Key, Any] = {}
    histogram: dict[Key, int] = {}
    cells: dict[Key, Any] = {}
    weeks: dict[Key, list[Any]] = {}
    for row in conn.execute(select(Trade.__table__)):
        key = (row.session_id, row.symbol, row.strategy_name, row.source, row.exchange)
        finite = row.pnl.is_finite()
        result = row.pnl - (row.commission or 0) if finite else None
        held_s = (row.exit_time - row.entry_time).total_seconds()
        found = groups.setdefault(key, [0, 0, 0, 0, 0, 0, [], 0, 0])
        day = days.setdefault((*key, row.exit_time.date()), [0, 0, 0, 0, [], [], []])
        cell = cells.setdefault((*key[1:4], row.exit_time.date()), [0, 0, 0, 0, 0, 0, [], []])
        monday = row.exit_time.date() - timedelta(days=row.exit_time.weekday())
        week = weeks.setdefault((row.strategy_name, row.source, monday), [0, 0])
        week[0] += 1
        week[1] += result or 0
        cell[0] += 1
        cell[3] += row.exchange == "SIMULATED"
        cell[6].append(row.pnl)
        cell[7].append(row.pnl_percent)
        if result is not None:
            cell[1] += 1
            cell[2] += result > 0
            cell[4] += row.pnl
            cell[5] += row.commission or 0
        found[0] += 1
        found[7] += 1
        found[8] += held_s
        day[0] += 1
        day[5].append(row.pnl)
        day[6].append(row.pnl_percent)
        if result is not None:
            found[1] += 1
            found[2] += result > 0
            found[3] += result < 0
            found[4] += row.pnl
            found[5] += row.commission or 0
            found[6].append(result)
            day[1] += 1
            day[2] += result > 0
            day[3] += row.pnl
            day[4].append(result)
        for kind, value in (("result", result), ("return", row.pnl_percent), ("duration", held_s)):
            if value is not None and abs(value) != float("inf"):
                bucket = sum(Decimal(value) >= edge for edge in EDGES[kind])
                histogram[(*key, kind, bucket)] = histogram.get((*key, kind, bucket), 0) + 1
    return {
        "groups": {
            key: (*v[:6], sum(r for r in v[6] if r > 0), sum(r for r in v[6] if r < 0),
                  max(v[6], default=None), min(v[6], default=None), *v[7:])
            for key, v in groups.items()
        },
        "days": {
            key: (*v[:4], max(v[4], default=None), min(v[4], default=None), min(v[5]), max(v[5]), min(v[6]), max(v[6]))
            for key, v in days.items()
        },
        "histogram": histogram,
        "weeks": {key: tuple(v) for key, v in weeks.items()},
        "cells": {key: (*v[:6], min(v[6]), max(v[6]), min(v[7]), max(v[7])) for key, v in cells.items()},
    }  # fmt: skip


def kept(conn: Connection) -> dict[str, dict[Key, Any]]:
    """The sums, as the triggers left them."""
    from tradedb.rollups import StrategyWeek, TradeCellDay, TradeDay, TradeGroup, TradeHistogram

    g = TradeGroup
    labels = (g.session_id, g.symbol, g.strategy_name, g.source, g.exchange)
    groups = select(
        *labels, g.trades, g.summed, g.wins, g.losses, g.pnl, g.fees, g.won, g.lost, g.best, g.worst, g.timed,
        g.duration_s,
    )  # fmt: skip
    d, h = TradeDay, TradeHistogram
    days = select(
        *labels, d.day, d.trades, d.summed, d.wins, d.pnl, d.best, d.worst, d.pnl_low, d.pnl_high, d.return_low,
        d.return_high,
    ).join(d, d.group_id == g.group_id)  # fmt: skip
    w = StrategyWeek
    weeks = select(w.strategy_name, w.source, w.week, w.trades, w.result)
    c = TradeCellDay
    cells = select(
        c.symbol, c.strategy_name, c.source, c.day, c.trades, c.summed, c.wins, c.simulated, c.pnl, c.fees, c.pnl_low,
        c.pnl_high, c.return_low, c.return_high,
    )  # fmt: skip
    histogram = select(*labels, h.kind, h.bucket, h.trades).join(h, h.group_id == g.group_id)
    return {
        "groups": {tuple(row[:5]): tuple(row[5:]) for row in conn.execute(groups)},
        "days": {tuple(row[:6]): tuple(row[6:]) for row in conn.execute(days)},
        "histogram": {tuple(row[:7]): row[7] for row in conn.execute(histogram)},
        "weeks": {tuple(row[:3]): tuple(row[3:]) for row in conn.execute(weeks)},
        "cells": {tuple(row[:4]): tuple(row[4:]) for row in conn.execute(cells)},
    }


def require_equal(manager: DatabaseManager) -> dict[str, dict[Key, Any]]:
    want, have = manager.read(lambda conn: (expected(conn), kept(conn)), name="compare")
    for what, rows in want.items():
        assert {k: (v, have[what].get(k)) for k, v in rows.items() if have[what].get(k) != v} == {}, what
        assert have[what].keys() == rows.keys(), what
    return have


def add_session(conn: Connection) -> int:
    return conn.execute(
        insert(TradingSession)
        .values(start_time=datetime(2025, 3, 1), mode="PAPER", initial_balance=Decimal(1000), strategy_name="Cross",  # noqa: DTZ001
                symbol="BTCUSDT", timeframe="1h")
        .returning(TradingSession.id)
    ).scalar_one()  # fmt: skip


def test_sums_of_trades_follow_every_change(manager: DatabaseManager) -> None:
    chance = random.Random(7)
    sessions: list[int | None] = [do(manager, add_session), do(manager, add_session), None]
    rows = [random_trade(chance, sessions) for _ in range(120)]
    do(manager, lambda conn: [conn.execute(insert(Trade).values(**row)) for row in rows[:20]])
    require_equal(manager)
    do(manager, lambda conn: conn.execute(insert(Trade).values(rows[20:])))  # many in one statement
    require_equal(manager)
    do(manager, lambda conn: conn.execute(update(Trade).where(Trade.id <= 30).values(symbol="SOLUSDT", pnl=Decimal(5))))
    require_equal(manager)
    best = select(Trade.id).order_by(Trade.pnl.desc()).limit(15)
    do(manager, lambda conn: conn.execute(delete(Trade).where(Trade.id.in_(best.subquery().select()))))
    require_equal(manager)
    do(manager, lambda conn: conn.execute(delete(Trade)))
    assert not any(require_equal(manager).values())


def test_numbers_that_cannot_be_summed_are_counted_and_left_out(manager: DatabaseManager) -> None:
    chance = random.Random(3)
    rows = [random_trade(chance, [None]) for _ in range(6)]
    infinity = "9e999" if manager.dialect == "sqlite" else "'Infinity'"
    do(manager, lambda conn: conn.execute(insert(Trade).values(rows)))
    one = select(Trade.id).order_by(Trade.id).limit(1)
    first = do(manager, lambda conn: conn.execute(one).scalar_one())
    spoil = f"UPDATE trades SET pnl = {infinity}, pnl_percent = {infinity} WHERE id = {first}"
    do(manager, lambda conn: conn.execute(text(spoil)))
    have = require_equal(manager)
    assert sum(group[0] - group[1] for group in have["groups"].values()) == 1
    do(manager, lambda conn: conn.execute(delete(Trade).where(Trade.id == first)))
    require_equal(manager)


def test_what_was_there_before_is_counted_by_the_migration(manager: DatabaseManager) -> None:
    """The sums are thrown away and the migration's own statements run again, over rows of before."""
    chance = random.Random(11)
    session = do(manager, add_session)
    rows = [random_trade(chance, [session, None]) for _ in range(50)]
    do(manager, lambda conn: conn.execute(insert(Trade).values(rows)))
    do(manager, lambda conn: add_records(conn, session, 30))
    hours = manager.read(hours_kept, name="hours")
    migration = import_module("tradedb.migrations.versions.0004_rollups")

    def again(conn: Connection) -> None:
        for name in TABLES:
            conn.execute(text(f"DELETE FROM {name}"))
        sqlite = conn.dialect.name == "sqlite"
        for statement in migration._sqlite() if sqlite else migration._postgres():
            if not any(f"CREATE {word}" in statement for word in ("TRIGGER", "FUNCTION")) and "REVOKE" not in statement:
                conn.exec_driver_sql(statement)

    do(manager, again)
    require_equal(manager)
    assert manager.read(hours_kept, name="hours") == hours


def test_a_copy_of_a_whole_history_is_one_statement_for_the_sums(database: ThrowawayDatabase) -> None:
    chance = random.Random(5)
    manager = DatabaseManager(database.url("postgres"), service="test")
    columns = ["symbol", "side", "source", "entry_price", "exit_price", "size", "entry_time", "exit_time", "pnl",
               "pnl_percent", "strategy_name"]  # fmt: skip
    lines = "".join(
        "\t".join(str(trade[column]) for column in columns) + "\n"
        for trade in (random_trade(chance, [None]) for _ in range(3000))
    )
    connection = database.server.connect(database.name)
    try:
        with connection.cursor() as cursor:
            cursor.copy_expert(f"COPY trades ({', '.join(columns)}) FROM STDIN", io.StringIO(lines))
            cursor.execute("SELECT sum(trades) FROM trade_groups")
            assert cursor.fetchall() == [(3000,)]
            require_equal(manager)
            cursor.execute("TRUNCATE trades CASCADE")
            cursor.execute("SELECT count(*) FROM trade_groups")
            assert cursor.fetchall() == [(0,)]
    finally:
        connection.close()
        manager.dispose()


@pytest.mark.parametrize("closed", ["infinity", "-infinity", "0044-03-15 12:00:00 BC", "294000-01-01"])
def test_a_time_that_python_cannot_hold_is_taken_and_given_back(database: ThrowawayDatabase, closed: str) -> None:
    database.execute(
        "INSERT INTO trades (symbol, side, source, entry_price, exit_price, size, entry_time, exit_time, pnl,"
        " pnl_percent, strategy_name) VALUES ('X', 'LONG', 'LIVE', 1, 1, 1, '2025-01-01', %s, 1, 1, 'S')",
        (closed,),
    )
    assert database.execute("SELECT trades, pnl_high::int FROM trade_days") == [(1, 1)]
    database.execute("UPDATE trades SET pnl = 3")
    assert database.execute("SELECT trades, pnl_high::int FROM trade_days") == [(1, 3)]
    database.execute("DELETE FROM trades")
    assert database.execute("SELECT count(*) FROM trade_groups") == [(0,)]


def add_records(conn: Connection, session: int, n: int) -> None:
    chance = random.Random(n)
    start = datetime(2025, 3, 1, 22, 30)  # noqa: DTZ001
    for i in range(n):
        conn.execute(
            insert(AccountHistory).values(
                timestamp=start + timedelta(minutes=9 * i),
                balance=Decimal(1000),
                equity=Decimal(chance.randrange(900, 1100)),
                drawdown=chance.choice([0.5, 2.0, None]),
                session_id=session,
            )
        )


def hours_kept(conn: Connection) -> dict[Key, Any]:
    rows = conn.execute(text(
        "SELECT session_id, CAST(hour AS varchar(19)) AS hour, records, finite, CAST(last_time AS varchar(19)) AS at,"
        " last_equity, low, high, deepest FROM equity_hours"
    ))  # fmt: skip
    return {(row[0], row[1][:19]): (*row[2:4], row[4][:19], *row[5:]) for row in rows}


def hours_expected(conn: Connection) -> dict[Key, Any]:
    found: dict[Key, list[Any]] = {}
    rows = conn.execute(select(AccountHistory.__table__).order_by(AccountHistory.timestamp, AccountHistory.id))
    for row in rows:
        found.setdefault((row.session_id, f"{row.timestamp:%Y-%m-%d %H}:00:00"), []).append(row)
    return {
        key: (len(of), len(of), f"{of[-1].timestamp:%Y-%m-%d %H:%M:%S}", of[-1].equity, min(r.equity for r in of),
              max(r.equity for r in of), max((r.drawdown for r in of if r.drawdown is not None), default=None))
        for key, of in found.items() if key[0] is not None
    }  # fmt: skip


def test_hours_of_equity_follow_every_change(manager: DatabaseManager) -> None:
    first, second = do(manager, add_session), do(manager, add_session)

    def require_hours() -> int:
        want, have = manager.read(lambda conn: (hours_expected(conn), hours_kept(conn)), name="compare")
        assert have == want
        return len(have)

    do(manager, lambda conn: add_records(conn, first, 60))
    do(manager, lambda conn: add_records(conn, second, 10))
    assert require_hours() > 10
    do(
        manager,
        lambda conn: conn.execute(update(AccountHistory).where(AccountHistory.id < 9).values(session_id=second)),
    )
    require_hours()
    do(manager, lambda conn: conn.execute(update(AccountHistory).where(AccountHistory.id < 5).values(session_id=None)))
    require_hours()
    newest = select(AccountHistory.id).order_by(AccountHistory.timestamp.desc()).limit(12).subquery()
    do(manager, lambda conn: conn.execute(delete(AccountHistory).where(AccountHistory.id.in_(newest.select()))))
    require_hours()
    do(manager, lambda conn: conn.execute(delete(AccountHistory)))
    assert require_hours() == 0


def test_the_bot_makes_sums_without_a_right_to_write_them(database: ThrowawayDatabase) -> None:
    bot = DatabaseManager(database.url("trading_bot"), service="test")
    try:
        do(bot, lambda conn: conn.execute(insert(Trade).values(**random_trade(random.Random(1), [None]))))
    finally:
        bot.dispose()
    assert database.execute("SELECT sum(trades) FROM trade_groups") == [(1,)]
    owners = database.execute(
        "SELECT DISTINCT o.rolname, p.prosecdef, p.proconfig FROM pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid"
        " JOIN pg_roles o ON o.oid = p.proowner WHERE t.tgname LIKE '%_sums_after_%'"
    )
    assert owners == [("owner", True, ["search_path=pg_catalog, pg_temp"])]


def test_the_edges_of_the_migration_are_those_that_readers_use() -> None:
    migration = import_module("tradedb.migrations.versions.0004_rollups")
    for kind, edges in EDGES.items():
        assert [Decimal(edge) for edge in migration.EDGES[kind].split(", ")] == list(edges), kind
