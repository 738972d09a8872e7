"""A browser that looks at a dashboard: it signs in, and remembers what the pages complain about and whom they ask."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, Response, sync_playwright
from targets.instance import Instance

CHROMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
WIDE, NARROW = (1280, 900), (360, 800)
PAGES = ("/", "/trades", "/strategies", "/events", "/database")
"""Every page that a visitor can choose; one trade's own page hangs on its number."""


@contextmanager
def chromium() -> Iterator[Browser]:
    """Debian's Chromium or whoever's is on PATH; its absence is a failure, never a skip."""
    program = next((found for name in CHROMES if (found := shutil.which(name))), None)
    assert program, f"no browser on PATH ({', '.join(CHROMES)}); on Debian: apt-get install chromium"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        try:
            yield browser
        finally:
            browser.close()


class Complaints:
    """What pages complained about, and whom they asked beside the dashboard.

    ``allowed`` are patterns of what may be said: a test that takes something away expects a word about it.
    """

    def __init__(self, context: BrowserContext) -> None:
        self.said: list[str] = []
        self.allowed: list[str] = []
        context.on("console", self._heard)
        context.on("weberror", lambda error: self.said.append(str(error.error)))
        context.on("request", lambda request: self._asked(request.url))
        context.on("response", self._answered)

    def _heard(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.said.append(message.text)

    def _asked(self, url: str) -> None:
        if urlsplit(url).hostname not in ("127.0.0.1", None):
            self.said.append(f"asked {url}")

    def _answered(self, answer: Response) -> None:
        if answer.status >= 400:
            self.said.append(f"{answer.status} {answer.url}")

    @property
    def unexpected(self) -> list[str]:
        """What was said and is not allowed."""
        return [said for said in self.said if not any(re.search(pattern, said) for pattern in self.allowed)]


@contextmanager
def visit(
    browser: Browser, url: str, size: tuple[int, int] = WIDE, *, dark: bool = False, javascript: bool = True
) -> Iterator[tuple[BrowserContext, Complaints]]:
    """A fresh browser profile, not signed in; at the end it must have complained about nothing."""
    context = browser.new_context(
        base_url=url,
        viewport={"width": size[0], "height": size[1]},
        color_scheme="dark" if dark else "light",
        java_script_enabled=javascript,
    )
    complaints = Complaints(context)
    try:
        yield context, complaints
    finally:
        context.close()
    assert complaints.unexpected == []


def log_in(page: Page, instance: Instance, target: str = "/") -> None:
    """Fill in the form; fails when the page afterwards is still the login."""
    settings = instance.read_env()
    page.goto(target)
    page.locator("input:not([type=hidden]):not([type=password])").first.fill(settings["DASHBOARD_USER"])
    page.locator("input[type=password]").fill(settings["DASHBOARD_PASSWORD"])
    page.locator("form:has(input[type=password]) button").click()
    page.wait_for_load_state()
    assert page.locator("input[type=password]").count() == 0, "still at the login"


def amounts(page: Page) -> list[str]:
    """The amounts that stand in the page's main part."""
    return re.findall(r"\d[\d,\u202f ]*\.\d+", page.locator("main").inner_text())


def first_trade(page: Page) -> str:
    """The path of the newest trade's own page."""
    page.goto("/trades")
    path = page.locator("tr[data-trade] a[href^='/trades/']").first.get_attribute("href")
    assert path
    return path
