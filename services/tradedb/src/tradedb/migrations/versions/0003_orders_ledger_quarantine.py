"""What the venue says about orders, double-entry books that nobody can rewrite, and facts that contradict each other.

Fills recorded before have no ledger entries yet: the bot writes them when it takes the lead next, with the code that
keeps the books (``trading_bot.ledger``), as it does for a history that is copied in without them.
"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
COUNT = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
MONEY = sa.Numeric().with_variant(sa.String(64), "sqlite")  # SQLite's REAL would lose digits
TIME = sa.DateTime(timezone=True).with_variant(sa.DateTime(), "sqlite")


def upgrade() -> None:
    postgres = op.get_bind().dialect.name == "postgresql"
    op.add_column("order_intents", sa.Column("entry_intent_id", sa.String(64), nullable=True))
    op.create_table(
        "venue_orders",
        sa.Column("venue", sa.String(50), nullable=False),
        sa.Column("client_order_id", sa.String(64), nullable=False),
        sa.Column("venue_order_id", sa.String(100), nullable=False),
        sa.Column("session_id", KEY, nullable=False),
        sa.Column("symbol", sa.String(20), nullable=False),
        sa.Column("side", sa.String(4), nullable=False),
        sa.Column("quantity", MONEY, nullable=False),
        sa.Column("filled_quantity", MONEY, nullable=False),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("submitted_at", TIME, nullable=False),
        sa.Column("accepted_at", TIME, nullable=True),
        sa.Column("updated_at", TIME, nullable=False),
        sa.Column("lease_epoch", COUNT, nullable=False),
        sa.CheckConstraint("side IN ('BUY', 'SELL')", name="ck_venue_orders_side"),
        sa.CheckConstraint(
            "status IN ('ACCEPTED', 'PARTIALLY_FILLED', 'FILLED', 'CANCELLED', 'REJECTED')",
            name="ck_venue_orders_status",
        ),
        sa.ForeignKeyConstraint(["client_order_id"], ["order_intents.intent_id"]),
        sa.ForeignKeyConstraint(["session_id"], ["trading_sessions.id"]),
        sa.PrimaryKeyConstraint("venue", "client_order_id"),
    )
    op.create_index("ix_venue_orders_client_order_id", "venue_orders", ["client_order_id"])
    op.create_index("ix_venue_orders_session_id", "venue_orders", ["session_id"])
    _fills(postgres)
    amount = "amount <> 0 AND abs(amount) < 'Infinity'" if postgres else "CAST(amount AS REAL) <> 0"
    op.create_table(
        "ledger_entries",
        sa.Column("entry_id", KEY, sa.Identity(), nullable=False),
        sa.Column("session_id", KEY, nullable=False),
        sa.Column("venue", sa.String(50), nullable=False),
        sa.Column("venue_trade_id", sa.String(100), nullable=True),
        sa.Column("account", sa.String(10), nullable=False),
        sa.Column("currency", sa.String(10), nullable=False),
        sa.Column("amount", MONEY, nullable=False),
        sa.Column("recorded_at", TIME, nullable=False),
        sa.Column("lease_epoch", COUNT, nullable=False),
        sa.CheckConstraint(
            "account IN ('cash', 'inventory', 'fees', 'pnl', 'equity')", name="ck_ledger_entries_account"
        ),
        sa.CheckConstraint(amount, name="ck_ledger_entries_amount"),
        sa.ForeignKeyConstraint(["session_id"], ["trading_sessions.id"]),
        sa.PrimaryKeyConstraint("entry_id"),
    )
    op.create_index(
        "uq_ledger_entries_fill",
        "ledger_entries",
        ["session_id", "venue", "venue_trade_id", "account", "currency"],
        unique=True,
    )
    op.create_index(
        "uq_ledger_entries_opening",
        "ledger_entries",
        ["session_id", "account", "currency"],
        unique=True,
        postgresql_where=sa.text("venue_trade_id IS NULL"),
        sqlite_where=sa.text("venue_trade_id IS NULL"),
    )
    for statement in _POSTGRES_TRIGGERS if postgres else _SQLITE_TRIGGERS:
        op.execute(statement)
    op.create_table(
        "quarantined_facts",
        sa.Column("id", KEY, sa.Identity(), nullable=False),
        sa.Column("venue", sa.String(50), nullable=False),
        sa.Column("venue_trade_id", sa.String(100), nullable=False),
        sa.Column("kind", sa.String(20), nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("received", sa.JSON(), nullable=False),
        sa.Column("stored", sa.JSON(), nullable=True),
        sa.Column("differing", sa.Text(), nullable=False),
        sa.Column("quarantined_at", TIME, nullable=False),
        sa.Column("lease_epoch", COUNT, nullable=False),
        sa.Column("resolved_at", TIME, nullable=True),
        sa.Column("resolution", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("venue", "venue_trade_id", "kind", "digest", name="uq_quarantined_facts_received"),
    )
    op.create_index(
        "ix_quarantined_facts_open",
        "quarantined_facts",
        ["quarantined_at"],
        postgresql_where=sa.text("resolved_at IS NULL"),
        sqlite_where=sa.text("resolved_at IS NULL"),
    )


def _fills(postgres: bool) -> None:
    """Give fills the venue's own order, say which came late, and refuse a price or quantity that is none."""
    if postgres:
        op.add_column("fills", sa.Column("venue_sequence", sa.BigInteger(), nullable=True))
        op.add_column("fills", sa.Column("late", sa.Boolean(), server_default=sa.false(), nullable=False))
        # NaN is above everything, infinity included
        op.create_check_constraint("ck_fills_price", "fills", "price > 0 AND price < 'Infinity'")
        op.create_check_constraint("ck_fills_quantity", "fills", "quantity > 0 AND quantity < 'Infinity'")
        return
    # SQLite adds no CHECK to a table that is there. Nothing refers to fills, so it is made again.
    op.execute("ALTER TABLE fills RENAME TO fills_0002")
    op.execute("DROP INDEX ix_fills_intent_id")
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
        sa.Column("venue_sequence", COUNT, nullable=True),
        sa.Column("late", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.CheckConstraint("side IN ('BUY', 'SELL')", name="ck_fills_side"),
        sa.CheckConstraint("CAST(price AS REAL) > 0", name="ck_fills_price"),
        sa.CheckConstraint("CAST(quantity AS REAL) > 0", name="ck_fills_quantity"),
        sa.ForeignKeyConstraint(["intent_id"], ["order_intents.intent_id"]),
        sa.PrimaryKeyConstraint("venue", "venue_trade_id"),
    )
    op.execute(
        "INSERT INTO fills SELECT venue, venue_trade_id, intent_id, symbol, side, price, quantity, fee, fee_currency,"
        " filled_at, recorded_at, lease_epoch, NULL, 0 FROM fills_0002"
    )
    op.execute("DROP TABLE fills_0002")
    op.create_index("ix_fills_intent_id", "fills", ["intent_id"])


