"""What goes wrong at an owner's desk, end to end: a code, what and where, whether anything changed, the next command.

docs/testing.md says where each row of the table is tested; this file has those that need the whole command line.
"""

from __future__ import annotations

import os
import re
import socket
import sqlite3
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import pytest

from history import make_twin
from stack_fixtures import NewInstance
from targets import SETTINGS, Target, attach
from targets.instance import CHECKOUT, SWITCHYARD, Completed, Instance
from watch import until

pytestmark = pytest.mark.targets("embedded")  # the same commands on every target; the cheap one is enough


def assert_error(done: Completed, code: str, exit_code: int, *texts: str) -> None:
    """Three lines on stderr: the code with what and where, the cause with whether anything changed, the next command."""
    assert done.returncode == exit_code, str(done)
    lines = done.stderr.splitlines()
    at = next((number for number, line in enumerate(lines) if re.match(r"error [A-Z]+-\d{3}: ", line)), None)
    assert at is not None, str(done)
    assert lines[at].startswith(f"error {code}: "), str(done)
    assert lines[at + 2].startswith("  Fix: "), str(done)
    shown = "\n".join(lines[at : at + 3])
    for text in texts:
        assert text in shown, f"{text!r} is not in:\n{shown}"
    assert re.search(
        r"(nothing|no \w+) (was|were) |as it was|untouched|did not start|unchanged|safe", lines[at + 1], re.IGNORECASE
    ), f"does not say whether anything changed:\n{shown}"
    assert "Traceback" not in done.stderr


# ---------------------------------------------------------------------------------------------- the database's address
@dataclass(frozen=True)
class BadAddress:
    """How a good URL is made bad, and what is said about it."""

    change: Callable[[str], str]
    says: str
    exit_code: int


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def with_parts(
    url: str,
    *,
    password: str | None = None,
    host: str | None = None,
    port: int | None = None,
    database: str | None = None,
) -> str:
    parts = urlsplit(url)
    login = f"{parts.username}:{password or parts.password}"
    place = f"{host or parts.hostname}:{port or parts.port}"
    return urlunsplit(parts._replace(netloc=f"{login}@{place}", path=f"/{database}" if database else parts.path))


BAD_ADDRESSES = {
    "wrong password": BadAddress(
        lambda url: with_parts(url, password="canary-wrong"), r"refused the password|password authentication failed", 78
    ),
    "unknown host": BadAddress(
        lambda url: with_parts(url, host="nowhere.invalid").replace("sslmode=disable&", ""), "nowhere.invalid", 69
    ),
    "closed port": BadAddress(lambda url: with_parts(url, port=free_port()), r"refused|nothing listens", 69),
    "database absent": BadAddress(lambda url: with_parts(url, database="absent"), "absent", 78),
}


@pytest.mark.parametrize("case", BAD_ADDRESSES.values(), ids=BAD_ADDRESSES.keys())
@pytest.mark.parametrize("command", ["migrate", "copy"])
def test_a_database_that_cannot_be_reached(target: Target, tmp_path: Path, command: str, case: BadAddress) -> None:
    url = case.change(target.database_url)
    began = time.monotonic()
    if command == "migrate":
        environment = target.instance.environment() | {"DATABASE_URL": url}
        done = run_program([str(SWITCHYARD.with_name("tradedb")), "migrate"], environment, tmp_path)
    else:
        source = make_twin(tmp_path / "bot.db")
        done = target.instance.switchyard(
            "copy", "--source", f"bot={source}", "--target-url", url, "--yes", check=False
        )
    assert time.monotonic() - began < 20
    code = re.search(r"error ((?:DB|COPY)-\d{3}): ", done.stderr)
    assert code, str(done)
    assert_error(done, code[1], case.exit_code)
    assert re.search(case.says, done.stderr), str(done)
    assert "canary-" not in done.stderr + done.stdout, "a password is shown"


def run_program(command: list[str], environment: dict[str, str], folder: Path) -> Completed:
    done = subprocess.run(
        command,
        env=environment,
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return Completed(tuple(command), done.returncode, done.stdout, done.stderr)


# --------------------------------------------------------------------------------------------------------- the settings
@pytest.mark.parametrize(
    ("line", "code", "texts"),
    [
        ("DASHBORD_PORT=20001", "ENV-004", ["unknown key DASHBORD_PORT", "did you mean DASHBOARD_PORT?"]),
        ("export BOT_SEED=3", "ENV-003", ["expected KEY=value"]),
        ("just words", "ENV-003", ["expected KEY=value"]),
        ("BOT_SEED", "ENV-003", ["expected KEY=value"]),
        ("DASHBOARD_USER=again", "ENV-005", ["DASHBOARD_USER stands in line"]),
    ],
    ids=["unknown key", "export", "words", "no value", "twice"],
)
def test_a_wrong_line_in_env(new_instance: NewInstance, line: str, code: str, texts: list[str]) -> None:
    instance = new_instance()
    content = instance.env_file.read_text()
    instance.env_file.write_text(content + line + "\n")
    number = len(content.splitlines()) + 1
    done = instance.up(check=False)
    assert_error(done, code, 78, f"{instance.env_file}:{number}", *texts)
    instance.env_file.write_text(content)
    assert not (instance.home / "postgres").exists()


# -------------------------------------------------------------------------------------------------- the place and the ports
def test_no_permission_to_write_in_the_folder(new_instance: NewInstance, tmp_path: Path) -> None:
    instance = new_instance()
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o555)
    environment = instance.environment() | {"SWITCHYARD_HOME": str(locked / ".switchyard")}
    # permissions do not stop root, unless it gives up the right to pass over them
    as_anybody = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"] if os.geteuid() == 0 else []
    done = run_program([*as_anybody, str(SWITCHYARD), "up", "--target", "embedded"], environment, tmp_path)
    assert_error(done, "STACK-005", 78, f"cannot write in {locked}", "Permission denied")
    assert list(locked.iterdir()) == []


