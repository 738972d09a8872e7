"""Positions and trades, as the original tables keep them: derived from the account, for people and pages."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import Connection, insert, select, update
from tradedb.models import OrderIntent, Position, Trade, TradingSession

from trading_bot.books import OpenPosition, RoundTrip
from trading_bot.orders import VenueFill
from trading_bot.sql import insert_into, naive


def write_position(conn: Connection, position: OpenPosition, fill: VenueFill, session_id: int, now: datetime) -> None:
    """Write the open position as it is after a fill: a new row, or the row of the same entry."""
    as_it_is = {
        "entry_price": position.entry_price,
        "size": position.balance_share,
        "quantity": position.quantity,
        "current_price": fill.price,
        "unrealized_pnl": position.unrealized_pnl(fill.price),
        "unrealized_pnl_percent": position.unrealized_pnl_percent(fill.price),
        "last_update": now,
        "updated_at": now,
    }
    conn.execute(
        insert_into(conn, Position)
        .values(
            symbol=position.symbol,
            side="LONG",
            status="OPEN",
            trailing_stop=False,
            entry_time=naive(position.opened_at),
            strategy_name=_strategy_name(session_id),
            order_id=position.intent_id,
            exchange=fill.venue,
            session_id=session_id,
            created_at=now,
            **as_it_is,
        )
        .on_conflict_do_update(index_elements=[Position.order_id], set_=as_it_is)
    )


def write_trade(
    conn: Connection, trip: RoundTrip, fill: VenueFill, session_id: int, timeframe: str, now: datetime
) -> None:
    """Close the position and write its trade, together: no reader sees one without the other."""
    position_id = conn.execute(
        update(Position)
        .where(Position.order_id == trip.entry.intent_id, Position.status == "OPEN")
        .values(
            status="CLOSED",
            entry_price=trip.entry_price,
            size=trip.entry.balance_share,
            quantity=trip.quantity,
            current_price=fill.price,
            unrealized_pnl=Decimal(0),
            unrealized_pnl_percent=0.0,
            last_update=now,
            updated_at=now,
        )
        .returning(Position.id)
    ).scalar_one()
    conn.execute(
        insert(Trade).values(
            symbol=trip.entry.symbol,
            side="LONG",
            source="PAPER",
            entry_price=trip.entry_price,
            exit_price=trip.exit_price,
            size=trip.entry.balance_share,
            quantity=trip.quantity,
            entry_time=naive(trip.entry.opened_at),
            exit_time=naive(trip.exit_time),
            pnl=trip.pnl,
            pnl_percent=trip.pnl_percent,
            commission=trip.fees,
            exit_reason=select(OrderIntent.reason)
            .where(OrderIntent.intent_id == trip.exit_intent_id)
            .scalar_subquery(),
            strategy_name=_strategy_name(session_id),
            order_id=trip.exit_intent_id,
            exchange=fill.venue,
            timeframe=timeframe,
            position_id=position_id,
            session_id=session_id,
            created_at=now,
            updated_at=now,
        )
    )


def _strategy_name(session_id: int) -> Any:
    return select(TradingSession.strategy_name).where(TradingSession.id == session_id).scalar_subquery()
