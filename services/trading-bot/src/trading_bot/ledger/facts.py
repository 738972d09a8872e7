"""Facts: what the venue says, recorded once under the venue's own id, and quarantined when it contradicts itself."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from decimal import Decimal
from hashlib import blake2b
from typing import Any, Literal

from sqlalchemy import Connection, select, update
from tradedb.models import Fill, OrderIntent, QuarantinedFact, TradingSession, VenueOrder

from trading_bot.books import Account, DoesNotFit
from trading_bot.lease import Lease
from trading_bot.ledger.curve import Curve, insert_point
from trading_bot.ledger.entries import insert_lines
from trading_bot.ledger.events import write_event
from trading_bot.ledger.locks import StateMoved, compare_held, lock_session
from trading_bot.ledger.positions import write_position, write_trade
from trading_bot.ledger.state import filled_quantity, fills_by_id
from trading_bot.orders import Intent, OrderReport, VenueFill
from trading_bot.sql import db_clock, insert_into, wall_clock

_NOT_CONTENT = ("sequence",)  # a venue that lost its state numbers anew; the fact is the same


class UnknownIntent(Exception):
    """A fill of an order that this database has no decision of."""

    def __init__(self, what: str) -> None:
        super().__init__(what)
        self.what = what


@dataclass(frozen=True, slots=True)
class Recorded:
    """What came of a fill, and the account and its curve afterwards (as before, unless it was recorded).

    ``intent_over``: with this fill, all that was ordered is filled.
    """

    outcome: Literal["recorded", "known", "quarantined"]
    account: Account
    curve: Curve
    intent_over: bool = False


def record_fill(
    conn: Connection,
    lease: Lease,
    account: Account,
    curve: Curve,
    fill: VenueFill,
    *,
    timeframe: str,
    replayed: bool = False,
) -> Recorded:
    """Record a fill with everything that follows from it: all of it or nothing, and twice is once.

    The fill, its ledger lines, position or trade, the order's and the intent's status, a point of the equity curve and
    the session's totals are one transaction, which the lease fences.

    Args:
        conn: a connection in a transaction.
        lease: of the leader.
        account: the account that the fill's intent belongs to, as believed.
        curve: its equity curve.
        fill: what the venue says.
        timeframe: of the candles, like ``2s``.
        replayed: it comes from the spool, after an outage.

    Raises:
        LeadershipLost, StateMoved, UnknownIntent, DoesNotFit (BOT-003, what is held or was ordered is something else):
            nothing is written.
    """
    epoch = lease.require(conn)
    lock_session(conn, account.session_id)
    intent = conn.execute(
        select(OrderIntent.session_id, OrderIntent.venue, OrderIntent.quantity, OrderIntent.lease_epoch).where(
            OrderIntent.intent_id == fill.intent_id
        )
    ).one_or_none()
    if intent is None:
        raise UnknownIntent(f"fill {fill.venue_trade_id} is of {fill.intent_id}, which nobody decided here")
    if intent.session_id != account.session_id:
        raise StateMoved(f"fill {fill.venue_trade_id} belongs to session {intent.session_id}")
    columns = asdict(fill)
    columns["venue_sequence"] = columns.pop("sequence") or None
    inserted = conn.execute(
        insert_into(conn, Fill)
        .values(**columns, recorded_at=db_clock(conn), lease_epoch=epoch, late=replayed or epoch > intent.lease_epoch)
        .on_conflict_do_nothing(index_elements=[Fill.venue, Fill.venue_trade_id])
    )
    if inserted.rowcount == 0:
        stored = fills_by_id(conn, fill.venue, [fill.venue_trade_id])[fill.venue_trade_id]
        if not contradictions(stored, fill):
            return Recorded("known", account, curve)
        quarantine_fill(conn, lease, fill, stored, session_id=account.session_id)
        return Recorded("quarantined", account, curve)
    _require_ordered(conn, fill, intent.venue, intent.quantity)
    compare_held(conn, account)
    posting = account.post(fill)
    after, now = posting.account, wall_clock()
    insert_lines(
        conn,
        posting.lines,
        session_id=account.session_id,
        venue=fill.venue,
        venue_trade_id=fill.venue_trade_id,
        epoch=epoch,
    )
    if posting.trip is not None:
        write_trade(conn, posting.trip, fill, account.session_id, timeframe, now)
    elif after.position is not None:
        write_position(conn, after.position, fill, account.session_id, now)
    whole = _advance_order(conn, fill, intent.quantity)
    curve = insert_point(conn, after, curve, fill.price, now)
    conn.execute(
        update(TradingSession)
        .where(TradingSession.id == account.session_id)
        .values(
            total_pnl=after.balance - after.initial_balance,
            total_trades=after.trades,
            win_rate=after.win_rate,
            max_drawdown=curve.max_drawdown_percent,
            updated_at=now,
        )
    )
    return Recorded("recorded", after, curve, intent_over=whole)


def _require_ordered(conn: Connection, fill: VenueFill, venue: str, ordered: Decimal) -> None:
    """Raise DoesNotFit where a fill that has just been written is not what was ordered."""
    if fill.venue != venue:
        what = f"it is of {fill.venue}, and its order was for {venue}"
    elif (filled := filled_quantity(conn, fill.intent_id)) > ordered:
        what = f"with it, {filled:f} of the {ordered:f} that were ordered would be filled"
    else:
        return
    raise DoesNotFit("BOT-003", f"fill {fill.venue_trade_id}: {what}", why="Nothing was recorded.", fix="see BOT-005")


def _advance_order(conn: Connection, fill: VenueFill, ordered: Decimal) -> bool:
    """Let the order and the intent say how much is filled, by the fills that are recorded; return whether it is all."""
    filled = filled_quantity(conn, fill.intent_id)
    whole = filled >= ordered
    conn.execute(
        update(VenueOrder)
        .where(VenueOrder.venue == fill.venue, VenueOrder.client_order_id == fill.intent_id)
        .values(filled_quantity=filled, status="FILLED" if whole else "PARTIALLY_FILLED", updated_at=db_clock(conn))
    )
    if whole:
        conn.execute(
            update(OrderIntent)
            .where(OrderIntent.intent_id == fill.intent_id)  # also one that was taken for cancelled: this is a fact
            .values(status="FILLED", updated_at=db_clock(conn))
        )
    return whole


def record_order(
    conn: Connection, lease: Lease, intent: Intent, report: OrderReport, *, complete: bool = False
) -> bool:
    """Write what the venue says about an order; return whether its intent is over.

    The row says no more filled than there are fills recorded, and an order that is over at the venue ends its intent
    once each of its fills is.

    Args:
        conn: a connection in a transaction.
        lease: of the leader.
        intent: what the order carries out.
        report: what the venue says now.
        complete: every fill that will ever be recorded of it is.

    Raises: LeadershipLost; nothing is written.
    """
    epoch = lease.require(conn)
    lock_session(conn, intent.session_id)
    filled = filled_quantity(conn, intent.intent_id)
    over = filled >= intent.quantity or (report.over and (complete or filled >= report.filled_quantity))
    if filled >= intent.quantity:
        status = "FILLED"
    elif over:
        status = report.status
    else:
        status = "PARTIALLY_FILLED" if filled else "ACCEPTED"
    as_it_is = {
        "venue_order_id": report.venue_order_id,
        "filled_quantity": filled,
        "status": status,
        "accepted_at": report.accepted_at,
        "updated_at": db_clock(conn),
    }
    conn.execute(
        insert_into(conn, VenueOrder)
        .values(
            venue=report.venue,
            client_order_id=report.client_order_id,
            session_id=intent.session_id,
            symbol=report.symbol,
            side=report.side,
            quantity=report.quantity,
            submitted_at=db_clock(conn),
            lease_epoch=epoch,
            **as_it_is,
        )
        .on_conflict_do_update(index_elements=[VenueOrder.venue, VenueOrder.client_order_id], set_=as_it_is)
    )
    if over:
        _end_intent(conn, intent.intent_id, status)
    return over


def _end_intent(conn: Connection, intent_id: str, status: str) -> None:
    conn.execute(
        update(OrderIntent)
        .where(OrderIntent.intent_id == intent_id, OrderIntent.status == "PENDING")
        .values(status=status, updated_at=db_clock(conn))
    )


def contradictions(stored: VenueFill, received: VenueFill) -> list[str]:
    """Return the names of the fields in which two facts under the same id differ."""
    return [
        name
        for name in VenueFill.__dataclass_fields__
        if name not in _NOT_CONTENT and getattr(stored, name) != getattr(received, name)
    ]


def quarantine_fill(
    conn: Connection,
    lease: Lease,
    received: VenueFill,
    stored: VenueFill | None,
    *,
    session_id: int | None = None,
    why: str | None = None,
) -> bool:
    """Keep a fact that cannot be recorded, apart, and raise the alarm; return whether it is a new one.

    Args:
        conn: a connection in a transaction.
        lease: of the leader.
        received: what the venue says now.
        stored: what is recorded under the same id; None when nothing is.
        session_id: of the account that it is about.
        why: in words, where the two are not what differs.

    Raises: LeadershipLost; nothing is written.
    """
    epoch = lease.require(conn)
    body = _as_json(received)
    differing = why or ", ".join(contradictions(stored, received) if stored else ())
    written = conn.execute(
        insert_into(conn, QuarantinedFact)
        .values(
            venue=received.venue,
            venue_trade_id=received.venue_trade_id,
            kind="fill",
            digest=blake2b(json.dumps(body, sort_keys=True).encode(), digest_size=16).hexdigest(),
            received=body,
            stored=_as_json(stored) if stored else None,
            differing=differing,
            quarantined_at=db_clock(conn),
            lease_epoch=epoch,
        )
        .on_conflict_do_nothing()
    )
    if written.rowcount == 0:
        return False
    write_event(
        conn,
        event_type="ALERT",
        severity="critical",
        message=f"fill {received.venue_trade_id} of {received.venue} contradicts the books ({differing}): quarantined",
        error_code="BOT-005",
        session_id=session_id,
        details={"received": body, "stored": _as_json(stored) if stored else None},
    )
    return True


def _as_json(fill: VenueFill) -> Mapping[str, Any]:
    """Amounts and times as text; without what is not content, so that the same fact has the same digest."""
    return {name: str(value) for name, value in asdict(fill).items() if name not in _NOT_CONTENT}
