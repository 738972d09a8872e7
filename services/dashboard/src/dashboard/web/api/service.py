"""The operations of the API: one entry each, from which the routes and the OpenAPI document are made."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from dashboard.reading.schema import SchemaState
from dashboard.reading.snapshots import Answer
from dashboard.web.api import database, events, overview, strategies, trade, trades
from dashboard.web.api.answers import Told
from dashboard.web.api.openapi import document
from dashboard.web.api.values import Parameters
from dashboard.web.export import Export
from dashboard.web.freshness import freshness
from dashboard.web.pages import Pages
from dashboard.web.problems import problem

PREFIX = "/api/v1"
CSV = "/trades.csv"


@dataclass(frozen=True)
class Operation:
    """One address of the API.

    ``ask`` gets the checked parameters and asks the database; ``shape`` makes the answer of what it said.
    """

    path: str
    name: str
    summary: str
    parameters: type[Parameters]
    answer: type[Told]
    ask: Callable[[Pages, Any], Awaitable[Answer[Any]]]
    shape: Callable[[Answer[Any], Any], Told]


OPERATIONS: Sequence[Operation] = (
    Operation(
        "/overview", "overview", "The bot, one session, what is open, what was traded last",
        overview.OverviewParameters, overview.OverviewAnswer, overview.ask, overview.shape,
    ),
    Operation(
        "/trades", "trades", "Closed trades", trades.TradeParameters, trades.Trades, trades.ask, trades.shape
    ),
    Operation(
        "/trades/{trade_id}", "trade", "One trade, with what was decided, ordered, filled and booked for it",
        trade.TradeParameters, trade.TradeAnswer, trade.ask, trade.shape,
    ),
    Operation(
        "/strategies", "strategies", "Strategies side by side", strategies.StrategyParameters,
        strategies.StrategiesAnswer, strategies.ask, strategies.shape,
    ),
    Operation(
        "/events", "events", "What happened, newest first", events.EventParameters, events.Events, events.ask,
        events.shape,
    ),
    Operation(
        "/database", "database", "Which database this is, and how it is", database.DatabaseParameters,
        database.DatabaseAnswer, database.ask, database.shape,
    ),
)  # fmt: skip


class Api:
    """Answers the operations.

    Args:
        pages: asks the database, or remembers what it said last.
        export: writes files.
    """

    def __init__(self, pages: Pages, export: Export) -> None:
        self._pages = pages
        self._export = export
        self._document = ""  # made when somebody asks for it: few ever do

    def routes(self) -> list[Route]:
        """Return the routes of all operations, and of their description."""
        routes = [Route(f"{PREFIX}{operation.path}", self._endpoint(operation)) for operation in OPERATIONS]
        return [
            *routes,
            Route(f"{PREFIX}{CSV}", self._trades_csv),
            Route(f"{PREFIX}/openapi.json", self._describe),
        ]

    async def _trades_csv(self, request: Request) -> Response:
        checked = _checked(trades.TradeFilter, request)
        return checked if isinstance(checked, Response) else await self._export.trades(request)

    async def _describe(self, _request: Request) -> Response:
        self._document = self._document or document(OPERATIONS, PREFIX, CSV, trades.TradeFilter)
        return Response(self._document, media_type="application/json")

    def _endpoint(self, operation: Operation) -> Callable[[Request], Awaitable[Response]]:
        async def endpoint(request: Request) -> Response:
            parameters = _checked(operation.parameters, request)
            if isinstance(parameters, Response):
                return parameters
            try:
                answer = await operation.ask(self._pages, parameters)
            except ValueError:
                return _bad("cursor", "it is not the next_cursor of an answer to this question")
            return self._answer(operation, answer)

        return endpoint

    def _answer(self, operation: Operation, answer: Answer[Any]) -> Response:
        if isinstance(answer.value, SchemaState):
            return problem(503, "No tables to read", f"{answer.value.problem} {answer.value.remedy}".strip())
        if answer.value is None and answer.read_at is not None:
            return problem(404, "Not found", "There is no row with this id.")
        if answer.value is None:
            return problem(503, "The database does not answer", freshness(answer).reason)
        told = operation.shape(answer, answer.value)
        return Response(told.model_dump_json(), media_type="application/json")


def _checked(parameters: type[Parameters], request: Request) -> Parameters | Response:
    """Return the parameters, or the refusal that names the first wrong one."""
    given = request.query_params.multi_items()
    twice = next((name for i, (name, _) in enumerate(given) if name in dict(given[:i])), None)
    if twice is not None:
        return _bad(twice, "it is given twice")
    try:
        return parameters.model_validate({**dict(given), **request.path_params})
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False, include_context=False)[0]
        return _bad(str(first["loc"][0]), first["msg"])


def _bad(name: str, why: str) -> Response:
    name = name[:60]
    return problem(400, "Bad parameter", f"{name}: {why}"[:300], parameter=name)
