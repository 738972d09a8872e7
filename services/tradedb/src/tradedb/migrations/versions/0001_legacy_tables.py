"""The seven tables of the original SQLite file, with its names and every column.

Numbers land in types that hold each stored value exactly, times keep their wall clock, labels and JSON stay the text they
were. On SQLite this is the shape of the original file itself, so that one can be adopted as it is (tradedb.adopt).
"""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
COUNT = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
MONEY = sa.Numeric().with_variant(sa.Float(), "sqlite")
RATIO = sa.Double().with_variant(sa.Float(), "sqlite")
TIME = sa.DateTime()
JSON = sa.JSON()


def upgrade() -> None:
    op.create_table(
        "trading_sessions",
        sa.Column("id", KEY, sa.Identity(), nullable=False),
        sa.Column("session_name", sa.String(100), nullable=True),
        sa.Column("start_time", TIME, nullable=False),
        sa.Column("end_time", TIME, nullable=True),
        sa.Column("is_active", sa.Boolean(), nullable=True),
        sa.Column("mode", sa.String(8), nullable=False),
        sa.Column("initial_balance", MONEY, nullable=False),
        sa.Column("final_balance", MONEY, nullable=True),
        sa.Column("strategy_name", sa.String(100), nullable=False),
        sa.Column("strategy_config", JSON, nullable=True),
        sa.Column("symbol", sa.String(20), nullable=False),
        sa.Column("timeframe", sa.String(10), nullable=False),
        sa.Column("exchange", sa.String(50), nullable=True),
        sa.Column("total_pnl", MONEY, nullable=True),
        sa.Column("total_trades", COUNT, nullable=True),
        sa.Column("win_rate", RATIO, nullable=True),
        sa.Column("max_drawdown", RATIO, nullable=True),
        sa.Column("created_at", TIME, nullable=True),
        sa.Column("updated_at", TIME, nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_trading_sessions_start_time", "trading_sessions", ["start_time"])
    op.create_table(
        "positions",
        sa.Column("id", KEY, sa.Identity(), nullable=False),
        sa.Column("symbol", sa.String(20), nullable=False),
        sa.Column("side", sa.String(5), nullable=False),
        sa.Column("status", sa.String(9), nullable=False),
        sa.Column("entry_price", MONEY, nullable=False),
        sa.Column("size", MONEY, nullable=False),
        sa.Column("quantity", MONEY, nullable=True),
        sa.Column("stop_loss", MONEY, nullable=True),
        sa.Column("take_profit", MONEY, nullable=True),
        sa.Column("trailing_stop", sa.Boolean(), nullable=True),
        sa.Column("entry_time", TIME, nullable=False),
        sa.Column("last_update", TIME, nullable=True),
        sa.Column("current_price", MONEY, nullable=True),
        sa.Column("unrealized_pnl", MONEY, nullable=True),
        sa.Column("unrealized_pnl_percent", RATIO, nullable=True),
        sa.Column("strategy_name", sa.String(100), nullable=False),
        sa.Column("confidence_score", RATIO, nullable=True),
        sa.Column("order_id", sa.String(100), nullable=True),
        sa.Column("exchange", sa.String(50), nullable=True),
        sa.Column("session_id", KEY, nullable=True),
        sa.Column("created_at", TIME, nullable=True),
        sa.Column("updated_at", TIME, nullable=True),
        sa.ForeignKeyConstraint(["session_id"], ["trading_sessions.id"]),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("order_id", name="uq_positions_order_id"),
    )
    op.create_index("ix_positions_entry_time", "positions", ["entry_time"])
    op.create_index("ix_positions_symbol", "positions", ["symbol"])
    op.create_table(
        "account_history",
        sa.Column("id", KEY, sa.Identity(), nullable=False),
        sa.Column("timestamp", TIME, nullable=False),
        sa.Column("balance", MONEY, nullable=False),
        sa.Column("equity", MONEY, nullable=False),
        sa.Column("margin_used", MONEY, nullable=True),
        sa.Column("margin_available", MONEY, nullable=True),
        sa.Column("total_pnl", MONEY, nullable=True),
        sa.Column("daily_pnl", MONEY, nullable=True),
        sa.Column("drawdown", RATIO, nullable=True),
        sa.Column("open_positions", COUNT, nullable=True),
        sa.Column("total_exposure", MONEY, nullable=True),
        sa.Column("session_id", KEY, nullable=True),
        sa.Column("created_at", TIME, nullable=True),
        sa.ForeignKeyConstraint(["session_id"], ["trading_sessions.id"]),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("idx_account_time", "account_history", ["timestamp"])
    op.create_index("ix_account_history_timestamp", "account_history", ["timestamp"])
    op.create_table(
        "performance_metrics",
        sa.Column("id", KEY, sa.Identity(), nullable=False),
        sa.Column("period", sa.String(20), nullable=False),
        sa.Column("period_start", TIME, nullable=False),
        sa.Column("period_end", TIME, nullable=False),
        sa.Column("total_trades", COUNT, nullable=True),
        sa.Column("winning_trades", COUNT, nullable=True),
        sa.Column("losing_trades", COUNT, nullable=True),
        sa.Column("win_rate", RATIO, nullable=True),
        sa.Column("total_return", MONEY, nullable=True),
        sa.Column("total_return_percent", RATIO, nullable=True),
        sa.Column("max_drawdown", RATIO, nullable=True),
        sa.Column("max_drawdown_duration", COUNT, nullable=True),
        sa.Column("sharpe_ratio", RATIO, nullable=True),
        sa.Column("sortino_ratio", RATIO, nullable=True),
        sa.Column("calmar_ratio", RATIO, nullable=True),
        sa.Column("avg_win", MONEY, nullable=True),
        sa.Column("avg_loss", MONEY, nullable=True),
        sa.Column("profit_factor", RATIO, nullable=True),
        sa.Column("expectancy", MONEY, nullable=True),
        sa.Column("best_trade_pnl", MONEY, nullable=True),
        sa.Column("worst_trade_pnl", MONEY, nullable=True),
        sa.Column("largest_win_streak", COUNT, nullable=True),
        sa.Column("largest_loss_streak", COUNT, nullable=True),
        sa.Column("strategy_breakdown", JSON, nullable=True),
        sa.Column("session_id", KEY, nullable=True),
        sa.Column("created_at", TIME, nullable=True),
        sa.Column("updated_at", TIME, nullable=True),
        sa.ForeignKeyConstraint(["session_id"], ["trading_sessions.id"]),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint(
            "period", "period_start", "session_id", name="uq_performance_metrics_period_period_start_session_id"
        ),
    )
    op.create_index("idx_metrics_period", "performance_metrics", ["period", "period_start"])
    op.create_index("ix_performance_metrics_period_start", "performance_metrics", ["period_start"])
    op.create_table(
        "system_events",
        sa.Column("id", KEY, sa.Identity(), nullable=False),
        sa.Column("timestamp", TIME, nullable=False),
        sa.Column("event_type", sa.String(15), nullable=False),
        sa.Column("severity", sa.String(20), nullable=True),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("details", JSON, nullable=True),
        sa.Column("component", sa.String(100), nullable=True),
        sa.Column("error_code", sa.String(50), nullable=True),
        sa.Column("stack_trace", sa.Text(), nullable=True),
        sa.Column("alert_sent", sa.Boolean(), nullable=True),
        sa.Column("alert_method", sa.String(50), nullable=True),
        sa.Column("session_id", KEY, nullable=True),
        sa.Column("created_at", TIME, nullable=True),
        sa.ForeignKeyConstraint(["session_id"], ["trading_sessions.id"]),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("idx_event_severity", "system_events", ["severity", "timestamp"])
    op.create_index("idx_event_time_type", "system_events", ["timestamp", "event_type"])
    op.create_index("ix_system_events_timestamp", "system_events", ["timestamp"])
    op.create_table(
        "trades",
        sa.Column("id", KEY, sa.Identity(), nullable=False),
        sa.Column("symbol", sa.String(20), nullable=False),
        sa.Column("side", sa.String(5), nullable=False),
        sa.Column("source", sa.String(8), nullable=False),
        sa.Column("entry_price", MONEY, nullable=False),
        sa.Column("exit_price", MONEY, nullable=False),
        sa.Column("size", MONEY, nullable=False),
        sa.Column("quantity", MONEY, nullable=True),
        sa.Column("entry_time", TIME, nullable=False),
        sa.Column("exit_time", TIME, nullable=False),
        sa.Column("pnl", MONEY, nullable=False),
        sa.Column("pnl_percent", RATIO, nullable=False),
        sa.Column("commission", MONEY, nullable=True),
        sa.Column("stop_loss", MONEY, nullable=True),
        sa.Column("take_profit", MONEY, nullable=True),
        sa.Column("exit_reason", sa.String(100), nullable=True),
        sa.Column("strategy_name", sa.String(100), nullable=False),
        sa.Column("strategy_config", JSON, nullable=True),
        sa.Column("confidence_score", RATIO, nullable=True),
        sa.Column("order_id", sa.String(100), nullable=True),
        sa.Column("exchange", sa.String(50), nullable=True),
        sa.Column("timeframe", sa.String(10), nullable=True),
        sa.Column("position_id", KEY, nullable=True),
        sa.Column("session_id", KEY, nullable=True),
        sa.Column("created_at", TIME, nullable=True),
        sa.Column("updated_at", TIME, nullable=True),
        sa.ForeignKeyConstraint(["position_id"], ["positions.id"]),
        sa.ForeignKeyConstraint(["session_id"], ["trading_sessions.id"]),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("order_id", name="uq_trades_order_id"),
    )
    op.create_index("idx_trade_performance", "trades", ["pnl_percent", "strategy_name"])
    op.create_index("idx_trade_time", "trades", ["entry_time", "exit_time"])
    op.create_index("ix_trades_entry_time", "trades", ["entry_time"])
    op.create_index("ix_trades_exit_time", "trades", ["exit_time"])
    op.create_index("ix_trades_strategy_name", "trades", ["strategy_name"])
    op.create_index("ix_trades_symbol", "trades", ["symbol"])
    op.create_table(
        "strategy_executions",
        sa.Column("id", KEY, sa.Identity(), nullable=False),
        sa.Column("timestamp", TIME, nullable=False),
        sa.Column("strategy_name", sa.String(100), nullable=False),
        sa.Column("symbol", sa.String(20), nullable=False),
        sa.Column("timeframe", sa.String(10), nullable=True),
        sa.Column("signal_type", sa.String(20), nullable=True),
        sa.Column("signal_strength", RATIO, nullable=True),
        sa.Column("confidence_score", RATIO, nullable=True),
        sa.Column("indicators", JSON, nullable=True),
        sa.Column("sentiment_data", JSON, nullable=True),
        sa.Column("ml_predictions", JSON, nullable=True),
        sa.Column("action_taken", sa.String(50), nullable=True),
        sa.Column("position_size", MONEY, nullable=True),
        sa.Column("reasons", JSON, nullable=True),
        sa.Column("price", MONEY, nullable=True),
        sa.Column("volume", MONEY, nullable=True),
        sa.Column("volatility", RATIO, nullable=True),
        sa.Column("session_id", KEY, nullable=True),
        sa.Column("trade_id", KEY, nullable=True),
        sa.Column("created_at", TIME, nullable=True),
        sa.ForeignKeyConstraint(["session_id"], ["trading_sessions.id"]),
        sa.ForeignKeyConstraint(["trade_id"], ["trades.id"]),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_strategy_executions_timestamp", "strategy_executions", ["timestamp"])
