"""Processes of this machine: a durable throw-away server of the binaries that `make up` runs, and writers beside it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from decimal import Decimal
from pathlib import Path
from typing import Any

import psutil
import psycopg2
from targets.instance import CHECKOUT, clean_environment
from tradedb.testing import PostgresServer, ThrowawayDatabase, migrated_database, throwaway_server

from faults import mutants
from faults.places import Database, Place, Process

_LOOKS_EVERY_S = 0.5


class LocalProcess(Process):
    """A writer as a child of this process."""

    def __init__(self, command: list[str], log: Path, env: Mapping[str, str]) -> None:
        self._log = log
        with log.open("ab") as out:
            self._popen = subprocess.Popen(command, env=dict(env), stdin=subprocess.DEVNULL, stdout=out, stderr=out)
        self.pid = self._popen.pid

    def kill(self) -> None:
        self._popen.kill()
        self._popen.wait(30)

    def terminate(self, timeout_s: float) -> int:
        """SIGTERM; one that stopped itself, or does so only now, is woken for it."""
        self._popen.terminate()
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            if self.stopped():
                self.resume()
            with suppress(subprocess.TimeoutExpired):
                return self._popen.wait(_LOOKS_EVERY_S)
        return self.wait(0)

    def ask_to_end(self) -> None:
        self._popen.terminate()

    def wait(self, timeout_s: float) -> int:
        try:
            return self._popen.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.kill()
            raise

    def pause(self) -> None:
        self._popen.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._popen.send_signal(signal.SIGCONT)

    def stopped(self) -> bool:
        try:
            return psutil.Process(self.pid).status() == psutil.STATUS_STOPPED
        except psutil.NoSuchProcess:
            return False

    def log(self) -> str:
        return self._log.read_text(errors="replace")


def environment() -> dict[str, str]:
    """What a writer runs with: this checkout's code, nothing of anybody's installation."""
    return (
        clean_environment()
        | {"PYTHONPATH": str(CHECKOUT / "infra-tests"), "LOG_LEVEL": "WARNING"}
        | mutants.passed_on()
    )


class EmbeddedPlace(Place):
    """One durable server on loopback."""

    name = "embedded"

    def __init__(self, server: PostgresServer, folder: Path) -> None:
        self.server = server
        self.folder = folder

    @contextmanager
    def database(self) -> Iterator[Database]:
        with migrated_database(self.server) as made:
            mutants.apply_in_database(made.execute)
            yield self._described(made)

    def _described(self, made: ThrowawayDatabase) -> Database:
        def fetch(query: str) -> list[dict[str, Any]]:
            wrapped = f"SELECT coalesce(json_agg(t), '[]')::text FROM ({query}) t"
            [(text,)] = made.execute(wrapped)
            return json.loads(text, parse_float=Decimal)

        return Database(made.name, made.url_text("trading_bot"), fetch, made.execute)

    def spawn(self, config: Path, name: str, where: str, env: dict[str, str]) -> LocalProcess:
        words = [sys.executable, "-m", "faults.work", str(config)]
        return LocalProcess(words, config.with_suffix(".log"), environment() | env)

    def inside(self, path: Path) -> str:
        return str(path)

    def crash(self) -> None:
        self.server.kill()
        self._start_again()

    def restart(self) -> None:
        self.server.stop("fast")
        self._start_again()

    def _start_again(self) -> None:
        """Start the server where it was: ``start`` takes another port when the first try does not come up."""
        port = self.server.port
        for _ in range(5):
            self.server.port = port
            self.server.start()
            if self.server.port == port:
                return
            self.server.stop("fast")
        raise AssertionError(f"the server does not come up at port {port} again\n{self.server.log[-3000:]}")

    def kill_backend(self, pid: int) -> None:
        os.kill(pid, signal.SIGKILL)
        self.wait_up()

    def wait_up(self, timeout_s: float = 30) -> None:
        """Wait until the server lets somebody in."""
        deadline = time.monotonic() + timeout_s
        while True:
            try:
                self.server.connect().close()
            except psycopg2.OperationalError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)
            else:
                return


@contextmanager
def embedded_place(folder: Path) -> Iterator[EmbeddedPlace]:
    """A server that keeps what it acknowledged, with room for a crowd."""
    with ExitStack() as ending:
        options = {"max_connections": "60", "shared_buffers": "64MB"}
        yield EmbeddedPlace(ending.enter_context(throwaway_server(durable=True, options=options)), folder)
