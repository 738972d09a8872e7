"""The simulated market: the same everywhere and for ever, and lively enough to be worth looking at."""

from __future__ import annotations

import statistics
from bisect import bisect_left
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st
from trading_bot.backtest.engine import Engine
from trading_bot.backtest.source import past
from trading_bot.feeds import SIMULATED
from trading_bot.feeds.simulated import CATCH_UP_CANDLES, SimulatedFeed
from trading_bot.risk import RiskLimits
from trading_bot.settings import BotSettings
from trading_bot.strategies.registry import build_strategy
from trading_bot.venue.paper import PaperVenue

INDEXES = st.integers(min_value=0, max_value=4_000_000_000)
GOLDEN = ["59309.16", "59294.16", "59014.80", "59016.00"]  # seed 7, see below
SEEDS = st.integers(min_value=-(2**63), max_value=2**63)


@given(seed=SEEDS, index=INDEXES)
def test_a_candle_is_the_same_whoever_asks_and_in_any_order(seed: int, index: int) -> None:
    one = SimulatedFeed(seed=seed, symbol="BTCUSDT", interval_s=2)
    other = SimulatedFeed(seed=seed, symbol="BTCUSDT", interval_s=2)
    other.candle(index + 17)
    assert one.candle(index) == other.candle(index)


@given(seed=SEEDS, index=INDEXES)
def test_a_candle_is_sound_and_says_that_it_is_simulated(seed: int, index: int) -> None:
    feed = SimulatedFeed(seed=seed, symbol="BTCUSDT", interval_s=2)
    candle = feed.candle(index)
    assert candle.venue == SIMULATED
    assert 0 < candle.low <= min(candle.open, candle.close) <= max(candle.open, candle.close) <= candle.high
    assert candle.open == feed.candle(index - 1).close
    assert candle.volume > 0
    assert candle.close_time - candle.open_time == timedelta(seconds=2)
    assert all(
        price == price.quantize(Decimal("0.01")) for price in (candle.open, candle.high, candle.low, candle.close)
    )


def test_these_very_prices_on_every_machine() -> None:
    feed = SimulatedFeed(seed=7, symbol="BTCUSDT", interval_s=2)
    assert [str(feed.candle(index).close) for index in (0, 1, 880_000_000, 880_000_001)] == GOLDEN
    assert str(SimulatedFeed(seed=8, symbol="BTCUSDT", interval_s=2).candle(0).close) != GOLDEN[0]
    assert str(SimulatedFeed(seed=7, symbol="ETHUSDT", interval_s=2).candle(0).close) != GOLDEN[0]


def test_the_newest_closed_candle_is_the_one_that_just_ended() -> None:
    feed = SimulatedFeed(seed=7, symbol="BTCUSDT", interval_s=2)
    noon = datetime(2026, 1, 1, 12, 0, 0, tzinfo=UTC)
    for offset_s, closes in ((0, noon), (1.999, noon), (2, noon + timedelta(seconds=2))):
        index = feed.latest_closed(noon + timedelta(seconds=offset_s))
        assert feed.candle(index).close_time == closes


def test_poll_gives_each_candle_once_also_those_that_closed_while_nobody_asked() -> None:
    feed = SimulatedFeed(seed=7, symbol="BTCUSDT", interval_s=2)
    noon = datetime(2026, 1, 1, 12, 0, 0, tzinfo=UTC)
    first = feed.poll(noon)
    assert [candle.close_time for candle in first] == [noon]
    assert feed.poll(noon + timedelta(seconds=1)) == []
    later = feed.poll(noon + timedelta(seconds=9))
    assert [candle.index for candle in later] == [first[0].index + n for n in (1, 2, 3, 4)]
    assert feed.poll(noon) == []  # a clock that was put back
    assert feed.history(5, noon + timedelta(seconds=9)) == first + later
    # however long it was away, it does not drown in the past
    assert len(feed.poll(noon + timedelta(days=365))) == CATCH_UP_CANDLES


def test_the_defaults_trade_every_half_minute_and_win_and_lose() -> None:
    gaps_s, results, waits_s = [], [], []
    for seed in (BotSettings().bot_seed, 1, 2):
        settings = BotSettings(bot_seed=seed)
        start = datetime(2026, 2, 1, tzinfo=UTC)
        source = past(settings, start, start + timedelta(hours=1), start)
        venue = PaperVenue("TEST", None, fee_rate=settings.bot_fee_rate, slippage_rate=settings.bot_slippage_rate)
        run = Engine(
            source.playback,
            strategy=build_strategy(settings.bot_strategy, settings.bot_strategy_parameters),
            limits=RiskLimits.from_settings(settings),
            venue=venue,
            initial_balance=settings.bot_initial_balance,
        ).play()
        venue.close()
        assert not run.bad_candles
        assert not run.refused_entries
        exits = [trade.trip.exit_time for trade in run.trades]
        gaps_s += [(after - before).total_seconds() for before, after in pairwise(exits)]
        results += [float(trade.net / trade.trip.entry.bought_cost) for trade in run.trades]
        # a bot that starts at any candle: when does it make its first order?
        orders = sorted(at for trade in run.trades for at in (trade.trip.entry.opened_at, trade.trip.exit_time))
        moments = [start + timedelta(seconds=s) for s in range(20, int((orders[-1] - start).total_seconds()), 7)]
        waits_s += [(orders[bisect_left(orders, moment)] - moment).total_seconds() for moment in moments]
    assert 20 <= statistics.median(gaps_s) <= 60
    assert statistics.quantiles(gaps_s, n=20)[-1] <= 60
    assert statistics.quantiles(waits_s, n=20)[-1] <= 30
    assert max(waits_s) <= 60
    wins = sum(result > 0 for result in results) / len(results)
    assert 0.3 <= wins <= 0.7
    assert abs(statistics.mean(results)) < 0.0003
