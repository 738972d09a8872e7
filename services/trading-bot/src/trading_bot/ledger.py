"""Everything the bot writes, one transaction each: all of it or nothing, and twice is once.

Each function gets a connection inside a transaction and a lease. The lease row is tested and locked first, so a bot
that no longer leads writes nothing. The paper broker's fills are computed and not facts from outside, so they too are
only recorded by the leader: a new one computes the same fill from the same intent.

The session's row is locked next, and what is held is compared with what the caller believes. A COMMIT whose answer
was lost may still be under way in the server; that lock waits for it, and the comparison sees what it did.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import astuple, dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import Connection, func, insert, literal, select, update
from tradedb.models import AccountHistory, BotLease, Fill, OrderIntent, Position, SystemEvent, Trade, TradingSession

from trading_bot.books import Account, RoundTrip, derive
from trading_bot.feed import SIMULATED
from trading_bot.lease import Lease
from trading_bot.orders import Intent, VenueFill
from trading_bot.sql import db_clock, insert_into, locked, naive, wall_clock

SESSION_PREFIX = "switchyard-"
_FETCH_ROWS = 2_000
_FILL_COLUMNS = {"sequence": "venue_sequence"}  # where a field and its column have different names


class StateMoved(Exception):
    """The database holds something else than this process believes: look again before deciding."""


@dataclass(frozen=True, slots=True)
class Curve:
    """What the equity curve needs from its past."""

    peak_equity: Decimal
    day: datetime  # midnight, UTC wall clock
    day_start_balance: Decimal
    max_drawdown_percent: float

    def moved_to(self, now: datetime, *, balance: Decimal, equity: Decimal) -> Curve:
        """Return the curve after a point at ``now`` (UTC wall clock)."""
        peak = max(self.peak_equity, equity)
        day = now.replace(hour=0, minute=0, second=0, microsecond=0)
        return Curve(
            peak_equity=peak,
            day=day,
            day_start_balance=self.day_start_balance if day == self.day else balance,
            max_drawdown_percent=max(self.max_drawdown_percent, _percent_below(peak, equity)),
        )


# --- sessions ---------------------------------------------------------------------------------------------------------


def open_session(
    conn: Connection,
    lease: Lease,
    *,
    strategy_name: str,
    strategy_config: dict[str, Any],
    symbol: str,
    timeframe: str,
    initial_balance: Decimal,
) -> tuple[int, bool]:
    """Return the id of the account that this bot trades on, and whether it is new.

    A session is an account, not a run of the process: the active one of the same strategy and symbol is taken up
    again, with the balance it has. Nothing ends it when the bot stops, because nothing ended. Sessions that came from
    elsewhere (copied history has active ones) have another exchange or name and are never taken.
    """
    lease.require(conn, alone=True)  # a session whose COMMIT is still under way must not get a twin
    found = conn.execute(
        select(TradingSession.id)
        .where(*_ours(), TradingSession.strategy_name == strategy_name, TradingSession.symbol == symbol)
        .order_by(TradingSession.id.desc())
        .limit(1)
    ).scalar_one_or_none()
    if found is not None:
        return found, False
    now = wall_clock()
    made = conn.execute(
        insert(TradingSession)
        .values(
            session_name=f"{SESSION_PREFIX}{strategy_name}-{symbol}-{now:%Y%m%dT%H%M%S}",
            start_time=now,
            is_active=True,
            mode="PAPER",
            initial_balance=initial_balance,
            strategy_name=strategy_name,
            strategy_config=strategy_config,
            symbol=symbol,
            timeframe=timeframe,
            exchange=SIMULATED,
            total_pnl=Decimal(0),
            total_trades=0,
            created_at=now,
            updated_at=now,
        )
        .returning(TradingSession.id)
    )
    return made.scalar_one(), True


def other_active_sessions(conn: Connection, session_id: int) -> list[int]:
    """Return our other active sessions: accounts of a strategy or symbol that was configured before."""
    rows = conn.execute(select(TradingSession.id).where(*_ours(), TradingSession.id != session_id))
    return list(rows.scalars())


def end_session(conn: Connection, lease: Lease, account: Account) -> bool:
    """End an account that is no longer traded; False, and nothing changed, when it still holds a position."""
    lease.require(conn)
    if account.position is not None:
        return False
    now = wall_clock()
    conn.execute(
        update(TradingSession)
        .where(TradingSession.id == account.session_id)
        .values(is_active=False, end_time=now, final_balance=account.balance, updated_at=now)
    )
    return True


def _ours() -> tuple[Any, ...]:
    return (
        TradingSession.is_active.is_(True),
        TradingSession.mode == "PAPER",
        TradingSession.exchange == SIMULATED,
        TradingSession.session_name.startswith(SESSION_PREFIX, autoescape=True),
    )


# --- reading the state back -----------------------------------------------------------------------------------------


def load_account(conn: Connection, session_id: int) -> Account:
    """Return the account as its recorded fills make it."""
    initial = conn.execute(select(TradingSession.initial_balance).where(TradingSession.id == session_id)).scalar_one()
    return derive(session_id, initial, _fills(conn, session_id))


def _fills(conn: Connection, session_id: int) -> Iterator[VenueFill]:
    query = (
        select(*(getattr(Fill, _FILL_COLUMNS.get(name, name)) for name in VenueFill.__dataclass_fields__))
        .join(OrderIntent, OrderIntent.intent_id == Fill.intent_id)
        .where(OrderIntent.session_id == session_id)
        .order_by(Fill.recorded_at, Fill.filled_at)
        .execution_options(yield_per=_FETCH_ROWS)
    )
    for row in conn.execute(query):
        yield VenueFill(*row[:-1], sequence=row[-1] or 0)


def pending_intents(conn: Connection) -> list[Intent]:
    """Return what was decided and not yet carried out, oldest first."""
    rows = conn.execute(
        select(*(getattr(OrderIntent, name) for name in Intent.__dataclass_fields__))
        .where(OrderIntent.status == "PENDING", OrderIntent.venue == SIMULATED)
        .order_by(OrderIntent.created_at)
    )
    return [Intent(*row) for row in rows]


def intent_status(conn: Connection, intent_id: str) -> str | None:
    """Return the status of an intent; None when it was never committed."""
    return conn.execute(select(OrderIntent.status).where(OrderIntent.intent_id == intent_id)).scalar_one_or_none()


def load_curve(conn: Connection, account: Account) -> Curve:
    """Return what the equity curve needs from the rows before."""
    history = select(AccountHistory.balance).where(AccountHistory.session_id == account.session_id)
    peak = conn.execute(
        select(func.max(AccountHistory.equity, type_=AccountHistory.equity.type)).where(
            AccountHistory.session_id == account.session_id
        )
    ).scalar_one_or_none()
    day = wall_clock().replace(hour=0, minute=0, second=0, microsecond=0)
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
        max_drawdown_percent=max_drawdown or 0.0,
    )


# --- decisions and what came of them --------------------------------------------------------------------------------


def place_intent(conn: Connection, lease: Lease, account: Account, intent: Intent) -> str:
    """Commit a decision, once; return the status of the intent with that id.

    Raises:
        LeadershipLost: this process does not lead; nothing is written.
        StateMoved: something else is pending, or held, than the account says; nothing is written.
    """
    _lock_account(conn, account)
    pending = conn.execute(
        select(OrderIntent.intent_id).where(
            OrderIntent.session_id == account.session_id,
            OrderIntent.status == "PENDING",
            OrderIntent.intent_id != intent.intent_id,
        )
    ).first()
    if pending is not None:
        raise StateMoved(f"intent {pending.intent_id} is still pending")
    table = OrderIntent.__table__
    names = list(Intent.__dataclass_fields__)
    values = [
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
    status = intent_status(conn, intent.intent_id)
    if status is None:
        raise StateMoved(f"intent {intent.intent_id} was neither written nor there")
    return status


def record_fill(
    conn: Connection, lease: Lease, account: Account, curve: Curve, fill: VenueFill, *, timeframe: str
) -> tuple[Account, Curve] | None:
    """Record a fill with its position or trade, the session's totals and a point of the equity curve.

    Returns: the account and the curve afterwards; None when this fill was recorded before, and then nothing is written.
    Raises: LeadershipLost, StateMoved, SwitchyardError BOT-003; nothing is written.
    """
    epoch = lease.require(conn)
    _lock_session(conn, account.session_id)
    columns = {_FILL_COLUMNS.get(name, name): getattr(fill, name) for name in VenueFill.__dataclass_fields__}
    inserted = conn.execute(
        insert_into(conn, Fill)
        .values(**columns, recorded_at=db_clock(conn), lease_epoch=epoch)
        .on_conflict_do_nothing(index_elements=[Fill.venue, Fill.venue_trade_id])
    )
    if inserted.rowcount == 0:
        return None
    _compare_held(conn, account)
    after, trip = account.apply(fill)
    now = wall_clock()
    if trip is None:
        _insert_position(conn, after, now)
    else:
        _insert_trade(conn, trip, account.session_id, timeframe, now)
    conn.execute(
        update(OrderIntent)
        .where(OrderIntent.intent_id == fill.intent_id, OrderIntent.status == "PENDING")
        .values(status="FILLED", updated_at=db_clock(conn))
    )
    curve = _insert_history(conn, after, curve, fill.price, now)
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
    return after, curve


def record_snapshot(conn: Connection, lease: Lease, account: Account, curve: Curve, price: Decimal) -> Curve:
    """Write a point of the equity curve and mark the open position to ``price``.

    Raises: LeadershipLost, StateMoved; nothing is written.
    """
    lease.require(conn)
    _lock_account(conn, account)
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
    return _insert_history(conn, account, curve, price, now)


def write_event(
    conn: Connection,
    *,
    event_type: str,
    severity: str,
    message: str,
    session_id: int | None = None,
    error_code: str | None = None,
    details: dict[str, Any] | None = None,
    timestamp: datetime | None = None,
) -> None:
    """Tell people what happened: a row of ``system_events``."""
    conn.execute(
        insert(SystemEvent).values(
            timestamp=timestamp or wall_clock(),
            event_type=event_type,
            severity=severity,
            message=message,
            details=details,
            component="trading-bot",
            error_code=error_code,
            alert_sent=False,
            session_id=session_id,
            created_at=wall_clock(),
        )
    )


# --- helpers --------------------------------------------------------------------------------------------------------


def _lock_session(conn: Connection, session_id: int) -> None:
    conn.execute(locked(conn, select(TradingSession.id).where(TradingSession.id == session_id)))


def _lock_account(conn: Connection, account: Account) -> None:
    """Let nobody else change this account until the end of the transaction, and see that it is as believed."""
    _lock_session(conn, account.session_id)
    _compare_held(conn, account)


def _compare_held(conn: Connection, account: Account) -> None:
    held = conn.execute(
        select(Position.order_id).where(Position.session_id == account.session_id, Position.status == "OPEN")
    ).scalars()
    believed = [account.position.intent_id] if account.position else []
    if list(held) != believed:
        raise StateMoved(f"session {account.session_id} holds something else than {believed}")


def _insert_position(conn: Connection, account: Account, now: datetime) -> None:
    opened = account.position
    if opened is None:
        raise StateMoved("an entry that opened nothing")
    conn.execute(
        insert(Position).values(
            symbol=opened.symbol,
            side="LONG",
            status="OPEN",
            entry_price=opened.entry_price,
            size=opened.balance_share,
            quantity=opened.quantity,
            trailing_stop=False,
            entry_time=naive(opened.entry_time),
            last_update=now,
            current_price=opened.entry_price,
            unrealized_pnl=Decimal(0),
            unrealized_pnl_percent=0.0,
            strategy_name=_strategy_name(account.session_id),
            order_id=opened.intent_id,
            exchange=SIMULATED,
            session_id=account.session_id,
            created_at=now,
            updated_at=now,
        )
    )


def _insert_trade(conn: Connection, trip: RoundTrip, session_id: int, timeframe: str, now: datetime) -> None:
    entry = trip.entry
    position_id = conn.execute(
        update(Position)
        .where(Position.order_id == entry.intent_id, Position.status == "OPEN")
        .values(
            status="CLOSED",
            current_price=trip.exit_price,
            unrealized_pnl=Decimal(0),
            unrealized_pnl_percent=0.0,
            last_update=now,
            updated_at=now,
        )
        .returning(Position.id)
    ).scalar_one()
    conn.execute(
        insert(Trade).values(
            symbol=entry.symbol,
            side="LONG",
            source="PAPER",
            entry_price=entry.entry_price,
            exit_price=trip.exit_price,
            size=entry.balance_share,
            quantity=entry.quantity,
            entry_time=naive(entry.entry_time),
            exit_time=naive(trip.exit_time),
            pnl=trip.pnl,
            pnl_percent=entry.unrealized_pnl_percent(trip.exit_price),
            commission=trip.fees,
            exit_reason=select(OrderIntent.reason)
            .where(OrderIntent.intent_id == trip.exit_intent_id)
            .scalar_subquery(),
            strategy_name=_strategy_name(session_id),
            order_id=trip.exit_intent_id,
            exchange=SIMULATED,
            timeframe=timeframe,
            position_id=position_id,
            session_id=session_id,
            created_at=now,
            updated_at=now,
        )
    )


def _insert_history(conn: Connection, account: Account, curve: Curve, price: Decimal, now: datetime) -> Curve:
    equity = account.equity(price)
    cost = account.position.cost if account.position else Decimal(0)
    curve = curve.moved_to(now, balance=account.balance, equity=equity)
    conn.execute(
        insert(AccountHistory).values(
            timestamp=now,
            balance=account.balance,
            equity=equity,
            margin_used=cost,
            margin_available=account.balance - cost,
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


def _strategy_name(session_id: int) -> Any:
    return select(TradingSession.strategy_name).where(TradingSession.id == session_id).scalar_subquery()


def _reason(intent_id: str) -> Any:
    return select(OrderIntent.reason).where(OrderIntent.intent_id == intent_id).scalar_subquery()


def _percent_below(peak: Decimal, equity: Decimal) -> float:
    return float((peak - equity) / peak * 100) if peak > 0 else 0.0
