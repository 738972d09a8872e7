"""The loop of a backtest: what the bot does at each candle, without a database and without waiting."""

from __future__ import annotations

from array import array
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal

from trading_bot.books import Account, RoundTrip, derive
from trading_bot.decisions import Standing, as_intent, judge, window
from trading_bot.feeds.candles import Candle
from trading_bot.feeds.replay import Playback
from trading_bot.feeds.screen import Refusal, Screen
from trading_bot.orders import Leg
from trading_bot.risk import RiskLimits, closed_by_risk
from trading_bot.strategies import Strategy
from trading_bot.venue import Venue


@dataclass(frozen=True, slots=True)
class ClosedTrade:
    """A position from its first fill to its last, and why it was closed."""

    trip: RoundTrip
    reason: str

    @property
    def net(self) -> Decimal:
        """Return what it brought after all fees."""
        return self.trip.pnl - self.trip.fees


@dataclass(slots=True)
class Run:
    """What happened. ``times`` (close, seconds since 1970) and ``equity`` have one entry for each candle."""

    account: Account
    times: array[float] = field(default_factory=lambda: array("d"))
    equity: array[float] = field(default_factory=lambda: array("d"))
    trades: list[ClosedTrade] = field(default_factory=list)
    held_candles: int = 0
    first: Candle | None = None
    last: Candle | None = None
    bad_candles: Counter[str] = field(default_factory=Counter)
    refused_entries: Counter[str] = field(default_factory=Counter)


class Engine:
    """One backtest.

    Args:
        feed: the past.
        strategy: what to hold.
        limits: what may be lost.
        venue: fills the orders; nobody else's.
        initial_balance: in quote currency.
    """

    def __init__(
        self, feed: Playback, *, strategy: Strategy, limits: RiskLimits, venue: Venue, initial_balance: Decimal
    ) -> None:
        self._feed = feed
        self._strategy = strategy
        self._limits = limits
        self._venue = venue
        self._initial_balance = initial_balance
        self.run = Run(Account(session_id=1, initial_balance=initial_balance))
        self._screen = Screen(feed, self._report)
        self._window: deque[Candle] = deque(maxlen=window(strategy))
        self._legs: dict[str, tuple[Leg, str]] = {}  # what became an order, and why
        self._cursor = 0
        self._day: date | None = None
        self._day_start_balance = initial_balance
        self._closed_by_risk = False

    def play(self, progress: Callable[[datetime, int], None] | None = None) -> Run:
        """Trade through all of the past and return what happened.

        Args:
            progress: told after each candle when it closed, and how many there were.

        Raises: SwitchyardError of the feed's; BOT-003, the books do not add up.
        """
        clock: datetime | None = None
        while (closes := self._feed.next_close()) is not None:
            clock = closes if clock is None else max(clock, closes)
            for candle in self._screen.poll(clock):
                self._on_candle(candle)
            if progress is not None:
                progress(clock, len(self.run.times))
        self._prove()
        return self.run

    def _on_candle(self, candle: Candle) -> None:
        run = self.run
        if self._day != candle.close_time.date():
            self._day, self._day_start_balance = candle.close_time.date(), run.account.balance
        self._venue.see(candle)
        self._collect()
        self._window.append(candle)
        self._decide(candle)
        run.first = run.first or candle
        run.last = candle
        run.held_candles += run.account.position is not None
        run.times.append(candle.close_time.timestamp())
        run.equity.append(float(run.account.equity(candle.close)))

    def _decide(self, candle: Candle) -> None:
        resting: list[Leg] = [self._legs[order.client_order_id][0] for order in self._venue.open_orders()]
        verdict = judge(
            self._strategy,
            self._limits,
            list(self._window),
            Standing(
                account=self.run.account,
                day_start_balance=self._day_start_balance,
                closed_by_risk=self._closed_by_risk,
                resting=resting[0] if resting else None,
            ),
        )
        if verdict.refusal is not None:
            self.run.refused_entries[verdict.refusal.split(":")[0]] += 1
        if verdict.cancel:
            for order in self._venue.open_orders():
                self._venue.cancel(order.client_order_id)
            self._collect()
        if verdict.order is not None:
            intent = as_intent(
                verdict.order,
                strategy=self._strategy.name,
                account=self.run.account,
                candle=candle,
                venue=self._venue.name,
            )
            self._legs[intent.intent_id] = (intent.leg, intent.reason)
            self._venue.submit(intent)
            self._collect()

    def _collect(self) -> None:
        """Enter what the venue filled since the last look into the books."""
        for fill in self._venue.fills(self._cursor):
            self.run.account, trip = self.run.account.apply(fill)
            self._cursor = fill.sequence
            if trip is not None:
                reason = self._legs[trip.exit_intent_id][1]
                self._closed_by_risk = closed_by_risk(reason)
                self.run.trades.append(ClosedTrade(trip, reason))

    def _report(self, refusal: Refusal) -> None:
        self.run.bad_candles[refusal.reason] += 1

    def _prove(self) -> None:
        """Derive the account once more from everything the venue has: it must come out the same."""
        fills, cursor = [], 0
        while page := self._venue.fills(cursor):
            fills += page
            cursor = page[-1].sequence
        again = derive(self.run.account.session_id, self._initial_balance, fills)
        if again != self.run.account:
            raise AssertionError(f"the books do not add up: {again} is not {self.run.account}")
