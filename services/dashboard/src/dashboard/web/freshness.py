"""How old an answer is, and why: what every page and every answer of the API says about its data."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from tradedb import DatabaseUnavailable
from tradedb.errors import SwitchyardError

from dashboard.reading.snapshots import Answer


@dataclass(frozen=True)
class Freshness:
    """The age of what is shown. ``stale``: the database did not answer this time."""

    stale: bool
    age_s: float
    read_at: datetime | None
    since: datetime | None
    reason: str
    reachable: bool


def freshness(answer: Answer[Any]) -> Freshness:
    """Return how old an answer is, and why there is no younger one."""
    trouble = answer.trouble
    if trouble is None:
        return Freshness(False, answer.age_s, answer.read_at, None, "", True)
    if trouble.error is None:
        reason = "It has not answered yet."
    elif isinstance(trouble.error, SwitchyardError):
        reason = f"{trouble.error.what}."
    else:  # the log has the rest; a page shows no inner workings
        reason = f"Reading failed ({type(trouble.error).__name__}); the dashboard's log says more."
    reachable = not (trouble.error is None or isinstance(trouble.error, DatabaseUnavailable))
    return Freshness(True, answer.age_s, answer.read_at, trouble.since, reason, reachable)
