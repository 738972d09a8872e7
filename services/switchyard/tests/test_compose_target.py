"""The Compose target: which commands it runs, in which order, and what it makes of the answers. No engine is needed."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from switchyard import env_file, stack
from switchyard.checkout import Checkout
from switchyard.output import Progress, Step
from switchyard.targets import docker_engine
from switchyard.targets import status as questions
from switchyard.targets.compose import ComposeTarget, client, images
from switchyard.targets.compose import target as compose_target
from switchyard.targets.compose.client import Compose, Container, complain, containers, detail, last_words
from switchyard.targets.compose.target import service_status
from switchyard.targets.status import Readiness
from switchyard.transfer.snapshot import Source
from tradedb.errors import SwitchyardError
from tradedb.revisions import head_revision

RUNNING = Container("id-of-dashboard", "dashboard", "running", "healthy", 0, {8080: 25000})
CHECK = ("python", "-c", "is it ready?")
# plays docker: notes its arguments, answers by the first scenario whose words it was given
DOCKER = """#!{python}
import json, os, sys, time
home = {home!r}
words = sys.argv[1:]
calls = os.open(home + "/calls", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
os.write(calls, (json.dumps([words, dict(os.environ)]) + "\\n").encode())  # one write: several may play at once
with open(home + "/answers") as file:
    answers = json.load(file)
for wanted, code, out, err, makes, waits_for in answers:
    if all(word in words for word in wanted):
        if makes:
            open(home + "/" + makes, "w").close()
        until = time.monotonic() + 60
        while waits_for and not os.path.exists(home + "/" + waits_for) and time.monotonic() < until:
            time.sleep(0.02)
        sys.stdout.write(out)
        sys.stderr.write(err)
        sys.exit(code)
sys.exit(0)
"""


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Checkout:
    monkeypatch.delenv("SWITCHYARD_HOME", raising=False)
    monkeypatch.delenv("SWITCHYARD_ENV_FILE", raising=False)
    made = replace(Checkout.find(), home=tmp_path / "home", env_file=tmp_path / ".env")
    made.make_home()
    env_file.write(made)
    return made


@pytest.fixture
def compose(checkout: Checkout) -> Compose:
    return Compose(checkout, env_file.read(checkout))


class FakeDocker:
    """A docker on PATH that answers what a test tells it to."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.answers: list[tuple[list[str], int, str, str, str, str]] = []
        self.write()

    def write(self) -> None:
        """Put the answers in place in one step: a docker that runs meanwhile reads the old ones or the new ones."""
        fresh = self.home / "answers.new"
        fresh.write_text(json.dumps(self.answers))
        fresh.replace(self.home / "answers")

    def answer(
        self, *words: str, code: int = 0, out: str = "", err: str = "", makes: str = "", waits_for: str = ""
    ) -> None:
        """Let a call with these words end so; what is told last counts first.

        Args:
            words: that the call has, among others.
            code: its exit code.
            out: on stdout.
            err: on stderr.
            makes: a file that the call leaves behind.
            waits_for: a file without which it does not end.
        """
        self.prepend(words, code, out, err, makes, waits_for)
        self.write()

    def prepend(
        self, words: Sequence[str], code: int, out: str, err: str, makes: str = "", waits_for: str = ""
    ) -> None:
        self.answers.insert(0, (list(words), code, out, err, makes, waits_for))

    def containers(self, *found: Container) -> None:
        """Let these be the project's containers."""
        lines: list[str] = []
        for each in found:
            ports = {f"{port}/tcp": [{"HostPort": str(place)}] for port, place in each.published.items()}
            state: dict[str, Any] = {"Status": each.state, "ExitCode": each.exit_code}
            state |= {"Health": {"Status": each.health}} if each.health else {}
            check = {"Test": ["CMD", *each.check]} if each.check else None
            facts = {"id": each.id, "service": each.service, "state": state, "ports": ports, "check": check}
            lines.append(json.dumps(facts))
        self.prepend(["ps", "--all"], 0, "\n".join(each.id for each in found), "")
        self.prepend(["inspect", client.FACTS], 0, "\n".join(lines), "")
        self.write()

    def states(self, **services: str) -> None:
        """Let there be ``trading_bot="running healthy"``, ``ops="exited 0"`` and so on."""
        found: list[Container] = []
        for name, words in services.items():
            state, _, more = words.partition(" ")
            ended = state in ("exited", "restarting")
            service = name.replace("_", "-")
            found.append(
                Container(
                    f"id-of-{service}", service, state, "" if ended else more, int(more) if ended else 0, {}, CHECK
                )
            )
        self.containers(*found)

    def calls(self) -> list[list[str]]:
        """What was asked of Compose, without the words that every call has; questions left out."""
        found: list[list[str]] = []
        for line in (self.home / "calls").read_text().splitlines() if (self.home / "calls").exists() else ():
            words, _ = json.loads(line)
            if words[0] == "compose" and "--project-name" in words:
                asked = words[words.index("--project-name") + 2 :]
                if asked[0] != "logs":
                    found.append(asked)
        return found

    def plain_calls(self) -> list[list[str]]:
        """What was asked of the engine itself."""
        found = [json.loads(line)[0] for line in (self.home / "calls").read_text().splitlines()]
        return [words for words in found if words[0] != "compose"]

    def environments(self) -> list[dict[str, str]]:
        return [json.loads(line)[1] for line in (self.home / "calls").read_text().splitlines()]


@pytest.fixture
def docker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compose: Compose, checkout: Checkout) -> FakeDocker:
    """Everything is built and healthy, until a test says otherwise."""
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "docker").write_text(DOCKER.format(python=sys.executable, home=str(tmp_path)))
    (folder / "docker").chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=":")
    monkeypatch.setattr(questions, "ready", lambda *_: Readiness(True))  # the dashboard, on its published port
    docker_engine.probe.cache_clear()
    fake = FakeDocker(tmp_path)
    fake.answer("exec", "id-of-postgres", out="18.6|7711065425817272354\n0002\n")
    fake.answer("version", "{{.Server.Version}}", out="26.1.5\n")
    fake.answer("compose", "version", "--short", out="2.40.3\n")
    fake.answer("config", "--images", out="ghcr.io/railwayapp-templates/postgres-ssl:18\n")
    fake.states(postgres="running healthy", ops="exited 0", trading_bot="running healthy", dashboard="running healthy")
    tags = {service: f"{compose.project}-{service}:latest" for service in images.DOCKERFILES}
    fake.answer(
        "image",
        "inspect",
        tags["ops"],
        out=json.dumps([{"Id": f"id-{name}", "RepoTags": [tag]} for name, tag in tags.items()]),
    )
    built = {name: [images.fingerprint(checkout.root, path), f"id-{name}"] for name, path in images.DOCKERFILES.items()}
    (checkout.home / "images.json").write_text(json.dumps(built))
    return fake


