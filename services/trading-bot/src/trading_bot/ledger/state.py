"""Reading back what was decided and what came of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from sqlalchemy import Connection, func, nulls_last, select
from tradedb.models import Fill, LedgerEntry, OrderIntent, QuarantinedFact, TradingSession

from trading_bot.books import Account, derive
from trading_bot.orders import Intent, VenueFill

_FETCH_ROWS = 2_000
_INTENT_COLUMNS = tuple(getattr(OrderIntent, name) for name in Intent.__dataclass_fields__)
_FILL_COLUMNS = tuple(
    getattr(Fill, "venue_sequence" if name == "sequence" else name) for name in VenueFill.__dataclass_fields__
)


def load_account(conn: Connection, session_id: int) -> Account:
    """Return the account as its recorded fills make it.

    Raises: SwitchyardError BOT-003, the fills do not add up.
    """
    initial = conn.execute(select(TradingSession.initial_balance).where(TradingSession.id == session_id)).scalar_one()
    return derive(session_id, initial, recorded_fills(conn, session_id))


def recorded_fills(conn: Connection, session_id: int) -> Iterator[VenueFill]:
    """Return the fills of a session in the order in which they were recorded."""
    # The order is that of the ledger's numbers: a clock may step back. Fills from before there were books come first
    # in their turn, or last, by time, while they have no lines yet.
    query = (
        select(*_FILL_COLUMNS)
        .join(OrderIntent, OrderIntent.intent_id == Fill.intent_id)
        .outerjoin(
            LedgerEntry,
            (LedgerEntry.session_id == session_id)
            & (LedgerEntry.venue == Fill.venue)
            & (LedgerEntry.venue_trade_id == Fill.venue_trade_id)
            & (LedgerEntry.account == "inventory"),
        )
        .where(OrderIntent.session_id == session_id)
        .order_by(nulls_last(LedgerEntry.entry_id), Fill.recorded_at, Fill.filled_at)
        .execution_options(yield_per=_FETCH_ROWS)
    )
    for row in conn.execute(query):
        yield _fill(row)


def fills_by_id(conn: Connection, venue: str, venue_trade_ids: Iterable[str]) -> dict[str, VenueFill]:
    """Return what is recorded under these ids of a venue."""
    rows = conn.execute(
        select(*_FILL_COLUMNS).where(Fill.venue == venue, Fill.venue_trade_id.in_(list(venue_trade_ids)))
    )
    return {row.venue_trade_id: _fill(row) for row in rows}


def pending_intents(conn: Connection, venue: str) -> list[Intent]:
    """Return what was decided for a venue and is not over yet, oldest first."""
    rows = conn.execute(
        select(*_INTENT_COLUMNS)
        .where(OrderIntent.status == "PENDING", OrderIntent.venue == venue)
        .order_by(OrderIntent.created_at)
    )
    return [Intent(*row) for row in rows]


def load_intent(conn: Connection, intent_id: str) -> Intent:
    """Return an intent that is there."""
    return Intent(*conn.execute(select(*_INTENT_COLUMNS).where(OrderIntent.intent_id == intent_id)).one())


def session_of_intent(conn: Connection, intent_id: str) -> int | None:
    """Return the session that an intent belongs to; None when it was never committed."""
    return conn.execute(select(OrderIntent.session_id).where(OrderIntent.intent_id == intent_id)).scalar_one_or_none()


def last_exit_reason(conn: Connection, session_id: int) -> str | None:
    """Return why the last position of a session was closed; None when none was."""
    return conn.execute(
        select(OrderIntent.reason)
        .where(OrderIntent.session_id == session_id, OrderIntent.leg == "EXIT", OrderIntent.status == "FILLED")
        .order_by(OrderIntent.created_at.desc())
        .limit(1)
    ).scalar_one_or_none()


def known_intents(conn: Connection, intent_ids: Iterable[str]) -> set[str]:
    """Return which of these intents are there."""
    rows = conn.execute(select(OrderIntent.intent_id).where(OrderIntent.intent_id.in_(list(intent_ids))))
    return set(rows.scalars())


def filled_quantity(conn: Connection, intent_id: str) -> Decimal:
    """Return how much of an intent has been filled by what is recorded."""
    quantities = conn.execute(select(Fill.quantity).where(Fill.intent_id == intent_id)).scalars()
    return sum(quantities, Decimal(0))


@dataclass(frozen=True, slots=True)
class Cursor:
    """The newest fill of a venue that is recorded, by the venue's own order; (0, None) before the first."""

    sequence: int = 0
    venue_trade_id: str | None = None


def newest_fill(conn: Connection, venue: str) -> Cursor:
    """Return up to where the venue's fills are recorded."""
    row = conn.execute(
        select(Fill.venue_sequence, Fill.venue_trade_id)
        .where(Fill.venue == venue, Fill.venue_sequence.is_not(None))
        .order_by(Fill.venue_sequence.desc(), Fill.recorded_at.desc())
        .limit(1)
    ).one_or_none()
    return Cursor(row.venue_sequence, row.venue_trade_id) if row else Cursor()


def open_quarantine(conn: Connection) -> int:
    """Return how many contradicting facts nobody has looked at yet."""
    return conn.execute(select(func.count()).where(QuarantinedFact.resolved_at.is_(None))).scalar_one()


def _fill(row: Any) -> VenueFill:
    *values, sequence = row
    return VenueFill(*values, sequence=sequence or 0)
