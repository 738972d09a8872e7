"""The tables. Alembic (``tradedb/migrations``) owns their DDL; a test holds the two equal.

The first seven are those of the original SQLite file, with its names and every column. Their numbers land in types that
hold each stored value exactly: money in unconstrained ``numeric``, statistics in ``double precision`` (some are
infinite). Their times have no zone, because the file never said one: the wall clock is kept; rows that our bot writes
are in UTC. Their labels are text, verbatim, with the original's lengths. Their JSON is ``json``, not ``jsonb``, so the
stored text stays as it was.

The rest is new: money is ``Decimal`` and exact, times are aware UTC. What the database sums up itself is in
``tradedb.rollups``.
"""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    CheckConstraint,
    DateTime,
    ForeignKey,
    Identity,
    Index,
    PrimaryKeyConstraint,
    String,
    Text,
    UniqueConstraint,
    false,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column

from tradedb.declarative import Base, LegacyKey
from tradedb.rollups import EquityHour, StrategyWeek, TradeCellDay, TradeDay, TradeGroup, TradeHistogram
from tradedb.types import ExactNumeric, LegacyNumeric, Ratio, UtcDateTime


class TradingSession(Base):
    """One run of a bot: when, with what strategy and balance, and how it ended."""

    __tablename__ = "trading_sessions"
    __table_args__ = (Index("ix_trading_sessions_start_time", "start_time"),)

    id: Mapped[int] = mapped_column(LegacyKey, Identity(), primary_key=True)
    session_name: Mapped[str | None] = mapped_column(String(100))
    start_time: Mapped[datetime] = mapped_column(DateTime())
    end_time: Mapped[datetime | None] = mapped_column(DateTime())
    is_active: Mapped[bool | None] = mapped_column(Boolean())
    mode: Mapped[str] = mapped_column(String(8))
    initial_balance: Mapped[Decimal] = mapped_column(LegacyNumeric())
    final_balance: Mapped[Decimal | None] = mapped_column(LegacyNumeric())
    strategy_name: Mapped[str] = mapped_column(String(100))
    strategy_config: Mapped[Any | None] = mapped_column(JSON())
    symbol: Mapped[str] = mapped_column(String(20))
    timeframe: Mapped[str] = mapped_column(String(10))
    exchange: Mapped[str | None] = mapped_column(String(50))
    total_pnl: Mapped[Decimal | None] = mapped_column(LegacyNumeric())
    total_trades: Mapped[int | None] = mapped_column(BigInteger())
    win_rate: Mapped[float | None] = mapped_column(Ratio())
    max_drawdown: Mapped[float | None] = mapped_column(Ratio())
    created_at: Mapped[datetime | None] = mapped_column(DateTime())
    updated_at: Mapped[datetime | None] = mapped_column(DateTime())


class Position(Base):
    """What is held, or was. ``order_id`` is the intent that opened it (in rows that the bot writes)."""

    __tablename__ = "positions"
    __table_args__ = (
        UniqueConstraint("order_id", name="uq_positions_order_id"),
        Index("ix_positions_entry_time", "entry_time"),
        Index("ix_positions_symbol", "symbol"),
        Index("ix_positions_status", "status", "entry_time", "id"),
    )

    id: Mapped[int] = mapped_column(LegacyKey, Identity(), primary_key=True)
    symbol: Mapped[str] = mapped_column(String(20))
    side: Mapped[str] = mapped_column(String(5))
    status: Mapped[str] = mapped_column(String(9))
    entry_price: Mapped[Decimal] = mapped_column(LegacyNumeric())
    size: Mapped[Decimal] = mapped_column(LegacyNumeric())
    quantity: Mapped[Decimal | None] = mapped_column(LegacyNumeric())
    stop_loss: Mapped[Decimal | None] = mapped_column(LegacyNumeric())
    take_profit: Mapped[Decimal | None] = mapped_column(LegacyNumeric())
    trailing_stop: Mapped[bool | None] = mapped_column(Boolean())
    entry_time: Mapped[datetime] = mapped_column(DateTime())
    last_update: Mapped[datetime | None] = mapped_column(DateTime())
    current_price: Mapped[Decimal | None] = mapped_column(LegacyNumeric())
    unrealized_pnl: Mapped[Decimal | None] = mapped_column(LegacyNumeric())
    unrealized_pnl_percent: Mapped[float | None] = mapped_column(Ratio())
    strategy_name: Mapped[str] = mapped_column(String(100))
    confidence_score: Mapped[float | None] = mapped_column(Ratio())
    order_id: Mapped[str | None] = mapped_column(String(100))
    exchange: Mapped[str | None] = mapped_column(String(50))
    session_id: Mapped[int | None] = mapped_column(LegacyKey, ForeignKey("trading_sessions.id"))
    created_at: Mapped[datetime | None] = mapped_column(DateTime())
    updated_at: Mapped[datetime | None] = mapped_column(DateTime())


