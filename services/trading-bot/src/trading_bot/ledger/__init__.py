"""Everything the bot writes, one transaction each: all of it or nothing, and twice is once.

Each function gets a connection inside a transaction and a lease. The lease row is tested and locked first, so a bot
that no longer leads writes nothing; the new leader learns the same facts from the venue and its spool. Then the
session's row is locked (``locks``).
"""

from trading_bot.ledger.curve import Curve, load_curve, record_snapshot
from trading_bot.ledger.entries import catch_up, require_balance, sessions_without_books
from trading_bot.ledger.events import write_event
from trading_bot.ledger.facts import (
    Recorded,
    UnknownIntent,
    contradictions,
    quarantine_fill,
    record_fill,
    record_order,
)
from trading_bot.ledger.intents import place_intent, restore_intent
from trading_bot.ledger.locks import StateMoved
from trading_bot.ledger.sessions import (
    Session,
    SessionTerms,
    end_session,
    open_session,
    other_active_sessions,
)
from trading_bot.ledger.state import (
    Cursor,
    filled_quantity,
    fills_by_id,
    known_intents,
    last_exit_reason,
    load_account,
    load_intent,
    newest_fill,
    open_quarantine,
    pending_intents,
    session_of_intent,
)

__all__ = [
    "Cursor",
    "Curve",
    "Recorded",
    "Session",
    "SessionTerms",
    "StateMoved",
    "UnknownIntent",
    "catch_up",
    "contradictions",
    "end_session",
    "filled_quantity",
    "fills_by_id",
    "known_intents",
    "last_exit_reason",
    "load_account",
    "load_curve",
    "load_intent",
    "newest_fill",
    "open_quarantine",
    "open_session",
    "other_active_sessions",
    "pending_intents",
    "place_intent",
    "quarantine_fill",
    "record_fill",
    "record_order",
    "record_snapshot",
    "require_balance",
    "restore_intent",
    "session_of_intent",
    "sessions_without_books",
    "write_event",
]
