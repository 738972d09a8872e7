"""A bot whose clock the test moves, a database that breaks on demand, and the checker of the books."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, TypeVar, cast

from sqlalchemy import Connection, event, select, update
from tradedb.manager import DatabaseManager, OutcomeUnknown
from tradedb.models import (
    AccountHistory,
    BotLease,
    Fill,
    LedgerEntry,
    OrderIntent,
    Position,
    Trade,
    TradingSession,
    VenueOrder,
)
from trading_bot.bot import Bot
from trading_bot.feeds import SIMULATED
from trading_bot.feeds.candles import Candle
from trading_bot.feeds.simulated import SimulatedFeed
from trading_bot.settings import BotSettings
from trading_bot.spooled import FactSpool
from trading_bot.status import Status
from trading_bot.strategies import Decision
from trading_bot.strategies.moving_average import MovingAverageCross
from trading_bot.venue.paper import PaperVenue

T = TypeVar("T")
SEED = 7
START = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)


class Crash(Exception):
    """The process ends here."""


@dataclass
class Breaking:
    """A manager that breaks at the n-th point, and so do the spool and the venue that it is told to watch.

    how="crash" raises Crash just before or after a COMMIT, before a statement about an order, or before or after an act
    of the spool or the venue; "unknown" loses the answer of a COMMIT, once, whether it happened or not.
    """

    inner: DatabaseManager
    at: int
    how: str = "crash"
    seen: list[str] = field(default_factory=list)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def point(self, what: str) -> None:
        self.seen.append(what)
        if len(self.seen) == self.at + 1:
            raise Crash(what) if self.how == "crash" else _lost(what)

    def transaction(self, work: Callable[[Connection], T], *, name: str, **options: Any) -> T:
        def breaking(conn: Connection) -> T:
            if self.how == "crash" and name.startswith(("intent-", "fill-", "order-")):
                event.listen(conn, "before_cursor_execute", lambda *args: self.point(f"{name}: {args[2][:60]}"))
            result = work(conn)
            self.point(f"{name}: before COMMIT")
            return result

        result = self.inner.transaction(breaking, name=name, **options)
        self.point(f"{name}: after COMMIT")
        return result

    def read(self, work: Callable[[Connection], T], *, name: str, **options: Any) -> T:
        return self.inner.read(work, name=name, **options)

    def watch(self, thing: T, *acts: str) -> T:
        """Make the acts of a spool or a venue points, before and after."""
        for act in acts:
            setattr(thing, act, self._watched(act, getattr(thing, act)))
        return thing

    def _watched(self, name: str, act: Callable[..., Any]) -> Callable[..., Any]:
        def watched(*args: Any, **options: Any) -> Any:
            self.point(f"{name}: before")
            result = act(*args, **options)
            self.point(f"{name}: after")
            return result

        return watched


def _lost(what: str) -> OutcomeUnknown:
    return OutcomeUnknown("DB-010", f"{what}: connection lost", why="test", fix="ask")


class EveryOther:
    """Holds for a candle, then holds nothing for one: orders that are filled in parts get into each other's way."""

    name = "EveryOther"
    warmup = 1

    def decide(self, candles: Sequence[Candle]) -> Decision:
        return Decision("LONG" if candles[-1].index % 2 else "FLAT", "every other")

    def config(self) -> dict[str, Any]:
        return {}


@dataclass
class Clock:
    """The time as the bot sees it."""

    at: datetime = START
    step_s: int = 2

    def __call__(self) -> datetime:
        return self.at

    def next_candle(self) -> None:
        self.at += timedelta(seconds=self.step_s)


def make_venue(folder: Path, settings: BotSettings | None = None, name: str = SIMULATED) -> PaperVenue:
    settings = settings or BotSettings()
    return PaperVenue(
        name, folder / "venue.db", fee_rate=settings.bot_fee_rate, slippage_rate=settings.bot_slippage_rate,
        partial_fills=settings.bot_partial_fills,
    )  # fmt: skip


def make_bot(
    manager: Any,
    clock: Callable[[], datetime],
    folder: Path,
    *,
    holder: str = "one",
    status: Status | None = None,
    strategy: Any = None,
    spool: FactSpool | None = None,
    venue: Any = None,
    feed: Any = None,
    **changes: Any,
) -> Bot:
    """Return a bot whose feed follows the clock; its equity curve has only the points of its fills and its start.

    Args:
        folder: of the venue's file and the spool; those who share it share the venue.
    """
    settings = BotSettings(bot_seed=SEED, bot_snapshot_interval_s=3600, **changes)
    interval_s, symbol = settings.bot_candle_interval_s, settings.bot_symbol
    venue = venue or make_venue(folder, settings)
    spool = spool or FactSpool(folder / "spool")
    if isinstance(manager, Breaking) and manager.how == "crash":
        manager.watch(venue, "submit", "cancel", "see")
        manager.watch(spool, "add_intent", "add_fill", "acknowledge")
    return Bot(
        settings=settings,
        manager=cast("Any", manager),
        feed=feed or SimulatedFeed(seed=settings.bot_seed, symbol=symbol, interval_s=interval_s),
        strategy=strategy or MovingAverageCross(),
        venue=venue,
        spool=spool,
        status=status or Status(),
        holder=holder,
        now=clock,
    )


