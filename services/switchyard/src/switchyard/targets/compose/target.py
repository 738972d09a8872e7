"""ComposeTarget: the stack as containers of one Compose project."""

from __future__ import annotations

import contextlib
import secrets
import shutil
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, NoReturn

from tradedb.errors import EXIT_CONFIG, EXIT_FAILED, EXIT_UNREACHABLE, SwitchyardError

from switchyard import env_file, ports
from switchyard.output import Progress
from switchyard.prepare import ROLES_ARE_RIGHT
from switchyard.targets import (
    ROLE_LOGIN,
    SERVICES,
    DatabaseStatus,
    ServiceStatus,
    StackStatus,
    require_service,
    superuser_refused,
)
from switchyard.targets import status as questions
from switchyard.targets.compose import images
from switchyard.targets.compose.client import STOP_TIMEOUT_S, Compose, Container, last_words, run
from switchyard.targets.compose.snapshot import mounted_snapshots

if TYPE_CHECKING:
    from collections.abc import Sequence

    from switchyard.checkout import Checkout
    from switchyard.output import Step
    from switchyard.targets import Role
    from switchyard.transfer.snapshot import Source

APPLICATIONS = ("trading-bot", "dashboard")
ALL_SERVICES = (*SERVICES, "ops")
PRIVATE_HOST = "postgres.railway.internal"
POSTGRES_PORT = 5432
SERVICE_PORT = 8080
LOOPBACK = "127.0.0.1"
URL_OPTIONS = "sslmode=require&channel_binding=require&require_auth=scram-sha-256"
START_TIMEOUT_S = 120  # the engine's part of a start
READY_TIMEOUT_S = 120
UNHEALTHY_S = 35  # the engine asks a service every 10 s: an "unhealthy" of before is outdated by then
POLL_S = 0.2
ANSWER_TIMEOUT_S = 5  # of one service, to `status`; all are asked at once
END_INSIDE_TIMEOUT_S = 40
PSQL = ("psql", "--username=postgres", "--dbname=railway")
DATABASE_FACTS = "SELECT current_setting('server_version'), system_identifier FROM pg_control_system()"
REVISION = (
    "SELECT version_num FROM public.alembic_version"  # fails, after the facts are printed, before the first migration
)
# Ends every process whose environment holds the mark that is its first argument: asks each, and kills what is left
# after ten seconds. No pid is known outside of the container, and the client passes no signal on.
END_MARKED = """
marked() { for each in /proc/[0-9]*; do grep -qsF "$1" "$each/environ" && echo "${each#/proc/}"; done; }
for how in TERM KILL; do
  left=100
  for pid in $(marked "$0"); do kill -s $how "$pid" 2>/dev/null; done
  while [ $left -gt 0 ] && [ -n "$(marked "$0")" ]; do sleep 0.1; left=$((left - 1)); done
  [ $left -gt 0 ] && exit 0
done
"""


