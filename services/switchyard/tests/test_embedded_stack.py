"""The embedded target, for real: one instance, through what a day may bring. The tests share its stack."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import shutil
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import psycopg2
import pytest
from switchyard.targets.embedded import EmbeddedTarget, ending, state_folder

if TYPE_CHECKING:
    from conftest import Answer, Instance

BACK_AGAIN_S = 90
TABLES = "SELECT count(*) FROM order_intents"


def ok(answer: Answer) -> Answer:
    assert answer.code == 0, answer.err + answer.out
    return answer


def refused(answer: Answer, code: str, exit_code: int) -> str:
    """Assert a three-line error, and return it."""
    assert answer.code == exit_code, answer.err + answer.out
    lines = answer.err.splitlines()
    at = next(i for i, line in enumerate(lines) if line.startswith(f"error {code}: "))
    assert lines[at + 2].startswith("  Fix: ")
    return "\n".join(lines[at : at + 3])


def settings(instance: Instance) -> dict[str, str]:
    lines = instance.env_file.read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def edit(instance: Instance, key: str, value: str) -> None:
    lines = [
        f"{key}={value}" if line.startswith(f"{key}=") else line for line in instance.env_file.read_text().splitlines()
    ]
    instance.env_file.write_text("\n".join(lines) + "\n")


def data(instance: Instance) -> Path:
    return instance.home / "postgres"


def pid_of(instance: Instance, service: str) -> int:
    if service == "supervisor":
        return int((instance.home / "run" / "supervisord.pid").read_text())
    if service == "postgres":
        return int((data(instance) / "postmaster.pid").read_text().splitlines()[0])
    return json.loads((instance.home / "run" / f"{service}.json").read_text())["pid"]


def processes(instance: Instance) -> list[str]:
    """What runs of this instance: by its home in the environment, or in the arguments."""
    found: list[str] = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            line = " ".join(process.cmdline())
            if str(instance.home) in line or process.environ().get("SWITCHYARD_HOME") == str(instance.home):
                found.append(f"{process.pid} {line}")
    return found


def soon(question: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + BACK_AGAIN_S
    while not question():
        assert time.monotonic() < deadline, what
        time.sleep(0.1)


def healthy(instance: Instance) -> bool:
    """What `switchyard status` finds, without the second that a new process takes to ask."""
    return EmbeddedTarget(instance.checkout).status().healthy


@pytest.fixture(scope="module")
def first(instance: Instance) -> Answer:
    """What the first `up` said; an initdb of before was killed."""
    (instance.home / "postgres.new-1234").mkdir(parents=True)
    return ok(instance.run("up", "--target", "embedded"))


@pytest.fixture
def stack(instance: Instance, first: Answer) -> Instance:
    """A running stack, whatever the test before did to it."""
    if not healthy(instance):
        ok(instance.run("up"))
    return instance


def test_before_the_first_start(instance: Instance) -> None:
    shown = instance.run("status", "--json")
    assert shown.code == 1
    assert shown.json()["target"] is None
    assert {service["state"] for service in shown.json()["services"]} == {"stopped"}
    assert "Next: make up" in instance.run("status").out
    assert ok(instance.run("down")).out == "Nothing runs.\n"
    assert "nothing was ever started" in ok(instance.run("reset")).out
    for command in (["logs"], ["psql"], ["db", "url"], ["restart", "dashboard"], ["config", "show"]):
        refused(instance.run(*command), "STACK-003", 1)
    assert processes(instance) == []


def test_the_first_start_says_what_it_did_and_where_everything_is(instance: Instance, first: Answer) -> None:
    assert "target: embedded (asked for)" in first.err
    assert not (instance.home / "postgres.new-1234").exists()
    for step in ("New database made", "PostgreSQL answers", "Roles and schema", "trading-bot and dashboard are ready"):
        assert f"done   {step}" in first.err
    lines = first.out.strip().splitlines()
    assert lines[0].split() == ["SERVICE", "STATE", "URL"]
    assert [line.split()[:2] for line in lines[1:4]] == [
        ["postgres", "running"],
        ["trading-bot", "running"],
        ["dashboard", "running"],
    ]
    assert "Login: admin, password: in .env (DASHBOARD_PASSWORD)" in first.out
    assert "Next: open http://127.0.0.1:" in first.out
    assert lines[-1].startswith("Finished in ")
    for key, value in settings(instance).items():
        if key.endswith(("_PASSWORD", "_SECRET")):
            assert value not in first.out + first.err, key


def test_the_status_object(stack: Instance) -> None:
    shown = ok(stack.run("status", "--json")).json()
    assert set(shown) == {"schema_version", "target", "services", "database"}
    assert (shown["schema_version"], shown["target"]) == (1, "embedded")
    assert [set(service) for service in shown["services"]] == [{"name", "state", "url", "healthy", "own", "reason"}] * 3
    database = shown["database"]
    assert set(database) == {"host", "port", "server_version", "system_identifier", "revision", "head", "reason"}
    assert database["reason"] is None
    assert "\nTarget: embedded\n" in ok(stack.run("status")).out
    assert database["host"] == "127.0.0.1"
    assert database["server_version"].startswith("18.")
    assert database["revision"] == database["head"]
    assert database["system_identifier"].isdigit()


def test_the_server_is_as_safe_as_promised(stack: Instance) -> None:
    asked = {
        "data_checksums": "on",
        "fsync": "on",
        "listen_addresses": "127.0.0.1",
        "unix_socket_directories": "",
        "password_encryption": "scram-sha-256",
        "max_connections": "100",
        "TimeZone": "UTC",
        "shared_preload_libraries": "pg_stat_statements",
    }
    shown = ok(stack.run("psql", "-Atc", "; ".join(f"SHOW {name}" for name in asked))).out.splitlines()
    assert dict(zip(asked, shown, strict=True)) == asked
    rules = ok(stack.run("psql", "-Atc", "SELECT type, auth_method, address FROM pg_hba_file_rules")).out.splitlines()
    assert rules == ["host|scram-sha-256|127.0.0.1"]
    assert psutil.Process(pid_of(stack, "postgres")).uids().real != 0


def test_up_again_changes_nothing_and_says_so(stack: Instance) -> None:
    before = {name: pid_of(stack, name) for name in ("supervisor", "postgres")}
    again = ok(stack.run("up"))
    assert "Everything ran already; checked in " in again.out
    assert "embedded (as last time)" in again.err
    assert {name: pid_of(stack, name) for name in before} == before


def test_another_target_and_another_command_are_refused_meanwhile(stack: Instance) -> None:
    said = refused(stack.run("up", "--target", "compose"), "STACK-002", 1)
    assert "the embedded target runs; it and compose do not run side by side" in said
    with stack.checkout.lock("up"):
        said = refused(stack.run("up"), "STACK-006", 1)
        assert f"switchyard up (pid {os.getpid()}, user " in said
        refused(stack.run("down"), "STACK-006", 1)
    shown = stack.run("db", "url", "--role", "nobody")
    assert shown.code == 2
    assert "'nobody' is not one of" in shown.err


def test_each_role_has_a_url_that_works(stack: Instance) -> None:
    words = {"admin": "postgres", "trading-bot": "trading_bot", "dashboard": "dashboard", "monitor": "monitor"}
    for word, role in words.items():
        url = ok(stack.run("db", "url", "--role", word)).out.strip()
        assert "?sslmode=disable&require_auth=scram-sha-256" in url
        with contextlib.closing(psycopg2.connect(url)) as connection, connection.cursor() as cursor:
            cursor.execute("SELECT current_user, current_database()")
            assert cursor.fetchone() == (role, "railway")


def test_a_command_gets_a_service_s_own_environment_and_no_other_s(stack: Instance) -> None:
    own = {"trading-bot": {"TRADING_BOT_DB_PASSWORD"}, "dashboard": set[str]()}
    own["dashboard"] = {"DASHBOARD_DB_PASSWORD", "DASHBOARD_PASSWORD", "DASHBOARD_SESSION_SECRET"}
    shown = ok(stack.run("config", "show", "--service", "dashboard", "--json")).json()
    sources = {line["name"]: line["source"] for line in shown["settings"]}
    wanted = {"DASHBOARD_USER": ".env", "DATABASE_URL": "environment", "LOG_LEVEL": "default"}
    assert {name: sources[name] for name in wanted} == wanted
    for service, allowed in own.items():
        shown = ok(stack.run("exec", service, "--", "env")).out
        running = str(psutil.Process(pid_of(stack, service)).environ())
        for key, value in settings(stack).items():
            if key.endswith(("_PASSWORD", "_SECRET")):
                assert (value in shown) == (key in allowed), (service, key)
                assert (value in running) == (key in allowed), (service, key)
    said = refused(stack.run("exec", "dashboard", "--", "no-such-program"), "STACK-036", 2)
    assert "no program no-such-program" in said
    refused(stack.run("exec", "postgres", "--", "env"), "STACK-035", 2)


def test_no_secret_is_in_a_file_or_an_argument(stack: Instance) -> None:
    secrets = [value for key, value in settings(stack).items() if key.endswith(("_PASSWORD", "_SECRET"))]
    texts = {line: line for line in processes(stack)}
    for path in stack.home.rglob("*"):
        if path.is_file() and data(stack) not in path.parents:
            texts[str(path)] = path.read_text(errors="replace")
            assert not stat.S_IMODE(path.stat().st_mode) & 0o077 or path.name == "supervisord.log", path
    assert len(texts) > 10
    assert [name for name, text in texts.items() for secret in secrets if secret in text] == []


def test_logs(stack: Instance) -> None:
    own = ok(stack.run("logs", "trading-bot")).out.splitlines()
    assert json.loads(own[-1])["service"] == "trading-bot"
    everything = ok(stack.run("logs")).out
    assert {line.split(" | ")[0].strip() for line in everything.splitlines()} >= {
        "postgres",
        "trading-bot",
        "dashboard",
    }
    said = refused(stack.run("logs", "bot"), "STACK-035", 2)
    assert "The services are: postgres, trading-bot, dashboard." in said


def test_following_the_logs_shows_what_comes_and_ends_with_ctrl_c(stack: Instance) -> None:
    command = [str(Path(sys.executable).with_name("switchyard")), "logs", "-f", "dashboard"]
    seen: list[str] = []
    with subprocess.Popen(command, env=stack.variables(), stdout=subprocess.PIPE, text=True) as following:
        assert following.stdout is not None
        reading = threading.Thread(target=seen.extend, args=(following.stdout,))  # ends with the process
        reading.start()
        soon(lambda: bool(seen), "nothing of the log was shown")
        log = stack.home / "logs" / "dashboard.log"
        log.rename(log.with_suffix(".moved"))  # as a rotation does
        log.write_text("a new line\n")
        soon(lambda: "a new line\n" in seen, "the new file was not followed")
        following.send_signal(signal.SIGINT)
        assert following.wait(60) == 130
        reading.join(60)


@pytest.mark.parametrize("service", ["postgres", "trading-bot", "dashboard"])
def test_what_is_killed_comes_back_by_itself(stack: Instance, service: str) -> None:
    before = pid_of(stack, service)
    os.kill(before, signal.SIGKILL)

    def back() -> bool:
        with contextlib.suppress(OSError, ValueError):
            return pid_of(stack, service) != before and healthy(stack)
        return False

    soon(back, f"{service} did not come back")


@pytest.mark.parametrize("service", ["postgres", "dashboard"])
def test_restart(stack: Instance, service: str) -> None:
    before = pid_of(stack, service)
    assert f"{service} is ready again after" in ok(stack.run("restart", service)).out
    assert pid_of(stack, service) != before
    assert healthy(stack)


def on_a_terminal(instance: Instance, answer: str, *args: str) -> tuple[int, str]:
    """Run a command on a terminal, type `answer`, and return its exit code and what the terminal showed."""
    main, other = pty.openpty()
    command = [str(Path(sys.executable).with_name("switchyard")), *args]
    process = subprocess.Popen(
        command, env={**instance.variables(), "TERM": "dumb"}, stdin=other, stdout=other, stderr=other, close_fds=True
    )
    os.close(other)
    os.write(main, answer.encode())
    shown = b""
    with contextlib.suppress(OSError):
        while chunk := os.read(main, 4096):
            shown += chunk
    os.close(main)
    return process.wait(60), shown.decode()


def test_changed_settings_count_after_up_and_restart_only_whom_they_concern(stack: Instance) -> None:
    before = {name: pid_of(stack, name) for name in ("postgres", "trading-bot", "dashboard")}
    edit(stack, "DASHBOARD_USER", "owner")
    edit(stack, "MONITOR_DB_PASSWORD", "a-new-one")
    code, shown = on_a_terminal(stack, "", "up")
    assert code == 0, shown
    assert "dashboard stopped: settings or code changed" in shown
    assert "Finished in " in shown, "it is not true that everything ran already"
    after = {name: pid_of(stack, name) for name in before}
    assert {name for name in before if before[name] != after[name]} == {"dashboard"}
    assert f"Login: owner / {settings(stack)['DASHBOARD_PASSWORD']}" in shown, "a terminal gets the password"
    psycopg2.connect(ok(stack.run("db", "url", "--role", "monitor")).out.strip()).close()
    assert ok(stack.run("db", "roles")).out == "The roles are as they should be.\n"
    assert "The database is ready" in ok(stack.run("db", "prepare")).out


def test_processes_that_a_killed_supervisor_lost_are_ended_and_the_data_is_there(stack: Instance) -> None:
    identifier = ok(stack.run("status", "--json")).json()["database"]["system_identifier"]
    lost = [psutil.Process(pid_of(stack, name)) for name in ("postgres", "trading-bot", "dashboard")]
    os.kill(pid_of(stack, "supervisor"), signal.SIGKILL)
    soon(lambda: not healthy(stack), "supervisor is still there")
    shown = stack.run("status")
    assert shown.code == 1
    assert shown.out.count(" unwatched ") == 3, shown.out
    assert "supervisor is gone" in shown.out
    found = stack.run("status", "--json").json()
    assert {(service["state"], service["healthy"]) for service in found["services"]} == {("unwatched", False)}
    assert found["database"]["system_identifier"] == identifier
    assert "does not answer" not in shown.out
    again = ok(stack.run("up"))
    assert "PostgreSQL of an earlier run" in again.err
    assert "its supervisor is gone" in again.err
    # by now each is over, if not reaped: nothing of theirs holds a port, a file or the lease any more
    assert [process for process in lost if not ending.is_over(process)] == []
    assert ok(stack.run("status", "--json")).json()["database"]["system_identifier"] == identifier


def test_down_ends_also_what_a_killed_supervisor_lost(stack: Instance) -> None:
    os.kill(pid_of(stack, "supervisor"), signal.SIGKILL)
    soon(lambda: not healthy(stack), "supervisor is still there")
    ok(stack.run("down"))
    assert processes(stack) == []


def test_a_service_that_refuses_its_settings_is_quoted_soon(stack: Instance) -> None:
    right = settings(stack)["DASHBOARD_PASSWORD"]
    edit(stack, "DASHBOARD_PASSWORD", "short")
    try:
        said = refused(stack.run("up"), "STACK-030", 1)
        assert "dashboard does not start: DASH-002" in said
    finally:
        edit(stack, "DASHBOARD_PASSWORD", right)
    ok(stack.run("up"))  # what refused before is not held against it


def test_status_says_what_runs_although_env_is_gone(stack: Instance) -> None:
    aside = stack.env_file.rename(stack.env_file.with_name("env.aside"))
    try:
        shown = stack.run("status")
        assert shown.code == 1
        words = {line.split()[1] for line in shown.out.splitlines()[2:5]}
        assert words <= {"running,", "starting"}, shown.out
        assert "error ENV-010" in shown.err
        assert "does not answer" not in shown.out
        assert "was made with its passwords" in refused(stack.run("up"), "ENV-010", 78)
        assert not stack.env_file.exists()
    finally:
        aside.rename(stack.env_file)


def test_a_lost_note_of_the_target_is_found_again_from_the_data(stack: Instance) -> None:
    note = stack.home / "state.json"
    before = note.read_text()
    try:
        note.write_text("garbage")
        for command in ("status", "up"):
            assert f"rm {note}" in refused(stack.run(command), "STACK-007", 78)
        note.unlink()
        assert ok(stack.run("status", "--json")).json()["target"] == "embedded"
        assert "target: embedded (as last time)" in ok(stack.run("up")).err
        assert note.read_text() == before
    finally:
        note.write_text(before)


@pytest.fixture
def stopped(instance: Instance, first: Answer) -> Instance:
    """A stack that was up and is down."""
    ok(instance.run("down"))
    assert processes(instance) == []
    return instance


def test_after_down_nothing_runs_and_the_commands_say_so(stopped: Instance) -> None:
    shown = stopped.run("status", "--json")
    assert shown.code == 1
    assert shown.json()["database"]["system_identifier"] is None
    assert refused(stopped.run("restart", "dashboard"), "STACK-034", 69).endswith("Fix: make up")
    assert stopped.run("psql", "-c", "SELECT 1").code == 2  # psql's own: no connection
    assert ok(stopped.run("down")).out == "Nothing runs.\n"


def test_a_data_folder_of_another_major_is_explained_and_not_touched(stopped: Instance) -> None:
    version = data(stopped) / "PG_VERSION"
    version.write_text("17\n")
    before = sorted(data(stopped).rglob("*"))
    try:
        said = refused(stopped.run("up"), "PG-002", 78)
    finally:
        version.write_text("18\n")
    assert f"{data(stopped)} was made by PostgreSQL 17; this is PostgreSQL 18" in said
    assert "Nothing was touched." in said
    assert sorted(data(stopped).rglob("*")) == before


def test_a_folder_that_is_no_data_folder(stopped: Instance) -> None:
    version = data(stopped) / "PG_VERSION"
    aside = version.rename(version.with_name("PG_VERSION.aside"))
    try:
        assert "is no data folder of Postgres" in refused(stopped.run("up"), "PG-009", 78)
    finally:
        aside.rename(version)


@pytest.mark.parametrize("mode", [0o755, 0o770, 0o000])
def test_a_data_folder_whose_mode_postgres_refuses(stopped: Instance, mode: int) -> None:
    data(stopped).chmod(mode)
    try:
        said = refused(stopped.run("up"), "PG-011", 78)
        assert f"chmod 700 {data(stopped)}" in said
        assert processes(stopped) == []
    finally:
        data(stopped).chmod(0o700)


def test_a_wrong_superuser_password(stopped: Instance) -> None:
    right = settings(stopped)["POSTGRES_PASSWORD"]
    edit(stopped, "POSTGRES_PASSWORD", "another")
    try:
        said = refused(stopped.run("up"), "STACK-042", 78)
        shown = stopped.run("status").out
        assert "The database tells nothing of itself: Postgres refuses POSTGRES_PASSWORD of .env" in shown
    finally:
        edit(stopped, "POSTGRES_PASSWORD", right)
    assert "Postgres refuses the password of its superuser" in said
    assert "another" not in said.splitlines()[0]


def test_a_mistake_in_env_stops_up_and_not_status(stopped: Instance) -> None:
    text = stopped.env_file.read_text()
    stopped.env_file.write_text(text + "DASHBOARD_PROT=1\n")
    try:
        said = refused(stopped.run("up"), "ENV-004", 78)
        assert f"{stopped.env_file}:{len(text.splitlines()) + 1}: unknown key DASHBOARD_PROT" in said
        assert stopped.run("status").code == 1
        shown = stopped.run("db", "url", "--json")
        assert shown.code == 2
    finally:
        stopped.env_file.write_text(text)


@pytest.mark.parametrize(("bin_folder", "words"), [("/nowhere", "has no postgres"), ("old", "PostgreSQL 18 is needed")])
def test_another_installation_that_cannot_be_used(
    stopped: Instance, bin_folder: str, words: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folder = Path(bin_folder) if bin_folder.startswith("/") else tmp_path
    if folder == tmp_path:
        for program in ("postgres", "initdb", "psql"):
            (tmp_path / program).write_text("#!/bin/sh\necho 'postgres (PostgreSQL) 15.8'\n")
            (tmp_path / program).chmod(0o755)
    monkeypatch.setenv("SWITCHYARD_PG_BIN", str(folder))
    said = refused(stopped.run("up"), "PG-001", 78)
    assert words in said
    assert "Nothing was changed." in said


def test_a_source_that_is_not_there_stops_up_before_anything_starts(stopped: Instance) -> None:
    said = refused(stopped.run("up", "--source", "bot=/nowhere/bot.db"), "STACK-009", 2)
    assert "source bot: there is no file /nowhere/bot.db" in said
    assert processes(stopped) == []
    assert stopped.run("up", "--source", "/nowhere/bot.db").code == 2
    both = stopped.run("up", "--source", "bot=/nowhere/bot.db", "--source", "old=/nowhere/old.db")
    assert "2 sources were given" in refused(both, "COPY-027", 2)
    assert processes(stopped) == []


@contextlib.contextmanager
def listening(port: int) -> Iterator[None]:
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", port))
        listener.listen()
        yield


def test_a_port_that_was_taken_meanwhile_and_the_way_out(stopped: Instance) -> None:
    book = stopped.home / "ports.json"
    port = json.loads(book.read_text())["postgres"]
    pid_file = data(stopped) / "postmaster.pid"  # of a crash long ago; its pid belongs to somebody else now
    pid_file.write_text(f"{os.getpid()}\n{data(stopped)}\n0\n{port}\n\n127.0.0.1\n0 0\nready\n")
    shutil.chown(pid_file, data(stopped).stat().st_uid)
    with listening(port):
        said = refused(stopped.run("up"), "STACK-021", 78)
        assert f"port {port} on 127.0.0.1, which belongs to Postgres, is taken by" in said
        assert f"(pid {os.getpid()})" in said
        ok(stopped.run("up", "--new-ports"))
    assert json.loads(book.read_text())["postgres"] != port
    assert healthy(stopped)


def test_what_the_bot_keeps_is_in_a_folder_that_only_its_account_enters_and_down_leaves_it(stack: Instance) -> None:
    folder = state_folder.place(stack.checkout)
    bot = psutil.Process(pid_of(stack, "trading-bot"))
    assert bot.environ()["BOT_STATE_DIR"] == str(folder)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert folder.stat().st_uid == bot.uids().effective
    kept = folder / "kept"
    kept.write_text("of another account")  # as when root did not lend the services a user yet
    os.chown(folder, os.geteuid(), os.getegid())
    ok(stack.run("down"))
    assert kept.exists()
    ok(stack.run("up"))
    uid = psutil.Process(pid_of(stack, "trading-bot")).uids().effective
    assert {path.stat().st_uid for path in (folder, *folder.rglob("*"))} == {uid}
    assert kept.read_text() == "of another account"


def test_reset_asks_its_default_is_no_and_only_then_deletes(stack: Instance) -> None:
    said = refused(stack.run("reset"), "STACK-008", 2)
    assert "there is no terminal to ask on" in said
    assert "Nothing was deleted." in said
    code, shown = on_a_terminal(stack, "\n", "reset")
    assert code == 0
    assert "DELETE the database of the embedded target" in shown
    assert "[y/N]" in shown
    assert "Nothing was deleted." in shown
    assert healthy(stack)
    assert "The data is deleted" in ok(stack.run("reset", "--yes")).out
    assert processes(stack) == []
    assert not data(stack).exists()
    assert not state_folder.place(stack.checkout).exists()
    assert stack.env_file.exists()
