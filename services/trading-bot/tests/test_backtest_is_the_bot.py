"""The bot on a database, and a backtest of the same candles: the same fills to the last digit, under the same ids."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from bot_harness import SEED, START, Clock, EveryOther, check_books, kill, make_bot, run_candles
from sqlalchemy import URL, select
from tradedb.manager import DatabaseManager
from tradedb.models import Fill, Trade
from trading_bot.backtest.engine import Engine
from trading_bot.backtest.source import past
from trading_bot.feeds import SIMULATED
from trading_bot.risk import RiskLimits, closed_by_risk
from trading_bot.settings import BotSettings
from trading_bot.strategies.moving_average import MovingAverageCross
from trading_bot.strategies.rsi import RsiMeanReversion
from trading_bot.venue.paper import PaperVenue

CANDLES = 120
TIGHT: dict[str, Any] = {"bot_stop_loss_percent": Decimal("0.1"), "bot_take_profit_percent": Decimal("0.15")}
STRICT: dict[str, Any] = {"bot_daily_loss_limit_percent": Decimal("0.1")}


@pytest.mark.parametrize(
    ("strategy", "changes"),
    [
        (MovingAverageCross(), {}),
        (RsiMeanReversion(period_candles=5, hold_candles=10), {}),
        (MovingAverageCross(), TIGHT),
        (EveryOther(), {}),
        (EveryOther(), STRICT),
    ],
    ids=["cross", "rsi", "cross with tight stops", "every other", "every other with a bad day"],
)
def test_a_backtest_trades_as_the_bot_does(
    new_url: Callable[[str], URL], tmp_path: Path, strategy: Any, changes: dict[str, Any]
) -> None:
    manager, clock = DatabaseManager(new_url("sqlite"), service="trading-bot"), Clock()
    bot = make_bot(manager, clock, tmp_path, strategy=strategy, **changes)
    run_candles(bot, clock, CANDLES)
    kill(bot)
    check_books(manager)
    lived = manager.read(
        lambda conn: conn.execute(
            select(Fill.venue_trade_id, Fill.side, Fill.price, Fill.quantity, Fill.fee, Fill.filled_at).order_by(
                Fill.venue_sequence
            )
        ).all(),
        name="fills",
    )
    reasons = manager.read(
        lambda conn: conn.execute(select(Trade.exit_reason).order_by(Trade.id)).scalars().all(), name="reasons"
    )
    manager.dispose()

    settings = BotSettings(bot_seed=SEED, **changes)
    # the bot's first decision is on the candle that closes as it starts; a backtest's on the first it knows enough of
    first = START - timedelta(seconds=2 * strategy.warmup)
    source = past(settings, first, START + timedelta(seconds=2 * (CANDLES - 1)), START)
    venue = PaperVenue(SIMULATED, None, fee_rate=settings.bot_fee_rate, slippage_rate=settings.bot_slippage_rate)
    run = Engine(
        source.playback,
        strategy=strategy,
        limits=RiskLimits.from_settings(settings),
        venue=venue,
        initial_balance=settings.bot_initial_balance,
    ).play()
    played = [(f.venue_trade_id, f.side, f.price, f.quantity, f.fee, f.filled_at) for f in venue.fills(0)]
    venue.close()

    assert [tuple(row) for row in lived] == played
    assert reasons == [trade.reason for trade in run.trades]
    assert len(run.trades) >= 2
    if changes is TIGHT:
        assert any(closed_by_risk(reason) for reason in reasons)
    if changes is STRICT:
        assert run.refused_entries["daily loss limit 0.1%"] > 10
