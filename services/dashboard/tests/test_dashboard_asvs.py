"""The door under attack: names, requests, text and addresses that somebody made up. docs/security.md lists which."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from html.parser import HTMLParser
from typing import Any

import psycopg2
import pytest
import uvicorn
from dashboard.app import create_app
from dashboard.settings import DashboardSettings, host_names
from dashboard.web.gate import POLICY, PUBLIC
from dashboard.web.hosts import Hosts, host_name
from dashboard.web.passwords import Account
from dashboard.web.protocol import PunctualProtocol
from pydantic import SecretStr
from sqlalchemy import insert
from starlette.applications import Starlette
from starlette.routing import Mount, Route
from starlette.websockets import WebSocketDisconnect
from tradedb import DatabaseManager, SwitchyardError
from tradedb.models import SystemEvent
from tradedb.testing import ThrowawayDatabase

NOWHERE = "postgresql://dashboard:x@127.0.0.1:1/railway?sslmode=disable"
Open = Callable[..., Any]


@pytest.fixture
def app(settings: DashboardSettings) -> Starlette:
    settings.dashboard_hosts = "board.example"
    return create_app(settings, DatabaseManager(NOWHERE, service="dashboard"))


def routes(app: Starlette) -> list[Route]:
    return [route for route in app.routes if isinstance(route, Route)]


# -- what may be asked at all ----------------------------------------------------------------------------------------


def test_nothing_but_signing_in_and_out_takes_more_than_get(app: Starlette) -> None:
    writing = {route.path for route in routes(app) if not (route.methods or set()) <= {"GET", "HEAD"}}
    assert writing == {"/login", "/logout"}


def test_every_route_that_changes_something_wants_the_origin_and_the_token(
    app: Starlette, open_dashboard: Open
) -> None:
    someone = open_dashboard(NOWHERE, app=app)
    token = someone.token("/absent")
    for route in routes(app):
        for method in (route.methods or set()) - {"GET", "HEAD"}:
            own = {"origin": "http://127.0.0.1"}
            for headers, form in (
                ({}, {"csrf_token": token}),
                ({"origin": "http://evil.example"}, {"csrf_token": token}),
                (own, {}),
                (own, {"csrf_token": "0" * 64}),
            ):
                answer = someone.client.request(method, route.path, data=form, headers=headers)
                assert answer.status_code == 403, (method, route.path, headers, form)


def test_every_public_path_is_meant_to_be_public(app: Starlette, open_dashboard: Open) -> None:
    """Whoever adds a public path must say so here too."""
    assert {"/healthz", "/readyz", "/login", "/static/dashboard.css", "/static/favicon.svg"} == PUBLIC
    assert [mount.path for mount in app.routes if isinstance(mount, Mount)] == ["/static"]


@pytest.mark.parametrize("method", ["TRACE", "OPTIONS", "PUT", "PATCH", "DELETE", "CONNECT", "X" * 500])
def test_a_method_that_nothing_has_is_refused_at_the_door(app: Starlette, open_dashboard: Open, method: str) -> None:
    for someone in (open_dashboard(NOWHERE, app=app), open_dashboard(NOWHERE, app=app, signed_in=False)):
        answer = someone.client.request(method, "/trades")
        assert (answer.status_code, answer.headers["allow"]) == (405, "GET, HEAD, POST")
        assert "X" * 100 not in answer.text


def test_no_other_site_may_read_an_answer(app: Starlette, open_dashboard: Open) -> None:
    someone = open_dashboard(NOWHERE, app=app)
    for path in ("/", "/api/v1/openapi.json", "/static/dashboard.css", "/healthz"):
        headers = someone.get(path, headers={"origin": "http://evil.example"}).headers
        assert "access-control-allow-origin" not in headers, path
        assert headers["cross-origin-resource-policy"] == "same-origin", path


def test_the_policy_allows_nothing_that_it_does_not_name() -> None:
    parts = {name: sources for name, _, sources in (part.partition(" ") for part in POLICY.split("; "))}
    assert parts.pop("default-src") == "'none'"
    assert {parts.pop(name) for name in ("object-src", "base-uri", "frame-ancestors")} == {"'none'"}
    assert set(parts.values()) == {"'self'"}


# -- names -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "host",
    [
        "evil.example", "127.0.0.1.evil.example", "localhost.evil.example", "board.example.evil.example",
        "evil.example:8080", "", "169.254.169.254", "[::2]", "board.example@evil.example", "board.example/", " ",
        "board.example:80:90", "x" * 5000, "trading-bot.railway.internal",
    ],
)  # fmt: skip
def test_a_name_that_is_not_ours_is_not_answered(app: Starlette, open_dashboard: Open, host: str) -> None:
    someone = open_dashboard(NOWHERE, app=app)
    for path in ("/", "/login", "/static/dashboard.css", "/api/v1/trades"):
        answer = someone.get(path, headers={"host": host})
        assert answer.status_code == 421, (host, path)
        assert "set-cookie" not in answer.headers
    assert someone.get("/healthz", headers={"host": host}).status_code == 200  # supervisors use names of their own


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1", "127.0.0.1:25000", "localhost", "LocalHost:1", "[::1]", "[::1]:8080", "board.example",
        "BOARD.example.", "board.example:443", "dashboard.railway.internal:8080",
    ],
)  # fmt: skip
def test_our_names_are_answered_with_any_port(app: Starlette, open_dashboard: Open, host: str) -> None:
    assert open_dashboard(NOWHERE, app=app).get("/static/dashboard.css", headers={"host": host}).status_code == 200


def test_railways_own_names_are_ours(settings: DashboardSettings) -> None:
    settings.railway_public_domain = "board-production.up.railway.app"
    settings.railway_private_domain = "board.railway.internal"
    hosts = Hosts(host_names(settings))
    assert hosts.allow("board-production.up.railway.app")
    assert hosts.allow("board.railway.internal:8080")
    assert not hosts.allow("another.up.railway.app")


@pytest.mark.parametrize(
    "given", ["https://board.example", "board.example/x", "a b", "*.example", "board.example,,http:"]
)
def test_what_is_no_name_is_refused_at_the_start(settings: DashboardSettings, given: str) -> None:
    settings.dashboard_hosts = given
    with pytest.raises(SwitchyardError) as caught:
        create_app(settings, DatabaseManager(NOWHERE, service="dashboard"))
    assert (caught.value.code, caught.value.exit_code) == ("DASH-006", 78)


@pytest.mark.parametrize(
    "token", ["short", "x" * 64, "has a space in it, and is long enough", "é" * 40, "abcabcabcabc" * 4]
)
def test_a_guessable_token_does_not_start(settings: DashboardSettings, token: str) -> None:
    settings.dashboard_api_token = SecretStr(token)
    with pytest.raises(SwitchyardError) as caught:
        create_app(settings, DatabaseManager(NOWHERE, service="dashboard"))
    assert caught.value.code == "DASH-005"
    assert token not in " ".join(caught.value.lines())


def test_a_host_is_read_strictly() -> None:
    assert host_name("[::1]:80") == "::1"
    assert host_name("a.b:80") == "a.b"
    for odd in ("[::1", "::1", "a:b", "a:123456", "a\tb", "\u0430.example"):
        assert host_name(odd) is None, odd


# -- cookies ---------------------------------------------------------------------------------------------------------


def test_every_cookie_over_https_belongs_to_this_host_alone(settings: DashboardSettings, open_dashboard: Open) -> None:
    settings.dashboard_hosts = "board.example"
    app = create_app(settings, DatabaseManager(NOWHERE, service="dashboard"), behind_proxy=True)
    someone = open_dashboard(NOWHERE, app=app, signed_in=False, base_url="https://board.example")
    someone.client.headers["x-forwarded-proto"] = "https"
    cookies = [
        cookie
        for answer in (someone.get("/login"), someone.sign_in(), someone.get("/absent"))
        for cookie in answer.headers.get_list("set-cookie")
    ]
    assert {cookie.split("=")[0] for cookie in cookies} == {
        "__Host-dashboard", "__Host-dashboard_login", "__Host-dashboard_device",
    }  # fmt: skip
    for cookie in cookies:
        for needed in ("Secure", "HttpOnly", "SameSite=strict", "Path=/"):
            assert needed in cookie, cookie
        assert "Domain" not in cookie
        assert len(cookie) < 1024


def test_a_password_does_not_cross_a_network_in_clear(app: Starlette, open_dashboard: Open) -> None:
    away = open_dashboard(NOWHERE, app=app, signed_in=False, base_url="http://board.example")
    page = away.get("/login")
    assert page.status_code == 403
    assert 'type="password"' not in page.text
    assert "Not without https" in page.text


def test_a_header_of_a_proxy_that_is_not_there_opens_nothing(app: Starlette, open_dashboard: Open) -> None:
    away = open_dashboard(NOWHERE, app=app, signed_in=False, base_url="http://board.example")
    headers = {"x-forwarded-proto": "https", "x-forwarded-host": "127.0.0.1", "forwarded": "host=127.0.0.1;proto=https"}
    assert away.get("/login", headers=headers).status_code == 403
    assert away.get("/login", headers={**headers, "host": "evil.example"}).status_code == 421


def test_the_whole_password_counts(app: Starlette, open_dashboard: Open, settings: DashboardSettings) -> None:
    long = "quiet otters " * 100
    settings.dashboard_password = SecretStr(long)
    app = create_app(settings, DatabaseManager(NOWHERE, service="dashboard"))
    assert open_dashboard(NOWHERE, app=app, signed_in=False).sign_in(long).status_code == 303
    for wrong in (long[:-1], long + "x", long.upper(), long[:1024]):
        assert open_dashboard(NOWHERE, app=app, signed_in=False).sign_in(wrong).status_code == 401


def test_password_managers_know_the_fields(app: Starlette, open_dashboard: Open) -> None:
    page = open_dashboard(NOWHERE, app=app, signed_in=False).get("/login").text
    for needed in ('autocomplete="username"', 'autocomplete="current-password"', 'type="password"'):
        assert needed in page
    assert "onpaste" not in page


def test_the_password_is_kept_as_argon2id_alone() -> None:
    account = Account("admin", "quiet-otter-lane-41")
    assert "quiet-otter" not in repr(vars(account))
    assert vars(account)["_hash"].startswith("$argon2id$v=19$m=19456,t=2,p=1$")
    assert account.verify("admin", "quiet-otter-lane-41")
    assert not account.verify("admin", "quiet-otter-lane-42")


def test_every_attempt_to_sign_in_is_logged(
    app: Starlette, open_dashboard: Open, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "dashboard")
    someone = open_dashboard(NOWHERE, app=app, signed_in=False)
    for _ in range(6):
        someone.sign_in("a wrong password")
    said = [record.getMessage() for record in caplog.records if record.name == "dashboard.web.login"]
    assert said == ["login failed"] * 5 + ["login refused: too many attempts"]
    assert "a wrong password" not in caplog.text
    assert all(vars(record).get("client") for record in caplog.records if record.name == "dashboard.web.login")


def test_every_page_has_the_way_out(visitor: Any, rows: Any) -> None:
    rows.bot()
    seen = 0
    for route in routes(visitor.client.app):
        path = route.path.replace("{trade_id:int}", "1").replace("{trade_id}", "1")
        if "GET" not in (route.methods or set()) or path in {"/live", "/login"}:
            continue
        answer = visitor.get(path)
        if answer.headers.get("content-type", "").startswith("text/html"):
            assert 'action="/logout"' in answer.text, path
            seen += 1
    assert seen >= 4


def test_there_are_no_websockets(app: Starlette, open_dashboard: Open) -> None:
    someone = open_dashboard(NOWHERE, app=app)
    with pytest.raises(WebSocketDisconnect) as caught, someone.client.websocket_connect("/trades"):
        pass
    assert caught.value.code == 1008


# -- text that others wrote ------------------------------------------------------------------------------------------


def naive_now() -> datetime:
    return datetime.now(UTC).replace(tzinfo=None)


EVIL = "<img src=x onerror=alert(1)>"
BREAKS = "\"'><script>alert(1)</script>"
TAGS = frozenset({"img", "iframe", "object", "embed", "style", "base", "frame", "foreignobject"})


class _Reader(HTMLParser):
    """Finds what text must never become."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        known = dict(attrs)
        if tag in TAGS or (tag == "script" and not (known.get("src") or "").startswith("/static/")):
            self.found.append(tag)
        for name, value in attrs:
            if (
                name.startswith("on")
                or name == "style"
                or (value or "").lower().strip().startswith(("javascript:", "data:"))
            ):
                self.found.append(f"{tag} {name}")

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def test_text_of_the_database_stays_text_on_every_page(
    visitor: Any, rows: Any, database: ThrowawayDatabase, settings: DashboardSettings
) -> None:
    session_id = rows.session(
        session_name=EVIL, strategy_name=BREAKS, symbol="<b onclick=x>", timeframe="<i>", exchange=BREAKS[:40]
    )
    trade_id = rows.trade(
        session_id=session_id, symbol="'\"><b onclick=x>", strategy_name=EVIL, exit_reason=BREAKS, side="<u>",
        exchange=EVIL,
    )  # fmt: skip
    rows.position(session_id=session_id, symbol="<b onclick=x>", strategy_name=BREAKS, exchange=EVIL, status="OPEN")
    rows.equity(session_id, ["1", "2", "3"])
    manager = DatabaseManager(database.url("postgres"), service="test")
    event = {
        "timestamp": naive_now(), "event_type": "<b x=1>", "severity": "' onx=1 '", "message": EVIL + BREAKS,
        "component": BREAKS, "error_code": EVIL, "details": {BREAKS: EVIL, "more": [EVIL]},
    }  # fmt: skip
    manager.transaction(lambda conn: conn.execute(insert(SystemEvent).values(event)), name="test")
    manager.dispose()
    shown = ""
    queries = (
        "",
        f"?symbol={BREAKS}&strategy={EVIL}&source={EVIL}&type={EVIL}&cursor={BREAKS}&next=/{EVIL}&session={EVIL}",
    )
    for route in routes(visitor.client.app):
        if "GET" not in (route.methods or set()) or route.path in {"/live"}:
            continue
        path = route.path.replace("{trade_id:int}", str(trade_id)).replace("{trade_id}", str(trade_id))
        for query in queries:
            answer = visitor.get(path + query)
            kind = answer.headers.get("content-type", "")
            assert answer.headers["x-content-type-options"] == "nosniff"
            if kind.startswith("text/html"):
                reader = _Reader()
                reader.feed(answer.text)
                assert reader.found == [], (path, query)
                shown += "".join(reader.text)
            else:
                assert kind.split(";")[0] in {"application/json", "application/problem+json", "text/csv", ""}, path
    assert EVIL in shown, "the text was on no page, so this test shows nothing"
    assert BREAKS in shown


