"""The stack as containers."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import psutil
import pytest

from targets import SERVICES, Target, described_start
from targets.instance import Completed, Instance, clean_environment, run

# printed by a service that asks itself: code, line break, body
ASK = """
import os, sys, urllib.error, urllib.request
try:
    answer = urllib.request.urlopen(f"http://127.0.0.1:{os.environ['PORT']}{sys.argv[1]}", timeout=20)
except urllib.error.HTTPError as error:
    answer = error
except OSError:
    print(0)
    sys.exit()
print(answer.status)
sys.stdout.write(answer.read().decode())
"""


def docker(*args: str, check: bool = True, timeout_s: float = 60) -> Completed:
    """Run the Docker client."""
    return run(["docker", *args], env=clean_environment(), timeout_s=timeout_s, check=check)


@dataclass(frozen=True)
class ComposeTarget(Target):
    """Containers of one Compose project; what has no published port is reached from inside."""

    @property
    def project(self) -> str:
        """The Compose project of this instance."""
        return self.instance.read_env()["COMPOSE_PROJECT_NAME"]

    def containers(self, *, everything: bool = False) -> list[str]:
        """The ids of this project's containers."""
        label = f"label=com.docker.compose.project={self.project}"
        return docker("ps", "-q", "--no-trunc", "--filter", label, *(["-a"] if everything else [])).stdout.split()

    def container(self, service: str) -> str:
        """The id of a service's container, running or not."""
        filters = [f"label=com.docker.compose.project={self.project}", f"label=com.docker.compose.service={service}"]
        found = docker(
            "ps", "-aq", "--no-trunc", *(word for text in filters for word in ("--filter", text))
        ).stdout.split()
        assert found, f"no container of {service}"
        return found[0]

    def inspect(self, service: str) -> dict[str, Any]:
        """What the engine knows of a service's container."""
        return json.loads(docker("inspect", self.container(service)).stdout)[0]

    def _psql(self, query: str, role: str) -> str:
        user = {"admin": "postgres"}.get(role, role.replace("-", "_"))
        # over the container's socket, where the image trusts whoever is inside: no password leaves .env
        words = ["psql", "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-U", user, "-d", "railway", "-c", query]
        return docker("exec", self.container("postgres"), *words).stdout

    def _one_value(self, query: str, role: str) -> str:
        return self._psql(query, role)

    def run_sql(self, statement: str, role: str = "admin") -> None:
        self._psql(statement, role)

    def get(self, service: str, path: str) -> tuple[int, str]:
        if service == "dashboard":
            port = self.instance.read_env()["DASHBOARD_PORT"]
            try:
                answer = httpx.get(f"http://127.0.0.1:{port}{path}", timeout=20)
            except httpx.HTTPError:
                return 0, ""
            return answer.status_code, answer.text
        done = docker("exec", self.container(service), "python", "-c", ASK, path, check=False)
        if done.returncode != 0:
            return 0, ""
        code, _, body = done.stdout.partition("\n")
        return int(code), body

    def _signal(self, pids: list[int], name: str) -> None:
        """Send a signal from the host's side: the engine does not know, so it acts as after a crash."""
        words = ["run", "--rm", "--pid=host", "--network=none", "--user=0", "--entrypoint=python"]
        program = f"import os, signal, sys; [os.kill(int(pid), signal.{name}) for pid in sys.argv[1:]]"
        image = self.inspect("dashboard")["Image"]
        docker(*words, image, "-c", program, *map(str, pids))

    def kill(self, service: str) -> None:
        self._signal([self.inspect(service)["State"]["Pid"]], "SIGKILL")

    def kill_backend(self, pid: int) -> None:
        docker("exec", self.container("postgres"), "bash", "-c", f"kill -9 {pid}")

    def pause(self, service: str) -> None:
        docker("pause", self.container(service))

    def resume(self, service: str) -> None:
        docker("unpause", self.container(service))

    def logs(self, service: str) -> str:
        done = docker("logs", self.container(service))
        return done.stdout + done.stderr

    def identity(self, service: str) -> str:
        found = self.inspect(service)
        return f"{found['Id']} since {found['State']['StartedAt']}"

    def terminate(self, service: str) -> tuple[int, float]:
        container = self.container(service)
        began = time.monotonic()
        docker("kill", "--signal=TERM", container)
        code = int(docker("wait", container).stdout)
        took = time.monotonic() - began
        docker("start", container)  # the engine takes the signal for a wish that it stays away
        return code, took

    def public_texts(self) -> Iterator[tuple[str, str]]:
        for process in psutil.process_iter():
            try:
                yield f"argv of {process.pid}", " ".join(process.cmdline())
            except psutil.Error:
                continue
        for container in self.containers(everything=True):
            done = docker("logs", container)
            yield f"log of {container[:12]}", done.stdout + done.stderr
        for image in {self.inspect(service)["Image"] for service in SERVICES[1:]}:
            yield f"history of {image}", docker("history", "--no-trunc", image).stdout
            yield f"settings of {image}", docker("inspect", image).stdout
            saved = subprocess.run(["docker", "save", image], capture_output=True, check=True)
            yield f"layers of {image}", saved.stdout.decode("latin-1")
        for path in self.instance.home.rglob("*"):
            if path.is_file():
                yield str(path), path.read_bytes().decode("latin-1")

    def leftovers(self) -> list[str]:
        label = f"label=com.docker.compose.project={self.project}"
        running = docker("ps", "--filter", label, "--format", "container {{.Names}}").stdout.splitlines()
        networks = docker("network", "ls", "--filter", label, "--format", "network {{.Name}}").stdout.splitlines()
        return running + networks

    def volumes(self) -> list[str]:
        """The project's volumes: its data."""
        label = f"label=com.docker.compose.project={self.project}"
        return docker("volume", "ls", "-q", "--filter", label).stdout.split()


def attach(instance: Instance) -> ComposeTarget:
    """Return the target of an instance that is up."""
    url = instance.switchyard("db", "url", "--role", "admin").stdout.strip()
    status = instance.switchyard("status", "--json").json()
    return ComposeTarget(instance, url, status["database"]["server_version"])


def start(config: pytest.Config) -> Target:
    """Start a fresh instance. Raises: TargetUnreachable."""
    return described_start("compose", attach)