class AccountHistory(Base):
    """Balance and equity over time: the equity curve."""

    __tablename__ = "account_history"
    __table_args__ = (
        Index("ix_account_history_timestamp", "timestamp"),
        Index("ix_account_history_session", "session_id", "timestamp", "id"),
    )

    id: Mapped[int] = mapped_column(LegacyKey, Identity(), primary_key=True)
    timestamp: Mapped[datetime] = mapped_column(DateTime())
    balance: Mapped[Decimal] = mapped_column(LegacyNumeric())
    equity: Mapped[Decimal] = mapped_column(LegacyNumeric())
    margin_used: Mapped[Decimal | None] = mapped_column(LegacyNumeric())
    margin_available: Mapped[Decimal | None] = mapped_column(LegacyNumeric())
    total_pnl: Mapped[Decimal | None] = mapped_column(LegacyNumeric())
    daily_pnl: Mapped[Decimal | None] = mapped_column(LegacyNumeric())
    drawdown: Mapped[float | None] = mapped_column(Ratio())
    open_positions: Mapped[int | None] = mapped_column(BigInteger())
    total_exposure: Mapped[Decimal | None] = mapped_column(LegacyNumeric())
    session_id: Mapped[int | None] = mapped_column(LegacyKey, ForeignKey("trading_sessions.id"))
    created_at: Mapped[datetime | None] = mapped_column(DateTime())


class PerformanceMetric(Base):
    """Figures by period, as the original system computed them."""

    __tablename__ = "performance_metrics"
    __table_args__ = (
        UniqueConstraint(
            "period", "period_start", "session_id", name="uq_performance_metrics_period_period_start_session_id"
        ),
        Index("idx_metrics_period", "period", "period_start"),
        Index("ix_performance_metrics_period_start", "period_start"),
    )

    id: Mapped[int] = mapped_column(LegacyKey, Identity(), primary_key=True)
    period: Mapped[str] = mapped_column(String(20))
    period_start: Mapped[datetime] = mapped_column(DateTime())
    period_end: Mapped[datetime] = mapped_column(DateTime())
    total_trades: Mapped[int | None] = mapped_column(BigInteger())
    winning_trades: Mapped[int | None] = mapped_column(BigInteger())
    losing_trades: Mapped[int | None] = mapped_column(BigInteger())
    win_rate: Mapped[float | None] = mapped_column(Ratio())
    total_return: Mapped[Decimal | None] = mapped_column(LegacyNumeric())
    total_return_percent: Mapped[float | None] = mapped_column(Ratio())
    max_drawdown: Mapped[float | None] = mapped_column(Ratio())
    max_drawdown_duration: Mapped[int | None] = mapped_column(BigInteger())
    sharpe_ratio: Mapped[float | None] = mapped_column(Ratio())
    sortino_ratio: Mapped[float | None] = mapped_column(Ratio())
    calmar_ratio: Mapped[float | None] = mapped_column(Ratio())
    avg_win: Mapped[Decimal | None] = mapped_column(LegacyNumeric())
    avg_loss: Mapped[Decimal | None] = mapped_column(LegacyNumeric())
    profit_factor: Mapped[float | None] = mapped_column(Ratio())
    expectancy: Mapped[Decimal | None] = mapped_column(LegacyNumeric())
    best_trade_pnl: Mapped[Decimal | None] = mapped_column(LegacyNumeric())
    worst_trade_pnl: Mapped[Decimal | None] = mapped_column(LegacyNumeric())
    largest_win_streak: Mapped[int | None] = mapped_column(BigInteger())
    largest_loss_streak: Mapped[int | None] = mapped_column(BigInteger())
    strategy_breakdown: Mapped[Any | None] = mapped_column(JSON())
    session_id: Mapped[int | None] = mapped_column(LegacyKey, ForeignKey("trading_sessions.id"))
    created_at: Mapped[datetime | None] = mapped_column(DateTime())
    updated_at: Mapped[datetime | None] = mapped_column(DateTime())


