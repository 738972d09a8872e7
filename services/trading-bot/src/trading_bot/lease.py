"""One writer at a time: a row on the database's clock, and an epoch that every write is tested against.

Holding the lease proves nothing by itself: a process may sleep between looking and writing. So each write looks at
the row again, in its own transaction, and locks it there (``held``); a take-over waits for that transaction to end
and then raises the epoch, after which nothing the old holder does finds its row any more.
"""

from __future__ import annotations

import time
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, select, update
from tradedb.errors import SwitchyardError
from tradedb.manager import DatabaseManager
from tradedb.models import BotLease

from trading_bot.sql import db_clock, db_clock_in, insert_into, locked

LEASE_NAME = "trading-bot"
FAR_AHEAD_S = 900.0  # no setting makes a lease last longer than 300 s


class LeadershipLost(Exception):
    """Another bot leads, or nobody knows who does: whatever was being written is rolled back."""


class Lease:
    """The hold of this process on the lease row.

    Args:
        manager: the database that has the row.
        holder: a name that no other process ever has.
        ttl_s: seconds that a hold lasts by the database's clock.
        renew_s: seconds between renewals.
        margin_s: seconds before the end at which the holder stops deciding, by its own monotonic clock.
    """

    def __init__(self, manager: DatabaseManager, *, holder: str, ttl_s: float, renew_s: float, margin_s: float) -> None:
        self._manager = manager
        self.holder = holder
        self.epoch: int | None = None
        self._ttl_s = ttl_s
        self._renew_s = renew_s
        self._margin_s = margin_s
        self._asked_at = 0.0  # monotonic time just before the request that got or renewed the hold

    def acquire(self) -> str | None:
        """Try to become the leader; return None when it worked, else who leads.

        A hold that this very process has already (the answer to its request was lost) is found again.

        Raises: LeadershipLost, that hold ended while it was being renewed. SwitchyardError BOT-004, somebody's hold
            ends so far ahead that no bot wrote it.
        """
        asked_at = time.monotonic()
        epoch, leader = self._manager.transaction(
            self._take, name="lease-acquire", deadline_s=self._ttl_s / 3, idempotent=True
        )
        if epoch is None:
            return leader
        self.epoch, self._asked_at = epoch, asked_at
        if leader is not None:
            self.renew()  # it began before this request, nobody knows when
        return None

    def _take(self, conn: Connection) -> tuple[int | None, str | None]:
        """Return (epoch, None) of a new hold, (epoch, holder) of our own old one, (None, holder) of somebody else's."""
        free = (BotLease.expires_at <= db_clock(conn)).label("free")
        far_ahead = (BotLease.expires_at > db_clock_in(conn, FAR_AHEAD_S)).label("far_ahead")
        row = conn.execute(
            select(BotLease.holder, BotLease.epoch, BotLease.expires_at, free, far_ahead).where(
                BotLease.name == LEASE_NAME
            )
        ).one_or_none()
        if row is not None and row.far_ahead and row.holder != self.holder:
            raise _far_ahead(row.holder, row.expires_at)
        if row is not None and not row.free:
            return (row.epoch if row.holder == self.holder else None), row.holder
        fresh = {
            "holder": self.holder,
            "acquired_at": db_clock(conn),
            "renewed_at": db_clock(conn),
            "expires_at": db_clock_in(conn, self._ttl_s),
        }
        take = (
            insert_into(conn, BotLease)
            .values(name=LEASE_NAME, epoch=1, **fresh)
            .on_conflict_do_update(
                index_elements=[BotLease.name],
                set_={**fresh, "epoch": BotLease.epoch + 1},
                where=BotLease.expires_at <= db_clock(conn),
            )
            .returning(BotLease.epoch)
        )
        epoch = conn.execute(take).scalar_one_or_none()
        return epoch, None if epoch is not None else "another bot, just now"

    def renewal_due_in(self) -> float:
        """Return the seconds until the next renewal; 0 or less means now."""
        return self._asked_at + self._renew_s - time.monotonic()

    def renew(self) -> None:
        """Make the hold last another TTL.

        Raises: LeadershipLost, the row has another holder or epoch.
        """
        asked_at = time.monotonic()

        def work(conn: Connection) -> int:
            return conn.execute(
                update(BotLease)
                .where(BotLease.name == LEASE_NAME, BotLease.holder == self.holder, BotLease.epoch == self.epoch)
                .values(renewed_at=db_clock(conn), expires_at=db_clock_in(conn, self._ttl_s))
            ).rowcount

        if self._manager.transaction(work, name="lease-renew", deadline_s=self._ttl_s / 3, idempotent=True) == 0:
            raise LeadershipLost(f"epoch {self.epoch} is over")
        self._asked_at = asked_at

    def may_decide(self) -> bool:
        """Return whether the hold lasts long enough to decide on something, by this process's own clock."""
        return self.epoch is not None and time.monotonic() < self._asked_at + self._ttl_s - self._margin_s

    def held(self, conn: Connection, *columns: Any, alone: bool = False) -> Any:
        """Return a query of ``columns`` that has one row while this process leads, and locks it; none otherwise.

        Args:
            conn: a connection in a transaction.
            columns: what the row is to have.
            alone: lock it against this process's other transactions too, not only against a take-over.
        """
        query = select(*columns).where(
            BotLease.name == LEASE_NAME,
            BotLease.holder == self.holder,
            BotLease.epoch == self.epoch,
            BotLease.expires_at > db_clock(conn),
        )
        return locked(conn, query.select_from(BotLease), share=not alone)

    def require(self, conn: Connection, *, alone: bool = False) -> int:
        """Return the epoch under which this transaction may write; until it ends, nobody can take over.

        Args:
            conn: a connection in a transaction.
            alone: wait for this process's other transactions, like one whose COMMIT was never answered.

        Raises: LeadershipLost, this process does not lead.
        """
        epoch = conn.execute(self.held(conn, BotLease.epoch, alone=alone)).scalar_one_or_none()
        if epoch is None:
            raise LeadershipLost(f"epoch {self.epoch} is over")
        return epoch

    def forget(self) -> None:
        """Stop believing to be the leader, without touching the row."""
        self.epoch = None

    def release(self, conn: Connection) -> None:
        """Let the next bot lead at once, in a transaction of the caller's."""
        conn.execute(
            update(BotLease)
            .where(BotLease.name == LEASE_NAME, BotLease.holder == self.holder, BotLease.epoch == self.epoch)
            .values(expires_at=db_clock(conn))
        )


def _far_ahead(holder: str, expires_at: datetime) -> SwitchyardError:
    free_it = "UPDATE bot_lease SET expires_at = now() WHERE name = 'trading-bot'"
    return SwitchyardError(
        "BOT-004",
        f"the lease is held by {holder} until {expires_at.isoformat()}, which no bot wrote; to free it: {free_it}",
        why="The row was changed by hand, or the database's clock was set back. No bot leads until then.",
        fix=f"end {holder} if it still runs, then as the admin: {free_it}",
    )
