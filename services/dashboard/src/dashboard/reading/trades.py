"""Closed trades: filtered, sorted, a page at a time by keyset; their sums come from what triggers keep."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, time, timedelta
from decimal import Decimal
from typing import Any
from urllib.parse import urlencode

from sqlalchemy import ColumnElement, Connection, and_, case, func, null, or_, select
from sqlalchemy.orm import InstrumentedAttribute
from tradedb.models import OrderIntent, Trade, TradeCellDay, TradeDay, TradeGroup

from dashboard.reading import cursors, trade_keys
from dashboard.reading.events import clean, moment
from dashboard.reading.numbers import finite
from dashboard.reading.odd_times import is_timestamp
from dashboard.reading.provenance import CopyRun, brought_by, copy_runs
from dashboard.reading.schema import SchemaState, schema_state
from dashboard.reading.trade_keys import Cell, Wanted

PAGE_SIZES = (25, 50, 100, 250)
DEFAULT_PAGE_SIZE = 50
DEFAULT_SORT = "exit_time"
SORTS = tuple(trade_keys.SORT_COLUMNS)
FILTERS: Mapping[str, InstrumentedAttribute[Any]] = {
    "symbol": TradeGroup.symbol,
    "strategy": TradeGroup.strategy_name,
    "source": TradeGroup.source,
}
CELL_FILTERS: Mapping[str, InstrumentedAttribute[Any]] = {
    "symbol": TradeCellDay.symbol,
    "strategy": TradeCellDay.strategy_name,
    "source": TradeCellDay.source,
}
MAX_ID = cursors.MAX_ID
END = "end"
"""The cursor of the last page."""
SIMULATED = "SIMULATED"
DAY = timedelta(days=1)
_NUMBER = re.compile(r"-?(\d{1,200}(\.\d{1,200})?([eE][+-]?\d{1,3})?|Infinity|inf)|NaN|nan", re.ASCII)


@dataclass(frozen=True)
class TradeRow:
    """One closed round trip.

    ``pnl`` is before fees, in the quote currency; ``pnl_percent`` is the return as recorded, in percent; ``commission``
    is the fees of both legs. ``ours``: this project's bot wrote it, so its times are UTC. ``copied`` is the run that
    brought it from a file; None: it was written here.
    """

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
    copied: CopyRun | None = None

    @property
    def simulated(self) -> bool:
        """Return whether its market was the simulated feed."""
        return self.exchange == SIMULATED

    @property
    def result(self) -> Decimal:
        """Return what it brought after fees, in the quote currency."""
        return self.pnl - (self.commission or 0)

    @property
    def held_s(self) -> float:
        """Return how long it was held, in seconds."""
        return (self.exit_time - self.entry_time).total_seconds()


@dataclass(frozen=True)
class TradeQuery:
    """What was asked for, after everything unknown was dropped.

    ``since`` and ``until`` are wall-clock times of closing as the rows have them; ``until`` is excluded.
    """

    filters: tuple[tuple[str, str], ...] = ()
    session_id: int | None = None
    since: datetime | None = None
    until: datetime | None = None
    sort: str = DEFAULT_SORT
    descending: bool = True
    page_size: int = DEFAULT_PAGE_SIZE
    cursor: str = ""

    @classmethod
    def from_parameters(cls, given: Mapping[str, str]) -> TradeQuery:
        """Return the query that a page's GET parameters ask for; what is not understood falls back to the default."""
        size = given.get("per_page", "")
        session = given.get("session", "")
        query = cls(
            filters=tuple((name, clean(given[name])) for name in FILTERS if given.get(name)),
            session_id=int(session)
            if session.isascii() and session.isdigit() and int(session[:20]) <= MAX_ID
            else None,
            since=moment(given.get("from")),
            until=moment(given.get("to"), end=True),
            sort=given["sort"] if given.get("sort") in SORTS else DEFAULT_SORT,
            descending=given.get("order") != "asc",
            page_size=int(size) if size in {str(choice) for choice in PAGE_SIZES} else DEFAULT_PAGE_SIZE,
            cursor=given.get("cursor", ""),
        )
        try:
            query.position()
        except ValueError:
            return replace(query, cursor="")
        return query

    @property
    def question(self) -> tuple[Any, ...]:
        """Return what a cursor of this list is bound to."""
        return ("trades", self.filters, self.session_id, self.since, self.until, self.sort, self.descending)

    @property
    def filtered(self) -> bool:
        """Return whether only some trades are asked for."""
        return bool(self.filters or self.session_id is not None or self.since or self.until)

    def position(self) -> Position | None:
        """Return where the list goes on, None at the beginning.

        Raises: ValueError: the cursor is not of this list.
        """
        if not self.cursor:
            return None
        if self.cursor == END:
            return Position(None, 0, backwards=True, rank=None)
        match cursors.decode(self.question, self.cursor):
            case ["after" | "before" as way, str(value), int(key), int(rank)] if (
                abs(key) <= MAX_ID
                and 0 <= rank <= MAX_ID
                and (is_timestamp(value) if self.sort == "exit_time" else _NUMBER.fullmatch(value))
            ):
                return Position(value, key, backwards=way == "before", rank=rank)
            case _:
                raise ValueError(self.cursor)

    def value(self, name: str) -> str:
        """Return what a filter is set to, or ""."""
        return str(self.session_id or "") if name == "session" else dict(self.filters).get(name, "")

    def day(self, name: str) -> str:
        """Return the date that ``from`` or ``to`` is set to, as a date field has it, or ""."""
        when = self.since if name == "from" else self.until and self.until - timedelta(microseconds=1)
        return when.date().isoformat() if when else ""

    def link(self, **changes: Any) -> str:
        """Return the query string with some parts changed; without a cursor among them it leads to the first page."""
        wanted: dict[str, Any] = {
            **dict(self.filters),
            "session": self.session_id,
            "from": self.since.isoformat() if self.since else "",
            "to": self.until.isoformat() if self.until else "",
            "sort": self.sort,
            "order": "desc" if self.descending else "asc",
            "per_page": self.page_size,
            **changes,
        }
        defaults = {"sort": DEFAULT_SORT, "order": "desc", "per_page": DEFAULT_PAGE_SIZE}
        text = urlencode(
            {key: value for key, value in wanted.items() if value not in ("", None) and defaults.get(key) != value}
        )
        return f"?{text}" if text else ""

    def sort_link(self, column: str) -> str:
        """Return the query string of a click on a column's head: descending first, then the other way."""
        return self.link(sort=column, order="asc" if self.sort == column and self.descending else "desc")