def test_what_was_asked_for_is_not_a_header(app: Starlette, open_dashboard: Open) -> None:
    someone = open_dashboard(NOWHERE, app=app, signed_in=False)
    for path in (
        "/x%0d%0aset-cookie:%20a=b",
        "/trades?x=%0d%0aset-cookie:%20a=b",
        "/login?next=/%0d%0aset-cookie:%20a=b",
    ):
        answer = someone.get(path)
        assert "a=b" not in str(answer.headers.get("set-cookie", ""))
        assert "\n" not in answer.headers.get("location", "")


INJECTED = [
    "' OR '1'='1", "'; DROP TABLE trades; --", "x' UNION SELECT usename, passwd FROM pg_shadow --", "\\'; --", "%", "_",
    "${jndi:ldap://x}", "{{7*7}}", ":id", "%(id)s", "1e309", "\0", "\ud83d", "٣",
]  # fmt: skip


def test_questions_cannot_change_the_sql(visitor: Any, rows: Any) -> None:
    rows.history(2)
    names = ("symbol", "strategy", "source", "session", "from", "to", "sort", "order", "cursor", "type", "component")
    for text in INJECTED:
        given = text.encode("utf-8", "surrogatepass")
        for path in ("/", "/trades", "/trades.csv", "/events", "/strategies"):
            answer = visitor.get(path, params=dict.fromkeys(names, given))
            assert answer.status_code in {200, 404}, (path, text)
        for name in ("symbol", "source", "from", "sort", "cursor"):
            answer = visitor.get("/api/v1/trades", params={name: given})
            assert answer.status_code in {200, 400}, (name, text)
            assert answer.status_code == 400 or name in {"symbol", "source"}, (name, text)
            assert answer.status_code == 400 or answer.json()["data"] == [], (name, text)
    assert len(visitor.get("/api/v1/trades").json()["data"]) == 2