class SystemEvent(Base):
    """What happened, for people: starts, stops, errors."""

    __tablename__ = "system_events"
    __table_args__ = (
        Index("idx_event_severity", "severity", "timestamp"),
        Index("idx_event_time_type", "timestamp", "event_type"),
        Index("ix_system_events_timestamp", "timestamp"),
    )

    id: Mapped[int] = mapped_column(LegacyKey, Identity(), primary_key=True)
    timestamp: Mapped[datetime] = mapped_column(DateTime())
    event_type: Mapped[str] = mapped_column(String(15))
    severity: Mapped[str | None] = mapped_column(String(20))
    message: Mapped[str] = mapped_column(Text())
    details: Mapped[Any | None] = mapped_column(JSON())
    component: Mapped[str | None] = mapped_column(String(100))
    error_code: Mapped[str | None] = mapped_column(String(50))
    stack_trace: Mapped[str | None] = mapped_column(Text())
    alert_sent: Mapped[bool | None] = mapped_column(Boolean())
    alert_method: Mapped[str | None] = mapped_column(String(50))
    session_id: Mapped[int | None] = mapped_column(LegacyKey, ForeignKey("trading_sessions.id"))
    created_at: Mapped[datetime | None] = mapped_column(DateTime())


class Trade(Base):
    """A closed round trip. ``order_id`` is the intent that closed it (in rows that the bot writes)."""

    __tablename__ = "trades"
    __table_args__ = (
        UniqueConstraint("order_id", name="uq_trades_order_id"),
        Index("idx_trade_time", "entry_time", "exit_time"),
        # the dashboard's pages: each order that a list may have, alone, in a session, and in a group of labels
        Index("ix_trades_exit", "exit_time", "id"),
        Index("ix_trades_session_exit", "session_id", "exit_time", "id"),
        Index(
            "ix_trades_group_exit",
            "symbol", "strategy_name", "source", "exit_time", "id",
            postgresql_include=["session_id", "pnl", "pnl_percent"],
        ),
        Index(
            "ix_trades_group_pnl",
            "symbol", "strategy_name", "source", "pnl", "id",
            postgresql_include=["exit_time", "session_id"],
        ),
        Index(
            "ix_trades_group_return",
            "symbol", "strategy_name", "source", "pnl_percent", "id",
            postgresql_include=["exit_time", "session_id"],
        ),
    )  # fmt: skip

    id: Mapped[int] = mapped_column(LegacyKey, Identity(), primary_key=True)
    symbol: Mapped[str] = mapped_column(String(20))
    side: Mapped[str] = mapped_column(String(5))
    source: Mapped[str] = mapped_column(String(8))
    entry_price: Mapped[Decimal] = mapped_column(LegacyNumeric())
    exit_price: Mapped[Decimal] = mapped_column(LegacyNumeric())
    size: Mapped[Decimal] = mapped_column(LegacyNumeric())
    quantity: Mapped[Decimal | None] = mapped_column(LegacyNumeric())
    entry_time: Mapped[datetime] = mapped_column(DateTime())
    exit_time: Mapped[datetime] = mapped_column(DateTime())
    pnl: Mapped[Decimal] = mapped_column(LegacyNumeric())
    pnl_percent: Mapped[float] = mapped_column(Ratio())
    commission: Mapped[Decimal | None] = mapped_column(LegacyNumeric())
    stop_loss: Mapped[Decimal | None] = mapped_column(LegacyNumeric())
    take_profit: Mapped[Decimal | None] = mapped_column(LegacyNumeric())
    exit_reason: Mapped[str | None] = mapped_column(String(100))
    strategy_name: Mapped[str] = mapped_column(String(100))
    strategy_config: Mapped[Any | None] = mapped_column(JSON())
    confidence_score: Mapped[float | None] = mapped_column(Ratio())
    order_id: Mapped[str | None] = mapped_column(String(100))
    exchange: Mapped[str | None] = mapped_column(String(50))
    timeframe: Mapped[str | None] = mapped_column(String(10))
    position_id: Mapped[int | None] = mapped_column(LegacyKey, ForeignKey("positions.id"))
    session_id: Mapped[int | None] = mapped_column(LegacyKey, ForeignKey("trading_sessions.id"))
    created_at: Mapped[datetime | None] = mapped_column(DateTime())
    updated_at: Mapped[datetime | None] = mapped_column(DateTime())