@dataclass(frozen=True)
class Position:
    """A place in a list: beside the row with this sort value and id, or (value None) its end.

    ``rank`` is how many rows stood before that row when the link was made; None: not known yet.
    """

    value: str | None
    key: int
    backwards: bool
    rank: int | None


@dataclass(frozen=True)
class TradePage:
    """One page of trades, from one moment. ``matching`` and the sums are over all pages of the filter.

    ``pnl`` is before fees, both in the quote currency; ``summed`` of the matching trades have numbers that can be
    summed. ``first`` is the number of the first row shown in the whole list (0: nothing shown). ``previous`` and
    ``next`` are the cursors of the pages before and after, None at the ends; END leads to the last page. ``choices``
    are the values of each filter with their trades in the whole database, ``runs`` the copies that brought rows.
    """

    schema: SchemaState
    query: TradeQuery
    rows: list[TradeRow]
    total: int
    matching: int
    summed: int
    pnl: Decimal | None
    fees: Decimal | None
    wins: int
    simulated: int
    first: int
    previous: str | None
    next: str | None
    choices: dict[str, list[tuple[str, int]]] = field(default_factory=dict)
    runs: list[CopyRun] = field(default_factory=list)

    @property
    def win_rate_percent(self) -> Decimal | None:
        """Return won trades (after fees) in percent of those with a known result, None without any."""
        return Decimal(self.wins) * 100 / self.summed if self.summed else None


