"""The old name of trading_bot.feeds, until the loop has switched to it."""

from trading_bot.feeds import SIMULATED
from trading_bot.feeds.candles import Candle
from trading_bot.feeds.simulated import SimulatedFeed

Feed = SimulatedFeed

__all__ = ["SIMULATED", "Candle", "Feed", "SimulatedFeed"]