def quiet() -> Progress:
    return Progress(io.StringIO())


def start(*services: str) -> list[str]:
    return ["up", "--detach", "--no-build", "--no-deps", *services]


# ---- commands


def test_no_secret_stands_in_a_command_or_comes_from_the_shell(
    compose: Compose, checkout: Checkout, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POSTGRES_PASSWORD", "of-another-project")
    monkeypatch.setenv("COMPOSE_FILE", "/somewhere/else.yml")
    values = env_file.read(checkout)
    command = " ".join(compose.command("up", "--detach"))
    assert not [key for key, value in values.items() if env_file.is_secret(key) and value in command]
    assert f"--project-name {values['COMPOSE_PROJECT_NAME']} up" in command
    assert not {"POSTGRES_PASSWORD", "COMPOSE_FILE"} & set(compose.environment())
    assert compose.environment()["PATH"]


def test_up_goes_step_by_step_and_builds_nothing_that_is_built(checkout: Checkout, docker: FakeDocker) -> None:
    status = ComposeTarget(checkout).up(quiet(), [], assume_yes=True)
    assert [words for words in docker.calls() if words[0] != "exec"] == [
        start("postgres"),
        start("ops"),
        start("trading-bot", "dashboard"),
    ]
    assert status.healthy


def test_up_builds_only_the_image_whose_inputs_have_changed(checkout: Checkout, docker: FakeDocker) -> None:
    memory = checkout.home / "images.json"
    built = json.loads(memory.read_text())
    memory.write_text(json.dumps(built | {"dashboard": ["of before", "id-dashboard"]}))
    ComposeTarget(checkout).up(quiet(), [], assume_yes=True)
    assert docker.calls()[0] == ["build", "dashboard"]
    assert json.loads(memory.read_text()) == built


def test_up_downloads_the_database_image_first_when_it_is_missing(checkout: Checkout, docker: FakeDocker) -> None:
    docker.answer("image", "inspect", "ghcr.io/railwayapp-templates/postgres-ssl:18", code=1)
    ComposeTarget(checkout).up(quiet(), [], assume_yes=True)
    assert docker.calls()[0] == ["pull", "postgres"]


def test_down_keeps_the_volume_and_reset_does_not(checkout: Checkout, docker: FakeDocker) -> None:
    ComposeTarget(checkout).down(quiet())
    ComposeTarget(checkout).reset(quiet())
    assert docker.calls() == [["down", "--remove-orphans"], ["down", "--volumes", "--remove-orphans"]]


@pytest.mark.parametrize(
    ("act", "expected"),
    [
        (lambda target: target.exec("dashboard", ["tradedb", "info"]), ["exec", "-T", "dashboard", "tradedb", "info"]),
        (lambda target: target.exec("ops", ["true"]), ["run", "--rm", "--no-deps", "-T", "--name", "ops", "true"]),
        (lambda target: target.logs("ops", follow=True), ["logs", "--no-color", "--tail=200", "--follow", "ops"]),
        (
            lambda target: target.psql(["-c", "SELECT 1"]),
            ["exec", "-T", "postgres", "psql", "--username=postgres", "--dbname=railway", "-c", "SELECT 1"],
        ),
    ],
)
def test_a_command_is_handed_on_with_its_exit_code(
    checkout: Checkout, docker: FakeDocker, act: Callable[[ComposeTarget], int], expected: list[str]
) -> None:
    docker.answer(*expected, code=7)
    assert act(ComposeTarget(checkout)) == 7


def test_a_service_that_is_not_there(checkout: Checkout) -> None:
    target = ComposeTarget(checkout)
    for ask in (
        lambda: target.logs("bot", follow=False),
        lambda: target.restart(quiet(), "bot"),
        lambda: target.exec("bot", ["true"]),
    ):
        with pytest.raises(SwitchyardError, match="STACK-035: there is no service 'bot' here") as caught:
            ask()
        assert caught.value.why == "The services are: postgres, trading-bot, dashboard, ops. Nothing was done."
        assert caught.value.exit_code == 2


def test_reset_says_what_stays(
    checkout: Checkout, docker: FakeDocker, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Checkout, "find", lambda: checkout)
    checkout.remember(target="compose")
    (checkout.home / "postgres").mkdir()
    stack.reset(None, assume_yes=True)
    shown = capsys.readouterr()
    project = env_file.read(checkout)["COMPOSE_PROJECT_NAME"]
    assert f"docker image rm {project}-dashboard {project}-ops {project}-trading-bot\n" in shown.err
    assert f"The embedded target keeps a database of its own in {checkout.home / 'postgres'}" in shown.out
    assert ".venv/bin/switchyard reset --target embedded" in shown.out
    stack.reset("embedded", assume_yes=True)
    assert "The data is deleted" in capsys.readouterr().out
    stack.reset("embedded", assume_yes=True)
    assert "There is no data to delete: the embedded target has none." in capsys.readouterr().out


def test_the_other_targets_data_is_mentioned_when_the_target_changes(
    checkout: Checkout, docker: FakeDocker, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Checkout, "find", lambda: checkout)
    (checkout.home / "postgres").mkdir()
    checkout.remember(target="embedded")
    words = f"The embedded target keeps a database of its own in {checkout.home / 'postgres'}"
    stack.up("compose", [], new_ports=False, assume_yes=True)
    assert words in capsys.readouterr().err
    stack.up("compose", [], new_ports=False, assume_yes=True)
    assert words not in capsys.readouterr().err
    assert ComposeTarget(checkout).data_place() is None
    docker.answer("volume", "ls", out="switchyard-1_postgres-data\n")
    assert ComposeTarget(checkout).data_place() == "the volume switchyard-1_postgres-data"
    docker.answer("volume", "ls", code=1, err="Cannot connect to the Docker daemon")
    assert ComposeTarget(checkout).data_place() is None


def test_up_says_that_everything_ran_only_if_it_did_nothing(
    checkout: Checkout, docker: FakeDocker, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Checkout, "find", lambda: checkout)
    stack.up("compose", [], new_ports=False, assume_yes=True)
    assert "Everything ran already; checked in " in capsys.readouterr().out
    memory = checkout.home / "images.json"
    memory.write_text(json.dumps(json.loads(memory.read_text()) | {"dashboard": ["of before", "id-dashboard"]}))
    stack.up("compose", [], new_ports=False, assume_yes=True)
    assert "\nFinished in " in capsys.readouterr().out


def test_roles_are_said_once(
    checkout: Checkout, docker: FakeDocker, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Checkout, "find", lambda: checkout)
    checkout.remember(target="compose")
    docker.answer("switchyard", "db", "roles", out="role monitor: password set\nThe roles are as they should be.\n")
    stack.ensure_roles()
    assert capsys.readouterr().out == "role monitor: password set\nThe roles are as they should be.\n"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_the_command_inside_and_its_exit_code_counts(
    checkout: Checkout, docker: FakeDocker, number: signal.Signals
) -> None:
    """The client passes none on, so what runs inside is found by a mark in its environment."""
    docker.answer("exec", "lasting", waits_for="ended", code=5)
    docker.answer("exec", "sh", makes="ended")
    program = "import sys; from switchyard.cli import main; main(['exec', 'dashboard', '--', 'lasting'])"
    settings = {"SWITCHYARD_HOME": str(checkout.home), "SWITCHYARD_ENV_FILE": str(checkout.env_file)}
    checkout.remember(target="compose")
    with subprocess.Popen([sys.executable, "-c", program], env={**os.environ, **settings}) as process:
        deadline = time.monotonic() + 60
        while not any("lasting" in words for words in docker.calls()):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        process.send_signal(number)
        assert process.wait(60) == 5
    [asked] = [words for words in docker.calls() if "lasting" in words]
    mark = asked[asked.index("--env") + 1]
    assert mark.startswith("SWITCHYARD_EXEC=")
    assert ["docker", "exec", "id-of-dashboard", "sh", "-c", compose_target.END_MARKED, mark][
        1:
    ] in docker.plain_calls()


def test_restart_waits_and_ops_is_run_again(checkout: Checkout, docker: FakeDocker) -> None:
    ComposeTarget(checkout).restart(quiet(), "dashboard")
    ComposeTarget(checkout).restart(quiet(), "ops")
    assert docker.calls() == [["restart", "--no-deps", "dashboard"], start("ops")]


def test_running_is_false_without_settings_or_engine(checkout: Checkout, docker: FakeDocker) -> None:
    assert ComposeTarget(checkout).running()
    docker.states(postgres="exited 0")
    assert not ComposeTarget(checkout).running()
    docker.answer("ps", "--all", code=1, err="Cannot connect to the Docker daemon")
    assert not ComposeTarget(checkout).running()
    checkout.env_file.unlink()
    assert not ComposeTarget(checkout).running()


# ---- the database's address


def test_down_without_env_does_not_say_that_nothing_runs(
    checkout: Checkout, docker: FakeDocker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Checkout, "find", lambda: checkout)
    checkout.remember(target="compose")
    checkout.env_file.unlink()
    for command in (stack.down, lambda: stack.status(as_json=False)):
        with pytest.raises(SwitchyardError) as caught:
            command()
        assert (caught.value.code, caught.value.exit_code) == ("ENV-010", 78)


def test_a_url_is_private_and_says_how_to_open_the_door(
    checkout: Checkout, docker: FakeDocker, capsys: pytest.CaptureFixture[str]
) -> None:
    password = env_file.read(checkout)["DASHBOARD_DB_PASSWORD"]
    url = ComposeTarget(checkout).database_url("dashboard")
    assert url == (
        f"postgresql://dashboard:{password}@postgres.railway.internal:5432/railway"
        "?sslmode=require&channel_binding=require&require_auth=scram-sha-256"
    )
    assert "docker-compose.debug.yml" in capsys.readouterr().err


def test_a_url_is_on_loopback_while_the_port_is_published(
    checkout: Checkout, docker: FakeDocker, capsys: pytest.CaptureFixture[str]
) -> None:
    docker.containers(replace(RUNNING, service="postgres", published={5432: 25432}))
    assert "@127.0.0.1:25432/railway?sslmode=require" in ComposeTarget(checkout).database_url("admin")
    assert capsys.readouterr().err == ""


# ---- copying


@pytest.fixture
def history(tmp_path: Path) -> Source:
    path = tmp_path / "a file with spaces.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE trades (id INTEGER PRIMARY KEY)")
        connection.execute("INSERT INTO trades VALUES (1)")
        connection.commit()
    return Source("bot", path)


