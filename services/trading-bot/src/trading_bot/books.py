"""The account, derived from its fills: exact, and the same however often it is derived.

What is held is kept in lots, first in first out, so that each amount is a product or a sum and nothing is ever divided:
``balance = initial balance + Σ pnl - Σ fees = cash + inventory at cost`` with no tolerance; ``pnl`` is before fees.
``equity`` marks what is held to the last price. Mean prices are for people, and are rounded.

Each fill is also a few lines of double-entry bookkeeping, which add up to 0: what the account has is positive in
``cash`` and ``inventory``, what it spent on fees is positive in ``fees``; a gain is negative in ``pnl``, and the
initial balance in ``equity``.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Literal

from tradedb.errors import SwitchyardError

from trading_bot.orders import VenueFill, quote_currency

AccountName = Literal["cash", "inventory", "fees", "pnl", "equity"]
_ZERO = Decimal(0)
_MEAN_STEP = Decimal("1E-12")


class DoesNotFit(SwitchyardError):
    """A fill that cannot be of this account: it sells what is not held, or buys beside what is."""


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the double-entry books, in a currency."""

    account: AccountName
    currency: str
    amount: Decimal


@dataclass(frozen=True, slots=True)
class Lot:
    """Some that was bought at one price and is still held."""

    quantity: Decimal
    price: Decimal

    @property
    def cost(self) -> Decimal:
        """Return what was paid for it, without the fee."""
        return self.price * self.quantity


@dataclass(frozen=True, slots=True)
class OpenPosition:
    """What one entry bought, in one or more parts, and how much of it is still held.

    ``opened_at`` is the first fill's time, ``entered_at`` the last one's of the entry. ``pnl`` and ``fees`` are what
    the parts sold so far brought, and what all parts cost.
    """

    intent_id: str
    symbol: str
    opened_at: datetime
    entered_at: datetime
    balance_before: Decimal
    lots: tuple[Lot, ...]
    bought: Decimal
    bought_cost: Decimal
    sold: Decimal = _ZERO
    proceeds: Decimal = _ZERO
    pnl: Decimal = _ZERO
    fees: Decimal = _ZERO

    @property
    def quantity(self) -> Decimal:
        """Return how much is held now."""
        return self.bought - self.sold

    @property
    def cost(self) -> Decimal:
        """Return what was paid for what is held now, without fees."""
        return sum((lot.cost for lot in self.lots), _ZERO)

    @property
    def entry_price(self) -> Decimal:
        """Return the mean price of what is held now, to 12 decimals; of what was bought, when nothing is left."""
        return _mean(self.cost, self.quantity) if self.lots else _mean(self.bought_cost, self.bought)

    def unrealized_pnl(self, price: Decimal) -> Decimal:
        """Return what closing the rest at ``price`` would bring, before fees."""
        return price * self.quantity - self.cost

    def unrealized_pnl_percent(self, price: Decimal) -> float:
        """Return the same in percent of what the rest cost."""
        return float(self.unrealized_pnl(price) / self.cost * 100)

    @property
    def balance_share(self) -> Decimal:
        """Return the share of the balance that it took, to 6 decimals (``size`` in the original tables)."""
        if self.balance_before <= 0:
            return _ZERO
        return (self.bought_cost / self.balance_before).quantize(Decimal("0.000001"))


@dataclass(frozen=True, slots=True)
class RoundTrip:
    """A position that was closed to the last part. ``exit_intent_id`` is the decision that closed it."""

    entry: OpenPosition
    exit_intent_id: str
    exit_time: datetime

    @property
    def quantity(self) -> Decimal:
        """Return how much was bought and sold."""
        return self.entry.bought

    @property
    def entry_price(self) -> Decimal:
        """Return the mean price of all that was bought, to 12 decimals."""
        return _mean(self.entry.bought_cost, self.entry.bought)

    @property
    def exit_price(self) -> Decimal:
        """Return the mean price of all that was sold, to 12 decimals."""
        return _mean(self.entry.proceeds, self.entry.sold)

    @property
    def pnl(self) -> Decimal:
        """Return what it brought before fees, exactly."""
        return self.entry.pnl

    @property
    def fees(self) -> Decimal:
        """Return the fees of every part of both legs."""
        return self.entry.fees

    @property
    def pnl_percent(self) -> float:
        """Return the profit before fees in percent of what was paid."""
        return float(self.entry.pnl / self.entry.bought_cost * 100)


