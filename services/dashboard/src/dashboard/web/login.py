"""Signing in and out."""

from __future__ import annotations

import logging
import secrets

from anyio import to_thread
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from dashboard.web.gate import Visitor, delete_cookie, safe_target, set_device_cookie, set_session_cookie
from dashboard.web.limits import LoginLimit
from dashboard.web.passwords import Account
from dashboard.web.render import Renderer
from dashboard.web.sessions import Session, Sessions

logger = logging.getLogger(__name__)


class Login:
    """The login's two routes.

    Args:
        account: who may come in.
        sessions: who is in.
        limit: attempts per account, client and known browser.
        render: makes the pages.
    """

    def __init__(self, account: Account, sessions: Sessions, limit: LoginLimit, render: Renderer) -> None:
        self._account = account
        self._sessions = sessions
        self._limit = limit
        self._render = render

    async def show(self, request: Request) -> Response:
        """GET /login: the form, or the way back for somebody who is signed in."""
        if refused := self._in_clear(request):
            return refused
        if request.state.session is not None:
            return RedirectResponse(safe_target(request.query_params.get("next")), 303)
        note = "You are signed out." if "signed-out" in request.query_params else ""
        return self._form(request, target=request.query_params.get("next"), note=note)

    async def sign_in(self, request: Request) -> Response:
        """POST /login: a new session under a new id, or the form again. The gate has checked Origin and token."""
        if refused := self._in_clear(request):
            return refused
        form = await request.form()
        user, password = (str(form.get(name, "")) for name in ("user", "password"))
        target = safe_target(str(form.get("next", "")))
        who: Visitor = request.state.visitor
        attempt = self._limit.take(who.network, self._sessions.device(request.cookies.get(who.device_cookie())))
        wait_s = attempt.wait_s
        if wait_s:
            logger.warning("login refused: too many attempts", extra={"client": who.address})
            refused = self._form(
                request, target=target, status=429, error=f"Too many attempts. Wait {wait_s} seconds and try again."
            )
            refused.headers["retry-after"] = str(wait_s)
            return refused
        if not await to_thread.run_sync(self._account.verify, user.strip(), password):
            logger.warning("login failed", extra={"client": who.address})
            return self._form(request, target=target, status=401, error="The name or the password is wrong.")
        self._limit.forgive(attempt)
        before: Session | None = request.state.session
        if before is not None:
            self._sessions.revoke(before)
        session = self._sessions.start(self._account.user)
        logger.info("signed in", extra={"client": who.address, "user": session.user})
        answer = RedirectResponse(target, 303)
        set_session_cookie(answer, who, self._sessions.cookie(session))
        set_device_cookie(answer, who, self._sessions.device_cookie())
        delete_cookie(answer, who, who.login_cookie())
        return answer

    async def sign_out(self, request: Request) -> Response:
        """POST /logout: the session is refused from now on, wherever its cookie is."""
        session: Session = request.state.session
        who: Visitor = request.state.visitor
        self._sessions.revoke(session)
        logger.info("signed out", extra={"client": who.address, "user": session.user})
        answer = RedirectResponse("/login?signed-out", 303)
        delete_cookie(answer, who, who.cookie)
        return answer

    def _in_clear(self, request: Request) -> Response | None:
        """Return the refusal where a password would cross a network in clear text, else None."""
        who: Visitor = request.state.visitor
        if who.confidential:
            return None
        return self._render.message(
            request,
            403,
            "Not without https",
            "Over plain http the password could be read on its way here. Open the dashboard at its https address, "
            "or at 127.0.0.1 on the machine that it runs on.",
        )

    def _form(
        self, request: Request, *, target: str | None, status: int = 200, error: str = "", note: str = ""
    ) -> Response:
        """The form, tied to this browser by a cookie of its own: nobody can sign somebody else in."""
        who: Visitor = request.state.visitor
        known = request.cookies.get(who.login_cookie(), "")
        nonce = known if 20 <= len(known) <= 64 else secrets.token_urlsafe(24)
        answer = self._render.page(
            request, "login.html", status, target=safe_target(target), error=error, note=note,
            login_token=self._sessions.csrf_token(nonce),
        )  # fmt: skip
        answer.set_cookie(
            who.login_cookie(), nonce, path="/", secure=who.secure, httponly=True, samesite="strict", max_age=3600
        )
        return answer
