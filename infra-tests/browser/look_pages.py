"""Each page in a real browser: it works, it moves, it complains about nothing, and it asks nobody but the dashboard.

Not collected by name: `make look` asks for it, because it needs Chromium, which nothing else here does.
"""

from __future__ import annotations

import csv
import re
from pathlib import Path

import pytest
from browser.line import line
from browser.visits import NARROW, PAGES, WIDE, amounts, first_trade, log_in, visit
from playwright.sync_api import Browser, BrowserContext, Page
from targets import Target
from watch import until


def test_login_leads_where_one_wanted_to_go(context: BrowserContext, target: Target, pictures: Path) -> None:
    page = context.new_page()
    page.goto("/events")
    assert page.locator("input[type=password]").count() == 1
    page.screenshot(path=pictures / "login.png")
    log_in(page, target.instance, "/events")
    assert page.url.endswith("/events")


@pytest.mark.parametrize("path", PAGES)
def test_each_page_names_itself_and_is_marked_in_the_navigation(
    context: BrowserContext, target: Target, pictures: Path, path: str
) -> None:
    page = context.new_page()
    log_in(page, target.instance, path)
    assert page.locator("h1").count() == 1
    assert page.locator("nav [aria-current=page]").inner_text() == page.locator("h1").inner_text()
    assert page.title().startswith(page.locator("h1").inner_text())
    page.screenshot(path=pictures / f"{path.strip('/') or 'overview'}.png", full_page=True)


def test_the_overview_moves_without_a_reload(context: BrowserContext, target: Target, pictures: Path) -> None:
    page = context.new_page()
    log_in(page, target.instance)
    before = amounts(page)
    assert before, "no figures on the overview"
    page.evaluate("window.stillTheSame = true")
    until(lambda: (page.wait_for_timeout(300), amounts(page))[1] != before, 60, "the figures move")
    assert page.evaluate("window.stillTheSame") is True, "the page was loaded anew"
    page.screenshot(path=pictures / "overview-later.png", full_page=True)


def test_the_stream_goes_on_where_the_connection_was_cut(browser: Browser, traded: Target) -> None:
    with line(traded.dashboard_url) as wire, visit(browser, wire.url) as (context, complaints):
        complaints.allowed.append("ERR_")  # the browser says that its connection broke
        page = context.new_page()
        log_in(page, traded.instance)
        page.evaluate("window.stillTheSame = true")
        moves(page, "the page moves")
        wire.cut()
        until(
            lambda: (page.wait_for_timeout(300), re.search(rb"\r\nlast-event-id: \S+", wire.asked, re.IGNORECASE))[1],
            60,
            "the browser asks for what came after the last it had",
        )
        moves(page, "the page moves again")
        assert page.evaluate("window.stillTheSame") is True, "the page was loaded anew"


def moves(page: Page, what: str) -> None:
    """Wait until the page shows a later moment than now."""
    moment = page.locator("#asof time")
    before = moment.get_attribute("datetime")
    until(lambda: (page.wait_for_timeout(300), moment.get_attribute("datetime"))[1] != before, 60, what)


def test_signing_out_in_one_tab_ends_the_other(context: BrowserContext, target: Target) -> None:
    page, other = context.new_page(), context.new_page()
    log_in(page, target.instance)
    other.goto("/trades")
    until(lambda: other.locator("#trades").count(), 30, "the other tab shows its page")
    page.bring_to_front()
    page.locator("header button").click()
    page.wait_for_load_state()
    other.bring_to_front()
    until(lambda: (other.wait_for_timeout(300), "/login" in other.url)[1], 60, "the other tab is at the login")


def test_a_chart_says_its_numbers_where_the_pointer_is(context: BrowserContext, target: Target) -> None:
    page = context.new_page()
    log_in(page, target.instance)
    until(lambda: (page.wait_for_timeout(300), page.locator("#curve svg.equity").count())[1], 60, "there is a curve")
    box = page.locator("#curve .drawing").first.bounding_box()
    assert box

    def read() -> str:
        page.mouse.move(box["x"] + box["width"] * 0.4, box["y"] + box["height"] * 0.5)
        page.mouse.move(box["x"] + box["width"] * 0.5, box["y"] + box["height"] * 0.5)
        return page.locator("#curve [data-readout]").inner_text()

    said = until(read, 30, "the readout speaks")
    assert re.search(r"equity [\d,.]+ · drawdown", said), said


@pytest.mark.parametrize("path", PAGES)
def test_each_page_works_without_javascript_and_refreshes(
    browser: Browser, traded: Target, pictures: Path, path: str
) -> None:
    with visit(browser, traded.dashboard_url, javascript=False) as (context, _):
        page = context.new_page()
        log_in(page, traded.instance, path)
        assert page.locator("main section").count() >= 1
        assert page.locator("meta[http-equiv=refresh]").count() == 1
        if path != "/":
            return
        before = amounts(page)
        assert before

        def look_again() -> bool:
            page.goto("/")
            return amounts(page) != before

        until(look_again, 60, "the second look shows other figures", every_s=1)
        page.screenshot(path=pictures / "overview-without-javascript.png", full_page=True)