def test_a_copy_reads_a_snapshot_that_is_gone_afterwards(
    checkout: Checkout, docker: FakeDocker, history: Source
) -> None:
    status = ComposeTarget(checkout).copy([history], assume_yes=True, as_json=True, dry_run=False)
    assert status == 0
    [words] = docker.calls()
    inside = f"/source{history.path}"
    assert words[words.index("ops") :] == ["ops", "switchyard", "copy", "--source", f"bot={inside}", "--yes", "--json"]
    mount = words[words.index("--volume") + 1]
    assert mount.startswith(f"{checkout.home}/source-")
    assert mount.endswith(":/source")
    assert list(checkout.home.glob("source-*")) == []


def test_a_failed_copy_keeps_the_services_from_starting(
    checkout: Checkout, docker: FakeDocker, history: Source
) -> None:
    docker.answer("switchyard", "copy", code=1)
    with pytest.raises(SwitchyardError, match="COMPOSE-010") as caught:
        ComposeTarget(checkout).up(quiet(), [history], assume_yes=True)
    assert caught.value.exit_code == 1
    assert [words[-1] for words in docker.calls() if words[0] == "up"] == ["postgres", "ops"]


def test_a_source_that_is_no_database_never_reaches_a_container(
    checkout: Checkout, docker: FakeDocker, tmp_path: Path
) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("dear diary")
    with pytest.raises(SwitchyardError, match="COPY-004"):
        ComposeTarget(checkout).copy([Source("bot", path)], assume_yes=True, as_json=False, dry_run=False)
    assert docker.calls() == []
    assert list(checkout.home.glob("source-*")) == []


