"""Strategies side by side: what each came to, how its results are distributed, how long it held; all from sums."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from typing import Any
from urllib.parse import urlencode

from sqlalchemy import ColumnElement, Connection, Select, case, func, select
from sqlalchemy.orm import InstrumentedAttribute
from tradedb.models import StrategyWeek, TradeCellDay, TradeDay, TradeGroup, TradeHistogram
from tradedb.rollups import EDGES

from dashboard.reading.events import clean
from dashboard.reading.schema import SchemaState, schema_state
from dashboard.reading.trades import CELL_FILTERS, FILTERS, MAX_ID, SIMULATED

MAX_STRATEGIES = 50
RANKING: Mapping[str, str] = {"trades": "trades", "result": "result"}
DEFAULT_RANKING = "trades"


@dataclass(frozen=True)
class StrategyQuery:
    """Which trades are compared: of which symbol, source and session, and ranked by what (a key of RANKING)."""

    filters: tuple[tuple[str, str], ...] = ()
    session_id: int | None = None
    ranking: str = DEFAULT_RANKING

    @classmethod
    def from_parameters(cls, given: Mapping[str, str]) -> StrategyQuery:
        """Return the query that a page's GET parameters ask for; what is not understood falls back to the default."""
        session = given.get("session", "")[:20]
        return cls(
            filters=tuple((name, clean(given[name])) for name in ("symbol", "source") if given.get(name)),
            session_id=int(session) if session.isascii() and session.isdigit() and int(session) <= MAX_ID else None,
            ranking=given["rank"] if given.get("rank") in RANKING else DEFAULT_RANKING,
        )

    def value(self, name: str) -> str:
        """Return what a filter is set to, or ""."""
        return dict(self.filters).get(name, "")

    def link(self, **changes: Any) -> str:
        """Return the query string with some parts changed."""
        wanted: dict[str, Any] = {
            **dict(self.filters),
            "session": self.session_id,
            "rank": "" if self.ranking == DEFAULT_RANKING else self.ranking,
            **changes,
        }
        text = urlencode({key: value for key, value in wanted.items() if value not in ("", None)})
        return f"?{text}" if text else ""


@dataclass(frozen=True)
class Bucket:
    """How many trades fell from ``low`` up to, not including, ``high``; None: without an end on that side.

    The unit is that of the distribution: quote currency, percent or seconds.
    """

    low: Decimal | None
    high: Decimal | None
    trades: int


@dataclass(frozen=True)
class StrategyRow:
    """One strategy in one source (live, paper and backtest are never mixed).

    ``result`` is after fees, ``fees``, ``won``, ``lost``, ``best`` and ``worst`` (all after fees) are in the quote
    currency. ``summed`` of the trades have numbers that can be summed. ``held_s`` is the mean time held, in seconds.
    ``drawdown`` is the deepest fall of the results summed up by week (of one symbol or session: by day), in the quote
    currency (zero or negative).
    ``first_day`` and ``last_day`` are by the clock of whoever recorded it, of weeks their Mondays. The distributions
    have no empty ends.
    """

    strategy: str
    source: str
    trades: int
    simulated: int
    summed: int
    wins: int
    losses: int
    result: Decimal
    fees: Decimal
    won: Decimal
    lost: Decimal
    best: Decimal | None
    worst: Decimal | None
    held_s: float | None
    drawdown: Decimal | None
    first_day: date | None
    last_day: date | None
    results: list[Bucket] = field(default_factory=list)
    returns: list[Bucket] = field(default_factory=list)
    durations: list[Bucket] = field(default_factory=list)

    @property
    def win_rate_percent(self) -> Decimal | None:
        """Return won trades in percent, None without any."""
        return Decimal(self.wins) * 100 / self.summed if self.summed else None

    @property
    def profit_factor(self) -> Decimal | None:
        """Return what was won for each unit that was lost, None where nothing was lost."""
        return -self.won / self.lost if self.lost else None

    @property
    def mean_result(self) -> Decimal | None:
        """Return what a trade brought on average after fees, in the quote currency."""
        return self.result / self.summed if self.summed else None


