"""What is around every answer: its version, the age of its data, and where a list goes on."""

from __future__ import annotations

from typing import Any, Literal

from dashboard.reading.snapshots import Answer
from dashboard.web.api.values import Instant, Model
from dashboard.web.freshness import freshness
from dashboard.web.problems import SCHEMA_VERSION


class Age(Model):
    """How old the data are."""

    stale: bool
    """True: the database did not answer this time, and these are the last data that it gave."""
    age_s: float
    """Seconds since they were read."""
    read_at: Instant | None
    """When they were read."""
    since: Instant | None
    """When the database stopped answering, if it did."""
    reason: str | None
    """What it said, or that it says nothing."""

    @classmethod
    def of_answer(cls, answer: Answer[Any]) -> Age:
        """Return the age of an answer."""
        known = freshness(answer)
        return cls(
            stale=known.stale, age_s=round(known.age_s, 3), read_at=known.read_at, since=known.since,
            reason=known.reason or None,
        )  # fmt: skip


class Told(Model):
    """What every answer has beside its data."""

    schema_version: Literal[1] = SCHEMA_VERSION
    """Grows when something in these answers changes its meaning; new fields may come without."""
    freshness: Age
    """How old the data are."""


class Listed(Told):
    """What every list has beside its rows."""

    next_cursor: str | None
    """Ask again with this as `cursor` for the rows that follow; null at the end."""
