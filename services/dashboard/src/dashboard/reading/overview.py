"""The first page: the bot, one session's equity and result, what is open, what was traded last."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Literal

from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    SQLColumnExpression,
    and_,
    case,
    exists,
    func,
    literal_column,
    or_,
    select,
    text,
)
from sqlalchemy.sql.selectable import Select, Subquery
from tradedb.models import AccountHistory, BotLease, OrderIntent, Position, Trade, TradingSession

from dashboard.reading.schema import SchemaState, schema_state
from dashboard.reading.trades import TradeRow, after_fees, newest_trades

CHART_POINTS = 240
MAX_SESSIONS = 200
MAX_POSITIONS = 50
LATEST_TRADES = 10
RANGES = {"1h": timedelta(hours=1), "24h": timedelta(days=1), "7d": timedelta(days=7), "all": None}
DEFAULT_RANGE = "24h"
LEASE_NAME = "trading-bot"
SIMULATED = "SIMULATED"


@dataclass(frozen=True)
class SessionRow:
    """One run of a bot. ``ours`` is true if this project's bot wrote it: its times are UTC then."""

    id: int
    name: str | None
    start_time: datetime
    end_time: datetime | None
    is_active: bool
    mode: str
    initial_balance: Decimal
    strategy_name: str
    symbol: str
    timeframe: str
    exchange: str | None
    ours: bool

    @property
    def simulated(self) -> bool:
        """Return whether its market was the simulated feed."""
        return self.exchange == SIMULATED


@dataclass(frozen=True)
class LeaseRow:
    """Who may write. By the database's clock: ``age_s`` since the renewal, ``left_s`` to the end (negative: ended)."""

    holder: str
    epoch: int
    acquired_at: datetime
    renewed_at: datetime
    expires_at: datetime
    age_s: float
    left_s: float


@dataclass(frozen=True)
class EquityPoint:
    """One point of the curve; ``drawdown_percent`` is how far below the highest equity so far (zero or negative)."""

    time: datetime
    equity: Decimal
    drawdown_percent: Decimal


@dataclass(frozen=True)
class Equity:
    """The curve of one session.

    ``source`` says from what: the account records, or (where there are none) the starting balance plus realised P&L.
    ``total`` counts the records behind the points, ``left_out`` those whose equity is infinite or not a number.
    """

    source: Literal["account", "trades"]
    points: list[EquityPoint]
    total: int
    left_out: int

    @property
    def deepest_percent(self) -> Decimal | None:
        """Return the deepest drawdown of the points (the deepest of all records is always one of them)."""
        return min((point.drawdown_percent for point in self.points), default=None)


@dataclass(frozen=True)
class PositionRow:
    """What is held now."""

    id: int
    symbol: str
    side: str
    quantity: Decimal | None
    size: Decimal
    entry_price: Decimal
    current_price: Decimal | None
    unrealized_pnl: Decimal | None
    unrealized_pnl_percent: float | None
    entry_time: datetime
    last_update: datetime | None
    strategy_name: str
    exchange: str | None
    ours: bool

    @property
    def simulated(self) -> bool:
        """Return whether its market was the simulated feed."""
        return self.exchange == SIMULATED


@dataclass(frozen=True)
class Result:
    """What one session's closed trades came to. ``pnl`` is before fees; wins, best and worst are after them."""

    trades: int
    wins: int
    pnl: Decimal | None
    fees: Decimal | None
    best: Decimal | None
    worst: Decimal | None

    @property
    def win_rate_percent(self) -> Decimal | None:
        """Return won trades in percent of all, None without trades."""
        return Decimal(self.wins) * 100 / self.trades if self.trades else None


@dataclass(frozen=True)
class Overview:
    """All that the page shows, from one moment."""

    schema: SchemaState
    now: datetime
    lease: LeaseRow | None
    sessions: list[SessionRow]
    more_sessions: bool
    session: SessionRow | None
    equity: Equity | None
    result: Result | None
    open_positions: list[PositionRow]
    open_count: int
    position_statuses: dict[str, int]
    trades: list[TradeRow]
    last_record_age_s: float | None

    @property
    def empty(self) -> bool:
        """Return whether there is nothing to show yet."""
        return not self.sessions and not self.trades and not self.position_statuses and self.lease is None


