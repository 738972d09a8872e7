"""A session's equity over time with its drawdown, in as many points as a chart shows, however many records there are.

Few records are read themselves. Of many, the sums by hour that triggers keep are read: the equity at the end of each,
and the deepest drawdown in it. A session without account records has the curve of its closed trades: its starting
balance plus what they brought; of many trades, by day.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, Literal

from sqlalchemy import CTE, Connection, Row, Select, func, or_, select
from tradedb.models import AccountHistory, EquityHour, Trade, TradeDay, TradeGroup

from dashboard.reading.numbers import decimal, finite
from dashboard.reading.odd_times import OddTime

CHART_POINTS = 240
READ_EACH = 20_000
"""So many account records are read one by one for a curve (a day of them); of more, the sums by hour."""
READ_TRADES = 3_000
"""So many trades are, of a session without records; of more, the sums by day."""
Resolution = Literal["records", "hours", "trades", "days"]


@dataclass(frozen=True)
class EquityPoint:
    """One point of the curve: ``equity`` in the quote currency.

    ``drawdown_percent`` is how far below the highest equity so far, in percent (zero or negative): the deepest since
    the point before where points stand for hours.
    """

    time: datetime
    equity: Decimal
    drawdown_percent: Decimal


@dataclass(frozen=True)
class Equity:
    """The curve of one session.

    ``source`` says from what: the account records, or (where there are none) the starting balance plus realised P&L.
    ``resolution`` says what the points were chosen from. ``total`` counts the records behind them, ``left_out`` those
    whose number is infinite or none.
    """

    source: Literal["account", "trades"]
    resolution: Resolution
    points: list[EquityPoint]
    total: int
    left_out: int

    @property
    def deepest_percent(self) -> Decimal | None:
        """Return the deepest drawdown of the points (the deepest of all records is always one of them)."""
        return min((point.drawdown_percent for point in self.points), default=None)


def read_equity(
    conn: Connection, session_id: int, *, ours: bool, initial_balance: Decimal, since: datetime | None
) -> Equity:
    """Return the curve of a session.

    Args:
        conn: in a transaction.
        session_id: whose.
        ours: our bot wrote it: it recorded the drawdown from the session's first day on. Others' columns mean what
            they mean, so theirs is found from the equity.
        initial_balance: where a curve of trades begins, in the quote currency.
        since: only later records (UTC wall clock; only for sessions whose clock is known).
    """
    hours = [EquityHour.session_id == session_id]
    if since is not None:
        hours.append(EquityHour.hour >= since.replace(minute=0, second=0, microsecond=0))
    records, known = conn.execute(
        select(func.coalesce(func.sum(EquityHour.records), 0), func.coalesce(func.sum(EquityHour.finite), 0)).where(
            *hours
        )
    ).one()
    if records > READ_EACH:
        points = conn.execute(_by_hour(hours, ours=ours)).all()
        return Equity("account", "hours", _points(points), int(known), int(records - known))
    if records or ours:
        return _of_records(conn, session_id, ours=ours, since=since)
    return _of_trades(conn, session_id, initial_balance)


def _of_records(conn: Connection, session_id: int, *, ours: bool, since: datetime | None) -> Equity:
    where = [AccountHistory.session_id == session_id]
    if since is not None:
        where.append(AccountHistory.timestamp >= since)
    order = (AccountHistory.timestamp, AccountHistory.id)
    equity = AccountHistory.equity
    drawdown: Any = -func.coalesce(AccountHistory.drawdown, 0)
    if not ours:
        drawdown = (equity / func.nullif(func.max(equity).over(order_by=order), 0) - 1) * 100
    rows = select(AccountHistory.timestamp.label("time"), equity.label("equity"), drawdown.label("below")).add_columns(
        func.row_number().over(order_by=order).label("n"), func.count().over().label("total")
    )
    recorded: int = conn.scalar(select(func.count()).select_from(AccountHistory).where(*where)) or 0
    found = conn.execute(_thinned(rows.where(*where, finite(conn, equity)).cte("numbered"))).all()
    return _counted("account", "records", found, recorded)


def _of_trades(conn: Connection, session_id: int, initial_balance: Decimal) -> Equity:
    traded: int = int(
        conn.scalar(select(func.coalesce(func.sum(TradeGroup.trades), 0)).where(TradeGroup.session_id == session_id))
        or 0
    )
    if traded > READ_TRADES:
        by_day = (
            select(
                TradeDay.day.label("time"),
                func.sum(TradeDay.pnl - TradeDay.fees).label("result"),
                func.sum(TradeDay.summed).label("summed"),
            )
            .join(TradeGroup, TradeGroup.group_id == TradeDay.group_id)
            .where(TradeGroup.session_id == session_id)
            .group_by(TradeDay.day)
            .subquery()
        )
        total = func.sum(by_day.c.summed).over().label("total")
        rows = select(
            by_day.c.time,
            (initial_balance + func.sum(by_day.c.result).over(order_by=by_day.c.time)).label("equity"),
            func.row_number().over(order_by=by_day.c.time).label("n"),
            total,
        ).subquery()
        found = conn.execute(_thinned(_below_peak(rows), days=True)).all()
        return _counted("trades", "days", found, traded)
    order = (Trade.exit_time, Trade.id)
    realised = func.sum(Trade.pnl - func.coalesce(Trade.commission, 0)).over(order_by=order)
    rows = (
        select(
            Trade.exit_time.label("time"),
            (initial_balance + realised).label("equity"),
            func.row_number().over(order_by=order).label("n"),
            func.count().over().label("total"),
        )
        .where(Trade.session_id == session_id, finite(conn, Trade.pnl))
        .subquery()
    )
    return _counted("trades", "trades", conn.execute(_thinned(_below_peak(rows))).all(), traded)


def _below_peak(rows: Any) -> CTE:
    """Add how far each row is below the highest before it, in percent."""
    peak = func.max(rows.c.equity).over(order_by=rows.c.n)
    return select(rows, ((rows.c.equity / func.nullif(peak, 0) - 1) * 100).label("below")).cte("numbered")


def _thinned(numbered: CTE, *, days: bool = False) -> Select[*tuple[Any, ...]]:
    """Return some CHART_POINTS rows: evenly many, with the first, the last and the deepest among them."""
    rows = select(func.count()).select_from(numbered).scalar_subquery() if days else numbered.c.total
    step = (rows + CHART_POINTS - 1) // CHART_POINTS
    deepest = select(numbered.c.n).order_by(numbered.c.below, numbered.c.n).limit(1).scalar_subquery()
    kept = or_(numbered.c.n == 1, numbered.c.n == rows, numbered.c.n % step == 0, numbered.c.n == deepest)
    return select(numbered).where(kept).order_by(numbered.c.n)


def _by_hour(where: Sequence[Any], *, ours: bool) -> Select[*tuple[Any, ...]]:
    """Return the query of the points from the sums by hour: the last equity and the deepest drawdown of each slice."""
    hour = EquityHour.hour
    peak_before = func.max(EquityHour.high).over(order_by=hour, rows=(None, -1))
    peak = func.max(EquityHour.high).over(order_by=hour)
    # what was lower before it was higher, within one hour, is not told apart: never deeper than it was
    inside = (EquityHour.low / func.nullif(peak_before, 0) - 1) * 100
    at_end = (EquityHour.last_equity / func.nullif(peak, 0) - 1) * 100
    numbered = (
        select(
            EquityHour.last_time.label("time"),
            EquityHour.last_equity.label("equity"),
            (-func.coalesce(EquityHour.deepest, 0) if ours else inside).label("inside"),
            (-func.coalesce(EquityHour.deepest, 0) if ours else at_end).label("at_end"),
            func.row_number().over(order_by=hour).label("n"),
        )
        .where(*where, EquityHour.finite > 0)
        .cte("numbered")
    )
    count = select(func.count()).select_from(numbered).scalar_subquery()
    slice_of = (numbered.c.n - 1) // ((count + CHART_POINTS - 1) // CHART_POINTS)
    slices = select(
        func.max(numbered.c.n).label("n"),
        func.min(numbered.c.inside).label("inside"),
        func.min(numbered.c.at_end).label("at_end"),
    ).group_by(slice_of)
    last = slices.subquery()
    return (
        select(numbered.c.time, numbered.c.equity, last.c.inside, last.c.at_end)
        .join(last, last.c.n == numbered.c.n)
        .order_by(numbered.c.n)
    )


def _points(rows: Sequence[Row[Any]]) -> list[EquityPoint]:
    return [
        EquityPoint(row.time, row.equity, min(Decimal(0), decimal(row.inside), decimal(row.at_end)))
        for row in rows
        if not isinstance(row.time, OddTime)  # beyond the calendar there is no place on an axis
    ]


def _counted(
    source: Literal["account", "trades"], resolution: Resolution, rows: Sequence[Row[Any]], recorded: int
) -> Equity:
    points = [
        EquityPoint(_as_time(row.time), row.equity, min(Decimal(0), decimal(row.below)))
        for row in rows
        if not isinstance(row.time, OddTime)
    ]
    total = int(rows[0].total) if rows else 0
    return Equity(source, resolution, points, total, recorded - total)


def _as_time(when: Any) -> datetime:
    return when if isinstance(when, datetime) else datetime(when.year, when.month, when.day)  # noqa: DTZ001 - no zone
