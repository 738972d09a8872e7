"""Defects of the bot itself: they break what only its own loop and recovery do."""

from __future__ import annotations

from typing import Any


def server_not_looked_at() -> None:
    """Recovery takes every server for the one that it knew."""
    from trading_bot import recovery

    recovery.server_identity = lambda _: "the server"  # pyright: ignore[reportPrivateImportUsage]


def outage_ends_the_loop() -> None:
    """A lost connection is not tried again within the call, and the loop does not wait it out."""
    from tradedb import retry
    from trading_bot.bot import Bot

    def wait_out(self: Any, error: Any) -> float:
        raise SystemExit(f"an outage ended the loop: {error}")

    retry.is_lost = lambda _: False
    Bot._wait_out = wait_out  # pyright: ignore[reportPrivateUsage]


def full_spool_stops_exits() -> None:
    """A decision that the disk has no room for is dropped, whatever it is."""
    from trading_bot.desk import Desk

    whole = Desk.place

    def place(self: Any, intent: Any) -> None:
        number = self._spool_decision(intent)
        if number is not None:
            self._spool_decision = lambda _: number
            try:
                whole(self, intent)
            finally:
                del self._spool_decision

    Desk.place = place