@pytest.mark.parametrize("what", ["dashboard", "Postgres"])
def test_a_port_that_somebody_else_took_meanwhile(new_instance: NewInstance, what: str) -> None:
    instance = new_instance()
    with socket.socket() as squatter:
        if what == "dashboard":
            port = int(instance.read_env()["DASHBOARD_PORT"])
        else:
            instance.up()
            port = attach(instance).status()["database"]["port"]
            instance.switchyard("down")
        squatter.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        squatter.bind(("127.0.0.1", port))
        squatter.listen()
        done = instance.up(check=False)
        assert_error(done, "STACK-021", 78, f"port {port} on 127.0.0.1", f"pid {os.getpid()}", "--new-ports")
    renewed = instance.up("--new-ports")
    assert renewed.returncode == 0


def test_a_second_up_while_one_runs(new_instance: NewInstance) -> None:
    instance = new_instance(**SETTINGS)
    first = instance.popen("up", "--target", "embedded")
    try:
        until(
            lambda: (instance.home / "up.lock").exists() and (instance.home / "up.lock").read_text(),
            20,
            "the first holds the lock",
            0.02,
        )
        second = instance.up(check=False)
        assert_error(
            second, "STACK-006", 1, "another command works on this checkout: switchyard up", f"pid {first.pid}"
        )
    finally:
        said, _ = first.communicate(timeout=120)
    assert first.returncode == 0, said


# --------------------------------------------------------------------------------------------------------------- Docker
FAKES = {
    "not allowed": (
        'echo "permission denied while trying to connect to the Docker daemon socket at unix:///var/run/docker.sock" >&2; exit 1',
        "STACK-011",
        "may not talk to it",
    ),
    "no engine": (
        'echo "Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker daemon running?" >&2; exit 1',
        "STACK-012",
        "no Docker engine answers",
    ),
    "Compose v1": (
        '[ "$1" = version ] && { echo 20.10.24; exit 0; }; echo "docker: \'compose\' is not a docker command." >&2; exit 1',
        "STACK-013",
        "Compose",
    ),
    "no answer": ("sleep 60", "STACK-012", "no answer"),
}


@pytest.mark.parametrize(("script", "code", "says"), FAKES.values(), ids=FAKES.keys())
def test_docker_that_cannot_be_used(
    new_instance: NewInstance, tmp_path: Path, script: str, code: str, says: str
) -> None:
    """Asked for by name it is an error; otherwise the embedded target runs, and the reason is said."""
    fake = tmp_path / "docker"
    fake.write_text(f"#!/bin/sh\n{script}\n")
    fake.chmod(0o755)
    path = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    instance = new_instance()
    done = instance.switchyard("up", "--target", "compose", check=False, env=path)
    assert_error(done, code, 69, says, "make up TARGET=embedded")
    if code != "STACK-011":
        return
    chosen = instance.switchyard("up", env=path)
    assert says in chosen.stderr + chosen.stdout
    assert instance.switchyard("status", "--json").json()["target"] == "embedded"


def test_docker_that_is_not_installed(new_instance: NewInstance, tmp_path: Path) -> None:
    done = new_instance().switchyard("up", "--target", "compose", check=False, env={"PATH": str(tmp_path)})
    assert_error(done, "STACK-010", 69, "Docker is not installed")


# ---------------------------------------------------------------------------------------------------------- the source
def torn(path: Path) -> None:
    make_twin(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def not_sqlite(path: Path) -> None:
    path.write_text("id,symbol\n1,BTCUSDT\n" * 100)


BAD_SOURCES: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing": (lambda _path: None, "bot.db"),
    "not SQLite": (not_sqlite, "SQLite"),
    "torn": (torn, "bot.db"),
    "a folder": (lambda path: path.mkdir(), "bot.db"),
    "empty": (lambda path: path.touch(), "bot.db"),
}


