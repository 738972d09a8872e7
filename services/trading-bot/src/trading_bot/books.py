"""The account, derived from its fills: exact, and the same however often it is derived.

``balance = initial balance + Σ pnl - Σ fees`` over all fills, with no tolerance; ``pnl`` is before fees. What a
position cost stays in the balance until it is closed, and ``equity`` marks it to the last price.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal

from tradedb.errors import SwitchyardError

from trading_bot.orders import VenueFill

_ZERO = Decimal(0)


@dataclass(frozen=True, slots=True)
class OpenPosition:
    """What is held, from which fill."""

    intent_id: str
    symbol: str
    quantity: Decimal
    entry_price: Decimal
    entry_time: datetime
    entry_fee: Decimal
    balance_before: Decimal

    @property
    def cost(self) -> Decimal:
        """Return what was paid for it, without the fee."""
        return self.entry_price * self.quantity

    def unrealized_pnl(self, price: Decimal) -> Decimal:
        """Return what closing at ``price`` would bring, before fees."""
        return (price - self.entry_price) * self.quantity

    def unrealized_pnl_percent(self, price: Decimal) -> float:
        """Return the same in percent of the entry price."""
        return float((price / self.entry_price - 1) * 100)

    @property
    def balance_share(self) -> Decimal:
        """Return the share of the balance that it took, to 6 decimals (``size`` in the original tables)."""
        if self.balance_before <= 0:
            return _ZERO
        return (self.cost / self.balance_before).quantize(Decimal("0.000001"))


@dataclass(frozen=True, slots=True)
class RoundTrip:
    """A closed position: ``pnl`` is before fees, ``fees`` are those of both legs."""

    entry: OpenPosition
    exit_intent_id: str
    exit_price: Decimal
    exit_time: datetime
    pnl: Decimal
    fees: Decimal


@dataclass(frozen=True, slots=True)
class Account:
    """One trading session's money."""

    session_id: int
    initial_balance: Decimal
    pnl: Decimal = _ZERO
    fees: Decimal = _ZERO
    trades: int = 0
    wins: int = 0
    position: OpenPosition | None = None

    @property
    def balance(self) -> Decimal:
        """Return initial balance + Σ pnl - Σ fees."""
        return self.initial_balance + self.pnl - self.fees

    @property
    def win_rate(self) -> float | None:
        """Return the percentage of trades that earned more than their fees; None before the first trade."""
        return 100 * self.wins / self.trades if self.trades else None

    def equity(self, price: Decimal) -> Decimal:
        """Return the balance with the open position marked to ``price``."""
        return self.balance + (self.position.unrealized_pnl(price) if self.position else _ZERO)

    def apply(self, fill: VenueFill) -> tuple[Account, RoundTrip | None]:
        """Return the account after a fill, and the round trip that it closed.

        Raises: SwitchyardError BOT-003, the fill does not fit what is held; nothing is changed.
        """
        if fill.side == "BUY":
            if self.position is not None:
                raise _misfit(fill, f"{self.position.quantity} {self.position.symbol} is held already")
            opened = OpenPosition(
                intent_id=fill.intent_id,
                symbol=fill.symbol,
                quantity=fill.quantity,
                entry_price=fill.price,
                entry_time=fill.filled_at,
                entry_fee=fill.fee,
                balance_before=self.balance,
            )
            return replace(self, fees=self.fees + fill.fee, position=opened), None
        held = self.position
        if held is None or held.symbol != fill.symbol or held.quantity != fill.quantity:
            raise _misfit(fill, f"{held.quantity} {held.symbol} is held" if held else "nothing is held")
        trip = RoundTrip(
            entry=held,
            exit_intent_id=fill.intent_id,
            exit_price=fill.price,
            exit_time=fill.filled_at,
            pnl=held.unrealized_pnl(fill.price),
            fees=held.entry_fee + fill.fee,
        )
        after = replace(
            self,
            pnl=self.pnl + trip.pnl,
            fees=self.fees + fill.fee,
            trades=self.trades + 1,
            wins=self.wins + (trip.pnl > trip.fees),
            position=None,
        )
        return after, trip


def derive(session_id: int, initial_balance: Decimal, fills: Iterable[VenueFill]) -> Account:
    """Return the account that its fills, in the order they were recorded, make.

    Raises: SwitchyardError BOT-003, the fills do not add up.
    """
    account = Account(session_id=session_id, initial_balance=initial_balance)
    for fill in fills:
        account, _ = account.apply(fill)
    return account


def _misfit(fill: VenueFill, held: str) -> SwitchyardError:
    return SwitchyardError(
        "BOT-003",
        f"fill {fill.venue_trade_id} ({fill.side} {fill.quantity} {fill.symbol}) does not fit the account: {held}",
        why="The recorded fills do not add up, so the bot decides nothing more. Nothing was changed.",
        fix="look at table fills for this session; the fill's intent_id names the decision in order_intents",
    )
