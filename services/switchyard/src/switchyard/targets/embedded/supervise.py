"""supervisor, which keeps the processes: its configuration (without a secret), start, end, and questions to it."""

from __future__ import annotations

import contextlib
import os
import shlex
import socket
import subprocess
import sys
import tempfile
import time
import xmlrpc.client
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tradedb.errors import SwitchyardError

from switchyard.targets.embedded import environment

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from switchyard.checkout import Checkout
    from switchyard.targets.embedded.account import Account

LONGEST_SOCKET_PATH = 85  # macOS allows 103 bytes, and supervisor binds a longer name first
ANSWER_TIMEOUT_S = 10
START_TIMEOUT_S = 20
# Postgres: SIGINT is its fast stop. Services: 10 s are theirs by contract.
STOP_WAIT_S = {"postgres": 30, "trading-bot": 12, "dashboard": 12}
# supervisor's words -> ours
STATES = {
    "STOPPED": "stopped", "STARTING": "starting", "RUNNING": "running", "BACKOFF": "restarting",
    "STOPPING": "stopping", "EXITED": "exited", "FATAL": "failed", "UNKNOWN": "unknown",
}  # fmt: skip


@dataclass(frozen=True)
class Process:
    """One kept process: our word for its state, and its pid (0 when there is none)."""

    state: str
    pid: int


