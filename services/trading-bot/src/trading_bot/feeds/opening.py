"""The feed that the settings name. Each kind is imported only when it is wanted."""

from __future__ import annotations

from trading_bot.feeds import Feed
from trading_bot.settings import BotSettings


def open_feed(settings: BotSettings) -> Feed:
    """Return the feed of BOT_FEED. Nothing is sent over a network yet.

    Raises: SwitchyardError BOT-021, BOT-026 or BOT-025, it cannot be what the settings say.
    """
    symbol, interval_s = settings.bot_symbol, settings.bot_candle_interval_s
    if settings.bot_feed == "replay":
        from trading_bot.feeds.replay import ReplayFeed

        return ReplayFeed(settings.bot_replay_file, symbol=symbol, interval_s=interval_s)
    if settings.bot_feed == "ccxt":
        from trading_bot.feeds.exchange import ExchangeFeed

        return ExchangeFeed(settings.bot_exchange, symbol=symbol, interval_s=interval_s, url=settings.bot_exchange_url)
    from trading_bot.feeds.simulated import SimulatedFeed

    return SimulatedFeed(seed=settings.bot_seed, symbol=symbol, interval_s=interval_s)