@dataclass(frozen=True)
class _Sums:
    """The sums of one cell."""

    symbol: str
    strategy: str
    source: str
    trades: int
    summed: int
    wins: int
    pnl: Decimal
    fees: Decimal
    simulated: int
    low: Any = None
    high: Any = None

    def with_more(self, other: _Sums) -> _Sums:
        """Return both together."""
        numbers = ("trades", "summed", "wins", "pnl", "fees", "simulated")
        sums = {name: getattr(self, name) + getattr(other, name) for name in numbers}
        lows, highs = (self.low, other.low), (self.high, other.high)
        known = all(value is not None and value == value for value in (*lows, *highs))  # NaN has no order here
        return replace(self, **sums, low=min(lows) if known else None, high=max(highs) if known else None)


def after_fees() -> ColumnElement[Decimal]:
    """Return the expression for what a trade brought after its fees: the stored P&L is before them."""
    return Trade.pnl - func.coalesce(Trade.commission, 0)


def trade_rows(conn: Connection, ids: Sequence[int], runs: Sequence[CopyRun] = ()) -> list[TradeRow]:
    """Return closed trades in the order of their ids as given.

    Args:
        conn: in a transaction.
        ids: which.
        runs: the copies that may have brought them.
    """
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
            case((or_(Trade.exchange == SIMULATED, OrderIntent.intent_id.is_not(None)), True), else_=False).label(
                "ours"
            ),
        )
        .select_from(Trade)
        .outerjoin(OrderIntent, OrderIntent.intent_id == Trade.order_id)
        .where(Trade.id.in_(ids))
    )
    found = {
        row.id: TradeRow(**row._asdict(), copied=brought_by(runs, "trades", row.id, ours=row.ours))
        for row in conn.execute(chosen)
    }
    return [found[key] for key in ids if key in found]


def newest_trades(conn: Connection, session_id: int | None, limit: int, runs: Sequence[CopyRun] = ()) -> list[TradeRow]:
    """Return the trades closed last, newest first; of one session or (None) of all."""
    newest = select(Trade.id).order_by(Trade.exit_time.desc(), Trade.id.desc()).limit(limit)
    if session_id is not None:
        newest = newest.where(Trade.session_id == session_id)
    return trade_rows(conn, list(conn.execute(newest).scalars()), runs)


def read_trades(conn: Connection, query: TradeQuery) -> TradePage:
    """Return one page of trades with the counts of its filter.

    Args:
        conn: in a transaction that sees one state of the database.
        query: filters, order, where to go on.

    Raises: ValueError: the query's cursor is not of this list.
    """
    schema = schema_state(conn)
    position = query.position()
    all_cells = _sums(conn, _select_from_groups())
    asked = [cell for cell in all_cells if all(getattr(cell, name) == value for name, value in query.filters)]
    matching, in_session = asked, 0
    if query.session_id is not None or query.since or query.until:
        matching = _matching(conn, query)
        if query.session_id is not None:
            in_session = (
                conn.scalar(
                    select(func.coalesce(func.sum(TradeGroup.trades), 0)).where(
                        TradeGroup.session_id == query.session_id
                    )
                )
                or 0
            )
    count = sum(cell.trades for cell in matching)
    wanted = _wanted(query, position, limit=query.page_size + 1)
    ids = trade_keys.find(conn, wanted, _cells(asked, matching), int(in_session)) if count else []
    runs = copy_runs(conn)
    more, ids = len(ids) > query.page_size, ids[: query.page_size]
    backwards = position is not None and position.backwards
    rows = trade_rows(conn, ids[::-1] if backwards else ids, runs)
    rank = _rank(position, len(rows), count)
    has_previous = more if backwards else position is not None
    has_next = position is not None and position.value is not None if backwards else more
    return TradePage(
        schema=schema,
        query=query,
        rows=rows,
        total=sum(cell.trades for cell in all_cells),
        matching=count,
        summed=sum(cell.summed for cell in matching),
        pnl=sum((cell.pnl for cell in matching), Decimal(0)) if any(cell.summed for cell in matching) else None,
        fees=sum((cell.fees for cell in matching), Decimal(0)) if any(cell.summed for cell in matching) else None,
        wins=sum(cell.wins for cell in matching),
        simulated=sum(cell.simulated for cell in matching),
        first=rank + 1 if rows else 0,
        previous=_cursor(query, "before", rows[0], rank) if rows and has_previous else None,
        next=_cursor(query, "after", rows[-1], rank + len(rows)) if rows and has_next else None,
        choices=_choices(all_cells),
        runs=runs,
    )


