"""What the pages show, over a real Postgres and over SQLite."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from datetime import datetime
from decimal import Decimal
from html.parser import HTMLParser
from typing import Any

import pytest
from dashboard.reading.consistent import read_consistently
from dashboard.reading.equity import CHART_POINTS
from dashboard.reading.overview import Overview, read_overview
from dashboard.reading.trades import TradeQuery
from sqlalchemy import insert, select, text, update
from tradedb import DatabaseManager
from tradedb.models import Position, Trade
from tradedb.testing import ThrowawayDatabase

Open = Callable[..., Any]
MINUS = "\N{MINUS SIGN}"


def words(page: Any) -> str:
    """The text of a page, as a person reads it."""
    body = re.sub(r"<(script|head).*?</\1>", " ", page.text, flags=re.S)
    plain = re.sub(r"<[^>]+>", " ", body)
    return re.sub(r"\s+", " ", plain).replace("&#39;", "'").replace("&amp;", "&")


# -- overview --------------------------------------------------------------------------------------------------------


def test_an_empty_database_says_what_will_come_and_what_to_run(visitor: Any) -> None:
    page = visitor.get("/")
    assert page.status_code == 200
    assert "The yard is ready, and empty" in page.text
    assert "make up" in page.text
    assert "switchyard copy --source bot=FILE" in page.text
    assert "0.00" not in page.text
    assert "No trade is closed yet." in visitor.get("/trades").text


def test_the_overview_shows_the_bot_its_equity_and_its_trades(visitor: Any, rows: Any) -> None:
    rows.bot()
    page = words(visitor.get("/"))
    assert re.search(r"The bot is running: last heartbeat (just now|\d s ago)\.", page)
    assert "1 open position on the simulated market, +7.00 unrealised." in page
    assert "Equity USDT 10,020.25" in page
    assert "+20.25 +0.20% on 10,000.00" in page
    assert "Win rate 100.0% 1 of 1 trade after fees" in page
    assert f"Deepest drawdown {MINUS}1.00% in the last 24 hours" in page
    assert "Fees 1.00 in 1 closed trade" in page
    assert "103.50" in page


def test_whatever_the_simulated_market_made_says_so(visitor: Any, rows: Any) -> None:
    rows.bot()
    text = visitor.get("/").text
    for part in ("positions", "latest", "curve"):
        section = re.search(rf'<section id="{part}".*?</section>', text, re.S)
        assert section, part
        assert "SIMULATED" in section[0], part
    assert "SIMULATED" in visitor.get("/trades").text


def test_the_chart_has_a_title_a_description_and_its_numbers_as_a_table(visitor: Any, rows: Any) -> None:
    rows.bot()
    text = visitor.get("/").text
    assert '<title id="equity-svg-title">Equity</title>' in text
    assert re.search(r'<desc id="equity-svg-desc">From .* UTC: equity went from 10,000.00 to 10,020.25 ', text)
    table = re.search(r"<details id=\"equity-data\">.*?</details>", text, re.S)
    assert table
    assert table[0].count("<tr data-x=") == 4
    assert 'value="9949.5"' in table[0]


def test_a_curve_is_thinned_but_its_ends_and_its_deepest_point_stay(database: ThrowawayDatabase, rows: Any) -> None:
    session_id = rows.session()
    values = ["10000"] * 1000
    values[333] = "9000"
    values[-1] = "10001"
    rows.equity(session_id, values, every_s=1)
    manager = DatabaseManager(database.url("dashboard"), service="test")
    seen = read_consistently(manager, read_overview, name="test")
    manager.dispose()
    assert isinstance(seen, Overview)
    assert seen.equity
    equities = [point.equity for point in seen.equity.points]
    assert len(equities) <= CHART_POINTS + 3
    assert (equities[0], min(equities), equities[-1]) == (10000, 9000, 10001)
    assert seen.equity.total == 1000
    assert seen.equity.deepest_percent == -10


def test_numbers_that_cannot_be_drawn_are_left_out_and_counted(
    visitor: Any, rows: Any, database: ThrowawayDatabase
) -> None:
    session_id = rows.session()
    rows.equity(session_id, ["10000", "10001", "10002"])
    database.execute("UPDATE account_history SET equity = 'NaN' WHERE equity = 10001")
    rows.trade(session_id=session_id, pnl=Decimal("1"))
    database.execute("UPDATE trades SET pnl_percent = 'Infinity'")
    page = words(visitor.get("/"))
    assert "1 record left out: not a finite number." in page
    assert "Equity USDT 10,002.00" in page
    assert "\N{INFINITY}%" in page


def test_a_bot_that_is_gone_and_one_that_does_nothing_are_said(visitor: Any, rows: Any) -> None:
    session_id = rows.session()
    rows.lease(age_s=400, left_s=-385)
    assert "The bot is not running: its lease ended 6 min 25 s ago." in words(visitor.get("/"))
    rows.equity(session_id, ["1", "2"], every_s=300)


def test_a_bot_that_holds_its_lease_but_records_nothing_is_a_warning(visitor: Any, rows: Any) -> None:
    rows.lease()
    rows.equity(rows.session(), ["1", "2"], every_s=300)
    assert re.search(
        r"Warning: The bot holds its lease, but has recorded nothing for 5 min( \d s)?\.", words(visitor.get("/"))
    )


def test_copied_positions_marked_filled_are_not_open_and_the_page_says_so(visitor: Any, rows: Any) -> None:
    rows.history()
    page = words(visitor.get("/"))
    assert "No open positions." in page
    assert "3 positions of the copied history are not counted as open: 3 with status FILLED." in page


def test_the_newest_session_of_the_bot_is_shown_and_others_can_be_chosen(visitor: Any, rows: Any) -> None:
    copied = rows.history()
    bot = rows.bot()
    page = visitor.get("/").text
    assert f'<option value="{bot}" selected>' in page
    assert '<optgroup label="Copied history">' in page
    chosen = words(visitor.get(f"/?session={copied}"))
    assert "COPIED HISTORY" in chosen
    assert (
        "This session has no account records; the curve is its starting balance plus what its 7 closed trades" in chosen
    )
    assert "Equity USDT 10,069.43" in chosen  # 10000 + 4 x 30.5 - 3 x 17.524548159701215
    assert "Times are as recorded, no time zone." in chosen
    for nonsense in ("999999", "x", "-1", "9" * 30, "0" * 20 + "9" * 5000, "\N{SUPERSCRIPT TWO}"):
        assert f'<option value="{bot}" selected>' in visitor.get(f"/?session={nonsense}").text


def test_a_copied_session_with_account_records_has_its_own_drawdown(visitor: Any, rows: Any) -> None:
    session_id = rows.session(exchange="binance", start_time=datetime(2025, 7, 4))  # noqa: DTZ001
    rows.equity(session_id, ["100", "80", "90"], drawdown=0)  # the column of the original means something else
    assert f"Deepest drawdown {MINUS}20.00% of the whole session" in words(visitor.get("/"))


# -- trades ----------------------------------------------------------------------------------------------------------


def test_all_trades_of_the_copied_file_are_listed_page_by_page(
    visitor: Any, rows: Any, database: ThrowawayDatabase
) -> None:
    session_id = rows.history(2)
    database.execute(
        "INSERT INTO trades (symbol, side, source, entry_price, exit_price, size, entry_time, exit_time, pnl,"
        " pnl_percent, strategy_name, exchange, session_id) SELECT 'BTCUSDT', 'LONG', 'BACKTEST', 1, 2, 1,"
        " '2024-01-01', '2024-01-02', 1, 1, 'MlBasicStrategy', 'binance', %s FROM generate_series(1, 2094)",
        (session_id,),
    )
    assert "2,096 closed trades in the database." in words(visitor.get("/trades"))
    seen: list[str] = []
    path: str | None = "/trades?per_page=250"
    while path:
        text = visitor.get(path).text
        seen += re.findall(r'data-trade="(\d+)"', text)
        following = re.search(r'rel="next" href="([^"]+)"', text)
        path = following[1].replace("&amp;", "&") if following else None
    assert len(seen) == len(set(seen)) == 2096


def test_filters_and_order_come_from_the_address(visitor: Any, rows: Any) -> None:
    rows.history()
    rows.bot()
    page = visitor.get("/trades?strategy=MlBasic&source=BACKTEST&sort=pnl&order=asc")
    assert "7 trades that match" in words(page)
    assert '<option value="MlBasic" selected>MlBasic (7)</option>' in page.text
    amounts = re.findall(
        r'<data class="(?:gain|loss)" value="([^"]+)"[^>]*>[^<]*</data></td>\s*<td class="num s-under">', page.text
    )
    assert [Decimal(a) for a in amounts] == sorted(Decimal(a) for a in amounts)
    assert re.search(
        r'<th scope="col" class="num" aria-sort="ascending"><a href="[^"]*sort=pnl[^"]*">P&amp;L', page.text
    )
    assert "No trade matches." in visitor.get("/trades?symbol=NOPE").text
    assert "17.52" in words(page)
    assert 'title="-17.524548159701215"' in page.text  # every digit is kept beside the rounded form


@pytest.mark.parametrize(
    "query",
    [
        "sort=id;DROP TABLE trades",
        "sort=session_id",
        "order=up",
        "page=0",
        "page=-1",
        "page=x",
        "page=999999999999",
        "page=%C2%B2",
        "per_page=7",
        "symbol=%00",
        "symbol=" + "x" * 5000,
        "symbol=%27%20OR%201=1--",
        "page=",
        "per_page=1e3",
    ],
)
def test_nonsense_in_the_address_is_the_default_and_never_an_error(visitor: Any, rows: Any, query: str) -> None:
    rows.history()
    assert visitor.get(f"/trades?{query}").status_code == 200


def test_a_page_beyond_the_last_is_the_last(visitor: Any, rows: Any) -> None:
    rows.history()
    assert visitor.get("/trades?page=50").text.count("data-trade=") == 7


def test_a_sort_link_turns_around() -> None:
    query = TradeQuery.from_parameters({"sort": "pnl", "symbol": "A&B"})
    assert query.sort_link("pnl") == "?symbol=A%26B&sort=pnl&order=asc"
    assert query.sort_link("exit_time") == "?symbol=A%26B"
    assert TradeQuery.from_parameters({}).link() == ""


def test_text_from_the_database_is_text(visitor: Any, rows: Any) -> None:
    evil = "<script>x()</script>"
    session_id = rows.session(symbol=evil, strategy_name='"><img src=x onerror=alert(1)>')
    rows.trade(
        symbol=evil, strategy_name='"><img src=x onerror=alert(1)>', exit_reason="</td>{{ 7*7 }}", session_id=session_id
    )
    rows.position(symbol=evil, session_id=session_id)
    for path in ("/", "/trades", "/trades?symbol=%3Cscript%3Ex()%3C/script%3E", "/database"):
        text = visitor.get(path).text
        assert "<script>x" not in text
        assert "<img" not in text
        assert "49" not in re.findall(r"</td>\s*49", text)
    assert "&lt;script&gt;x()&lt;/script&gt;" in visitor.get("/trades").text


# -- database --------------------------------------------------------------------------------------------------------


def test_the_database_page_says_which_one_and_who_is_there(
    visitor: Any, rows: Any, database: ThrowawayDatabase
) -> None:
    rows.bot()
    page = words(visitor.get("/database"))
    identifier = database.execute("SELECT system_identifier::text FROM pg_control_system()")[0][0]
    assert f"System identifier {identifier}" in page
    assert f"Database {database.name}" in page
    assert "Role of this dashboard dashboard" in page
    assert "The schema is at head" in page
    assert "No session waits for a lock." in page
    assert re.search(r"dashboard [1-9]\d* \d+ ", page)  # role, in use, limit
    assert re.search(r"Lease holder host/1/abc Epoch 3 ", page)
    assert re.search(r"trades 1 [\d.]+ kB", page)


def test_other_roles_connections_are_counted_too(visitor: Any, database: ThrowawayDatabase) -> None:
    bot = DatabaseManager(database.url("trading_bot"), service="bot")
    bot.read(lambda conn: conn.execute(select(1)).all(), name="test")
    assert re.search(r" trading_bot [1-9]\d* \d+ ", words(visitor.get("/database")))
    bot.dispose()


def test_who_waits_for_whom(visitor: Any, rows: Any, database: ThrowawayDatabase) -> None:
    rows.bot()
    holder, waiter = database.server.connect(database.name), database.server.connect(database.name)
    holder.autocommit = waiter.autocommit = False
    holder.cursor().execute("LOCK TABLE trades IN ACCESS EXCLUSIVE MODE")

    def wait() -> None:
        waiter.cursor().execute("LOCK TABLE trades IN SHARE MODE")

    thread = threading.Thread(target=wait)
    thread.start()
    try:
        until_waiting(database)
        page = words(visitor.get("/database"))
        assert "1 session waits for a lock" in page
        assert "ShareLock on trades" in page
        assert f"postgres (pid {holder.info.backend_pid})" in page
        assert "Not available: needs somebody to release a lock on these tables" in page
    finally:
        holder.rollback()
        thread.join()
        holder.close()
        waiter.close()


def until_waiting(database: ThrowawayDatabase) -> None:
    for _ in range(3000):
        if database.execute("SELECT count(*) FROM pg_locks WHERE NOT granted")[0][0]:
            return
        threading.Event().wait(0.02)
    pytest.fail("nobody waited")


def test_what_the_role_may_not_see_says_what_it_needs(visitor: Any, database: ThrowawayDatabase) -> None:
    database.execute("REVOKE SELECT ON bot_lease FROM dashboard")
    database.execute("CREATE TABLE private_notes (id int)")
    page = visitor.get("/database")
    assert "not available: needs SELECT on bot_lease" in words(page)
    assert 'title="needs SELECT on private_notes">not available' in page.text


# -- one moment ------------------------------------------------------------------------------------------------------


def test_a_reader_never_sees_a_closed_position_without_its_trade(database: ThrowawayDatabase, rows: Any) -> None:
    """A position is closed, with its trade, between two of the page's queries."""
    session_id = rows.session()
    position_id = rows.position(session_id=session_id)
    manager = DatabaseManager(database.url("dashboard"), service="test")
    bot = DatabaseManager(database.url("trading_bot"), service="bot")

    def look(conn: Any) -> tuple[int, int]:
        open_ = conn.execute(select(Position.id).where(Position.status == "OPEN")).all()

        def close(other: Any) -> None:
            other.execute(update(Position).where(Position.id == position_id).values(status="CLOSED"))
            now = other.scalar(text("SELECT now()::timestamp"))
            other.execute(
                insert(Trade).values(
                    symbol="BTCUSDT",
                    side="LONG",
                    source="PAPER",
                    entry_price=1,
                    exit_price=2,
                    size=1,
                    entry_time=now,
                    exit_time=now,
                    pnl=1,
                    pnl_percent=1,
                    strategy_name="s",
                    session_id=session_id,
                )
            )

        bot.transaction(close, name="close")
        return len(open_), len(conn.execute(select(Trade.id)).all())

    assert read_consistently(manager, look, name="test") == (1, 0)
    seen = manager.read(lambda conn: len(conn.execute(select(Trade.id)).all()), name="after")
    assert seen == 1
    manager.dispose()
    bot.dispose()