class Supervisor:
    """The supervisor of one instance. Making one touches nothing."""

    def __init__(self, checkout: Checkout) -> None:
        self._checkout = checkout
        self.run = checkout.home / "run"
        self._pid_file = self.run / "supervisord.pid"

    @property
    def socket(self) -> Path:
        """The control socket: in the instance's folder, or where its path is short enough to be one."""
        path = self.run / "supervisor.sock"
        if len(os.fsencode(path)) <= LONGEST_SOCKET_PATH:
            return path
        return Path(tempfile.gettempdir()) / f"switchyard-{os.getuid()}" / f"{self._checkout.instance_id}.sock"

    @contextlib.contextmanager
    def _rpc(self) -> Iterator[Any]:
        """Yield supervisor's own interface over the control socket."""
        from supervisor.xmlrpc import SupervisorTransport

        transport = SupervisorTransport(None, None, serverurl=f"unix://{self.socket}")
        with xmlrpc.client.ServerProxy("http://127.0.0.1", transport=transport) as server:
            yield server.supervisor

    def answers(self) -> bool:
        """Return whether supervisor runs and takes orders. A socket that somebody else put into /tmp is not asked."""
        try:
            if self.socket.parent != self.run and self.socket.parent.lstat().st_uid != os.getuid():
                return False
            with socket.socket(socket.AF_UNIX) as probe:
                probe.settimeout(ANSWER_TIMEOUT_S)
                probe.connect(str(self.socket))
        except OSError:
            return False
        return True

    def processes(self) -> dict[str, Process]:
        """Return every kept process by name; empty when supervisor does not answer."""
        if not self.answers():
            return {}
        try:
            with self._rpc() as rpc:
                found = rpc.getAllProcessInfo()
        except (OSError, xmlrpc.client.Error):  # it ended between the two questions
            return {}
        return {entry["name"]: Process(STATES.get(entry["statename"], "unknown"), entry["pid"]) for entry in found}

    def start_process(self, name: str) -> None:
        """Start one process without waiting for it; nothing happens if it runs. What waits for its turn starts now."""
        waiting = self.processes().get(name)
        if waiting is not None and waiting.state == "restarting":
            self.stop_process(name)
        # the fault is ALREADY_STARTED; anything else shows in the state and in the log
        with contextlib.suppress(xmlrpc.client.Fault), self._rpc() as rpc:
            rpc.startProcess(name, False)

    def stop_process(self, name: str) -> None:
        """Ask one process to stop without waiting for it; nothing happens if it does not run."""
        with contextlib.suppress(xmlrpc.client.Fault), self._rpc() as rpc:  # the fault is NOT_RUNNING
            rpc.stopProcess(name, False)

    def wait_stopped(self, names: Sequence[str]) -> bool:
        """Return whether all of `names` ended within the time that supervisor gives them before it kills."""
        deadline = time.monotonic() + max(STOP_WAIT_S[name] for name in names) + 5
        gone = {"stopped", "exited", "failed"}
        while time.monotonic() < deadline:
            states = self.processes()
            if all(name not in states or states[name].state in gone for name in names):
                return True
            time.sleep(0.05)
        return False

    def start(self, postgres: Sequence[str], account: Account | None) -> None:
        """Start supervisor with everything configured and nothing running.

        Raises: SwitchyardError: STACK-031, it does not start.
        """
        for folder in (self.run, self._checkout.logs):
            folder.mkdir(mode=0o700, exist_ok=True)
        self._make_socket_folder()
        config = self.run / "supervisord.conf"
        config.touch(mode=0o600)
        config.write_text(self._configuration(postgres, account))
        variables = environment.machine_environment(self._checkout)
        variables["SWITCHYARD_ENV_FILE"] = str(self._checkout.env_file)
        try:
            done = subprocess.run(
                [sys.executable, "-m", "supervisor.supervisord", "-c", str(config)],
                env=variables, cwd=self.run, capture_output=True, text=True, timeout=START_TIMEOUT_S, check=False,
                stdin=subprocess.DEVNULL,
            )  # fmt: skip
            said = (done.stderr or done.stdout).strip().splitlines()
            if done.returncode == 0 and self._wait_for_answer():
                return
        except subprocess.TimeoutExpired:
            said = [f"it did not go to the background within {START_TIMEOUT_S} s"]
        raise SwitchyardError(
            "STACK-031",
            f"supervisor, which keeps the processes, did not start: {said[-1] if said else 'it said nothing'}",
            why=f"Its log is {self._checkout.logs / 'supervisord.log'}. Nothing else was started.",
            fix="correct that and run make up again",
        )

    def _wait_for_answer(self) -> bool:
        deadline = time.monotonic() + START_TIMEOUT_S
        while not self.answers():
            if time.monotonic() > deadline:
                return False
            time.sleep(0.02)
        return True

    def shutdown(self) -> None:
        """Stop every process (Postgres last), then supervisor itself; return when it is gone.

        Raises: SwitchyardError: STACK-032, it does not end.
        """
        import psutil

        from switchyard.targets.embedded.ending import wait_over

        with self._rpc() as rpc:
            pid = rpc.getPID()
            process = psutil.Process(pid)
            rpc.shutdown()
        if not wait_over(process, sum(STOP_WAIT_S.values()) + 10):
            raise SwitchyardError(
                "STACK-032",
                f"supervisor (pid {pid}) does not end although it was asked to",
                why="One of its processes may hang; the data is safe.",
                fix=f"tail {self._checkout.logs / 'supervisord.log'}, then kill {pid} and run make down again",
            )
        self.socket.unlink(missing_ok=True)

    def _make_socket_folder(self) -> None:
        """Make the folder of the socket; in a shared /tmp nobody else may own it."""
        folder = self.socket.parent
        folder.mkdir(mode=0o700, exist_ok=True)
        stat = folder.stat(follow_symlinks=False)
        if stat.st_uid != os.getuid() or stat.st_mode & 0o077:
            raise SwitchyardError(
                "STACK-033",
                f"{folder} is not a folder of yours alone",
                why="Whoever can write there could give orders to your stack. Nothing was started.",
                fix=f"remove it, or use a shorter path: SWITCHYARD_HOME={Path.home() / 'switchyard'} make up",
            )

    def _configuration(self, postgres: Sequence[str], account: Account | None) -> str:
        launch = [sys.executable, "-m", "switchyard.targets.embedded.launch"]
        sections = [
            _section("unix_http_server", {"file": self.socket, "chmod": "0700"}),
            _section(
                "supervisord",
                {
                    "logfile": self._checkout.logs / "supervisord.log", "logfile_maxbytes": "1MB", "logfile_backups": 2,
                    "pidfile": self._pid_file, "childlogdir": self._checkout.logs, "umask": "077",
                    "directory": "/",
                    **({"user": "root"} if os.geteuid() == 0 else {}),
                },
            ),
            _section(
                "rpcinterface:supervisor",
                {"supervisor.rpcinterface_factory": "supervisor.rpcinterface:make_main_rpcinterface"},
            ),
            self._program("postgres", postgres, {"stopsignal": "INT", "priority": 1, "directory": "/"}, account),
            self._program("trading-bot", [*launch, "trading-bot"], {"directory": self.run, "killasgroup": "true"}),
            self._program("dashboard", [*launch, "dashboard"], {"directory": self.run, "killasgroup": "true"}),
        ]  # fmt: skip
        return "; Written by `switchyard up`; it holds no secret.\n" + "\n".join(sections)

    def _program(
        self, name: str, command: Sequence[str], more: Mapping[str, object], account: Account | None = None
    ) -> str:
        settings: dict[str, object] = {
            "command": shlex.join(command),
            "autostart": "false",  # `up` starts each when its turn has come
            "autorestart": "true",
            # Python takes a second or two to refuse its settings; who ends before this is restarted ever more slowly
            "startsecs": 5,
            "startretries": 1000000,  # it never gives up; each wait is a second longer than the one before
            "stopwaitsecs": STOP_WAIT_S[name],
            "redirect_stderr": "true",
            "stdout_logfile": self._checkout.logs / f"{name}.log",
            "stdout_logfile_maxbytes": "5MB",
            "stdout_logfile_backups": 3,
            **more,
        }
        if account is not None:
            settings["user"] = account.uid
        return _section(f"program:{name}", settings)


def _section(title: str, settings: Mapping[str, object]) -> str:
    """Return one section; `%` is supervisor's own, so it is doubled."""
    lines = [f"{key}={str(value).replace('%', '%%')}" for key, value in settings.items()]
    return "\n".join([f"[{title}]", *lines, ""])
