"""From candles to an order: the one place where strategy and risk meet. The bot and a backtest both ask here."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from tradedb.errors import SwitchyardError

from trading_bot.books import Account
from trading_bot.feeds.candles import Candle
from trading_bot.ids import intent_id
from trading_bot.orders import Intent, Leg
from trading_bot.risk import RiskLimits, check_entry, check_position, halted
from trading_bot.strategies import Decision, Strategy

_REASON_CHARACTERS = 100  # trades.exit_reason

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Standing:
    """Where the account stands when a candle has closed.

    ``day_start_balance`` is the balance at 00:00 UTC, or the first one of a session that began later.
    ``closed_by_risk``: the last position was closed by a stop loss or a take profit (``risk.closed_by_risk``).
    ``resting`` is the leg of an order of which something is still to be filled.
    ``halt`` is a reason against entries that the caller knows of, beside the daily loss limit.
    """

    account: Account
    day_start_balance: Decimal
    closed_by_risk: bool = False
    resting: Leg | None = None
    halt: str | None = None


@dataclass(frozen=True, slots=True)
class Order:
    """What to do now, and why."""

    leg: Leg
    quantity: Decimal
    reason: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came of a candle.

    ``cancel``: take back what is left of the entry that is still resting, before the order is given; the order's
    quantity is what was held when the candle closed. ``refusal`` is why an entry that the strategy wanted was not made.
    """

    order: Order | None = None
    cancel: bool = False
    refusal: str | None = None


NOTHING = Verdict()


class StrategyFault(SwitchyardError):
    """A strategy failed, or said what no strategy may say: nothing is decided on it. Risk was asked before."""


def window(strategy: Strategy) -> int:
    """Return how many candles ``judge`` wants to see: one more than the strategy, to know what is a fresh signal."""
    return strategy.warmup + 1


def judge(strategy: Strategy, limits: RiskLimits, candles: Sequence[Candle], standing: Standing) -> Verdict:
    """Return what to do after the last of ``candles``.

    Risk goes before strategy: a stop that was touched closes the position also where the strategy would keep it, and
    nothing is opened in the same candle. What risk closed is not bought again on the signal that it was bought on: the
    strategy must have said FLAT in between, in the candle before.

    Raises: StrategyFault BOT-029, the strategy gave no answer to act on.

    Args:
        strategy: says what to hold.
        limits: say what may be lost.
        candles: oldest first, ``window(strategy)`` of them; with fewer than its warm-up the strategy is not asked.
        standing: the account with every fill that this candle brought.
    """
    if standing.resting == "EXIT":
        return NOTHING  # on its way out already
    candle, held = candles[-1], standing.account.position
    if held is not None and candle.open_time >= held.opened_at:
        reason = check_position(limits, candle, entry_price=held.entry_price)
        if reason is not None:
            return _out(held.quantity, reason, standing)
    if len(candles) < strategy.warmup:
        return NOTHING
    decision = _asked(strategy, candles)
    if decision.target == "FLAT":
        if held is not None:
            return _out(held.quantity, decision.reason, standing)
        return Verdict(cancel=standing.resting == "ENTRY")
    if held is not None or standing.resting == "ENTRY":
        return NOTHING
    halt = standing.halt or halted(
        limits,
        day_pnl=standing.account.balance - standing.day_start_balance,
        day_start_balance=standing.day_start_balance,
    )
    if halt is None and standing.closed_by_risk and not _fresh(strategy, candles):
        halt = "risk closed the last position: waiting for a fresh signal"
    entry = check_entry(limits, price=candle.close, balance=standing.account.balance, halt=halt)
    if entry.refusal is not None:
        return Verdict(refusal=entry.refusal)
    return Verdict(Order("ENTRY", entry.quantity, decision.reason[:_REASON_CHARACTERS]))


def as_intent(order: Order, *, strategy: str, account: Account, candle: Candle, venue: str) -> Intent:
    """Return the intent of an order that ``candle`` led to: the same for whoever decides the same.

    Args:
        order: what ``judge`` said.
        strategy: the name of the one that trades on the account.
        account: and this account.
        candle: the last one that was looked at.
        venue: the name of the venue that shall carry it out.
    """
    held = account.position
    return Intent(
        intent_id=intent_id(
            venue=venue, strategy=strategy, symbol=candle.symbol, signal_time=candle.close_time, leg=order.leg
        ),
        session_id=account.session_id,
        strategy_name=strategy,
        venue=venue,
        symbol=candle.symbol,
        side="BUY" if order.leg == "ENTRY" else "SELL",
        leg=order.leg,
        quantity=order.quantity,
        reference_price=candle.close,
        signal_time=candle.close_time,
        reason=order.reason,
        entry_intent_id=held.intent_id if held is not None and order.leg == "EXIT" else None,
    )


def _asked(strategy: Strategy, candles: Sequence[Candle]) -> Decision:
    """Return what a strategy says: it may be anybody's code, and is held to what a strategy may say."""
    try:
        decision = strategy.decide(candles)
    except Exception as error:
        log.exception("strategy_failed", extra={"strategy": strategy.name, "code": "BOT-029"})
        raise _fault(strategy, f"decide() raised {type(error).__name__}: {error}") from error
    if not isinstance(decision, Decision) or decision.target not in ("LONG", "FLAT"):
        raise _fault(strategy, f"decide() returned {decision!r:.100}, expected Decision('LONG' or 'FLAT', reason)")
    if not isinstance(decision.reason, str):
        raise _fault(strategy, f"decide() gave {decision.reason!r:.100} as its reason, expected text")
    # as databases take it: no NUL, no half of a surrogate pair
    sound = decision.reason.replace("\x00", "").encode(errors="replace").decode()
    return decision if sound == decision.reason else Decision(decision.target, sound)


def _fault(strategy: Strategy, what: str) -> StrategyFault:
    return StrategyFault(
        "BOT-029",
        f"strategy {strategy.name}: {what}"[:300],
        why="No decision was taken on it; stop loss and take profit still close the position.",
        fix="mend the strategy, or set BOT_STRATEGY to another one; trading-bot backtest asks it about the past",
    )


def _out(quantity: Decimal, reason: str, standing: Standing) -> Verdict:
    """Sell what is held, and buy no more of it."""
    return Verdict(Order("EXIT", quantity, reason[:_REASON_CHARACTERS]), cancel=standing.resting == "ENTRY")


def _fresh(strategy: Strategy, candles: Sequence[Candle]) -> bool:
    """Whether the strategy did not yet want to hold anything one candle ago."""
    before = candles[:-1]
    return len(before) >= strategy.warmup and _asked(strategy, before).target == "FLAT"
