"""A stranger who opens connections and says nothing, or not all of it, does not keep the others out."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import AsyncIterator, Iterator

import pytest
import uvicorn
from dashboard.web.protocol import PunctualProtocol
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route


class _Crowded(PunctualProtocol):
    most_waiting = 5
    arrives_within_s = 600.0


class _Hasty(PunctualProtocol):
    arrives_within_s = 1.5
    taken_within_s = 1.5


async def _large(_request: Request) -> Response:
    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b"x" * 65536
            await asyncio.sleep(
                0.001
            )  # after the hang-up nothing else would let the server end: it took a core for good

    return StreamingResponse(endless())


async def _echo(request: Request) -> Response:
    return PlainTextResponse(await request.body())


@pytest.fixture
def server(request: pytest.FixtureRequest) -> Iterator[uvicorn.Server]:
    app = Starlette(routes=[Route("/", _echo, methods=["GET", "POST"]), Route("/large", _large)])
    protocol = getattr(request, "param", _Hasty)
    keep_s = 600 if protocol is _Crowded else 6
    config = uvicorn.Config(
        app, port=0, http=protocol, log_config=None, timeout_keep_alive=keep_s, limit_concurrency=10
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield server
    server.should_exit = server.force_exit = True  # one of the tests leaves an answer without an end
    thread.join(60)
    assert not thread.is_alive()


@pytest.fixture
def port(server: uvicorn.Server) -> int:
    return server.servers[0].sockets[0].getsockname()[1]


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"GET / HTTP/1.1\r\nHost: x\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nabc",
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\nGET / HTTP",
    ],
    ids=["nothing", "half a head", "half a body", "half of a second request"],
)
def test_what_does_not_arrive_in_time_is_hung_up_on(port: int, sent: bytes) -> None:
    with socket.create_connection(("127.0.0.1", port), 60) as line:
        line.sendall(sent)
        while line.recv(4096):
            pass


@pytest.mark.parametrize("server", [_Crowded], indirect=True)
@pytest.mark.parametrize("asked", [b"", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"], ids=["silent", "answered once"])
def test_who_opens_connections_without_end_closes_his_own(port: int, asked: bytes) -> None:
    lines: list[socket.socket] = []
    try:
        for _ in range(30):  # three times what the server takes at once
            line = socket.create_connection(("127.0.0.1", port), 60)
            lines.append(line)
            if asked:
                line.sendall(asked)
                assert b" 200 " in line.recv(4096)
        with socket.create_connection(("127.0.0.1", port), 60) as mine:
            mine.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            assert b" 200 " in mine.recv(4096)
        while lines[0].recv(4096):  # hung up on
            pass
    finally:
        for line in lines:
            line.close()


def test_more_bytes_give_no_more_time(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port), 60) as line:
        line.settimeout(0.05)
        started = time.monotonic()
        while time.monotonic() < started + 60:
            try:
                line.sendall(b"G")
                if not line.recv(1):
                    break
            except TimeoutError:
                continue
            except OSError:
                break
        assert time.monotonic() < started + 50


def test_a_connection_that_waits_between_requests_is_kept(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port), 60) as line:
        for _ in range(2):
            line.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\n")
            line.sendall(b"abc")
            answer = line.recv(4096)
            while not answer.endswith(b"abc"):
                answer += line.recv(4096)
            time.sleep(2)  # longer than a request may take to arrive


def test_who_does_not_take_the_answer_is_hung_up_on(server: uvicorn.Server, port: int) -> None:
    with socket.create_connection(("127.0.0.1", port), 60) as line:
        line.sendall(b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n")
        assert line.recv(1)
        until = time.monotonic() + 90
        while server.server_state.connections:
            assert time.monotonic() < until, "it still waits"
            time.sleep(0.05)
