"""Decisions: committed before anything is done about them, fenced, once."""

from __future__ import annotations

from dataclasses import astuple
from typing import Any

from sqlalchemy import Connection, literal, select
from tradedb.models import BotLease, OrderIntent

from trading_bot.books import Account
from trading_bot.lease import Lease
from trading_bot.ledger.locks import StateMoved, lock_account, lock_session
from trading_bot.orders import Intent
from trading_bot.sql import db_clock, insert_into

_SAME = ("session_id", "venue", "symbol", "side", "leg", "quantity")  # what an id stands for


def place_intent(conn: Connection, lease: Lease, account: Account, intent: Intent) -> str:
    """Commit a decision, once; return the status of the intent with that id.

    Raises:
        LeadershipLost: this process does not lead; nothing is written.
        StateMoved: something else is pending, or held, than the account says, or the id stands for something else;
            nothing is written.
    """
    lock_account(conn, account)
    pending = conn.execute(
        select(OrderIntent.intent_id).where(
            OrderIntent.session_id == account.session_id,
            OrderIntent.status == "PENDING",
            OrderIntent.intent_id != intent.intent_id,
        )
    ).first()
    if pending is not None:
        raise StateMoved(f"intent {pending.intent_id} is still pending")
    return _insert(conn, lease, intent)


def restore_intent(conn: Connection, lease: Lease, intent: Intent) -> str:
    """Write down a decision that was acted on, or may have been, while this database did not hear of it.

    Raises: LeadershipLost, this process does not lead; nothing is written.
    """
    lock_session(conn, intent.session_id)
    return _insert(conn, lease, intent)


def _insert(conn: Connection, lease: Lease, intent: Intent) -> str:
    """One statement tests the lease and writes the row."""
    table = OrderIntent.__table__
    names = list(Intent.__dataclass_fields__)
    values: list[Any] = [
        literal(value, table.c[name].type).label(name) for name, value in zip(names, astuple(intent), strict=True)
    ]
    decided = lease.held(
        conn,
        *values,
        BotLease.epoch,
        literal("PENDING", table.c.status.type),
        db_clock(conn),
        db_clock(conn).label("updated_at"),
    )
    written = conn.execute(
        insert_into(conn, OrderIntent)
        .from_select([*names, "lease_epoch", "status", "created_at", "updated_at"], decided)
        .on_conflict_do_nothing(index_elements=[OrderIntent.intent_id])
    )
    if written.rowcount == 1:
        return "PENDING"
    lease.require(conn)  # no row: either this process no longer leads, or the decision stands already
    there = conn.execute(
        select(*(table.c[name] for name in _SAME), table.c.status).where(table.c.intent_id == intent.intent_id)
    ).one_or_none()
    if there is None:
        raise StateMoved(f"intent {intent.intent_id} was neither written nor there")
    *stands, status = there
    if status == "PENDING" and stands != [getattr(intent, name) for name in _SAME]:
        raise StateMoved(f"intent {intent.intent_id} stands there as another decision, which is still pending")
    return str(status)