# ---- what goes wrong


def failure(checkout: Checkout) -> SwitchyardError:
    with pytest.raises(SwitchyardError) as caught:
        ComposeTarget(checkout).up(quiet(), [], assume_yes=True)
    return caught.value


def test_ops_that_fails_is_quoted_with_its_own_error_and_exit_code(checkout: Checkout, docker: FakeDocker) -> None:
    docker.states(postgres="running healthy", ops="exited 78", dashboard="running healthy")
    docker.answer("logs", "ops", out="noise\nerror DB-004: password authentication failed\n  Why.\n  Fix: this\n")
    error = failure(checkout)
    assert (error.code, error.exit_code) == ("COMPOSE-011", 78)
    assert "error DB-004: password authentication failed | Why. | Fix: this" in error.why
    assert [words[-1] for words in docker.calls()] == ["postgres", "ops"]


def test_another_superuser_password_is_said_as_on_the_embedded_target(checkout: Checkout, docker: FakeDocker) -> None:
    docker.states(postgres="running healthy", ops="exited 78", dashboard="running healthy")
    said = (
        "error DB-003: postgres.railway.internal:5432/railway refuses the password of postgres\n  Why.\n  Fix: this\n"
    )
    docker.answer("logs", "ops", out=said)
    error = failure(checkout)
    assert (error.code, error.exit_code) == ("STACK-042", 78)
    assert f"put the old one back into {checkout.env_file}, or make reset" in error.fix


