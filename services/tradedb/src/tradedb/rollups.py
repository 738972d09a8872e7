"""Sums that the database keeps itself: triggers (migration 0004) write these tables, nobody else does.

They hold nothing that cannot be made again from `trades` and `account_history`, so a copy leaves them out.
"""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal

from sqlalchemy import BigInteger, Date, DateTime, ForeignKey, Identity, Integer, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from tradedb.declarative import Base, LegacyKey
from tradedb.types import LegacyNumeric, Ratio


def _both_sides(positive: list[Decimal]) -> tuple[Decimal, ...]:
    return (*(-edge for edge in reversed(positive)), Decimal(0), *positive)


def _steps(lowest: int, highest: int) -> list[Decimal]:
    """Return 1, 2 and 5 in each decade, and the 1 of the last."""
    return [Decimal(n).scaleb(power) for power in range(lowest, highest) for n in (1, 2, 5)] + [
        Decimal(1).scaleb(highest)
    ]


EDGES: dict[str, tuple[Decimal, ...]] = {
    "result": _both_sides(_steps(-2, 6)),
    "return": _both_sides(_steps(-3, 2)),
    "duration": tuple(map(Decimal, (0, 1, 5, 10, 30, 60, 300, 900, 3600, 14400, 86400, 259200, 604800, 2592000))),
}
"""Where the ranges of `TradeHistogram` begin: the result after fees (in quote currency), the return (in percent), the
time held (in seconds). Bucket 0 is below the first edge, bucket n from the n-th edge up to, not including, the next."""


class TradeGroup(Base):
    """The sums of all trades that share these five labels.

    ``summed`` trades have a finite result; ``pnl`` (before fees), ``fees``, ``won`` and ``lost`` (both after fees) are
    sums over those. ``best`` and ``worst`` are single results after fees. ``timed`` trades have a known time held,
    ``duration_s`` in all, in seconds.
    """

    __tablename__ = "trade_groups"
    __table_args__ = (
        UniqueConstraint(
            "session_id", "symbol", "strategy_name", "source", "exchange",
            name="uq_trade_groups_group",
            postgresql_nulls_not_distinct=True,
        ),
    )  # fmt: skip

    group_id: Mapped[int] = mapped_column(LegacyKey, Identity(), primary_key=True)
    session_id: Mapped[int | None] = mapped_column(LegacyKey)
    symbol: Mapped[str] = mapped_column(String(20))
    strategy_name: Mapped[str] = mapped_column(String(100))
    source: Mapped[str] = mapped_column(String(8))
    exchange: Mapped[str | None] = mapped_column(String(50))
    trades: Mapped[int] = mapped_column(BigInteger())
    summed: Mapped[int] = mapped_column(BigInteger())
    wins: Mapped[int] = mapped_column(BigInteger())
    losses: Mapped[int] = mapped_column(BigInteger())
    pnl: Mapped[Decimal] = mapped_column(LegacyNumeric())
    fees: Mapped[Decimal] = mapped_column(LegacyNumeric())
    won: Mapped[Decimal] = mapped_column(LegacyNumeric())
    lost: Mapped[Decimal] = mapped_column(LegacyNumeric())
    best: Mapped[Decimal | None] = mapped_column(LegacyNumeric())
    worst: Mapped[Decimal | None] = mapped_column(LegacyNumeric())
    timed: Mapped[int] = mapped_column(BigInteger())
    duration_s: Mapped[Decimal] = mapped_column(LegacyNumeric())


class TradeDay(Base):
    """The same sums of the trades of one group that were closed on one day, by the clock that recorded them.

    The lowest and highest P&L (before fees) and return (in percent) say where a sorted list may begin.
    """

    __tablename__ = "trade_days"

    group_id: Mapped[int] = mapped_column(
        LegacyKey, ForeignKey("trade_groups.group_id", ondelete="CASCADE"), primary_key=True
    )
    day: Mapped[date] = mapped_column(Date(), primary_key=True)
    trades: Mapped[int] = mapped_column(BigInteger())
    summed: Mapped[int] = mapped_column(BigInteger())
    wins: Mapped[int] = mapped_column(BigInteger())
    pnl: Mapped[Decimal] = mapped_column(LegacyNumeric())
    fees: Mapped[Decimal] = mapped_column(LegacyNumeric())
    best: Mapped[Decimal | None] = mapped_column(LegacyNumeric())
    worst: Mapped[Decimal | None] = mapped_column(LegacyNumeric())
    pnl_low: Mapped[Decimal] = mapped_column(LegacyNumeric())
    pnl_high: Mapped[Decimal] = mapped_column(LegacyNumeric())
    return_low: Mapped[float] = mapped_column(Ratio())
    return_high: Mapped[float] = mapped_column(Ratio())


