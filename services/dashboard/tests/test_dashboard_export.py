"""The CSV of the trades: whole, exact, of one moment, harmless in a spreadsheet, and bounded."""

from __future__ import annotations

import asyncio
import csv
import io
import re
import threading
import time
from collections.abc import Callable
from datetime import datetime
from decimal import Decimal
from typing import Any

import pytest
from dashboard.reading.consistent import read_consistently
from dashboard.reading.trades import TradeQuery
from dashboard.web import export
from dashboard.web.export import COLUMNS, Export, words
from sqlalchemy import Connection, delete
from starlette.requests import Request
from starlette.responses import PlainTextResponse, StreamingResponse
from tradedb import DatabaseManager
from tradedb.models import Trade
from tradedb.testing import ThrowawayDatabase

Open = Callable[..., Any]
NOWHERE = "postgresql://dashboard:x@127.0.0.1:1/railway?sslmode=disable"


def table(answer: Any) -> list[dict[str, str]]:
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    return list(csv.DictReader(io.StringIO(answer.text, newline="")))


def test_the_file_has_every_trade_of_the_filter_with_every_digit(visitor: Any, rows: Any) -> None:
    rows.bot()
    rows.history(7)
    answer = visitor.get("/trades.csv?source=BACKTEST")
    found = table(answer)
    assert answer.text.startswith(",".join(COLUMNS) + "\r\n")
    assert len(found) == 7
    assert found[0]["closed"] == "2025-06-28T03:47:39"  # the zone was not recorded
    assert found[0]["times_in_utc"] == "false"
    assert {row["pnl"] for row in found} == {"-17.524548159701215", "30.5"}
    assert (found[0]["quantity"], found[0]["fees"]) == ("", "0")
    [ours] = table(visitor.get("/trades.csv?source=PAPER"))
    assert ours["closed"].endswith("Z")
    assert (ours["times_in_utc"], ours["pnl"], ours["fees"]) == ("true", "20", "1")
    assert len(table(visitor.get("/trades.csv"))) == 8
    assert table(visitor.get("/trades.csv?symbol=NOTHING")) == []


def test_the_page_leads_to_the_file_of_its_own_filter(visitor: Any, rows: Any) -> None:
    rows.bot()
    rows.history(7)
    page = visitor.get("/trades?source=BACKTEST&sort=pnl&from=2025-06-28").text
    found = re.search(r'<a class="apart" href="(/trades\.csv[^"]*)" download>Download as CSV</a>', page)
    assert found
    listed = re.findall(r'<tr data-trade="(\d+)"', page)
    assert [row["id"] for row in table(visitor.get(found[1].replace("&amp;", "&")))] == listed
    assert len(listed) == 4


def test_it_is_a_download_that_nobody_keeps(visitor: Any) -> None:
    headers = visitor.get("/trades.csv").headers
    assert re.fullmatch(r'attachment; filename="switchyard-trades-\d{8}T\d{6}Z\.csv"', headers["content-disposition"])
    assert headers["cache-control"] == "no-store"
    assert headers["x-content-type-options"] == "nosniff"
    assert visitor.client.head("/trades.csv").status_code == 200


def test_what_a_filter_says_is_not_in_the_headers(visitor: Any) -> None:
    answer = visitor.get("/trades.csv?symbol=x%22%0d%0aset-cookie:%20a=b")
    assert answer.status_code == 200
    assert "set-cookie" not in answer.headers or "a=b" not in answer.headers["set-cookie"]


@pytest.mark.parametrize("first", ["=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20"])
def test_what_a_spreadsheet_takes_for_a_formula_is_text(first: str) -> None:
    assert words(f"{first}cmd|' /C calc'!A0") == f"'{first}cmd|' /C calc'!A0"


def test_blanks_before_a_formula_do_not_hide_it() -> None:
    assert words(" \u00a0=1+1") == "' \u00a0=1+1"
    assert words(" plain") == " plain"


