"""What a leader works with, in one place, and how it talks to the database."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

from sqlalchemy import Connection
from tradedb.manager import DatabaseManager

from trading_bot.diary import Diary
from trading_bot.halts import Halts
from trading_bot.lease import Lease
from trading_bot.ledger import SessionTerms
from trading_bot.spooled import FactSpool
from trading_bot.venue import Venue, VenueUnreachable

T = TypeVar("T")

CALL_DEADLINE_S = 5.0  # of one transaction with its retries: short, so that SIGTERM is never kept waiting
RECOVERY_DEADLINE_S = 10.0

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Kit:
    """What a leader works with.

    Args:
        manager: the shared database.
        lease: the right to write to it.
        venue: where orders go.
        spool: where facts are before the database has them.
        diary: events for people.
        halts: what is in the way of entries.
        terms: the account that is traded.
        fresh_s: how old, in seconds, a decision may be that the venue has not heard of and still gets.
    """

    manager: DatabaseManager
    lease: Lease
    venue: Venue
    spool: FactSpool
    diary: Diary
    halts: Halts
    terms: SessionTerms
    fresh_s: float

    @contextlib.contextmanager
    def asking_venue(self) -> Iterator[None]:
        """Go on without the venue's answer where it gives none; nothing is opened meanwhile."""
        try:
            yield
        except VenueUnreachable as error:
            log.warning("venue_unreachable", extra={"code": error.code, "what": error.what})
            self.halts.set("venue", f"{error.code}: {error.what}", severity="error", error_code=error.code)
        else:
            self.halts.set("venue", None)

    def transaction(
        self,
        work: Callable[[Connection], T],
        name: str,
        *,
        idempotent: bool = False,
        deadline_s: float = CALL_DEADLINE_S,
    ) -> T:
        """Return what ``work`` returns after COMMIT; errors as those of ``DatabaseManager.transaction``."""
        return self.manager.transaction(work, name=name, deadline_s=deadline_s, idempotent=idempotent)

    def read(self, work: Callable[[Connection], T], name: str) -> T:
        """Return what ``work`` reads; errors as those of ``DatabaseManager.read``."""
        return self.manager.read(work, name=name, deadline_s=RECOVERY_DEADLINE_S)
