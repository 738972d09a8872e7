"""The stream of a page: what changed, resumed where it was lost, and over when the session is."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from dashboard.web import live as module
from dashboard.web.live import Live, read_state
from dashboard.web.sessions import IDLE_S, Sessions
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

SECRET = "0123456789abcdef" * 3
PATIENCE_S = 30.0


def test_the_live_parts_of_a_page_are_found_whole() -> None:
    page = (
        '<title>Trades &amp; more</title><body data-page="trades" data-refresh-s="3"><section id="one" data-live>'
        '<section>inner</section> text</section><p id="still">no</p><sectional></sectional>'
        '<p id="two" class="x" data-live role="status">a &lt;/p&gt; b</p></body>'
    )
    state = read_state(page)
    assert (state.kind, state.title) == ("trades", "Trades & more")
    assert state.parts == {
        "one": '<section id="one" data-live><section>inner</section> text</section>',
        "two": '<p id="two" class="x" data-live role="status">a &lt;/p&gt; b</p>',
    }


class Pages:
    """Pages that a test writes."""

    def __init__(self) -> None:
        self.now = {"a": "1", "b": "1"}
        self.made = 0
        self.fails = False

    async def show(self, request: Request) -> Response:
        self.made += 1
        if self.fails:
            raise RuntimeError("a defect")
        parts = "".join(f'<p id="{name}" data-live>{text}</p>' for name, text in self.now.items())
        number = request.path_params.get("number", "")
        return HTMLResponse(f'<title>T{number}{request.url.query}</title><body data-page="x">{parts}</body>')


class Browser:
    """One listener."""

    def __init__(self, live: Live, sessions: Sessions, session: Any) -> None:
        self.live, self.sessions, self.session = live, sessions, session
        self.id = ""
        self._lines: AsyncIterator[Any] | None = None

    async def open(self, of: str = "/", *, header: bool = True) -> int:
        headers = [(b"last-event-id", self.id.encode())] if self.id and header else []
        query = f"of={of}" + (f"&last={self.id}" if self.id and not header else "")
        scope = {
            "type": "http", "method": "GET", "path": "/live", "query_string": query.encode(), "headers": headers,
            "state": {"session": self.session}, "scheme": "http", "server": ("127.0.0.1", 80), "client": None,
        }  # fmt: skip
        answer = await self.live.stream(Request(scope))
        self._lines = getattr(answer, "body_iterator", None)
        return answer.status_code

    async def next(self) -> tuple[str, Any]:
        """The next event: its name and data; ("end", None) after the last."""
        assert self._lines is not None
        while True:
            try:
                text = await asyncio.wait_for(anext(self._lines), PATIENCE_S)
            except StopAsyncIteration:
                return "end", None
            fields = dict(line.split(": ", 1) for line in text.strip().splitlines())
            if "event" in fields:
                self.id = fields.get("id", self.id)
                return fields["event"], json.loads(fields["data"])

    async def close(self) -> None:
        assert self._lines is not None
        await self._lines.aclose()  # type: ignore[attr-defined]


Scene = Callable[[Pages, Callable[[], Browser], Sessions, Live], Awaitable[None]]


def play(scene: Scene, clock: Callable[[], float] | None = None) -> None:
    async def run() -> None:
        sessions = Sessions(SECRET, clock) if clock else Sessions(SECRET)
        session = sessions.start("admin")
        pages = Pages()
        routes = [Route("/", pages.show), Route("/trades/{number:int}", pages.show)]
        live = Live(sessions, routes, every_s=0.02)
        try:
            await asyncio.wait_for(scene(pages, lambda: Browser(live, sessions, session), sessions, live), 120)
        finally:
            live.close()

    asyncio.run(run())


def texts(data: Any) -> list[str]:
    return [part.split(">")[1].split("<")[0] for part in data["parts"]]


def test_a_listener_gets_everything_first_and_then_what_changes() -> None:
    async def scene(pages: Pages, browser: Callable[[], Browser], *_: Any) -> None:
        one = browser()
        assert await one.open() == 200
        assert texts((await one.next())[1]) == ["1", "1"]
        pages.now["b"] = "2"
        assert texts((await one.next())[1]) == ["2"]
        await one.close()

    play(scene)


@pytest.mark.parametrize("header", [True, False])
def test_a_lost_connection_goes_on_where_it_was(header: bool) -> None:
    async def scene(pages: Pages, browser: Callable[[], Browser], *_: Any) -> None:
        one, watcher = browser(), browser()
        await one.open()
        await one.next()
        await one.close()
        await watcher.open()
        await watcher.next()
        pages.now["a"] = "later"
        assert texts((await watcher.next())[1]) == ["later"]
        await one.open(header=header)
        assert texts((await one.next())[1]) == ["later"]
        for known in ("made-up", "", "x-1", f"{one.id}9"):
            stranger = browser()
            stranger.id = known
            await stranger.open(header=header)
            assert len(texts((await stranger.next())[1])) == 2
            await stranger.close()

    play(scene)


def test_all_who_look_at_one_page_share_one_reader() -> None:
    async def scene(pages: Pages, browser: Callable[[], Browser], *_: Any) -> None:
        alone = browser()
        await alone.open()
        await alone.next()
        many = [browser() for _ in range(20)]
        for one in many:
            await one.open()
            await one.next()
        made = pages.made
        pages.now["a"] = "2"
        for one in [alone, *many]:
            assert texts((await one.next())[1]) == ["2"]
        # not once for each of the twenty, whatever this machine does meanwhile
        assert pages.made - made < 20
        for one in [alone, *many]:
            await one.close()

    play(scene)


def test_signing_out_ends_the_stream_and_says_so() -> None:
    async def scene(_pages: Pages, browser: Callable[[], Browser], sessions: Sessions, _live: Live) -> None:
        one = browser()
        await one.open()
        await one.next()
        sessions.revoke(one.session)
        assert (await one.next())[0] == "over"
        assert (await one.next())[0] == "end"

    play(scene)


def test_an_idle_session_ends_its_stream_at_its_time() -> None:
    now = [1_000_000.0]

    async def scene(_pages: Pages, browser: Callable[[], Browser], *_: Any) -> None:
        one = browser()
        await one.open()
        await one.next()
        now[0] += IDLE_S + 1
        assert (await one.next())[0] == "end"

    play(scene, lambda: now[0])


def test_listeners_and_pages_have_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_LISTENERS", 2)
    monkeypatch.setattr(module, "MAX_READERS", 2)

    async def scene(_pages: Pages, browser: Callable[[], Browser], *_: Any) -> None:
        one, two, three = browser(), browser(), browser()
        assert [await one.open(), await two.open("/trades/7")] == [200, 200]
        await one.next()
        assert (await two.next())[1]["title"] == "T7"
        assert await three.open() == 503
        assert await three.open("/trades/8") == 503
        await two.close()
        assert await three.open("/trades/8") == 200  # the page that nobody follows any more makes room
        assert (await three.next())[1]["title"] == "T8"

    play(scene)


@pytest.mark.parametrize("of", ["", "//elsewhere.example/", "https://elsewhere.example/", "/trades/x", "/logout", "/é"])
def test_only_pages_can_be_followed(of: str) -> None:
    async def scene(_pages: Pages, browser: Callable[[], Browser], *_: Any) -> None:
        assert await browser().open(of) == 404

    play(scene)


def test_a_defect_of_the_page_does_not_end_its_stream() -> None:
    async def scene(pages: Pages, browser: Callable[[], Browser], *_: Any) -> None:
        one = browser()
        await one.open()
        await one.next()
        pages.fails, made = True, pages.made
        while pages.made < made + 3:  # noqa: ASYNC110 - a page says nothing when it is made
            await asyncio.sleep(0.01)
        pages.fails, pages.now["a"] = False, "well again"
        assert texts((await one.next())[1]) == ["well again"]

    play(scene)


def test_the_end_of_the_process_ends_every_stream() -> None:
    async def scene(_pages: Pages, browser: Callable[[], Browser], _sessions: Sessions, live: Live) -> None:
        one = browser()
        await one.open()
        await one.next()
        live.close()
        assert (await one.next())[0] == "end"

    play(scene)
