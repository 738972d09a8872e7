"""The docker client: commands as lists, ways to run one, and what its complaints mean."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn

from tradedb.errors import EXIT_CONFIG, EXIT_FAILED, EXIT_UNREACHABLE, SwitchyardError

from switchyard import env_file
from switchyard.targets import docker_engine

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from switchyard.checkout import Checkout
    from switchyard.output import Step

ASK_TIMEOUT_S = 15  # a question to the engine
CLIENT_END_TIMEOUT_S = 30  # after the command inside has ended
STOP_TIMEOUT_S = 120  # Postgres may take its stop_grace_period
LAST_LINES = 40  # of a container's log, to find its last words in
SHOWN_LINES = 6  # in an error
DETAIL_WIDTH = 90


# what is asked of ``docker inspect`` for each container: one JSON object a line
FACTS = (
    '{"id":{{json .Id}},"service":{{json (index .Config.Labels "com.docker.compose.service")}},'
    '"state":{{json .State}},"ports":{{json .NetworkSettings.Ports}},"check":{{json (index .Config "Healthcheck")}}}'
)


class Signalled(Exception):  # no error: somebody asked this process to end
    """A signal that asks this process to end arrived."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


@contextlib.contextmanager
def raised_signals() -> Iterator[None]:
    """Raise Signalled in the body at SIGINT, SIGTERM or SIGHUP; only once, so that what follows is left in peace."""
    kept = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}

    def arrived(number: int, _frame: object) -> None:
        for each in kept:
            signal.signal(each, signal.SIG_IGN)
        raise Signalled(number)

    for number in kept:
        signal.signal(number, arrived)
    try:
        yield
    finally:
        if signal.getsignal(signal.SIGTERM) is arrived:
            for number, handler in kept.items():
                signal.signal(number, handler)


@dataclass(frozen=True)
class Container:
    """What the engine says of one service's container.

    Args:
        state: the engine's word: running, exited, restarting, paused, created, dead.
        health: healthy, unhealthy, starting, or empty for a service without a health check.
        exit_code: of its last end.
        published: the host port of each published container port.
        check: the command of its health check, which exits 0 when the service is ready; empty if it has none.
    """

    id: str
    service: str
    state: str
    health: str
    exit_code: int
    published: Mapping[int, int]
    check: tuple[str, ...] = ()

    @property
    def ready(self) -> bool:
        """Whether it runs and its health check agrees."""
        return self.state == "running" and self.health in ("healthy", "")


def containers(facts: str) -> dict[str, Container]:
    """Return what ``docker inspect --format FACTS`` printed, by service."""
    found: dict[str, Container] = {}
    for entry in map(json.loads, facts.splitlines()):
        published = {
            int(port.partition("/")[0]): int(places[0]["HostPort"])
            for port, places in (entry["ports"] or {}).items()
            if places
        }
        state = entry["state"]
        health = (state.get("Health") or {}).get("Status", "")
        service = entry["service"]
        test = (entry.get("check") or {}).get("Test") or []
        shell = ("sh", "-c") if test[:1] == ["CMD-SHELL"] else ()
        check = (*shell, *test[1:]) if test[:1] in (["CMD"], ["CMD-SHELL"]) else ()
        found[service] = Container(entry["id"], service, state["Status"], health, state["ExitCode"], published, check)
    return found


