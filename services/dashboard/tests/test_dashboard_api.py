"""The API: what it says is what its document promises, and what it refuses is said in one form."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from dashboard.app import create_app
from dashboard.settings import DashboardSettings
from dashboard.web.api.service import OPERATIONS, PREFIX
from dashboard.web.gate import API_PER_MINUTE, BAD_TOKENS_PER_MINUTE
from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator
from pydantic import SecretStr
from sqlalchemy import insert
from starlette.applications import Starlette
from tradedb import DatabaseManager
from tradedb.models import SystemEvent
from tradedb.testing import ThrowawayDatabase

NOWHERE = "postgresql://dashboard:x@127.0.0.1:1/railway?sslmode=disable"
TOKEN = "b2d5f1c0a7e94d3688f0b7c6d5e4f3a2b1c0d9e8f7a6b5c4"
Open = Callable[..., Any]


class Caller:
    """Asks the API, and holds each answer against what the document says of it."""

    def __init__(self, client: Any, **headers: str) -> None:
        self.client = client
        self.headers = headers
        self.document = client.get(f"{PREFIX}/openapi.json", headers=headers).json()

    def get(self, path: str, status: int = 200, **parameters: str | int) -> Any:
        answer = self.client.get(f"{PREFIX}{path}", params=parameters, headers=self.headers)
        assert answer.status_code == status, answer.text
        [operation] = [
            item["get"] for template, item in self.document["paths"].items() if _fits(template, f"{PREFIX}{path}")
        ]
        promised = operation["responses"][str(status)]
        if "$ref" in promised:
            promised = self.document["components"]["responses"][promised["$ref"].rsplit("/", 1)[1]]
        kind = answer.headers["content-type"]
        told = json.loads(answer.text, parse_constant=_refuse_constant)
        schema = {**promised["content"][kind]["schema"], "components": self.document["components"]}
        Draft202012Validator(schema, format_checker=Draft202012Validator.FORMAT_CHECKER).validate(told)
        return told


def _fits(template: str, path: str) -> bool:
    wanted, given = template.split("/"), path.split("/")
    return len(wanted) == len(given) and all(a == b or a.startswith("{") for a, b in zip(wanted, given, strict=True))


def _refuse_constant(name: str) -> None:
    raise AssertionError(f"{name} is not JSON")


@pytest.fixture
def caller(visitor: Any) -> Caller:
    """Somebody who is signed in, over an empty, migrated Postgres."""
    return Caller(visitor.client)


@pytest.fixture
def with_token(settings: DashboardSettings, open_dashboard: Open) -> Any:
    """A client that is not signed in, of a dashboard that has a token."""
    settings.dashboard_api_token = SecretStr(TOKEN)
    return open_dashboard(NOWHERE, signed_in=False).client


def add_event(database: ThrowawayDatabase, **values: Any) -> None:
    manager = DatabaseManager(database.url("postgres"), service="test")
    row = {
        "timestamp": datetime(2026, 11, 1, 12, 0, 0, 250_000),  # noqa: DTZ001 - as the rows have it
        "event_type": "ALERT",
        "severity": "critical",
        "message": "halted",
        "component": "trading-bot",
    }
    manager.transaction(lambda conn: conn.execute(insert(SystemEvent).values({**row, **values})), name="test")
    manager.dispose()


# -- the document ----------------------------------------------------------------------------------------------------


def test_the_document_is_valid_openapi_and_lists_every_route(caller: Caller, visitor: Any) -> None:
    OpenAPIV31SpecValidator(caller.document).validate()
    routed = {route.path for route in visitor.client.app.routes if route.path.startswith("/api/")}
    assert set(caller.document["paths"]) == routed
    assert caller.document["openapi"].startswith("3.1.")


def test_every_field_and_parameter_that_is_not_plain_says_what_it_is(caller: Caller) -> None:
    for path, item in caller.document["paths"].items():
        for parameter in item["get"].get("parameters", []):
            assert parameter["description"], (path, parameter["name"])
    assert "freshness" in caller.document["components"]["schemas"]["Events"]["properties"]


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.name)
def test_every_answer_is_as_the_document_says(
    caller: Caller, database: ThrowawayDatabase, rows: Any, operation: Any
) -> None:
    path = operation.path.replace("{trade_id}", "1")
    if "{" not in operation.path:
        caller.get(path)  # an empty database
    rows.bot()
    rows.history()
    add_event(database)
    told = caller.get(path)
    assert told["schema_version"] == 1
    assert told["freshness"]["stale"] is False


# -- who may ask -----------------------------------------------------------------------------------------------------


def test_a_stranger_gets_a_problem_and_not_the_login_page(with_token: Any) -> None:
    for path in (*(operation.path for operation in OPERATIONS), "/openapi.json", "/absent"):
        answer = with_token.get(f"{PREFIX}{path}")
        assert answer.status_code == 401, path
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.headers["www-authenticate"] == 'Bearer realm="switchyard"'
        assert answer.json()["code"] == "API-002"


def test_the_token_opens_the_api_and_nothing_else(with_token: Any) -> None:
    headers = {"authorization": f"Bearer {TOKEN}"}
    assert with_token.get(f"{PREFIX}/openapi.json", headers=headers).status_code == 200
    assert with_token.get(f"{PREFIX}/absent", headers=headers).json()["code"] == "API-004"
    assert with_token.get("/trades", headers=headers).status_code == 303
    assert with_token.get("/static/dashboard.js", headers=headers).status_code == 303
    assert with_token.post(f"{PREFIX}/events", headers=headers).status_code == 403  # no form of ours sends it


@pytest.mark.parametrize(
    "shown",
    [
        "Bearer wrong", f"Basic {TOKEN}", f"Bearer {TOKEN}x", f"Bearer {TOKEN[:-1]}", TOKEN, "Bearer ", "",
        f"Bearer {TOKEN.upper()}", f"Bearer {'x' * 5000}",
    ],
)  # fmt: skip
def test_a_wrong_token_is_refused_whatever_cookie_comes_with_it(
    with_token: Any, open_dashboard: Open, shown: str
) -> None:
    assert with_token.get(f"{PREFIX}/openapi.json", headers={"authorization": shown}).status_code == 401
    someone = open_dashboard(NOWHERE)
    assert someone.get(f"{PREFIX}/openapi.json").status_code == 200
    assert someone.get(f"{PREFIX}/openapi.json", headers={"authorization": shown}).status_code == 401


def test_a_token_in_the_address_is_not_read(with_token: Any) -> None:
    for name in ("token", "access_token", "api_key"):
        assert with_token.get(f"{PREFIX}/openapi.json?{name}={TOKEN}").status_code == 401


def test_without_a_configured_token_none_is_right(open_dashboard: Open) -> None:
    stranger = open_dashboard(NOWHERE, signed_in=False)
    for shown in ("Bearer ", "Bearer None", f"Bearer {TOKEN}"):
        assert stranger.get(f"{PREFIX}/openapi.json", headers={"authorization": shown}).status_code == 401


def test_guessing_tokens_is_slowed_down_and_does_not_touch_who_is_signed_in(
    with_token: Any, open_dashboard: Open
) -> None:
    statuses = [
        with_token.get(f"{PREFIX}/openapi.json", headers={"authorization": "Bearer guess"})
        for _ in range(BAD_TOKENS_PER_MINUTE + 1)
    ]
    assert [answer.status_code for answer in statuses] == [401] * BAD_TOKENS_PER_MINUTE + [429]
    assert 0 < int(statuses[-1].headers["retry-after"]) <= 60
    assert statuses[-1].json()["code"] == "API-008"
    assert open_dashboard(NOWHERE, app=with_token.app).get(f"{PREFIX}/openapi.json").status_code == 200
    # nor whoever has the token and shares the guesser's address
    right = with_token.get(f"{PREFIX}/openapi.json", headers={"authorization": f"Bearer {TOKEN}"})
    assert right.status_code == 200


def test_the_api_has_a_limit_for_each_caller(with_token: Any) -> None:
    headers = {"authorization": f"Bearer {TOKEN}"}
    statuses = [with_token.get(f"{PREFIX}/absent", headers=headers).status_code for _ in range(API_PER_MINUTE + 1)]
    assert statuses == [404] * API_PER_MINUTE + [429]


def test_no_token_gets_into_a_log(with_token: Any, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG", "dashboard")
    with_token.get(f"{PREFIX}/events", headers={"authorization": f"Bearer {TOKEN}"})
    with_token.get(f"{PREFIX}/events?token={TOKEN}", headers={"authorization": f"Bearer {TOKEN}x"})
    assert caplog.records
    assert TOKEN not in json.dumps([vars(record) for record in caplog.records], default=str)


def test_the_api_does_not_answer_in_clear_text_across_a_network(
    settings: DashboardSettings, open_dashboard: Open
) -> None:
    settings.dashboard_api_token = SecretStr(TOKEN)
    settings.dashboard_hosts = "board.example"
    away = open_dashboard(NOWHERE, signed_in=False, base_url="http://board.example").client
    answer = away.get(f"{PREFIX}/openapi.json", headers={"authorization": f"Bearer {TOKEN}"})
    assert (answer.status_code, answer.json()["code"]) == (403, "API-003")


# -- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "parameter"),
    [
        ("limit=0", "limit"),
        ("limit=251", "limit"),
        ("limit=many", "limit"),
        ("cursor=made-up", "cursor"),
        ("cursor=", None),
        ("from=yesterday", "from"),
        ("to=2026-13-01", "to"),
        ("colour=red", "colour"),
        ("limit=1&limit=2", "limit"),
        ("since=2026-01-01", "since"),
    ],
)
def test_a_question_that_is_not_understood_is_refused_by_name(
    caller: Caller, query: str, parameter: str | None
) -> None:
    answer = caller.client.get(f"{PREFIX}/events?{query}")
    if parameter is None:
        assert answer.status_code == 200
        return
    assert (answer.status_code, answer.json()["code"], answer.json()["parameter"]) == (400, "API-001", parameter)


def test_what_is_refused_is_not_repeated_at_length(caller: Caller) -> None:
    answer = caller.client.get(f"{PREFIX}/events?{'x' * 5000}=1")
    assert answer.status_code == 400
    assert len(answer.text) < 700


def test_a_database_that_never_answered_is_a_problem_and_not_an_empty_list(open_dashboard: Open) -> None:
    caller = Caller(open_dashboard(NOWHERE, patience_s=3).client)
    told = caller.get("/events", 503)
    assert told["code"] == "API-010"
    assert told["detail"]


def test_a_database_without_tables_is_a_problem(bare_database: ThrowawayDatabase, open_dashboard: Open) -> None:
    caller = Caller(open_dashboard(bare_database.url("dashboard")).client)
    told = caller.get("/events", 503)
    assert told["title"] == "No tables to read"
    assert "migrate" in told["detail"]


def test_old_data_say_their_age(database: ThrowawayDatabase, open_dashboard: Open) -> None:
    add_event(database)
    caller = Caller(open_dashboard(database.url("dashboard")).client)
    first = caller.get("/events")
    database.server.execute(f'ALTER DATABASE "{database.name}" ALLOW_CONNECTIONS false')
    database.server.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [database.name]
    )
    told = caller.get("/events")
    assert told["data"] == first["data"]
    assert told["freshness"]["stale"] is True
    assert told["freshness"]["age_s"] > 0
    assert told["freshness"]["since"] is not None
    assert told["freshness"]["reason"]


def test_a_defect_is_a_problem_without_a_trace_of_the_code(settings: DashboardSettings, open_dashboard: Open) -> None:
    async def broken(_request: Any) -> None:
        raise RuntimeError("the secret inside")

    from starlette.routing import Route

    app: Starlette = create_app(settings, DatabaseManager(NOWHERE, service="dashboard"))
    app.router.routes.insert(0, Route(f"{PREFIX}/broken", broken))
    answer = open_dashboard(NOWHERE, app=app).get(f"{PREFIX}/broken")
    assert (answer.status_code, answer.json()["code"]) == (500, "API-009")
    assert "secret inside" not in answer.text


# -- events ----------------------------------------------------------------------------------------------------------


def test_events_say_their_times_and_keep_what_json_has_no_number_for(
    caller: Caller, database: ThrowawayDatabase
) -> None:
    add_event(database, details={"spool_replayed": 3, "price": "0.10000000000000000000000001"})
    add_event(database, component="LiveTradingEngine", timestamp=datetime(2025, 6, 27, 20, 47, 39))  # noqa: DTZ001
    ours, copied = caller.get("/events")["data"]
    assert (ours["time"], ours["times_in_utc"]) == ("2026-11-01T12:00:00.250000Z", True)
    assert ours["details"] == {"spool_replayed": 3, "price": "0.10000000000000000000000001"}
    assert (copied["time"], copied["times_in_utc"]) == ("2025-06-27T20:47:39", False)


def test_what_json_has_no_number_for_is_null_in_details(sqlite_url: str, open_dashboard: Open) -> None:
    manager = DatabaseManager(sqlite_url, service="test")
    row = {"timestamp": datetime(2026, 1, 1), "event_type": "X", "message": "x"}  # noqa: DTZ001
    manager.transaction(
        lambda conn: conn.execute(insert(SystemEvent).values({**row, "details": {"x": float("nan")}})), name="test"
    )
    manager.dispose()
    [event] = Caller(open_dashboard(sqlite_url).client).get("/events")["data"]
    assert event["details"] == {"x": None}


def test_a_list_goes_on_by_its_cursor_to_the_end(caller: Caller, database: ThrowawayDatabase) -> None:
    for i in range(7):
        add_event(database, message=f"event {i}")
    seen: list[str] = []
    cursor: str | None = ""
    while cursor is not None:
        told = caller.get("/events", limit=3, cursor=cursor)
        seen += [event["message"] for event in told["data"]]
        cursor = told["next_cursor"]
    assert seen == [f"event {i}" for i in reversed(range(7))]


def test_ages_are_of_this_moment(caller: Caller) -> None:
    before = datetime.now(UTC)
    read_at = datetime.fromisoformat(caller.get("/events")["freshness"]["read_at"])
    assert before <= read_at <= datetime.now(UTC)


# -- trades, overview, strategies ------------------------------------------------------------------------------------


def test_a_trade_keeps_every_digit_and_says_whose_clock_it_has(caller: Caller, rows: Any) -> None:
    rows.bot()
    rows.history(2)
    told = caller.get("/trades", sort="pnl", order="asc")
    assert told["matching"]["trades"] == 3
    assert [row["pnl"] for row in told["data"]] == ["-17.524548159701215", "20", "30.5"]
    copied, ours, _ = told["data"]
    assert (copied["exit_time"], copied["times_in_utc"], copied["simulated"]) == ("2025-06-27T22:47:39", False, False)
    assert ours["exit_time"].endswith("Z")
    assert (ours["times_in_utc"], ours["simulated"], ours["quantity"]) == (True, True, "2")


def test_the_filters_of_the_page_are_those_of_the_api(caller: Caller, rows: Any) -> None:
    rows.bot()
    rows.history(7)
    days = {"from": "2025-06-28", "to": "2025-06-28"}
    chosen: list[dict[str, Any]] = [{"source": "BACKTEST"}, days, {"symbol": "x"}, {"session": 2}]
    for filters in chosen:
        told = caller.get("/trades", **filters)
        page = caller.client.get("/trades", params=filters).text
        assert page.count("<tr data-trade=") == len(told["data"]) == told["matching"]["trades"], filters


def test_trades_go_on_by_cursor_in_any_order(caller: Caller, rows: Any) -> None:
    rows.history(9)
    for sort in ("exit_time", "pnl", "pnl_percent"):
        seen: list[int] = []
        cursor: str | None = ""
        while cursor is not None:
            told = caller.get("/trades", limit=4, sort=sort, cursor=cursor)
            seen += [trade["id"] for trade in told["data"]]
            cursor = told["next_cursor"]
        assert len(seen) == len(set(seen)) == 9, sort


def test_rows_that_arrive_while_a_list_is_read_move_nothing_in_it(
    caller: Caller, database: ThrowawayDatabase, rows: Any
) -> None:
    rows.history(9)
    first = {trade["id"] for trade in caller.get("/trades")["data"]}
    for sort in ("exit_time", "pnl", "pnl_percent"):
        for order in ("asc", "desc"):
            seen: list[int] = []
            cursor: str | None = ""
            while cursor is not None:
                told = caller.get("/trades", limit=4, sort=sort, order=order, cursor=cursor)
                seen += [trade["id"] for trade in told["data"]]
                cursor = told["next_cursor"]
                # one before everything, whichever way it is sorted: had it counted by position, a row would come twice
                extreme = 1 if order == "desc" else -1
                rows.trade(pnl=Decimal(10_000 * extreme), pnl_percent=900.0 * extreme)
            assert len(seen) == len(set(seen)), (sort, order)
            assert set(seen) >= first, (sort, order)
    for i in range(7):
        add_event(database, message=f"event {i}")
    told, messages = caller.get("/events", limit=3), list[str]()
    while True:
        messages += [event["message"] for event in told["data"]]
        add_event(database, message="later")
        if told["next_cursor"] is None:
            break
        told = caller.get("/events", limit=3, cursor=told["next_cursor"])
    assert messages == [f"event {i}" for i in reversed(range(7))]


def test_one_trade_tells_its_story(caller: Caller, rows: Any) -> None:
    rows.bot()
    story = caller.get("/trades/1")["data"]
    assert story["trade"]["pnl"] == "20"
    [leg] = story["legs"]
    assert (leg["kind"], leg["intent"]["intent_id"], leg["fills"][0]["price"]) == ("exit", "exit-1", "110")
    assert caller.get("/trades/999", 404)["code"] == "API-004"
    for odd in ("x", "1.5", "-1", "9223372036854775808", "%00"):
        assert caller.client.get(f"{PREFIX}/trades/{odd}").json()["parameter"] == "trade_id"


def test_the_overview_has_the_bot_its_curve_and_its_positions(caller: Caller, rows: Any) -> None:
    empty = caller.get("/overview")["data"]
    assert (empty["session"], empty["lease"], empty["equity"], empty["sessions"]) == (None, None, None, [])
    session_id = rows.bot()
    told = caller.get("/overview", range="all")["data"]
    assert told["session"]["id"] == session_id
    assert told["lease"]["holder"] == "host/1/abc"
    assert [point["equity"] for point in told["equity"]["points"]] == ["10000", "10050", "9949.5", "10020.25"]
    assert told["open_positions"][0]["unrealized_pnl"] == "7.0"
    assert caller.client.get(f"{PREFIX}/overview?range=1y").json()["parameter"] == "range"


def test_strategies_are_side_by_side(caller: Caller, rows: Any) -> None:
    rows.bot()
    rows.history(7)
    first, second = caller.get("/strategies")["data"]
    assert (first["strategy"], first["trades"], second["strategy"]) == ("MlBasic", 7, "MovingAverageCross")
    assert sum(bucket["trades"] for bucket in first["durations"]) == 7


def test_times_and_numbers_beyond_the_calendar_and_the_numbers_are_told_as_they_are(
    caller: Caller, rows: Any, database: ThrowawayDatabase
) -> None:
    rows.history(3)
    database.execute("UPDATE trades SET exit_time = 'infinity', pnl = 'NaN', pnl_percent = 'Infinity' WHERE id = 1")
    database.execute("UPDATE trades SET entry_time = '0044-03-15 BC', pnl = '-Infinity' WHERE id = 2")
    told = {row["id"]: row for row in caller.get("/trades")["data"]}
    assert (told[1]["exit_time"], told[1]["pnl"], told[1]["pnl_percent"]) == ("infinity", "NaN", None)
    assert (told[2]["entry_time"], told[2]["pnl"]) == ("0044-03-15 00:00:00 BC", "-Infinity")
    assert "infinity" in caller.client.get("/trades.csv").text


def test_the_database_says_which_it_is_and_what_is_hidden_from_it(
    caller: Caller, rows: Any, sqlite_url: str, open_dashboard: Open
) -> None:
    rows.bot()
    told = caller.get("/database")
    assert told["data"]["info"]["dialect"] == "postgresql"
    assert {table["name"] for table in told["data"]["tables"]["value"]} >= {"trades", "fills"}
    assert told["data"]["lease"]["value"]["epoch"] == 3
    assert {role["role"] for role in told["data"]["connections"]["value"]["roles"]} >= {"dashboard"}
    assert all(verdict["level"] in {"ok", "info", "warn"} for verdict in told["verdicts"]), told["verdicts"]
    on_sqlite = Caller(open_dashboard(sqlite_url).client).get("/database")["data"]
    assert on_sqlite["info"]["dialect"] == "sqlite"
    assert on_sqlite["queries"] == {"value": None, "missing": "PostgreSQL; this is a SQLite file"}


def test_the_overview_says_what_its_page_says(caller: Caller, rows: Any) -> None:
    rows.lease(age_s=100, left_s=-90)
    [bot, *_] = caller.get("/overview")["verdicts"]
    assert bot["level"] == "fail"
    assert "its lease ended" in bot["sentence"]
