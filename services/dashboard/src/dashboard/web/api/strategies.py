"""GET /api/v1/strategies."""

from __future__ import annotations

from datetime import date
from functools import partial
from typing import Any, Literal, Self

from pydantic import Field

from dashboard.reading.cursors import MAX_ID
from dashboard.reading.snapshots import Answer
from dashboard.reading.strategies import Bucket as BucketRow
from dashboard.reading.strategies import Strategies as StrategiesRead
from dashboard.reading.strategies import StrategyQuery, StrategyRow, read_strategies
from dashboard.web.api.answers import Age, Told
from dashboard.web.api.values import Model, Money, Parameters, Text
from dashboard.web.pages import Pages


class StrategyParameters(Parameters):
    """Which trades are compared."""

    symbol: Text | None = None
    """Only trades of this symbol."""
    source: Text | None = None
    """Only trades of this source: LIVE, PAPER, BACKTEST."""
    session: int | None = Field(None, ge=0, le=MAX_ID)
    """Only trades of the session with this id."""
    rank: Literal["trades", "result"] = "trades"
    """The most traded first, or the most winning."""


class Bucket(Model):
    """How many trades fell into a range."""

    low: Money | None
    """From here; null: no lower end."""
    high: Money | None
    """Up to here, not included; null: no upper end."""
    trades: int

    @classmethod
    def of_rows(cls, rows: list[BucketRow]) -> list[Self]:
        """Return a distribution."""
        return [cls.of(row) for row in rows]


class Strategy(Model):
    """A strategy in one source. Amounts are after fees, in the quote currency."""

    strategy: str
    source: str
    trades: int
    simulated: int
    """How many come from the simulated market."""
    summed: int
    """How many have numbers that can be summed."""
    wins: int
    losses: int
    result: Money
    fees: Money
    won: Money
    lost: Money
    best: Money | None
    worst: Money | None
    held_s: float | None
    """Seconds that a position was held on average."""
    drawdown: Money | None
    """The deepest fall of the summed results by day: zero or negative."""
    first_day: date | None
    last_day: date | None
    results: list[Bucket]
    """How the results are distributed, in quote currency."""
    returns: list[Bucket]
    """How the returns are distributed, in percent."""
    durations: list[Bucket]
    """How long positions were held, in seconds."""

    @classmethod
    def of_row(cls, row: StrategyRow) -> Self:
        """Return the strategy of a row."""
        distributions = {name: Bucket.of_rows(getattr(row, name)) for name in ("results", "returns", "durations")}
        return cls.of(row, **distributions)


class StrategiesAnswer(Told):
    """Strategies side by side."""

    data: list[Strategy]
    more: bool
    """True: there are more than these."""


async def ask(pages: Pages, given: StrategyParameters) -> Answer[Any]:
    """Return what the database answers."""
    filters = tuple((name, value) for name, value in (("symbol", given.symbol), ("source", given.source)) if value)
    query = StrategyQuery(filters, given.session, given.rank)
    return await pages.ask(("strategies", query), partial(read_strategies, query=query), "API strategies")


def shape(answer: Answer[Any], seen: StrategiesRead) -> StrategiesAnswer:
    """Return it as the API says it."""
    return StrategiesAnswer(
        freshness=Age.of_answer(answer), data=[Strategy.of_row(row) for row in seen.rows], more=seen.more
    )
