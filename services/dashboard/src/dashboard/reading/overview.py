"""The first page: the bot, one session's equity and result, what is open, what was traded last."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any, Literal

from sqlalchemy import ColumnElement, Connection, case, func, or_, select, text
from sqlalchemy.sql.selectable import Select
from tradedb.models import (
    AccountHistory,
    BotLease,
    OrderIntent,
    Position,
    SystemEvent,
    TradeDay,
    TradeGroup,
    TradingSession,
)

from dashboard.reading.equity import Equity, read_equity
from dashboard.reading.provenance import CopyRun, brought_by, copy_runs
from dashboard.reading.schema import SchemaState, schema_state
from dashboard.reading.trades import SIMULATED, TradeRow, newest_trades

MAX_SESSIONS = 200
MAX_POSITIONS = 50
LATEST_TRADES = 10
RANGES = {"1h": timedelta(hours=1), "24h": timedelta(days=1), "7d": timedelta(days=7), "all": None}
DEFAULT_RANGE = "24h"
LEASE_NAME = "trading-bot"
DAILY_BARS = 90
COUNTED_POSITIONS = 10_000
"""So many positions of one status are counted; as many may mean more."""
NEWEST_EVENTS = 200
OUR_COMPONENT = "trading-bot"
State = Literal["never", "stopped", "running", "silent"]


@dataclass(frozen=True)
class SessionRow:
    """One run of a bot. ``ours`` is true if this project's bot wrote it: its times are UTC then.

    ``initial_balance`` is in the quote currency. ``copied`` is the run that brought it from a file, None: written here.
    """

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
    copied: CopyRun | None = None

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
class DayBar:
    """What the trades of one session closed on one day brought: ``result`` is after fees, in the quote currency."""

    day: date
    result: Decimal
    trades: int
    wins: int


@dataclass(frozen=True)
class Result:
    """What one session's closed trades came to, in the quote currency.

    ``pnl`` is before fees; wins, losses, won, lost, best and worst are after them. ``summed`` of the trades have
    numbers that can be summed: the others (infinite, or none) are in ``trades`` alone. ``held_s`` is the mean time
    that a position was held, in seconds.
    """

    trades: int
    summed: int
    wins: int
    losses: int
    pnl: Decimal | None
    fees: Decimal | None
    won: Decimal
    lost: Decimal
    best: Decimal | None
    worst: Decimal | None
    held_s: float | None

    @property
    def win_rate_percent(self) -> Decimal | None:
        """Return won trades in percent of all, None without trades."""
        return Decimal(self.wins) * 100 / self.summed if self.summed else None

    @property
    def profit_factor(self) -> Decimal | None:
        """Return what was won for each unit that was lost, None where nothing was lost."""
        return -self.won / self.lost if self.lost else None


@dataclass(frozen=True)
class LastEvent:
    """What the bot last wrote of itself; ``at`` is aware UTC."""

    at: datetime
    event_type: str
    message: str


@dataclass(frozen=True)
class BotState:
    """How the bot is, in one word, and when it last gave a sign.

    "never": no bot ever took the lease; "stopped": its lease has ended; "silent": it holds it, and has recorded nothing
    for longer than it should; "running". ``heartbeat_age_s`` is since the lease was last renewed, ``record_age_s``
    since the newest account record, both in seconds.
    """

    state: State
    heartbeat_age_s: float | None
    record_age_s: float | None
    event: LastEvent | None


@dataclass(frozen=True)
class Overview:
    """All that the page shows, from one moment.

    ``whole_session`` is false where only a range of the curve is shown. ``open_positions`` are those of ``session``
    where one was asked for by its number, else all. ``position_statuses`` counts up to COUNTED_POSITIONS.
    """

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
    daily: list[DayBar] = field(default_factory=list)
    event: LastEvent | None = None
    runs: list[CopyRun] = field(default_factory=list)

    @property
    def empty(self) -> bool:
        """Return whether there is nothing to show yet."""
        return not self.sessions and not self.trades and not self.position_statuses and self.lease is None

    def bot(self, *, silent_after_s: float) -> BotState:
        """Return how the bot is.

        Args:
            silent_after_s: age in seconds of the newest account record from which a running bot is called silent.
        """
        lease, record_age_s = self.lease, None
        newest = next((session for session in self.sessions if session.ours), None)
        if newest is not None and self.session == newest:
            record_age_s = self.last_record_age_s
        state: State = "running"
        if lease is None:
            state = "never"
        elif lease.left_s < 0:
            state = "stopped"
        elif record_age_s is not None and record_age_s > silent_after_s:
            state = "silent"
        return BotState(state, lease.age_s if lease else None, record_age_s, self.event)


def read_overview(conn: Connection, session_id: int | None = None, chart_range: str = DEFAULT_RANGE) -> Overview:
    """Return the overview, in a handful of small queries of one transaction.

    Args:
        conn: in a transaction that sees one state of the database.
        session_id: which session's curve, result and positions; None or unknown: the newest of our bot's, else the
            newest, with the positions of all.
        chart_range: a key of RANGES; sessions whose clock has no known zone are always shown whole.
    """
    schema = schema_state(conn)
    now = database_now(conn)
    runs = copy_runs(conn)
    sessions = _sessions(conn, MAX_SESSIONS + 1, runs)
    session = _chosen(conn, sessions, session_id, runs)
    only = session.id if session is not None and session.id == session_id else None
    length = RANGES.get(chart_range) if session and session.ours else None
    since = now.replace(tzinfo=None) - length if length else None
    equity = None
    if session:
        equity = read_equity(conn, session.id, ours=session.ours, initial_balance=session.initial_balance, since=since)
    statuses = _position_statuses(conn)
    return Overview(
        schema=schema,
        now=now,
        lease=read_lease(conn, now),
        sessions=sessions[:MAX_SESSIONS],
        more_sessions=len(sessions) > MAX_SESSIONS,
        session=session,
        equity=equity,
        result=_result(conn, session.id) if session else None,
        open_positions=_open_positions(conn, only),
        open_count=statuses.get("OPEN", 0) if only is None else _count_open(conn, only),
        position_statuses=statuses,
        trades=newest_trades(conn, session.id if session else None, LATEST_TRADES, runs),
        last_record_age_s=_last_record_age_s(conn, session, now),
        daily=read_daily(conn, session.id, DAILY_BARS) if session else [],
        event=_last_event(conn),
        runs=runs,
    )


def read_daily(conn: Connection, session_id: int, days: int) -> list[DayBar]:
    """Return the last so many days on which the session closed trades, the earliest first.

    Args:
        conn: in a transaction.
        session_id: whose.
        days: how many at most.
    """
    rows = conn.execute(
        select(
            TradeDay.day,
            func.sum(TradeDay.pnl - TradeDay.fees).label("result"),
            func.sum(TradeDay.trades).label("trades"),
            func.sum(TradeDay.wins).label("wins"),
        )
        .join(TradeGroup, TradeGroup.group_id == TradeDay.group_id)
        .where(TradeGroup.session_id == session_id, TradeDay.day >= date.min, TradeDay.day <= date.max)
        .group_by(TradeDay.day)
        .order_by(TradeDay.day.desc())
        .limit(days)
    ).all()
    return [DayBar(row.day, row.result, int(row.trades), int(row.wins)) for row in reversed(rows)]


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
    # the first one at or after its number: an index answers that, however the intents are spread over the sessions
    nearest = (
        select(OrderIntent.session_id)
        .where(OrderIntent.session_id >= TradingSession.id)
        .order_by(OrderIntent.session_id)
        .limit(1)
        .correlate(TradingSession)
    )
    return or_(TradingSession.exchange == SIMULATED, nearest.scalar_subquery() == TradingSession.id)


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


def _sessions(conn: Connection, limit: int, runs: list[CopyRun]) -> list[SessionRow]:
    newest_first = _session_query().order_by(TradingSession.start_time.desc(), TradingSession.id.desc()).limit(limit)
    return [_session_row(row, runs) for row in conn.execute(newest_first)]


def _session_row(row: Any, runs: list[CopyRun]) -> SessionRow:
    return SessionRow(**row._asdict(), copied=brought_by(runs, "trading_sessions", row.id, ours=row.ours))


def _chosen(
    conn: Connection, sessions: list[SessionRow], session_id: int | None, runs: list[CopyRun]
) -> SessionRow | None:
    if session_id is not None:
        for session in sessions:
            if session.id == session_id:
                return session
        row = conn.execute(_session_query().where(TradingSession.id == session_id)).one_or_none()
        if row is not None:
            return _session_row(row, runs)
    return next((session for session in sessions if session.ours), sessions[0] if sessions else None)


def _result(conn: Connection, session_id: int) -> Result:
    row = conn.execute(
        select(
            func.coalesce(func.sum(TradeGroup.trades), 0).label("trades"),
            func.coalesce(func.sum(TradeGroup.summed), 0).label("summed"),
            func.coalesce(func.sum(TradeGroup.wins), 0).label("wins"),
            func.coalesce(func.sum(TradeGroup.losses), 0).label("losses"),
            func.sum(TradeGroup.pnl).label("pnl"),
            func.sum(TradeGroup.fees).label("fees"),
            func.coalesce(func.sum(TradeGroup.won), 0).label("won"),
            func.coalesce(func.sum(TradeGroup.lost), 0).label("lost"),
            func.max(TradeGroup.best).label("best"),
            func.min(TradeGroup.worst).label("worst"),
            func.sum(TradeGroup.timed).label("timed"),
            func.sum(TradeGroup.duration_s).label("duration_s"),
        ).where(TradeGroup.session_id == session_id)
    ).one()
    return Result(
        trades=int(row.trades),
        summed=int(row.summed),
        wins=int(row.wins),
        losses=int(row.losses),
        pnl=row.pnl if row.summed else None,
        fees=row.fees if row.summed else None,
        won=Decimal(row.won),
        lost=Decimal(row.lost),
        best=row.best,
        worst=row.worst,
        held_s=float(row.duration_s / row.timed) if row.timed else None,
    )


def _position_statuses(conn: Connection) -> dict[str, int]:
    """Count positions by status, from one end of the index of each: there may be as many as trades."""
    known = conn.execute(
        text(
            "WITH RECURSIVE found (status) AS (SELECT min(status) FROM positions UNION ALL"
            " SELECT (SELECT min(p.status) FROM positions p WHERE p.status > found.status) FROM found"
            " WHERE found.status IS NOT NULL) SELECT status FROM found WHERE status IS NOT NULL LIMIT 50"
        )
    ).scalars()
    counted: dict[str, int] = {}
    for status in known.all():
        of_status = select(Position.entry_time).where(Position.status == status)
        some = of_status.order_by(Position.entry_time).limit(COUNTED_POSITIONS).subquery()  # in the index's order
        counted[status] = conn.scalar(select(func.count()).select_from(some)) or 0
    return counted


def _count_open(conn: Connection, session_id: int) -> int:
    mine = select(func.count()).where(Position.status == "OPEN", Position.session_id == session_id)
    return conn.scalar(mine) or 0


def _last_event(conn: Connection) -> LastEvent | None:
    """What the bot last wrote of itself; looked for among the newest events only."""
    newest = (
        select(
            SystemEvent.timestamp, SystemEvent.id, SystemEvent.event_type, SystemEvent.message, SystemEvent.component
        )
        .order_by(SystemEvent.timestamp.desc(), SystemEvent.id.desc())
        .limit(NEWEST_EVENTS)
        .subquery()
    )
    row = conn.execute(
        select(newest.c.timestamp, newest.c.event_type, func.substr(newest.c.message, 1, 500).label("message"))
        .where(newest.c.component == OUR_COMPONENT)
        .order_by(newest.c.timestamp.desc(), newest.c.id.desc())
        .limit(1)
    ).one_or_none()
    return None if row is None else LastEvent(row.timestamp.replace(tzinfo=UTC), row.event_type, row.message)


def _open_positions(conn: Connection, session_id: int | None) -> list[PositionRow]:
    """Positions with status OPEN, whoever's or of one session; the copied history has other words for what is over."""
    ours = case((or_(Position.exchange == SIMULATED, OrderIntent.intent_id.is_not(None)), True), else_=False)
    of_session = [Position.session_id == session_id] if session_id is not None else []
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
        .where(Position.status == "OPEN", *of_session)
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
