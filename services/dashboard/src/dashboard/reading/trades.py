"""Closed trades: filtered, sorted, in pages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from math import ceil
from typing import Any
from urllib.parse import urlencode

from sqlalchemy import ColumnElement, Connection, case, func, or_, select
from sqlalchemy.orm import InstrumentedAttribute
from tradedb.models import OrderIntent, Trade

from dashboard.reading.schema import SchemaState, schema_state

PAGE_SIZES = (25, 50, 100, 250)
DEFAULT_PAGE_SIZE = 50
SORT_COLUMNS: Mapping[str, InstrumentedAttribute[Any]] = {
    "exit_time": Trade.exit_time,
    "entry_time": Trade.entry_time,
    "symbol": Trade.symbol,
    "strategy": Trade.strategy_name,
    "source": Trade.source,
    "quantity": Trade.quantity,
    "entry_price": Trade.entry_price,
    "exit_price": Trade.exit_price,
    "pnl": Trade.pnl,
    "pnl_percent": Trade.pnl_percent,
    "commission": Trade.commission,
}
FILTERS: Mapping[str, InstrumentedAttribute[Any]] = {
    "symbol": Trade.symbol,
    "strategy": Trade.strategy_name,
    "source": Trade.source,
}
MAX_VALUE_LENGTH = 100
MAX_PAGE = 1_000_000


@dataclass(frozen=True)
class TradeRow:
    """One closed round trip. ``ours``: this project's bot wrote it, so its times are UTC."""

    id: int
    symbol: str
    side: str
    source: str
    strategy_name: str
    exchange: str | None
    quantity: Decimal | None
    size: Decimal
    entry_price: Decimal
    exit_price: Decimal
    entry_time: datetime
    exit_time: datetime
    pnl: Decimal
    pnl_percent: float | None
    commission: Decimal | None
    exit_reason: str | None
    session_id: int | None
    ours: bool

    @property
    def simulated(self) -> bool:
        """Return whether its market was the simulated feed."""
        return self.exchange == "SIMULATED"


@dataclass(frozen=True)
class TradeQuery:
    """What was asked for, after everything unknown was dropped."""

    filters: tuple[tuple[str, str], ...] = ()
    sort: str = "exit_time"
    descending: bool = True
    page: int = 1
    page_size: int = DEFAULT_PAGE_SIZE

    @classmethod
    def from_parameters(cls, given: Mapping[str, str]) -> TradeQuery:
        """Return the query that GET parameters ask for; what is not understood falls back to the default."""
        page = given.get("page", "1")
        size = given.get("per_page", "")
        return cls(
            filters=tuple(
                (name, given[name][:MAX_VALUE_LENGTH].replace("\0", "")) for name in FILTERS if given.get(name)
            ),
            sort=given["sort"] if given.get("sort") in SORT_COLUMNS else "exit_time",
            descending=given.get("order") != "asc",
            page=min(max(int(page), 1), MAX_PAGE) if page.isascii() and page.isdigit() and len(page) < 10 else 1,
            page_size=int(size) if size in {str(choice) for choice in PAGE_SIZES} else DEFAULT_PAGE_SIZE,
        )

    def value(self, name: str) -> str:
        """Return what a filter is set to, or ""."""
        return dict(self.filters).get(name, "")

    def link(self, **changes: Any) -> str:
        """Return the query string with some parts changed; a change of anything but the page goes to page 1."""
        wanted: dict[str, Any] = {
            **dict(self.filters),
            "sort": self.sort,
            "order": "desc" if self.descending else "asc",
            "per_page": self.page_size,
            "page": self.page if "page" in changes else 1,
            **changes,
        }
        defaults = {"sort": "exit_time", "order": "desc", "per_page": DEFAULT_PAGE_SIZE, "page": 1}
        return "?" + urlencode(
            {key: value for key, value in wanted.items() if value not in ("", None) and defaults.get(key) != value}
        )

    def sort_link(self, column: str) -> str:
        """Return the query string of a click on a column's head: descending first, then the other way."""
        return self.link(sort=column, order="asc" if self.sort == column and self.descending else "desc")


