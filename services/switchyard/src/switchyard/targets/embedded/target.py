"""EmbeddedTarget: the stack as processes of this machine."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tradedb.errors import EXIT_UNREACHABLE, EXIT_USAGE, SwitchyardError
from tradedb.redaction import redact

from switchyard import env_file
from switchyard import ports as port_book
from switchyard.checkout import read_json
from switchyard.targets import SERVICES, DatabaseStatus, ServiceStatus, StackStatus, require_service, superuser_refused
from switchyard.targets.embedded import environment
from switchyard.targets.embedded.supervise import Supervisor

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from switchyard.checkout import Checkout
    from switchyard.output import Progress, Step
    from switchyard.targets import Role
    from switchyard.targets.embedded.postgres import Server
    from switchyard.transfer.snapshot import Source

APPLICATIONS = ("trading-bot", "dashboard")
POSTGRES_READY_TIMEOUT_S = 120  # a crash recovery after a busy day takes seconds, not minutes
SERVICE_READY_TIMEOUT_S = 60
CRASHING_S = 15  # a service that still ends by itself after this time will not be ready later
LOST_SERVICE_TIMEOUT_S = 12  # 10 s are a service's by contract
KILL_TIMEOUT_S = 20  # the kernel's part, on a busy machine
POLL_S = 0.05
UNWATCHED = "unwatched"  # it runs, and nothing restarts it: supervisor is gone


class EmbeddedTarget:
    """PostgreSQL from the wheel, trading-bot and dashboard under supervisor. Making one touches nothing."""

    name = "embedded"

    def __init__(self, checkout: Checkout) -> None:
        self._checkout = checkout
        self._supervisor = Supervisor(checkout)

    # ---- what the launcher asks for

    def values(self) -> dict[str, str]:
        """Return .env, checked."""
        return env_file.read(self._checkout)

    def ports(self, values: Mapping[str, str]) -> dict[str, int]:
        """Return the port of each service: the dashboard's stands in .env, the others are remembered."""
        dashboard = int(values["DASHBOARD_PORT"])
        avoid = [dashboard, int(values["DATABASE_DEBUG_PORT"])]
        chosen = port_book.remembered(self._checkout.home / "ports.json", ["postgres", "trading-bot"], avoid)
        return {**chosen, "dashboard": dashboard}

    def note_file(self, service: str) -> Path:
        """Return where the launcher notes a service's pid and what it was started with."""
        return self._supervisor.run / f"{service}.json"

    # ---- the Target protocol

    def running(self) -> bool:
        """Return whether supervisor, or a process that it lost, runs."""
        if self._supervisor.answers() or any(self._lost_service(name) for name in APPLICATIONS):
            return True
        server = self._known_server()
        return server is not None and server.lost_pid() is not None

    def up(self, report: Progress, sources: Sequence[Source], *, assume_yes: bool) -> StackStatus:
        """Start Postgres, prepare it, copy `sources`, start the services, wait until each is ready."""
        values = self.values()
        ports = self.ports(values)
        server = self._server()
        for note in server.notes:
            report.note(note)
        server.check_data()
        self._end_lost(report, server)
        self._start_postgres(report, server, values, ports)
        self.prepare(report)
        if sources:
            self._copy_before_start(report, sources, values, ports)
        self._start_services(report, values, ports)
        return self.status()

    def down(self, report: Progress) -> None:
        """Stop the services, then Postgres, then supervisor; then whatever an earlier supervisor lost."""
        if self._supervisor.answers():
            with report.step("trading-bot and dashboard stopped"):
                for name in APPLICATIONS:
                    self._supervisor.stop_process(name)
                self._supervisor.wait_stopped(APPLICATIONS)
            with report.step("PostgreSQL and supervisor stopped"):
                self._supervisor.shutdown()
        self._end_lost(report, self._known_server())
        for name in APPLICATIONS:
            self.note_file(name).unlink(missing_ok=True)

    def status(self) -> StackStatus:
        """Ask supervisor, each service and the database."""
        processes = self._supervisor.processes()
        states = {name: processes[name].state if name in processes else self._unwatched(name) for name in SERVICES}
        try:
            values = self.values()
            ports = self.ports(values)
        except SwitchyardError:  # `status` must also say what runs when .env is broken
            unasked = tuple(ServiceStatus(name, states[name], None, healthy=False) for name in SERVICES)
            return StackStatus(self.name, unasked, DatabaseStatus())
        from switchyard.targets import status

        services: list[ServiceStatus] = []
        database = DatabaseStatus(host=environment.HOST, port=ports["postgres"])
        for name in SERVICES:
            state = states[name]
            url = None if name == "postgres" else f"http://{environment.HOST}:{ports[name]}"
            said = status.NO_ANSWER
            if name == "postgres" and state in ("running", "starting", UNWATCHED):
                admin = environment.database_url("admin", values, ports["postgres"])
                database = status.database(admin, environment.HOST, ports["postgres"])
                said = status.Readiness(database.system_identifier is not None)
            elif name != "postgres" and state != "stopped":
                said = status.ready(environment.HOST, ports[name])
            if said.ready and state == "starting":  # supervisor waits some seconds before it calls it running
                state = "running"
            healthy = said.ready and state != UNWATCHED
            own = environment.own_command(name, values)
            services.append(
                ServiceStatus(name, state, url, healthy=healthy, own=redact(own) if own else None, reason=said.reason)
            )
        return StackStatus(self.name, tuple(services), database)

    def logs(self, service: str | None, *, follow: bool) -> int:
        """Show the newest lines of one log, or of all with their names in front."""
        from switchyard.targets.embedded import log_files

        require_service(service, SERVICES)
        names = SERVICES if service is None else (service,)
        log_files.show({name: self._log(name) for name in names}, follow=follow)
        return 0

    def restart(self, report: Progress, service: str) -> None:
        """Stop and start one process and wait until it is ready."""
        require_service(service, SERVICES)
        if not self._supervisor.answers():
            raise SwitchyardError(
                "STACK-034",
                "the stack does not run, so there is nothing to restart",
                why="Nothing was changed.",
                fix="make up",
                exit_code=EXIT_UNREACHABLE,
            )
        values = self.values()
        ports = self.ports(values)
        with report.step(f"{service} stopped"):
            self._supervisor.stop_process(service)
            self._supervisor.wait_stopped([service])
        if service == "postgres":
            self._start_postgres(report, self._server(), values, ports)
        self._start_services(report, values, ports)

    def database_url(self, role: Role) -> str:
        """Return the URL of the embedded database for `role`."""
        values = self.values()
        return environment.database_url(role, values, self.ports(values)["postgres"])

    def psql(self, args: Sequence[str]) -> int:
        """Become psql; the password travels in the environment, never in an argument."""
        values = self.values()
        inherited = {key: value for key, value in os.environ.items() if not key.startswith("PG")}
        login = {
            "PGHOST": environment.HOST, "PGPORT": str(self.ports(values)["postgres"]), "PGUSER": "postgres",
            "PGDATABASE": environment.DATABASE, "PGPASSWORD": values["POSTGRES_PASSWORD"], "PGSSLMODE": "disable",
        }  # fmt: skip
        program = self._server().programs / "psql"
        os.execve(program, ["psql", *args], {**inherited, **login})  # noqa: S606  # psql owns the terminal from here

    def exec(self, service: str, command: Sequence[str]) -> int:
        """Become `command`, with the environment of `service` and in its folder."""
        require_service(service, APPLICATIONS)
        values = self.values()
        variables = environment.service_environment(service, self._checkout, values, self.ports(values))
        program = shutil.which(command[0], path=variables["PATH"])
        if program is None:
            raise SwitchyardError(
                "STACK-036",
                f"there is no program {command[0]}",
                why=f"It was looked for in .venv/bin and in PATH as {service} has them. Nothing was run.",
                fix="check the spelling, or give its full path",
                exit_code=EXIT_USAGE,
            )
        for key in ("TERM", "NO_COLOR"):
            if key in os.environ:
                variables[key] = os.environ[key]
        self._supervisor.run.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.chdir(self._supervisor.run)  # like the service: no .env there with other people's passwords
        os.execve(program, list(command), variables)  # noqa: S606

    def prepare(self, report: Progress) -> None:
        """Wait for the database, create the roles, migrate."""
        from tradedb.roles import passwords_from

        from switchyard import prepare

        values = self.values()
        admin = environment.database_url("admin", values, self.ports(values)["postgres"])
        prepare.prepare(admin, passwords_from(values), report)

    def ensure_roles(self) -> list[str]:
        """Create or update the roles with the passwords in .env."""
        from tradedb.roles import passwords_from

        from switchyard import prepare

        values = self.values()
        admin = environment.database_url("admin", values, self.ports(values)["postgres"])
        return prepare.ensure_roles(admin, passwords_from(values))

    def copy(self, sources: Sequence[Source], *, assume_yes: bool, as_json: bool, dry_run: bool) -> int:
        """Copy SQLite files into the embedded database as its administrator."""
        from switchyard.transfer.run import run_copy

        return run_copy(sources, self.database_url("admin"), assume_yes=assume_yes, as_json=as_json, dry_run=dry_run)

    def reset(self, report: Progress) -> None:
        """Stop everything and delete the database, what the bot keeps, and the logs."""
        from switchyard.targets.embedded import postgres, state_folder

        self.down(report)
        with report.step("Data deleted"):
            data = (state_folder.place(self._checkout), *postgres.folders_with_data(self._checkout))
            for folder in (*data, self._checkout.logs, self._supervisor.run):
                if folder.exists():
                    shutil.rmtree(folder)
            postgres.note_file(self._checkout).unlink(missing_ok=True)

    def data_place(self) -> str | None:
        """Return the data folder, if there is one."""
        from switchyard.targets.embedded import postgres

        folder = postgres.data_folder(self._checkout)
        return str(folder) if folder.exists() else None

    # ---- steps

    def _server(self) -> Server:
        from switchyard.targets.embedded import postgres

        return postgres.find_server(self._checkout)

    def _known_server(self) -> Server | None:
        """Return the server if there ever was one; looking must not make anything."""
        from switchyard.targets.embedded import postgres

        return self._server() if postgres.note_file(self._checkout).exists() else None

    def _log(self, name: str) -> Path:
        return self._checkout.logs / f"{name}.log"

    def _start_postgres(
        self, report: Progress, server: Server, values: Mapping[str, str], ports: Mapping[str, int]
    ) -> None:
        """Make the data folder if there is none, start the server, wait until it answers, create the database."""
        port = ports["postgres"]
        if not server.data.exists():
            with report.step(f"New database made in {server.data}"):
                server.create(values["POSTGRES_PASSWORD"])
        state = self._supervisor.processes().get("postgres")
        if state is None or state.state not in ("running", "starting"):
            report.changed = True
            port_book.require_free(port, "Postgres")
        with report.step(f"PostgreSQL answers on {environment.HOST}:{port}") as step:
            if not self._supervisor.answers():
                server.refresh_settings()
                self._supervisor.start(server.command(port, self._checkout.instance_id), server.account)
            self._supervisor.start_process("postgres")
            self._wait_for_postgres(report, step, values, port)

    def _wait_for_postgres(self, report: Progress, step: Step, values: Mapping[str, str], port: int) -> None:
        import psycopg2

        login: dict[str, Any] = {
            "host": environment.HOST, "port": port, "user": "postgres", "password": values["POSTGRES_PASSWORD"],
            "dbname": "postgres", "sslmode": "disable", "require_auth": "scram-sha-256", "connect_timeout": 3,
            "application_name": "switchyard up",
        }  # fmt: skip
        deadline = time.monotonic() + POSTGRES_READY_TIMEOUT_S
        while True:
            try:
                connection = psycopg2.connect(**login)
            except psycopg2.OperationalError as error:
                step.detail = str(error).strip().splitlines()[-1]
                self._judge_refusal(report, str(error), port, timed_out=time.monotonic() > deadline)
                time.sleep(POLL_S)
                continue
            break
        with contextlib.closing(connection):
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute("SELECT 1 FROM pg_database WHERE datname = %s", [environment.DATABASE])
                if cursor.fetchone() is None:
                    cursor.execute(f'CREATE DATABASE "{environment.DATABASE}"')

    def _judge_refusal(self, report: Progress, said: str, port: int, *, timed_out: bool) -> None:
        """Raise if waiting longer for Postgres makes no sense."""
        if "password authentication failed" in said:
            raise superuser_refused(self._checkout)
        state = self._supervisor.processes().get("postgres")
        restarting = state is not None and state.state == "restarting"
        if not timed_out and not (restarting and self._log_says("postgres", "FATAL", "could not")):
            return
        for line in self._last_lines("postgres"):
            report.note(f"postgres | {line}")
        raise SwitchyardError(
            "PG-004",
            f"PostgreSQL does not answer on {environment.HOST}:{port}",
            why="Its last log lines are above. The data is as it was.",
            fix=f"correct what they say and run make up again; the whole log: {self._log('postgres')}",
            exit_code=EXIT_UNREACHABLE,
        )

    def _log_says(self, name: str, *words: str) -> bool:
        return any(word in line for line in self._last_lines(name) for word in words)

    def _last_lines(self, name: str, count: int = 8) -> list[str]:
        from switchyard.targets.embedded import log_files

        return log_files.tail(self._log(name), count)

    def _copy_before_start(
        self, report: Progress, sources: Sequence[Source], values: Mapping[str, str], ports: Mapping[str, int]
    ) -> None:
        """Copy the files an owner gave to `up`: giving them was the consent, and tables that hold rows are refused."""
        from switchyard.transfer.run import run_copy

        url = environment.database_url("admin", values, ports["postgres"])
        run_copy(sources, url, assume_yes=True, as_json=False, report=report)

    def _start_services(self, report: Progress, values: Mapping[str, str], ports: Mapping[str, int]) -> None:
        """Start both services at once, restart one whose settings or code changed, wait until each is ready."""
        from switchyard.targets import status
        from switchyard.targets.embedded import log_files

        processes = self._supervisor.processes()
        outdated = [name for name in APPLICATIONS if self._outdated(name, processes[name].pid, values, ports)]
        if outdated:
            report.changed = True
            with report.step(f"{' and '.join(outdated)} stopped: settings or code changed"):
                for name in outdated:
                    self._supervisor.stop_process(name)
                self._supervisor.wait_stopped(outdated)
        log_sizes = {name: log_files.size(self._log(name)) for name in APPLICATIONS}
        with report.step("trading-bot and dashboard are ready") as step:
            for name in APPLICATIONS:
                if processes[name].state not in ("running", "starting") or name in outdated:
                    report.changed = True
                    port_book.require_free(ports[name], name)
                    self._supervisor.start_process(name)
            waiting = list(APPLICATIONS)
            reason = ""
            deadline = time.monotonic() + SERVICE_READY_TIMEOUT_S
            while waiting:
                said = status.ready(environment.HOST, ports[waiting[0]])
                if said.ready:
                    waiting.pop(0)
                    continue
                reason = said.reason or ""
                step.detail = f"{waiting[0]}: {reason}"
                self._raise_if_refused(waiting[0], log_sizes[waiting[0]])
                if time.monotonic() > deadline or (step.elapsed_s > CRASHING_S and self._crashes(waiting[0])):
                    raise self._not_ready(report, waiting[0], reason, step.elapsed_s)
                time.sleep(POLL_S)

    def _raise_if_refused(self, name: str, log_size: int) -> None:
        """Raise the service's own error if it ended with one since its log had `log_size`: waiting will not help."""
        from switchyard.targets.embedded import log_files

        if not self._crashes(name):
            return
        said = [line for line in log_files.added(self._log(name), log_size) if line.startswith("error ")]
        if said:
            raise SwitchyardError(
                "STACK-030",
                f"{name} does not start: {said[-1].removeprefix('error ')}",
                why="It is started again from time to time. Everything else that was started goes on running.",
                fix=f"correct that, then make up; the whole log: .venv/bin/switchyard logs {name}",
            )

    def _crashes(self, name: str) -> bool:
        """Return whether supervisor is waiting to start the service yet another time."""
        process = self._supervisor.processes().get(name)
        return process is not None and process.state == "restarting"

    def _not_ready(self, report: Progress, name: str, reason: str, waited_s: float) -> SwitchyardError:
        for line in self._last_lines(name):
            report.note(f"{name} | {line}")
        return SwitchyardError(
            "STACK-030",
            f"{name} is not ready after {waited_s:.0f} s: {reason}",
            why="Its last log lines are above. Everything that was started goes on running.",
            fix=f".venv/bin/switchyard logs {name}",
        )

    def _outdated(self, name: str, pid: int, values: Mapping[str, str], ports: Mapping[str, int]) -> bool:
        """Return whether a running service was started with other settings or other code than are there now."""
        note = read_json(self.note_file(name))
        if not pid or note.get("pid") != pid:
            return False
        variables = environment.service_environment(name, self._checkout, values, ports)
        words = environment.command(name, values)
        return note["fingerprint"] != environment.fingerprint(name, self._checkout, variables, words)

    # ---- what an earlier supervisor lost (it was killed; its processes were not)

    def _unwatched(self, name: str) -> str:
        """Return our word for a service that supervisor does not know of."""
        from switchyard.targets.embedded import postgres

        pid = postgres.running_pid(self._checkout) if name == "postgres" else self._lost_service(name)
        return "stopped" if pid is None else UNWATCHED

    def _lost_service(self, name: str) -> int | None:
        """Return the pid of a service that runs although supervisor does not."""
        import psutil

        note = read_json(self.note_file(name))
        pid = note.get("pid")
        if not isinstance(pid, int) or self._supervisor.answers():
            return None
        try:
            process = psutil.Process(pid)
            line = {Path(word).name for word in process.cmdline()}
            ours = process.environ().get("SWITCHYARD_HOME") == str(self._checkout.home)
        except psutil.Error:
            return None
        words = note.get("command", environment.COMMANDS[name])
        return pid if ours and {Path(word).name for word in words} <= line else None

    def _end_lost(self, report: Progress, server: Server | None) -> None:
        """End what no supervisor watches any more, so that nothing runs twice."""
        if self._supervisor.answers():
            return
        for name in APPLICATIONS:
            pid = self._lost_service(name)
            if pid is not None:
                with report.step(f"{name} of an earlier run (pid {pid}) stopped: its supervisor is gone"):
                    _end(pid)
        pid = server.lost_pid() if server is not None else None
        if server is not None and pid is not None:
            with report.step(f"PostgreSQL of an earlier run (pid {pid}) stopped: its supervisor is gone"):
                server.stop_lost()


def _end(pid: int) -> None:
    """End one process: SIGTERM, and SIGKILL when the time of the contract is over; return when it is over.

    Raises: SwitchyardError: STACK-043, it outlives even that.
    """
    import psutil

    from switchyard.targets.embedded.ending import wait_over

    with contextlib.suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        process.send_signal(signal.SIGTERM)
        if wait_over(process, LOST_SERVICE_TIMEOUT_S):
            return
        process.kill()
        if not wait_over(process, KILL_TIMEOUT_S):
            raise SwitchyardError(
                "STACK-043",
                f"a process of an earlier run (pid {pid}) does not end, not even by SIGKILL",
                why="It hangs in the kernel, most often on a disk or a network folder. The data is as it was.",
                fix="look at that disk (dmesg), then run the command again",
            )
