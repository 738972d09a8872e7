"""The database goes while somebody looks, and comes back: the page says so, shows what it had, and recovers."""

from __future__ import annotations

from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from browser.visits import amounts, log_in, visit
from playwright.sync_api import Browser
from targets import Target
from watch import ready, until

pytestmark = pytest.mark.destructive


def test_the_page_says_that_the_database_is_gone_and_that_it_is_back(
    browser: Browser, whole: Target, pictures: Path
) -> None:
    until(lambda: whole.value("SELECT count(*) FROM trades"), 90, "the bot has made a trade")
    with visit(browser, whole.dashboard_url) as (context, _):
        page = context.new_page()
        log_in(page, whole.instance)
        assert amounts(page)
        page.evaluate("window.stillTheSame = true")
        banner = page.locator("#banner")
        whole.pause("postgres")
        try:
            until(
                lambda: (page.wait_for_timeout(300), "not answering since" in banner.inner_text())[1],
                60,
                "the page says that the database does not answer",
            )
            assert "showing data from" in banner.inner_text()
            kept = [amount for amount in amounts(page) if float(amount.replace(",", "")) != 0]
            assert kept, "the last figures are gone"
            assert "When last read" in page.locator("#verdicts").inner_text()
            report = Axe().run(page).response
            assert report["violations"] == []
            page.screenshot(path=pictures / "overview-outage.png", full_page=True)
        finally:
            whole.resume("postgres")
        ready(whole, timeout_s=120)
        until(
            lambda: (page.wait_for_timeout(300), banner.inner_text().strip() == "")[1], 120, "the page is fresh again"
        )
        assert page.evaluate("window.stillTheSame") is True, "the page was loaded anew"