def kill(bot: Bot) -> None:
    """Let go of what the end of a process lets go of."""
    bot._kit.venue.close()
    bot._spool.close()


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


def facts(manager: Any) -> dict[str, list[tuple[Any, ...]]]:
    """Return what was traded, without the times at which it was written down."""

    def work(conn: Connection) -> dict[str, list[tuple[Any, ...]]]:
        wanted: dict[str, Any] = {
            "intents": select(OrderIntent.intent_id, OrderIntent.leg, OrderIntent.quantity, OrderIntent.status),
            "fills": select(Fill.venue_trade_id, Fill.side, Fill.price, Fill.quantity, Fill.fee, Fill.filled_at),
            "orders": select(VenueOrder.client_order_id, VenueOrder.filled_quantity, VenueOrder.status),
            "ledger": select(LedgerEntry.venue_trade_id, LedgerEntry.account, LedgerEntry.amount),
            "positions": select(Position.order_id, Position.status, Position.quantity, Position.entry_price),
            "trades": select(Trade.order_id, Trade.pnl, Trade.commission, Trade.entry_price, Trade.exit_price),
            "sessions": select(
                TradingSession.total_pnl, TradingSession.total_trades, TradingSession.win_rate, TradingSession.is_active
            ),
        }
        return {name: sorted((tuple(row) for row in conn.execute(query)), key=repr) for name, query in wanted.items()}

    return manager.read(work, name="facts")


def check_books(manager: Any, *, orders_too: bool = True) -> int:
    """I2 and I4 on every session of ours, tolerance 0; return the number of trades.

    Args:
        orders_too: hold ``venue_orders`` to the fills as well; False where a test wrote fills without their orders.
    """

    def work(conn: Connection) -> int:
        if conn.dialect.name == "postgresql":  # one moment, while a bot goes on
            conn.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        trades = 0
        for session in conn.execute(select(TradingSession.id, TradingSession.initial_balance)):
            of_session = select(Fill.intent_id, Fill.side, Fill.quantity, Fill.fee).join(
                OrderIntent, OrderIntent.intent_id == Fill.intent_id
            )
            fills = conn.execute(of_session.where(OrderIntent.session_id == session.id)).all()
            pnls = conn.execute(select(Trade.pnl).where(Trade.session_id == session.id)).scalars().all()
            realised = [-amount for amount in conn.execute(
                select(LedgerEntry.amount).where(LedgerEntry.session_id == session.id, LedgerEntry.account == "pnl")
            ).scalars()]  # fmt: skip
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
            assert balance is None or session.initial_balance + sum(realised, Decimal(0)) - fees == balance
            held = list(held)
            if not held:
                assert sum(realised, Decimal(0)) == sum(pnls, Decimal(0))
            signed = sum((fill.quantity if fill.side == "BUY" else -fill.quantity for fill in fills), Decimal(0))
            assert signed == sum((quantity or Decimal(0) for quantity in held), Decimal(0))
            orders = dict(conn.execute(
                select(VenueOrder.client_order_id, VenueOrder.filled_quantity).where(
                    VenueOrder.session_id == session.id, VenueOrder.filled_quantity > 0
                )
            ).all())  # fmt: skip
            filled: dict[str, Decimal] = {}
            for fill in fills:
                filled[fill.intent_id] = filled.get(fill.intent_id, Decimal(0)) + fill.quantity
            assert orders == filled or not orders_too, "what is written of the orders is not what was filled"
            booked: dict[str, Decimal] = {}
            lines: dict[str | None, Decimal] = {}
            for trade_id, account, amount in conn.execute(
                select(LedgerEntry.venue_trade_id, LedgerEntry.account, LedgerEntry.amount).where(
                    LedgerEntry.session_id == session.id
                )
            ):
                booked[account] = booked.get(account, Decimal(0)) + amount
                lines[trade_id] = lines.get(trade_id, Decimal(0)) + amount
            assert set(lines.values()) <= {Decimal(0)}
            assert len(lines) == len(fills) + 1 or not lines
            if lines and balance is not None:
                assert booked["cash"] + booked.get("inventory", Decimal(0)) == balance
                assert booked.get("fees", Decimal(0)) == fees
            trades += len(pnls)
        return trades

    return manager.read(work, name="check-books")
