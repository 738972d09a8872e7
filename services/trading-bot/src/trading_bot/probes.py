"""``/healthz`` and ``/readyz``: they answer before, during and after any trouble with the database."""

from __future__ import annotations

import contextlib
import json
import logging
import socket
import threading
import time
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tradedb.errors import SwitchyardError
from tradedb.manager import DatabaseManager
from tradedb.reports import Health

from trading_bot.feeds import Feed
from trading_bot.spool import SpoolState
from trading_bot.status import Snapshot, Status

SERVICE = "trading-bot"
_HEALTH_KEPT_S = 1.0  # probes from several sides cost one question to the database
_REQUEST_TIMEOUT_S = 10.0
MOST_LINES = 32  # connections at once; each has a thread and a file, and a silent client must not use those up

log = logging.getLogger(__name__)


class Probes:
    """Answers the two questions about this process."""

    def __init__(self, manager: DatabaseManager, status: Status, *, feed: Feed) -> None:
        self._manager = manager
        self._status = status
        self._feed = feed
        self._lock = threading.Lock()
        self._health: Health | None = None
        self._asked_at = 0.0
        self._system_identifier: str | None = None

    def alive(self) -> tuple[HTTPStatus, dict[str, Any]]:
        """Answer whether the process lives; a loop that no longer comes round is not living."""
        now = self._status.get()
        body: dict[str, Any] = {
            "status": "alive",
            "service": SERVICE,
            "role": now.role,
            "heartbeat_age_s": round(now.heartbeat_age_s, 1),
        }
        if now.loop_alive:
            return HTTPStatus.OK, body
        body |= {"status": "dead", "reason": f"the loop last came round {now.heartbeat_age_s:.0f} s ago"}
        return HTTPStatus.SERVICE_UNAVAILABLE, body

    def ready(self) -> tuple[HTTPStatus, dict[str, Any]]:
        """Answer whether the database answers, its schema is at head, and the loop leads or stands by.

        A bot that opens nothing (``halted``) is degraded and ready all the same: a restart would not help it.
        """
        health, identifier = self._database()
        now = self._status.get()
        reason = _why_not(health, now)
        body = {
            "status": "not ready" if reason else "degraded" if now.halted else "ready",
            "service": SERVICE,
            "role": now.role,
            "epoch": now.epoch,
            "leader": now.leader,
            "feed": self._feed.name,
            "venue": self._feed.venue,
            "simulated": self._feed.simulated,
            "symbol": self._feed.symbol,
            "last_candle": now.last_candle.isoformat() if now.last_candle else None,
            "halted": list(now.halted),
            "spool": _spool(now.spool),
            "session_id": now.session_id,
            "revision": health.revision,
            "head": health.head,
            "system_identifier": identifier,
        }
        if reason:
            body["reason"] = reason
        return (HTTPStatus.SERVICE_UNAVAILABLE if reason else HTTPStatus.OK), body

    def _database(self) -> tuple[Health, str | None]:
        """Return the database's health, at most _HEALTH_KEPT_S old, and which database it is."""
        with self._lock:
            health = self._health
            if health is None or time.monotonic() - self._asked_at > _HEALTH_KEPT_S:
                health = self._health = self._manager.health()
                self._asked_at = time.monotonic()
                if not health.ok:
                    self._system_identifier = None  # it may be another one when it comes back
            if health.ok and self._system_identifier is None:
                try:
                    self._system_identifier = self._manager.database_info().system_identifier
                except SwitchyardError as error:
                    log.warning("database_identity_unknown", extra={"why": str(error)})
            return health, self._system_identifier


def _spool(state: SpoolState | None) -> dict[str, Any] | None:
    """How full the spool is; None before it is open. Only what waits for the database is bounded by the limit."""
    if state is None:
        return None
    age_s = state.oldest_unacknowledged_s
    return {
        "entries": state.entries,
        "unacknowledged": state.unacknowledged,
        "waiting_bytes": state.bytes,
        "limit_bytes": state.limit_bytes,
        "disk_bytes": state.disk_bytes,
        "oldest_s": None if age_s is None else round(age_s, 1),
    }


def _why_not(health: Health, now: Snapshot) -> str | None:
    """Why the bot is not ready; None when it is."""
    if not health.ok:
        return health.reason or "the database does not answer"
    if not now.loop_alive:
        return f"the loop last came round {now.heartbeat_age_s:.0f} s ago"
    if now.role not in ("leader", "standby"):
        return now.reason or now.role
    return None


class _Handler(BaseHTTPRequestHandler):
    """Two paths, JSON only."""

    server_version = SERVICE
    sys_version = ""
    timeout = _REQUEST_TIMEOUT_S  # seconds that a silent client may hold a thread
    probes: Probes

    def do_GET(self) -> None:
        """Answer /healthz, /readyz, or 404."""
        path = self.path.partition("?")[0]
        answer = {"/healthz": self.probes.alive, "/readyz": self.probes.ready}.get(path)
        status, body = answer() if answer else (HTTPStatus.NOT_FOUND, {"error": "only /healthz and /readyz are here"})
        content = json.dumps(body).encode() + b"\n"
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Cache-Control", "no-store")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    do_HEAD = do_GET

    def log_message(self, format: str, *args: object) -> None:
        """Probes come every few seconds: only at debug level."""
        log.debug("http_request", extra={"line": format % args})


class _Server(ThreadingHTTPServer):
    """One connection too many hangs up on the oldest: who holds them open holds them against nobody."""

    daemon_threads = True

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._lines: dict[socket.socket, None] = {}  # oldest first
        self._lines_lock = threading.Lock()
        super().__init__(*args, **kwargs)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Answer in a thread of its own."""
        with self._lines_lock:
            self._lines[request] = None
            if len(self._lines) > MOST_LINES:
                oldest = next(iter(self._lines))
                del self._lines[oldest]
                with contextlib.suppress(OSError):  # its thread wakes up, finds the end, and closes it
                    oldest.shutdown(socket.SHUT_RDWR)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        """End a connection that was answered, or hung up on."""
        with self._lines_lock:
            self._lines.pop(request, None)
        super().shutdown_request(request)

    def server_bind(self) -> None:
        """Listen on IPv4 too when the address is the IPv6 one for "everything"."""
        if self.address_family == socket.AF_INET6:
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        super().server_bind()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is no trouble of ours."""
        log.debug("http_error", exc_info=True)


def serve(probes: Probes, *, host: str, port: int) -> _Server:
    """Start answering in a thread of its own and return the server; ``server_address[1]`` is the port.

    Raises: SwitchyardError BOT-001, the address cannot be listened on; nothing else was started.
    """
    handler = type("Handler", (_Handler,), {"probes": probes})
    server_class = type("Server", (_Server,), {"address_family": socket.AF_INET6 if ":" in host else socket.AF_INET})
    try:
        server = server_class((host, port), handler)
    except OSError as error:
        raise SwitchyardError(
            "BOT-001",
            f"cannot listen on {host} port {port}: {error.strerror or error}",
            why="Another process has the port, or HOST is no address of this machine. The bot did not start.",
            fix="set PORT (or HOST) to a free one, for example PORT=0 trading-bot run",
        ) from error
    threading.Thread(target=server.serve_forever, name="http", daemon=True).start()
    return server