# -- over the wire ---------------------------------------------------------------------------------------------------


class _Hasty(PunctualProtocol):
    arrives_within_s = 3.0


@pytest.fixture
def port(app: Starlette) -> Iterator[int]:
    """Where the whole application listens, with the server that it is served with."""
    config = uvicorn.Config(
        app, port=0, http=_Hasty, log_config=None, proxy_headers=False, server_header=False, ws="none",
        h11_max_incomplete_event_size=32 * 1024, timeout_keep_alive=2,
    )  # fmt: skip
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    until = time.monotonic() + 60
    while not server.started:
        assert time.monotonic() < until
        time.sleep(0.01)
    yield server.servers[0].sockets[0].getsockname()[1]
    server.should_exit = True
    thread.join(30)


def say(port: int, sent: bytes) -> bytes:
    """All that comes back until the server hangs up."""
    with socket.create_connection(("127.0.0.1", port), 30) as line:
        line.sendall(sent)
        heard = b""
        while piece := line.recv(65536):
            heard += piece
        return heard


HEAD = b"Host: 127.0.0.1\r\n"


@pytest.mark.parametrize(
    "sent",
    [
        b"POST /login HTTP/1.1\r\n" + HEAD + b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
        b"GET /healthz HTTP/1.1\r\n\r\n",
        b"GET /login HTTP/1.1\r\n" + HEAD + b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST /login HTTP/1.1\r\n" + HEAD + b"Content-Length: 4\r\nContent-Length: 5\r\n\r\nabcde",
        b"POST /login HTTP/1.1\r\n" + HEAD + b"Content-Length: 4, 5\r\n\r\nabcde",
        b"POST /login HTTP/1.1\r\n" + HEAD + b"Content-Length: -1\r\n\r\n",
        b"POST /login HTTP/1.1\r\n" + HEAD + b"Content-Length: +4\r\n\r\nabcd",
        b"POST /login HTTP/1.1\r\n" + HEAD + b"Content-Length: 0x4\r\n\r\nabcd",
        b"POST /login HTTP/1.1\r\n" + HEAD + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        b"POST /login HTTP/1.1\r\n" + HEAD + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        b"POST /login HTTP/1.1\r\n" + HEAD + b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
        b"POST /login HTTP/1.1\r\n" + HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + HEAD + HEAD + b"\r\n",
        b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n evil.example\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX: a\rSet-Cookie: b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX: a\0b\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET  /  HTTP/1.1\r\n" + HEAD + b"\r\n",
        b"GET / HTTP/1.1\r\n" + HEAD + b"X: " + b"y" * 100_000 + b"\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    ],
    ids=lambda sent: sent[:24].decode("latin-1") + str(len(sent)),
)  # fmt: skip
def test_a_request_that_two_readers_read_differently_is_refused_once_and_hung_up_on(port: int, sent: bytes) -> None:
    heard = say(port, sent)
    answers = heard.count(b"HTTP/1.1 ")
    assert answers <= 1, heard
    assert not answers or heard.startswith((b"HTTP/1.1 400", b"HTTP/1.1 413", b"HTTP/1.1 421", b"HTTP/1.1 501")), heard
    assert b"alive" not in heard
    assert b"Traceback" not in heard


def test_two_whole_requests_on_one_connection_are_two(port: int) -> None:
    heard = say(port, (b"GET /healthz HTTP/1.1\r\n" + HEAD + b"Content-Length: 3\r\n\r\nabc") * 2)
    assert heard.count(b"HTTP/1.1 200") == 2
    assert heard.count(b'"alive"') == 2


@pytest.mark.parametrize(
    "path",
    [
        "/static/../app.py", "/static/%2e%2e/app.py", "/static/..%2fapp.py", "/static/%2e%2e%2fsettings.py",
        "/static/....//app.py", "/static//etc/passwd", "/static/%2fetc/passwd", "/static/..%5capp.py",
        "/static/dashboard.css%00.js", "/static/", "/static", "/static/%c0%ae%c0%ae/app.py",
    ],
)  # fmt: skip
def test_a_path_does_not_lead_out_of_the_static_folder(
    port: int, app: Starlette, open_dashboard: Open, path: str
) -> None:
    visitor = open_dashboard(NOWHERE, app=app)
    # the cookie's name has the port in it that the browser used; the value is the same
    cookie = f"Cookie: dashboard_{port}={visitor.client.cookies['dashboard']}\r\n".encode()
    host = f"Host: 127.0.0.1:{port}\r\n".encode()
    heard = say(port, b"GET " + path.encode() + b" HTTP/1.1\r\n" + host + cookie + b"Connection: close\r\n\r\n")
    assert heard.startswith((b"HTTP/1.1 404", b"HTTP/1.1 307", b"HTTP/1.1 400", b"HTTP/1.1 405")), heard[:300]
    assert b"root:" not in heard
    assert b"from __future__" not in heard
    there = say(port, b"GET /static/dashboard.js HTTP/1.1\r\n" + host + cookie + b"Connection: close\r\n\r\n")
    assert there.startswith(b"HTTP/1.1 200"), "the session counts here, so the refusals above are not the door's"


def test_a_body_is_not_read_beyond_its_limit(port: int) -> None:
    head = b"POST /login HTTP/1.1\r\n" + HEAD + b"Content-Length: 1000000000\r\n\r\n"
    assert say(port, head + b"x" * 1000).startswith(b"HTTP/1.1 413")


# -- the database behind it ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO system_events (timestamp, event_type, message) VALUES (now(), 'X', 'x')",
        "UPDATE trades SET pnl = 1",
        "DELETE FROM trades",
        "TRUNCATE fills",
        "CREATE TABLE mine (x int)",
        "COPY trades TO PROGRAM 'true'",
        "SELECT pg_read_file('/etc/passwd')",
        "SET ROLE owner",
    ],
)
def test_even_sql_of_a_strangers_changes_nothing(database: ThrowawayDatabase, statement: str) -> None:
    with psycopg2.connect(database.url_text("dashboard")) as connection, connection.cursor() as cursor:
        cursor.execute("SET default_transaction_read_only = off")  # what an attacker would begin with
        connection.commit()
        with pytest.raises(psycopg2.errors.InsufficientPrivilege):
            cursor.execute(statement)
    connection.close()
