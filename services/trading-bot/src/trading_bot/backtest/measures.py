"""The figures of a backtest, each computed from what happened and nothing else."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from itertools import pairwise

from trading_bot.backtest.engine import ClosedTrade, Run

DAY_S, HOUR_S, YEAR_S = 86_400, 3_600, 365 * 86_400
LEAST_RETURNS = 30  # fewer say nothing about their spread


@dataclass(frozen=True, slots=True)
class Drawdown:
    """The deepest fall of the equity from a height it had reached; times in seconds since 1970."""

    percent: float
    peak_at: float | None = None
    lowest_at: float | None = None


@dataclass(frozen=True, slots=True)
class Sharpe:
    """Mean of the returns over their spread, annualised, without a risk-free rate.

    ``value`` is None where there are fewer than 30 returns, or they do not differ.
    """

    value: float | None
    step_s: float
    returns: int


@dataclass(frozen=True, slots=True)
class Measures:
    """The figures; amounts in quote currency, exact where they are Decimal."""

    initial_balance: Decimal
    final_equity: Decimal
    return_percent: float
    market_percent: float
    drawdown: Drawdown
    sharpe: Sharpe
    trades: int
    win_rate_percent: float | None
    profit_factor: float | None
    mean_trade: Decimal | None
    best_trade: Decimal | None
    worst_trade: Decimal | None
    mean_held_s: float | None
    fees: Decimal
    invested_percent: float
    exits: Counter[str]


def measures(run: Run) -> Measures:
    """Return the figures of a run of at least one candle."""
    if run.first is None or run.last is None:
        raise ValueError("a run without candles has no figures")
    account, nets = run.account, [trade.net for trade in run.trades]
    equity = account.equity(run.last.close)
    won, lost = sum((n for n in nets if n > 0), Decimal(0)), -sum((n for n in nets if n < 0), Decimal(0))
    return Measures(
        initial_balance=account.initial_balance,
        final_equity=equity,
        return_percent=float((equity / account.initial_balance - 1) * 100),
        market_percent=float((run.last.close / run.first.close - 1) * 100),
        drawdown=drawdown(run.times, run.equity, start=float(account.initial_balance)),
        sharpe=sharpe(run.times, run.equity, start=float(account.initial_balance)),
        trades=account.trades,
        win_rate_percent=account.win_rate,
        profit_factor=float(won / lost) if lost else None,
        mean_trade=sum(nets, Decimal(0)) / len(nets) if nets else None,
        best_trade=max(nets, default=None),
        worst_trade=min(nets, default=None),
        mean_held_s=statistics.fmean(_held_s(trade) for trade in run.trades) if run.trades else None,
        fees=account.fees,
        invested_percent=100 * run.held_candles / len(run.times),
        exits=Counter(_kind(trade) for trade in run.trades),
    )


def drawdown(times: Sequence[float], equity: Iterable[float], *, start: float) -> Drawdown:
    """Return the deepest fall, in percent of the height it began at; 0 when the equity never fell.

    Args:
        times: of each value, in seconds since 1970.
        equity: the values.
        start: the value before the first one.
    """
    peak, peak_at = start, None
    worst = Drawdown(0.0)
    for at, value in zip(times, equity, strict=True):
        if value > peak:
            peak, peak_at = value, at
        elif peak > 0 and (fall := 100 * (peak - value) / peak) > worst.percent:
            worst = Drawdown(fall, peak_at if peak_at is not None else times[0], at)
    return worst


def sharpe(times: Sequence[float], equity: Sequence[float], *, start: float) -> Sharpe:
    """Return the Sharpe ratio of daily returns; of hourly ones, or of single candles, where the run is too short.

    Args:
        times: of each value, in seconds since 1970, rising.
        equity: the values, above 0.
        start: the value before the first one.
    """
    span_s = times[-1] - times[0] if len(times) > 1 else 0.0
    candle_s = span_s / (len(times) - 1) if len(times) > 1 else 0.0
    step_s = next((step for step in (DAY_S, HOUR_S) if span_s >= LEAST_RETURNS * step and step >= candle_s), candle_s)
    values = [start, *_last_of_each(times, equity, step_s)] if step_s else [start]
    if min(values) <= 0:
        return Sharpe(None, step_s, 0)  # ruined: a return on nothing has no meaning
    returns = [after / before - 1 for before, after in pairwise(values)]
    spread = statistics.stdev(returns) if len(returns) > 1 else 0.0
    if len(returns) < LEAST_RETURNS or spread < 1e-15:
        return Sharpe(None, step_s, len(returns))
    return Sharpe(statistics.fmean(returns) / spread * math.sqrt(YEAR_S / step_s), step_s, len(returns))


def utc(seconds: float) -> datetime:
    """Return a time of ``Run.times`` as an aware one."""
    return datetime.fromtimestamp(seconds, UTC)


def _last_of_each(times: Sequence[float], values: Sequence[float], step_s: float) -> list[float]:
    """The last value of each step of time that has one."""
    last: dict[int, float] = {}
    for at, value in zip(times, values, strict=True):
        last[math.ceil(at / step_s - 1e-9)] = value  # what closes at midnight belongs to the day before
    return list(last.values())


def _held_s(trade: ClosedTrade) -> float:
    return (trade.trip.exit_time - trade.trip.entry.opened_at).total_seconds()


def _kind(trade: ClosedTrade) -> str:
    return next((kind for kind in ("stop loss", "take profit") if trade.reason.startswith(kind)), "strategy")