class Compose:
    """``docker compose`` on this checkout's project. Making one runs nothing.

    Args:
        checkout: whose docker-compose.yml and .env.
        values: its .env, read and checked.
    """

    def __init__(self, checkout: Checkout, values: Mapping[str, str]) -> None:
        self.root = checkout.root
        self.project = values["COMPOSE_PROJECT_NAME"]
        self._env_file = checkout.env_file
        # as Compose itself reads it from .env: paths with colons between them, seen from the checkout
        self.files = [
            checkout.root / name for name in (values.get("COMPOSE_FILE") or "docker-compose.yml").split(":") if name
        ]
        template = env_file.Template.of(checkout.example_file)
        self._keys = {*template.required, *template.optional}

    def command(self, *args: str) -> list[str]:
        """Return the argument list of ``docker compose ARGS``. No secret stands in it."""
        place = [
            "--project-directory",
            str(self.root),
            *(word for file in self.files for word in ("--file", str(file))),
        ]
        return [
            "docker",
            "compose",
            "--ansi=never",
            "--progress=plain",
            *place,
            "--env-file",
            str(self._env_file),
            "--project-name",
            self.project,
            *args,
        ]

    def own(self, service: str) -> str | None:
        """Return the owner's Compose file that says something of `service`, or None: it is as in ours."""
        for file in reversed(self.files[1:]):
            if re.search(rf"^ +{service}: *(#.*)?$", file.read_text() if file.is_file() else "", re.MULTILINE):
                return str(file)
        return None

    def environment(self) -> dict[str, str]:
        """Return this process's environment without what would overrule .env: every shell starts the same stack."""
        return {
            key: value for key, value in os.environ.items() if key not in self._keys and not key.startswith("COMPOSE_")
        }

    # ---- ways to run one

    def attempt(self, *args: str, timeout_s: float = ASK_TIMEOUT_S) -> subprocess.CompletedProcess[str]:
        """Run it without a terminal and return how it ended.

        Raises: SwitchyardError: COMPOSE-009, it did not end within `timeout_s`.
        """
        return run(self.command(*args), self.environment(), timeout_s)

    def ask(self, *args: str, timeout_s: float = ASK_TIMEOUT_S) -> str:
        """Return its stdout. Raises: SwitchyardError: see `complain`."""
        done = self.attempt(*args, timeout_s=timeout_s)
        if done.returncode != 0:
            complain(f"docker compose {args[0]}", done.stderr.splitlines() or done.stdout.splitlines())
        return done.stdout

    def docker(self, *args: str, timeout_s: float = ASK_TIMEOUT_S) -> str:
        """Return the stdout of the plain docker client. Raises: SwitchyardError: see `complain`."""
        done = run(["docker", *args], self.environment(), timeout_s)
        if done.returncode != 0:
            complain(f"docker {args[0]}", done.stderr.splitlines())
        return done.stdout

    def stream(self, step: Step, *args: str, timeout_s: float) -> None:
        """Run it with its newest line as the step's detail, so that it never hangs silently.

        Raises: SwitchyardError: see `complain`; COMPOSE-009, it did not end within `timeout_s`.
        """
        lines: list[str] = []
        began = time.monotonic()
        with subprocess.Popen(
            self.command(*args),
            env=self.environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,  # the client starts its plugin as a process of its own: both must end together
        ) as process:
            timer = threading.Timer(timeout_s, _end, (process, signal.SIGKILL))
            timer.start()
            try:
                for line in process.stdout or ():
                    if text := line.strip():
                        lines.append(text)
                        step.detail = detail(text) or step.detail
                status = process.wait()
            except BaseException:  # Ctrl-C reaches only us
                _end(process, signal.SIGTERM)
                raise
            finally:
                timer.cancel()
        if time.monotonic() - began >= timeout_s:
            _too_slow(f"docker compose {args[0]}", timeout_s)
        if status != 0:
            complain(f"docker compose {args[0]}", lines)

    def attach(self, *args: str, end_inside: Callable[[], object] | None = None) -> int:
        """Run it on this process's own stdin, stdout and stderr; return its exit code.

        Args:
            args: of ``docker compose``.
            end_inside: ends what runs inside, when this process is told to end: the client passes no signal on.
        """
        sys.stdout.flush()
        if end_inside is None:
            return subprocess.run(self.command(*args), env=self.environment(), check=False).returncode
        with subprocess.Popen(self.command(*args), env=self.environment()) as client:
            try:
                with raised_signals():
                    return client.wait()
            except Signalled as told:
                end_inside()
                try:
                    code = client.wait(CLIENT_END_TIMEOUT_S)
                except subprocess.TimeoutExpired:
                    client.kill()
                    code = -signal.SIGKILL
                return code if code >= 0 else 128 + told.number

    # ---- questions

    def containers(self) -> dict[str, Container]:
        """Return every container of the project, running or not, by service.

        Asked of the engine itself: ``docker compose ps`` knows the same and costs three times as much.
        """
        labels = (f"project={self.project}", "oneoff=False")
        filters = [word for label in labels for word in ("--filter", f"label=com.docker.compose.{label}")]
        ids = self.docker("ps", "--all", "--quiet", "--no-trunc", *filters).split()
        return containers(self.docker("inspect", "--format", FACTS, *ids)) if ids else {}

    def last_lines(self, service: str) -> list[str]:
        """Return the newest log lines of a service; none when it has no container."""
        done = self.attempt("logs", "--no-color", "--no-log-prefix", "--tail", str(LAST_LINES), service)
        return [line for line in done.stdout.splitlines() if line.strip()]


