"""The simulated market: the same everywhere and for ever, and lively enough to be worth looking at."""

from __future__ import annotations

import statistics
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st
from trading_bot.feeds import SIMULATED
from trading_bot.feeds.simulated import CATCH_UP_CANDLES, SimulatedFeed
from trading_bot.settings import BotSettings
from trading_bot.strategies.moving_average import MovingAverageCross

INDEXES = st.integers(min_value=0, max_value=4_000_000_000)
GOLDEN = ["59306.10", "59321.94", "59072.04", "59092.02"]  # seed 7, see below
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
    settings = BotSettings()
    strategy = MovingAverageCross()
    costs = 2 * float(settings.bot_fee_rate + settings.bot_slippage_rate)
    gaps_s, results, first_order_s = [], [], []
    for seed in (settings.bot_seed, 1, 2, 3):
        feed = SimulatedFeed(seed=seed, symbol=settings.bot_symbol, interval_s=settings.bot_candle_interval_s)
        candles = [feed.candle(index) for index in range(880_000_000, 880_001_800)]
        entered, last_exit, orders = None, None, []
        for end in range(strategy.warmup, len(candles) + 1):
            target = strategy.decide(candles[end - strategy.warmup : end]).target
            now = candles[end - 1]
            if target == "LONG" and entered is None:
                entered = now
                orders.append(end)
            elif target == "FLAT" and entered is not None:
                results.append(float(now.close / entered.close) - 1 - costs)
                if last_exit is not None:
                    gaps_s.append((now.close_time - last_exit.close_time).total_seconds())
                entered, last_exit = None, now
                orders.append(end)
        # a bot that starts at any candle: when does it make its first order?
        first_order_s += [
            min(order - start for order in orders if order >= start) * feed.interval_s
            for start in range(strategy.warmup, orders[-1])
        ]
    assert 20 <= statistics.median(gaps_s) <= 60
    assert statistics.quantiles(gaps_s, n=20)[-1] <= 60
    assert max(first_order_s) <= 60
    assert statistics.quantiles(first_order_s, n=20)[-1] <= 30
    wins = sum(result > 0 for result in results) / len(results)
    assert 0.3 <= wins <= 0.7
    assert abs(statistics.mean(results)) < 0.0003