class ComposeTarget:
    """The containers of docker-compose.yml. Making one touches nothing."""

    name = "compose"

    def __init__(self, checkout: Checkout) -> None:
        self._checkout = checkout

    # ---- the Target protocol

    def running(self) -> bool:
        """Return whether any container of the project runs."""
        try:
            return any(_runs(container) for container in self._compose().containers().values())
        except SwitchyardError:
            return False

    def up(self, report: Progress, sources: Sequence[Source], *, assume_yes: bool) -> StackStatus:
        """Build what has changed, start Postgres, prepare it, copy `sources`, start the services, wait for each."""
        values = env_file.read(self._checkout)
        compose = Compose(self._checkout, values)
        images.pull_missing(report, compose)
        images.build_outdated(report, self._checkout, compose)
        port = int(values["DASHBOARD_PORT"])
        self._resume(report, compose)
        if not _runs(compose.containers().get("dashboard")):
            ports.require_free(port, "the dashboard (DASHBOARD_PORT in .env)")
        before = {name: container.id for name, container in compose.containers().items() if _runs(container)}
        with report.step("Postgres is healthy") as step:
            compose.stream(step, *_start("postgres"), timeout_s=START_TIMEOUT_S)
            self._wait_ready(step, compose, ("postgres",))
        self.prepare(report)
        if sources:
            self._copy_before_start(report, sources)
        with report.step("trading-bot and dashboard are ready") as step:
            compose.stream(step, *_start(*APPLICATIONS), timeout_s=START_TIMEOUT_S)
            self._wait_ready(step, compose, APPLICATIONS)
        after = compose.containers()
        report.changed |= any(name not in after or before.get(name) != after[name].id for name in SERVICES)
        return self.status()

    def down(self, report: Progress) -> None:
        """Stop and remove the containers and networks; the volume stays."""
        with report.step("stop the containers") as step:
            self._compose().stream(step, "down", "--remove-orphans", timeout_s=STOP_TIMEOUT_S)

    def status(self) -> StackStatus:
        """Ask each service and the database themselves: what the engine last heard of them is up to 30 s old."""
        values = env_file.read(self._checkout)
        compose = Compose(self._checkout, values)
        try:
            found = compose.containers()
        except SwitchyardError:  # no engine: nothing of it runs
            found = {}
        port = int(values["DASHBOARD_PORT"])
        with ThreadPoolExecutor(len(SERVICES)) as asking:
            asked = asking.submit(self._database, compose, found.get("postgres"))
            bot = asking.submit(_says_ready, compose, found.get("trading-bot"))
            page = asking.submit(_shows_pages, found.get("dashboard"), port)
            database = asked.result()
            said = {
                "postgres": questions.Readiness(database.system_identifier is not None),
                "trading-bot": bot.result(),
                "dashboard": page.result(),
            }
        urls = {"dashboard": f"http://{LOOPBACK}:{port}"}
        services = tuple(
            service_status(name, found.get(name), urls.get(name), compose.own(name), said=said[name])
            for name in SERVICES
        )
        return StackStatus(self.name, services, database)

    def logs(self, service: str | None, *, follow: bool) -> int:
        """Write the newest log lines to stdout."""
        require_service(service, ALL_SERVICES)
        words = ["--tail=200", *(["--follow"] if follow else []), *([service] if service else [])]
        return self._compose().attach("logs", "--no-color", *words)

    def restart(self, report: Progress, service: str) -> None:
        """Restart one service's container and wait until it is healthy; `ops` runs once more instead."""
        require_service(service, ALL_SERVICES)
        compose = self._compose()
        if service == "ops":
            self.prepare(report)
            return
        self._require_container(compose, service)
        with report.step(f"{service} is ready") as step:
            compose.stream(step, "restart", "--no-deps", service, timeout_s=STOP_TIMEOUT_S)
            self._wait_ready(step, compose, (service,))

    def database_url(self, role: Role) -> str:
        """Return the URL on this machine's loopback while docker-compose.debug.yml is used, else the private one."""
        values = env_file.read(self._checkout)
        postgres = Compose(self._checkout, values).containers().get("postgres")
        published = postgres.published.get(POSTGRES_PORT) if _runs(postgres) and postgres else None
        if published is None:
            sys.stderr.write(
                "This URL works inside the stack's private network only. To reach the database from this machine:\n"
                f"  {' '.join(self._debug_command())}\n"
            )
        user, key = ROLE_LOGIN[role]
        host, port = (PRIVATE_HOST, POSTGRES_PORT) if published is None else (LOOPBACK, published)
        return f"postgresql://{user}:{values[key]}@{host}:{port}/railway?{URL_OPTIONS}"

    def psql(self, args: Sequence[str]) -> int:
        """Run psql in the database's container, on its socket."""
        return self.exec("postgres", [*PSQL, *args])

    def exec(self, service: str, command: Sequence[str]) -> int:
        """Run `command` in the service's container; for `ops`, which has ended, in one of its own.

        It ends when this process is told to end, as it does on the embedded target.
        """
        require_service(service, ALL_SERVICES)
        compose = self._compose()
        mark = f"SWITCHYARD_EXEC={secrets.token_hex(8)}"
        if service == "ops":
            name = f"{compose.project}-exec-{mark[-8:]}"

            def stop() -> None:
                with contextlib.suppress(SwitchyardError):
                    run(["docker", "stop", name], compose.environment(), END_INSIDE_TIMEOUT_S)

            return compose.attach(*_one_off("--name", name), "ops", *command, end_inside=stop)
        container = self._require_container(compose, service)

        def end() -> None:
            words = ["docker", "exec", container.id, "sh", "-c", END_MARKED, mark]
            with contextlib.suppress(SwitchyardError):
                run(words, compose.environment(), END_INSIDE_TIMEOUT_S)

        return compose.attach("exec", *_no_terminal(), "--env", mark, service, *command, end_inside=end)

    def prepare(self, report: Progress) -> None:
        """Run the ops service and wait for its end."""
        compose = self._compose()
        with report.step("roles and schema are up to date") as step:
            compose.stream(step, *_start("ops"), timeout_s=START_TIMEOUT_S)
            self._wait_ended(step, compose, "ops")

    def ensure_roles(self) -> list[str]:
        """Create or update the roles in an ops container; return a sentence for each change."""
        said = self._compose().ask(*_one_off(), "ops", "switchyard", "db", "roles", timeout_s=READY_TIMEOUT_S)
        return [line for line in said.splitlines() if line != ROLES_ARE_RIGHT]

    def copy(self, sources: Sequence[Source], *, assume_yes: bool, as_json: bool, dry_run: bool) -> int:
        """Snapshot each file, and copy from inside the private network: an ops container with the snapshots mounted."""
        compose = self._compose()
        self._require_container(compose, "postgres")
        flags = {"--yes": assume_yes, "--json": as_json, "--dry-run": dry_run}
        with mounted_snapshots(Progress(), self._checkout, sources) as mounted:
            words = [word for label, place in mounted.sources for word in ("--source", f"{label}={place}")]
            chosen = [flag for flag, wanted in flags.items() if wanted]
            return compose.attach(*_one_off(*mounted.options), "ops", "switchyard", "copy", *words, *chosen)

    def reset(self, report: Progress) -> None:
        """Stop everything and delete the volume; say how the images, which hold no data, are deleted."""
        compose = self._compose()
        with report.step("delete the containers and the database") as step:
            compose.stream(step, "down", "--volumes", "--remove-orphans", timeout_s=STOP_TIMEOUT_S)
        built = [f"{compose.project}-{service}" for service in sorted(images.present(compose))]
        if built:
            report.note(f"the images stay for the next make up; to delete them: docker image rm {' '.join(built)}")

    def data_place(self) -> str | None:
        """Return the name of the database's volume, if the engine has it."""
        if not self._checkout.env_file.exists() or shutil.which("docker") is None:
            return None
        try:
            compose = self._compose()
            labels = (f"project={compose.project}", "volume=postgres-data")
            filters = [word for label in labels for word in ("--filter", f"label=com.docker.compose.{label}")]
            words = ["docker", "volume", "ls", "--quiet", *filters]
            found = run(words, compose.environment(), ANSWER_TIMEOUT_S).stdout.split()
        except SwitchyardError:
            return None
        return f"the volume {found[0]}" if found else None

    # ---- inside

    def _compose(self) -> Compose:
        return Compose(self._checkout, env_file.read(self._checkout))

    def _debug_command(self) -> list[str]:
        return [
            "docker",
            "compose",
            "-f",
            "docker-compose.yml",
            "-f",
            "docker-compose.debug.yml",
            "up",
            "-d",
            "postgres",
        ]

    def _copy_before_start(self, report: Progress, sources: Sequence[Source]) -> None:
        """Copy, and go no further if it fails: the services must not write beside half a history.

        Giving the files to `up` was the consent; tables that hold rows are refused anyway.
        """
        report.note(f"copy {', '.join(source.label for source in sources)}")
        status = self.copy(sources, assume_yes=True, as_json=False, dry_run=False)
        if status != 0:
            raise SwitchyardError(
                "COMPOSE-010",
                "the copy failed, so trading-bot and dashboard were not started",
                why="Its own error is above. A copy is one transaction: nothing of it was written.",
                fix="correct that and run the same command again, or start without it: make up",
                exit_code=status,
            )

    def _database(self, compose: Compose, postgres: Container | None) -> DatabaseStatus:
        """Return the facts of the database, asked on its own socket."""
        where = DatabaseStatus(host=PRIVATE_HOST, port=POSTGRES_PORT)
        if postgres is None or not _runs(postgres):
            return where
        if postgres.state == "paused":
            return replace(where, reason="its container is paused")
        words = ("--no-psqlrc", "--tuples-only", "--no-align", "--command", DATABASE_FACTS, "--command", REVISION)
        try:
            done = run(["docker", "exec", postgres.id, *PSQL, *words], compose.environment(), ANSWER_TIMEOUT_S)
        except SwitchyardError:
            return replace(where, reason=f"no answer within {ANSWER_TIMEOUT_S} s")
        first, _, revision = done.stdout.strip().partition("\n")
        version, bar, identifier = first.partition("|")
        if not bar:
            return replace(where, reason=questions.reason(done.stderr))
        from switchyard.targets.status import head

        return replace(
            where, server_version=version, system_identifier=identifier, revision=revision or None, head=head()
        )

    def _require_container(self, compose: Compose, service: str) -> Container:
        """Return the service's container. Raises: SwitchyardError: COMPOSE-007, it does not run."""
        found = compose.containers().get(service)
        if found is None or not _runs(found):
            state = f"is {found.state}" if found else "has no container"
            raise SwitchyardError(
                "COMPOSE-007",
                f"{service} does not run: it {state}",
                why="The command works inside its container. Nothing was changed.",
                fix="make up",
                exit_code=EXIT_UNREACHABLE,
            )
        return found

    def _resume(self, report: Progress, compose: Compose) -> None:
        """Let containers that somebody paused run again: the engine refuses to start them."""
        paused = sorted(name for name, container in compose.containers().items() if container.state == "paused")
        if paused:
            report.changed = True
            with report.step(f"{' and '.join(paused)} resumed (docker pause had stopped it)") as step:
                compose.stream(step, "unpause", *paused, timeout_s=START_TIMEOUT_S)

    def _wait_ready(self, step: Step, compose: Compose, services: Sequence[str]) -> None:
        """Return when each service is healthy.

        Raises: SwitchyardError: COMPOSE-008, one ended, or is not healthy in time.
        """
        began = time.monotonic()
        while True:
            found = compose.containers()
            waited_s = time.monotonic() - began
            waiting = [name for name in services if not (found.get(name) and found[name].ready)]
            if not waiting:
                return
            step.detail = f"waiting for {', '.join(waiting)}"
            for name in waiting:
                container = found.get(name)
                if container is None or container.state in ("exited", "dead", "restarting", "paused"):
                    _not_ready(compose, name, container, "")
                if waited_s > (UNHEALTHY_S if container.health == "unhealthy" else READY_TIMEOUT_S):
                    _not_ready(compose, name, container, f" within {waited_s:.0f} s")
            time.sleep(POLL_S)

    def _wait_ended(self, step: Step, compose: Compose, service: str) -> None:
        """Return when a one-shot service has ended with 0.

        Raises: SwitchyardError: COMPOSE-011, with its own last words.
        """
        deadline = time.monotonic() + READY_TIMEOUT_S
        step.detail = f"waiting for {service} to end"
        while True:
            found = compose.containers().get(service)
            if found and found.state == "exited" and found.exit_code == 0:
                return
            if found is None or found.state in ("exited", "dead") or time.monotonic() > deadline:
                code = found.exit_code if found else EXIT_FAILED
                said = last_words(compose.last_lines(service))
                if "error DB-003" in said and " postgres" in said:  # the administrator's, not a role's
                    raise superuser_refused(self._checkout)
                raise SwitchyardError(
                    "COMPOSE-011",
                    f"{service} could not prepare the database (exit code {code})",
                    why=f"It said: {said}. The services were left as they were.",
                    fix="correct that, then make up; .venv/bin/switchyard logs ops shows the rest",
                    exit_code=code if code in (EXIT_UNREACHABLE, EXIT_CONFIG) else EXIT_FAILED,
                )
            time.sleep(POLL_S)