class TradeCellDay(Base):
    """The trades of one symbol, strategy and source that were closed on one day, of all sessions and exchanges.

    Far fewer rows than `TradeDay` where many sessions (backtests) cover the same days.
    """

    __tablename__ = "trade_cell_days"

    day: Mapped[date] = mapped_column(Date(), primary_key=True)
    symbol: Mapped[str] = mapped_column(String(20), primary_key=True)
    strategy_name: Mapped[str] = mapped_column(String(100), primary_key=True)
    source: Mapped[str] = mapped_column(String(8), primary_key=True)
    trades: Mapped[int] = mapped_column(BigInteger())
    summed: Mapped[int] = mapped_column(BigInteger())
    wins: Mapped[int] = mapped_column(BigInteger())
    simulated: Mapped[int] = mapped_column(BigInteger())
    pnl: Mapped[Decimal] = mapped_column(LegacyNumeric())
    fees: Mapped[Decimal] = mapped_column(LegacyNumeric())
    pnl_low: Mapped[Decimal] = mapped_column(LegacyNumeric())
    pnl_high: Mapped[Decimal] = mapped_column(LegacyNumeric())
    return_low: Mapped[float] = mapped_column(Ratio())
    return_high: Mapped[float] = mapped_column(Ratio())


class StrategyWeek(Base):
    """What one strategy's trades of one source brought after fees in one week; ``week`` is its Monday."""

    __tablename__ = "strategy_weeks"

    strategy_name: Mapped[str] = mapped_column(String(100), primary_key=True)
    source: Mapped[str] = mapped_column(String(8), primary_key=True)
    week: Mapped[date] = mapped_column(Date(), primary_key=True)
    trades: Mapped[int] = mapped_column(BigInteger())
    result: Mapped[Decimal] = mapped_column(LegacyNumeric())


class TradeHistogram(Base):
    """How many trades of one group fell into one range of `EDGES`."""

    __tablename__ = "trade_histogram"

    group_id: Mapped[int] = mapped_column(
        LegacyKey, ForeignKey("trade_groups.group_id", ondelete="CASCADE"), primary_key=True
    )
    kind: Mapped[str] = mapped_column(String(10), primary_key=True)
    bucket: Mapped[int] = mapped_column(Integer(), primary_key=True)
    trades: Mapped[int] = mapped_column(BigInteger())


class EquityHour(Base):
    """One hour of a session's account records.

    ``finite`` of them have an equity that can be drawn: ``low``, ``high`` and ``last_equity`` are of those. ``deepest``
    is the largest recorded drawdown, in percent, positive.
    """

    __tablename__ = "equity_hours"

    session_id: Mapped[int] = mapped_column(LegacyKey, primary_key=True, autoincrement=False)
    hour: Mapped[datetime] = mapped_column(DateTime(), primary_key=True)
    records: Mapped[int] = mapped_column(BigInteger())
    finite: Mapped[int] = mapped_column(BigInteger())
    last_time: Mapped[datetime] = mapped_column(DateTime())
    last_equity: Mapped[Decimal | None] = mapped_column(LegacyNumeric())
    low: Mapped[Decimal | None] = mapped_column(LegacyNumeric())
    high: Mapped[Decimal | None] = mapped_column(LegacyNumeric())
    deepest: Mapped[float | None] = mapped_column(Ratio())


TABLES = frozenset(
    table.__tablename__ for table in (TradeGroup, TradeDay, TradeCellDay, StrategyWeek, TradeHistogram, EquityHour)
)
"""The tables that triggers write: never copied, backed up or written by hand."""
