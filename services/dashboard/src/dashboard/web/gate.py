"""The one door: nothing behind it is reached without a session, and every answer leaves with the same headers.

It denies by default: a new route needs no decoration to be protected, and PUBLIC is the whole list of exceptions.
"""

from __future__ import annotations

import contextlib
import ipaddress
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import parse_qs, quote, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dashboard.web.hosts import Hosts, host_name, is_confidential
from dashboard.web.limits import AttemptLimit
from dashboard.web.sessions import DEVICE_S, Session, Sessions
from dashboard.web.tokens import ApiToken

PUBLIC = frozenset({"/healthz", "/readyz", "/login", "/static/dashboard.css", "/static/favicon.svg"})
"""The paths that answer without a login: the two probes, the login page, and the two files that it shows."""

MAX_BODY_BYTES = 64 * 1024
MAX_HEAD_BYTES = 32 * 1024
MAX_FIELDS = 50
LOGIN_COOKIE = "login"
DEVICE_COOKIE = "device"
API = "/api/"
PROBES = frozenset({"/healthz", "/readyz"})
API_PER_MINUTE = 600
BAD_TOKENS_PER_MINUTE = 10
LIVE = "/live"
FRAGMENT_HEADER = "x-dashboard-refresh"
POLICY = (
    "default-src 'none'; object-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
SECURITY_HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
}

logger = logging.getLogger(__name__)
access_log = logging.getLogger("dashboard.access")
Refuse = Callable[[Request, int, str, str], Response]


@dataclass(frozen=True)
class Visitor:
    """Who asks, as far as it can be believed.

    ``address`` is the client's; ``secure`` whether the browser spoke https; ``origin`` what its own pages' Origin is;
    ``cookie`` the name of the session cookie here; ``confidential`` whether nobody on the way can read along.
    """

    address: str
    secure: bool
    origin: str
    cookie: str
    confidential: bool

    @property
    def network(self) -> str:
        """Return what the login limit counts: the address, or the /64 that one subscriber has in IPv6."""
        try:
            address = ipaddress.ip_address(self.address)
        except ValueError:
            return self.address
        # a socket that listens on both families shows IPv4 as ::ffff:a.b.c.d, of which one /64 holds all
        address = getattr(address, "ipv4_mapped", None) or address
        return str(ipaddress.ip_network((address, 64), strict=False)) if address.version == 6 else str(address)

    def login_cookie(self) -> str:
        """Return the name of the cookie that ties a login form to this browser."""
        return f"{self.cookie}_{LOGIN_COOKIE}"

    def device_cookie(self) -> str:
        """Return the name of the cookie that tells a browser that has signed in before."""
        return f"{self.cookie}_{DEVICE_COOKIE}"


def visitor(scope: Scope, *, behind_proxy: bool) -> Visitor:
    """Return who asks.

    Args:
        scope: of the request.
        behind_proxy: exactly one proxy that we trust stands before us (Railway's edge): the last address of
            X-Forwarded-For is the one that it saw, whatever a client wrote before it. Without such a proxy these
            headers are anybody's words, and not read.
    """
    headers = Headers(scope=scope)
    address = scope["client"][0] if scope.get("client") else "unknown"
    secure = scope.get("scheme") == "https"
    if behind_proxy:
        address = _of_the_proxy(headers, "x-forwarded-for") or address
        secure = _of_the_proxy(headers, "x-forwarded-proto") == "https"
    host = headers.get("host", "")
    origin = f"{'https' if secure else 'http'}://{host}"
    # on plain http a cookie belongs to the host on all its ports: two checkouts must not sign each other out
    port = host.rsplit(":", 1)[-1] if ":" in host and not host.endswith("]") else ""
    cookie = "__Host-dashboard" if secure else f"dashboard_{port}" if port.isascii() and port.isdigit() else "dashboard"
    return Visitor(address[:64], secure, origin, cookie, secure or is_confidential(host_name(host)))


def _of_the_proxy(headers: Headers, name: str) -> str:
    """Return what the proxy wrote: the last word of the last such line. HAProxy adds a line below the client's own."""
    return ",".join(headers.getlist(name)).rsplit(",", 1)[-1].strip()


def same_origin(headers: Headers, own: str) -> bool:
    """Return whether a request that changes something comes from our own page.

    Browsers send ``Origin: null`` from pages whose referrer policy is no-referrer, as ours is; Sec-Fetch-Site, which no
    script can set, tells then.
    """
    origin = headers.get("origin")
    if origin in (None, "null"):
        return headers.get("sec-fetch-site") == "same-origin"
    return origin == own


def safe_target(target: str | None) -> str:
    """Return where to go after login: a path of ours, else the overview."""
    if not target or not target.startswith("/") or target.startswith(("//", "/\\")) or any(ord(c) < 33 for c in target):
        return "/"
    return target if urlsplit(target).path not in PUBLIC else "/"