class StrategyExecution(Base):
    """What a strategy saw and decided at one time."""

    __tablename__ = "strategy_executions"
    __table_args__ = (Index("ix_strategy_executions_timestamp", "timestamp"),)

    id: Mapped[int] = mapped_column(LegacyKey, Identity(), primary_key=True)
    timestamp: Mapped[datetime] = mapped_column(DateTime())
    strategy_name: Mapped[str] = mapped_column(String(100))
    symbol: Mapped[str] = mapped_column(String(20))
    timeframe: Mapped[str | None] = mapped_column(String(10))
    signal_type: Mapped[str | None] = mapped_column(String(20))
    signal_strength: Mapped[float | None] = mapped_column(Ratio())
    confidence_score: Mapped[float | None] = mapped_column(Ratio())
    indicators: Mapped[Any | None] = mapped_column(JSON())
    sentiment_data: Mapped[Any | None] = mapped_column(JSON())
    ml_predictions: Mapped[Any | None] = mapped_column(JSON())
    action_taken: Mapped[str | None] = mapped_column(String(50))
    position_size: Mapped[Decimal | None] = mapped_column(LegacyNumeric())
    reasons: Mapped[Any | None] = mapped_column(JSON())
    price: Mapped[Decimal | None] = mapped_column(LegacyNumeric())
    volume: Mapped[Decimal | None] = mapped_column(LegacyNumeric())
    volatility: Mapped[float | None] = mapped_column(Ratio())
    session_id: Mapped[int | None] = mapped_column(LegacyKey, ForeignKey("trading_sessions.id"))
    trade_id: Mapped[int | None] = mapped_column(LegacyKey, ForeignKey("trades.id"))
    created_at: Mapped[datetime | None] = mapped_column(DateTime())


class BotLease(Base):
    """The one writer, on the database's clock. Each take-over raises ``epoch``, which decisions are tested against."""

    __tablename__ = "bot_lease"

    name: Mapped[str] = mapped_column(String(50), primary_key=True)
    holder: Mapped[str] = mapped_column(String(200))
    epoch: Mapped[int] = mapped_column(BigInteger())
    acquired_at: Mapped[datetime] = mapped_column(UtcDateTime())
    renewed_at: Mapped[datetime] = mapped_column(UtcDateTime())
    expires_at: Mapped[datetime] = mapped_column(UtcDateTime())


class OrderIntent(Base):
    """What the bot decided, committed before it acts. Its id derives from the decision: deciding twice is one row."""

    __tablename__ = "order_intents"
    __table_args__ = (
        CheckConstraint("side IN ('BUY', 'SELL')", name="ck_order_intents_side"),
        CheckConstraint("leg IN ('ENTRY', 'EXIT')", name="ck_order_intents_leg"),
        CheckConstraint("status IN ('PENDING', 'FILLED', 'REJECTED', 'CANCELLED')", name="ck_order_intents_status"),
        Index("ix_order_intents_status", "status"),
        Index("ix_order_intents_session_id", "session_id"),
    )

    intent_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    session_id: Mapped[int] = mapped_column(LegacyKey, ForeignKey("trading_sessions.id"))
    lease_epoch: Mapped[int] = mapped_column(BigInteger())
    strategy_name: Mapped[str] = mapped_column(String(100))
    venue: Mapped[str] = mapped_column(String(50))
    symbol: Mapped[str] = mapped_column(String(20))
    side: Mapped[str] = mapped_column(String(4))
    leg: Mapped[str] = mapped_column(String(5))
    quantity: Mapped[Decimal] = mapped_column(ExactNumeric())
    reference_price: Mapped[Decimal] = mapped_column(ExactNumeric())
    signal_time: Mapped[datetime] = mapped_column(UtcDateTime())
    reason: Mapped[str | None] = mapped_column(String(100))
    status: Mapped[str] = mapped_column(String(10))
    created_at: Mapped[datetime] = mapped_column(UtcDateTime())
    updated_at: Mapped[datetime] = mapped_column(UtcDateTime())
    entry_intent_id: Mapped[str | None] = mapped_column(String(64))


