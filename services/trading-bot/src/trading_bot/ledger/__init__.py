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
    cancel_intent,
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
    intent_status,
    load_account,
    newest_fill,
    open_quarantine,
    pending_intents,
)

__all__ = [
    "Cursor",
    "Curve",
    "Recorded",
    "Session",
    "SessionTerms",
    "StateMoved",
    "UnknownIntent",
    "cancel_intent",
    "catch_up",
    "contradictions",
    "end_session",
    "filled_quantity",
    "fills_by_id",
    "intent_status",
    "load_account",
    "load_curve",
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
    "sessions_without_books",
    "write_event",
]
