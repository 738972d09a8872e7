"""What makes recording exactly-once: the single writer's lease, intents with a deterministic id, fills keyed by the venue."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
COUNT = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
MONEY = sa.Numeric().with_variant(sa.String(64), "sqlite")  # SQLite's REAL would lose digits
TIME = sa.DateTime(timezone=True).with_variant(sa.DateTime(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "bot_lease",
        sa.Column("name", sa.String(50), nullable=False),
        sa.Column("holder", sa.String(200), nullable=False),
        sa.Column("epoch", COUNT, nullable=False),
        sa.Column("acquired_at", TIME, nullable=False),
        sa.Column("renewed_at", TIME, nullable=False),
        sa.Column("expires_at", TIME, nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_table(
        "order_intents",
        sa.Column("intent_id", sa.String(64), nullable=False),
        sa.Column("session_id", KEY, nullable=False),
        sa.Column("lease_epoch", COUNT, nullable=False),
        sa.Column("strategy_name", sa.String(100), nullable=False),
        sa.Column("venue", sa.String(50), nullable=False),
        sa.Column("symbol", sa.String(20), nullable=False),
        sa.Column("side", sa.String(4), nullable=False),
        sa.Column("leg", sa.String(5), nullable=False),
        sa.Column("quantity", MONEY, nullable=False),
        sa.Column("reference_price", MONEY, nullable=False),
        sa.Column("signal_time", TIME, nullable=False),
        sa.Column("reason", sa.String(100), nullable=True),
        sa.Column("status", sa.String(10), nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("updated_at", TIME, nullable=False),
        sa.CheckConstraint("leg IN ('ENTRY', 'EXIT')", name="ck_order_intents_leg"),
        sa.CheckConstraint("side IN ('BUY', 'SELL')", name="ck_order_intents_side"),
        sa.CheckConstraint("status IN ('PENDING', 'FILLED', 'REJECTED', 'CANCELLED')", name="ck_order_intents_status"),
        sa.ForeignKeyConstraint(["session_id"], ["trading_sessions.id"]),
        sa.PrimaryKeyConstraint("intent_id"),
    )
    op.create_index("ix_order_intents_session_id", "order_intents", ["session_id"])
    op.create_index("ix_order_intents_status", "order_intents", ["status"])
    op.create_table(
        "fills",
        sa.Column("venue", sa.String(50), nullable=False),
        sa.Column("venue_trade_id", sa.String(100), nullable=False),
        sa.Column("intent_id", sa.String(64), nullable=False),
        sa.Column("symbol", sa.String(20), nullable=False),
        sa.Column("side", sa.String(4), nullable=False),
        sa.Column("price", MONEY, nullable=False),
        sa.Column("quantity", MONEY, nullable=False),
        sa.Column("fee", MONEY, nullable=False),
        sa.Column("fee_currency", sa.String(10), nullable=False),
        sa.Column("filled_at", TIME, nullable=False),
        sa.Column("recorded_at", TIME, nullable=False),
        sa.Column("lease_epoch", COUNT, nullable=False),
        sa.CheckConstraint("side IN ('BUY', 'SELL')", name="ck_fills_side"),
        sa.ForeignKeyConstraint(["intent_id"], ["order_intents.intent_id"]),
        sa.PrimaryKeyConstraint("venue", "venue_trade_id"),
    )
    op.create_index("ix_fills_intent_id", "fills", ["intent_id"])
