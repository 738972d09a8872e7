"""axe-core with the tags of WCAG 2.2 A and AA finds nothing, on any page, light or dark, wide or narrow."""

from __future__ import annotations

from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from browser.visits import NARROW, PAGES, WIDE, first_trade, log_in, visit
from playwright.sync_api import Browser, Page
from targets import Target

RULES = {
    "runOnly": {"type": "tag", "values": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]},
    "resultTypes": ["violations"],
}


def findings(page: Page) -> list[str]:
    """What axe finds, one sentence for each place."""
    report = Axe().run(page, options=RULES).response
    assert report["testEngine"]["name"] == "axe-core"
    assert report["passes"], "axe looked at nothing"
    return [
        f"{rule['id']}: {node['html'][:200]} ({node['failureSummary'][:300]})"
        for rule in report["violations"]
        for node in rule["nodes"]
    ]


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("size", [WIDE, NARROW], ids=["wide", "narrow"])
def test_axe_finds_nothing(browser: Browser, traded: Target, pictures: Path, size: tuple[int, int], dark: bool) -> None:
    found: dict[str, list[str]] = {}
    with visit(browser, traded.dashboard_url, size, dark=dark) as (context, complaints):
        complaints.allowed += ["/no-such-page$", r"status of 404 \(Not Found\)$"]
        page = context.new_page()
        page.goto("/login")
        found["/login"] = findings(page)
        log_in(page, traded.instance)
        for path in (*PAGES, "/trades?symbol=nobody", first_trade(page), "/no-such-page"):
            answer = page.goto(path)
            assert answer
            assert answer.status == (404 if path == "/no-such-page" else 200), path
            for details in page.locator("main details").all()[:20]:
                details.evaluate("details => { details.open = true; }")
            found[path] = findings(page)
            name = path.strip("/").replace("/", "-").replace("?", "-") or "overview"
            page.screenshot(path=pictures / f"axe-{name}-{size[0]}-{'dark' if dark else 'light'}.png", full_page=True)
    assert {path: said for path, said in found.items() if said} == {}