@pytest.mark.parametrize(("make", "says"), BAD_SOURCES.values(), ids=BAD_SOURCES.keys())
def test_a_source_that_cannot_be_read(
    target: Target, new_instance: NewInstance, tmp_path: Path, make: Callable[[Path], object], says: str
) -> None:
    source = tmp_path / "bot.db"
    make(source)
    before = target.value("SELECT count(*) FROM trading_sessions")
    done = target.instance.switchyard("copy", "--source", f"bot={source}", "--yes", check=False)
    code = re.search(r"error (COPY-\d{3}): ", done.stderr)
    assert code, str(done)
    assert_error(done, code[1], done.returncode, says)
    assert done.returncode in (1, 2, 78)
    assert target.value("SELECT count(*) FROM trading_sessions") == before


def test_up_with_a_missing_source_starts_nothing(new_instance: NewInstance, tmp_path: Path) -> None:
    instance = new_instance()
    done = instance.up("--source", f"bot={tmp_path / 'absent.db'}", check=False)
    assert done.returncode != 0
    assert "absent.db" in done.stderr
    assert not (instance.home / "postgres").exists(), "a database was made for a file that is not there"


def test_a_source_that_a_writer_holds(new_instance: NewInstance, tmp_path: Path) -> None:
    """Rows that live only in the -wal count; a writer in the middle of a transaction does not tear the copy."""
    source = make_twin(tmp_path / "bot.db")
    writer = sqlite3.connect(source, isolation_level=None)
    writer.execute("PRAGMA journal_mode = WAL")
    writer.execute("PRAGMA wal_autocheckpoint = 0")
    writer.execute(
        "INSERT INTO system_events (id, timestamp, event_type, message) VALUES (9001, '2025-07-08 10:00:00', 'TEST', 'only in the wal')"
    )
    writer.execute("BEGIN IMMEDIATE")
    writer.execute(
        "INSERT INTO system_events (id, timestamp, event_type, message) VALUES (9002, '2025-07-08 10:00:01', 'TEST', 'not committed')"
    )
    instance = new_instance(**SETTINGS)
    try:
        done = instance.up("--source", f"bot={source}", check=False)
        if done.returncode != 0:  # refusing is as good as copying a consistent state; guessing is not
            assert re.search(r"error COPY-\d{3}: ", done.stderr), str(done)
            assert "bot.db" in done.stderr
            return
        target = attach(instance)
        events = target.sql("SELECT message FROM system_events WHERE event_type = 'TEST'")
        assert [row["message"] for row in events] == ["only in the wal"]
    finally:
        writer.rollback()
        writer.close()


def test_a_target_that_holds_rows(target: Target, tmp_path: Path) -> None:
    """The bot has written already: a copy beside its rows would mix two histories."""
    source = make_twin(tmp_path / "bot.db")
    before = target.value("SELECT min(id) FROM trading_sessions")
    done = target.instance.switchyard("copy", "--source", f"bot={source}", "--yes", check=False)
    code = re.search(r"error (COPY-\d{3}): ", done.stderr)
    assert code, str(done)
    assert_error(done, code[1], 1, "trading_sessions")
    assert target.value("SELECT min(id) FROM trading_sessions") == before
    assert target.value("SELECT count(*) FROM trading_sessions") == 1


# ---------------------------------------------------------------------------------------------------------- the machine
@pytest.mark.parametrize(
    ("program", "code", "says"),
    [
        (
            'case "$*" in *version_info*|*--version*) echo "Python 3.9.2"; exit 0;; esac; exec "$REAL_PYTHON" -c "{old}"',
            "",
            "3.11",
        ),
    ],
    ids=["too old"],
)
def test_python_too_old(tmp_path: Path, program: str, code: str, says: str) -> None:
    """The bootstrap says which Python it needs; it must itself run on the old one."""
    source = (CHECKOUT / "scripts" / "bootstrap.py").read_text()
    compile(source, "bootstrap.py", "exec", flags=0, dont_inherit=True)
    assert program
    assert code == ""
    check = f"import sys; sys.version_info = (3, 9, 2, 'final', 0); sys.argv = ['bootstrap.py']; exec(compile(open({str(CHECKOUT / 'scripts' / 'bootstrap.py')!r}).read(), 'bootstrap.py', 'exec'), {{'__name__': '__main__', '__file__': {str(CHECKOUT / 'scripts' / 'bootstrap.py')!r}}})"
    done = subprocess.run(
        ["python3", "-c", check], cwd=tmp_path, capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 78, done.stderr
    assert says in done.stderr


def test_unknown_words_are_usage_errors(target: Target) -> None:
    for words in (["up", "--target", "moon"], ["restart"], ["copy", "--source", "no-equals-sign"], ["frobnicate"]):
        done = target.instance.switchyard(*words, check=False)
        assert done.returncode == 2, str(done)
        assert "Usage" in done.stderr or "error" in done.stderr


def test_a_command_before_the_first_up(new_instance: NewInstance) -> None:
    instance: Instance = new_instance()
    for words in (["db", "url"], ["restart", "dashboard"], ["psql"]):
        done = instance.switchyard(*words, check=False)
        assert_error(done, "STACK-003", done.returncode, "make up")
        assert done.returncode in (1, 69)
