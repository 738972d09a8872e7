"""The application: routes, the gate before them, and what keeps the last good data warm."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import Scope
from tradedb import DatabaseManager

from dashboard import memory
from dashboard.reading.snapshots import Snapshots
from dashboard.settings import (
    DashboardSettings,
    bound_secret,
    host_names,
    session_secret,
    take_api_token,
    take_password,
)
from dashboard.thresholds import Thresholds
from dashboard.web.api.service import Api
from dashboard.web.events import Events
from dashboard.web.export import Export
from dashboard.web.gate import API, LIVE, Gate
from dashboard.web.hosts import Hosts
from dashboard.web.limits import LoginLimit
from dashboard.web.live import Live
from dashboard.web.login import Login
from dashboard.web.pages import Pages
from dashboard.web.passwords import Account
from dashboard.web.probes import Probes
from dashboard.web.problems import problem
from dashboard.web.render import STATIC, Renderer
from dashboard.web.sessions import Sessions
from dashboard.web.tokens import ApiToken

WARM_EVERY_S = 10.0
SETTLE_S = 2.0
logger = logging.getLogger(__name__)

TITLES = {404: "Not found", 405: "Not allowed"}
SENTENCES = {404: "There is no such page here.", 405: "This address does not answer that."}


class _Assets(StaticFiles):
    """Files of ours, addressed by their content: they may be kept for ever."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        """Return the file, with how long it may be kept."""
        response = await super().get_response(path, scope)
        addressed = b"v=" in scope.get("query_string", b"")
        response.headers["cache-control"] = "public, max-age=31536000, immutable" if addressed else "no-cache"
        return response


def create_app(
    settings: DashboardSettings,
    manager: DatabaseManager,
    *,
    behind_proxy: bool = False,
    snapshots: Snapshots | None = None,
    warm: bool = True,
) -> Starlette:
    """Return the application. Nothing is connected before its lifespan begins.

    Args:
        settings: the password in them is hashed and forgotten.
        manager: the way to the database; disposed of at the end.
        behind_proxy: exactly one trusted proxy stands before us (Railway's edge).
        snapshots: how long pages wait and answers are kept; without it the defaults.
        warm: read the main pages now and then though nobody looks.

    Raises: SwitchyardError, DASH-001 to DASH-006.
    """
    hosts = Hosts(host_names(settings))
    token = take_api_token(settings)
    password = take_password(settings)
    account = Account(settings.dashboard_user, password)
    sessions = Sessions(bound_secret(session_secret(settings), settings.dashboard_user, password))
    del password
    render = Renderer(sessions, refresh_s=settings.dashboard_refresh_s)
    snapshots = snapshots or Snapshots()
    pages = Pages(
        manager,
        snapshots,
        render,
        heartbeat_warn_s=settings.dashboard_heartbeat_warn_s,
        limits=Thresholds.of(settings),
    )
    events = Events(pages, render)
    probes = Probes(manager)
    login = Login(account, sessions, LoginLimit(), render)

    @contextlib.asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        warming = asyncio.create_task(_keep_warm(pages)) if warm else None
        yield
        live.close()
        if warming is not None:
            warming.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await warming
        await asyncio.gather(snapshots.settle(SETTLE_S), probes.snapshots.settle(SETTLE_S))
        manager.dispose()

    def refuse(request: Request, status: int, title: str, sentence: str) -> Response:
        if request.url.path.startswith(API):
            return problem(status, title, sentence)
        return render.message(request, status, title, sentence)

    export = Export(manager, refuse)

    async def on_http_error(request: Request, error: Exception) -> Response:
        status = error.status_code if isinstance(error, HTTPException) else 500
        answer = refuse(request, status, TITLES.get(status, "Refused"), SENTENCES.get(status, "That did not work."))
        if isinstance(error, HTTPException) and error.headers:
            answer.headers.update(error.headers)
        return answer

    shown = [
        Route("/", pages.overview),
        Route("/trades", pages.trades),
        Route("/trades/{trade_id}", pages.trade),
        Route("/strategies", pages.strategies),
        Route("/events", events.show),
        Route("/database", pages.database),
    ]
    live = Live(sessions, shown, every_s=settings.dashboard_refresh_s)
    app = Starlette(
        routes=[
            *shown,
            Route("/healthz", probes.alive),
            Route("/readyz", probes.ready),
            Route("/login", login.show, methods=["GET"]),
            Route("/login", login.sign_in, methods=["POST"]),
            Route("/logout", login.sign_out, methods=["POST"]),
            Route("/trades.csv", export.trades),
            Route(LIVE, live.stream),
            Route("/present", live.present),
            *Api(pages, export).routes(),
            Mount("/static", _Assets(directory=STATIC)),
        ],
        middleware=[
            Middleware(
                Gate,
                sessions=sessions,
                hosts=hosts,
                token=ApiToken(token) if token else None,
                behind_proxy=behind_proxy,
                refuse=refuse,
            )
        ],
        exception_handlers={HTTPException: on_http_error},
        lifespan=lifespan,
    )
    app.state.live = live
    return app


async def _keep_warm(pages: Pages) -> None:
    """Read the main pages now and then, so that their last good data are young when the database goes."""
    while True:
        try:
            await pages.warm()
            memory.give_back()
        except Exception:
            logger.exception("keeping the pages warm failed")
        await asyncio.sleep(WARM_EVERY_S)