@dataclass(frozen=True)
class TradePage:
    """One page of trades, from one moment. ``matching`` and the sums are over all pages of the filter."""

    schema: SchemaState
    query: TradeQuery
    rows: list[TradeRow]
    total: int
    matching: int
    pnl: Decimal | None
    fees: Decimal | None
    wins: int
    simulated: int
    choices: dict[str, list[tuple[str, int]]] = field(default_factory=dict)

    @property
    def pages(self) -> int:
        """Return how many pages the filter has, at least one."""
        return max(1, ceil(self.matching / self.query.page_size))

    @property
    def first(self) -> int:
        """Return the number of the first row shown."""
        return (self.query.page - 1) * self.query.page_size + 1 if self.rows else 0


def after_fees() -> ColumnElement[Decimal]:
    """Return the expression for what a trade brought after its fees: the stored P&L is before them."""
    return Trade.pnl - func.coalesce(Trade.commission, 0)


def trade_rows(
    conn: Connection,
    *,
    where: ColumnElement[bool] | None = None,
    sort: str = "exit_time",
    descending: bool = True,
    limit: int,
    offset: int = 0,
) -> list[TradeRow]:
    """Return closed trades in a stable order.

    Args:
        conn: in a transaction.
        where: a condition on ``Trade``.
        sort: a key of SORT_COLUMNS.
        descending: largest first; the id decides between equals.
        limit: how many.
        offset: how many to leave out first.
    """
    column = SORT_COLUMNS[sort]
    order = [column.desc().nulls_last(), Trade.id.desc()] if descending else [column.asc().nulls_last(), Trade.id.asc()]
    chosen = (
        select(
            Trade.id,
            Trade.symbol,
            Trade.side,
            Trade.source,
            Trade.strategy_name,
            Trade.exchange,
            Trade.quantity,
            Trade.size,
            Trade.entry_price,
            Trade.exit_price,
            Trade.entry_time,
            Trade.exit_time,
            Trade.pnl,
            Trade.pnl_percent,
            Trade.commission,
            Trade.exit_reason,
            Trade.session_id,
            case((or_(Trade.exchange == "SIMULATED", OrderIntent.intent_id.is_not(None)), True), else_=False).label(
                "ours"
            ),
        )
        .select_from(Trade)
        .outerjoin(OrderIntent, OrderIntent.intent_id == Trade.order_id)
        .order_by(*order)
        .limit(limit)
        .offset(offset)
    )
    if where is not None:
        chosen = chosen.where(where)
    return [TradeRow(**row._asdict()) for row in conn.execute(chosen)]


def read_trades(conn: Connection, query: TradeQuery) -> TradePage:
    """Return one page of trades with the counts of its filter; a page beyond the last is the last.

    Args:
        conn: in a transaction that sees one state of the database.
        query: filters, order, page.
    """
    schema = schema_state(conn)
    choices: dict[str, list[tuple[str, int]]] = {}
    for name, column in FILTERS.items():
        counted = conn.execute(select(column.label("value"), func.count().label("n")).group_by(column).order_by(column))
        choices[name] = [(row.value, row.n) for row in counted]
    conditions = [FILTERS[name] == value for name, value in query.filters]
    sums = conn.execute(
        select(
            func.count().label("n"),
            func.sum(Trade.pnl).label("pnl"),
            func.sum(Trade.commission).label("fees"),
            func.coalesce(func.sum(case((after_fees() > 0, 1), else_=0)), 0).label("wins"),
            func.coalesce(func.sum(case((Trade.exchange == "SIMULATED", 1), else_=0)), 0).label("simulated"),
        ).where(*conditions)
    ).one()
    last_page = max(1, ceil(sums.n / query.page_size))
    if query.page > last_page:
        query = TradeQuery(query.filters, query.sort, query.descending, last_page, query.page_size)
    condition: ColumnElement[bool] | None = None
    for part in conditions:
        condition = part if condition is None else condition & part
    rows = trade_rows(
        conn,
        where=condition,
        sort=query.sort,
        descending=query.descending,
        limit=query.page_size,
        offset=(query.page - 1) * query.page_size,
    )
    return TradePage(
        schema=schema,
        query=query,
        rows=rows,
        total=sum(n for _, n in choices["source"]),
        matching=sums.n,
        pnl=sums.pnl,
        fees=sums.fees,
        wins=sums.wins,
        simulated=sums.simulated,
        choices=choices,
    )