class Gate:
    """ASGI middleware, outermost: access log, Host, body limit, session or token, Origin and CSRF check, headers.

    Args:
        app: what is behind the door.
        sessions: who is in.
        hosts: under which names we answer.
        token: what scripts may show instead of a session, for the API alone; None: nothing.
        behind_proxy: see ``visitor``.
        refuse: makes an error page, or the API's error: request, status, title, sentence.
    """

    def __init__(
        self, app: ASGIApp, *, sessions: Sessions, hosts: Hosts, token: ApiToken | None, behind_proxy: bool,
        refuse: Refuse,
    ) -> None:  # fmt: skip
        self._app = app
        self._sessions = sessions
        self._hosts = hosts
        self._token = token
        self._behind_proxy = behind_proxy
        self._refuse = refuse
        self._limit = AttemptLimit()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":  # no websockets here
            await send({"type": "websocket.close", "code": 1008})
            return
        started = time.perf_counter()
        who = visitor(scope, behind_proxy=self._behind_proxy)
        status = 500

        async def send_on(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                _add_headers(MutableHeaders(scope=message), secure=who.secure)
            await send(message)

        try:
            await self._admit(scope, receive, send_on, who)
        finally:
            # the path without its query: no filter, and nothing that somebody pasted there, gets into a log
            access_log.info(
                "request",
                extra={
                    "method": scope["method"],
                    "path": scope["path"],
                    "status": status,
                    "duration_ms": round((time.perf_counter() - started) * 1000, 1),
                    "client": who.address,
                },
            )

    async def _admit(self, scope: Scope, receive: Receive, send: Send, who: Visitor) -> None:
        request = Request(scope, receive)
        session = self._sessions.read(request.cookies.get(who.cookie))
        scope.setdefault("state", {}).update(visitor=who, session=session)
        answer = self._misdirected(request)
        if answer is None and scope["path"].startswith(API):
            answer = self._unknown_caller(request, who, session)
        elif answer is None and session is None and scope["path"] not in PUBLIC:
            answer = self._unknown(request)
        if answer is None and scope["method"] == "POST":
            try:
                body = await _body(request)
            except ClientDisconnect:  # nobody is left to answer
                return
            if body is None:
                answer = self._refuse(
                    request, 413, "Too large", f"A request may have at most {MAX_BODY_BYTES // 1024} KiB."
                )
                answer.headers["connection"] = "close"
            else:
                answer = self._forged(request, body, who, session)
                receive = _replay(body)
        if answer is not None:
            await answer(scope, receive, send)
            return
        await self._behind(request, scope, receive, self._renewing(send, request, who, session))

    def _misdirected(self, request: Request) -> Response | None:
        """Return the refusal of a request that is not for us, or not one that two readers read alike; else None."""
        headers = request.headers
        if "transfer-encoding" in headers and "content-length" in headers:  # a proxy may have believed the other one
            answer = self._refuse(request, 400, "Refused", "A request has one length, not two.")
            answer.headers["connection"] = "close"
            return answer
        if sum(len(name) + len(value) for name, value in headers.raw) + len(request.url.query) > MAX_HEAD_BYTES:
            answer = self._refuse(request, 413, "Too large", f"A request's head may have {MAX_HEAD_BYTES // 1024} KiB.")
            answer.headers["connection"] = "close"
            return answer
        # supervisors ask the probes under whatever name they know; they tell nothing that is not anybody's
        if request.url.path not in PROBES and not self._hosts.allow(headers.get("host", "")):
            return self._refuse(
                request,
                421,
                "Not this host",
                "This dashboard does not answer under this name. DASHBOARD_HOSTS lists the names that it has "
                "beside 127.0.0.1 and localhost.",
            )
        if request.method not in {"GET", "HEAD", "POST"}:
            answer = self._refuse(request, 405, "Not allowed", f"{request.method[:20]} is not answered here.")
            answer.headers["allow"] = "GET, HEAD, POST"
            return answer
        return None

    async def _behind(self, request: Request, scope: Scope, receive: Receive, send: Send) -> None:
        """Ask the application; a defect in it is logged, and answered without a word about the code."""
        started = False

        async def send_on(message: Message) -> None:
            nonlocal started
            started = started or message["type"] == "http.response.start"
            await send(message)

        try:
            await self._app(scope, receive, send_on)
        except Exception:
            logger.exception("a request failed", extra={"method": request.method, "path": request.url.path})
            if started:
                raise
            sentence = "It is written in the dashboard's log. The other pages are not touched by it."
            await self._refuse(request, 500, "An error in the dashboard", sentence)(scope, receive, send)

    def _unknown(self, request: Request) -> Response:
        """Send a person to the login, and tell a script 401."""
        if FRAGMENT_HEADER in request.headers or request.method == "POST" or request.url.path == LIVE:
            return PlainTextResponse("sign in first\n", 401)
        target = request.url.path + (f"?{request.url.query}" if request.url.query else "")
        target = safe_target(target)
        return RedirectResponse("/login" if target == "/" else f"/login?next={quote(target, safe='')}", 303)

    def _unknown_caller(self, request: Request, who: Visitor, session: Session | None) -> Response | None:
        """Return the refusal of an API call by nobody, by somebody in clear text, or by somebody in a hurry; or None.

        Where a token is shown it decides, whatever cookie is there.
        """
        shown = request.headers.get("authorization")
        if not who.confidential:
            return self._refuse(request, 403, "Not without https", "The API answers over https and on this machine.")
        caller = session.id if session else "token"
        if shown is not None:
            if self._token is None or not self._token.matches(shown):
                # the right one is never kept waiting: it cannot be guessed, and a stranger may share its address
                wait_s = self._limit.take({f"token:{who.network}": BAD_TOKENS_PER_MINUTE})
                if wait_s:
                    return self._too_many(request, wait_s)
                logger.warning("API token refused", extra={"client": who.address})
                return self._without_login(request)
            caller = "token"
        elif session is None:
            return self._without_login(request)
        wait_s = self._limit.take({f"api:{caller}": API_PER_MINUTE})
        return self._too_many(request, wait_s) if wait_s else None

    def _without_login(self, request: Request) -> Response:
        answer = self._refuse(
            request, 401, "Sign in first", "Show a session's cookie, or DASHBOARD_API_TOKEN as a bearer token."
        )
        answer.headers["www-authenticate"] = 'Bearer realm="switchyard"'
        return answer

    def _too_many(self, request: Request, wait_s: int) -> Response:
        answer = self._refuse(request, 429, "Too many requests", f"Wait {wait_s} seconds and try again.")
        answer.headers["retry-after"] = str(wait_s)
        return answer

    def _forged(self, request: Request, body: bytes, who: Visitor, session: Session | None) -> Response | None:
        """Return the refusal of a request that did not come from a form of ours, else None."""
        if not same_origin(request.headers, who.origin):
            return self._refuse(
                request,
                403,
                "Refused",
                "The request did not come from this site's own page. Open the dashboard at https or 127.0.0.1.",
            )
        kind = request.headers.get("content-type", "").split(";")[0].strip().lower()
        fields: dict[str, list[str]] = {}
        if kind == "application/x-www-form-urlencoded":
            with contextlib.suppress(ValueError):  # more fields than any form of ours has: then there is no token
                fields = parse_qs(body.decode("utf-8", "replace"), max_num_fields=MAX_FIELDS)
        token = request.headers.get("x-csrf-token") or (fields.get("csrf_token") or [""])[0]
        owner = session.id if session else ""
        if session is None or request.url.path == "/login":
            owner = request.cookies.get(who.login_cookie(), "")
        if not owner or not self._sessions.csrf_matches(owner, token):
            return self._refuse(
                request,
                403,
                "Refused",
                "The form is too old, or not from this page. Go back, reload and send it again.",
            )
        return None

    def _renewing(self, send: Send, request: Request, who: Visitor, session: Session | None) -> Send:
        """Write the cookie again while somebody is there: a page that refreshes itself does not count as somebody."""
        by_itself = request.headers.get(FRAGMENT_HEADER) == "idle" or request.query_params.get("refresh") == "auto"
        renewed = self._sessions.renewed(session) if session and not by_itself else None
        if renewed is None:
            return send
        cookie = Response()
        set_session_cookie(cookie, who, self._sessions.cookie(renewed))

        async def send_on(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                # sign-out and sign-in write the cookie themselves
                if not any(value.startswith(f"{who.cookie}=") for value in headers.getlist("set-cookie")):
                    headers.append("set-cookie", cookie.headers["set-cookie"])
            await send(message)

        return send_on


def set_session_cookie(response: Response, who: Visitor, value: str) -> None:
    """Write the session cookie: for this host alone, unreadable for scripts, never sent from another site."""
    response.set_cookie(who.cookie, value, path="/", secure=who.secure, httponly=True, samesite="strict")


def set_device_cookie(response: Response, who: Visitor, value: str) -> None:
    """Write the cookie that tells this browser apart from strangers at a later login; it lets nobody in."""
    response.set_cookie(
        who.device_cookie(), value, path="/", secure=who.secure, httponly=True, samesite="strict", max_age=DEVICE_S
    )


def delete_cookie(response: Response, who: Visitor, name: str) -> None:
    """Tell the browser to forget a cookie."""
    response.delete_cookie(name, path="/", secure=who.secure, httponly=True, samesite="strict")


def _add_headers(headers: MutableHeaders, *, secure: bool) -> None:
    for name, value in SECURITY_HEADERS.items():
        headers.setdefault(name, value)
    headers.setdefault("cache-control", "no-store")
    if secure:
        headers.setdefault("strict-transport-security", "max-age=31536000; includeSubDomains")


async def _body(request: Request) -> bytes | None:
    """Return the body, or None if it is larger than allowed: by its own word, or by what arrives."""
    length = request.headers.get("content-length", "0")
    if not length.isascii() or not length.isdigit() or int(length) > MAX_BODY_BYTES:
        return None
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY_BYTES:
            return None
    return bytes(body)


def _replay(body: bytes) -> Receive:
    """Hand a body that was read here on to the route."""
    sent = False

    async def receive() -> Message:
        nonlocal sent
        if sent:
            return {"type": "http.disconnect"}
        sent = True
        return {"type": "http.request", "body": body, "more_body": False}

    return receive
