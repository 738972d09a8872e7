"""Revision 0003: rows of before are kept exactly, and the ledger is append-only on both databases."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import pytest
from sqlalchemy import URL, Connection, select
from sqlalchemy import exc as sa
from tradedb import migrate
from tradedb.manager import DatabaseManager
from tradedb.migrate import upgrade
from tradedb.models import Fill, OrderIntent

MakeManager = Callable[..., DatabaseManager]

OLD_ROWS = (
    "INSERT INTO trading_sessions (start_time, mode, initial_balance, strategy_name, symbol, timeframe)"
    " VALUES ('2026-01-01 00:00:00', 'PAPER', 1, 's', 'X', '1m')",
    "INSERT INTO order_intents VALUES ('i', 1, 1, 's', 'v', 'X', 'BUY', 'ENTRY', '0.1', '1.50',"
    " '2026-01-01 00:00:00.000000+00:00', NULL, 'FILLED', '2026-01-01 00:00:00.000000+00:00',"
    " '2026-01-01 00:00:00.000000+00:00')",
    "INSERT INTO fills (venue, venue_trade_id, intent_id, symbol, side, price, quantity, fee, fee_currency, filled_at,"
    " recorded_at, lease_epoch) VALUES ('v', 't', 'i', 'X', 'BUY', '1.50', '0.1', '0.00000001', 'USD',"
    " '2026-01-01 00:00:00.000000+00:00', '2026-01-01 00:00:00.000000+00:00', 1)",
)


@pytest.fixture(params=["sqlite", "postgresql"])
def url_at_0002(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> URL:
    """A database as the code before 0003 left it."""
    if request.param == "sqlite":
        url = URL.create("sqlite", database=str(tmp_path / "old.db"))
    else:
        url = request.getfixturevalue("empty").url()
    with monkeypatch.context() as patch:
        patch.setattr(migrate, "_revisions", lambda: ["0001", "0002"])
        upgrade(url)
    return url


def test_fills_of_before_are_kept_to_the_last_digit(url_at_0002: URL, make_manager: MakeManager) -> None:
    manager = make_manager(url_at_0002)

    def seed(connection: Connection) -> None:
        for statement in OLD_ROWS:
            connection.exec_driver_sql(statement)

    manager.transaction(seed, name="seed")
    assert upgrade(url_at_0002).applied[0] == "0003"
    row = manager.read(lambda c: c.execute(select(Fill.__table__)).one(), name="t")
    assert (str(row.price), str(row.quantity), row.fee) == ("1.50", "0.1", Decimal("0.00000001"))
    assert (row.venue_sequence, row.late, row.filled_at.year) == (None, False, 2026)
    intent = manager.read(lambda c: c.execute(select(OrderIntent.__table__)).one(), name="t")
    assert (intent.intent_id, intent.entry_intent_id) == ("i", None)
    assert manager.read(migrate.differences, name="t") == []
    for price in ("0", "-1", "NaN", "Infinity"):
        bad = OLD_ROWS[2].replace("'t'", "'u'").replace("1.50", price)
        with pytest.raises(sa.IntegrityError, match="ck_fills_price"):
            manager.transaction(lambda c, bad=bad: c.exec_driver_sql(bad), name="t")


def test_the_sqlite_ledger_too_is_append_only(tmp_path: Path, make_manager: MakeManager) -> None:
    url = URL.create("sqlite", database=str(tmp_path / "books.db"))
    upgrade(url)
    manager = make_manager(url)
    entry = (
        "INSERT INTO ledger_entries (session_id, venue, account, currency, amount, recorded_at, lease_epoch)"
        " VALUES (1, 'v', 'cash', 'USD', {}, '2026-01-01 00:00:00.000000+00:00', 1)"
    )
    manager.transaction(lambda c: c.exec_driver_sql(OLD_ROWS[0]), name="t")
    manager.transaction(lambda c: c.exec_driver_sql(entry.format("'1.5'")), name="t")
    for statement in ("UPDATE ledger_entries SET amount = '2'", "DELETE FROM ledger_entries"):
        with pytest.raises(sa.IntegrityError, match="append-only"):
            manager.transaction(lambda c, statement=statement: c.exec_driver_sql(statement), name="t")
    with pytest.raises(sa.IntegrityError, match="ck_ledger_entries_amount"):
        manager.transaction(lambda c: c.exec_driver_sql(entry.format("'0.00'")), name="t")
