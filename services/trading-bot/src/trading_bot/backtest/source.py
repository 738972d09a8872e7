"""The past that a backtest plays: so many candles of one of the feeds, and how it is named."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from tradedb.errors import EXIT_USAGE, SwitchyardError

from trading_bot.feeds.candles import Candle, latest_closed, open_time
from trading_bot.feeds.replay import Playback
from trading_bot.settings import BotSettings

SIMULATED_START = datetime(2026, 1, 1, tzinfo=UTC)
SIMULATED_SPAN = timedelta(hours=6)
EXCHANGE_CANDLES = 500


@dataclass(frozen=True, slots=True)
class Past:
    """Candles, how many at most (None: unknown before they are read), and what they are, for people."""

    playback: Playback
    expected: int | None
    title: str


def past(settings: BotSettings, start: datetime | None, end: datetime | None, now: datetime) -> Past:
    """Return the candles that open from ``start`` on and close until ``end``.

    Without them: the simulated market plays six hours from 2026-01-01, a file all that it has, and an exchange the last
    500 candles.

    Args:
        settings: name the feed.
        start: aware, or None.
        end: aware, or None.
        now: for an exchange, the end of what there can be.

    Raises: SwitchyardError of the feed's; BOT-027, the period is empty.
    """
    if settings.bot_feed == "replay":
        return _recorded(settings, start, end)
    if settings.bot_feed == "ccxt":
        return _published(settings, start, end, now)
    return _simulated(settings, start, end)


def nothing_there(what: str, start: datetime | None, end: datetime | None) -> SwitchyardError:
    """Return the error of a past without candles."""
    said = f"from {start.isoformat() if start else 'the beginning'} to {end.isoformat() if end else 'the end'}"
    return SwitchyardError(
        "BOT-027",
        f"{what} has no candle {said}",
        why="There is nothing to test. A candle counts when it opens and closes within the period.",
        fix="choose another period with --from and --to (UTC)",
        exit_code=EXIT_USAGE,
    )


def _simulated(settings: BotSettings, start: datetime | None, end: datetime | None) -> Past:
    from trading_bot.feeds.simulated import SimulatedFeed

    interval_s = settings.bot_candle_interval_s
    feed = SimulatedFeed(seed=settings.bot_seed, symbol=settings.bot_symbol, interval_s=interval_s)
    if start is None:
        start = SIMULATED_START if end is None or end > SIMULATED_START else end - SIMULATED_SPAN
    end = start + SIMULATED_SPAN if end is None else end
    indexes = range(-(-int(start.timestamp()) // interval_s), feed.latest_closed(end) + 1)
    title = f"the simulated market {feed.symbol}, seed {feed.seed}"
    if not indexes:
        raise nothing_there(title, start, end)
    return Past(_playback(feed, map(feed.candle, indexes)), len(indexes), title)


def _recorded(settings: BotSettings, start: datetime | None, end: datetime | None) -> Past:
    from trading_bot.feeds.files import SAMPLE, as_candle, candle_file, interval_of, read_rows
    from trading_bot.feeds.replay import VENUE

    path = candle_file(settings.bot_replay_file)
    interval_s = interval_of(path)

    def candles() -> Iterator[Candle]:
        for row in read_rows(path):
            candle = as_candle(row, venue=VENUE, symbol=settings.bot_symbol, interval_s=interval_s)
            if (start is None or candle.open_time >= start) and (end is None or candle.close_time <= end):
                yield candle

    playback = Playback(
        candles(),
        name="replay",
        venue=VENUE,
        symbol=settings.bot_symbol,
        interval_s=interval_s,
        simulated=str(settings.bot_replay_file) == SAMPLE,
    )
    return Past(playback, None, f"{settings.bot_symbol} from {path.name}")


def _published(settings: BotSettings, start: datetime | None, end: datetime | None, now: datetime) -> Past:
    from trading_bot.feeds.exchange import ExchangeFeed

    interval_s = settings.bot_candle_interval_s
    feed = ExchangeFeed(
        settings.bot_exchange, symbol=settings.bot_symbol, interval_s=interval_s, url=settings.bot_exchange_url
    )
    end = now if end is None else min(end, now)
    if start is None:
        start = open_time(latest_closed(end, interval_s) - EXCHANGE_CANDLES + 1, interval_s)
    expected = int((end - start).total_seconds() // interval_s)
    return Past(
        _playback(feed, feed.between(start, end)), expected, f"{settings.bot_symbol} on {settings.bot_exchange}"
    )


def _playback(feed: object, candles: Iterable[Candle]) -> Playback:
    """The candles under the names of the feed that they come from."""
    names = ("name", "venue", "symbol", "interval_s", "simulated")
    return Playback(candles, **{name: getattr(feed, name) for name in names})
