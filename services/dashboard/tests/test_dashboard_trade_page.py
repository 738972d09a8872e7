"""A trade's own page, and strategies side by side: what people read there."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from tradedb.testing import ThrowawayDatabase

DAY = datetime(2025, 3, 1)  # noqa: DTZ001 - rows have no zone
HOSTILE = "<script>alert(1)</script>"


@pytest.fixture(params=["postgres", "sqlite"])
def opened(
    request: pytest.FixtureRequest, rows_on: Callable[..., Any], open_dashboard: Callable[..., Any]
) -> tuple[Any, Any]:
    """A visitor and the rows of one database of either kind."""
    if request.param == "postgres":
        database: ThrowawayDatabase = request.getfixturevalue("database")
        return open_dashboard(database.url("dashboard")), rows_on(database.url("postgres"))
    url = request.getfixturevalue("sqlite_url")
    return open_dashboard(url), rows_on(url)


def words(page: Any) -> str:
    plain = re.sub(r"<[^>]+>", " ", page.text)
    return re.sub(r"\s+", " ", plain)


def test_a_trade_is_told_from_its_decision_to_its_row(opened: tuple[Any, Any]) -> None:
    visitor, rows = opened
    rows.bot()
    listed = re.search(r'href="(/trades/\d+)"', visitor.get("/trades").text)
    assert listed
    page = visitor.get(listed[1])
    assert page.status_code == 200
    said = words(page)
    assert "Step by step" in said
    assert "Way out" in said
    assert "Fills" in said
    assert "Written by the bot" in said
    assert "SIMULATED" in said


def test_a_copied_trade_says_that_there_is_nothing_more_to_tell(opened: tuple[Any, Any]) -> None:
    visitor, rows = opened
    rows.history(3)
    page = visitor.get("/trades/1")
    assert page.status_code == 200
    said = words(page)
    assert "Opened" in said
    assert "Closed" in said
    assert "No decisions, orders or fills are recorded for this trade" in said
    assert "no time zone" in said
    assert "Way in" not in said


@pytest.mark.parametrize("wrong", ["999999", "0", "-1", "1.5", "x", "9" * 40, "%27", "1%00", "٣"])
def test_a_trade_that_is_not_there_is_not_found(visitor: Any, rows: Any, wrong: str) -> None:
    rows.trade()
    page = visitor.get(f"/trades/{wrong}")
    assert page.status_code == 404
    assert "There is no such page here." in page.text


def test_strategies_stand_side_by_side_with_their_distributions(opened: tuple[Any, Any]) -> None:
    visitor, rows = opened
    assert "No trade is closed yet" in words(visitor.get("/strategies"))
    rows.history(7)
    for pnl in ("12.5", "-3", "40"):
        rows.trade(strategy_name="Other", pnl=Decimal(pnl), source="PAPER")
    page = visitor.get("/strategies?source=PAPER")
    assert page.status_code == 200
    section = re.search(r'<section id="strategies".*?</section>', page.text, re.S)
    assert section
    assert "Other" in section[0]
    assert "66.7" in section[0]  # two of three won
    assert page.text.count("<figure") >= 2
    assert "How long it held" in page.text
    assert page.text.count("The numbers of this chart") == page.text.count("<figure")
    nothing = visitor.get("/strategies?symbol=NONE")
    assert "No trade matches" in words(nothing)


def test_names_from_the_database_are_text(visitor: Any, rows: Any) -> None:
    number = rows.trade(strategy_name=HOSTILE, exit_reason=HOSTILE, symbol="<b>X</b>", source="PAPER")
    for path in ("/strategies", f"/trades/{number}", f"/strategies?symbol={HOSTILE}"):
        page = visitor.get(path)
        assert page.status_code == 200, path
        assert HOSTILE not in page.text, path
        assert "<b>X" not in page.text, path
    assert "&lt;script&gt;" in visitor.get("/strategies").text


def test_a_year_long_trade_and_a_wild_number_are_shown(visitor: Any, rows: Any) -> None:
    number = rows.trade(pnl=Decimal("NaN"))
    session = rows.session()
    rows.trade(session_id=session, entry_time=DAY - timedelta(days=400), exit_time=DAY)
    assert visitor.get(f"/trades/{number}").status_code == 200
    assert visitor.get("/strategies").status_code == 200
