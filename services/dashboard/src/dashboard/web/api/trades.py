"""GET /api/v1/trades."""

from __future__ import annotations

from functools import partial
from typing import Any, Literal, Self

from pydantic import Field

from dashboard import formats
from dashboard.reading.cursors import MAX_ID
from dashboard.reading.provenance import CopyRun
from dashboard.reading.snapshots import Answer
from dashboard.reading.trades import TradePage, TradeQuery, TradeRow, read_trades
from dashboard.web.api.answers import Age, Listed
from dashboard.web.api.values import From, Instant, Model, Money, Parameters, RecordedTime, Text, To
from dashboard.web.pages import Pages


class TradeFilter(Parameters):
    """Which trades."""

    symbol: Text | None = None
    """Only trades of this symbol."""
    strategy: Text | None = None
    """Only trades of this strategy."""
    source: Text | None = None
    """Only trades of this source: LIVE, PAPER, BACKTEST."""
    session: int | None = Field(None, ge=0, le=MAX_ID)
    """Only trades of the session with this id."""
    since: From | None = Field(None, alias="from")
    """Only trades closed at or after this time."""
    until: To | None = Field(None, alias="to")
    """Only trades closed before this time; of a date alone, before its end."""
    sort: Literal["exit_time", "pnl", "pnl_percent"] = "exit_time"
    """By what they are sorted; the id decides between equals."""
    order: Literal["desc", "asc"] = "desc"
    """Which way: the latest or largest first, or last."""


class TradeParameters(TradeFilter):
    """Which trades, and how many of them."""

    limit: int = Field(50, ge=1, le=250)
    """How many at most."""
    cursor: str | None = None
    """The `next_cursor` of the answer before."""

    def query(self) -> TradeQuery:
        """Return what is read."""
        filters = (("symbol", self.symbol), ("strategy", self.strategy), ("source", self.source))
        return TradeQuery(
            filters=tuple((name, value) for name, value in filters if value), session_id=self.session,
            since=self.since, until=self.until, sort=self.sort, descending=self.order == "desc",
            page_size=self.limit, cursor=self.cursor or "",
        )  # fmt: skip


class Copied(Model):
    """The run of `switchyard copy` that brought a row from a file."""

    run_id: str
    label: str
    """What the source was called, as in `--source label=FILE`."""
    file: str
    digest: str
    """SHA-256 of the file."""
    finished_at: Instant

    @classmethod
    def of_run(cls, run: CopyRun | None) -> Self | None:
        """Return the run, or None: the row was written here."""
        return None if run is None else cls.of(run)


class Trade(Model):
    """A closed round trip."""

    id: int
    symbol: str
    side: str
    source: str
    strategy_name: str
    exchange: str | None
    simulated: bool
    """True: its prices come from the simulated market."""
    quantity: Money | None
    size: Money
    """As recorded; what it counts was not, in a copied history."""
    entry_price: Money
    exit_price: Money
    entry_time: RecordedTime
    exit_time: RecordedTime
    times_in_utc: bool
    """False: the zone was not recorded."""
    pnl: Money
    """Before fees, in the quote currency."""
    pnl_percent: float | None
    """As recorded."""
    commission: Money | None
    """The fees of both legs."""
    exit_reason: str | None
    session_id: int | None
    copied: Copied | None
    """Null: it was written here."""

    @classmethod
    def of_row(cls, row: TradeRow) -> Self:
        """Return the trade of a row."""
        return cls.of(
            row,
            entry_time=formats.recorded(row.entry_time, in_utc=row.ours),
            exit_time=formats.recorded(row.exit_time, in_utc=row.ours),
            times_in_utc=row.ours,
            copied=Copied.of_run(row.copied),
        )


class Matching(Model):
    """What all trades of the filter come to, whatever the page."""

    trades: int
    summed: int
    """How many of them have numbers that can be summed."""
    wins: int
    """How many of those brought something after fees."""
    pnl: Money | None
    """Before fees; null where nothing can be summed."""
    fees: Money | None
    simulated: int
    """How many come from the simulated market."""

    @classmethod
    def of_page(cls, page: TradePage) -> Self:
        """Return the sums of a page's filter."""
        return cls.of(page, trades=page.matching)


class Trades(Listed):
    """Closed trades."""

    data: list[Trade]
    matching: Matching


async def ask(pages: Pages, given: TradeParameters) -> Answer[Any]:
    """Return what the database answers."""
    query = given.query()
    query.position()  # a cursor that is not ours is the caller's mistake, not the database's
    return await pages.ask(("trades", query), partial(read_trades, query=query), "API trades")


def shape(answer: Answer[Any], seen: TradePage) -> Trades:
    """Return it as the API says it."""
    return Trades(
        freshness=Age.of_answer(answer), data=[Trade.of_row(row) for row in seen.rows], next_cursor=seen.next,
        matching=Matching.of_page(seen),
    )  # fmt: skip