@pytest.mark.parametrize(
    ("state", "said"),
    [
        ("exited 3", "exited (exit code 3)"),
        ("restarting 1", "restarting (exit code 1)"),
        ("running unhealthy", "running and unhealthy"),
    ],
)
def test_a_service_that_is_not_ready_is_named_with_its_last_lines(
    checkout: Checkout, docker: FakeDocker, monkeypatch: pytest.MonkeyPatch, state: str, said: str
) -> None:
    monkeypatch.setattr(compose_target, "UNHEALTHY_S", 1)
    docker.states(postgres="running healthy", ops="exited 0", trading_bot="running healthy", dashboard=state)
    docker.answer("logs", "dashboard", out='{"event": "configuration refused"}\n')
    error = failure(checkout)
    assert (error.code, error.exit_code) == ("COMPOSE-008", 1)
    within = r" within \d+ s" if "unhealthy" in state else ""
    assert re.fullmatch(f"dashboard did not become ready{within}: its container is {re.escape(said)}", error.what)
    assert "configuration refused" in error.why


def test_an_unhealthy_of_before_is_outdated(checkout: Checkout, docker: FakeDocker) -> None:
    """Right after an outage the engine still says so; its next question clears it, and `make up` waits for that."""
    docker.states(postgres="running healthy", ops="exited 0", trading_bot="running unhealthy", dashboard="running")

    def recover() -> None:
        docker.states(postgres="running healthy", ops="exited 0", trading_bot="running healthy", dashboard="running")

    later = threading.Timer(1.5, recover)
    later.start()
    try:
        assert ComposeTarget(checkout).up(quiet(), [], assume_yes=True).services[1].healthy
    finally:
        later.join()


