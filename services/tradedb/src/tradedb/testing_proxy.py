"""A TCP proxy in front of a test's Postgres that misbehaves on command: silence, cuts, a COMMIT whose reply is lost."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from typing import Literal

CommitFault = Literal["none", "swallow request", "lose reply", "lose reply and refuse", "silence reply"]


class TcpProxy:
    """Forwards 127.0.0.1:``port`` to a server until told otherwise.

    ``silent``: bytes are read and acknowledged but no longer passed on, in both directions, as a frozen host does.
    ``on_commit``: what happens to the next COMMIT, once. "swallow request": it never reaches the server, and the
    connection is cut. "lose reply": it is carried out, and the connection is cut before the client hears of it; "and
    refuse": from then on, no new connection is taken until ``refusing`` is False again.
    "silence reply": it is carried out, and the client hears nothing at all.
    ``delay_s``: how much later everything arrives, in each direction.
    """

    def __init__(self, target_port: int) -> None:
        self.silent = False
        self.refusing = False
        self.on_commit: CommitFault = "none"
        self.delay_s = 0.0
        self.accepted = 0
        self._target = ("127.0.0.1", target_port)
        self._sockets: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def cut(self) -> None:
        """Close every connection that is open now."""
        for end in self._sockets:
            _close(end)
        self._sockets.clear()

    def close(self) -> None:
        """Close everything and wait for the threads."""
        _close(self._listener)
        self.cut()
        for thread in self._threads:
            thread.join(5)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                self.accepted += 1
                if self.refusing:
                    _close(client)
                    continue
                server = socket.create_connection(self._target)
                self._sockets += [client, server]
                state = {"reply": "pass"}
                for source, sink, to_server in ((client, server, True), (server, client, False)):
                    thread = threading.Thread(target=self._pump, args=(source, sink, to_server, state), daemon=True)
                    self._threads.append(thread)
                    thread.start()

    def _pump(self, source: socket.socket, sink: socket.socket, to_server: bool, state: dict[str, str]) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if self.silent:
                    continue
                time.sleep(self.delay_s)
                if to_server and b"COMMIT" in data and self.on_commit != "none":
                    fault, self.on_commit = self.on_commit, "none"
                    if fault == "swallow request":
                        break
                    state["reply"] = fault
                elif not to_server and state["reply"] == "silence reply":
                    continue
                elif not to_server and state["reply"].startswith("lose reply"):
                    self.refusing = state["reply"].endswith("refuse")
                    break
                sink.sendall(data)
        _close(source)
        _close(sink)


def _close(end: socket.socket) -> None:
    """Close a socket, waking whoever is blocked on it."""
    with contextlib.suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)
    end.close()


@contextlib.contextmanager
def tcp_proxy(target_port: int) -> Iterator[TcpProxy]:
    """Yield a proxy to a port of this machine."""
    proxy = TcpProxy(target_port)
    try:
        yield proxy
    finally:
        proxy.close()
