"""A list of trades is the same whichever way it is found: filters, sorts, directions and pages against plain Python."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from dashboard.reading import trade_keys
from dashboard.reading.consistent import read_consistently
from dashboard.reading.trades import END, SORTS, TradePage, TradeQuery, read_trades
from sqlalchemy import insert
from tradedb import DatabaseManager
from tradedb.models import Trade
from tradedb.testing import ThrowawayDatabase

START = datetime(2025, 3, 1)  # noqa: DTZ001 - rows have no zone


def some_trades(n: int, sessions: list[int | None], seed: int = 1) -> list[dict[str, Any]]:
    chance = random.Random(seed)
    rows = []
    for _ in range(n):
        closed = START + timedelta(seconds=chance.randrange(12 * 86_400 // 600) * 600)
        pnl = Decimal(chance.randrange(-40, 60))  # few values: many trades share one, and the id decides
        rows.append(
            {
                "symbol": chance.choice(["BTCUSDT", "ETHUSDT", "SOLUSDT"]),
                "side": "LONG",
                "source": chance.choice(["PAPER", "PAPER", "BACKTEST"]),
                "entry_price": Decimal(100),
                "exit_price": Decimal(101),
                "size": Decimal(1),
                "entry_time": closed - timedelta(minutes=5),
                "exit_time": closed,
                "pnl": pnl,
                "pnl_percent": float(pnl) / 8,
                "commission": Decimal(chance.choice([0, 1])),
                "strategy_name": chance.choice(["Cross", "Reversion"]),
                "exchange": chance.choice(["SIMULATED", "binance"]),
                "session_id": chance.choice(sessions),
            }
        )
    return rows


@pytest.fixture(params=["postgres", "sqlite"])
def manager(request: pytest.FixtureRequest) -> Iterator[DatabaseManager]:
    if request.param == "postgres":
        database: ThrowawayDatabase = request.getfixturevalue("database")
        manager = DatabaseManager(database.url("dashboard"), service="test")
        manager.writer = database.url("postgres")  # type: ignore[attr-defined]
    else:
        url = request.getfixturevalue("sqlite_url")
        manager = DatabaseManager(url, service="test")
        manager.writer = url  # type: ignore[attr-defined]
    yield manager
    manager.dispose()


def page_of(manager: DatabaseManager, query: TradeQuery) -> TradePage:
    found = read_consistently(manager, lambda conn: read_trades(conn, query), name="test")
    assert isinstance(found, TradePage)
    return found


def expected(rows: list[dict[str, Any]], query: TradeQuery) -> list[int]:
    match = [
        row
        for row in rows
        if (not query.value("symbol") or row["symbol"] == query.value("symbol"))
        and (not query.value("strategy") or row["strategy_name"] == query.value("strategy"))
        and (not query.value("source") or row["source"] == query.value("source"))
        and (query.session_id is None or row["session_id"] == query.session_id)
        and (query.since is None or row["exit_time"] >= query.since)
        and (query.until is None or row["exit_time"] < query.until)
    ]
    match.sort(key=lambda row: (row[query.sort], row["id"]), reverse=query.descending)
    return [row["id"] for row in match]


SPANS = [
    (None, None),
    (START + timedelta(days=2), START + timedelta(days=5)),  # whole days
    (START + timedelta(days=3, hours=5), START + timedelta(days=6, hours=7, minutes=30)),
    (START + timedelta(days=4, hours=3), START + timedelta(days=4, hours=9)),  # within one
    (START + timedelta(days=9, hours=20), None),
    (None, START + timedelta(days=1, hours=1)),
]


@pytest.mark.parametrize("read_and_sort", [0, 40, 20_000])
def test_every_question_has_the_answer_of_plain_python(
    manager: DatabaseManager, rows_on: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, read_and_sort: int
) -> None:
    """Each way of finding rows is taken: by walking all of an index, its cells, and by reading and sorting a part."""
    monkeypatch.setattr(trade_keys, "READ_AND_SORT", read_and_sort)
    monkeypatch.setattr(trade_keys, "READ_SESSION", read_and_sort)
    keep = rows_on(manager.writer)  # type: ignore[attr-defined]
    sessions = [keep.session(), keep.session(), None]
    rows = [{"id": i, **row} for i, row in enumerate(some_trades(400, sessions), start=1)]
    keep._add(lambda conn: conn.execute(insert(Trade).values(rows)))
    labels = [(), (("symbol", "ETHUSDT"),), (("strategy", "Cross"), ("source", "PAPER")), (("symbol", "NONE"),)]
    chance = random.Random(read_and_sort)
    questions = list(itertools.product(labels, [None, sessions[0]], SPANS, SORTS, [True, False]))
    for filters, session, (since, until), sort, descending in chance.sample(questions, 60):
        query = TradeQuery(tuple(filters), session, since, until, sort, descending, page_size=25)
        want = expected(rows, query)
        page = page_of(manager, query)
        matching = [row for row in rows if row["id"] in set(want)]
        assert page.matching == len(want), query
        assert page.total == len(rows)
        assert (page.pnl or 0) == sum(row["pnl"] for row in matching)
        assert page.wins == sum(row["pnl"] - row["commission"] > 0 for row in matching)
        assert page.simulated == sum(row["exchange"] == "SIMULATED" for row in matching)
        seen, first = [row.id for row in page.rows], page.first
        assert first == (1 if want else 0)
        assert page.previous is None
        while page.next:
            page = page_of(manager, replace(query, cursor=page.next))
            assert page.first == len(seen) + 1
            seen += [row.id for row in page.rows]
        assert seen == want, query
        back = [row.id for row in page.rows]
        while page.previous:
            page = page_of(manager, replace(query, cursor=page.previous))
            assert page.first == len(seen) - len(back) - len(page.rows) + 1
            back = [row.id for row in page.rows] + back
        assert back == want, query
        if want:
            last = page_of(manager, replace(query, cursor=END))
            assert ([row.id for row in last.rows], last.next) == (want[-25:], None)
            assert last.first == len(want) - len(last.rows) + 1


@pytest.mark.parametrize("closed", ["0044-03-15 12:00:00 BC", "infinity", "-infinity", "99999-01-01 00:00:00"])
def test_a_trade_closed_beyond_the_calendar_is_shown_as_it_is(
    visitor: Any, rows: Any, database: ThrowawayDatabase, closed: str
) -> None:
    for _ in range(60):
        rows.trade()
    database.execute("UPDATE trades SET exit_time = %s WHERE id = 7", (closed,))
    for order in ("asc", "desc"):
        shown, path = "", f"/trades?order={order}&per_page=25"
        for cursor in ("", "&cursor=end"):
            answer = visitor.get(path + cursor)
            assert answer.status_code == 200
            shown += answer.text
        assert closed in shown
    manager = DatabaseManager(database.url("dashboard"), service="test")
    try:
        for descending in (True, False):
            query, ids = TradeQuery(descending=descending, page_size=1), []
            page = page_of(manager, query)
            while page.next:
                ids += [row.id for row in page.rows]
                page = page_of(manager, replace(query, cursor=page.next))
            assert len({*ids, *(row.id for row in page.rows)}) == 60
    finally:
        manager.dispose()
    assert visitor.get("/").status_code == 200


@pytest.mark.parametrize("cursor", ["x", "end2", "e30", "W10", "a" * 600, "WyJ4Il0", "\N{SNOWMAN}", "null"])
def test_a_cursor_that_is_not_ours_leads_to_the_first_page(cursor: str) -> None:
    assert TradeQuery.from_parameters({"cursor": cursor}).cursor == ""


def test_a_cursor_goes_with_its_own_list_only(visitor: Any, rows: Any) -> None:
    for _ in range(30):
        rows.trade()
    found = visitor.get("/trades?per_page=25").text
    cursor = found.split("cursor=")[1].split('"')[0].split("&")[0]
    assert TradeQuery.from_parameters({"cursor": cursor}).cursor == cursor
    assert TradeQuery.from_parameters({"cursor": cursor, "sort": "pnl"}).cursor == ""
    assert TradeQuery.from_parameters({"cursor": cursor, "symbol": "BTCUSDT"}).cursor == ""


@pytest.mark.parametrize("pnl", ["NaN", "Infinity", "-Infinity"])
def test_a_list_goes_on_behind_a_number_that_is_none(rows: Any, database: ThrowawayDatabase, pnl: str) -> None:
    for i in range(6):
        rows.trade(pnl=Decimal(i))
    database.execute("UPDATE trades SET pnl = %s::numeric, pnl_percent = %s::float8 WHERE id IN (2, 3)", (pnl, pnl))
    manager = DatabaseManager(database.url("dashboard"), service="test")
    try:
        for sort, descending in itertools.product(("pnl", "pnl_percent"), (True, False)):
            query, ids = TradeQuery((("symbol", "BTCUSDT"),), sort=sort, descending=descending, page_size=1), []
            page = page_of(manager, query)
            while page.next:
                ids += [row.id for row in page.rows]
                page = page_of(manager, replace(query, cursor=page.next))
            assert sorted([*ids, *(row.id for row in page.rows)]) == [1, 2, 3, 4, 5, 6]
            assert (page.matching, page.summed) == (6, 4)
    finally:
        manager.dispose()