# -- schema ----------------------------------------------------------------------------------------------------------


def test_a_database_without_tables_is_friendly(bare_database: ThrowawayDatabase, open_dashboard: Open) -> None:
    visitor = open_dashboard(bare_database.url())
    page = visitor.get("/")
    assert page.status_code == 200
    assert "The database answers, but was not migrated yet" in page.text
    assert "tradedb migrate" in page.text
    assert visitor.get("/database").status_code == 200
    assert visitor.get("/readyz").status_code == 503


def test_an_older_schema_is_said_and_what_can_be_read_is_shown(
    visitor: Any, rows: Any, database: ThrowawayDatabase
) -> None:
    rows.bot()
    database.execute("UPDATE alembic_version SET version_num = '0001'")
    page = words(visitor.get("/"))
    assert "The schema is older than the code: the database is at revision 0001" in page
    assert "10,020.25" in page
    database.execute("DROP TABLE fills, order_intents CASCADE")
    page = visitor.get("/trades")
    assert page.status_code == 503
    assert "The tables are not the ones this dashboard knows" in page.text


def test_a_newer_schema_is_read_on(visitor: Any, rows: Any, database: ThrowawayDatabase) -> None:
    rows.bot()
    database.execute("UPDATE alembic_version SET version_num = '9999'")
    page = words(visitor.get("/"))
    assert "9999" in page
    assert "10,020.25" in page
    assert visitor.get("/readyz").json()["status"] == "not ready"