class VenueOrder(Base):
    """An order as the venue last described it. Its client order id is the intent that it carries out."""

    __tablename__ = "venue_orders"
    __table_args__ = (
        PrimaryKeyConstraint("venue", "client_order_id"),
        CheckConstraint("side IN ('BUY', 'SELL')", name="ck_venue_orders_side"),
        CheckConstraint(
            "status IN ('ACCEPTED', 'PARTIALLY_FILLED', 'FILLED', 'CANCELLED', 'REJECTED')",
            name="ck_venue_orders_status",
        ),
        Index("ix_venue_orders_client_order_id", "client_order_id"),
        Index("ix_venue_orders_session_id", "session_id"),
    )

    venue: Mapped[str] = mapped_column(String(50))
    client_order_id: Mapped[str] = mapped_column(String(64), ForeignKey("order_intents.intent_id"))
    venue_order_id: Mapped[str] = mapped_column(String(100))
    session_id: Mapped[int] = mapped_column(LegacyKey, ForeignKey("trading_sessions.id"))
    symbol: Mapped[str] = mapped_column(String(20))
    side: Mapped[str] = mapped_column(String(4))
    quantity: Mapped[Decimal] = mapped_column(ExactNumeric())
    filled_quantity: Mapped[Decimal] = mapped_column(ExactNumeric())
    status: Mapped[str] = mapped_column(String(16))
    submitted_at: Mapped[datetime] = mapped_column(UtcDateTime())
    accepted_at: Mapped[datetime | None] = mapped_column(UtcDateTime())
    updated_at: Mapped[datetime] = mapped_column(UtcDateTime())
    lease_epoch: Mapped[int] = mapped_column(BigInteger())


class Fill(Base):
    """What the venue says happened, under the venue's own id: the same fact twice is one row.

    ``venue_sequence`` is the venue's own order of its fills. ``late`` says that a later leader recorded it than the one
    that decided it, or that it came out of the spool.
    """

    __tablename__ = "fills"
    __table_args__ = (
        PrimaryKeyConstraint("venue", "venue_trade_id"),
        CheckConstraint("side IN ('BUY', 'SELL')", name="ck_fills_side"),
        # NaN is above everything in Postgres; SQLite keeps the text, and reads "NaN" as 0
        CheckConstraint("price > 0 AND price < 'Infinity'", name="ck_fills_price").ddl_if(dialect="postgresql"),
        CheckConstraint("quantity > 0 AND quantity < 'Infinity'", name="ck_fills_quantity").ddl_if(
            dialect="postgresql"
        ),
        CheckConstraint("CAST(price AS REAL) > 0", name="ck_fills_price").ddl_if(dialect="sqlite"),
        CheckConstraint("CAST(quantity AS REAL) > 0", name="ck_fills_quantity").ddl_if(dialect="sqlite"),
        Index("ix_fills_intent_id", "intent_id"),
    )

    venue: Mapped[str] = mapped_column(String(50))
    venue_trade_id: Mapped[str] = mapped_column(String(100))
    intent_id: Mapped[str] = mapped_column(String(64), ForeignKey("order_intents.intent_id"))
    symbol: Mapped[str] = mapped_column(String(20))
    side: Mapped[str] = mapped_column(String(4))
    price: Mapped[Decimal] = mapped_column(ExactNumeric())
    quantity: Mapped[Decimal] = mapped_column(ExactNumeric())
    fee: Mapped[Decimal] = mapped_column(ExactNumeric())
    fee_currency: Mapped[str] = mapped_column(String(10))
    filled_at: Mapped[datetime] = mapped_column(UtcDateTime())
    recorded_at: Mapped[datetime] = mapped_column(UtcDateTime())
    lease_epoch: Mapped[int] = mapped_column(BigInteger())
    venue_sequence: Mapped[int | None] = mapped_column(BigInteger())
    late: Mapped[bool] = mapped_column(Boolean(), server_default=false())


