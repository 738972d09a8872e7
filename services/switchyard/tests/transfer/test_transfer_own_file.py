"""From local SQLite to the stack: a file that our own bot wrote moves too, with exact money and times."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

from sqlalchemy import Connection, insert, select
from tradedb.manager import DatabaseManager
from tradedb.migrate import upgrade
from tradedb.models import BotLease, Fill, OrderIntent, TradingSession
from tradedb.testing import ThrowawayDatabase
from transfer_harness import run_copy, url_of

AT = datetime(2026, 3, 29, 1, 30, 0, 123456, tzinfo=UTC)  # an hour that does not exist on every European wall clock
PRICE = Decimal("60997.300000000000000001")  # more digits than a double has


def _write(connection: Connection) -> None:
    session = connection.execute(
        insert(TradingSession).values(
            session_name="switchyard-x", start_time=AT.replace(tzinfo=None), is_active=True, mode="PAPER",
            initial_balance=Decimal(10000), strategy_name="MovingAverageCross", symbol="BTCUSDT", timeframe="2s",
            exchange="SIMULATED",
        )
    ).inserted_primary_key  # fmt: skip
    assert session is not None
    connection.execute(
        insert(BotLease).values(
            name="trading-bot",
            holder="x",
            epoch=7,
            acquired_at=AT,
            renewed_at=AT,
            expires_at=AT + timedelta(seconds=15),
        )
    )
    connection.execute(
        insert(OrderIntent).values(
            intent_id="i1", session_id=session[0], lease_epoch=7, strategy_name="MovingAverageCross", venue="SIMULATED",
            symbol="BTCUSDT", side="BUY", leg="ENTRY", quantity=Decimal("0.1"), reference_price=PRICE, signal_time=AT,
            status="FILLED", created_at=AT, updated_at=AT,
        )
    )  # fmt: skip
    connection.execute(
        insert(Fill).values(
            venue="SIMULATED", venue_trade_id="t1", intent_id="i1", symbol="BTCUSDT", side="BUY", price=PRICE,
            quantity=Decimal("0.1"), fee=Decimal("0.01"), fee_currency="USDT", filled_at=AT, recorded_at=AT,
            lease_epoch=7,
        )
    )  # fmt: skip


def test_a_file_of_our_own_bot_moves_with_exact_money_and_times(
    tmp_path: Path, stack_database: ThrowawayDatabase
) -> None:
    source = tmp_path / "trading_bot.db"
    manager = DatabaseManager(f"sqlite:///{source}", service="bot", create_file=True)
    upgrade(manager)
    manager.transaction(_write, name="write")
    manager.dispose()

    run_copy(source, stack_database, role="migrator")

    target = DatabaseManager(url_of(stack_database), service="test")
    found = target.read(
        lambda conn: conn.execute(
            select(Fill.price, Fill.filled_at, BotLease.expires_at).join_from(
                Fill, BotLease, Fill.lease_epoch == BotLease.epoch
            )
        ).one(),
        name="look",
    )
    target.dispose()
    assert tuple(found) == (PRICE, AT, AT + timedelta(seconds=15))


def test_what_the_target_sums_up_itself_is_left_out() -> None:
    from switchyard.transfer.source import SKIP
    from tradedb.rollups import TABLES

    assert set(SKIP) == TABLES | {"alembic_version"}
