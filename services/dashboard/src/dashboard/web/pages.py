"""The pages of data."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from functools import partial
from typing import Any, TypeVar

from sqlalchemy import Connection
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from tradedb import DatabaseManager
from tradedb.errors import SwitchyardError

from dashboard import formats, verdicts
from dashboard.charts import pictures
from dashboard.reading.consistent import read_consistently
from dashboard.reading.database import DatabaseFacts, read_database_facts
from dashboard.reading.growth import SizeHistory
from dashboard.reading.overview import DAILY_BARS, DEFAULT_RANGE, RANGES, Overview, read_overview
from dashboard.reading.schema import SchemaState
from dashboard.reading.snapshots import Answer, Snapshots
from dashboard.reading.strategies import Strategies, StrategyQuery, read_strategies
from dashboard.reading.trade import TradeDetail, read_trade
from dashboard.reading.trades import PAGE_SIZES, TradePage, TradeQuery, read_trades
from dashboard.thresholds import Thresholds
from dashboard.verdict import Verdict
from dashboard.web.freshness import freshness
from dashboard.web.render import Renderer

T = TypeVar("T")
MAX_ID = 2**63 - 1
DRAWN_STRATEGIES = 12
"""So many strategies have their distributions drawn; the table has them all."""


class Pages:
    """Overview, trades, one trade, strategies, database.

    Args:
        manager: the way to the database.
        snapshots: remembers its last good answers.
        render: makes the pages.
        heartbeat_warn_s: age in seconds of the bot's newest record from which the overview warns.
        limits: from where on the database page warns; the defaults if not given.
    """

    def __init__(
        self,
        manager: DatabaseManager,
        snapshots: Snapshots,
        render: Renderer,
        *,
        heartbeat_warn_s: float,
        limits: Thresholds | None = None,
    ) -> None:
        self._manager = manager
        self._snapshots = snapshots
        self._render = render
        self._heartbeat_warn_s = heartbeat_warn_s
        self._limits = limits or Thresholds()
        self._sizes = SizeHistory()

    async def overview(self, request: Request) -> Response:
        """GET /: the bot, one session's equity and result, what is open, what was traded last."""
        given = request.query_params.get("session", "")
        known = given.isascii() and given.isdigit() and len(given) < 20 and int(given) <= MAX_ID
        session_id = int(given) if known else None
        wanted = request.query_params.get("range", DEFAULT_RANGE)
        answer = await self._overview(session_id, wanted if wanted in RANGES else DEFAULT_RANGE)
        if not isinstance(answer.value, Overview):
            return self.without_data(request, "overview", answer)
        seen = answer.value
        if seen.empty:
            return self._render.page(request, "welcome.html", page="overview", fresh=freshness(answer), seen=seen)
        zone = "UTC" if seen.session and seen.session.ours else "as recorded, no time zone"
        chart = (
            pictures.equity_chart(seen.equity.points, seen.session.initial_balance, zone=zone)
            if seen.session and seen.equity
            else None
        )
        currency = formats.quote_currency(seen.session.symbol) if seen.session else None
        return self._render.page(
            request, "overview.html", page="overview", fresh=freshness(answer), seen=seen, chart=chart,
            daily=pictures.daily_chart(seen.daily, currency=currency, zone=zone), daily_bars=DAILY_BARS,
            verdicts=self.said(answer),
            chart_range=wanted if wanted in RANGES else DEFAULT_RANGE, ranges=list(RANGES),
        )  # fmt: skip

    async def trades(self, request: Request) -> Response:
        """GET /trades: closed trades; filters, order and page are GET parameters."""
        query = TradeQuery.from_parameters(request.query_params)
        answer = await self.ask(("trades", query), partial(read_trades, query=query), "trades page")
        if not isinstance(answer.value, TradePage):
            return self.without_data(request, "trades", answer)
        return self._render.page(
            request, "trades.html", page="trades", fresh=freshness(answer), seen=answer.value,
            query=answer.value.query, page_sizes=PAGE_SIZES,
        )  # fmt: skip

    async def trade(self, request: Request) -> Response:
        """GET /trades/{trade_id}: one trade's own story."""
        given = request.path_params["trade_id"]
        if not (given.isascii() and given.isdigit() and len(given) < 20 and int(given) <= MAX_ID):
            raise HTTPException(404)
        answer = await self.ask(("trade", int(given)), partial(read_trade, trade_id=int(given)), "trade page")
        if answer.value is None and answer.read_at is not None:
            raise HTTPException(404)
        if not isinstance(answer.value, TradeDetail):
            return self.without_data(request, "trades", answer)
        return self._render.page(request, "trade.html", page="trades", fresh=freshness(answer), seen=answer.value)

    async def strategies(self, request: Request) -> Response:
        """GET /strategies: side by side, with how results and durations are distributed."""
        query = StrategyQuery.from_parameters(request.query_params)
        answer = await self.ask(("strategies", query), partial(read_strategies, query=query), "strategies page")
        if not isinstance(answer.value, Strategies):
            return self.without_data(request, "strategies", answer)
        drawn = [
            (
                row,
                pictures.result_chart(f"results-{number}", row.results, strategy=row.strategy),
                pictures.duration_chart(f"durations-{number}", row.durations, strategy=row.strategy),
            )
            for number, row in enumerate(answer.value.rows[:DRAWN_STRATEGIES], 1)
        ]
        return self._render.page(
            request, "strategies.html", page="strategies", fresh=freshness(answer), seen=answer.value, query=query,
            drawn=drawn,
        )  # fmt: skip

    async def database(self, request: Request) -> Response:
        """GET /database: which database, and how it is."""
        answer = await self.ask_database()
        if not isinstance(answer.value, DatabaseFacts):
            return self.without_data(request, "database", answer)
        return self._render.page(
            request, "database.html", page="database", fresh=freshness(answer), seen=answer.value,
            verdicts=self.said(answer),
        )  # fmt: skip

    async def warm(self) -> None:
        """Read what the first look needs, so that it is there even if the database is not."""
        await self._overview(None, DEFAULT_RANGE)
        await self.ask_database()

    async def _overview(self, session_id: int | None, chart_range: str) -> Answer[Overview | SchemaState]:
        work = partial(read_overview, session_id=session_id, chart_range=chart_range)
        return await self.ask(("overview", session_id, chart_range), work, "overview page")

    async def ask_database(self) -> Answer[DatabaseFacts]:
        """Return what is known of the database itself, now or when it last answered."""
        return await self._snapshots.get(
            ("database",), partial(read_database_facts, self._manager, self._sizes, self._limits)
        )

    async def ask(self, key: Hashable, work: Callable[[Connection], T], name: str) -> Answer[T | SchemaState]:
        """Return what `work` reads in one consistent transaction, or the last good answer to the same question.

        Args:
            key: names the question.
            work: reads it.
            name: what it is called in errors and logs.
        """
        return await self._snapshots.get(key, lambda: read_consistently(self._manager, work, name=name))

    def said(self, answer: Answer[Any]) -> list[Verdict]:
        """Return the sentences of an overview or of the database, dated where the data are not of now."""
        found: list[Verdict] = []
        if isinstance(answer.value, Overview):
            found = verdicts.overview_verdicts(answer.value, heartbeat_warn_s=self._heartbeat_warn_s)
        elif isinstance(answer.value, DatabaseFacts):
            found = verdicts.database_verdicts(answer.value, self._limits)
        return _dated(answer, found)

    def without_data(self, request: Request, page: str, answer: Answer[Any]) -> Response:
        """The page when there is nothing to show: no tables, or a database that was never read."""
        fresh = freshness(answer)
        if isinstance(answer.value, SchemaState):
            status = 503 if answer.value.readable else 200
            return self._render.page(request, "schema.html", status, page=page, fresh=fresh, schema=answer.value)
        error = answer.trouble.error if answer.trouble else None
        known = error if isinstance(error, SwitchyardError) else None
        return self._render.page(
            request, "unavailable.html", 503, page=page, fresh=fresh, where=self._manager.url_redacted,
            what=known.what if known else fresh.reason, why=known.why if known else "", fix=known.fix if known else "",
            other=self._snapshots.newest(),
        )  # fmt: skip


def _dated(answer: Answer[Any], found: list[Verdict]) -> list[Verdict]:
    return found if answer.trouble is None else verdicts.of_then(found)
