"""Who comes in: login, cookies, CSRF, limits, headers."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable
from typing import Any

import pytest
from dashboard.app import create_app
from dashboard.settings import DashboardSettings, take_password
from dashboard.web.gate import PUBLIC, safe_target, same_origin, visitor
from dashboard.web.limits import AttemptLimit, LoginLimit
from dashboard.web.sessions import ABSOLUTE_S, DEVICE_S, IDLE_S, Sessions
from pydantic import SecretStr
from starlette.applications import Starlette
from starlette.routing import Mount, Route
from tradedb import DatabaseManager, SwitchyardError
from tradedb.testing import ThrowawayDatabase

PASSWORD = "quiet-otter-lane-41"
NOWHERE = "postgresql://dashboard:x@127.0.0.1:1/railway?sslmode=disable"
Open = Callable[..., Any]


@pytest.fixture
def app(settings: DashboardSettings) -> Starlette:
    return create_app(settings, DatabaseManager(NOWHERE, service="dashboard"))


# -- every route -----------------------------------------------------------------------------------------------------


def paths(app: Starlette) -> list[tuple[str, str]]:
    found = []
    for route in app.routes:
        if isinstance(route, Mount):
            found += [("GET", f"{route.path}/dashboard.js"), ("GET", f"{route.path}/absent")]
        else:
            assert isinstance(route, Route)
            found += [(method, route.path) for method in sorted(route.methods or ())]
    return found


def test_every_route_refuses_a_stranger(app: Starlette, open_dashboard: Open) -> None:
    stranger = open_dashboard(NOWHERE, app=app, signed_in=False)
    tried = [(method, path) for method, path in paths(app) if path not in PUBLIC]
    assert {path for _, path in tried} >= {"/", "/trades", "/database", "/logout", "/static/dashboard.js"}
    for method, path in tried:
        answer = stranger.client.request(method, path, headers={"origin": "http://127.0.0.1"})
        assert answer.status_code in {303, 401}, (method, path)
        assert answer.status_code == 401 or answer.headers["location"].startswith("/login"), (method, path)
        assert "Sign out" not in answer.text


def test_the_public_paths_are_the_probes_and_the_login_page(app: Starlette, open_dashboard: Open) -> None:
    assert {"/healthz", "/readyz", "/login", "/static/dashboard.css", "/static/favicon.svg"} == PUBLIC
    stranger = open_dashboard(NOWHERE, app=app, signed_in=False)
    statuses = {path: stranger.get(path).status_code for path in PUBLIC}
    assert statuses == {**dict.fromkeys(PUBLIC, 200), "/readyz": 503}


def test_what_is_not_there_is_not_told_apart_for_a_stranger(app: Starlette, open_dashboard: Open) -> None:
    stranger = open_dashboard(NOWHERE, app=app, signed_in=False)
    assert stranger.get("/secret/admin").status_code == 303
    assert stranger.get("/static/../app.py").status_code == 303


# -- login -----------------------------------------------------------------------------------------------------------


def test_login_gives_a_cookie_that_scripts_and_other_sites_do_not_get(app: Starlette, open_dashboard: Open) -> None:
    someone = open_dashboard(NOWHERE, app=app, signed_in=False)
    answer = someone.sign_in(next="/trades?symbol=BTCUSDT")
    assert (answer.status_code, answer.headers["location"]) == (303, "/trades?symbol=BTCUSDT")
    cookie = next(c for c in answer.headers.get_list("set-cookie") if c.startswith("dashboard="))
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    assert "Path=/" in cookie
    assert "Secure" not in cookie  # plain http on this machine
    assert "strict-transport-security" not in answer.headers


def test_over_https_the_cookie_is_bound_to_the_host(settings: DashboardSettings, open_dashboard: Open) -> None:
    settings.dashboard_hosts = "board.example"
    app = create_app(settings, DatabaseManager(NOWHERE, service="dashboard"), behind_proxy=True)
    someone = open_dashboard(NOWHERE, app=app, signed_in=False, base_url="https://board.example")
    someone.client.headers["x-forwarded-proto"] = "https"
    answer = someone.sign_in()
    cookie = next(c for c in answer.headers.get_list("set-cookie") if c.startswith("__Host-dashboard="))
    assert "Secure" in cookie
    assert "Domain" not in cookie
    assert answer.headers["strict-transport-security"].startswith("max-age=31536000")
    assert someone.get("/login").status_code == 303  # signed in


@pytest.mark.parametrize(
    ("user", "password"), [("admin", "not-the-password"), ("root", PASSWORD), ("", ""), ("admin", "")]
)
def test_a_wrong_name_and_a_wrong_password_look_the_same(
    app: Starlette, open_dashboard: Open, user: str, password: str
) -> None:
    answer = open_dashboard(NOWHERE, app=app, signed_in=False).sign_in(password, user)
    assert answer.status_code == 401
    assert "The name or the password is wrong." in answer.text
    assert not password or password not in answer.text


def test_each_login_makes_a_new_session_and_ends_the_old_one(app: Starlette, open_dashboard: Open) -> None:
    someone = open_dashboard(NOWHERE, app=app)
    first = someone.client.cookies["dashboard"]
    kept = someone.client.cookies
    someone.client.cookies = {}
    token = someone.token()
    someone.client.cookies = {**dict(someone.client.cookies), **dict(kept)}
    answer = someone.post("/login", {"csrf_token": token, "user": "admin", "password": PASSWORD})
    assert answer.status_code == 303
    assert first not in answer.headers["set-cookie"]
    other = open_dashboard(NOWHERE, app=app, signed_in=False)
    other.client.cookies.set("dashboard", first)
    assert other.get("/trades").status_code == 303


def test_sign_out_ends_the_session_wherever_its_cookie_is(app: Starlette, open_dashboard: Open) -> None:
    someone = open_dashboard(NOWHERE, app=app)
    stolen = someone.client.cookies["dashboard"]
    token = someone.token("/absent")  # any page has the form
    assert someone.post("/logout", {"csrf_token": token}).status_code == 303
    assert someone.get("/").status_code == 303
    thief = open_dashboard(NOWHERE, app=app, signed_in=False)
    thief.client.cookies.set("dashboard", stolen)
    assert thief.get("/").headers["location"] == "/login"


def test_a_session_ends_when_idle_and_in_any_case_after_twelve_hours() -> None:
    now = [1_000_000.0]
    sessions = Sessions("s" * 40, clock=lambda: now[0])
    session = sessions.start("admin")
    cookie = sessions.cookie(session)
    now[0] += IDLE_S
    assert sessions.read(cookie) == session
    now[0] += 1
    assert sessions.read(cookie) is None
    now[0] = session.started_at
    for _ in range(ABSOLUTE_S // 1200):
        now[0] += 1200
        renewed = sessions.renewed(session)
        assert renewed is not None
        cookie = sessions.cookie(renewed)
        assert sessions.read(cookie) is not None
    now[0] = session.started_at + ABSOLUTE_S + 1
    assert sessions.read(cookie) is None


def test_a_cookie_that_we_did_not_sign_is_nobody(app: Starlette, open_dashboard: Open) -> None:
    stranger = open_dashboard(NOWHERE, app=app, signed_in=False)
    forged = Sessions("another secret of forty characters, really")
    for value in (forged.cookie(forged.start("admin")), "x", "a.b", "[]", "x" * 5000):
        stranger.client.cookies.set("dashboard", value)
        assert stranger.get("/").status_code == 303


def test_a_page_that_refreshes_itself_does_not_keep_a_session_alive(app: Starlette, open_dashboard: Open) -> None:
    someone = open_dashboard(NOWHERE, app=app)
    gate = app.user_middleware[0]
    sessions: Sessions = gate.kwargs["sessions"]  # type: ignore[assignment]
    old = sessions.start("admin")
    old = type(old)(old.id, old.user, old.started_at - 600, old.seen_at - 600)
    someone.client.cookies = {"dashboard": sessions.cookie(old)}
    assert "set-cookie" not in someone.get("/absent", headers={"x-dashboard-refresh": "idle"}).headers
    assert "set-cookie" not in someone.get("/absent?refresh=auto").headers
    assert (
        someone.get("/absent", headers={"x-dashboard-refresh": "active"}).headers["set-cookie"].startswith("dashboard=")
    )


@pytest.mark.parametrize(
    "target", ["//evil.example", "https://evil.example", "/\\evil.example", "evil", "/login", "/a\nb", ""]
)
def test_nobody_is_sent_elsewhere_after_login(target: str) -> None:
    assert safe_target(target) == "/"


# -- forged requests -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"origin": "null", "sec-fetch-site": "cross-site"},
        {},
        {"origin": "http://127.0.0.1.evil.example"},
        {"origin": "https://127.0.0.1"},
    ],
)
def test_another_sites_form_is_refused(app: Starlette, open_dashboard: Open, headers: dict[str, str]) -> None:
    someone = open_dashboard(NOWHERE, app=app)
    token = someone.token("/absent")
    assert someone.client.post("/logout", data={"csrf_token": token}, headers=headers).status_code == 403
    assert someone.get("/absent").status_code == 404  # still signed in


def test_our_own_form_is_known_though_browsers_hide_its_origin(app: Starlette, open_dashboard: Open) -> None:
    someone = open_dashboard(NOWHERE, app=app)
    headers = {"origin": "null", "sec-fetch-site": "same-origin"}
    assert (
        someone.client.post("/logout", data={"csrf_token": someone.token("/absent")}, headers=headers).status_code
        == 303
    )


@pytest.mark.parametrize("token", ["", "0" * 64, "x"])
def test_a_form_without_its_token_is_refused(app: Starlette, open_dashboard: Open, token: str) -> None:
    someone = open_dashboard(NOWHERE, app=app)
    assert someone.post("/logout", {"csrf_token": token}).status_code == 403
    stranger = open_dashboard(NOWHERE, app=app, signed_in=False)
    stranger.get("/login")
    answer = stranger.post("/login", {"csrf_token": token, "user": "admin", "password": PASSWORD})
    assert answer.status_code == 403


def test_the_token_of_another_browser_does_not_sign_in(app: Starlette, open_dashboard: Open) -> None:
    token = open_dashboard(NOWHERE, app=app, signed_in=False).token()
    victim = open_dashboard(NOWHERE, app=app, signed_in=False)
    victim.get("/login")
    assert victim.post("/login", {"csrf_token": token, "user": "admin", "password": PASSWORD}).status_code == 403


def test_same_origin_needs_a_word_from_the_browser() -> None:
    from starlette.datastructures import Headers

    assert not same_origin(Headers({}), "http://a")
    assert same_origin(Headers({"origin": "http://a"}), "http://a")


# -- limits ----------------------------------------------------------------------------------------------------------


def test_the_sixth_wrong_password_in_a_minute_waits(app: Starlette, open_dashboard: Open) -> None:
    someone = open_dashboard(NOWHERE, app=app, signed_in=False)
    assert [someone.sign_in("wrong password").status_code for _ in range(5)] == [401] * 5
    answer = someone.sign_in()  # the right one
    assert answer.status_code == 429
    assert 0 < int(answer.headers["retry-after"]) <= 60
    assert f"Wait {answer.headers['retry-after']} seconds" in answer.text


def test_the_limit_counts_per_client_over_all_names(app: Starlette, open_dashboard: Open) -> None:
    someone = open_dashboard(NOWHERE, app=app, signed_in=False)
    assert [someone.sign_in("wrong", f"user{i}").status_code for i in range(6)] == [401] * 5 + [429]


def test_right_passwords_are_not_counted(app: Starlette, open_dashboard: Open) -> None:
    for _ in range(7):
        assert open_dashboard(NOWHERE, app=app, signed_in=False).sign_in().status_code == 303


def test_strangers_do_not_keep_the_owners_browser_out(app: Starlette, open_dashboard: Open) -> None:
    owner = open_dashboard(NOWHERE, app=app)  # signed in once: this browser is known
    owner.post("/logout", {"csrf_token": owner.token("/absent")})
    stranger = open_dashboard(NOWHERE, app=app, signed_in=False)
    assert [stranger.sign_in("wrong password").status_code for _ in range(6)] == [401] * 5 + [429]
    assert owner.sign_in().status_code == 303  # from the very same address


def test_a_known_browser_has_five_attempts_of_its_own(app: Starlette, open_dashboard: Open) -> None:
    thief = open_dashboard(NOWHERE, app=app)
    thief.post("/logout", {"csrf_token": thief.token("/absent")})
    assert [thief.sign_in("wrong password").status_code for _ in range(6)] == [401] * 5 + [429]
    assert open_dashboard(NOWHERE, app=app, signed_in=False).sign_in().status_code == 303


def test_a_device_cookie_lets_nobody_in_and_is_not_made_by_others(app: Starlette, open_dashboard: Open) -> None:
    owner = open_dashboard(NOWHERE, app=app)
    cookie = owner.client.cookies["dashboard_device"]
    stranger = open_dashboard(NOWHERE, app=app, signed_in=False)
    stranger.client.cookies.set("dashboard_device", cookie)
    stranger.client.cookies.set("dashboard", cookie)
    assert stranger.get("/trades").status_code == 303
    sessions = Sessions("s" * 40)
    assert sessions.device(sessions.device_cookie())
    assert sessions.device(cookie) is None
    assert sessions.device(sessions.cookie(sessions.start("admin"))) is None


def test_a_device_cookie_is_forgotten_after_half_a_year() -> None:
    now = [1_000_000.0]
    sessions = Sessions("s" * 40, clock=lambda: now[0])
    cookie = sessions.device_cookie()
    now[0] += DEVICE_S
    assert sessions.device(cookie)
    now[0] += 1
    assert sessions.device(cookie) is None


def test_who_fails_without_end_leaves_an_attempt_a_minute_to_others() -> None:
    now = [0.0]
    limit = LoginLimit(clock=lambda: now[0])
    for minute in range(1, 4):
        taken = [limit.take(f"net{i % 3}", None).wait_s for i in range(30)]
        assert taken.count(0) == (5 if minute == 1 else 4), minute
        if minute > 1:
            assert limit.take(f"owner{minute}", None).wait_s == 0, minute
        now[0] = minute * 61


def test_all_of_the_account_is_never_more_than_five_a_minute() -> None:
    limit = LoginLimit(clock=lambda: 0.0)
    assert [limit.take(f"net{i}", None).wait_s for i in range(8)] == [0] * 5 + [60] * 3


def test_a_right_password_gives_its_attempt_back() -> None:
    limit = LoginLimit(clock=lambda: 0.0)
    for _ in range(20):
        attempt = limit.take("net", None)
        assert attempt.wait_s == 0
        limit.forgive(attempt)
        known = limit.take("net", "device")
        assert known.wait_s == 0
        limit.forgive(known)


def test_the_window_slides_and_forgets() -> None:
    now = [0.0]
    limit = AttemptLimit(60, keys=3, clock=lambda: now[0])
    assert (limit.take({"a": 2}), limit.take({"a": 2}), limit.take({"a": 2})) == (0, 0, 60)
    now[0] = 45
    assert (limit.take({"a": 2}), limit.wait_s({"a": 2})) == (15, 15)
    now[0] = 61
    assert limit.take({"a": 2}) == 0
    for i in range(100):
        limit.take({f"k{i}": 2})
    assert len(limit._times) <= 3


def test_any_number_of_clients_leaves_the_accounts_count_alone() -> None:
    limit = LoginLimit(clock=lambda: 0.0, keys=3)
    assert [limit.take("net", None).wait_s for _ in range(5)] == [0] * 5
    for i in range(100):
        limit.take(f"net{i}", None)
        limit.take(f"net{i}", f"device{i}")
    assert limit.take("owner", None).wait_s == 60


@pytest.mark.parametrize(
    ("behind_proxy", "header", "address"),
    [
        (False, "6.6.6.6", "9.9.9.9"),  # anybody can write this header
        (True, "6.6.6.6, 1.2.3.4", "1.2.3.4"),  # one hop is trusted: the last entry is what it saw
        (True, "1.2.3.4", "1.2.3.4"),
    ],
)
def test_the_client_address_is_believed_from_one_hop_only(behind_proxy: bool, header: str, address: str) -> None:
    scope = {
        "type": "http",
        "scheme": "http",
        "client": ("9.9.9.9", 1),
        "method": "GET",
        "path": "/",
        "headers": [(b"host", b"a"), (b"x-forwarded-for", header.encode()), (b"x-forwarded-proto", b"https")],
    }
    who = visitor(scope, behind_proxy=behind_proxy)
    assert who.address == address
    assert who.secure is behind_proxy


def test_a_line_of_the_clients_above_the_proxys_is_not_believed() -> None:
    scope = {
        "type": "http", "scheme": "http", "client": ("9.9.9.9", 1),
        "headers": [
            (b"host", b"a"), (b"x-forwarded-for", b"1.2.3.4"), (b"x-forwarded-proto", b"https"),
            (b"x-forwarded-for", b"5.6.7.8"), (b"x-forwarded-proto", b"http"),
        ],
    }  # fmt: skip
    who = visitor(scope, behind_proxy=True)
    assert (who.address, who.secure) == ("5.6.7.8", False)


def test_ipv4_on_an_ipv6_socket_is_not_all_one_client() -> None:
    def network(address: str) -> str:
        return visitor({"type": "http", "client": (address, 1), "headers": []}, behind_proxy=False).network

    assert network("::ffff:192.0.2.1") == "192.0.2.1" != network("::ffff:192.0.2.2")


def test_one_ipv6_subscriber_is_one_client() -> None:
    def network(address: str) -> str:
        return visitor({"type": "http", "client": (address, 1), "headers": []}, behind_proxy=False).network

    assert network("2001:db8::1") == network("2001:db8::ffff")
    assert network("2001:db8::1") != network("2001:db8:1::1")


def test_a_form_of_a_thousand_fields_is_refused_like_any_other(app: Starlette, open_dashboard: Open) -> None:
    stranger = open_dashboard(NOWHERE, app=app, signed_in=False)
    answer = stranger.post("/login", {f"f{i}": "x" for i in range(1000)})
    assert answer.status_code == 403
    assert "content-security-policy" in answer.headers


def test_a_large_body_is_refused(app: Starlette, open_dashboard: Open) -> None:
    stranger = open_dashboard(NOWHERE, app=app, signed_in=False)
    big = {"csrf_token": stranger.token(), "user": "x" * 70_000, "password": "y"}
    assert stranger.post("/login", big).status_code == 413

    def chunks() -> Any:
        for _ in range(9):
            yield b"x" * 8192

    streamed = stranger.client.post("/login", content=chunks(), headers={"origin": "http://127.0.0.1"})
    assert streamed.status_code == 413


def test_other_methods_are_not_answered(app: Starlette, open_dashboard: Open) -> None:
    answer = open_dashboard(NOWHERE, app=app).client.request("DELETE", "/trades")
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET, HEAD, POST")


# -- headers, errors, logs -------------------------------------------------------------------------------------------


def test_every_answer_has_the_security_headers(app: Starlette, open_dashboard: Open) -> None:
    someone = open_dashboard(NOWHERE, app=app)
    for path in ("/", "/healthz", "/absent", "/static/dashboard.css"):
        headers = someone.get(path).headers
        policy = headers["content-security-policy"]
        assert policy.startswith("default-src 'none'"), path
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert path.startswith("/static") or headers["cache-control"] == "no-store"


def test_pages_hold_nothing_that_the_policy_would_block(app: Starlette, open_dashboard: Open) -> None:
    someone = open_dashboard(NOWHERE, app=app)
    for path in ("/", "/login", "/absent"):
        text = someone.get(path).text
        assert not re.search(r"<style|\sstyle=|\son[a-z]+=|<script(?! src=)|javascript:", text), path


def test_a_defect_shows_no_trace_of_the_code(app: Starlette, open_dashboard: Open) -> None:
    async def broken(_request: Any) -> None:
        raise RuntimeError("the secret inside")

    app.router.routes.insert(0, Route("/broken", broken))
    answer = open_dashboard(NOWHERE, app=app).get("/broken")
    assert answer.status_code == 500
    assert "secret inside" not in answer.text
    assert "Traceback" not in answer.text
    assert "content-security-policy" in answer.headers


def test_the_access_log_has_no_query_and_no_password(
    app: Starlette, open_dashboard: Open, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    someone = open_dashboard(NOWHERE, app=app)
    someone.get("/trades?symbol=canary-in-the-query")
    lines = [vars(record) for record in caplog.records if record.name == "dashboard.access"]
    assert {"method", "path", "status", "duration_ms", "client"} <= lines[-1].keys()
    assert "canary" not in json.dumps(lines, default=str)
    assert PASSWORD not in json.dumps([vars(record) for record in caplog.records], default=str)


# -- settings --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("password", "code", "text"),
    [
        (None, "DASH-001", "DASHBOARD_PASSWORD is not set"),
        ("", "DASH-001", "DASHBOARD_PASSWORD is not set"),
        ("elevenchars", "DASH-002", "DASHBOARD_PASSWORD has 11 characters; at least 12 are needed"),
        ("changethis-please", "DASH-003", "DASHBOARD_PASSWORD is an example that anybody can read"),
        ("Correct-Horse-Battery-Staple", "DASH-003", "DASHBOARD_PASSWORD is an example that anybody can read"),
        ("aaaaaaaaaaaaaaaa", "DASH-003", "DASHBOARD_PASSWORD is an example that anybody can read"),
    ],
)
def test_a_password_that_anybody_could_guess_does_not_start(password: str | None, code: str, text: str) -> None:
    settings = DashboardSettings()  # pyright: ignore[reportCallIssue]  all have defaults
    settings.dashboard_password = None if password is None else SecretStr(password)
    with pytest.raises(SwitchyardError) as caught:
        create_app(settings, DatabaseManager(NOWHERE, service="dashboard"))
    assert (caught.value.code, caught.value.what, caught.value.exit_code) == (code, text, 78)
    assert not password or password not in " ".join(caught.value.lines())


def test_a_guessable_session_secret_does_not_start(settings: DashboardSettings) -> None:
    settings.dashboard_session_secret = SecretStr("short")
    with pytest.raises(SwitchyardError) as caught:
        create_app(settings, DatabaseManager(NOWHERE, service="dashboard"))
    assert (caught.value.code, caught.value.exit_code) == ("DASH-004", 78)


def test_the_password_is_forgotten_once_it_is_hashed(settings: DashboardSettings) -> None:
    assert take_password(settings) == PASSWORD
    assert settings.dashboard_password is None


@pytest.mark.parametrize(
    "changed", [{"dashboard_password": SecretStr("another-quiet-otter-7")}, {"dashboard_user": "ada"}]
)
def test_another_name_or_password_ends_every_session(
    settings: DashboardSettings, open_dashboard: Open, changed: dict[str, Any]
) -> None:
    apps = [
        create_app(settings.model_copy(update=update), DatabaseManager(NOWHERE, service="dashboard"))
        for update in ({}, changed)
    ]
    before = open_dashboard(NOWHERE, app=apps[0])
    after = open_dashboard(NOWHERE, app=apps[1], signed_in=False)
    after.client.cookies = before.client.cookies
    assert (before.get("/trades").status_code, after.get("/trades").status_code) == (503, 303)


def test_a_session_survives_a_restart_with_the_same_secret(
    database: ThrowawayDatabase, settings: DashboardSettings, open_dashboard: Open
) -> None:
    before = open_dashboard(database.url("dashboard"))
    after = open_dashboard(database.url("dashboard"), signed_in=False)
    after.client.cookies.set("dashboard", before.client.cookies["dashboard"])
    assert after.get("/").status_code == 200
