"""Market data: what a feed is. One module each: simulated, replay (files), exchange (ccxt); screen refuses bad candles.

A feed gives what its source says, raw. The loop looks at it through ``screen.Screen``, which is a feed itself and lets
only sound candles through.
"""

from __future__ import annotations

from datetime import datetime
from typing import Protocol

from trading_bot.feeds.candles import Candle

SIMULATED = "SIMULATED"  # the venue of everything that comes from the simulated market, in every row and on every page


class Feed(Protocol):
    """Where candles come from.

    ``name`` is what it is chosen by, ``venue`` the label of its rows; ``simulated`` when its prices were never those of
    a market.
    """

    name: str
    venue: str
    symbol: str
    interval_s: int
    simulated: bool

    def history(self, count: int, now: datetime) -> list[Candle]:
        """Return the last ``count`` candles closed at ``now``, oldest first; fewer when there are no more.

        What it gives does not count as given for ``poll``.

        Raises: SwitchyardError BOT-020, the source cannot be reached; BOT-021, it does not know what is asked for.
        """
        ...

    def poll(self, now: datetime) -> list[Candle]:
        """Return the closed candles that ``poll`` has not given before, oldest first; [] when there are none.

        The first call gives the newest closed candle, later ones also what closed while nobody asked.

        Raises: as ``history``.
        """
        ...

    def close(self) -> None:
        """Let go of connections and files."""
        ...
