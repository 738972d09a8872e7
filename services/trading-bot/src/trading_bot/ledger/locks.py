"""Holding still what is being changed, and seeing that it is what the caller believes.

The session's row is locked, and what is held is compared with what the caller believes. A COMMIT whose answer was lost
may still be under way in the server; that lock waits for it, and the comparison sees what it did.
"""

from __future__ import annotations

from sqlalchemy import Connection, select
from tradedb.models import Position, TradingSession

from trading_bot.books import Account
from trading_bot.sql import locked


class StateMoved(Exception):
    """The database holds something else than this process believes: look again before deciding."""


def lock_session(conn: Connection, session_id: int) -> None:
    """Let nobody else change this session until the end of the transaction."""
    conn.execute(locked(conn, select(TradingSession.id).where(TradingSession.id == session_id)))


def lock_account(conn: Connection, account: Account) -> None:
    """Let nobody else change this account until the end of the transaction, and see that it is as believed.

    Raises: StateMoved.
    """
    lock_session(conn, account.session_id)
    compare_held(conn, account)


def compare_held(conn: Connection, account: Account) -> None:
    """Do nothing when the open position is the one that the account has.

    Raises: StateMoved.
    """
    rows = conn.execute(
        select(Position.order_id, Position.quantity).where(
            Position.session_id == account.session_id, Position.status == "OPEN"
        )
    )
    # as floats: SQLite keeps this table's numbers as REAL
    held = [(order_id, float(quantity or 0)) for order_id, quantity in rows]
    position = account.position
    believed = [(position.intent_id, float(position.quantity))] if position else []
    if held != believed:
        raise StateMoved(f"session {account.session_id} holds something else than {believed}")
