"""A dashboard in this process over a real Postgres or a SQLite file, with rows like the bot's and the copied ones."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from dashboard.app import create_app
from dashboard.reading.snapshots import Snapshots
from dashboard.settings import DashboardSettings
from pydantic import SecretStr
from sqlalchemy import URL, Connection, insert
from starlette.applications import Starlette
from starlette.testclient import TestClient
from tradedb import DatabaseManager, migrate
from tradedb.models import AccountHistory, BotLease, Fill, OrderIntent, Position, Trade, TradingSession
from tradedb.testing import PostgresServer, ThrowawayDatabase, empty_database, migrated_database, throwaway_server

USER = "admin"
PASSWORD = "quiet-otter-lane-41"
ORIGIN = "http://127.0.0.1"  # where a login over plain http is possible


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    with throwaway_server() as server:
        yield server


@pytest.fixture
def database(postgres: PostgresServer) -> Iterator[ThrowawayDatabase]:
    with migrated_database(postgres) as database:
        yield database


@pytest.fixture
def bare_database(postgres: PostgresServer) -> Iterator[ThrowawayDatabase]:
    with empty_database(postgres) as database:
        yield database


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    url = f"sqlite:///{tmp_path / 'trading_bot.db'}"
    migrate.upgrade(url)
    return url


@pytest.fixture
def settings() -> DashboardSettings:
    return DashboardSettings(  # pyright: ignore[reportCallIssue]  the rest has defaults
        dashboard_user=USER,
        dashboard_password=SecretStr(PASSWORD),
        dashboard_session_secret=SecretStr("0123456789abcdef" * 3),
    )


class Visitor:
    """A browser's part: it keeps cookies, sends Origin, and finds the token in a form."""

    def __init__(self, client: TestClient) -> None:
        self.client = client

    def get(self, path: str, **kwargs: Any) -> Any:
        return self.client.get(path, **kwargs)

    def token(self, path: str = "/login") -> str:
        found = re.search(r'name="csrf_token" value="([0-9a-f]+)"', self.get(path).text)
        assert found, path
        return found[1]

    def post(self, path: str, data: dict[str, str], **headers: str) -> Any:
        return self.client.post(path, data=data, headers={"origin": str(self.client.base_url), **headers})

    def sign_in(self, password: str = PASSWORD, user: str = USER, **more: str) -> Any:
        form = {"csrf_token": self.token(), "user": user, "password": password, **more}
        return self.post("/login", form)


Open = Callable[..., Visitor]


@pytest.fixture
def open_dashboard(settings: DashboardSettings) -> Iterator[Open]:
    """Return a function that opens a dashboard on a URL and hands back a visitor, signed in unless told otherwise."""
    with ExitStack() as stack:

        def open_(
            url: URL | str,
            *,
            signed_in: bool = True,
            base_url: str = ORIGIN,
            app: Starlette | None = None,
            patience_s: float = 10,
            **kwargs: Any,
        ) -> Visitor:
            if app is None:
                manager = DatabaseManager(url, service="dashboard")
                # a test looks at what is there now: answers are kept as the last good ones only, none is read ahead
                kwargs = {"snapshots": Snapshots(fresh_for_s=0, patience_s=patience_s), "warm": False, **kwargs}
                app = create_app(settings.model_copy(), manager, **kwargs)
            client = stack.enter_context(
                TestClient(app, base_url=base_url, follow_redirects=False, raise_server_exceptions=False)
            )
            visitor = Visitor(client)
            if signed_in:
                assert visitor.sign_in().status_code == 303
            return visitor

        yield open_


@pytest.fixture
def visitor(database: ThrowawayDatabase, open_dashboard: Open) -> Visitor:
    """A visitor signed in to a dashboard over an empty, migrated Postgres, as the role dashboard."""
    return open_dashboard(database.url("dashboard"))


def write(url: URL | str, work: Callable[[Connection], Any]) -> Any:
    """Run work in one transaction of its own and return what it returns."""
    manager = DatabaseManager(url, service="test")
    try:
        return manager.transaction(work, name="test")
    finally:
        manager.dispose()


def naive_now() -> datetime:
    return datetime.now(UTC).replace(tzinfo=None)


def add_session(conn: Connection, **values: Any) -> int:
    row = {
        "session_name": "switchyard-test",
        "start_time": naive_now() - timedelta(hours=1),
        "is_active": True,
        "mode": "PAPER",
        "initial_balance": Decimal(10000),
        "strategy_name": "MovingAverageCross",
        "symbol": "BTCUSDT",
        "timeframe": "2s",
        "exchange": "SIMULATED",
    }
    return conn.execute(insert(TradingSession).values({**row, **values}).returning(TradingSession.id)).scalar_one()


def add_trade(conn: Connection, **values: Any) -> int:
    row = {
        "symbol": "BTCUSDT",
        "side": "LONG",
        "source": "PAPER",
        "entry_price": Decimal(100),
        "exit_price": Decimal(110),
        "size": Decimal("0.5"),
        "quantity": Decimal(2),
        "entry_time": naive_now() - timedelta(minutes=5),
        "exit_time": naive_now() - timedelta(minutes=1),
        "pnl": Decimal(20),
        "pnl_percent": 10.0,
        "commission": Decimal(1),
        "strategy_name": "MovingAverageCross",
        "exchange": "SIMULATED",
        "exit_reason": "cross",
    }
    return conn.execute(insert(Trade).values({**row, **values}).returning(Trade.id)).scalar_one()