@dataclass(frozen=True)
class Strategies:
    """The page: the strategies that were asked for, the most traded (or most winning) first, from one moment.

    ``more`` says that there are more than shown; ``choices`` what can be filtered by, with the trades of each.
    """

    schema: SchemaState
    query: StrategyQuery
    rows: list[StrategyRow]
    more: bool
    choices: dict[str, list[tuple[str, int]]]


def read_strategies(conn: Connection, query: StrategyQuery) -> Strategies:
    """Return strategies side by side.

    Args:
        conn: in a transaction that sees one state of the database.
        query: which trades.
    """
    schema = schema_state(conn)
    where = _where(query)
    net = func.sum(TradeGroup.pnl - TradeGroup.fees)
    rank = net.desc() if query.ranking == "result" else func.sum(TradeGroup.trades).desc()
    sums = conn.execute(
        select(
            TradeGroup.strategy_name.label("strategy"),
            TradeGroup.source,
            func.sum(TradeGroup.trades).label("trades"),
            func.sum(case((TradeGroup.exchange == SIMULATED, TradeGroup.trades), else_=0)).label("simulated"),
            func.sum(TradeGroup.summed).label("summed"),
            func.sum(TradeGroup.wins).label("wins"),
            func.sum(TradeGroup.losses).label("losses"),
            net.label("result"),
            func.sum(TradeGroup.fees).label("fees"),
            func.sum(TradeGroup.won).label("won"),
            func.sum(TradeGroup.lost).label("lost"),
            func.max(TradeGroup.best).label("best"),
            func.min(TradeGroup.worst).label("worst"),
            func.sum(TradeGroup.timed).label("timed"),
            func.sum(TradeGroup.duration_s).label("duration_s"),
        )
        .where(*where)
        .group_by(TradeGroup.strategy_name, TradeGroup.source)
        .order_by(rank, TradeGroup.strategy_name, TradeGroup.source)
        .limit(MAX_STRATEGIES + 1)
    ).all()
    spans = _spans(conn, query)
    buckets = _buckets(conn, where)
    rows: list[StrategyRow] = []
    for row in sums[:MAX_STRATEGIES]:
        key = (row.strategy, row.source)
        found = buckets.get(key, {})
        first, last, drawdown = spans.get(key, (None, None, None))
        rows.append(
            StrategyRow(
                strategy=row.strategy,
                source=row.source,
                trades=int(row.trades),
                simulated=int(row.simulated),
                summed=int(row.summed),
                wins=int(row.wins),
                losses=int(row.losses),
                result=row.result,
                fees=row.fees,
                won=row.won,
                lost=row.lost,
                best=row.best,
                worst=row.worst,
                held_s=float(row.duration_s / row.timed) if row.timed else None,
                drawdown=drawdown,
                first_day=first,
                last_day=last,
                results=_filled("result", found.get("result", {})),
                returns=_filled("return", found.get("return", {})),
                durations=_filled("duration", found.get("duration", {})),
            )
        )
    return Strategies(schema, query, rows, len(sums) > MAX_STRATEGIES, _choices(conn))


def _where(query: StrategyQuery) -> list[ColumnElement[bool]]:
    where: list[ColumnElement[bool]] = [FILTERS[name] == value for name, value in query.filters]
    if query.session_id is not None:
        where.append(TradeGroup.session_id == query.session_id)
    return where