def _wanted(query: TradeQuery, position: Position | None, limit: int) -> Wanted:
    backwards = position is not None and position.backwards
    return Wanted(
        symbol=query.value("symbol"),
        strategy=query.value("strategy"),
        source=query.value("source"),
        session_id=query.session_id,
        since=query.since,
        until=query.until,
        sort=query.sort,
        descending=query.descending != backwards,
        after=(position.value, position.key) if position and position.value is not None else None,
        limit=limit,
    )


def _cells(asked: Sequence[_Sums], matching: Sequence[_Sums]) -> list[Cell]:
    """Return the cells with how many of their trades are asked for."""
    found = {(cell.symbol, cell.strategy, cell.source): cell for cell in matching}
    cells: list[Cell] = []
    for cell in asked:
        part = found.get((cell.symbol, cell.strategy, cell.source))
        if part is not None:
            cells.append(
                Cell(
                    cell.symbol, cell.strategy, cell.source, cell.trades, part.trades, _text(part.low), _text(part.high)
                )
            )
    return cells


def _rank(position: Position | None, shown: int, count: int) -> int:
    """Return how many rows stand before the first one shown; after changes meanwhile, as near as the link knew."""
    if position is None:
        return 0
    if position.rank is None:
        return max(0, count - shown)
    return max(0, position.rank - shown if position.backwards else position.rank)


def _cursor(query: TradeQuery, way: str, row: TradeRow, rank: int) -> str:
    return cursors.encode(query.question, way, _text(getattr(row, query.sort)) or "", row.id, rank)


def _text(value: Any) -> str | None:
    """Return a sort value as the database reads it, with every digit."""
    return value if value is None else repr(value) if isinstance(value, float) else str(value)


def _choices(cells: Sequence[_Sums]) -> dict[str, list[tuple[str, int]]]:
    found: dict[str, list[tuple[str, int]]] = {}
    for name in FILTERS:
        counts: dict[str, int] = {}
        for cell in cells:
            counts[getattr(cell, name)] = counts.get(getattr(cell, name), 0) + cell.trades
        found[name] = sorted(counts.items())
    return found


def _select_from_groups() -> Any:
    """Return the query of the sums of each cell, over all time."""
    simulated = case((TradeGroup.exchange == SIMULATED, TradeGroup.trades), else_=0)
    return select(
        *(column.label(name) for name, column in FILTERS.items()),
        func.sum(TradeGroup.trades).label("trades"),
        func.sum(TradeGroup.summed).label("summed"),
        func.sum(TradeGroup.wins).label("wins"),
        func.sum(TradeGroup.pnl).label("pnl"),
        func.sum(TradeGroup.fees).label("fees"),
        func.sum(simulated).label("simulated"),
    ).group_by(*FILTERS.values())


def _sums(conn: Connection, query: Any) -> list[_Sums]:
    rows: list[dict[str, Any]] = [dict(row._mapping) for row in conn.execute(query)]
    for row in rows:  # Postgres adds up counts as numeric
        row.update({name: int(row[name]) for name in ("trades", "summed", "wins", "simulated")})
    return [_Sums(**row) for row in rows]


