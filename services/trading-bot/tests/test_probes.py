"""/healthz and /readyz tell the truth, also about a loop that is dead."""

from __future__ import annotations

import http.client
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest
from bot_harness import Clock, make_bot
from sqlalchemy import URL
from tradedb.errors import SwitchyardError
from tradedb.manager import DatabaseManager
from trading_bot.feeds.simulated import SimulatedFeed
from trading_bot.probes import MOST_LINES, Probes, serve
from trading_bot.status import Status


@pytest.fixture
def manager(new_url: Callable[[str], URL]) -> Iterator[DatabaseManager]:
    manager = DatabaseManager(new_url("sqlite"), service="trading-bot")
    yield manager
    manager.dispose()


def probes(manager: DatabaseManager, status: Status) -> Probes:
    return Probes(manager, status, feed=SimulatedFeed(seed=7, symbol="BTCUSDT", interval_s=2))


def test_a_leader_and_a_standby_are_ready_and_say_what_they_are(manager: DatabaseManager) -> None:
    status = Status()
    for role in ("leader", "standby"):
        status.set(role=role, reason=None, epoch=3 if role == "leader" else None)
        code, body = probes(manager, status).ready()
        assert (code, body["status"], body["role"]) == (HTTPStatus.OK, "ready", role)
        assert (body["feed"], body["venue"], body["symbol"]) == ("simulated", "SIMULATED", "BTCUSDT")
        assert (body["simulated"], body["halted"], body["spool"]) == (True, [], None)
        assert body["revision"] == body["head"]
        assert body["system_identifier"]
        assert "reason" not in body


def test_before_the_first_connection_it_is_alive_and_not_ready(manager: DatabaseManager) -> None:
    assert probes(manager, Status()).alive()[0] == HTTPStatus.OK
    code, body = probes(manager, Status()).ready()
    assert (code, body["status"]) == (HTTPStatus.SERVICE_UNAVAILABLE, "not ready")
    assert body["reason"] == "the first connection to the database has not been made yet"


def test_a_dead_loop_is_neither_alive_nor_ready(manager: DatabaseManager) -> None:
    status = Status()
    status.set(role="leader", reason=None, heartbeat_at=time.monotonic() - 61)
    code, body = probes(manager, status).alive()
    assert (code, body["status"]) == (HTTPStatus.SERVICE_UNAVAILABLE, "dead")
    assert body["reason"].startswith("the loop last came round 61 s ago")
    code, body = probes(manager, status).ready()
    assert (code, body["reason"]) == (HTTPStatus.SERVICE_UNAVAILABLE, "the loop last came round 61 s ago")


def test_a_loop_with_a_defect_has_no_heartbeat_and_one_that_waits_has(manager: DatabaseManager, tmp_path: Path) -> None:
    status = Status()
    bot = make_bot(manager, Clock(), tmp_path, status=status)
    status.set(heartbeat_at=0.0)

    def fails() -> float:
        raise error

    bot.step = fails
    error: Exception = ZeroDivisionError("a defect")
    bot._guarded_pass()
    assert status.get().heartbeat_at == 0.0
    assert status.get().reason == "unexpected ZeroDivisionError in the loop; see the log"
    error = SwitchyardError("DB-001", "nothing listens", why="", fix="")
    bot._guarded_pass()
    assert status.get().heartbeat_at > 0
    assert status.get().reason == "DB-001: nothing listens"


def test_a_database_that_is_away_is_said(tmp_path: Path) -> None:
    manager = DatabaseManager(URL.create("sqlite", database=str(tmp_path / "none.db")), service="trading-bot")
    status = Status()
    status.set(role="leader", reason=None)
    code, body = probes(manager, status).ready()
    assert (code, body["system_identifier"]) == (HTTPStatus.SERVICE_UNAVAILABLE, None)
    assert "there is no SQLite file" in body["reason"]
    manager.dispose()


def ask(port: int, method: str, path: str) -> tuple[int, Any, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request(method, path)
        response = connection.getresponse()
        return response.status, response.headers, response.read()
    finally:
        connection.close()


@pytest.mark.parametrize("host", ["127.0.0.1", "::"])
def test_over_http(manager: DatabaseManager, host: str) -> None:
    status = Status()
    status.set(role="standby", reason=None)
    server = serve(probes(manager, status), host=host, port=0)
    port = server.server_address[1]
    try:
        for path, code, word in (("/healthz", 200, "alive"), ("/readyz?x=1", 200, "ready")):
            found, headers, body = ask(port, "GET", path)
            assert (found, json.loads(body)["status"]) == (code, word)
            assert (headers["Content-Type"], headers["Cache-Control"]) == ("application/json", "no-store")
            assert ask(port, "HEAD", path)[2] == b""
        assert ask(port, "GET", "/anything")[0] == 404
        assert ask(port, "POST", "/healthz")[0] == 501
    finally:
        server.shutdown()
        server.server_close()


def test_silent_connections_without_end_keep_no_probe_out(manager: DatabaseManager) -> None:
    status = Status()
    status.set(role="standby", reason=None)
    server = serve(probes(manager, status), host="127.0.0.1", port=0)
    port = server.server_address[1]
    before = threading.active_count()
    lines: list[socket.socket] = []
    try:
        for _ in range(3 * MOST_LINES):
            lines.append(socket.create_connection(("127.0.0.1", port), 60))
            lines[-1].sendall(b"GET /healthz HTTP/1.1\r\n")
        assert ask(port, "GET", "/healthz")[0] == 200
        assert lines[0].recv(1) == b""  # hung up on, before its time
        deadline = time.monotonic() + 60
        while threading.active_count() > before + MOST_LINES and time.monotonic() < deadline:
            time.sleep(0.05)
        assert threading.active_count() <= before + MOST_LINES
    finally:
        for line in lines:
            line.close()
        server.shutdown()
        server.server_close()


def test_a_port_that_is_taken_is_an_error_that_says_so(manager: DatabaseManager) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(SwitchyardError) as caught:
            serve(probes(manager, Status()), host="127.0.0.1", port=port)
    assert (caught.value.code, caught.value.exit_code) == ("BOT-001", 1)
    assert caught.value.what == f"cannot listen on 127.0.0.1 port {port}: Address already in use"
