"""Why no position is opened now. Exits are never halted."""

from __future__ import annotations

import logging

from trading_bot.diary import Diary
from trading_bot.status import Status

log = logging.getLogger(__name__)


class Halts:
    """The reasons against entries, by name. Each that comes or goes is an event, and ``/readyz`` lists them.

    Args:
        diary: gets the events.
        status: shows the reasons.
    """

    def __init__(self, diary: Diary, status: Status) -> None:
        self._diary = diary
        self._status = status
        self._reasons: dict[str, str] = {}

    @property
    def reasons(self) -> tuple[str, ...]:
        """Return every reason there is now."""
        return tuple(self._reasons.values())

    def why(self, *, but: str) -> str | None:
        """Return one reason against entries, other than the one of that name; None when there is none."""
        return next((reason for name, reason in self._reasons.items() if name != but), None)

    def set(self, name: str, reason: str | None, *, severity: str = "warning", error_code: str | None = None) -> None:
        """Say what holds now: a reason, or None when it is over. The same name with other words is no news."""
        before = self._reasons.get(name)
        if reason == before:
            return
        if reason is None:
            del self._reasons[name]
            log.info("entries_resumed", extra={"after": before})
            self._diary.tell("RECOVERY", "info", f"no longer in the way of entries: {before}")
        else:
            self._reasons[name] = reason
            if before is None:
                log.warning("entries_halted", extra={"code": error_code, "reason": reason})
                self._diary.tell("ALERT", severity, f"entries are halted: {reason}", error_code=error_code)
        self._status.set(halted=self.reasons)
