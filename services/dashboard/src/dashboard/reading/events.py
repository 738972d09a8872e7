"""What happened: the rows of ``system_events``, newest first."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from typing import Any
from urllib.parse import urlencode

from sqlalchemy import Connection, Select, Text, and_, case, cast, func, or_, select
from sqlalchemy.orm import InstrumentedAttribute
from tradedb.models import SystemEvent

from dashboard.reading import cursors
from dashboard.reading.schema import SchemaState, schema_state

OURS = "trading-bot"
"""The component under which this project's bot writes; whoever else wrote did not record a time zone."""

PAGE_SIZES = (25, 50, 100, 250)
DEFAULT_PAGE_SIZE = 50
NEWEST_FOR_CHOICES = 2_000
MAX_MESSAGE = 2_000
MAX_DETAILS = 16 * 1024  # characters; a copied history may hold whole stack traces
MAX_VALUE_LENGTH = 100
FILTERS: Mapping[str, InstrumentedAttribute[Any]] = {
    "type": SystemEvent.event_type,
    "severity": SystemEvent.severity,
    "component": SystemEvent.component,
}


@dataclass(frozen=True)
class EventRow:
    """One event. ``ours``: this project's bot wrote it, so its time is UTC.

    A long message is cut; ``left_out`` says that its details are too long to be shown.
    """

    id: int
    timestamp: datetime
    event_type: str
    severity: str | None
    component: str | None
    error_code: str | None
    message: str
    details: Any
    left_out: bool
    session_id: int | None

    @property
    def ours(self) -> bool:
        """Return whether the bot of this project wrote it."""
        return self.component == OURS

    @property
    def detail_lines(self) -> list[tuple[str, str]]:
        """Return what the details say, as names and values to show."""
        if isinstance(self.details, dict):
            return [(str(name), _plain(value)) for name, value in self.details.items()]
        return [] if self.details is None else [("details", _plain(self.details))]


@dataclass(frozen=True)
class EventQuery:
    """What was asked for. ``since`` and ``until`` are wall-clock times as the rows have them; ``until`` is excluded."""

    filters: tuple[tuple[str, str], ...] = ()
    since: datetime | None = None
    until: datetime | None = None
    page_size: int = DEFAULT_PAGE_SIZE
    cursor: str = ""

    @classmethod
    def from_parameters(cls, given: Mapping[str, str]) -> EventQuery:
        """Return the query that a page's GET parameters ask for; what is not understood falls back to the default."""
        size = given.get("per_page", "")
        query = cls(
            filters=tuple((name, clean(given[name])) for name in FILTERS if given.get(name)),
            since=moment(given.get("from")),
            until=moment(given.get("to"), end=True),
            page_size=int(size) if size in {str(choice) for choice in PAGE_SIZES} else DEFAULT_PAGE_SIZE,
            cursor=given.get("cursor", ""),
        )
        try:
            query.position()
        except ValueError:
            return replace(query, cursor="")
        return query

    @property
    def question(self) -> tuple[Any, ...]:
        """Return what a cursor of this list is bound to."""
        return ("events", self.filters, self.since, self.until)

    def position(self) -> tuple[datetime, int] | None:
        """Return the time and id of the last event that was seen, None at the beginning.

        Raises: ValueError: the cursor is not of this list.
        """
        return cursors.decode_time_and_id(self.question, self.cursor) if self.cursor else None

    def value(self, name: str) -> str:
        """Return what a filter is set to, or ""."""
        return dict(self.filters).get(name, "")

    def day(self, name: str) -> str:
        """Return the date that ``from`` or ``to`` is set to, as a date field has it, or ""."""
        when = self.since if name == "from" else self.until and self.until - timedelta(microseconds=1)
        return when.date().isoformat() if when else ""

    def link(self, **changes: Any) -> str:
        """Return the query string with some parts changed; without a change of the cursor it leads to the newest."""
        wanted: dict[str, Any] = {
            **dict(self.filters),
            "from": self.since.isoformat() if self.since else "",
            "to": self.until.isoformat() if self.until else "",
            "per_page": "" if self.page_size == DEFAULT_PAGE_SIZE else self.page_size,
            **changes,
        }
        text = urlencode({key: value for key, value in wanted.items() if value not in ("", None)})
        return f"?{text}" if text else ""


