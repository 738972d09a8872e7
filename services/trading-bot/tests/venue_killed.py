"""Kill a process (SIGKILL) before and after each statement that its paper venue gives to SQLite, and look what is left.

On success the last line is the number of places that were tried.
"""

from __future__ import annotations

import os
import signal
import sqlite3
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from trading_bot.feeds.candles import Candle
from trading_bot.orders import Intent
from trading_bot.venue.paper import PaperVenue
from trading_bot.venue.pricing import split

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
ORDERS = 3
QUANTITY = Decimal("0.1")


def venue_at(file: Path) -> PaperVenue:
    return PaperVenue("SIMULATED", file, fee_rate=Decimal("0.0004"), slippage_rate=Decimal("0.0001"))


def candle(n: int) -> Candle:
    price = Decimal(100 + n)
    closes = NOON + timedelta(seconds=2 * n)
    return Candle("SIMULATED", "BTCUSDT", n, closes, closes, price, price, price, price, Decimal(1))


def trade(venue: PaperVenue, orders: int) -> None:
    """Give an order at each candle, then show candles until nothing is open. Safe to do again from the beginning."""
    for n in range(orders):
        venue.see(candle(n))
        venue.submit(
            Intent(
                intent_id=f"order {n}", session_id=1, strategy_name="S", venue="SIMULATED", symbol="BTCUSDT",
                side="BUY", leg="ENTRY", quantity=QUANTITY, reference_price=candle(n).close,
                signal_time=candle(n).close_time, reason="r",
            )
        )  # fmt: skip
    for n in range(orders, orders + 3):
        venue.see(candle(n))


def check(venue: PaperVenue, orders: int) -> None:
    """See that each order was filled once and wholly, and that the fills are numbered without a gap."""
    fills = venue.fills(0, limit=10_000)
    assert [fill.sequence for fill in fills] == list(range(1, len(fills) + 1))
    assert len({fill.venue_trade_id for fill in fills}) == len(fills)
    assert venue.open_orders() == []
    for n in range(orders):
        parts = [fill.quantity for fill in fills if fill.intent_id == f"order {n}"]
        assert parts == split(f"order {n}", QUANTITY)
        report = venue.find(f"order {n}")
        assert report is not None
        assert (report.status, report.filled_quantity) == ("FILLED", QUANTITY)


class Killing(sqlite3.Connection):
    """Ends its process at the n-th place."""

    at = 0
    seen = 0

    @classmethod
    def here(cls) -> None:
        cls.seen += 1
        if cls.seen == cls.at:
            os.kill(os.getpid(), signal.SIGKILL)

    def execute(self, *args: Any, **options: Any) -> sqlite3.Cursor:
        self.here()
        cursor = super().execute(*args, **options)
        self.here()
        return cursor


def killed_at(at: int, file: Path) -> bool:
    """Trade in a process that is killed at this place; return whether it came there."""
    pid = os.fork()
    if pid == 0:
        Killing.at = at
        connect: Callable[..., sqlite3.Connection] = sqlite3.connect
        sqlite3.connect = lambda *args, **options: connect(*args, factory=Killing, **options)
        trade(venue_at(file), ORDERS)
        os._exit(0)
    _, status = os.waitpid(pid, 0)
    assert status in (0, signal.SIGKILL), status
    return status != 0


def main() -> None:
    """Try one place after another until the process comes to its end."""
    at = 0
    while True:
        at += 1
        with TemporaryDirectory(dir=sys.argv[1]) as folder:
            file = Path(folder, "venue.db")
            was_killed = killed_at(at, file)
            venue = venue_at(file)
            trade(venue, ORDERS)
            check(venue, ORDERS)
            venue.close()
        if not was_killed:
            sys.stdout.write(f"{at - 1}\n")
            return


if __name__ == "__main__":
    main()