def _says_ready(compose: Compose, container: Container | None) -> questions.Readiness:
    """Return what the container's own health check says, run now; ours prints the body of ``/readyz``."""
    if container is None or container.state != "running":
        return questions.NO_ANSWER
    if not container.check:  # an owner's image without one
        return questions.Readiness(container.ready)
    try:
        asked = run(["docker", "exec", container.id, *container.check], compose.environment(), ANSWER_TIMEOUT_S)
    except SwitchyardError as error:
        return questions.Readiness(False, error.what)
    return questions.readiness(asked.stdout, ready=asked.returncode == 0)


def _shows_pages(container: Container | None, port: int) -> questions.Readiness:
    """Return whether the dashboard is ready, asked where a browser asks."""
    if container is None or container.state != "running":
        return questions.NO_ANSWER
    return questions.ready(LOOPBACK, port, ANSWER_TIMEOUT_S)


def service_status(
    name: str, container: Container | None, url: str | None, own: str | None = None, *, said: questions.Readiness
) -> ServiceStatus:
    """Return one line of the status.

    Args:
        name: the service.
        container: what the engine knows.
        url: where a browser finds it.
        own: the owner's image that stands in for ours.
        said: what the service itself said just now.
    """
    if container is None or (container.state == "exited" and container.exit_code == 0) or container.state == "created":
        state = "stopped"
    elif container.state == "running":
        state = "starting" if container.health == "starting" and not said.ready else "running"
    elif container.state in ("exited", "dead", "restarting"):
        state = "failed"
    else:
        state = container.state
    return ServiceStatus(name, state, url, healthy=state == "running" and said.ready, own=own, reason=said.reason)


def _runs(container: Container | None) -> bool:
    return container is not None and container.state in ("running", "restarting", "paused")


def _start(*services: str) -> list[str]:
    """Return the words that start exactly these services; what is built and waited for goes step by step here."""
    return ["up", "--detach", "--no-build", "--no-deps", *services]


def _one_off(*options: str) -> list[str]:
    """Return the words that run a command in a container of its own, removed afterwards."""
    return ["run", "--rm", "--no-deps", *_no_terminal(), *options]


def _no_terminal() -> list[str]:
    """Return the option that scripts need and a person at a terminal does not want."""
    return [] if sys.stdin.isatty() and sys.stdout.isatty() else ["-T"]


def _not_ready(compose: Compose, name: str, container: Container | None, within: str) -> NoReturn:
    state = f"{container.state} (exit code {container.exit_code})" if container else "gone"
    if container and container.state == "running":
        state = f"running and {container.health or 'without a health check'}"
    raise SwitchyardError(
        "COMPOSE-008",
        f"{name} did not become ready{within}: its container is {state}",
        why=f"Its last lines: {last_words(compose.last_lines(name))}. What was started goes on; the data is kept.",
        fix=f".venv/bin/switchyard logs {name} shows the rest; then make up",
    )
