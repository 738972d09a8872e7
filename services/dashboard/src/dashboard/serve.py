"""The process: settings, log, server, and a quick end."""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import Callable
from types import FrameType

import uvicorn
from tradedb import DatabaseManager
from tradedb.config import DatabaseSettings, load_settings, on_railway
from tradedb.logs import configure_logging

from dashboard import memory
from dashboard.app import create_app
from dashboard.settings import DashboardSettings
from dashboard.web.protocol import PunctualProtocol

STOP_TIMEOUT_S = 5
STARTUP_FAILURE = 3  # as uvicorn's own command
logger = logging.getLogger(__name__)


class _Server(uvicorn.Server):
    """Ends the streams as soon as it is told to end: it would wait for them, and they do not end by themselves."""

    def __init__(self, config: uvicorn.Config, close_streams: Callable[[], None]) -> None:
        super().__init__(config)
        self._close_streams = close_streams

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to end."""
        self._close_streams()
        super().handle_exit(sig, frame)


def serve() -> None:
    """Serve until SIGTERM or SIGINT.

    Raises: SwitchyardError: CONFIG-…, DASH-…, with nothing started.
    """
    configure_logging("dashboard")
    memory.keep_little()
    settings = load_settings(DashboardSettings)
    manager = DatabaseManager.from_settings(load_settings(DatabaseSettings), service="dashboard")
    if settings.dashboard_session_secret is None:
        logger.warning("DASHBOARD_SESSION_SECRET is not set: a random one is used, so a restart signs everybody out")
    behind_proxy = on_railway() if settings.dashboard_behind_proxy is None else settings.dashboard_behind_proxy
    app = create_app(settings, manager, behind_proxy=behind_proxy)
    for name in ("DASHBOARD_PASSWORD", "DASHBOARD_API_TOKEN"):  # only their hashes are needed from here on
        os.environ.pop(name, None)
    logger.info("starting", extra={"host": settings.host, "port": settings.port, "database": manager.url_redacted})
    # uvicorn raises the signal that ended it once more when it is done: an ordered end is exit code 0
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit(0))
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        log_config=None,
        access_log=False,  # the gate writes its own, without queries
        proxy_headers=False,  # the gate reads them, and only where a proxy is known to stand before us
        server_header=False,
        date_header=True,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=STOP_TIMEOUT_S,
        ws="none",
        http=PunctualProtocol,
        limit_concurrency=200,
        h11_max_incomplete_event_size=32 * 1024,
    )
    server = _Server(config, app.state.live.close)
    memory.set_apart()
    server.run()
    if not server.started:
        sys.exit(STARTUP_FAILURE)