def test_up_resumes_what_somebody_paused(checkout: Checkout, docker: FakeDocker) -> None:
    docker.states(postgres="paused", ops="exited 0", trading_bot="paused", dashboard="running healthy")
    with pytest.raises(SwitchyardError):  # this docker's containers stay paused
        ComposeTarget(checkout).up(quiet(), [], assume_yes=True)
    assert docker.calls()[0] == ["unpause", "postgres", "trading-bot"]


@pytest.mark.parametrize(
    ("words", "said", "code", "exit_code"),
    [
        (["build"], "#9 ERROR: executor failed running [/bin/sh -c pip]: exit code: 1", "COMPOSE-003", 1),
        (
            ["build"],
            "failed to solve: python:3.13-slim: failed to resolve source metadata: dial tcp: no such host",
            "COMPOSE-002",
            69,
        ),
        (["pull"], "Error response from daemon: manifest unknown", "COMPOSE-002", 69),
        (["up", "dashboard"], "Error: Bind for 127.0.0.1:25000 failed: port is already allocated", "COMPOSE-004", 78),
        (
            ["up", "dashboard"],
            "can't set healthcheck.start_interval as feature require Docker Engine v25 or later",
            "COMPOSE-005",
            78,
        ),
        (["build"], "write /var/lib/docker/tmp: no space left on device", "COMPOSE-006", 1),
        (["up", "postgres"], "Error response from daemon: something new", "COMPOSE-001", 1),
    ],
)
def test_what_docker_complains_about_gets_its_own_code(
    checkout: Checkout, docker: FakeDocker, words: list[str], said: str, code: str, exit_code: int
) -> None:
    (checkout.home / "images.json").unlink()
    docker.answer("image", "inspect", "ghcr.io/railwayapp-templates/postgres-ssl:18", code=1)
    docker.answer(*words, code=1, err=f"{said}\n")
    error = failure(checkout)
    assert (error.code, error.exit_code) == (code, exit_code)
    assert said in error.why
    assert error.fix


def test_an_engine_that_went_away_is_the_answer_before_any_guess(docker: FakeDocker) -> None:
    docker.answer("version", code=1, err="Cannot connect to the Docker daemon at unix:///var/run/docker.sock\n")
    with pytest.raises(SwitchyardError, match="STACK-012") as caught:
        complain("docker compose up", ["whatever"])
    assert caught.value.exit_code == 69


def test_a_command_that_hangs_is_ended(compose: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "slow"
    folder.mkdir()
    (folder / "docker").write_text("#!/bin/sh\n/bin/sleep 30 &\nwait\n")  # a child holds the pipe, as the plugin does
    (folder / "docker").chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=":")
    for act in (lambda: compose.ask("logs", timeout_s=0.5), lambda: compose.stream(Step("x"), "up", timeout_s=0.5)):
        with pytest.raises(SwitchyardError, match="COMPOSE-009") as caught:
            act()
        assert caught.value.exit_code == 69


def test_what_works_inside_a_container_needs_one(checkout: Checkout, docker: FakeDocker, history: Source) -> None:
    docker.states(dashboard="exited 1")
    target = ComposeTarget(checkout)
    acts: list[Callable[[], Any]] = [
        lambda: target.exec("dashboard", ["true"]),
        lambda: target.psql([]),
        lambda: target.restart(quiet(), "trading-bot"),
        lambda: target.copy([history], assume_yes=True, as_json=False, dry_run=False),
    ]
    for act in acts:
        with pytest.raises(SwitchyardError, match="COMPOSE-007") as caught:
            act()
        assert caught.value.exit_code == 69
        assert caught.value.fix == "make up"


