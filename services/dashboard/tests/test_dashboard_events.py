"""The events: read newest first by keyset, filtered, and shown as text whoever wrote them."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from dashboard.reading import cursors
from dashboard.reading.consistent import read_consistently
from dashboard.reading.events import MAX_DETAILS, MAX_MESSAGE, EventPage, EventQuery, moment, read_events
from sqlalchemy import URL, Connection, insert, text
from tradedb import DatabaseManager
from tradedb.models import SystemEvent
from tradedb.testing import ThrowawayDatabase

START = datetime(2026, 11, 1, 12, 0)  # noqa: DTZ001 - as the rows have it


def add_events(url: URL | str, *events: dict[str, Any]) -> None:
    row = {"event_type": "STARTUP", "severity": "info", "message": "started", "component": "trading-bot"}

    def work(conn: Connection) -> None:
        for i, values in enumerate(events):
            conn.execute(insert(SystemEvent).values({**row, "timestamp": START + timedelta(minutes=i), **values}))

    manager = DatabaseManager(url, service="test")
    manager.transaction(work, name="test")
    manager.dispose()


def read(url: URL | str, query: EventQuery) -> EventPage:
    manager = DatabaseManager(url, service="test")
    try:
        page = read_consistently(manager, lambda conn: read_events(conn, query), name="test")
    finally:
        manager.dispose()
    assert isinstance(page, EventPage)
    return page


@pytest.fixture(params=["postgresql", "sqlite"])
def url(request: pytest.FixtureRequest) -> URL | str:
    if request.param == "sqlite":
        return request.getfixturevalue("sqlite_url")
    return request.getfixturevalue("database").url("postgres")


def test_events_come_newest_first_and_each_page_goes_on_where_the_last_ended(url: URL | str) -> None:
    # several at the same moment: the id decides, so none is skipped and none comes twice
    add_events(url, *({"message": f"event {i}", "timestamp": START + timedelta(minutes=i // 20)} for i in range(60)))
    seen: list[str] = []
    cursor: str | None = ""
    for _ in range(3):
        assert cursor is not None
        page = read(url, EventQuery(page_size=25, cursor=cursor))
        seen += [row.message for row in page.rows]
        cursor = page.older
    assert cursor is None
    assert seen == [f"event {i}" for i in reversed(range(60))]


def test_events_are_filtered_by_kind_and_time(url: URL | str) -> None:
    add_events(
        url,
        {"event_type": "ALERT", "severity": "critical", "error_code": "BOT-020"},
        {"event_type": "ALERT", "severity": "warning"},
        {"component": "LiveTradingEngine"},
    )
    page = read(url, EventQuery.from_parameters({"type": "ALERT", "severity": "critical"}))
    assert [(row.event_type, row.error_code) for row in page.rows] == [("ALERT", "BOT-020")]
    assert page.choices == {
        "type": ["ALERT", "STARTUP"],
        "severity": ["critical", "info", "warning"],
        "component": ["LiveTradingEngine", "trading-bot"],
    }
    assert [row.ours for row in read(url, EventQuery()).rows] == [False, True, True]
    assert len(read(url, EventQuery.from_parameters({"from": "2026-11-01T12:01:00Z"})).rows) == 2
    assert len(read(url, EventQuery.from_parameters({"to": "2026-11-01T12:01:00"})).rows) == 1
    assert len(read(url, EventQuery.from_parameters({"from": "2026-11-01", "to": "2026-11-01"})).rows) == 3


def test_what_is_too_long_is_cut_before_it_leaves_the_database(url: URL | str) -> None:
    add_events(url, {"message": "m" * 50_000, "details": {"trace": "t" * 2 * MAX_DETAILS}}, {"details": {"ok": "yes"}})
    short, long = read(url, EventQuery()).rows
    assert (short.detail_lines, short.left_out) == ([("ok", "yes")], False)
    assert (len(long.message), long.details, long.left_out) == (MAX_MESSAGE + 1, None, True)


def test_a_cursor_goes_with_its_own_question() -> None:
    cursor = cursors.encode(EventQuery().question, START.isoformat(), 7)
    assert EventQuery(cursor=cursor).position() == (START, 7)
    other = EventQuery.from_parameters({"type": "ALERT", "cursor": cursor})
    assert other.cursor == ""


@pytest.mark.parametrize(
    "cursor",
    ["x", "W10", "AAAA", "%00", "[" * 500, "é", "bnVsbA", "eyJhIjoxfQ", "a" * 10_000]
    + [cursors.encode(EventQuery().question, *key) for key in ((), ("no time", 1), (START.isoformat(), 2**63))],
)
def test_a_made_up_cursor_is_no_position(cursor: str) -> None:
    with pytest.raises(ValueError):
        EventQuery(cursor=cursor).position()
    assert EventQuery.from_parameters({"cursor": cursor}).cursor == ""


@pytest.mark.parametrize(
    ("given", "end", "meant"),
    [
        ("2026-11-01", False, START.replace(hour=0)),
        ("2026-11-01", True, START.replace(day=2, hour=0)),
        ("2026-11-01T13:00:00+01:00", False, START),
        ("2026-11-01T13:00:00 01:00", False, START),  # a plus that somebody forgot to write as %2B
        ("2026-11-01T12:00:00", True, START),
        ("yesterday", False, None),
        ("9999-12-31", True, None),
        ("0001-01-01T00:00:00+14:00", False, None),
        ("", False, None),
    ],
)
def test_a_time_is_taken_as_it_is_meant(given: str, end: bool, meant: datetime | None) -> None:
    assert moment(given, end=end) == meant


def test_the_page_shows_events_with_their_details_and_leads_to_older_ones(
    visitor: Any, database: ThrowawayDatabase
) -> None:
    assert "Nothing has happened yet." in visitor.get("/events").text
    add_events(
        database.url("postgres"),
        *({"message": f"event {i}"} for i in range(30)),
        {"event_type": "ALERT", "severity": "critical", "message": "halted", "details": {"spool_replayed": 3}},
    )
    page = visitor.get("/events?per_page=25").text
    assert 'aria-current="page">Events' in page
    assert "halted" in page
    assert "<dt>spool_replayed</dt><dd>3</dd>" in page
    assert page.count("<tr data-event=") == 25
    older = re.search(r'<a rel="next" href="(/events\?[^"]+)">', page)
    assert older
    second = visitor.get(older[1].replace("&amp;", "&")).text
    assert second.count("<tr data-event=") == 6
    assert "event 0" in second
    assert "No event matches." in visitor.get("/events?type=NOTHING").text
    assert visitor.get("/events?cursor=made-up&from=x&to=%00&type=%00").status_code == 200


def test_a_kept_index_answers_the_newest_events(database: ThrowawayDatabase) -> None:
    manager = DatabaseManager(database.url("postgres"), service="test")
    fill = (
        "INSERT INTO system_events (timestamp, event_type, severity, message) "
        "SELECT timestamp '2026-01-01' + make_interval(secs => i), 'INFO', 'info', 'm' FROM generate_series(1, 20000) i"
    )
    manager.transaction(lambda conn: conn.execute(text(fill)), name="fill")
    manager.transaction(lambda conn: conn.execute(text("ANALYZE system_events")), name="analyse")
    from dashboard.reading.events import _select

    cursor = cursors.encode(
        EventQuery().question, datetime(2026, 1, 1, 2, tzinfo=UTC).replace(tzinfo=None).isoformat(), 9
    )
    for query in (EventQuery(), EventQuery(cursor=cursor)):

        def explain(conn: Connection, query: EventQuery = query) -> str:
            sql = _select(query).limit(51).compile(conn, compile_kwargs={"literal_binds": True})
            return "\n".join(conn.exec_driver_sql(f"EXPLAIN {sql}").scalars())

        assert "Seq Scan" not in manager.transaction(explain, name="explain")
    manager.dispose()
