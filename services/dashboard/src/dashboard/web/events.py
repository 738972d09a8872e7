"""The page of events."""

from __future__ import annotations

from functools import partial

from starlette.requests import Request
from starlette.responses import Response

from dashboard.reading.events import PAGE_SIZES, EventPage, EventQuery, read_events
from dashboard.web.freshness import freshness
from dashboard.web.pages import Pages
from dashboard.web.render import Renderer


class Events:
    """What happened.

    Args:
        pages: asks, and answers when there is nothing to show.
        render: makes the page.
    """

    def __init__(self, pages: Pages, render: Renderer) -> None:
        self._pages = pages
        self._render = render

    async def show(self, request: Request) -> Response:
        """GET /events: newest first; filters and where to go on are GET parameters."""
        query = EventQuery.from_parameters(request.query_params)
        answer = await self._pages.ask(("events", query), partial(read_events, query=query), "events page")
        if not isinstance(answer.value, EventPage):
            return self._pages.without_data(request, "events", answer)
        return self._render.page(
            request, "events.html", page="events", fresh=freshness(answer), seen=answer.value,
            query=answer.value.query, page_sizes=PAGE_SIZES,
        )  # fmt: skip