# ---- words and facts


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("#12 [dashboard builder 3/9] RUN pip install", "dashboard: RUN pip install"),
        (
            "Step 4/21 : COPY requirements/build.txt requirements/",
            "step 4/21: COPY requirements/build.txt requirements/",
        ),
        ("#12 DONE 0.1s", ""),
        (" ---> 90a5ee1ca3a1".strip(), ""),
        ("Container switchyard-1-postgres-1  Started", "Container switchyard-1-postgres-1  Started"),
        ("x" * 200, "x" * (client.DETAIL_WIDTH - 2) + " …"),
    ],
)
def test_a_line_of_progress_is_short_and_says_something(line: str, shown: str) -> None:
    assert detail(line) == shown


def test_last_words_are_the_error_or_the_last_lines() -> None:
    assert last_words(["a", "error X-001: b", "  why"]) == "error X-001: b | why"
    assert last_words([str(number) for number in range(50)]) == "44 | 45 | 46 | 47 | 48 | 49"
    assert last_words([]) == "nothing"


def test_what_inspect_prints_is_read_line_by_line() -> None:
    facts = (
        '{"id":"1","service":"postgres","state":{"Status":"running","ExitCode":0,"Health":{"Status":"healthy"}},'
        '"ports":{"5432/tcp":null},"check":{"Test":["CMD-SHELL","pg_isready"]}}\n'
        '{"id":"2","service":"ops","state":{"Status":"exited","ExitCode":1},"ports":{},"check":null}\n'
        '{"id":"3","service":"dashboard","state":{"Status":"running","ExitCode":0,"Health":{"Status":"starting"}},'
        '"ports":{"8080/tcp":[{"HostIp":"127.0.0.1","HostPort":"25000"}]},"check":{"Test":["CMD","python","x"]}}\n'
    )
    assert containers(facts) == {
        "postgres": Container("1", "postgres", "running", "healthy", 0, {}, ("sh", "-c", "pg_isready")),
        "ops": Container("2", "ops", "exited", "", 1, {}),
        "dashboard": Container("3", "dashboard", "running", "starting", 0, {8080: 25000}, ("python", "x")),
    }
    assert containers("") == {}


@pytest.mark.parametrize(
    ("container", "state", "healthy"),
    [
        (None, "stopped", False),
        (RUNNING, "running", True),
        (replace(RUNNING, health="starting"), "starting", True),
        (replace(RUNNING, health="unhealthy"), "running", True),
        (replace(RUNNING, state="restarting", exit_code=1), "failed", False),
        (replace(RUNNING, state="exited", exit_code=0), "stopped", False),
        (replace(RUNNING, state="exited", exit_code=137), "failed", False),
        (replace(RUNNING, state="paused"), "paused", False),
    ],
)
def test_a_status_line_is_what_the_service_says(container: Container | None, state: str, healthy: bool) -> None:
    """The engine's own opinion is up to half a minute old, in both directions."""
    seen = service_status("dashboard", container, None, said=Readiness(False, "it waits"))
    assert (seen.state, seen.healthy, seen.reason) == (state, False, "it waits")
    seen = service_status("dashboard", container, None, said=Readiness(True))
    assert (seen.state, seen.healthy) == ("running" if state == "starting" else state, healthy)


@pytest.mark.parametrize(
    ("asked", "fails"), [("trading-bot", "trading-bot"), ("dashboard", "dashboard"), ("postgres", "postgres")]
)
def test_status_asks_the_services_themselves(
    checkout: Checkout, docker: FakeDocker, monkeypatch: pytest.MonkeyPatch, asked: str, fails: str
) -> None:
    """Everything is healthy to the engine, whose last questions were before the trouble."""
    assert ComposeTarget(checkout).status().healthy
    places: list[tuple[str, int]] = []
    if asked == "dashboard":
        monkeypatch.setattr(
            questions, "ready", lambda host, port, *_: Readiness(places.append((host, port)) is not None, "no answer")
        )
    else:
        docker.answer("exec", f"id-of-{asked}", code=2, err="psql: error: FATAL:  sorry, too many clients already\n")
    found = ComposeTarget(checkout).status()
    assert {service.name for service in found.services if not service.healthy} == {fails}
    assert {service.state for service in found.services} == {"running"}
    assert found.database.reason == (
        "Postgres has no connection left, not even for its superuser" if asked == "postgres" else None
    )
    if asked == "dashboard":
        assert places == [("127.0.0.1", int(env_file.read(checkout)["DASHBOARD_PORT"]))]