def _end(process: subprocess.Popen[str], how: signal.Signals) -> None:
    """Signal a client together with the plugin that it started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, how)


def run(command: list[str], environment: Mapping[str, str], timeout_s: float) -> subprocess.CompletedProcess[str]:
    """Run `command` without a terminal and return how it ended.

    Raises: SwitchyardError: COMPOSE-009, it did not end within `timeout_s`.
    """
    try:
        return subprocess.run(
            command,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout_s,
            check=False,
        )
    except subprocess.TimeoutExpired:
        _too_slow(" ".join(command[:2]), timeout_s)


def detail(line: str) -> str:
    """Return what a line of build or start output says to a person; nothing for noise."""
    if match := re.search(r"\[([\w-]+) [^\]]*\d+/\d+\] (.+)", line):  # BuildKit: #12 [dashboard builder 3/9] RUN …
        line = f"{match[1]}: {match[2]}"
    elif match := re.search(r"Step (\d+/\d+) : (.+)", line):  # the classic builder
        line = f"step {match[1]}: {match[2]}"
    elif re.match(r"#\d+|--->|Sending build context", line):
        return ""
    return line if len(line) <= DETAIL_WIDTH else f"{line[: DETAIL_WIDTH - 2]} …"


def complain(what: str, lines: list[str]) -> NoReturn:
    """Raise the error that a failed docker command means.

    Raises: SwitchyardError: STACK-01x the engine went away, COMPOSE-001 anything unforeseen, COMPOSE-002 no image to be
    had, COMPOSE-003 a build step failed, COMPOSE-004 a port is taken, COMPOSE-005 an old engine, COMPOSE-006 no space.
    """
    text = "\n".join(lines)
    tail = last_words(lines)
    docker_engine.probe.cache_clear()
    docker_engine.require()
    if re.search(r"port is already allocated|address already in use|ports are not available", text):
        raise SwitchyardError(
            "COMPOSE-004",
            "a port that the stack publishes on 127.0.0.1 is taken",
            why=f"{lines[-1]} The rest of the stack may run already; no data was touched.",
            fix="stop what listens there, or choose other ports: .venv/bin/switchyard up --new-ports",
            exit_code=EXIT_CONFIG,
        )
    if "start_interval" in text or re.search(r"requires? (Docker )?(Engine|API)", text, re.IGNORECASE):
        raise SwitchyardError(
            "COMPOSE-005",
            "this Docker engine is too old for docker-compose.yml",
            why=f"It needs Engine 25 and Compose 2.21 or newer. Docker said: {lines[-1]} Nothing was changed.",
            fix="update Docker, or: make up TARGET=embedded",
            exit_code=EXIT_CONFIG,
        )
    if "no space left on device" in text:
        raise SwitchyardError(
            "COMPOSE-006",
            f"{what} found no space left on the engine's disk",
            why=f"Docker said: {lines[-1]} No data was touched.",
            fix="docker system df shows what uses it; docker image prune removes images without a name",
        )
    if re.search(
        r"pull access denied|manifest unknown|no such host|failed to resolve|dial tcp|TLS handshake|error pulling|"
        r"net/http: request canceled|failed to do request",
        text,
    ):
        raise SwitchyardError(
            "COMPOSE-002",
            "an image of the stack is not here and no registry gave it",
            why=f"Docker said: {tail}. Nothing was changed.",
            fix="check the network, then make up; where there is no registry: infra-tests/offline-images/build",
            exit_code=EXIT_UNREACHABLE,
        )
    if what.endswith("build"):
        raise SwitchyardError(
            "COMPOSE-003",
            "building an image failed",
            why=f"The last lines: {tail}. The images of before are still there; nothing was restarted.",
            fix="docker compose build shows the whole output",
        )
    raise SwitchyardError(
        "COMPOSE-001",
        f"{what} failed",
        why=f"Docker said: {tail}",
        fix="docker compose ps --all shows the state; then make up again",
        exit_code=EXIT_FAILED,
    )


def last_words(lines: list[str]) -> str:
    """Return what a command said in the end: the error that it printed, if it did, else its last lines."""
    starts = [number for number, line in enumerate(lines) if line.lstrip().startswith("error ")]
    chosen = lines[starts[-1] :] if starts else lines[-SHOWN_LINES:]
    return " | ".join(line.strip() for line in chosen[:SHOWN_LINES]) or "nothing"


def _too_slow(what: str, timeout_s: float) -> NoReturn:
    raise SwitchyardError(
        "COMPOSE-009",
        f"{what} did not end within {timeout_s:.0f} s",
        why="The engine is overloaded or hangs. The command was ended; containers that it had started go on.",
        fix="docker info, then make up again",
        exit_code=EXIT_UNREACHABLE,
    )