# -- SQLite ----------------------------------------------------------------------------------------------------------


def test_every_page_works_on_sqlite(sqlite_url: str, open_dashboard: Open, rows_on: Any) -> None:
    visitor = open_dashboard(sqlite_url)
    assert "The yard is ready, and empty" in visitor.get("/").text
    rows = rows_on(sqlite_url)
    copied = rows.history()
    rows.bot()
    visitor = open_dashboard(sqlite_url)  # a new one has no snapshot of the empty file
    assert "Equity USDT 10,020.25" in words(visitor.get("/"))
    assert "Equity USDT 10,069.43" in words(visitor.get(f"/?session={copied}"))
    assert "8 closed trades in the database." in words(visitor.get("/trades?sort=pnl"))
    database = words(visitor.get("/database"))
    assert f"This is the SQLite file {sqlite_url.removeprefix('sqlite:///')}" in database
    assert "trades 8" in database
    assert visitor.get("/readyz").json()["system_identifier"].endswith("trading_bot.db")


# -- accessibility ---------------------------------------------------------------------------------------------------


class Outline(HTMLParser):
    """Collects what a page must have to be usable by everybody."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.headings: list[int] = []
        self.tables = self.captions = self.unscoped = 0
        self.ids: list[str] = []
        self.labelled: set[str] = set()
        self.inputs: list[str | None] = []
        self.current = 0
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if re.fullmatch("h[1-6]", tag):
            self.headings.append(int(tag[1]))
        self.tables += tag == "table"
        self.captions += tag == "caption"
        self.unscoped += tag == "th" and "scope" not in given
        self.current += given.get("aria-current") == "page"
        if given.get("id"):
            self.ids.append(str(given["id"]))
        if tag == "label":
            self.labelled.add(str(given["for"]))
        if tag in {"input", "select"} and given.get("type") != "hidden":
            self.inputs.append(given.get("id"))


@pytest.mark.parametrize("path", ["/", "/trades", "/database", "/absent"])
def test_a_page_is_usable_without_eyes_and_without_a_mouse(visitor: Any, rows: Any, path: str) -> None:
    rows.history()
    rows.bot()
    text = visitor.get(path).text
    outline = Outline(text)
    assert '<html lang="en">' in text
    assert 'class="skip" href="#main"' in text
    assert outline.headings[0] == 1
    assert outline.headings.count(1) == 1
    assert all(after - before <= 1 for before, after in zip(outline.headings, outline.headings[1:], strict=False))
    assert outline.tables == outline.captions
    assert outline.unscoped == 0
    assert len(outline.ids) == len(set(outline.ids))
    assert set(outline.inputs) <= outline.labelled
    assert path == "/absent" or outline.current >= 1
