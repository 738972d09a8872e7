"""Containers: the stack's own Postgres, and writers in containers of the bot's image on the stack's private network."""

from __future__ import annotations

import json
import secrets
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import quote

from targets.compose import ComposeTarget, docker
from targets.instance import CHECKOUT, clean_environment

from faults import mutants
from faults.inject.namespaces import run
from faults.places import Database, Place, Process

OPTIONS = "sslmode=require&channel_binding=require&require_auth=scram-sha-256"
SUITE = CHECKOUT / "infra-tests" / "faults"


class Container(Process):
    """A writer in a container of its own."""

    def __init__(self, identity: str) -> None:
        self.identity = identity
        self.pid = int(self._state()["Pid"])

    def _state(self) -> dict[str, Any]:
        return json.loads(docker("inspect", "--format", "{{json .State}}", self.identity).stdout)

    def address(self, network: str) -> str:
        """Its address in a network."""
        form = f'{{{{(index .NetworkSettings.Networks "{network}").IPAddress}}}}'
        return docker("inspect", "--format", form, self.identity).stdout.strip()

    def killed_for_memory(self) -> bool:
        """Whether the kernel ended it because it needed too much."""
        return bool(self._state()["OOMKilled"])

    def kill(self) -> None:
        docker("kill", self.identity, check=False)
        docker("wait", self.identity, check=False)

    def ask_to_end(self) -> None:
        docker("kill", "--signal=TERM", self.identity)

    def terminate(self, timeout_s: float) -> int:
        self.ask_to_end()
        return self.wait(timeout_s)

    def wait(self, timeout_s: float) -> int:
        return int(docker("wait", self.identity, timeout_s=timeout_s).stdout)

    def pause(self) -> None:
        docker("pause", self.identity)

    def resume(self) -> None:
        docker("unpause", self.identity)

    def stopped(self) -> bool:
        return bool(self._state()["Paused"])

    def run(self, *words: str, check: bool = True) -> None:
        """Run a command in it, as the writer's user."""
        docker("exec", self.identity, *words, check=check)

    def log(self) -> str:
        done = docker("logs", "--tail", "40", self.identity, check=False)
        return done.stdout + done.stderr


