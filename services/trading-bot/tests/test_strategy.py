from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pytest
from trading_bot.feed import Candle, SimulatedFeed
from trading_bot.strategy import MovingAverageCross

TEMPLATE = SimulatedFeed(seed=1, symbol="BTCUSDT", interval_s=2).candle(1_000)


def candles(*closes: str) -> list[Candle]:
    return [replace(TEMPLATE, close=Decimal(close)) for close in closes]


@pytest.mark.parametrize(
    ("closes", "target"),
    [
        (("1", "1", "1", "4"), "LONG"),
        (("4", "4", "4", "1"), "FLAT"),
        (("3", "3", "3", "3"), "FLAT"),  # equal is not above
        (("9", "1", "1", "1", "1.01"), "LONG"),  # only the last slow window counts
        (("0.1", "0.1", "0.1", "0.1000000001"), "LONG"),  # nothing is rounded
    ],
)
def test_long_exactly_while_the_fast_mean_is_above(closes: tuple[str, ...], target: str) -> None:
    decision = MovingAverageCross(fast=2, slow=4).decide(candles(*closes))
    assert decision.target == target
    assert 0 < len(decision.reason) <= 100


@pytest.mark.parametrize(("fast", "slow"), [(0, 3), (3, 3), (4, 3)])
def test_windows_that_cannot_cross_are_refused(fast: int, slow: int) -> None:
    with pytest.raises(ValueError, match=f"fast={fast} and slow={slow}"):
        MovingAverageCross(fast=fast, slow=slow)
