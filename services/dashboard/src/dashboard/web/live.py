"""Pages that move by themselves: the parts of a page that changed, sent as server-sent events.

Whoever looks at the same page shares one reader: it makes the page as anybody would get it, cuts out the parts that
are marked as live, and numbers each state that differs from the one before. A listener gets what has changed since the
number that it saw last, also over a lost connection (Last-Event-ID); if that is not known any more, every part. So a
slow listener costs nothing: it skips states, and nothing is queued for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import re
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from html import unescape
from typing import Any

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Match, Route

from dashboard.web.sessions import Session, Sessions

MAX_LISTENERS = 40
MAX_READERS = 16
KEEP_S = 30.0
"""How long a page is still read when nobody listens: a connection that was lost, or a tab, may come back."""
HEARTBEAT_S = 15.0
RETRY_MS = 3000
MAX_ADDRESS = 2048
_START = re.compile(r"<(\w+)\b[^>]*\sid=\"([\w-]+)\"[^>]*\sdata-live\b[^>]*>")
_TITLE = re.compile(r"<title>(.*?)</title>", re.DOTALL)
_KIND = re.compile(r"<body data-page=\"([\w-]+)\"")
logger = logging.getLogger(__name__)

Make = Callable[[Request], Awaitable[Response]]


@dataclass(frozen=True)
class State:
    """One page at one moment: its kind, its title, and its live parts by their ids."""

    kind: str
    title: str
    parts: dict[str, str]


def read_state(page: str) -> State:
    """Return what is live in a page that was made here."""
    parts: dict[str, str] = {}
    at = 0
    while start := _START.search(page, at):
        at = _end(page, start.end(), start[1])
        parts[start[2]] = page[start.start() : at]
    title, kind = _TITLE.search(page), _KIND.search(page)
    return State(kind[1] if kind else "", unescape(title[1]) if title else "", parts)


def _end(page: str, at: int, tag: str) -> int:
    """Return where the element that was opened before ``at`` ends."""
    depth = 1
    for found in re.compile(rf"<(/?){tag}\b").finditer(page, at):
        depth += -1 if found[1] else 1
        if depth == 0:
            return page.index(">", found.end()) + 1
    return len(page)


@dataclass
class _Reader:
    """One page that somebody looks at. ``changed_at`` says with which number each part last changed."""

    make: Make
    scope: dict[str, Any]
    name: str = field(default_factory=lambda: secrets.token_hex(6))
    state: State | None = None
    number: int = 0
    changed_at: dict[str, int] = field(default_factory=dict)
    listeners: int = 0
    left_at: float = 0.0
    news: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[None] | None = None

    def take(self, state: State) -> None:
        """Number a state, if it differs, and wake the listeners."""
        before = self.state.parts if self.state else {}
        changed = {name for name, part in state.parts.items() if before.get(name) != part}
        if changed or self.state is None or (self.state.kind, self.state.title) != (state.kind, state.title):
            self.number += 1
        self.changed_at = {name: self.number if name in changed else self.changed_at[name] for name in state.parts}
        self.state = state
        self.wake()

    def wake(self) -> None:
        """Let every listener look again."""
        news, self.news = self.news, asyncio.Event()
        news.set()

    def since(self, seen: str) -> int:
        """Return the number that an event id stands for, 0 if it is not one of ours."""
        name, _, number = seen.rpartition("-")
        known = int(number) if name == self.name and number.isascii() and number.isdigit() and len(number) < 12 else 0
        return known if known <= self.number else 0

    def event(self, state: State, since: int) -> str:
        """Return what has changed since a number, as an event."""
        parts = [part for name, part in state.parts.items() if self.changed_at[name] > since]
        data = json.dumps({"kind": state.kind, "title": state.title, "parts": parts})
        return f"event: parts\nid: {self.name}-{self.number}\ndata: {data}\n\n"


class Live:
    """The stream of each page.

    Args:
        sessions: says whether a listener is still signed in.
        pages: the routes of the pages that can be followed.
        every_s: seconds between two readings of a page.
    """

    def __init__(self, sessions: Sessions, pages: Sequence[Route], *, every_s: float) -> None:
        self._sessions = sessions
        self._pages = pages
        self._every_s = every_s
        self._readers: dict[str, _Reader] = {}
        self._listeners = 0
        self._closing = False

    async def stream(self, request: Request) -> Response:
        """GET /live?of=PATH: what changes on that page, until the session ends."""
        address = request.query_params.get("of", "/")
        reader = self._readers.get(address)
        if reader is None:
            found = self._find(address, request)
            if found is None:
                return PlainTextResponse("no such page\n", 404)
            if len(self._readers) >= MAX_READERS and not self._drop_one():
                return _full()
            reader = self._readers[address] = _Reader(*found)
            reader.task = asyncio.create_task(self._read(address, reader))
        if self._listeners >= MAX_LISTENERS:
            return _full()
        seen = request.headers.get("last-event-id") or request.query_params.get("last", "")
        return StreamingResponse(
            self._events(reader, request.state.session, seen),
            media_type="text/event-stream",
            headers={"x-accel-buffering": "no"},
        )

    async def present(self, _request: Request) -> Response:
        """GET /present: somebody is there; the gate writes the session's cookie anew when that is due."""
        return Response(status_code=204)

    def close(self) -> None:
        """End every stream: the process is about to."""
        self._closing = True
        for reader in self._readers.values():
            reader.wake()
            if reader.task is not None:
                reader.task.cancel()

    def _find(self, address: str, request: Request) -> tuple[Make, dict[str, Any]] | None:
        """Return what makes the page of an address, and the request that asks for it; None: there is none."""
        if len(address) > MAX_ADDRESS or not address.startswith("/") or not address.isascii():
            return None
        path, _, query = address.partition("?")
        scope: dict[str, Any] = {
            **{key: request.scope.get(key) for key in ("type", "http_version", "scheme", "server", "client", "app")},
            "method": "GET", "path": path, "raw_path": path.encode(), "query_string": query.encode(),
            "root_path": "", "headers": [], "state": {"session": request.state.session},
        }  # fmt: skip
        for page in self._pages:
            match, more = page.matches(scope)
            if match is Match.FULL:
                return more["endpoint"], {**scope, **more}
        return None

    def _drop_one(self) -> bool:
        """Make room by a page that nobody listens to any more; False: somebody listens to each."""
        left = [(reader.left_at, address) for address, reader in self._readers.items() if not reader.listeners]
        if not left:
            return False
        task = self._readers.pop(min(left)[1]).task
        if task is not None:
            task.cancel()
        return True

    async def _events(self, reader: _Reader, session: Session, seen: str) -> AsyncIterator[str]:
        self._listeners += 1
        reader.listeners += 1
        try:
            yield f"retry: {RETRY_MS}\n\n"
            known, told_at = None, time.monotonic()
            while not self._closing:
                if self._sessions.revoked(session):
                    yield "event: over\ndata: {}\n\n"
                    return
                if self._sessions.expired(
                    session
                ):  # the browser asks again, with a younger cookie if somebody is there
                    return
                news, state = reader.news, reader.state
                if state is not None and reader.number != known:
                    event = reader.event(state, reader.since(seen) if known is None else known)
                    known, told_at = reader.number, time.monotonic()
                    yield event
                elif time.monotonic() - told_at >= HEARTBEAT_S:
                    told_at = time.monotonic()
                    yield "event: same\ndata: {}\n\n"
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(news.wait(), min(self._every_s, HEARTBEAT_S))
        finally:
            self._listeners -= 1
            reader.listeners -= 1
            reader.left_at = time.monotonic()

    async def _read(self, address: str, reader: _Reader) -> None:
        """Make the page again and again, for all who look at it, until nobody has for a while."""
        reader.left_at = time.monotonic()
        while reader.listeners or time.monotonic() - reader.left_at < KEEP_S:
            try:
                answer = await reader.make(Request(dict(reader.scope)))
                reader.take(read_state(bytes(answer.body).decode()))
            except Exception:  # a defect of one page ends neither the streams of others nor this one's next try
                logger.exception("a live page failed", extra={"path": reader.scope["path"]})
            await asyncio.sleep(self._every_s)
        if self._readers.get(address) is reader:
            del self._readers[address]


def _full() -> Response:
    """The refusal of one stream too many; the page then asks by itself, now and then."""
    return PlainTextResponse("too many pages are followed\n", 503, headers={"retry-after": "10"})