class LedgerEntry(Base):
    """One line of the double-entry books: append-only, and for each fill and currency the amounts add up to 0.

    What the account has is positive in ``cash`` and ``inventory`` (at cost, first in first out); what it has spent on
    fees is positive in ``fees``; ``pnl`` and ``equity`` are the other side, so that a gain is negative there. A session
    opens with one pair of lines that have no fill: cash against equity.
    """

    __tablename__ = "ledger_entries"
    __table_args__ = (
        CheckConstraint(
            "account IN ('cash', 'inventory', 'fees', 'pnl', 'equity')", name="ck_ledger_entries_account"
        ),
        CheckConstraint("amount <> 0 AND abs(amount) < 'Infinity'", name="ck_ledger_entries_amount").ddl_if(
            dialect="postgresql"
        ),
        CheckConstraint("CAST(amount AS REAL) <> 0", name="ck_ledger_entries_amount").ddl_if(dialect="sqlite"),
        Index(
            "uq_ledger_entries_fill",
            "session_id", "venue", "venue_trade_id", "account", "currency",
            unique=True,
        ),
        Index(
            "uq_ledger_entries_opening",
            "session_id", "account", "currency",
            unique=True,
            postgresql_where=text("venue_trade_id IS NULL"),
            sqlite_where=text("venue_trade_id IS NULL"),
        ),
    )  # fmt: skip

    entry_id: Mapped[int] = mapped_column(LegacyKey, Identity(), primary_key=True)
    session_id: Mapped[int] = mapped_column(LegacyKey, ForeignKey("trading_sessions.id"))
    venue: Mapped[str] = mapped_column(String(50))
    venue_trade_id: Mapped[str | None] = mapped_column(String(100))
    account: Mapped[str] = mapped_column(String(10))
    currency: Mapped[str] = mapped_column(String(10))
    amount: Mapped[Decimal] = mapped_column(ExactNumeric())
    recorded_at: Mapped[datetime] = mapped_column(UtcDateTime())
    lease_epoch: Mapped[int] = mapped_column(BigInteger())


class QuarantinedFact(Base):
    """A fact that contradicts one recorded under the same id: both are kept, and somebody has to look.

    While ``resolved_at`` is empty, the bot opens nothing. ``digest`` is of what was received: the same contradiction
    twice is one row.
    """

    __tablename__ = "quarantined_facts"
    __table_args__ = (
        UniqueConstraint("venue", "venue_trade_id", "kind", "digest", name="uq_quarantined_facts_received"),
        Index(
            "ix_quarantined_facts_open",
            "quarantined_at",
            postgresql_where=text("resolved_at IS NULL"),
            sqlite_where=text("resolved_at IS NULL"),
        ),
    )

    id: Mapped[int] = mapped_column(LegacyKey, Identity(), primary_key=True)
    venue: Mapped[str] = mapped_column(String(50))
    venue_trade_id: Mapped[str] = mapped_column(String(100))
    kind: Mapped[str] = mapped_column(String(20))
    digest: Mapped[str] = mapped_column(String(64))
    received: Mapped[Any] = mapped_column(JSON())
    stored: Mapped[Any | None] = mapped_column(JSON())
    differing: Mapped[str] = mapped_column(Text())
    quarantined_at: Mapped[datetime] = mapped_column(UtcDateTime())
    lease_epoch: Mapped[int] = mapped_column(BigInteger())
    resolved_at: Mapped[datetime | None] = mapped_column(UtcDateTime())
    resolution: Mapped[str | None] = mapped_column(Text())


__all__ = [
    "AccountHistory",
    "Base",
    "BotLease",
    "EquityHour",
    "Fill",
    "LedgerEntry",
    "LegacyKey",
    "OrderIntent",
    "PerformanceMetric",
    "Position",
    "QuarantinedFact",
    "StrategyExecution",
    "StrategyWeek",
    "SystemEvent",
    "Trade",
    "TradeCellDay",
    "TradeDay",
    "TradeGroup",
    "TradeHistogram",
    "TradingSession",
    "VenueOrder",
]