def test_trades_filter_sort_and_next_page(context: BrowserContext, target: Target, pictures: Path) -> None:
    many_trades(target)
    page = context.new_page()
    log_in(page, target.instance, "/trades")
    first = page.locator("tr[data-trade]").first.inner_text()
    page.locator("a[rel=next]").first.click()
    page.wait_for_load_state()
    assert page.locator("tr[data-trade]").first.inner_text() != first
    page.goto("/trades")
    page.locator("main form select[name=symbol]").select_option("LOOKUSDT")
    page.locator("main form button[type=submit]").click()
    page.wait_for_load_state()
    shown = page.locator("tr[data-trade]").all_inner_texts()
    assert shown
    assert all("LOOKUSDT" in row for row in shown)
    page.get_by_role("link", name="Return").click()
    page.wait_for_load_state()
    assert page.locator("th[aria-sort]").inner_text().startswith("Return")
    assert "symbol=LOOKUSDT" in page.url
    page.screenshot(path=pictures / "trades-filtered.png")


def test_the_csv_has_the_rows_of_the_filter(context: BrowserContext, target: Target, tmp_path: Path) -> None:
    many_trades(target)
    page = context.new_page()
    log_in(page, target.instance, "/trades?symbol=LOOKUSDT")
    with page.expect_download() as download:
        page.get_by_role("link", name="CSV").click()
    file = tmp_path / "trades.csv"
    download.value.save_as(file)
    with file.open(newline="") as lines:
        rows = list(csv.DictReader(lines))
    assert len(rows) == target.value("SELECT count(*) FROM trades WHERE symbol = 'LOOKUSDT'")
    assert {row["symbol"] for row in rows} == {"LOOKUSDT"}


def many_trades(target: Target) -> None:
    """Enough trades for three pages, written once as an administrator; gone with the instance."""
    target.run_sql(
        "INSERT INTO trades (symbol, side, source, entry_price, exit_price, size, quantity, entry_time, exit_time, "
        "pnl, pnl_percent, strategy_name) SELECT 'LOOKUSDT', 'LONG', 'PAPER', 100 + n, 101 + n, 0.5, 1, "
        "timestamp '2025-01-01' + n * interval '1 hour', timestamp '2025-01-01' + n * interval '65 min', "
        "1, 0.01, 'look' FROM generate_series(1, 130) n WHERE NOT EXISTS "
        "(SELECT FROM trades WHERE symbol = 'LOOKUSDT')"
    )


def test_a_trade_has_its_own_page(context: BrowserContext, traded: Target, pictures: Path) -> None:
    page = context.new_page()
    log_in(page, traded.instance)
    page.goto(first_trade(page))
    assert page.locator("h1").count() == 1
    page.screenshot(path=pictures / "trade.png", full_page=True)


def test_the_database_page_names_the_database(context: BrowserContext, target: Target) -> None:
    page = context.new_page()
    log_in(page, target.instance, "/database")
    assert target.status()["database"]["system_identifier"] in page.locator("main").inner_text()


def cut_off(page: Page) -> list[str]:
    """Where the page's own words do not fit their boxes, and the boxes do not scroll."""
    return page.evaluate(
        """() => [...document.querySelectorAll("main h1, main h2, main p, main dd, main dt, main label, button")]
            .filter((box) => box.offsetParent && box.scrollWidth > box.clientWidth + 1
                             && getComputedStyle(box).display !== "inline" && !box.classList.contains("sr"))
            .map((box) => box.textContent.trim().slice(0, 80))"""
    )


@pytest.mark.parametrize("size", [NARROW, (768, 1024), WIDE], ids=["narrow", "middle", "wide"])
@pytest.mark.parametrize("path", PAGES)
def test_no_page_scrolls_sideways_or_cuts_its_words(
    browser: Browser, traded: Target, size: tuple[int, int], path: str
) -> None:
    with visit(browser, traded.dashboard_url, size) as (context, _):
        page = context.new_page()
        log_in(page, traded.instance, path)
        wide = page.evaluate("document.documentElement.scrollWidth")
        assert wide <= size[0], f"the page is {wide} px wide and scrolls sideways"
        assert cut_off(page) == []
        if size != NARROW:  # there a wide table may scroll in its own frame
            hidden = page.evaluate(
                """() => [...document.querySelectorAll(".scroll")]
                    .filter((frame) => frame.offsetParent && frame.scrollWidth > frame.clientWidth + 1)
                    .map((frame) => frame.getAttribute("aria-label"))"""
            )
            assert hidden == [], "tables with columns out of sight"
