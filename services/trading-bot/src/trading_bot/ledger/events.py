"""What people read: rows of system_events."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, insert
from tradedb.models import SystemEvent

from trading_bot.sql import wall_clock


def write_event(
    conn: Connection,
    *,
    event_type: str,
    severity: str,
    message: str,
    session_id: int | None = None,
    error_code: str | None = None,
    details: Mapping[str, Any] | None = None,
    timestamp: datetime | None = None,
) -> None:
    """Tell people what happened.

    Args:
        conn: a connection in a transaction.
        event_type: at most 15 characters, like RECOVERY.
        severity: info, warning, error or critical.
        message: one sentence.
        session_id: of the account that it is about.
        error_code: of docs/troubleshooting.
        details: figures, as JSON values.
        timestamp: when it happened, UTC wall clock; now, when it is not said.
    """
    conn.execute(
        insert(SystemEvent).values(
            timestamp=timestamp or wall_clock(),
            event_type=event_type,
            severity=severity,
            message=message,
            details=dict(details) if details else None,
            component="trading-bot",
            error_code=error_code,
            alert_sent=False,
            session_id=session_id,
            created_at=wall_clock(),
        )
    )