def test_text_of_other_peoples_files_stays_in_its_cell(visitor: Any, rows: Any) -> None:
    rows.trade(
        symbol='=HYPERLINK("x")', strategy_name="@SUM(1)", exit_reason='a,"b"\r\n=1+1', pnl=Decimal("-5.5"),
        exchange="+x", side="-LONG",
    )  # fmt: skip
    [row] = table(visitor.get("/trades.csv"))
    assert row["symbol"] == '\'=HYPERLINK("x")'
    assert (row["strategy"], row["exchange"], row["side"]) == ("'@SUM(1)", "'+x", "'-LONG")
    assert row["why_closed"] == 'a,"b"\r\n=1+1'
    assert row["pnl"] == "-5.5"  # a number is no formula


def test_control_characters_are_written_out_on_the_page_and_in_the_file(visitor: Any, rows: Any) -> None:
    rows.trade(symbol="BTC\u202eTDSU", strategy_name="\x1b[2Jgone", exit_reason="\u2067=1+1")
    [row] = table(visitor.get("/trades.csv"))
    assert (row["symbol"], row["strategy"], row["why_closed"]) == ("BTC\\u202eTDSU", "\\u001b[2Jgone", "\\u2067=1+1")
    for path in ("/trades", "/strategies"):
        shown = visitor.get(path).text
        assert "\\u001b[2Jgone" in shown
        kept = [line for line in shown.splitlines() if "\u202e" in line or "\x1b" in line]
        assert all("<option" in line for line in kept), kept  # a filter's own value is sent back as it is


@pytest.mark.parametrize("sort", ["exit_time", "pnl"])
def test_it_is_read_a_page_at_a_time_from_one_moment(database: ThrowawayDatabase, rows: Any, sort: str) -> None:
    ids = [rows.trade(pnl=Decimal(i % 5), exit_time=datetime(2026, 1, 1, i)) for i in range(10)]  # noqa: DTZ001
    manager = DatabaseManager(database.url("dashboard"), service="test")
    other = DatabaseManager(database.url("postgres"), service="test")
    texts: list[str] = []

    def work(conn: Connection) -> None:
        for text in export._pages(conn, TradeQuery(sort=sort, page_size=3)):
            texts.append(text)
            if len(texts) == 1:  # the world goes on while the file is written
                other.transaction(lambda more: more.execute(delete(Trade).where(Trade.id.in_(ids[:5]))), name="delete")
                rows.trade(pnl=Decimal(99))

    read_consistently(manager, work, name="test", once_within_s=60)
    for each in (manager, other):
        each.dispose()
    assert len(texts) == 4
    found = list(csv.DictReader(io.StringIO("".join(texts))))
    assert sorted(int(row["id"]) for row in found) == sorted(ids)
    keys = [(Decimal(row["pnl"]) if sort == "pnl" else row["closed"], int(row["id"])) for row in found]
    assert keys == sorted(keys, reverse=True)


