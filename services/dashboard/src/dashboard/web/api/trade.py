"""GET /api/v1/trades/{trade_id}."""

from __future__ import annotations

from functools import partial
from typing import Any, Literal, Self

from pydantic import Field

from dashboard import formats
from dashboard.reading.cursors import MAX_ID
from dashboard.reading.snapshots import Answer
from dashboard.reading.trade import Leg as LegRow
from dashboard.reading.trade import TradeDetail, read_trade
from dashboard.web.api.answers import Age, Told
from dashboard.web.api.trades import Trade
from dashboard.web.api.values import Instant, Model, Money, Parameters, RecordedTime
from dashboard.web.pages import Pages


class TradeParameters(Parameters):
    """Which trade."""

    trade_id: int = Field(ge=0, le=MAX_ID)
    """The trade's id."""


class Intent(Model):
    """What the bot decided, committed before it acted."""

    intent_id: str
    leg: str
    side: str
    symbol: str
    venue: str
    strategy_name: str
    quantity: Money
    reference_price: Money
    reason: str | None
    status: str
    signal_time: Instant
    """Of the candle that it decided on."""
    created_at: Instant
    """When the decision was durable."""
    updated_at: Instant
    lease_epoch: int
    session_id: int


class Order(Model):
    """An order as the venue last described it."""

    venue: str
    client_order_id: str
    venue_order_id: str
    side: str
    quantity: Money
    filled_quantity: Money
    status: str
    submitted_at: Instant
    accepted_at: Instant | None
    updated_at: Instant
    lease_epoch: int


class Fill(Model):
    """A part of an order that was filled."""

    venue: str
    venue_trade_id: str
    side: str
    price: Money
    quantity: Money
    fee: Money
    fee_currency: str
    filled_at: Instant
    """At the venue."""
    recorded_at: Instant
    """Here."""
    venue_sequence: int | None
    late: bool
    """True: recorded by a later leader than the one that decided it, or out of the spool."""
    lease_epoch: int


class Entry(Model):
    """A line of the double-entry books."""

    entry_id: int
    venue_trade_id: str | None
    account: str
    currency: str
    amount: Money
    recorded_at: Instant


class Leg(Model):
    """The way in or the way out."""

    kind: Literal["entry", "exit"]
    intent: Intent
    orders: list[Order]
    fills: list[Fill]
    entries: list[Entry]
    balances: dict[str, Money]
    """What the entries add up to by currency: zero where the books balance."""

    @classmethod
    def of_row(cls, row: LegRow) -> Self:
        """Return the leg of a row."""
        return cls.of(
            row, intent=Intent.of(row.intent), orders=[Order.of(order) for order in row.orders],
            fills=[Fill.of(fill) for fill in row.fills], entries=[Entry.of(entry) for entry in row.entries],
        )  # fmt: skip


class TradeStory(Model):
    """A trade with what was decided, ordered, filled and booked for it."""

    trade: Trade
    session_name: str | None
    timeframe: str | None
    stop_loss: Money | None
    take_profit: Money | None
    confidence_score: float | None
    strategy_config: Any
    order_id: str | None
    position_id: int | None
    position_status: str | None
    created_at: RecordedTime | None
    """When the row was written, by the clock of whoever wrote it."""
    legs: list[Leg]
    """Empty for a history that came without decisions and fills."""
    newer_id: int | None
    """The trade that was closed next."""
    older_id: int | None
    """The trade that was closed before."""

    @classmethod
    def of_detail(cls, seen: TradeDetail) -> Self:
        """Return what is known of a trade."""
        created_at = None if seen.created_at is None else formats.recorded(seen.created_at, in_utc=seen.trade.ours)
        return cls.of(
            seen, trade=Trade.of_row(seen.trade), created_at=created_at, legs=[Leg.of_row(leg) for leg in seen.legs]
        )


class TradeAnswer(Told):
    """One trade."""

    data: TradeStory


async def ask(pages: Pages, given: TradeParameters) -> Answer[Any]:
    """Return what the database answers."""
    return await pages.ask(("trade", given.trade_id), partial(read_trade, trade_id=given.trade_id), "API trade")


def shape(answer: Answer[Any], seen: TradeDetail) -> TradeAnswer:
    """Return it as the API says it."""
    return TradeAnswer(freshness=Age.of_answer(answer), data=TradeStory.of_detail(seen))
