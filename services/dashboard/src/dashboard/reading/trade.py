"""One trade's own story: what was decided, ordered, filled and booked, each with its times, and where it came from."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any, Literal

from sqlalchemy import Connection, and_, or_, select
from tradedb.models import Fill, LedgerEntry, OrderIntent, Position, Trade, TradingSession, VenueOrder

from dashboard import formats
from dashboard.reading.provenance import CopyRun, copy_runs
from dashboard.reading.schema import SchemaState, schema_state
from dashboard.reading.trades import TradeRow, trade_rows

MAX_LINES = 500
"""So many orders, fills or ledger entries of one leg are shown; a paper order fills in three parts."""


@dataclass(frozen=True)
class IntentRow:
    """What the bot decided, committed before it acted. All times are aware UTC.

    ``signal_time`` is the candle's that it decided on, ``created_at`` when the decision was durable. Quantities are in
    the traded thing, ``reference_price`` in the quote currency.
    """

    intent_id: str
    leg: str
    side: str
    symbol: str
    venue: str
    strategy_name: str
    quantity: Decimal
    reference_price: Decimal
    reason: str | None
    status: str
    signal_time: datetime
    created_at: datetime
    updated_at: datetime
    lease_epoch: int
    session_id: int


@dataclass(frozen=True)
class OrderRow:
    """An order as the venue last described it. ``accepted_at`` is the venue's time, the others are ours; aware UTC."""

    venue: str
    client_order_id: str
    venue_order_id: str
    side: str
    quantity: Decimal
    filled_quantity: Decimal
    status: str
    submitted_at: datetime
    accepted_at: datetime | None
    updated_at: datetime
    lease_epoch: int


@dataclass(frozen=True)
class FillRow:
    """One part of an order that was filled: ``filled_at`` at the venue, ``recorded_at`` here; aware UTC.

    ``late``: recorded by a later leader than the one that decided it, or out of the spool.
    """

    venue: str
    venue_trade_id: str
    side: str
    price: Decimal
    quantity: Decimal
    fee: Decimal
    fee_currency: str
    filled_at: datetime
    recorded_at: datetime
    venue_sequence: int | None
    late: bool
    lease_epoch: int

    @property
    def delay_s(self) -> float:
        """Return how long after it happened it was recorded, in seconds."""
        return (self.recorded_at - self.filled_at).total_seconds()


@dataclass(frozen=True)
class EntryRow:
    """One line of the double-entry books: positive amounts are what the account has or has spent, in ``currency``."""

    entry_id: int
    venue_trade_id: str | None
    account: str
    currency: str
    amount: Decimal
    recorded_at: datetime


@dataclass(frozen=True)
class Leg:
    """The way in or the way out: the decision, its orders, their fills, and what was booked for them."""

    kind: Literal["entry", "exit"]
    intent: IntentRow
    orders: list[OrderRow] = field(default_factory=list)
    fills: list[FillRow] = field(default_factory=list)
    entries: list[EntryRow] = field(default_factory=list)

    @property
    def balances(self) -> dict[str, Decimal]:
        """Return by currency what the entries add up to; zero where the books balance."""
        sums: dict[str, Decimal] = {}
        for entry in self.entries:
            sums[entry.currency] = sums.get(entry.currency, Decimal(0)) + entry.amount
        return sums


@dataclass(frozen=True)
class Moment:
    """One step of the story. ``at`` is aware UTC, or the bare wall clock of a copied trade; ``theirs``: the venue's."""

    at: datetime
    what: str
    detail: str
    theirs: bool = False


@dataclass(frozen=True)
class TradeDetail:
    """All that is known of one trade. ``legs`` is empty for history that came without decisions and fills.

    ``copied`` is the run that brought the row, None: written here. ``stop_loss`` and ``take_profit`` are prices in the
    quote currency. ``created_at`` is when the row was written, by the clock of whoever wrote it.
    """

    schema: SchemaState
    trade: TradeRow
    session_name: str | None
    timeframe: str | None
    stop_loss: Decimal | None
    take_profit: Decimal | None
    confidence_score: float | None
    strategy_config: Any
    order_id: str | None
    position_id: int | None
    position_status: str | None
    created_at: datetime | None
    legs: list[Leg]
    copied: CopyRun | None
    newer_id: int | None
    older_id: int | None

    @property
    def moments(self) -> list[Moment]:
        """Return every time that is known of it, the earliest first, and no effect before its cause."""
        if not self.legs:
            return [
                Moment(self.trade.entry_time, "Opened", ""),
                Moment(self.trade.exit_time, "Closed", self.trade.exit_reason or ""),
            ]
        found = [step for leg in self.legs for step in _moments(leg)]
        return [moment for _, moment in sorted(found, key=lambda step: step[0])]


def read_trade(conn: Connection, trade_id: int) -> TradeDetail | None:
    """Return one trade with its decisions, orders, fills and ledger entries; None: there is no such trade.

    Args:
        conn: in a transaction that sees one state of the database.
        trade_id: of the row in ``trades``.
    """
    schema = schema_state(conn)
    rows = trade_rows(conn, [trade_id], copy_runs(conn))
    if not rows:
        return None
    trade = rows[0]
    more = conn.execute(
        select(
            Trade.order_id,
            Trade.position_id,
            Trade.timeframe,
            Trade.stop_loss,
            Trade.take_profit,
            Trade.confidence_score,
            Trade.strategy_config,
            Trade.created_at,
            TradingSession.session_name,
            Position.order_id.label("entry_id"),
            Position.status.label("position_status"),
        )
        .select_from(Trade)
        .outerjoin(TradingSession, TradingSession.id == Trade.session_id)
        .outerjoin(Position, Position.id == Trade.position_id)
        .where(Trade.id == trade_id)
    ).one()
    return TradeDetail(
        schema=schema,
        trade=trade,
        session_name=more.session_name,
        timeframe=more.timeframe,
        stop_loss=more.stop_loss,
        take_profit=more.take_profit,
        confidence_score=more.confidence_score,
        strategy_config=more.strategy_config,
        order_id=more.order_id,
        position_id=more.position_id,
        position_status=more.position_status,
        created_at=more.created_at,
        legs=_legs(conn, more.order_id, more.entry_id),
        copied=trade.copied,
        newer_id=_neighbour(conn, trade, newer=True),
        older_id=_neighbour(conn, trade, newer=False),
    )


