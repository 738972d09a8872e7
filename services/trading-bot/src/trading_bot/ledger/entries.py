"""The double-entry lines: written with what they are about, never changed, and added up to see that they agree."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

from sqlalchemy import Connection, String, func, select
from tradedb.errors import SwitchyardError
from tradedb.models import LedgerEntry, OrderIntent, TradingSession

from trading_bot.books import Account, Line, opening
from trading_bot.lease import Lease
from trading_bot.ledger.state import recorded_fills
from trading_bot.orders import quote_currency
from trading_bot.sql import db_clock, insert_into, is_postgres

CATCH_UP_FILLS = 500


def insert_lines(
    conn: Connection, lines: Sequence[Line], *, session_id: int, venue: str, venue_trade_id: str | None, epoch: int
) -> None:
    """Write the lines of one fact; those that are there already stay as they are.

    Raises: AssertionError, they do not add up to 0 (SQLite has nothing that could test it later).
    """
    for currency in {line.currency for line in lines}:
        total = sum((line.amount for line in lines if line.currency == currency), Decimal(0))
        assert total == 0, f"lines of {venue_trade_id} are out of balance by {total} {currency}"  # noqa: S101
    conn.execute(
        insert_into(conn, LedgerEntry)
        .values(
            [
                {
                    "session_id": session_id,
                    "venue": venue,
                    "venue_trade_id": venue_trade_id,
                    "account": line.account,
                    "currency": line.currency,
                    "amount": line.amount,
                    "recorded_at": db_clock(conn),
                    "lease_epoch": epoch,
                }
                for line in lines
            ]
        )
        .on_conflict_do_nothing()
    )


def sessions_without_books(conn: Connection) -> list[int]:
    """Return the sessions with decisions of ours whose books were never opened: from before there were any."""
    rows = conn.execute(
        select(TradingSession.id)
        .where(
            select(OrderIntent.intent_id).where(OrderIntent.session_id == TradingSession.id).exists(),
            ~select(LedgerEntry.entry_id)
            .where(LedgerEntry.session_id == TradingSession.id, LedgerEntry.venue_trade_id.is_(None))
            .exists(),
        )
        .order_by(TradingSession.id)
    )
    return list(rows.scalars())


def catch_up(conn: Connection, lease: Lease, session_id: int, *, after: int = 0) -> int | None:
    """Write the lines of a session's fills from before there were books, CATCH_UP_FILLS at a time.

    Args:
        conn: a connection in a transaction.
        lease: of the leader.
        session_id: one of ``sessions_without_books``.
        after: how many of its fills have been looked at.

    Returns: how many have been looked at now; None when that was all. The opening lines come with the last ones, so
        that a session whose books are not complete is found again.
    Raises: LeadershipLost, SwitchyardError BOT-003 (the fills do not add up); nothing is written.
    """
    epoch = lease.require(conn)
    row = conn.execute(
        select(TradingSession.initial_balance, TradingSession.symbol, TradingSession.exchange).where(
            TradingSession.id == session_id
        )
    ).one()
    account = Account(session_id=session_id, initial_balance=row.initial_balance)
    for n, fill in enumerate(recorded_fills(conn, session_id)):
        posting = account.post(fill)
        if n >= after + CATCH_UP_FILLS:
            return n
        if n >= after:
            insert_lines(
                conn,
                posting.lines,
                session_id=session_id,
                venue=fill.venue,
                venue_trade_id=fill.venue_trade_id,
                epoch=epoch,
            )
        account = posting.account
    lines = opening(row.initial_balance, quote_currency(row.symbol))
    insert_lines(conn, lines, session_id=session_id, venue=row.exchange, venue_trade_id=None, epoch=epoch)
    return None


def require_balance(conn: Connection, account: Account) -> None:
    """Do nothing when the ledger's lines of this session come to what its fills make of it.

    Raises: SwitchyardError BOT-007, they do not.
    """
    booked = _sums(conn, account.session_id)
    for name, expected in account.totals().items():
        if booked.get(name, Decimal(0)) != expected:
            raise SwitchyardError(
                "BOT-007",
                f"the books of session {account.session_id} do not balance: {name} is {booked.get(name, Decimal(0)):f}"
                f" in ledger_entries, {expected:f} by its fills",
                why="Rows were added or changed by hand or by another program. The bot decides nothing more.",
                fix="compare ledger_entries with fills for that session; the ledger is corrected by further entries",
            )


def _sums(conn: Connection, session_id: int) -> dict[str, Decimal]:
    of_session = LedgerEntry.session_id == session_id
    if is_postgres(conn):
        summed = func.sum(LedgerEntry.amount, type_=LedgerEntry.amount.type)
        query = select(LedgerEntry.account, summed).where(of_session).group_by(LedgerEntry.account)
        return {row[0]: row[1] for row in conn.execute(query)}
    sums: dict[str, Decimal] = {}  # SQLite would add up doubles
    for account, amount in conn.execute(select(LedgerEntry.account, LedgerEntry.amount.cast(String)).where(of_session)):
        sums[account] = sums.get(account, Decimal(0)) + Decimal(amount)
    return sums