def read_overview(conn: Connection, session_id: int | None = None, chart_range: str = DEFAULT_RANGE) -> Overview:
    """Return the overview, in a handful of small queries of one transaction.

    Args:
        conn: in a transaction that sees one state of the database.
        session_id: which session's curve; None or unknown: the newest of our bot's, else the newest.
        chart_range: a key of RANGES; sessions whose clock has no known zone are always shown whole.
    """
    schema = schema_state(conn)
    now = database_now(conn)
    sessions = _sessions(conn, MAX_SESSIONS + 1)
    session = _chosen(conn, sessions, session_id)
    length = RANGES.get(chart_range) if session and session.ours else None
    since = now.replace(tzinfo=None) - length if length else None
    statuses: dict[str, int] = {
        row.status: row.n
        for row in conn.execute(select(Position.status, func.count().label("n")).group_by(Position.status))
    }
    return Overview(
        schema=schema,
        now=now,
        lease=read_lease(conn, now),
        sessions=sessions[:MAX_SESSIONS],
        more_sessions=len(sessions) > MAX_SESSIONS,
        session=session,
        equity=_equity(conn, session, since) if session else None,
        result=_result(conn, session.id) if session else None,
        open_positions=_open_positions(conn),
        open_count=statuses.get("OPEN", 0),
        position_statuses=statuses,
        trades=newest_trades(conn, session.id if session else None, LATEST_TRADES),
        last_record_age_s=_last_record_age_s(conn, session, now),
    )


def read_lease(conn: Connection, now: datetime) -> LeaseRow | None:
    """Return the bot's lease as seen at ``now`` by the database's clock, or None if no bot ever took it."""
    row = conn.execute(
        select(BotLease.holder, BotLease.epoch, BotLease.acquired_at, BotLease.renewed_at, BotLease.expires_at).where(
            BotLease.name == LEASE_NAME
        )
    ).one_or_none()
    if row is None:
        return None
    return LeaseRow(
        **row._asdict(),
        age_s=(now - row.renewed_at).total_seconds(),
        left_s=(row.expires_at - now).total_seconds(),
    )


def database_now(conn: Connection) -> datetime:
    """Return the time by the database's clock, so that ages do not depend on ours. SQLite has this machine's."""
    if conn.dialect.name != "postgresql":
        return datetime.now(UTC)
    return conn.execute(text("SELECT clock_timestamp()")).scalar_one().astimezone(UTC)


def _written_by_our_bot() -> ColumnElement[bool]:
    """Copied history has neither a simulated venue nor intents."""
    return or_(
        TradingSession.exchange == SIMULATED,
        exists().where(OrderIntent.session_id == TradingSession.id).correlate(TradingSession),
    )


def _session_query() -> Select[*tuple[Any, ...]]:
    return select(
        TradingSession.id,
        TradingSession.session_name.label("name"),
        TradingSession.start_time,
        TradingSession.end_time,
        func.coalesce(TradingSession.is_active, False).label("is_active"),
        TradingSession.mode,
        TradingSession.initial_balance,
        TradingSession.strategy_name,
        TradingSession.symbol,
        TradingSession.timeframe,
        TradingSession.exchange,
        case((_written_by_our_bot(), True), else_=False).label("ours"),
    )


def _sessions(conn: Connection, limit: int) -> list[SessionRow]:
    newest_first = _session_query().order_by(TradingSession.start_time.desc(), TradingSession.id.desc()).limit(limit)
    return [SessionRow(**row._asdict()) for row in conn.execute(newest_first)]


def _chosen(conn: Connection, sessions: list[SessionRow], session_id: int | None) -> SessionRow | None:
    if session_id is not None:
        for session in sessions:
            if session.id == session_id:
                return session
        row = conn.execute(_session_query().where(TradingSession.id == session_id)).one_or_none()
        if row is not None:
            return SessionRow(**row._asdict())
    return next((session for session in sessions if session.ours), sessions[0] if sessions else None)


def _finite(conn: Connection, column: SQLColumnExpression[Any]) -> ColumnElement[bool]:
    """A number that can be drawn. Postgres sorts NaN above Infinity; SQLite stores NaN as NULL."""
    infinity = "'Infinity'::numeric" if conn.dialect.name == "postgresql" else "9e999"
    return and_(column < literal_column(infinity), column > literal_column(f"-({infinity})"))


