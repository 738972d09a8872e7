"""GET /api/v1/events."""

from __future__ import annotations

from functools import partial
from typing import Any, Self

from pydantic import Field

from dashboard import formats
from dashboard.reading.events import EventPage, EventQuery, EventRow, read_events
from dashboard.reading.snapshots import Answer
from dashboard.web.api.answers import Age, Listed
from dashboard.web.api.values import From, Model, Parameters, RecordedTime, Text, To
from dashboard.web.pages import Pages


class EventParameters(Parameters):
    """Which events."""

    type: Text | None = None
    """Only events of this type."""
    severity: Text | None = None
    """Only events of this severity."""
    component: Text | None = None
    """Only events of this component."""
    since: From | None = Field(None, alias="from")
    """Only events at or after this time."""
    until: To | None = Field(None, alias="to")
    """Only events before this time; of a date alone, before its end."""
    limit: int = Field(50, ge=1, le=250)
    """How many at most."""
    cursor: str | None = None
    """The `next_cursor` of the answer before."""

    def query(self) -> EventQuery:
        """Return what is read."""
        filters = (("type", self.type), ("severity", self.severity), ("component", self.component))
        return EventQuery(
            filters=tuple((name, value) for name, value in filters if value), since=self.since, until=self.until,
            page_size=self.limit, cursor=self.cursor or "",
        )  # fmt: skip


class Event(Model):
    """Something that happened."""

    id: int
    time: RecordedTime
    times_in_utc: bool
    """False: the zone was not recorded."""
    event_type: str
    severity: str | None
    component: str | None
    error_code: str | None
    message: str
    """Cut after 2,000 characters."""
    details: Any
    """As whoever wrote it put it; null where there are none, or where `left_out` is true."""
    left_out: bool
    """True: the details are longer than 16 KiB, and not here."""
    session_id: int | None

    @classmethod
    def of_row(cls, row: EventRow) -> Self:
        """Return the event of a row."""
        return cls.of(row, time=formats.recorded(row.timestamp, in_utc=row.ours), times_in_utc=row.ours)


class Events(Listed):
    """Events, newest first."""

    data: list[Event]


async def ask(pages: Pages, given: EventParameters) -> Answer[Any]:
    """Return what the database answers."""
    query = given.query()
    query.position()  # a cursor that is not ours is the caller's mistake, not the database's
    return await pages.ask(("events", query), partial(read_events, query=query), "API events")


def shape(answer: Answer[Any], seen: EventPage) -> Events:
    """Return it as the API says it."""
    return Events(
        freshness=Age.of_answer(answer), data=[Event.of_row(row) for row in seen.rows], next_cursor=seen.older
    )