# The owner too may not rewrite the books: grants do not hold for the owner of a table, triggers do. A balance can only
# be tested when all lines of a fill are there, which is at COMMIT.
_POSTGRES_TRIGGERS = (
    """
    CREATE FUNCTION ledger_is_append_only() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog AS $$
    BEGIN
        RAISE EXCEPTION 'ledger_entries is append-only: % is refused', TG_OP
            USING ERRCODE = 'restrict_violation', HINT = 'correct a mistake with a further entry';
    END $$
    """,
    """
    CREATE TRIGGER ledger_is_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON ledger_entries
    FOR EACH STATEMENT EXECUTE FUNCTION ledger_is_append_only()
    """,
    """
    CREATE FUNCTION ledger_is_balanced() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog AS $$
    DECLARE
        total numeric;
    BEGIN
        IF NEW.venue_trade_id IS NULL THEN
            SELECT sum(amount) INTO total FROM public.ledger_entries
            WHERE session_id = NEW.session_id AND venue_trade_id IS NULL AND currency = NEW.currency;
        ELSE
            SELECT sum(amount) INTO total FROM public.ledger_entries
            WHERE session_id = NEW.session_id AND venue = NEW.venue AND venue_trade_id = NEW.venue_trade_id
                AND currency = NEW.currency;
        END IF;
        IF total <> 0 THEN
            RAISE EXCEPTION 'the ledger entries of session %, %, are out of balance by % %', NEW.session_id,
                coalesce(NEW.venue || ' ' || NEW.venue_trade_id, 'its opening'), total, NEW.currency
                USING ERRCODE = 'check_violation';
        END IF;
        RETURN NULL;
    END $$
    """,
    """
    CREATE CONSTRAINT TRIGGER ledger_is_balanced AFTER INSERT ON ledger_entries
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION ledger_is_balanced()
    """,
)
_SQLITE_TRIGGERS = tuple(
    f"CREATE TRIGGER ledger_refuses_{act.lower()} BEFORE {act} ON ledger_entries"
    f" BEGIN SELECT RAISE(ABORT, 'ledger_entries is append-only: {act} is refused'); END"
    for act in ("UPDATE", "DELETE")
)