def _neighbour(conn: Connection, trade: TradeRow, *, newer: bool) -> int | None:
    """The trade that was closed next, or before; found in the index of closing times."""
    at = select(Trade.exit_time).where(Trade.id == trade.id).scalar_subquery()
    here = or_(
        Trade.exit_time > at if newer else Trade.exit_time < at,
        and_(Trade.exit_time == at, Trade.id > trade.id if newer else Trade.id < trade.id),
    )
    near = Trade.exit_time >= at if newer else Trade.exit_time <= at
    order = (Trade.exit_time.asc(), Trade.id.asc()) if newer else (Trade.exit_time.desc(), Trade.id.desc())
    return conn.scalar(select(Trade.id).where(near, here).order_by(*order).limit(1))


def _legs(conn: Connection, exit_id: str | None, entry_id: str | None) -> list[Leg]:
    """The decisions of a trade: the exit names its row, the entry its position's, or the exit names its entry."""
    columns = [getattr(OrderIntent, name) for name in IntentRow.__dataclass_fields__]
    intents: dict[str, Any] = {}
    wanted = [key for key in (exit_id, entry_id) if key]
    if wanted:
        found = conn.execute(select(*columns, OrderIntent.entry_intent_id).where(OrderIntent.intent_id.in_(wanted)))
        intents = {row.intent_id: row for row in found}
    closing = intents.get(exit_id or "")
    if entry_id is None and closing is not None and closing.entry_intent_id:
        entry_id = closing.entry_intent_id
        found = conn.execute(select(*columns, OrderIntent.entry_intent_id).where(OrderIntent.intent_id == entry_id))
        intents |= {row.intent_id: row for row in found}
    legs: list[Leg] = []
    for kind, key in (("entry", entry_id), ("exit", exit_id)):
        if (row := intents.get(key or "")) is not None:
            intent = IntentRow(**{name: getattr(row, name) for name in IntentRow.__dataclass_fields__})
            legs.append(_leg(conn, "entry" if kind == "entry" else "exit", intent))
    return legs


def _leg(conn: Connection, kind: Literal["entry", "exit"], intent: IntentRow) -> Leg:
    orders = conn.execute(
        select(*(getattr(VenueOrder, name) for name in OrderRow.__dataclass_fields__))
        .where(VenueOrder.client_order_id == intent.intent_id)
        .order_by(VenueOrder.submitted_at, VenueOrder.venue)
        .limit(MAX_LINES)
    )
    fills = [
        FillRow(**row._asdict())
        for row in conn.execute(
            select(*(getattr(Fill, name) for name in FillRow.__dataclass_fields__))
            .where(Fill.intent_id == intent.intent_id)
            .order_by(Fill.filled_at, Fill.venue_sequence, Fill.venue_trade_id)
            .limit(MAX_LINES)
        )
    ]
    entries: Iterable[Any] = ()
    if fills:
        entries = conn.execute(
            select(*(getattr(LedgerEntry, name) for name in EntryRow.__dataclass_fields__))
            .where(
                LedgerEntry.session_id == intent.session_id,
                LedgerEntry.venue == intent.venue,
                LedgerEntry.venue_trade_id.in_([fill.venue_trade_id for fill in fills]),
            )
            .order_by(LedgerEntry.entry_id)
            .limit(MAX_LINES)
        )
    return Leg(
        kind,
        intent,
        [OrderRow(**row._asdict()) for row in orders],
        fills,
        [EntryRow(**row._asdict()) for row in entries],
    )


def _moments(leg: Leg) -> list[tuple[datetime, Moment]]:
    """Return the steps of one leg, each with where it belongs: the venue's clock may be a little behind ours."""
    name, intent = leg.kind, leg.intent
    found: list[tuple[datetime, Moment]] = []

    def then(after: datetime, moment: Moment) -> datetime:
        found.append((max(after, moment.at), moment))
        return found[-1][0]

    decided = then(intent.signal_time, Moment(intent.signal_time, f"Signal to {name}", intent.reason or ""))
    what = f"{intent.side.lower()} {formats.quantity(intent.quantity)} {intent.symbol}"
    decided = begun = then(decided, Moment(intent.created_at, f"Decision to {name} recorded", what))
    for place, order in enumerate(leg.orders):
        sent = then(decided, Moment(order.submitted_at, f"Order to {name} sent", order.client_order_id))
        if order.accepted_at is not None:
            sent = then(sent, Moment(order.accepted_at, f"Order to {name} accepted", order.venue_order_id, theirs=True))
        begun = begun if place else sent
    for fill in leg.fills:
        at = f"{formats.quantity(fill.quantity)} at {formats.price(fill.price)}"
        filled = then(begun, Moment(fill.filled_at, f"Filled ({name})", at, theirs=True))
        then(filled, Moment(fill.recorded_at, f"Fill recorded ({name})", f"{at}{', late' if fill.late else ''}"))
    return found
