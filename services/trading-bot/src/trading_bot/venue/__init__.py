"""Where orders are executed: what a venue is. ``paper`` has the one that only pretends.

A venue is another program with a memory of its own. It knows what it was told and what it did, whether the bot that
told it still lives or not; so whatever the bot is unsure of, it asks.
"""

from __future__ import annotations

from typing import Protocol

from tradedb.errors import SwitchyardError

from trading_bot.feeds.candles import Candle
from trading_bot.orders import Intent, OrderReport, VenueFill


class VenueUnreachable(SwitchyardError):
    """No answer: what was asked for may have happened or not. Ask with ``find``; never send under another id."""


class Venue(Protocol):
    """Carries intents out, each once, and remembers them. The client order id is the intent's id."""

    name: str

    def submit(self, intent: Intent) -> OrderReport:
        """Give the order; asked again about the same intent, act no more and say how the order stands now.

        Raises: VenueUnreachable. SwitchyardError BOT-041, the id was used for another order.
        """
        ...

    def find(self, client_order_id: str) -> OrderReport | None:
        """Return how an order stands; None when the venue never got it.

        Raises: VenueUnreachable.
        """
        ...

    def cancel(self, client_order_id: str) -> OrderReport:
        """Take back what is not filled yet and return how the order stands then; one that is over stays as it is.

        Raises: VenueUnreachable. SwitchyardError BOT-042, the venue has no such order.
        """
        ...

    def void(self, intent: Intent) -> OrderReport:
        """See to it that no more of a decision is carried out, and return how its order stands then.

        What rests is cancelled. An order that never came is refused if it comes after all, from a process that was put
        to sleep between deciding and sending. Where a venue cannot do that, such an order is found by its fills.

        Raises: VenueUnreachable.
        """
        ...

    def open_orders(self) -> list[OrderReport]:
        """Return the orders of which something is still to be filled, oldest first.

        Raises: VenueUnreachable.
        """
        ...

    def fills(self, after: int, limit: int = 500) -> list[VenueFill]:
        """Return the fills whose sequence is above ``after``, in that order; never one that comes before a given one.

        Raises: VenueUnreachable.
        """
        ...

    def see(self, candle: Candle) -> None:
        """Let the market move on: what rests in a paper venue is filled by candles. A real venue needs no telling.

        Raises: VenueUnreachable.
        """
        ...

    def close(self) -> None:
        """Let go of connections and files. Orders stay."""
        ...
