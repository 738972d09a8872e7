"""The equity curve: points of account_history, and what each needs from those before it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from sqlalchemy import Connection, func, insert, select, update
from tradedb.models import AccountHistory, Position, TradingSession

from trading_bot.books import Account
from trading_bot.lease import Lease
from trading_bot.ledger.locks import lock_account
from trading_bot.sql import wall_clock


@dataclass(frozen=True, slots=True)
class Curve:
    """What the equity curve needs from its past."""

    peak_equity: Decimal
    day: datetime  # midnight, UTC wall clock
    day_start_balance: Decimal
    last_balance: Decimal  # at the last point
    max_drawdown_percent: float

    def moved_to(self, now: datetime, *, balance: Decimal, equity: Decimal) -> Curve:
        """Return the curve after a point at ``now`` (UTC wall clock)."""
        peak = max(self.peak_equity, equity)
        day = _midnight(now)
        return Curve(
            peak_equity=peak,
            day=day,
            day_start_balance=self.day_start_balance if day == self.day else self.last_balance,
            last_balance=balance,
            max_drawdown_percent=max(self.max_drawdown_percent, _percent_below(peak, equity)),
        )

    def first_balance_of_day(self) -> Decimal:
        """Return the balance at 00:00 UTC today, or the first one of a session that began later."""
        return self.day_start_balance if self.day == _midnight(wall_clock()) else self.last_balance


def load_curve(conn: Connection, account: Account) -> Curve:
    """Return what the equity curve needs from the rows before."""
    history = select(AccountHistory.balance).where(AccountHistory.session_id == account.session_id)
    peak = conn.execute(
        select(func.max(AccountHistory.equity, type_=AccountHistory.equity.type)).where(
            AccountHistory.session_id == account.session_id
        )
    ).scalar_one_or_none()
    day = _midnight(wall_clock())
    day_start = conn.execute(
        history.where(AccountHistory.timestamp < day).order_by(AccountHistory.timestamp.desc()).limit(1)
    ).scalar_one_or_none()
    max_drawdown = conn.execute(
        select(TradingSession.max_drawdown).where(TradingSession.id == account.session_id)
    ).scalar_one_or_none()
    return Curve(
        peak_equity=max(peak or account.initial_balance, account.initial_balance),
        day=day,
        day_start_balance=account.initial_balance if day_start is None else day_start,
        last_balance=account.balance,  # each fill writes a point
        max_drawdown_percent=max_drawdown or 0.0,
    )


def record_snapshot(conn: Connection, lease: Lease, account: Account, curve: Curve, price: Decimal) -> Curve:
    """Write a point of the equity curve and mark the open position to ``price``.

    Raises: LeadershipLost, StateMoved; nothing is written.
    """
    lease.require(conn)
    lock_account(conn, account)
    now = wall_clock()
    if account.position is not None:
        conn.execute(
            update(Position)
            .where(Position.order_id == account.position.intent_id, Position.status == "OPEN")
            .values(
                current_price=price,
                unrealized_pnl=account.position.unrealized_pnl(price),
                unrealized_pnl_percent=account.position.unrealized_pnl_percent(price),
                last_update=now,
                updated_at=now,
            )
        )
    return insert_point(conn, account, curve, price, now)


def insert_point(conn: Connection, account: Account, curve: Curve, price: Decimal, now: datetime) -> Curve:
    """Write one point (``now`` in UTC wall clock) and return the curve after it."""
    equity = account.equity(price)
    curve = curve.moved_to(now, balance=account.balance, equity=equity)
    conn.execute(
        insert(AccountHistory).values(
            timestamp=now,
            balance=account.balance,
            equity=equity,
            margin_used=account.inventory,
            margin_available=account.cash,
            total_pnl=account.balance - account.initial_balance,
            daily_pnl=account.balance - curve.day_start_balance,
            drawdown=_percent_below(curve.peak_equity, equity),
            open_positions=1 if account.position else 0,
            total_exposure=account.position.quantity * price if account.position else Decimal(0),
            session_id=account.session_id,
            created_at=now,
        )
    )
    return curve


def _midnight(now: datetime) -> datetime:
    return now.replace(hour=0, minute=0, second=0, microsecond=0)


def _percent_below(peak: Decimal, equity: Decimal) -> float:
    return float((peak - equity) / peak * 100) if peak > 0 else 0.0