def test_a_service_that_does_not_answer_status_is_not_waited_for(
    checkout: Checkout, docker: FakeDocker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compose_target, "ANSWER_TIMEOUT_S", 2)
    real = client.run

    def hang(command: list[str], environment: Mapping[str, str], timeout_s: float) -> Any:
        if "id-of-trading-bot" in command or "id-of-postgres" in command:
            command = ["sleep", "600"]
        return real(command, environment, timeout_s)

    monkeypatch.setattr(compose_target, "run", hang)
    found = ComposeTarget(checkout).status()
    assert [service.healthy for service in found.services] == [False, False, True]
    assert found.database.reason == "no answer within 2 s"


def test_status_never_raises_because_something_is_away(checkout: Checkout, docker: FakeDocker) -> None:
    docker.answer("exec", out="18.6|7711065425817272354\n", code=1, err="relation does not exist")
    database = ComposeTarget(checkout).status().database
    assert (database.server_version, database.system_identifier) == ("18.6", "7711065425817272354")
    assert (database.revision, database.head) == (None, head_revision())
    docker.answer("exec", out="18.6|7711065425817272354\n0002\n")
    assert ComposeTarget(checkout).status().database.revision == "0002"
    docker.answer("exec", code=1, err="the database system is starting up")
    status = ComposeTarget(checkout).status()
    assert [service.healthy for service in status.services] == [False, False, True]
    assert (status.database.host, status.database.system_identifier) == ("postgres.railway.internal", None)
    assert status.database.reason == "Postgres is starting"
    docker.answer("ps", "--all", code=1, err="Cannot connect to the Docker daemon")
    assert [service.state for service in ComposeTarget(checkout).status().services] == ["stopped"] * 3


# ---- what must be built


def test_a_fingerprint_changes_with_every_input_and_with_nothing_else(tmp_path: Path) -> None:
    package = tmp_path / "services/x"
    (package / "src/x").mkdir(parents=True)
    (tmp_path / "requirements").mkdir()
    (package / "Dockerfile").write_text(
        "FROM a\nCOPY requirements/x.txt requirements/\nCOPY services/x services/x\nCOPY --from=b /c /d\n"
    )
    files = [
        ".dockerignore",
        "requirements/x.txt",
        "services/x/pyproject.toml",
        "services/x/src/x/a.py",
        "services/x/src/x/b.html",
    ]
    for name in files:
        (tmp_path / name).write_text("1")
    seen = [images.fingerprint(tmp_path, "services/x/Dockerfile")]
    for name in [*files, "services/x/src/x/new.py"]:
        (tmp_path / name).write_text("2")
        seen.append(images.fingerprint(tmp_path, "services/x/Dockerfile"))
    assert len(set(seen)) == len(seen)
    (package / "src/x/__pycache__").mkdir()
    (package / "src/x/__pycache__/a.cpython-313.pyc").write_text("3")
    (tmp_path / "requirements/other.txt").write_text("3")
    assert images.fingerprint(tmp_path, "services/x/Dockerfile") == seen[-1]


def test_an_image_is_outdated_when_it_is_missing_another_one_or_of_other_inputs() -> None:
    fingerprints = {"ops": "a", "dashboard": "b", "trading-bot": "c"}
    built = {"ops": ["a", "1"], "dashboard": ["b", "2"], "trading-bot": ["old", "3"]}
    assert images.outdated(built, fingerprints, {"ops": "1", "dashboard": "other", "trading-bot": "3"}) == [
        "dashboard",
        "trading-bot",
    ]
    assert images.outdated(built, fingerprints, {"dashboard": "2", "trading-bot": "3"}) == ["ops", "trading-bot"]
    assert images.outdated({}, fingerprints, {}) == list(fingerprints)
