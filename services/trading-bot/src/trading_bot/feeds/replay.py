"""Candles that were recorded: played to the bot in a circle by the clock, or to a backtest once, as they were."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime
from decimal import Decimal
from pathlib import Path

from tradedb.errors import EXIT_CONFIG, SwitchyardError

from trading_bot.feeds.candles import Candle, latest_closed, open_time
from trading_bot.feeds.files import SAMPLE, Row, as_candle, candle_file, read_rows
from trading_bot.feeds.simulated import CATCH_UP_CANDLES

VENUE = "PAPER-REPLAY"


class ReplayFeed:
    """Plays a file of candles over and over, one row in each interval of the clock.

    Which row it is follows from the time alone, so a restarted bot, or a second one, finds the same market. The candles
    carry the time at which they are played, not the one at which they were recorded.

    Args:
        path: the file, or ``sample``.
        symbol: what the rows are called; a file does not say.
        interval_s: seconds from one row to the next, whatever it was in the file.

    Raises: SwitchyardError BOT-026 or BOT-025, the file cannot be used.
    """

    name = "replay"
    venue = VENUE

    def __init__(self, path: Path, *, symbol: str, interval_s: int) -> None:
        self.symbol = symbol
        self.interval_s = interval_s
        self.simulated = str(path) == SAMPLE
        # one short text a row: a tenth of the memory of a candle, and only one of them is looked at in an interval
        self._rows = [",".join(map(str, row[1:])) for row in read_rows(candle_file(path))]
        self._given: int | None = None
        if not self._rows:
            raise SwitchyardError(
                "BOT-026",
                f"file of candles {path}: it has no rows",
                why="There is nothing to play. Nothing was started.",
                fix="name another file with BOT_REPLAY_FILE; 'sample' is the one that ships",
                exit_code=EXIT_CONFIG,
            )

    def history(self, count: int, now: datetime) -> list[Candle]:
        """Return the last ``count`` candles closed at ``now``, oldest first."""
        newest = latest_closed(now, self.interval_s)
        return [self._candle(index) for index in range(newest - count + 1, newest + 1)]

    def poll(self, now: datetime) -> list[Candle]:
        """Return the candles that closed since the last call; the newest one at the first call."""
        newest = latest_closed(now, self.interval_s)
        first = newest if self._given is None else max(self._given + 1, newest - CATCH_UP_CANDLES + 1)
        self._given = newest if self._given is None else max(self._given, newest)
        return [self._candle(index) for index in range(first, newest + 1)]

    def close(self) -> None:
        """Let go of the rows."""
        self._rows = []

    def _candle(self, index: int) -> Candle:
        opened, high, low, close, volume = (Decimal(text) for text in self._rows[index % len(self._rows)].split(","))
        row = Row(open_time(index, self.interval_s), opened, high, low, close, volume)
        return as_candle(row, venue=self.venue, symbol=self.symbol, interval_s=self.interval_s)


class Playback:
    """Candles of the past as a feed, for a backtest: its clock goes from one close to the next.

    Args:
        candles: oldest first, as their source has them (perhaps with mistakes).
        name: that of the feed they come from.
        venue: the label of its rows.
        symbol: of all of them.
        interval_s: their length in seconds.
        simulated: whether their prices were never those of a market.
    """

    def __init__(
        self, candles: Iterable[Candle], *, name: str, venue: str, symbol: str, interval_s: int, simulated: bool
    ) -> None:
        self.name = name
        self.venue = venue
        self.symbol = symbol
        self.interval_s = interval_s
        self.simulated = simulated
        self._candles: Iterator[Candle] = iter(candles)
        self._next: Candle | None = next(self._candles, None)

    def next_close(self) -> datetime | None:
        """Return when the next candle closes; None at the end."""
        return self._next.close_time if self._next else None

    def history(self, count: int, now: datetime) -> list[Candle]:
        """Return nothing: what is past has been played."""
        return []

    def poll(self, now: datetime) -> list[Candle]:
        """Return the next candles, up to the first that closes after ``now``."""
        given = []
        while self._next is not None and self._next.close_time <= now:
            given.append(self._next)
            self._next = next(self._candles, None)
        return given

    def close(self) -> None:
        """Play no further."""
        self._next = None
