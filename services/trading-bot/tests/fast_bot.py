"""``trading-bot run`` with a strategy that trades at every candle, so that a test need not wait for the market.

Where there is a file ``pause`` in its folder, it is removed and the process stops itself (SIGSTOP) at the worst
moment: an intent is committed, and the venue is about to be told.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from trading_bot import service
from trading_bot.feeds.candles import Candle
from trading_bot.orders import Intent, OrderReport
from trading_bot.strategies import Decision
from trading_bot.venue.paper import PaperVenue


class EveryCandle:
    name = "EveryCandle"
    warmup = 1

    def decide(self, candles: Sequence[Candle]) -> Decision:
        return Decision("LONG" if candles[-1].index % 2 else "FLAT", "every candle")

    def config(self) -> dict[str, Any]:
        return {}


class PausingVenue(PaperVenue):
    def submit(self, intent: Intent) -> OrderReport:
        pause = Path("pause")
        if pause.exists():
            pause.unlink()
            os.kill(os.getpid(), signal.SIGSTOP)
            time.sleep(0.5)  # the stop reaches this thread a moment later than the one that waits for signals
        return super().submit(intent)


if __name__ == "__main__":
    service.build_strategy = lambda *_: EveryCandle()  # pyright: ignore[reportPrivateImportUsage]
    service.PaperVenue = PausingVenue  # pyright: ignore[reportPrivateImportUsage]
    sys.argv[1:] = ["run"]
    from trading_bot.cli import main

    main()
