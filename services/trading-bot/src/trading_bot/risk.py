"""What the bot may lose: how much it buys, when it sells whatever the strategy says, and when it buys no more.

All of it is arithmetic on what it is given: the bot and a backtest call the same functions. Percentages are of 100,
so a stop loss of ``2`` is two percent, and 0 switches a limit off.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import ROUND_DOWN, Decimal

from trading_bot.feeds.candles import Candle
from trading_bot.settings import BotSettings
from trading_bot.sizing import FINEST_PRICE_STEP, MIN_NOTIONAL, MIN_PRICE, QUANTITY_STEP, entry_quantity

_ZERO = Decimal(0)
_HUNDRED = Decimal(100)
_STOP_LOSS = "stop loss"
_TAKE_PROFIT = "take profit"


@dataclass(frozen=True, slots=True)
class RiskLimits:
    """The limits; ``max_exposure_percent`` is of the balance, ``daily_loss_limit_percent`` of the day's first one."""

    position_fraction: Decimal
    max_exposure_percent: Decimal
    stop_loss_percent: Decimal
    take_profit_percent: Decimal
    daily_loss_limit_percent: Decimal

    @classmethod
    def from_settings(cls, settings: BotSettings) -> RiskLimits:
        """Return the limits that the settings name."""
        return cls(
            position_fraction=settings.bot_position_fraction,
            max_exposure_percent=settings.bot_max_exposure_percent,
            stop_loss_percent=settings.bot_stop_loss_percent,
            take_profit_percent=settings.bot_take_profit_percent,
            daily_loss_limit_percent=settings.bot_daily_loss_limit_percent,
        )


@dataclass(frozen=True, slots=True)
class Entry:
    """How much may be bought: 0 with a ``refusal`` that says why nothing."""

    quantity: Decimal
    refusal: str | None = None


def check_entry(
    limits: RiskLimits, *, price: Decimal, balance: Decimal, exposure: Decimal = _ZERO, halt: str | None = None
) -> Entry:
    """Return how much may be bought at ``price``.

    Args:
        limits: the limits.
        price: in quote currency, above 0.
        balance: what the account is worth, in quote currency; may be negative after losses.
        exposure: what is held already is worth, in quote currency.
        halt: why no entry is allowed now (``halted``, or whatever else the caller knows).
    """
    if halt is not None:
        return Entry(_ZERO, halt)
    if price < MIN_PRICE:
        return Entry(_ZERO, f"a price of {price:.3g} is too fine: fills are rounded to {FINEST_PRICE_STEP:f}")
    quantity = entry_quantity(balance=balance, price=price, fraction=limits.position_fraction)
    room = balance * limits.max_exposure_percent / _HUNDRED - exposure
    if quantity * price > room:
        if room < MIN_NOTIONAL:
            most = f"maximum exposure of {limits.max_exposure_percent:f}%"
            return Entry(_ZERO, f"{most} is reached: {_short(exposure)} is held")
        quantity = (room / price).quantize(QUANTITY_STEP, rounding=ROUND_DOWN)
    if quantity * price < MIN_NOTIONAL:
        return Entry(_ZERO, f"a balance of {balance:f} allows no order worth {MIN_NOTIONAL:f}")
    return Entry(quantity)


def check_position(limits: RiskLimits, candle: Candle, *, entry_price: Decimal) -> str | None:
    """Return why a long position must be closed after ``candle``, whatever the strategy says; None to keep it.

    A candle that touched both levels does not say which one came first: it counts as the loss.

    Args:
        limits: the limits.
        candle: one that opened when the position was already held.
        entry_price: mean price of what is held.
    """
    if limits.stop_loss_percent:
        stop = entry_price * (1 - limits.stop_loss_percent / _HUNDRED)
        if candle.low <= stop:
            return f"{_STOP_LOSS} {limits.stop_loss_percent:f}%: low {candle.low:f} at or below {_short(stop)}"
    if limits.take_profit_percent:
        goal = entry_price * (1 + limits.take_profit_percent / _HUNDRED)
        if candle.high >= goal:
            return f"{_TAKE_PROFIT} {limits.take_profit_percent:f}%: high {candle.high:f} at or above {_short(goal)}"
    return None


def closed_by_risk(reason: str | None) -> bool:
    """Return whether an exit with this reason (``trades.exit_reason``) was risk's doing and not the strategy's."""
    return reason is not None and reason.startswith((_STOP_LOSS, _TAKE_PROFIT))


def halted(limits: RiskLimits, *, day_pnl: Decimal, day_start_balance: Decimal) -> str | None:
    """Return why no position may be opened for the rest of the UTC day; None when there is no reason.

    Args:
        limits: the limits.
        day_pnl: the balance now less the balance at 00:00 UTC: closed trades and all fees since then.
        day_start_balance: the balance at 00:00 UTC, or the first one of a session that began later.
    """
    if not limits.daily_loss_limit_percent:
        return None
    allowed = day_start_balance * limits.daily_loss_limit_percent / _HUNDRED
    if day_pnl > -allowed:
        return None
    return (
        f"daily loss limit {limits.daily_loss_limit_percent:f}%: {_short(-day_pnl)} lost today, "
        f"{_short(allowed)} allowed; no entries until 00:00 UTC"
    )


def _short(amount: Decimal) -> str:
    """An amount for a sentence: enough decimals to tell cheap things apart."""
    return f"{amount:.2f}" if abs(amount) >= 1 else f"{amount:.8f}"
