"""Events on their way to ``system_events``: remembered where the database is away, written by who leads."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection

from trading_bot import ledger
from trading_bot.sql import wall_clock

KEPT = 500


class Diary:
    """What happened and has not been written yet, oldest first.

    A bot that does not lead writes nothing, events neither: it writes them when it leads next, with the time at which
    they happened. The oldest go when there are too many, and how many is said.
    """

    def __init__(self) -> None:
        self._events: deque[dict[str, Any]] = deque()
        self._dropped = 0

    def tell(
        self,
        event_type: str,
        severity: str,
        message: str,
        *,
        error_code: str | None = None,
        session_id: int | None = None,
        details: Mapping[str, Any] | None = None,
    ) -> None:
        """Remember an event; the arguments are those of ``ledger.write_event``."""
        if len(self._events) >= KEPT:
            self._events.popleft()
            self._dropped += 1
        self._events.append(
            {
                "event_type": event_type,
                "severity": severity,
                "message": message,
                "error_code": error_code,
                "session_id": session_id,
                "details": details,
                "timestamp": wall_clock(),
            }
        )

    def waiting(self) -> int:
        """Return how many events are not written yet."""
        return len(self._events)

    def write(self, conn: Connection) -> int:
        """Write what there is, in a transaction of the caller's; return how many, for ``written`` after COMMIT."""
        for event in self._events:
            ledger.write_event(conn, **event)
        if self._dropped:
            ledger.write_event(
                conn,
                event_type="ALERT",
                severity="warning",
                message=f"{self._dropped} events from before could not be kept until the database was back",
            )
        return len(self._events)

    def written(self, count: int) -> None:
        """Forget the first ``count`` events: they are committed."""
        for _ in range(count):
            self._events.popleft()
        self._dropped = 0