def _matching(conn: Connection, query: TradeQuery) -> list[_Sums]:
    """Return the sums of the trades that match: whole days from the sums by day, the rest from the trades."""
    first_day, last_day, rest = _whole_days(query.since, query.until)
    if query.session_id is not None:
        by_day: Any = TradeDay
        labels: Mapping[str, InstrumentedAttribute[Any]] = FILTERS
        simulated = func.sum(case((TradeGroup.exchange == SIMULATED, TradeDay.trades), else_=0))
    else:
        by_day = TradeCellDay
        labels = CELL_FILTERS
        simulated = func.sum(TradeCellDay.simulated)
    low, high = {
        "exit_time": (null(), null()),
        "pnl": (func.min(by_day.pnl_low), func.max(by_day.pnl_high)),
        "pnl_percent": (func.min(by_day.return_low), func.max(by_day.return_high)),
    }[query.sort]
    days = select(
        *(column.label(name) for name, column in labels.items()),
        func.sum(by_day.trades).label("trades"),
        func.sum(by_day.summed).label("summed"),
        func.sum(by_day.wins).label("wins"),
        func.sum(by_day.pnl).label("pnl"),
        func.sum(by_day.fees).label("fees"),
        simulated.label("simulated"),
        low.label("low"),
        high.label("high"),
    ).group_by(*labels.values())
    days = days.where(*(labels[name] == value for name, value in query.filters))
    if query.session_id is not None:
        days = days.join(TradeGroup, TradeGroup.group_id == TradeDay.group_id)
        days = days.where(TradeGroup.session_id == query.session_id)
    if first_day is not None:
        days = days.where(by_day.day >= first_day.date())
    if last_day is not None:
        days = days.where(by_day.day < last_day.date())
    found = _sums(conn, days)
    cells = {(cell.symbol, cell.strategy, cell.source): cell for cell in found}
    for since, until in rest:
        for cell in _sums(conn, _select_from_trades(conn, replace(query, since=since, until=until))):
            key = (cell.symbol, cell.strategy, cell.source)
            cells[key] = cells[key].with_more(cell) if key in cells else cell
    return list(cells.values())


def _whole_days(
    since: datetime | None, until: datetime | None
) -> tuple[datetime | None, datetime | None, list[tuple[datetime, datetime]]]:
    """Return the first whole day of a span, the day after the last one, and the spans before and after those."""
    if since is not None and until is not None and since >= until:
        return since, since, []
    end_of_time = datetime(9999, 12, 31, 23, 59, 59, 999999)  # noqa: DTZ001 - as stored
    first = since
    if since is not None and since.time() != time():
        first = _midnight(since) + min(DAY, end_of_time - _midnight(since))
    last = until if until is None else _midnight(until)
    if first is not None and last is not None and first > last and since is not None and until is not None:
        return first, first, [(since, until)]  # within one day
    rest: list[tuple[datetime, datetime]] = []
    if since is not None and first is not None and since < first:
        rest.append((since, first))
    if until is not None and last is not None and last < until:
        rest.append((last, until))
    return first, last, rest


def _midnight(when: datetime) -> datetime:
    return when.replace(hour=0, minute=0, second=0, microsecond=0)


def _select_from_trades(conn: Connection, query: TradeQuery) -> Any:
    """Return the query of the same sums over trades themselves: of part of a day."""
    known = and_(finite(conn, Trade.pnl), finite(conn, func.coalesce(Trade.commission, 0)))
    low, high = {
        "exit_time": (null(), null()),
        "pnl": (func.min(Trade.pnl), func.max(Trade.pnl)),
        "pnl_percent": (func.min(Trade.pnl_percent), func.max(Trade.pnl_percent)),
    }[query.sort]
    return (
        select(
            Trade.symbol,
            Trade.strategy_name.label("strategy"),
            Trade.source,
            func.count().label("trades"),
            func.count().filter(known).label("summed"),
            func.count().filter(known, after_fees() > 0).label("wins"),
            func.coalesce(func.sum(Trade.pnl).filter(known), 0).label("pnl"),
            func.coalesce(func.sum(Trade.commission).filter(known), 0).label("fees"),
            func.count().filter(Trade.exchange == SIMULATED).label("simulated"),
            low.label("low"),
            high.label("high"),
        )
        .where(*trade_keys.conditions(_wanted(query, None, 1)))
        .group_by(Trade.symbol, Trade.strategy_name, Trade.source)
    )
