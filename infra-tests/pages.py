"""The dashboard as a visitor without JavaScript sees it: a login, pages, and what stands in them."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from contextlib import contextmanager
from html.parser import HTMLParser
from typing import Any

import httpx
from targets import Target
from targets.instance import Instance


class _Forms(HTMLParser):
    """Collects forms with their fields."""

    def __init__(self) -> None:
        super().__init__()
        self.forms: list[dict[str, Any]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {key: value or "" for key, value in attrs}
        if tag == "form":
            self.forms.append(
                {"action": found.get("action", ""), "method": found.get("method", "get"), "fields": {}, "types": {}}
            )
        elif tag == "input" and self.forms and found.get("name"):
            self.forms[-1]["fields"][found["name"]] = found.get("value", "")
            self.forms[-1]["types"][found["name"]] = found.get("type", "text")


@contextmanager
def visitor(target: Target) -> Iterator[httpx.Client]:
    """A logged-in client of the target's dashboard."""
    with anonymous(target) as client:
        log_in(client, target.instance)
        yield client


@contextmanager
def anonymous(target: Target) -> Iterator[httpx.Client]:
    """A client of the target's dashboard, not logged in."""
    with httpx.Client(base_url=target.dashboard_url, timeout=15, follow_redirects=True) as client:
        yield client


def log_in(client: httpx.Client, instance: Instance) -> httpx.Response:
    """Fill in the login form and send it; fails when the page afterwards is still the login."""
    page = client.get("/login")
    assert page.status_code == 200, page.text
    parser = _Forms()
    parser.feed(page.text)
    [form] = [form for form in parser.forms if "password" in form["types"].values()]
    settings = instance.read_env()
    for name, kind in form["types"].items():
        if kind == "password":
            form["fields"][name] = settings["DASHBOARD_PASSWORD"]
        elif kind != "hidden":
            form["fields"][name] = settings["DASHBOARD_USER"]
    answer = client.post(
        form["action"] or "/login", data=form["fields"], headers={"Origin": str(client.base_url).rstrip("/")}
    )
    assert answer.status_code == 200, answer.text
    assert 'type="password"' not in answer.text, "still at the login"
    return answer


def text_of(page: str) -> str:
    """What a reader sees: no tags, no styles, single spaces."""
    without = re.sub(r"<(script|style)\b.*?</\1>", " ", page, flags=re.DOTALL)
    return re.sub(r"\s+", " ", html.unescape(re.sub(r"<[^>]+>", " ", without))).strip()


def trade_ids(page: str) -> set[int]:
    """The ids of the trades that a page lists."""
    return {int(number) for number in re.findall(r'<tr\b[^>]*\bdata-trade="(\d+)"', page)}
