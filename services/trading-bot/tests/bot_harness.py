"""A bot whose clock the test moves, a database that breaks on demand, and the checker of the books."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, TypeVar

from sqlalchemy import Connection, event, select, update
from tradedb.manager import DatabaseManager, OutcomeUnknown
from tradedb.models import AccountHistory, BotLease, Fill, OrderIntent, Position, Trade, TradingSession
from trading_bot.bot import Bot
from trading_bot.broker import PaperBroker
from trading_bot.feed import SimulatedFeed
from trading_bot.settings import BotSettings
from trading_bot.status import Status
from trading_bot.strategies.moving_average import MovingAverageCross

T = TypeVar("T")
SEED = 7
START = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)


class Crash(Exception):
    """The process ends here."""


@dataclass
class Breaking:
    """A manager that breaks at the n-th point: just before or after a COMMIT, or before a statement about an order.

    how="crash" raises Crash; "unknown" loses the answer of a COMMIT, once, whether it happened or not.
    """

    inner: DatabaseManager
    at: int
    how: str = "crash"
    seen: list[str] = field(default_factory=list)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def _point(self, what: str) -> None:
        self.seen.append(what)
        if len(self.seen) == self.at + 1:
            raise Crash(what) if self.how == "crash" else _lost(what)

    def transaction(self, work: Callable[[Connection], T], *, name: str, **options: Any) -> T:
        def breaking(conn: Connection) -> T:
            if self.how == "crash" and name in ("intent-place", "fill-record"):
                event.listen(conn, "before_cursor_execute", lambda *args: self._point(f"{name}: {args[2][:60]}"))
            result = work(conn)
            self._point(f"{name}: before COMMIT")
            return result

        result = self.inner.transaction(breaking, name=name, **options)
        self._point(f"{name}: after COMMIT")
        return result

    def read(self, work: Callable[[Connection], T], *, name: str, **options: Any) -> T:
        return self.inner.read(work, name=name, **options)


def _lost(what: str) -> OutcomeUnknown:
    return OutcomeUnknown("DB-010", f"{what}: connection lost", why="test", fix="ask")


@dataclass
class Clock:
    """The time as the bot sees it."""

    at: datetime = START
    step_s: int = 2

    def __call__(self) -> datetime:
        return self.at

    def next_candle(self) -> None:
        self.at += timedelta(seconds=self.step_s)


def make_bot(
    manager: Any, clock: Callable[[], datetime], *, holder: str = "one", status: Status | None = None, **changes: Any
) -> Bot:
    """Return a bot whose feed follows the clock; its equity curve has only the points of its fills and its start."""
    settings = BotSettings(bot_seed=SEED, bot_snapshot_interval_s=3600, **changes)
    return Bot(
        settings=settings,
        manager=manager,
        feed=SimulatedFeed(
            seed=settings.bot_seed, symbol=settings.bot_symbol, interval_s=settings.bot_candle_interval_s
        ),
        strategy=MovingAverageCross(),
        broker=PaperBroker(fee_rate=settings.bot_fee_rate, slippage_rate=settings.bot_slippage_rate),
        status=status or Status(),
        holder=holder,
        now=clock,
    )


def run_candles(bot: Bot, clock: Clock, count: int) -> None:
    """Let the bot see ``count`` candles, one pass each."""
    for _ in range(count):
        bot.step()
        clock.next_candle()


def expire_lease(manager: DatabaseManager) -> None:
    """Make the lease as old as if its holder had been silent for longer than its TTL."""
    manager.transaction(
        lambda conn: conn.execute(update(BotLease).values(expires_at=datetime(2000, 1, 1, tzinfo=UTC))), name="expire"
    )


def facts(manager: DatabaseManager) -> dict[str, list[tuple[Any, ...]]]:
    """Return what was traded, without the times at which it was written down."""

    def work(conn: Connection) -> dict[str, list[tuple[Any, ...]]]:
        wanted: dict[str, Any] = {
            "intents": select(OrderIntent.intent_id, OrderIntent.leg, OrderIntent.quantity, OrderIntent.status),
            "fills": select(Fill.venue_trade_id, Fill.side, Fill.price, Fill.quantity, Fill.fee, Fill.filled_at),
            "positions": select(Position.order_id, Position.status, Position.quantity, Position.entry_price),
            "trades": select(Trade.order_id, Trade.pnl, Trade.commission, Trade.entry_price, Trade.exit_price),
            "sessions": select(
                TradingSession.total_pnl, TradingSession.total_trades, TradingSession.win_rate, TradingSession.is_active
            ),
        }
        return {name: sorted((tuple(row) for row in conn.execute(query)), key=repr) for name, query in wanted.items()}

    return manager.read(work, name="facts")


def check_books(manager: DatabaseManager) -> int:
    """I2 and I4 on every session of ours, tolerance 0; return the number of trades."""

    def work(conn: Connection) -> int:
        trades = 0
        for session in conn.execute(select(TradingSession.id, TradingSession.initial_balance)):
            of_session = select(Fill.side, Fill.quantity, Fill.fee).join(
                OrderIntent, OrderIntent.intent_id == Fill.intent_id
            )
            fills = conn.execute(of_session.where(OrderIntent.session_id == session.id)).all()
            pnls = conn.execute(select(Trade.pnl).where(Trade.session_id == session.id)).scalars().all()
            held = conn.execute(
                select(Position.quantity).where(Position.session_id == session.id, Position.status == "OPEN")
            ).scalars()
            balance = conn.execute(
                select(AccountHistory.balance)
                .where(AccountHistory.session_id == session.id)
                .order_by(AccountHistory.id.desc())
                .limit(1)
            ).scalar()
            fees = sum((fill.fee for fill in fills), Decimal(0))
            assert balance is None or session.initial_balance + sum(pnls, Decimal(0)) - fees == balance
            signed = sum((fill.quantity if fill.side == "BUY" else -fill.quantity for fill in fills), Decimal(0))
            assert signed == sum((quantity or Decimal(0) for quantity in held), Decimal(0))
            assert len(pnls) == sum(fill.side == "SELL" for fill in fills)
            trades += len(pnls)
        return trades

    return manager.read(work, name="check-books")