class ComposePlace(Place):
    """The stack under test; its bot trades on in a database of its own meanwhile."""

    name = "compose"

    def __init__(self, target: ComposeTarget) -> None:
        self.target = target
        self.network = f"{target.project}_private"
        self.image = target.inspect("trading-bot")["Image"]
        self._made: list[str] = []

    @contextmanager
    def database(self) -> Iterator[Database]:
        name = f"faults_{secrets.token_hex(4)}"
        self._psql("railway", f"CREATE DATABASE {name}")
        try:
            self._prepare(name)
            password = quote(self.target.instance.read_env()["TRADING_BOT_DB_PASSWORD"], safe="")
            url = f"postgresql://trading_bot:{password}@postgres.railway.internal:5432/{name}?{OPTIONS}"

            def fetch(query: str) -> list[dict[str, Any]]:
                wrapped = f"SELECT coalesce(json_agg(t), '[]')::text FROM ({query}) t"
                return json.loads(self._psql(name, wrapped), parse_float=Decimal)

            database = Database(name, url, fetch, lambda statement: self._psql(name, statement))
            mutants.apply_in_database(database.execute)
            yield database
        finally:
            docker("rm", "-f", *self._made, check=False) if self._made else None
            self._made.clear()
            self._psql("railway", f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")

    def _psql(self, database: str, query: str) -> str:
        words = ["psql", "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-U", "postgres", "-d", database, "-c", query]
        return docker("exec", self.target.container("postgres"), *words).stdout

    def _prepare(self, name: str) -> None:
        """Make roles and tables, as the stack's own first container does."""
        settings = self.target.instance.read_env()
        given = {key: value for key, value in settings.items() if key.endswith("_DB_PASSWORD")}
        password = quote(settings["POSTGRES_PASSWORD"], safe="")
        given["DATABASE_URL"] = f"postgresql://postgres:{password}@postgres.railway.internal:5432/{name}?{OPTIONS}"
        names = [word for key in given for word in ("-e", key)]
        image = f"{self.target.project}-ops"
        done = subprocess.run(
            ["docker", "run", "--rm", "--network", self.network, *names, image],
            env=clean_environment() | given,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr

    def spawn(self, config: Path, name: str, where: str, env: dict[str, str]) -> Container:
        """Start a writer; ``where`` is a limit of memory, like 96m, or the folder of a disk of 1 MiB, like /disk."""
        container = f"{self.target.project}-{config.parent.name[:40]}-{name}-{secrets.token_hex(3)}"
        given = {"PYTHONPATH": "/suite", "LOG_LEVEL": "WARNING", **mutants.passed_on(), **env}
        self._made.append(container)
        docker(
            "run", "--detach", "--name", container, "--network", self.network, "--init",
            "--read-only", "--cap-drop=ALL", "--security-opt=no-new-privileges:true", "--user=10001:10001",
            # the image has the labels of the stack's own bot, for which nobody must take this one
            "--label", "com.docker.compose.project=", "--label", "com.docker.compose.service=",
            *_limits(where),
            *(word for key, value in given.items() for word in ("-e", f"{key}={value}")),
            "-v", f"{SUITE}:/suite/faults:ro", "-v", f"{config.parent}:/history",
            "--entrypoint", "python", self.image, "-m", "faults.work", f"/history/{config.name}",
        )  # fmt: skip
        return Container(container)

    def inside(self, path: Path) -> str:
        return f"/history/{path.name}"

    def crash(self) -> None:
        before = self.target.identity("postgres")
        self.target.kill("postgres")
        self._up_after(before)

    def restart(self) -> None:
        docker("restart", self.target.container("postgres"), timeout_s=120)
        self._up_after("")

    def kill_backend(self, pid: int) -> None:
        self.target.kill_backend(pid)

    def _up_after(self, before: str) -> None:
        deadline = time.monotonic() + 60
        ready = ["exec", self.target.container("postgres"), "pg_isready", "-q", "-h", "127.0.0.1", "-U", "postgres"]
        while time.monotonic() < deadline:
            if self.target.identity("postgres") != before and docker(*ready, check=False).returncode == 0:
                return
            time.sleep(0.2)
        raise AssertionError("the database's container did not come back")

    @contextmanager
    def disconnected(self, writer: Container) -> Iterator[None]:
        """Take a writer off the network while the block runs."""
        docker("network", "disconnect", self.network, writer.identity)
        try:
            yield
        finally:
            docker("network", "connect", self.network, writer.identity)

    @contextmanager
    def cut(self, writer: Container) -> Iterator[None]:
        """Let no packet between a writer and the database arrive, at either end, while the block runs."""
        with self._rule(writer, "-j", "DROP"):
            yield

    @contextmanager
    def reset(self, writer: Container) -> Iterator[None]:
        """Answer every packet between a writer and the database with a reset while the block runs."""
        with self._rule(writer, "-p", "tcp", "-j", "REJECT", "--reject-with", "tcp-reset"):
            yield

    @contextmanager
    def _rule(self, writer: Container, *what: str) -> Iterator[None]:
        server = self.target.inspect("postgres")
        server_address = server["NetworkSettings"]["Networks"][self.network]["IPAddress"]
        ends = ((writer.pid, server_address), (server["State"]["Pid"], writer.address(self.network)))
        for pid, peer in ends:
            inside(pid, "iptables", "-w", "-I", "INPUT", "-s", peer, *what)
        try:
            yield
        finally:
            for pid, peer in ends:
                if Path(f"/proc/{pid}").exists():
                    inside(pid, "iptables", "-w", "-D", "INPUT", "-s", peer, *what)

    @contextmanager
    def slow(self, writer: Container, rate: str) -> Iterator[None]:
        """Let a writer send no more than a rate like 64kbit while the block runs."""
        limit = ("tbf", "rate", rate, "burst", "8kb", "latency", "800ms")
        inside(writer.pid, "tc", "qdisc", "add", "dev", "eth0", "root", *limit)
        try:
            yield
        finally:
            inside(writer.pid, "tc", "qdisc", "del", "dev", "eth0", "root")


def inside(pid: int, *words: str) -> None:
    """Run a command in the network of a container's process."""
    run("nsenter", "-t", str(pid), "-n", *words)


def _limits(where: str) -> list[str]:
    if where.startswith("/"):
        return ["--tmpfs", f"{where}:size=1m,mode=1777"]
    return ["--memory", where, "--memory-swap", where] if where else []
