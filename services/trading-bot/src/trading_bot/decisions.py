"""From candles to an order: the one place where strategy and risk meet. The bot and a backtest both ask here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from trading_bot.feeds.candles import Candle
from trading_bot.orders import Leg
from trading_bot.risk import RiskLimits, check_entry, check_position, halted
from trading_bot.strategies import Strategy

_REASON_CHARACTERS = 100  # trades.exit_reason


@dataclass(frozen=True, slots=True)
class Standing:
    """What the account has and holds when a candle closes; amounts in quote currency.

    ``entry_price`` (mean) and ``entered_at`` (the last fill of the entry) matter only while ``quantity`` is not 0.
    ``closed_by_risk``: the last position was closed by a stop loss or a take profit (``risk.closed_by_risk``).
    ``halt`` is a reason against entries that the caller knows of, beside the daily loss limit.
    """

    balance: Decimal
    day_start_balance: Decimal
    quantity: Decimal = Decimal(0)
    entry_price: Decimal = Decimal(0)
    entered_at: datetime | None = None
    closed_by_risk: bool = False
    halt: str | None = None


@dataclass(frozen=True, slots=True)
class Order:
    """What to do now, and why."""

    leg: Leg
    quantity: Decimal
    reason: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came of a candle: an order, or none; ``refusal`` is why an entry that the strategy wanted was not made."""

    order: Order | None = None
    refusal: str | None = None


NOTHING = Verdict()


def window(strategy: Strategy) -> int:
    """Return how many candles ``judge`` wants to see: one more than the strategy, to know what is a fresh signal."""
    return strategy.warmup + 1


def judge(strategy: Strategy, limits: RiskLimits, candles: Sequence[Candle], standing: Standing) -> Verdict:
    """Return what to do after the last of ``candles``.

    Risk goes before strategy: a stop that was touched closes the position also where the strategy would keep it, and
    nothing is opened in the same candle. What risk closed is not bought again on the signal that it was bought on: the
    strategy must have said FLAT in between, in the candle before.

    Args:
        strategy: says what to hold.
        limits: say what may be lost.
        candles: oldest first, ``window(strategy)`` of them; with fewer than its warm-up the strategy is not asked.
        standing: the account before this candle's order.
    """
    candle = candles[-1]
    if standing.quantity > 0:
        held_through = standing.entered_at is None or candle.open_time >= standing.entered_at
        if held_through and (reason := check_position(limits, candle, entry_price=standing.entry_price)):
            return Verdict(Order("EXIT", standing.quantity, reason[:_REASON_CHARACTERS]))
    if len(candles) < strategy.warmup:
        return NOTHING
    decision = strategy.decide(candles)
    if decision.target == "FLAT" and standing.quantity > 0:
        return Verdict(Order("EXIT", standing.quantity, decision.reason[:_REASON_CHARACTERS]))
    if decision.target == "LONG" and standing.quantity == 0:
        halt = standing.halt or halted(
            limits, day_pnl=standing.balance - standing.day_start_balance, day_start_balance=standing.day_start_balance
        )
        if halt is None and standing.closed_by_risk and not _fresh(strategy, candles):
            halt = "risk closed the last position: waiting for a fresh signal"
        entry = check_entry(limits, price=candle.close, balance=standing.balance, halt=halt)
        if entry.refusal is not None:
            return Verdict(refusal=entry.refusal)
        return Verdict(Order("ENTRY", entry.quantity, decision.reason[:_REASON_CHARACTERS]))
    return NOTHING


def _fresh(strategy: Strategy, candles: Sequence[Candle]) -> bool:
    """Whether the strategy did not yet want to hold anything one candle ago."""
    before = candles[:-1]
    return len(before) >= strategy.warmup and strategy.decide(before).target == "FLAT"