def _equity(conn: Connection, session: SessionRow, since: datetime | None) -> Equity:
    """The session's curve since a time (UTC wall clock; only for sessions whose clock is known)."""
    in_session = [AccountHistory.session_id == session.id]
    if since is not None:
        in_session.append(AccountHistory.timestamp >= since)
    recorded: int = conn.scalar(select(func.count()).select_from(AccountHistory).where(*in_session)) or 0
    if recorded or session.ours:
        records = select(
            AccountHistory.id.label("id"), AccountHistory.timestamp.label("time"), AccountHistory.equity.label("equity")
        ).where(*in_session, _finite(conn, AccountHistory.equity))
        if (
            session.ours
        ):  # our bot records the drawdown from the session's first day on; others' columns mean what they mean
            points = _thinned(
                conn, records.add_columns((-func.coalesce(AccountHistory.drawdown, 0)).label("below")).subquery()
            )
        else:
            points = _thinned(conn, _with_drawdown(records.subquery()))
        return _as_equity("account", points, recorded)
    traded: int = conn.scalar(select(func.count()).select_from(Trade).where(Trade.session_id == session.id)) or 0
    realised = func.sum(Trade.pnl - func.coalesce(Trade.commission, 0)).over(order_by=(Trade.exit_time, Trade.id))
    closed = select(
        Trade.id.label("id"), Trade.exit_time.label("time"), (session.initial_balance + realised).label("equity")
    ).where(Trade.session_id == session.id, _finite(conn, Trade.pnl))
    return _as_equity("trades", _thinned(conn, _with_drawdown(closed.subquery())), traded)


def _with_drawdown(rows: Subquery) -> Subquery:
    """Add how far each row is below the highest before it, in percent."""
    peak = func.max(rows.c.equity).over(order_by=(rows.c.time, rows.c.id))
    return select(rows, ((rows.c.equity / func.nullif(peak, 0) - 1) * 100).label("below")).subquery()


def _thinned(conn: Connection, rows: Subquery) -> Sequence[Row[Any]]:
    """Return some CHART_POINTS rows: evenly many, with the first, the last and the deepest among them."""
    numbered = select(
        rows.c.time,
        rows.c.equity,
        rows.c.below,
        func.row_number().over(order_by=(rows.c.time, rows.c.id)).label("n"),
        func.count().over().label("total"),
        func.row_number().over(order_by=(rows.c.below, rows.c.id)).label("depth"),
    ).subquery()
    step = (numbered.c.total + CHART_POINTS - 1) // CHART_POINTS
    kept = or_(numbered.c.n == 1, numbered.c.n == numbered.c.total, numbered.c.n % step == 0, numbered.c.depth == 1)
    return conn.execute(select(numbered).where(kept).order_by(numbered.c.n)).all()


def _as_equity(source: Literal["account", "trades"], rows: Sequence[Row[Any]], recorded: int) -> Equity:
    points = [EquityPoint(row.time, row.equity, min(Decimal(0), _decimal(row.below))) for row in rows]
    total: int = rows[0].total if rows else 0
    return Equity(source, points, total, recorded - total)


def _decimal(value: Decimal | float | None) -> Decimal:
    number = value if isinstance(value, Decimal) else Decimal(repr(float(value or 0)))
    return number if number.is_finite() else Decimal(0)


def _result(conn: Connection, session_id: int) -> Result:
    row = conn.execute(
        select(
            func.count().label("trades"),
            func.coalesce(func.sum(case((after_fees() > 0, 1), else_=0)), 0).label("wins"),
            func.sum(Trade.pnl).label("pnl"),
            func.sum(Trade.commission).label("fees"),
            func.max(after_fees()).label("best"),
            func.min(after_fees()).label("worst"),
        ).where(Trade.session_id == session_id)
    ).one()
    return Result(**row._asdict())


def _open_positions(conn: Connection) -> list[PositionRow]:
    """Positions with status OPEN, whoever's; those of the copied history have other words for what is over."""
    ours = case((or_(Position.exchange == SIMULATED, OrderIntent.intent_id.is_not(None)), True), else_=False)
    rows = conn.execute(
        select(
            Position.id,
            Position.symbol,
            Position.side,
            Position.quantity,
            Position.size,
            Position.entry_price,
            Position.current_price,
            Position.unrealized_pnl,
            Position.unrealized_pnl_percent,
            Position.entry_time,
            Position.last_update,
            Position.strategy_name,
            Position.exchange,
            ours.label("ours"),
        )
        .select_from(Position)
        .outerjoin(OrderIntent, OrderIntent.intent_id == Position.order_id)
        .where(Position.status == "OPEN")
        .order_by(Position.entry_time.desc(), Position.id.desc())
        .limit(MAX_POSITIONS)
    )
    return [PositionRow(**row._asdict()) for row in rows]


def _last_record_age_s(conn: Connection, session: SessionRow | None, now: datetime) -> float | None:
    """How old the bot's newest account record is; only where its clock is known to be UTC."""
    if session is None or not session.ours:
        return None
    newest = conn.scalar(
        select(AccountHistory.timestamp)
        .where(AccountHistory.session_id == session.id)
        .order_by(AccountHistory.timestamp.desc())
        .limit(1)
    )
    return None if newest is None else (now.replace(tzinfo=None) - newest).total_seconds()
