"""The stack as processes on this machine."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil
import psycopg2
import pytest

from targets import Target, described_start
from targets.instance import Instance


@dataclass(frozen=True)
class EmbeddedTarget(Target):
    """Processes under supervisor; everything is reached over loopback."""

    def _one_value(self, query: str, role: str) -> str:
        connection = psycopg2.connect(self._url(role), connect_timeout=20)
        try:
            with connection.cursor() as cursor:
                cursor.execute(query)
                row = cursor.fetchone()
                assert row is not None
                return row[0]
        finally:
            connection.close()

    def run_sql(self, statement: str, role: str = "admin") -> None:
        connection = psycopg2.connect(self._url(role), connect_timeout=20)
        try:
            connection.autocommit = True
            connection.cursor().execute(statement)
        finally:
            connection.close()

    def _url(self, role: str) -> str:
        return (
            self.database_url
            if role == "admin"
            else self.instance.switchyard("db", "url", "--role", role).stdout.strip()
        )

    def get(self, service: str, path: str) -> tuple[int, str]:
        port = self.port(service)
        try:
            answer = httpx.get(f"http://127.0.0.1:{port}{path}", timeout=20)
        except httpx.HTTPError:
            return 0, ""
        return answer.status_code, answer.text

    def port(self, service: str) -> int:
        """Where a service listens, as its own process was told; remembered from the last time it ran."""
        for process in self._of(service):
            with contextlib.suppress(psutil.Error):
                _PORTS[self.instance.folder, service] = int(process.environ()["PORT"])
        return _PORTS[self.instance.folder, service]

    def processes(self) -> Iterator[psutil.Process]:
        """Every live process of this instance, whoever started it."""
        home = str(self.instance.home)
        cluster = self._cluster()
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if process.pid == os.getpid() or process.status() == psutil.STATUS_ZOMBIE:
                    continue
                words = " ".join(process.cmdline())
                if home in words or (cluster and cluster in words) or process.environ().get("SWITCHYARD_HOME") == home:
                    yield process

    def _cluster(self) -> str:
        """The name that Postgres gives all of its processes."""
        known = self.instance.home / "postgres" / "postmaster.opts"
        with contextlib.suppress(OSError):
            found = re.search(r"cluster_name=([\w-]+)", known.read_text())
            return found[1] if found else ""
        return ""

    def _of(self, service: str) -> list[psutil.Process]:
        """The processes of a service; its main one first."""
        if service == "postgres":
            main = psutil.Process(int(self._pid_file().read_text().split()[0]))
            return [main, *main.children(recursive=True)]
        found: list[psutil.Process] = []
        for process in self.processes():
            with contextlib.suppress(psutil.Error):
                # one that a test started beside it has PORT=0
                if _is(process, service) and process.environ().get("PORT", "0") != "0":
                    found.append(process)
        return found

    def _pid_file(self) -> Path:
        return self.instance.home / "postgres" / "postmaster.pid"

    def kill(self, service: str) -> None:
        processes = self._of(service)
        # a server that loses its power loses all of its processes at once
        for process in processes if service == "postgres" else processes[:1]:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()

    def pause(self, service: str) -> None:
        processes = self._of(service)
        for process in processes if service == "postgres" else processes[:1]:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.suspend()

    def resume(self, service: str) -> None:
        for process in self._of(service):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.resume()

    def kill_backend(self, pid: int) -> None:
        os.kill(pid, signal.SIGKILL)

    def logs(self, service: str) -> str:
        files = sorted((self.instance.home / "logs").glob(f"{service}*"), key=lambda path: path.stat().st_mtime)
        return "".join(path.read_text(errors="replace") for path in files if path.is_file())

    def identity(self, service: str) -> str:
        process = self._of(service)[0]
        return f"{process.pid} since {process.create_time()}"

    def terminate(self, service: str) -> tuple[int, float]:
        process = self._of(service)[0]
        before = len(self._ends(service))
        began = time.monotonic()
        process.terminate()
        psutil.wait_procs([process], timeout=60)
        took = time.monotonic() - began
        deadline = time.monotonic() + 60
        while len(self._ends(service)) == before and time.monotonic() < deadline:
            time.sleep(0.1)
        return int(self._ends(service)[-1]), took

    def _ends(self, service: str) -> list[str]:
        """The exit statuses of the service that supervisor has noted."""
        return re.findall(rf"exited: {service} \(exit status (\d+)", self.logs("supervisor"))

    def public_texts(self) -> Iterator[tuple[str, str]]:
        for process in self.processes():
            with contextlib.suppress(psutil.Error):
                yield f"argv of {process.pid}", " ".join(process.cmdline())
        for path in self.instance.home.rglob("*"):
            # the database's own files hold salted verifiers, not passwords; it is looked through as well
            if path.is_file() and not path.is_symlink():
                with contextlib.suppress(OSError):
                    yield str(path), path.read_bytes().decode("latin-1")

    def leftovers(self) -> list[str]:
        found: list[str] = []
        for process in self.processes():
            with contextlib.suppress(psutil.Error):
                found.append(f"process {process.pid}: {' '.join(process.cmdline())}")
        return found


def _is(process: psutil.Process, service: str) -> bool:
    """Whether this is ``trading-bot run`` or ``dashboard run``, started by whatever Python."""
    words = process.cmdline()
    return len(words) >= 2 and words[-1] == "run" and Path(words[-2]).name == service


_PORTS: dict[tuple[Path, str], int] = {}


def attach(instance: Instance) -> EmbeddedTarget:
    """Return the target of an instance that is up."""
    url = instance.switchyard("db", "url", "--role", "admin").stdout.strip()
    status = instance.switchyard("status", "--json").json()
    return EmbeddedTarget(instance, url, status["database"]["server_version"])


def start(config: pytest.Config) -> Target:
    """Start a fresh instance. Raises: TargetUnreachable."""
    return described_start("embedded", attach)