def add_position(conn: Connection, **values: Any) -> int:
    row = {
        "symbol": "BTCUSDT",
        "side": "LONG",
        "status": "OPEN",
        "entry_price": Decimal(100),
        "size": Decimal("0.5"),
        "quantity": Decimal(2),
        "entry_time": naive_now() - timedelta(minutes=2),
        "current_price": Decimal("103.5"),
        "unrealized_pnl": Decimal("7.0"),
        "unrealized_pnl_percent": 3.5,
        "strategy_name": "MovingAverageCross",
        "exchange": "SIMULATED",
    }
    return conn.execute(insert(Position).values({**row, **values}).returning(Position.id)).scalar_one()


def add_equity(conn: Connection, session_id: int, values: list[str], *, every_s: float = 5, **more: Any) -> None:
    start = naive_now() - timedelta(seconds=every_s * len(values))
    peak = Decimal(values[0])
    for i, value in enumerate(map(Decimal, values)):
        peak = max(peak, value)
        below = float((peak - value) / peak * 100)
        row = {
            "timestamp": start + timedelta(seconds=every_s * i),
            "balance": value,
            "equity": value,
            "drawdown": below,
        }
        conn.execute(insert(AccountHistory).values(session_id=session_id, **{**row, **more}))


def add_lease(conn: Connection, *, age_s: float = 1, left_s: float = 14) -> None:
    now = datetime.now(UTC)
    conn.execute(
        insert(BotLease).values(
            name="trading-bot",
            holder="host/1/abc",
            epoch=3,
            acquired_at=now - timedelta(hours=1),
            renewed_at=now - timedelta(seconds=age_s),
            expires_at=now + timedelta(seconds=left_s),
        )
    )


def add_bot(conn: Connection) -> int:
    """A bot at work: lease, session, curve, one trade with its intent and fill, one open position."""
    add_lease(conn)
    session_id = add_session(conn)
    add_equity(conn, session_id, ["10000", "10050", "9949.5", "10020.25"])
    now = datetime.now(UTC)
    conn.execute(
        insert(OrderIntent).values(
            intent_id="exit-1",
            session_id=session_id,
            lease_epoch=3,
            strategy_name="MovingAverageCross",
            venue="SIMULATED",
            symbol="BTCUSDT",
            side="SELL",
            leg="EXIT",
            quantity=Decimal(2),
            reference_price=Decimal(110),
            signal_time=now,
            status="FILLED",
            created_at=now,
            updated_at=now,
        )
    )
    conn.execute(
        insert(Fill).values(
            venue="SIMULATED",
            venue_trade_id="t-1",
            intent_id="exit-1",
            symbol="BTCUSDT",
            side="SELL",
            price=Decimal(110),
            quantity=Decimal(2),
            fee=Decimal(1),
            fee_currency="USDT",
            filled_at=now,
            recorded_at=now,
            lease_epoch=3,
        )
    )
    add_trade(conn, session_id=session_id, order_id="exit-1")
    add_position(conn, session_id=session_id)
    return session_id


def add_history(conn: Connection, trades: int = 7) -> int:
    """What a copied file brings: a backtest whose clock has no zone, trades without fees, positions marked FILLED."""
    when = datetime(2025, 6, 27, 20, 47, 39)  # noqa: DTZ001 - that is the point
    session_id = add_session(
        conn,
        session_name="Backtest_BTCUSDT",
        start_time=when,
        mode="BACKTEST",
        strategy_name="MlBasic",
        timeframe="1h",
        exchange="binance",
        is_active=True,
    )
    for i in range(trades):
        add_trade(
            conn,
            source="BACKTEST",
            strategy_name="MlBasic",
            exchange="binance",
            quantity=None,
            commission=Decimal(0),
            entry_time=when + timedelta(hours=i),
            exit_time=when + timedelta(hours=i + 1),
            session_id=session_id,
            pnl=Decimal("-17.524548159701215") if i % 2 else Decimal("30.5"),
            pnl_percent=-1.28 if i % 2 else 2.5,
        )
    for _ in range(3):
        add_position(conn, status="FILLED", exchange="binance", strategy_name="MlBasic", entry_time=when)
    return session_id


class Rows:
    """Writes rows into one database, each call in a transaction of its own. The functions above say what comes."""

    def __init__(self, url: URL | str) -> None:
        self.url = url

    def _add(self, work: Callable[..., Any], *args: Any, **values: Any) -> Any:
        return write(self.url, lambda conn: work(conn, *args, **values))

    def bot(self) -> int:
        return self._add(add_bot)

    def history(self, trades: int = 7) -> int:
        return self._add(add_history, trades)

    def session(self, **values: Any) -> int:
        return self._add(add_session, **values)

    def trade(self, **values: Any) -> int:
        return self._add(add_trade, **values)

    def position(self, **values: Any) -> int:
        return self._add(add_position, **values)

    def equity(self, session_id: int, values: list[str], **more: Any) -> None:
        self._add(add_equity, session_id, values, **more)

    def lease(self, **values: Any) -> None:
        self._add(add_lease, **values)


@pytest.fixture
def rows_on() -> Callable[[URL | str], Rows]:
    return Rows


@pytest.fixture
def rows(database: ThrowawayDatabase) -> Rows:
    return Rows(database.url("postgres"))