@dataclass(frozen=True, slots=True)
class Posting:
    """What a fill does: the account afterwards, its lines in the books, and the round trip that it closed."""

    account: Account
    lines: tuple[Line, ...]
    trip: RoundTrip | None = None


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
    def inventory(self) -> Decimal:
        """Return what was paid for what is held."""
        return self.position.cost if self.position else _ZERO

    @property
    def cash(self) -> Decimal:
        """Return what is not bound in a position."""
        return self.balance - self.inventory

    @property
    def win_rate(self) -> float | None:
        """Return the percentage of trades that earned more than their fees; None before the first trade."""
        return 100 * self.wins / self.trades if self.trades else None

    def equity(self, price: Decimal) -> Decimal:
        """Return the balance with the open position marked to ``price``."""
        return self.balance + (self.position.unrealized_pnl(price) if self.position else _ZERO)

    def totals(self) -> dict[AccountName, Decimal]:
        """Return what each account of the double-entry books must come to."""
        return {
            "cash": self.cash,
            "inventory": self.inventory,
            "fees": self.fees,
            "pnl": -self.pnl,
            "equity": -self.initial_balance,
        }

    def apply(self, fill: VenueFill) -> tuple[Account, RoundTrip | None]:
        """Return the account after a fill, and the round trip that it closed.

        Raises: DoesNotFit (BOT-003), the fill does not fit what is held; nothing is changed.
        """
        posting = self.post(fill)
        return posting.account, posting.trip

    def post(self, fill: VenueFill) -> Posting:
        """Return everything that a fill does to the account.

        Raises: DoesNotFit (BOT-003), the fill does not fit what is held; nothing is changed.
        """
        if fill.fee_currency != quote_currency(fill.symbol):
            raise _misfit(fill, f"its fee is in {fill.fee_currency}, and the account in {quote_currency(fill.symbol)}")
        return self._bought(fill) if fill.side == "BUY" else self._sold(fill)

    def _bought(self, fill: VenueFill) -> Posting:
        held = self.position
        lot = Lot(fill.quantity, fill.price)
        if held is None:
            position = OpenPosition(
                intent_id=fill.intent_id,
                symbol=fill.symbol,
                opened_at=fill.filled_at,
                entered_at=fill.filled_at,
                balance_before=self.balance,
                lots=(lot,),
                bought=fill.quantity,
                bought_cost=lot.cost,
                fees=fill.fee,
            )
        elif held.intent_id == fill.intent_id:  # a further part of the same entry
            position = replace(
                held,
                entered_at=max(held.entered_at, fill.filled_at),
                lots=(*held.lots, lot),
                bought=held.bought + fill.quantity,
                bought_cost=held.bought_cost + lot.cost,
                fees=held.fees + fill.fee,
            )
        else:
            raise _misfit(fill, f"{held.quantity:f} {held.symbol} is held already")
        after = replace(self, fees=self.fees + fill.fee, position=position)
        return Posting(after, _lines(fill, cash=-lot.cost - fill.fee, inventory=lot.cost))

    def _sold(self, fill: VenueFill) -> Posting:
        held = self.position
        if held is None or held.symbol != fill.symbol or held.quantity < fill.quantity:
            raise _misfit(fill, f"{held.quantity:f} {held.symbol} is held" if held else "nothing is held")
        lots, cost = _consumed(held.lots, fill.quantity)
        proceeds = fill.price * fill.quantity
        pnl = proceeds - cost
        position = replace(
            held,
            lots=lots,
            sold=held.sold + fill.quantity,
            proceeds=held.proceeds + proceeds,
            pnl=held.pnl + pnl,
            fees=held.fees + fill.fee,
        )
        lines = _lines(fill, cash=proceeds - fill.fee, inventory=-cost, pnl=-pnl)
        after = replace(self, pnl=self.pnl + pnl, fees=self.fees + fill.fee, position=position)
        if lots:
            return Posting(after, lines)
        trip = RoundTrip(entry=position, exit_intent_id=fill.intent_id, exit_time=fill.filled_at)
        after = replace(after, trades=self.trades + 1, wins=self.wins + (trip.pnl > trip.fees), position=None)
        return Posting(after, lines, trip)


def opening(initial_balance: Decimal, currency: str) -> tuple[Line, ...]:
    """Return the lines with which a session's books begin."""
    return Line("cash", currency, initial_balance), Line("equity", currency, -initial_balance)


def derive(session_id: int, initial_balance: Decimal, fills: Iterable[VenueFill]) -> Account:
    """Return the account that its fills, in the order they were recorded, make.

    Raises: DoesNotFit (BOT-003), the fills do not add up.
    """
    account = Account(session_id=session_id, initial_balance=initial_balance)
    for fill in fills:
        account, _ = account.apply(fill)
    return account


def _consumed(lots: tuple[Lot, ...], quantity: Decimal) -> tuple[tuple[Lot, ...], Decimal]:
    """Return the lots that are left when ``quantity`` is taken from the oldest ones, and what that had cost."""
    cost = _ZERO
    for n, lot in enumerate(lots):
        taken = min(lot.quantity, quantity)
        cost += lot.price * taken
        quantity -= taken
        if quantity == 0:
            rest = (Lot(lot.quantity - taken, lot.price),) if taken < lot.quantity else ()
            return (*rest, *lots[n + 1 :]), cost
    raise AssertionError("more is taken than the lots hold")  # the caller has compared


def _lines(fill: VenueFill, **amounts: Decimal) -> tuple[Line, ...]:
    """Return the lines of a fill, without those that are 0."""
    amounts["fees"] = fill.fee
    names: tuple[AccountName, ...] = ("cash", "inventory", "fees", "pnl")
    return tuple(Line(name, fill.fee_currency, amounts[name]) for name in names if amounts.get(name))


def _mean(amount: Decimal, quantity: Decimal) -> Decimal:
    """A mean price for people: without trailing zeros where it is exact."""
    exact = amount / quantity
    rounded = exact.quantize(_MEAN_STEP, rounding=ROUND_HALF_EVEN)
    return exact if rounded == exact else rounded


def _misfit(fill: VenueFill, held: str) -> DoesNotFit:
    return DoesNotFit(
        "BOT-003",
        f"fill {fill.venue_trade_id} ({fill.side} {fill.quantity:f} {fill.symbol}) does not fit the account: {held}",
        why="The recorded fills do not add up, so the bot decides nothing more. Nothing was changed.",
        fix="look at table fills for this session; the fill's intent_id names the decision in order_intents",
    )
