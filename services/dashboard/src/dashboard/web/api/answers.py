"""What is around every answer: its version, the age of its data, and where a list goes on."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Generic, Literal, Self, TypeVar

from dashboard.reading.schema import SchemaState
from dashboard.reading.snapshots import Answer
from dashboard.verdict import Verdict
from dashboard.web.api.values import Instant, Model
from dashboard.web.freshness import freshness
from dashboard.web.pages import Pages
from dashboard.web.problems import SCHEMA_VERSION

T = TypeVar("T")


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


class Sentence(Model):
    """A sentence at the top of a page."""

    level: Literal["ok", "warn", "fail", "info"]
    sentence: str
    more: str
    """What to do, or why; may be empty."""

    @classmethod
    def of_verdicts(cls, verdicts: list[Verdict]) -> list[Self]:
        """Return the sentences."""
        return [cls.of(verdict) for verdict in verdicts]


@dataclass(frozen=True)
class Judged(Generic[T]):
    """What was read, and what the page says of it."""

    value: T
    verdicts: list[Verdict]


def judged(pages: Pages, answer: Answer[Any]) -> Answer[Any]:
    """Return the answer with what the page says of it, where there is something to judge."""
    if answer.value is None or isinstance(answer.value, SchemaState):
        return answer
    return replace(answer, value=Judged(answer.value, pages.said(answer)))


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
