"""What the pages read: one trade's story, a session's own numbers, strategies side by side, curves of many records."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from dashboard.reading import equity as equity_reading
from dashboard.reading.consistent import read_consistently
from dashboard.reading.overview import Overview, read_overview
from dashboard.reading.strategies import Strategies, StrategyQuery, read_strategies
from dashboard.reading.trade import TradeDetail, read_trade
from sqlalchemy import Connection, insert, text, update
from tradedb import DatabaseManager
from tradedb.models import AccountHistory, Fill, LedgerEntry, OrderIntent, Position, SystemEvent, Trade, VenueOrder
from tradedb.testing import ThrowawayDatabase

DAY = datetime(2025, 3, 1)  # noqa: DTZ001 - rows have no zone


class Database:
    """One migrated database of either kind: rows go in as its owner, and are read as the dashboard."""

    def __init__(self, rows: Any, reader: Any) -> None:
        self.rows = rows
        self.manager = DatabaseManager(reader, service="test")

    def read(self, work: Callable[[Connection], Any]) -> Any:
        return read_consistently(self.manager, work, name="test")

    def write(self, work: Callable[[Connection], Any]) -> Any:
        return self.rows._add(work)

    def overview(self, **given: Any) -> Overview:
        found = self.read(lambda conn: read_overview(conn, **given))
        assert isinstance(found, Overview)
        return found

    def strategies(self, **given: str) -> Strategies:
        found = self.read(lambda conn: read_strategies(conn, StrategyQuery.from_parameters(given)))
        assert isinstance(found, Strategies)
        return found


@pytest.fixture(params=["postgres", "sqlite"])
def db(request: pytest.FixtureRequest, rows_on: Callable[..., Any]) -> Iterator[Database]:
    if request.param == "postgres":
        database: ThrowawayDatabase = request.getfixturevalue("database")
        found = Database(rows_on(database.url("postgres")), database.url("dashboard"))
    else:
        url = request.getfixturevalue("sqlite_url")
        found = Database(rows_on(url), url)
    yield found
    found.manager.dispose()


def add_round_trip(conn: Connection, session_id: int) -> int:
    """A trade as the bot writes it: two decisions, two orders, an exit in two fills, and the books of all."""
    at = datetime(2026, 1, 5, 12, tzinfo=UTC)
    position = conn.execute(
        insert(Position)
        .values(symbol="BTCUSDT", side="LONG", status="CLOSED", entry_price=Decimal(100), size=Decimal(1),
                quantity=Decimal(2), entry_time=at.replace(tzinfo=None), strategy_name="S", order_id="entry-9")
        .returning(Position.id)
    ).scalar_one()  # fmt: skip
    for leg, side, minutes in (("ENTRY", "BUY", 0), ("EXIT", "SELL", 10)):
        key, when = f"{leg.lower()}-9", at + timedelta(minutes=minutes)
        conn.execute(
            insert(OrderIntent).values(
                intent_id=key, session_id=session_id, lease_epoch=3, strategy_name="S", venue="SIMULATED",
                symbol="BTCUSDT", side=side, leg=leg, quantity=Decimal(2), reference_price=Decimal(100),
                signal_time=when, reason=f"why {leg}", status="FILLED", created_at=when + timedelta(seconds=1),
                updated_at=when, entry_intent_id="entry-9" if leg == "EXIT" else None,
            )
        )  # fmt: skip
        conn.execute(
            insert(VenueOrder).values(
                venue="SIMULATED", client_order_id=key, venue_order_id=f"v-{key}", session_id=session_id,
                symbol="BTCUSDT", side=side, quantity=Decimal(2), filled_quantity=Decimal(2), status="FILLED",
                submitted_at=when + timedelta(seconds=2), accepted_at=when + timedelta(seconds=3), updated_at=when,
                lease_epoch=3,
            )
        )  # fmt: skip
        for n in range(2 if leg == "EXIT" else 1):
            part = Decimal(1) if leg == "EXIT" else Decimal(2)
            conn.execute(
                insert(Fill).values(
                    venue="SIMULATED", venue_trade_id=f"f-{key}-{n}", intent_id=key, symbol="BTCUSDT", side=side,
                    price=Decimal(100 + minutes), quantity=part, fee=Decimal("0.1"), fee_currency="USDT",
                    filled_at=when + timedelta(seconds=4 + n), recorded_at=when + timedelta(seconds=64 + n),
                    lease_epoch=3, venue_sequence=minutes + n, late=bool(n),
                )
            )  # fmt: skip
            for account, amount in (("cash", "-7.5"), ("inventory", "7.5")):
                conn.execute(
                    insert(LedgerEntry).values(
                        session_id=session_id, venue="SIMULATED", venue_trade_id=f"f-{key}-{n}", account=account,
                        currency="USDT", amount=Decimal(amount), recorded_at=when, lease_epoch=3,
                    )
                )  # fmt: skip
    return conn.execute(
        insert(Trade)
        .values(symbol="BTCUSDT", side="LONG", source="PAPER", entry_price=Decimal(100), exit_price=Decimal(110),
                size=Decimal(1), quantity=Decimal(2), entry_time=at.replace(tzinfo=None),
                exit_time=(at + timedelta(minutes=10)).replace(tzinfo=None), pnl=Decimal(20), pnl_percent=10.0,
                commission=Decimal("0.3"), strategy_name="S", exchange="SIMULATED", order_id="exit-9",
                position_id=position, session_id=session_id)
        .returning(Trade.id)
    ).scalar_one()  # fmt: skip


def test_a_trade_tells_its_whole_story(db: Database) -> None:
    session = db.rows.session()
    earlier = db.rows.trade(exit_time=DAY)
    number = db.write(lambda conn: add_round_trip(conn, session))
    detail = db.read(lambda conn: read_trade(conn, number))
    assert isinstance(detail, TradeDetail)
    assert (detail.trade.id, detail.trade.result, detail.trade.held_s) == (number, Decimal("19.7"), 600)
    assert (detail.position_status, detail.session_name, detail.copied) == ("CLOSED", "switchyard-test", None)
    assert [leg.kind for leg in detail.legs] == ["entry", "exit"]
    entry, way_out = detail.legs
    assert (entry.intent.reason, entry.orders[0].venue_order_id) == ("why ENTRY", "v-entry-9")
    assert [(fill.quantity, fill.late, fill.delay_s) for fill in way_out.fills] == [(1, False, 60), (1, True, 60)]
    assert len(way_out.entries) == 4
    assert way_out.balances == {"USDT": 0}
    steps = [moment.what for moment in detail.moments]
    assert steps[:5] == ["Signal to entry", "Decision to entry recorded", "Order to entry sent",
                         "Order to entry accepted", "Filled (entry)"]  # fmt: skip
    assert [moment.at for moment in detail.moments] == sorted(moment.at for moment in detail.moments)
    behind = replace(entry.orders[0], accepted_at=entry.intent.signal_time - timedelta(seconds=5))
    told = replace(detail, legs=[replace(entry, orders=[behind]), way_out]).moments
    assert [moment.what for moment in told] == steps  # by the venue's clock the order was there before it was sent
    assert (detail.older_id, detail.newer_id) == (earlier, None)
    assert db.read(lambda conn: read_trade(conn, number + 1)) is None


def test_a_copied_trade_has_its_two_times_and_no_legs(db: Database) -> None:
    db.rows.history(2)
    detail = db.read(lambda conn: read_trade(conn, 1))
    assert detail.legs == []
    assert [moment.what for moment in detail.moments] == ["Opened", "Closed"]


def test_the_run_that_copied_a_row_is_found_by_its_number(database: ThrowawayDatabase, rows: Any) -> None:
    database.execute("SET ROLE owner; CREATE TABLE switchyard.copy_run (run_id uuid, source_label text,"
                     " source_name text, source_digest text, source_bytes bigint, started_at timestamptz,"
                     " finished_at timestamptz, row_count bigint, tables json, next_keys json)")  # fmt: skip
    database.execute(
        "INSERT INTO switchyard.copy_run VALUES ('00000000-0000-4000-8000-000000000001', 'bot', 'bot.db', 'aa', 10,"
        """ now(), now(), 2, '{"trades": 2, "trading_sessions": 1}', '{"trades.id": 3, "trading_sessions.id": 2}')"""
    )
    rows.history(3)
    manager = DatabaseManager(database.url("dashboard"), service="test")
    try:
        found = [read_consistently(manager, lambda conn, n=n: read_trade(conn, n), name="test") for n in (1, 2, 3)]
        overview = read_consistently(manager, read_overview, name="test")
    finally:
        manager.dispose()
    assert [trade.copied and trade.copied.file for trade in found] == ["bot.db", "bot.db", None]  # type: ignore[union-attr]
    assert isinstance(overview, Overview)
    assert overview.sessions[0].copied is not None
    assert [row.copied is not None for row in overview.trades] == [False, True, True]


def test_a_session_asked_for_shows_its_own_positions_and_no_others(db: Database) -> None:
    ours = db.rows.bot()
    copied = db.rows.history()
    assert [len(db.overview().open_positions), db.overview().open_count] == [1, 1]
    assert [len(db.overview(session_id=ours).open_positions), db.overview(session_id=ours).open_count] == [1, 1]
    assert [db.overview(session_id=copied).open_positions, db.overview(session_id=copied).open_count] == [[], 0]


def test_a_session_says_what_it_came_to_each_day(db: Database) -> None:
    session = db.rows.session()
    for day, pnl in ((0, "10"), (0, "-4"), (3, "5")):
        at = DAY + timedelta(days=day)
        db.rows.trade(session_id=session, exit_time=at, entry_time=at - timedelta(minutes=30), pnl=Decimal(pnl))
    db.rows.trade(exit_time=DAY)  # of no session
    seen = db.overview(session_id=session)
    assert [(bar.day, bar.result, bar.trades, bar.wins) for bar in seen.daily] == [
        (date(2025, 3, 1), 4, 2, 1),
        (date(2025, 3, 4), 4, 1, 1),
    ]
    assert seen.result is not None
    assert (seen.result.trades, seen.result.wins, seen.result.losses, seen.result.held_s) == (3, 2, 1, 1800)
    assert (seen.result.profit_factor, seen.result.best, seen.result.worst) == (Decimal(13) / 5, 9, -5)


@pytest.mark.parametrize(
    ("age_s", "left_s", "quiet_s", "state"), [(1, 14, 1, "running"), (1, 14, 900, "silent"), (60, -45, 1, "stopped")]
)
def test_the_bot_is_in_one_word(db: Database, age_s: float, left_s: float, quiet_s: float, state: str) -> None:
    assert db.overview().bot(silent_after_s=60).state == "never"
    db.rows.lease(age_s=age_s, left_s=left_s)
    session = db.rows.session()
    db.rows.equity(session, ["100", "101"], every_s=quiet_s)
    at = datetime(2026, 1, 5)  # noqa: DTZ001 - as the table has it
    event = {"timestamp": at, "event_type": "RESUMED", "message": "trading again", "component": "trading-bot"}
    db.write(lambda conn: conn.execute(insert(SystemEvent).values(**event)))
    bot = db.overview().bot(silent_after_s=60)
    assert bot.state == state
    assert bot.heartbeat_age_s == pytest.approx(age_s, abs=30)
    assert bot.event is not None
    assert (bot.event.event_type, bot.event.at) == ("RESUMED", at.replace(tzinfo=UTC))


def add_curve(conn: Connection, session_id: int, n: int, *, every_min: int = 7) -> None:
    """A curve that falls 20 % once, in the middle."""
    for i in range(n):
        value = Decimal(1000 + i) if i != n // 2 else Decimal(1000 + i - 1) * Decimal("0.8")
        row = {"timestamp": DAY + timedelta(minutes=every_min * i), "balance": value, "equity": value}
        conn.execute(insert(AccountHistory).values(session_id=session_id, drawdown=20.0 if i == n // 2 else 0.0, **row))


@pytest.mark.parametrize("ours", [True, False])
@pytest.mark.parametrize("each", [0, 20_000])
def test_a_curve_of_many_records_keeps_its_ends_and_its_deepest_point(
    db: Database, monkeypatch: pytest.MonkeyPatch, each: int, ours: bool
) -> None:
    monkeypatch.setattr(equity_reading, "READ_EACH", each)
    monkeypatch.setattr(equity_reading, "CHART_POINTS", 20)
    session = db.rows.session(exchange="SIMULATED" if ours else "binance", start_time=DAY)
    db.write(lambda conn: add_curve(conn, session, 600))
    seen = db.overview(session_id=session, chart_range="all").equity
    assert seen is not None
    assert (seen.source, seen.resolution) == ("account", "records" if each else "hours")
    assert (seen.total, seen.left_out) == (600, 0)
    assert 10 <= len(seen.points) <= 24
    assert seen.points[-1].equity == 1599
    assert float(seen.deepest_percent or 0) == pytest.approx(-20, abs=0.2)
    assert [point.time for point in seen.points] == sorted(point.time for point in seen.points)


@pytest.mark.parametrize("each", [0, 20_000])
def test_a_session_without_records_has_the_curve_of_its_trades(
    db: Database, monkeypatch: pytest.MonkeyPatch, each: int
) -> None:
    monkeypatch.setattr(equity_reading, "READ_TRADES", each)
    session = db.rows.session(exchange="binance", initial_balance=Decimal(1000), start_time=DAY)
    for day, pnl in enumerate(["101", "-219", "51", "1"]):
        at = DAY + timedelta(days=day)
        db.rows.trade(session_id=session, exchange="binance", exit_time=at, entry_time=at, pnl=Decimal(pnl))
    seen = db.overview(session_id=session).equity
    assert seen is not None
    assert (seen.source, seen.resolution, seen.total) == ("trades", "trades" if each else "days", 4)
    assert [point.equity for point in seen.points] == [1100, 880, 930, 930]
    assert [round(point.drawdown_percent, 9) for point in seen.points][:2] == [0, -20]


def test_strategies_stand_side_by_side(db: Database) -> None:
    def trade(strategy: str, pnl: str, **more: Any) -> None:
        at = DAY + timedelta(days=more.pop("day", 0))
        values = {"strategy_name": strategy, "pnl": Decimal(pnl), "commission": Decimal(1), "pnl_percent": 0.7}
        db.rows.trade(**{**values, "exit_time": at, "entry_time": at - timedelta(seconds=45), **more})

    trade("A", "11", day=0)
    trade("A", "-29", day=1)
    trade("A", "6", day=2, pnl_percent=-3.0)
    trade("A", "100", source="BACKTEST", exchange="binance", symbol="ETHUSDT")
    trade("B", "2001")
    seen = db.strategies()
    assert [(row.strategy, row.source, row.trades) for row in seen.rows] == [
        ("A", "PAPER", 3), ("A", "BACKTEST", 1), ("B", "PAPER", 1),
    ]  # fmt: skip
    first = seen.rows[0]
    assert (first.result, first.fees, first.won, first.lost, first.best, first.worst) == (-15, 3, 15, -30, 10, -30)
    assert (first.wins, first.losses, first.held_s, first.simulated) == (2, 1, 45, 3)
    assert (first.profit_factor, first.mean_result, first.drawdown) == (Decimal("0.5"), -5, -20)
    assert (first.first_day, first.last_day) == (date(2025, 2, 24), date(2025, 3, 3))  # weeks
    of_symbol = db.strategies(symbol="BTCUSDT").rows[0]
    assert (of_symbol.drawdown, of_symbol.first_day, of_symbol.last_day) == (-30, date(2025, 3, 1), date(2025, 3, 3))
    assert [(b.low, b.high, b.trades) for b in first.durations] == [(30, 60, 3)]
    assert [(b.low, b.high, b.trades) for b in first.returns if b.trades] == [
        (-5, -2, 1), (Decimal("0.5"), 1, 2),
    ]  # fmt: skip
    assert (first.results[0].low, first.results[-1].high, sum(b.trades for b in first.results)) == (-50, 20, 3)
    assert db.strategies(rank="result").rows[0].strategy == "B"
    assert [(row.strategy, row.trades) for row in db.strategies(symbol="ETHUSDT").rows] == [("A", 1)]
    assert db.strategies(session="99").rows == []
    assert seen.choices["source"] == [("BACKTEST", 1), ("PAPER", 4)]


def test_positions_of_a_word_that_is_not_ours_are_counted(db: Database) -> None:
    db.rows.history()
    db.rows.position()
    db.write(lambda conn: conn.execute(update(Position).where(Position.id == 1).values(status="CLOSED")))
    assert db.overview().position_statuses == {"CLOSED": 1, "FILLED": 2, "OPEN": 1}


def test_a_row_beyond_the_calendar_takes_no_page_away(database: ThrowawayDatabase, visitor: Any, rows: Any) -> None:
    session = rows.bot()
    for sql in (
        "UPDATE trading_sessions SET start_time = '0100-01-01 BC'",
        "UPDATE positions SET entry_time = 'infinity'",
        "UPDATE account_history SET timestamp = '0100-01-01 BC' WHERE id = 1",
        "UPDATE trades SET entry_time = '-infinity', exit_time = '0100-01-01 BC'",
    ):
        database.execute(sql)
    for path in ("/", f"/?session={session}&range=all", "/trades"):
        assert visitor.get(path).status_code == 200, path
    manager = DatabaseManager(database.url("dashboard"), service="test")
    try:
        assert read_consistently(manager, lambda conn: read_trade(conn, 1), name="test").trade.id == 1  # type: ignore[union-attr]
        read_consistently(manager, lambda conn: read_strategies(conn, StrategyQuery()), name="test")
        assert read_consistently(manager, lambda conn: conn.execute(text("SELECT 'infinity'::date")).scalar(), name="t")
    finally:
        manager.dispose()