def _spans(
    conn: Connection, query: StrategyQuery
) -> dict[tuple[str, str], tuple[date | None, date | None, Decimal | None]]:
    """Return by strategy and source the first day, the last day and the deepest fall of the summed results."""
    if query.session_id is not None:
        steps = _by_day(TradeDay, FILTERS, _where(query)).join(TradeGroup, TradeGroup.group_id == TradeDay.group_id)
    elif query.value("symbol"):
        steps = _by_day(TradeCellDay, CELL_FILTERS, [CELL_FILTERS[name] == value for name, value in query.filters])
    else:  # years of days of many symbols would take longer than the rest of the page
        steps = select(
            StrategyWeek.strategy_name.label("strategy"),
            StrategyWeek.source.label("source"),
            StrategyWeek.week.label("step"),
            StrategyWeek.result.label("result"),
        )
        if query.value("source"):
            steps = steps.where(StrategyWeek.source == query.value("source"))
    steps = steps.subquery()
    each = {"partition_by": (steps.c.strategy, steps.c.source), "order_by": steps.c.step}
    running = select(steps, func.sum(steps.c.result).over(**each).label("total")).subquery()
    each = {"partition_by": (running.c.strategy, running.c.source), "order_by": running.c.step}
    # before the first trade the sum is zero: a strategy that only lost has fallen from there
    peak = func.max(running.c.total).over(**each)
    fallen = select(running, (running.c.total - case((peak > 0, peak), else_=0)).label("fall")).subquery()
    rows = conn.execute(
        select(
            fallen.c.strategy,
            fallen.c.source,
            func.min(fallen.c.step).label("first"),
            func.max(fallen.c.step).label("last"),
            func.min(fallen.c.fall).label("fall"),
        ).group_by(fallen.c.strategy, fallen.c.source)
    )
    return {
        (row.strategy, row.source): (row.first, row.last, None if row.fall is None else min(Decimal(0), row.fall))
        for row in rows
    }


def _by_day(
    days: Any, labels: Mapping[str, InstrumentedAttribute[Any]], where: list[ColumnElement[bool]]
) -> Select[*tuple[Any, ...]]:
    """Return the query of what each strategy brought on each day."""
    strategy, source = labels["strategy"], labels["source"]
    return (
        select(
            strategy.label("strategy"),
            source.label("source"),
            days.day.label("step"),
            func.sum(days.pnl - days.fees).label("result"),
        )
        .where(*where)
        .group_by(strategy, source, days.day)
    )


def _buckets(conn: Connection, where: list[ColumnElement[bool]]) -> dict[tuple[str, str], dict[str, dict[int, int]]]:
    rows = conn.execute(
        select(
            TradeGroup.strategy_name.label("strategy"),
            TradeGroup.source,
            TradeHistogram.kind,
            TradeHistogram.bucket,
            func.sum(TradeHistogram.trades).label("trades"),
        )
        .join(TradeHistogram, TradeHistogram.group_id == TradeGroup.group_id)
        .where(*where)
        .group_by(TradeGroup.strategy_name, TradeGroup.source, TradeHistogram.kind, TradeHistogram.bucket)
    )
    found: dict[tuple[str, str], dict[str, dict[int, int]]] = {}
    for row in rows:
        found.setdefault((row.strategy, row.source), {}).setdefault(row.kind, {})[row.bucket] = int(row.trades)
    return found


def _filled(kind: str, counts: Mapping[int, int]) -> list[Bucket]:
    """Return the ranges from the lowest that holds a trade to the highest, those between with their zeros."""
    if not counts:
        return []
    edges = EDGES[kind]
    return [
        Bucket(
            low=edges[number - 1] if number else None,
            high=edges[number] if number < len(edges) else None,
            trades=counts.get(number, 0),
        )
        for number in range(min(counts), max(counts) + 1)
    ]


def _choices(conn: Connection) -> dict[str, list[tuple[str, int]]]:
    found: dict[str, list[tuple[str, int]]] = {}
    for name in ("symbol", "source"):
        column = FILTERS[name]
        counted = conn.execute(
            select(column.label("value"), func.sum(TradeGroup.trades).label("n")).group_by(column).order_by(column)
        )
        found[name] = [(row.value, int(row.n)) for row in counted]
    return found