def test_more_than_a_file_may_have_is_refused_and_not_cut(
    visitor: Any, rows: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows.history(7)
    monkeypatch.setattr(export, "LIMIT_ROWS", 6)
    answer = visitor.get("/trades.csv")
    assert answer.status_code == 413
    assert "7 trades match, and a file has at most 6. Narrow the filter, for instance by time." in answer.text
    told = visitor.get("/api/v1/trades.csv").json()
    assert (told["code"], told["title"]) == ("API-006", "Too many trades for one file")
    assert len(table(visitor.get("/trades.csv?from=2025-06-28"))) == 4


def test_only_so_many_files_are_written_at_once_and_each_gives_its_place_back(
    visitor: Any, rows: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows.history(7)
    for _ in range(export.AT_ONCE + 3):
        assert len(table(visitor.get("/trades.csv"))) == 7
    hold = threading.Event()
    begun = threading.Semaphore(0)

    def slow(*args: Any) -> Any:
        begun.release()
        assert hold.wait(60)
        return original(*args)

    original = export._pages
    monkeypatch.setattr(export, "_pages", slow)
    answers: list[Any] = []
    writing = [
        threading.Thread(target=lambda: answers.append(visitor.get("/trades.csv"))) for _ in range(export.AT_ONCE)
    ]
    for thread in writing:
        thread.start()
    for _ in writing:
        assert begun.acquire(timeout=30)
    busy = visitor.get("/trades.csv")
    hold.set()
    for thread in writing:
        thread.join(60)
    assert (busy.status_code, busy.headers["retry-after"]) == (429, "15")
    assert [len(table(answer)) for answer in answers] == [7] * export.AT_ONCE
    assert len(table(visitor.get("/trades.csv"))) == 7


def an_export() -> tuple[Export, Request]:
    scope = {"type": "http", "method": "GET", "path": "/trades.csv", "query_string": b"", "headers": []}
    made = Export(DatabaseManager(NOWHERE, service="test"), lambda _request, status, *_: PlainTextResponse("", status))
    return made, Request(scope)


def without_database(pages: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the pages come from here instead of a database."""
    monkeypatch.setattr(export, "_pages", pages)
    monkeypatch.setattr(export, "read_consistently", lambda _manager, work, **_more: work(None))


def test_a_visitor_who_takes_nothing_is_left_and_holds_neither_memory_nor_a_place(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = 0

    def endless(*_: Any) -> Any:
        nonlocal made
        while True:
            made += 1
            yield "x" * 1000

    without_database(endless, monkeypatch)
    monkeypatch.setattr(export, "STALLED_S", 0.3)

    async def look() -> None:
        one, request = an_export()
        answer = await one.trades(request)
        assert isinstance(answer, StreamingResponse)
        until = time.monotonic() + 30
        while one._free < export.AT_ONCE:  # the thread gives up, and then the place is free again
            assert time.monotonic() < until
            await asyncio.sleep(0.05)
        assert made <= export.AHEAD + 2
        with pytest.raises(export._GoneError):  # who wakes up late sees a broken file, not a short one
            [chunk async for chunk in answer.body_iterator]

    asyncio.run(look())


def test_a_visitor_who_goes_away_ends_the_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    without_database(lambda *_: iter(lambda: "x", None), monkeypatch)

    async def look() -> None:
        one, request = an_export()
        answer = await one.trades(request)
        assert isinstance(answer, StreamingResponse)
        chunks = answer.body_iterator
        assert await anext(aiter(chunks)) == "x"
        await chunks.aclose()  # type: ignore[attr-defined]
        until = time.monotonic() + 30
        while one._free < export.AT_ONCE:
            assert time.monotonic() < until
            await asyncio.sleep(0.05)

    asyncio.run(look())


def test_an_error_half_way_breaks_the_file_off(monkeypatch: pytest.MonkeyPatch) -> None:
    def breaks(*_: Any) -> Any:
        yield "one page"
        raise RuntimeError("the secret inside")

    without_database(breaks, monkeypatch)

    async def look() -> None:
        one, request = an_export()
        answer = await one.trades(request)
        assert isinstance(answer, StreamingResponse)
        chunks = aiter(answer.body_iterator)
        assert await anext(chunks) == "one page"
        with pytest.raises(RuntimeError):
            await anext(chunks)

    asyncio.run(look())


def test_without_a_database_there_is_no_file(open_dashboard: Open) -> None:
    answer = open_dashboard(NOWHERE, patience_s=2).get("/trades.csv")
    assert answer.status_code == 503
    assert "The database does not answer" in answer.text
    assert "content-disposition" not in answer.headers


def test_without_tables_there_is_no_file(bare_database: ThrowawayDatabase, open_dashboard: Open) -> None:
    answer = open_dashboard(bare_database.url("dashboard")).get("/trades.csv")
    assert answer.status_code == 503
    assert "No tables to read" in answer.text
