"""GET /api/v1/overview."""

from __future__ import annotations

from datetime import date
from functools import partial
from typing import Any, Literal, Self

from pydantic import Field

from dashboard import formats
from dashboard.reading.cursors import MAX_ID
from dashboard.reading.equity import Equity as EquityRead
from dashboard.reading.overview import Overview as OverviewRead
from dashboard.reading.overview import PositionRow, SessionRow, read_overview
from dashboard.reading.snapshots import Answer
from dashboard.web.api.answers import Age, Judged, Sentence, Told, judged
from dashboard.web.api.trades import Copied, Trade
from dashboard.web.api.values import Instant, Model, Money, Parameters, RecordedTime
from dashboard.web.pages import Pages


class OverviewParameters(Parameters):
    """Whose overview."""

    session: int | None = Field(None, ge=0, le=MAX_ID)
    """The session whose curve, result and positions are shown; without it the newest of our bot's, else the newest."""
    range: Literal["1h", "24h", "7d", "all"] = "24h"
    """How far back the curve goes."""


class Lease(Model):
    """Who may write, by the database's clock."""

    holder: str
    epoch: int
    acquired_at: Instant
    renewed_at: Instant
    expires_at: Instant
    age_s: float
    """Seconds since it was renewed: the bot's heartbeat."""
    left_s: float
    """Seconds to its end; negative: it has ended."""


class BotEvent(Model):
    """What the bot last wrote of itself."""

    at: Instant
    event_type: str
    message: str


class Session(Model):
    """A run of a bot."""

    id: int
    name: str | None
    start_time: RecordedTime
    end_time: RecordedTime | None
    times_in_utc: bool
    """False: the zone was not recorded."""
    is_active: bool
    mode: str
    initial_balance: Money
    strategy_name: str
    symbol: str
    timeframe: str
    exchange: str | None
    simulated: bool
    """True: its prices come from the simulated market."""
    copied: Copied | None
    """Null: it was written here."""

    @classmethod
    def of_row(cls, row: SessionRow | None) -> Self | None:
        """Return the session of a row, or None."""
        if row is None:
            return None
        end = None if row.end_time is None else formats.recorded(row.end_time, in_utc=row.ours)
        return cls.of(
            row, start_time=formats.recorded(row.start_time, in_utc=row.ours), end_time=end, times_in_utc=row.ours,
            copied=Copied.of_run(row.copied),
        )  # fmt: skip


class Position(Model):
    """What is held now."""

    id: int
    symbol: str
    side: str
    quantity: Money | None
    size: Money
    entry_price: Money
    current_price: Money | None
    unrealized_pnl: Money | None
    """At the last price, before fees."""
    unrealized_pnl_percent: float | None
    entry_time: RecordedTime
    times_in_utc: bool
    """False: the zone was not recorded."""
    strategy_name: str
    exchange: str | None
    simulated: bool
    """True: its prices come from the simulated market."""

    @classmethod
    def of_row(cls, row: PositionRow) -> Self:
        """Return the position of a row."""
        return cls.of(row, entry_time=formats.recorded(row.entry_time, in_utc=row.ours), times_in_utc=row.ours)


class Point(Model):
    """A point of the curve."""

    time: RecordedTime
    equity: Money
    drawdown_percent: Money
    """How far below the highest equity so far: zero or negative."""


class Equity(Model):
    """The curve of a session."""

    source: Literal["account", "trades"]
    """From the account records; or from the starting balance plus what the trades brought, where there are none."""
    resolution: str
    """What the points were chosen from: records, hours, trades or days."""
    points: list[Point]
    total: int
    """How many records are behind them."""
    left_out: int
    """How many of them are infinite, or no number."""

    @classmethod
    def of_curve(cls, curve: EquityRead | None, *, in_utc: bool) -> Self | None:
        """Return the curve, or None."""
        if curve is None:
            return None
        points = [Point.of(point, time=formats.recorded(point.time, in_utc=in_utc)) for point in curve.points]
        return cls.of(curve, points=points)


class Day(Model):
    """What the trades of one day brought."""

    day: date
    result: Money
    """After fees."""
    trades: int
    wins: int


class Result(Model):
    """What the closed trades of a session came to."""

    trades: int
    summed: int
    """How many of them have numbers that can be summed."""
    wins: int
    losses: int
    pnl: Money | None
    """Before fees."""
    fees: Money | None
    won: Money
    """After fees, as are the next three."""
    lost: Money
    best: Money | None
    worst: Money | None
    held_s: float | None
    """Seconds that a position was held on average."""


class Overview(Model):
    """The bot, one session, what is open, what was traded last: all of one moment."""

    now: Instant
    """That moment, by the database's clock."""
    lease: Lease | None
    """Null: no bot ever took it."""
    last_event: BotEvent | None
    last_record_age_s: float | None
    """Seconds since the bot's newest account record."""
    session: Session | None
    sessions: list[Session]
    """The newest 200."""
    equity: Equity | None
    daily: list[Day]
    result: Result | None
    open_positions: list[Position]
    open_count: int
    trades: list[Trade]
    """Those closed last."""

    @classmethod
    def of_read(cls, seen: OverviewRead) -> Self:
        """Return what was read."""
        return cls.of(
            seen,
            lease=Lease.of(seen.lease) if seen.lease else None,
            last_event=BotEvent.of(seen.event) if seen.event else None,
            session=Session.of_row(seen.session),
            sessions=[Session.of_row(row) for row in seen.sessions],
            equity=Equity.of_curve(seen.equity, in_utc=bool(seen.session and seen.session.ours)),
            daily=[Day.of(bar) for bar in seen.daily],
            result=Result.of(seen.result) if seen.result else None,
            open_positions=[Position.of_row(row) for row in seen.open_positions],
            trades=[Trade.of_row(row) for row in seen.trades],
        )


class OverviewAnswer(Told):
    """The overview."""

    data: Overview
    verdicts: list[Sentence]


async def ask(pages: Pages, given: OverviewParameters) -> Answer[Any]:
    """Return what the database answers."""
    work = partial(read_overview, session_id=given.session, chart_range=given.range)
    return judged(pages, await pages.ask(("overview", given.session, given.range), work, "API overview"))


def shape(answer: Answer[Any], seen: Judged[OverviewRead]) -> OverviewAnswer:
    """Return it as the API says it."""
    return OverviewAnswer(
        freshness=Age.of_answer(answer), data=Overview.of_read(seen.value),
        verdicts=Sentence.of_verdicts(seen.verdicts),
    )  # fmt: skip
