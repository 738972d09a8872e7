"""What the looks at pages share: the browser, a visit, the folder of the pictures."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from browser.visits import WIDE, chromium, visit
from playwright.sync_api import Browser, BrowserContext
from targets import Target
from targets.instance import CHECKOUT
from watch import ready, until


@pytest.fixture(scope="session")
def pictures(request: pytest.FixtureRequest) -> Path:
    """The folder that the pictures go to."""
    folder = Path(request.config.getoption("--pictures") or CHECKOUT / ".switchyard" / "pictures")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """One browser for all; each test has a profile of its own in it."""
    with chromium() as browser:
        yield browser


@pytest.fixture
def traded(target: Target) -> Target:
    """The shared target, once its bot has closed a trade."""
    ready(target)
    until(lambda: target.value("SELECT count(*) FROM trades"), 90, "the bot has made a trade")
    return target


@pytest.fixture
def context(browser: Browser, traded: Target) -> Iterator[BrowserContext]:
    """A profile on a wide light screen; at the end it must have complained about nothing."""
    with visit(browser, traded.dashboard_url, WIDE) as (context, _):
        yield context
