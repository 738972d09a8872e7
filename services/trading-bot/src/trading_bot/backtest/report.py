"""A backtest for people, and for programs."""

from __future__ import annotations

from collections import Counter
from typing import Any

from trading_bot.backtest.engine import ClosedTrade, Run
from trading_bot.backtest.measures import DAY_S, HOUR_S, Measures, Sharpe, utc
from trading_bot.orders import quote_currency
from trading_bot.settings import BotSettings
from trading_bot.strategies import Strategy

_WIDTH = 18


def lines(run: Run, found: Measures, *, settings: BotSettings, strategy: Strategy, title: str) -> list[str]:
    """Return the report as lines of text."""
    assert run.first is not None and run.last is not None  # noqa: S101, PT018  # measures() has refused an empty run
    money = quote_currency(run.last.symbol)
    fell = found.drawdown
    when = f"{_moment(fell.peak_at)} to {_moment(fell.lowest_at)}" if fell.peak_at and fell.lowest_at else ""
    rows = [
        ("return", f"{found.return_percent:+.2f} %", f"the market itself {found.market_percent:+.2f} %"),
        ("final equity", f"{found.final_equity:,.2f} {money}", f"of {found.initial_balance:,.2f}"),
        ("max drawdown", f"{fell.percent:.2f} %", when),
        ("Sharpe ratio", "-" if found.sharpe.value is None else f"{found.sharpe.value:.2f}", _sharpe(found.sharpe)),
        ("trades", f"{found.trades:,}", _exits(found.exits)),
    ]
    if found.win_rate_percent is not None and found.mean_trade is not None and found.mean_held_s is not None:
        factor = "" if found.profit_factor is None else f"profit factor {found.profit_factor:.2f}"
        spread = f"worst {found.worst_trade:+.2f}, best {found.best_trade:+.2f}"
        rows += [
            ("win rate", f"{found.win_rate_percent:.1f} %", factor),
            ("a trade", f"{found.mean_trade:+.2f} {money}", f"{spread}; held {_span(found.mean_held_s)}, on average"),
        ]
    rows += [
        ("fees", f"{found.fees:,.2f} {money}", f"{settings.bot_fee_rate:%} of each fill".replace(".000000", "")),
        ("invested", f"{found.invested_percent:.1f} %", "of the time"),
    ]
    parameters = ", ".join(f"{name}={value}" for name, value in strategy.config().items())
    period = f"{_moment(run.first.open_time.timestamp())} to {_moment(run.last.close_time.timestamp())} UTC"
    span_s = (run.last.close_time - run.last.open_time).total_seconds()
    text = [
        f"{strategy.name} ({parameters}) on {title}",
        f"{period}, {len(run.times):,} candles of {_span(span_s)}",
        "",
        *(f"{name:<{_WIDTH}}{value:<20}{note}".rstrip() for name, value, note in rows),
    ]
    if run.account.position is not None:
        held = run.account.position
        marked = f"{held.unrealized_pnl(run.last.close):+,.2f} {money} at the last price"
        text.append(f"{'still open':<{_WIDTH}}{f'{held.quantity:f}':<20}{marked}, counted in the equity")
    text += [f"{'no entry':<{_WIDTH}}{count:<20,}{why}" for why, count in run.refused_entries.most_common()]
    text += [f"{'candles':<{_WIDTH}}{count:<20,}{_bad(reason)}" for reason, count in run.bad_candles.most_common()]
    return text


def as_dict(run: Run, found: Measures, *, settings: BotSettings, strategy: Strategy, title: str) -> dict[str, Any]:
    """Return the report as one object of plain values: amounts are text, exact; shares and ratios are numbers."""
    assert run.first is not None and run.last is not None  # noqa: S101, PT018  # measures() has refused an empty run
    fell = found.drawdown
    return {
        "schema_version": 1,
        "feed": {
            "name": settings.bot_feed,
            "title": title,
            "venue": run.last.venue,
            "symbol": run.last.symbol,
            "from": run.first.open_time.isoformat(),
            "to": run.last.close_time.isoformat(),
            "interval_s": int((run.last.close_time - run.last.open_time).total_seconds()),
            "candles": len(run.times),
            "refused_candles": dict(run.bad_candles),
        },
        "strategy": {"name": strategy.name, "parameters": strategy.config()},
        "risk": {
            "position_fraction": str(settings.bot_position_fraction),
            "max_exposure_percent": str(settings.bot_max_exposure_percent),
            "stop_loss_percent": str(settings.bot_stop_loss_percent),
            "take_profit_percent": str(settings.bot_take_profit_percent),
            "daily_loss_limit_percent": str(settings.bot_daily_loss_limit_percent),
        },
        "currency": quote_currency(run.last.symbol),
        "initial_balance": str(found.initial_balance),
        "final_balance": str(run.account.balance),
        "final_equity": str(found.final_equity),
        "return_percent": found.return_percent,
        "market_percent": found.market_percent,
        "max_drawdown_percent": fell.percent,
        "max_drawdown_from": utc(fell.peak_at).isoformat() if fell.peak_at else None,
        "max_drawdown_to": utc(fell.lowest_at).isoformat() if fell.lowest_at else None,
        "sharpe": found.sharpe.value,
        "sharpe_step_s": found.sharpe.step_s,
        "trades": found.trades,
        "win_rate_percent": found.win_rate_percent,
        "profit_factor": found.profit_factor,
        "fees": str(found.fees),
        "invested_percent": found.invested_percent,
        "exits": dict(found.exits),
        "refused_entries": dict(run.refused_entries),
        "open_quantity": str(run.account.position.quantity) if run.account.position else "0",
        "closed_trades": [_trade(trade) for trade in run.trades],
    }


def _trade(trade: ClosedTrade) -> dict[str, str]:
    trip = trade.trip
    return {
        "entry_time": trip.entry.opened_at.isoformat(),
        "exit_time": trip.exit_time.isoformat(),
        "quantity": str(trip.quantity),
        "entry_price": str(trip.entry_price),
        "exit_price": str(trip.exit_price),
        "pnl": str(trip.pnl),
        "fees": str(trip.fees),
        "reason": trade.reason,
    }


def _sharpe(sharpe: Sharpe) -> str:
    step = {DAY_S: "daily", HOUR_S: "hourly"}.get(int(sharpe.step_s), f"{sharpe.step_s:g} s")
    if sharpe.value is None:
        return f"needs 30 {step} returns that differ; there are {sharpe.returns}"
    return f"of {sharpe.returns:,} {step} returns, annualised"


def _exits(exits: Counter[str]) -> str:
    return "closed by " + ", ".join(f"{kind} {count:,}" for kind, count in exits.most_common()) if exits else ""


def _bad(reason: str) -> str:
    return "gaps in the candles" if reason == "gap" else f"refused: {reason}"


def _moment(seconds: float) -> str:
    return f"{utc(seconds):%Y-%m-%d %H:%M}"


def _span(seconds: float) -> str:
    for unit, size in (("d", DAY_S), ("h", HOUR_S), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.3g} s"