@dataclass(frozen=True)
class EventPage:
    """Some events of one moment. ``older`` is the cursor of the next ones, None at the end."""

    schema: SchemaState
    query: EventQuery
    rows: list[EventRow]
    older: str | None
    choices: dict[str, list[str]] = field(default_factory=dict)


def read_events(conn: Connection, query: EventQuery) -> EventPage:
    """Return one page of events, newest first, and what the newest ones can be filtered by.

    Args:
        conn: in a transaction that sees one state of the database.
        query: filters, span of time, where to go on.

    Raises: ValueError: the query's cursor is not of this list.
    """
    schema = schema_state(conn)
    found = conn.execute(_select(query).limit(query.page_size + 1)).all()
    rows = [EventRow(**{**row._asdict(), "message": _cut(row.message)}) for row in found[: query.page_size]]
    older = None
    if len(found) > query.page_size:
        older = cursors.encode(query.question, rows[-1].timestamp.isoformat(), rows[-1].id)
    return EventPage(schema, query, rows, older, _choices(conn))


def clean(value: str) -> str:
    """Return a filter's value as it may be compared: not endless, and without what Postgres has no text for."""
    return value[:MAX_VALUE_LENGTH].replace("\0", "").encode("utf-8", "ignore").decode()


def moment(given: str | None, *, end: bool = False) -> datetime | None:
    """Return the wall-clock time (UTC where a zone is given) that a text names, or None if it names none.

    Args:
        given: a date, or a date and time, as ISO 8601 has them.
        end: a date alone means the end of that day.
    """
    if not given or len(given) > 40:
        return None
    try:
        if len(given) == 10:
            day = date.fromisoformat(given)
            return datetime(day.year, day.month, day.day) + timedelta(days=1 if end else 0)  # noqa: DTZ001 - as stored
        when = datetime.fromisoformat(given.replace(" ", "+") if given[-6:-5] == " " else given)
        return when.astimezone(UTC).replace(tzinfo=None) if when.tzinfo else when
    except (ValueError, OverflowError):
        return None


def _select(query: EventQuery) -> Select[*tuple[Any, ...]]:
    long = func.coalesce(func.length(cast(SystemEvent.details, Text)), 0) > MAX_DETAILS
    chosen = select(
        SystemEvent.id,
        SystemEvent.timestamp,
        SystemEvent.event_type,
        SystemEvent.severity,
        SystemEvent.component,
        SystemEvent.error_code,
        func.substr(SystemEvent.message, 1, MAX_MESSAGE + 1).label("message"),
        case((long, None), else_=SystemEvent.details).label("details"),
        long.label("left_out"),
        SystemEvent.session_id,
    ).order_by(SystemEvent.timestamp.desc(), SystemEvent.id.desc())
    for name, value in query.filters:
        chosen = chosen.where(FILTERS[name] == value)
    if query.since is not None:
        chosen = chosen.where(SystemEvent.timestamp >= query.since)
    if query.until is not None:
        chosen = chosen.where(SystemEvent.timestamp < query.until)
    position = query.position()
    if position is not None:
        when, number = position
        chosen = chosen.where(
            SystemEvent.timestamp <= when,
            or_(SystemEvent.timestamp < when, and_(SystemEvent.timestamp == when, SystemEvent.id < number)),
        )
    return chosen


def _choices(conn: Connection) -> dict[str, list[str]]:
    """Return what the newest events can be filtered by: all of a long history would be read for three short lists."""
    newest = (
        select(*(column.label(name) for name, column in FILTERS.items()))
        .order_by(SystemEvent.timestamp.desc())
        .limit(NEWEST_FOR_CHOICES)
        .subquery()
    )
    found: dict[str, set[str]] = {name: set() for name in FILTERS}
    for row in conn.execute(select(newest).distinct()):
        for name, value in row._mapping.items():
            if value is not None:
                found[name].add(value)
    return {name: sorted(values) for name, values in found.items()}


def _cut(message: str) -> str:
    return message if len(message) <= MAX_MESSAGE else f"{message[:MAX_MESSAGE]}…"


def _plain(value: Any) -> str:
    text = value if isinstance(value, str) else repr(value) if isinstance(value, float) else str(value)
    return _cut(text)
