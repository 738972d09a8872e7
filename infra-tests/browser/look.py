"""Each page in a real browser: it works, it moves, it complains about nothing, and it asks nobody but the dashboard.

Not collected by name: `make look` asks for it, because it needs Chromium, which nothing else here does.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright
from targets import Target
from targets.instance import CHECKOUT
from watch import ready, until

CHROMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
WIDE, NARROW = {"width": 1280, "height": 900}, {"width": 390, "height": 844}


@pytest.fixture(scope="session")
def pictures(request: pytest.FixtureRequest) -> Path:
    """The folder that the pictures go to."""
    folder = Path(request.config.getoption("--pictures") or CHECKOUT / ".switchyard" / "pictures")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Debian's Chromium or whoever's is on PATH; its absence is a failure, never a skip."""
    program = next((found for name in CHROMES if (found := shutil.which(name))), None)
    assert program, f"no browser on PATH ({', '.join(CHROMES)}); on Debian: apt-get install chromium"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        browser.close()


class Complaints:
    """What a page complained about, and whom it asked."""

    def __init__(self, context: BrowserContext) -> None:
        self.said: list[str] = []
        context.on(
            "console", lambda message: self.said.append(message.text) if message.type in ("error", "warning") else None
        )
        context.on("weberror", lambda error: self.said.append(str(error.error)))
        context.on("request", lambda request: self._asked(request.url))
        context.on(
            "response",
            lambda answer: self.said.append(f"{answer.status} {answer.url}") if answer.status >= 400 else None,
        )

    def _asked(self, url: str) -> None:
        if urlsplit(url).hostname not in ("127.0.0.1", None):
            self.said.append(f"asked {url}")


@pytest.fixture
def context(browser: Browser, target: Target) -> Iterator[BrowserContext]:
    """A fresh browser profile on a dashboard that is ready; at the end it must have complained about nothing."""
    ready(target)
    context = browser.new_context(base_url=target.dashboard_url, viewport=WIDE)  # pyright: ignore[reportArgumentType]
    complaints = Complaints(context)
    yield context
    context.close()
    assert complaints.said == []


def log_in(page: Page, target: Target) -> None:
    settings = target.instance.read_env()
    page.goto("/")
    page.locator("input:not([type=hidden]):not([type=password])").first.fill(settings["DASHBOARD_USER"])
    page.locator("input[type=password]").fill(settings["DASHBOARD_PASSWORD"])
    page.locator("form:has(input[type=password]) button").click()
    page.wait_for_load_state()
    assert page.locator("input[type=password]").count() == 0, "still at the login"


def amounts(page: Page) -> list[str]:
    """The amounts that stand in the page's main part."""
    return re.findall(r"\d[\d,\u202f ]*\.\d+", page.locator("main").inner_text())


def test_login(context: BrowserContext, target: Target, pictures: Path) -> None:
    page = context.new_page()
    page.goto("/")
    assert page.locator("input[type=password]").count() == 1
    page.screenshot(path=pictures / "login.png")
    log_in(page, target)


def test_overview_moves_by_itself(context: BrowserContext, target: Target, pictures: Path) -> None:
    until(lambda: target.value("SELECT count(*) FROM trades"), 90, "the bot has made a trade")
    page = context.new_page()
    log_in(page, target)
    page.goto("/")
    before = amounts(page)
    assert before, "no figures on the overview"
    assert page.locator("svg").count() >= 1
    page.screenshot(path=pictures / "overview.png", full_page=True)
    until(lambda: (page.wait_for_timeout(300), amounts(page))[1] != before, 30, "the figures move without a reload")
    page.screenshot(path=pictures / "overview-later.png", full_page=True)


def test_figures_move_between_two_looks_without_javascript(browser: Browser, target: Target, pictures: Path) -> None:
    ready(target)
    context = browser.new_context(
        base_url=target.dashboard_url,
        viewport=WIDE,  # pyright: ignore[reportArgumentType]
        java_script_enabled=False,
    )
    page = context.new_page()
    log_in(page, target)
    page.goto("/")
    before = amounts(page)
    assert before

    def look_again() -> bool:
        page.goto("/")
        return amounts(page) != before

    until(look_again, 30, "the second look shows other figures", every_s=1)
    page.screenshot(path=pictures / "overview-without-javascript.png", full_page=True)
    context.close()


def test_trades_filter_and_next_page(context: BrowserContext, target: Target, pictures: Path) -> None:
    many_trades(target)
    page = context.new_page()
    log_in(page, target)
    page.goto("/trades")
    first = page.locator("main tbody tr").first.inner_text()
    page.screenshot(path=pictures / "trades.png")
    page.locator("a[rel=next]").first.click()
    page.wait_for_load_state()
    assert page.locator("main tbody tr").first.inner_text() != first
    page.screenshot(path=pictures / "trades-next-page.png")
    page.goto("/trades")
    field = page.locator("main form select[name=symbol], main form input[name=symbol]").first
    if field.evaluate("field => field.tagName") == "SELECT":
        field.select_option("LOOKUSDT")
    else:
        field.fill("LOOKUSDT")
    page.locator("main form button[type=submit], main form button:not([type])").first.click()
    page.wait_for_load_state()
    shown = page.locator("main tbody tr").all_inner_texts()
    assert shown
    assert all("LOOKUSDT" in row for row in shown)
    page.screenshot(path=pictures / "trades-filtered.png")


def many_trades(target: Target) -> None:
    """Enough trades for two pages, written as an administrator; gone with the instance."""
    target.run_sql(
        "INSERT INTO trades (symbol, side, source, entry_price, exit_price, size, quantity, entry_time, exit_time, "
        "pnl, pnl_percent, strategy_name) SELECT 'LOOKUSDT', 'LONG', 'PAPER', 100 + n, 101 + n, 0.5, 1, "
        "timestamp '2025-01-01' + n * interval '1 hour', timestamp '2025-01-01' + n * interval '65 min', "
        "1, 0.01, 'look' FROM generate_series(1, 130) n"
    )


def test_database_page(context: BrowserContext, target: Target, pictures: Path) -> None:
    page = context.new_page()
    log_in(page, target)
    page.goto("/database")
    assert target.status()["database"]["system_identifier"] in page.locator("main").inner_text()
    page.screenshot(path=pictures / "database.png", full_page=True)


@pytest.mark.parametrize("path", ["/", "/trades", "/database"])
def test_a_narrow_dark_screen(browser: Browser, target: Target, pictures: Path, path: str) -> None:
    ready(target)
    context = browser.new_context(
        base_url=target.dashboard_url,
        viewport=NARROW,  # pyright: ignore[reportArgumentType]
        color_scheme="dark",
    )
    page = context.new_page()
    log_in(page, target)
    page.goto(path)
    page.screenshot(path=pictures / f"narrow-{path.strip('/') or 'overview'}.png", full_page=True)
    wide = page.evaluate("document.documentElement.scrollWidth")
    assert wide <= NARROW["width"], f"the page is {wide} px wide and scrolls sideways"
    context.close()
