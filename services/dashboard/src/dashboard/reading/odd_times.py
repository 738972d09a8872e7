"""Times that the database can hold and Python cannot: BC, beyond the year 9999, infinity.

One such row must not take a whole page away. It is read as an ``OddTime``, which says what the database says and sorts
at the end of the calendar it is beyond.
"""

from __future__ import annotations

import re
from calendar import monthrange
from datetime import date, datetime, tzinfo
from typing import Any, Self

from psycopg2 import extensions
from sqlalchemy import Connection

TIMESTAMP_OID = 1114
DATE_OID = 1082
LAST_YEAR = 294_276
FIRST_YEAR_BC = 4_713
_SHAPE = re.compile(r"(\d{4,6})-(\d\d)-(\d\d)( ([01]\d|2[0-3]):[0-5]\d:[0-5]\d(\.\d{1,6})?)?( BC)?", re.ASCII)


class OddTime(datetime):
    """A time beyond Python's calendar. ``text`` is how Postgres writes it; formatting it gives that text."""

    _text: str | None = None

    @property
    def text(self) -> str:
        """Return how Postgres writes it; of a time reckoned from one, Python's own form."""
        return self._text or datetime.isoformat(self, " ")

    @classmethod
    def of(cls, text: str) -> Self:
        """Return the time that Postgres writes like this."""
        early = text.endswith(" BC") or text == "-infinity"
        edge = datetime.min if early else datetime.max  # noqa: DTZ901 - these rows have no zone
        odd = cls(*edge.timetuple()[:6], edge.microsecond)
        odd._text = text
        return odd

    def strftime(self, format: str) -> str:
        """Return Postgres' own text, whatever was asked for."""
        return self.text

    def isoformat(self, sep: str = "T", timespec: str = "auto") -> str:
        """Return Postgres' own text: ISO 8601 has no word for it."""
        return self.text

    def astimezone(self, tz: tzinfo | None = None) -> Self:
        """Return itself: there is nothing to convert."""
        return self

    def replace(self, *_args: Any, **_changes: Any) -> Self:
        """Return itself, for the same reason."""
        return self

    def __str__(self) -> str:
        return self.text


def read_odd_times(conn: Connection) -> None:
    """Let this connection read such times; all others are read as before.

    Args:
        conn: to either database; SQLite keeps text, and Python wrote it.
    """
    if conn.dialect.name == "postgresql":
        raw: Any = conn.connection.dbapi_connection
        extensions.register_type(_TIMESTAMP, raw)
        extensions.register_type(_DATE, raw)


def is_timestamp(text: str) -> bool:
    """Return whether Postgres would take this text as a timestamp: one of Python's, or one beyond its calendar."""
    if text in ("infinity", "-infinity"):
        return True
    if not (found := _SHAPE.fullmatch(text)):
        return False
    year, month, day = (int(found[n]) for n in (1, 2, 3))
    if not (1 <= month <= 12 and 1 <= year <= (FIRST_YEAR_BC if found[7] else LAST_YEAR)):
        return False
    gregorian = 1 - year if found[7] else year  # 1 BC is the year 0, a leap year
    return 1 <= day <= monthrange(gregorian % 400 + 2000, month)[1]


def _timestamp(given: str | bytes | None, cursor: Any) -> datetime | None:
    return _read(extensions.PYDATETIME, given, cursor)


def _date(given: str | bytes | None, cursor: Any) -> date | None:
    return _read(extensions.PYDATE, given, cursor)


def _read(as_always: Any, given: str | bytes | None, cursor: Any) -> Any:
    if given is None:
        return None
    text = given.decode() if isinstance(given, bytes) else given
    if text in ("infinity", "-infinity"):
        return OddTime.of(text)
    try:
        return as_always(text, cursor)
    except (ValueError, OverflowError):
        return OddTime.of(text)


_TIMESTAMP = extensions.new_type((TIMESTAMP_OID,), "SWITCHYARD_TIMESTAMP", _timestamp)
_DATE = extensions.new_type((DATE_OID,), "SWITCHYARD_DATE", _date)
