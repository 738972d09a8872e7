"""What the loop tells the rest of the process about itself."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Literal

from trading_bot.spool import SpoolState

Role = Literal["starting", "leader", "standby", "waiting", "stopping"]
HEARTBEAT_STALE_S = 60.0


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One consistent view of the loop.

    ``reason`` says why the role is ``waiting``, ``halted`` what is in the way of entries; ``heartbeat_at`` is
    monotonic.
    """

    role: Role = "starting"
    reason: str | None = "the first connection to the database has not been made yet"
    epoch: int | None = None
    leader: str | None = None
    session_id: int | None = None
    last_candle: datetime | None = None
    halted: tuple[str, ...] = ()
    spool: SpoolState | None = None
    heartbeat_at: float = 0.0

    @property
    def heartbeat_age_s(self) -> float:
        """Return the seconds since the loop last came round."""
        return time.monotonic() - self.heartbeat_at

    @property
    def loop_alive(self) -> bool:
        """Return whether the loop came round lately. Waiting for a lost database counts as coming round."""
        return self.heartbeat_age_s <= HEARTBEAT_STALE_S


class Status:
    """Written by the loop, read by the HTTP server."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._now = Snapshot(heartbeat_at=time.monotonic())

    def beat(self) -> None:
        """Say that the loop came round."""
        self.set(heartbeat_at=time.monotonic())

    def set(self, **changes: object) -> None:
        """Change fields of the snapshot."""
        with self._lock:
            self._now = replace(self._now, **changes)  # type: ignore[arg-type]  # names are checked by replace itself

    def get(self) -> Snapshot:
        """Return the current snapshot."""
        with self._lock:
            return self._now
