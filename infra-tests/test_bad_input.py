"""What goes wrong at an owner's desk, end to end: a code, what and where, whether anything changed, the next command.

docs/testing.md says where each row of the table is tested; this file has those that need the whole command line.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import pytest
from history import make_twin
from stack_fixtures import NewInstance
from targets import Target
from targets.instance import SWITCHYARD, Completed

pytestmark = pytest.mark.targets("embedded")  # the same commands on every target; the cheap one is enough


def assert_error(done: Completed, code: str, exit_code: int, *texts: str) -> None:
    """Three lines on stderr: the code with what and where, the cause and whether anything changed, the next command."""
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


# -------------------- the database's address
@dataclass(frozen=True)
class BadAddress:
    """How a good URL is made bad, and what is said about it."""

    change: Callable[[str], str]
    says: str
    exit_code: int


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
    "closed port": BadAddress(lambda url: with_parts(url, port=1), r"refused|nothing listens", 69),
    "database absent": BadAddress(lambda url: with_parts(url, database="absent"), "absent", 78),
}


@pytest.mark.parametrize("case", BAD_ADDRESSES.values(), ids=BAD_ADDRESSES.keys())
def test_a_database_that_cannot_be_reached(target: Target, tmp_path: Path, case: BadAddress) -> None:
    """The command that every deployment starts with; `copy` has its own tests of the same four."""
    environment = target.instance.environment() | {"DATABASE_URL": case.change(target.database_url)}
    done = run_program([str(SWITCHYARD.with_name("tradedb")), "migrate"], environment, tmp_path)
    code = re.search(r"error (DB-\d{3}): ", done.stderr)
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
        timeout=120,
        check=False,
    )
    return Completed(tuple(command), done.returncode, done.stdout, done.stderr)


# -------------------- the place and the ports
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


# -------------------- Docker
FAKES = {
    "not allowed": (
        'echo "permission denied while trying to connect to the Docker daemon socket" >&2; exit 1',
        "STACK-011",
        "may not talk to it",
    ),
    "no engine": (
        'echo "Cannot connect to the Docker daemon. Is the docker daemon running?" >&2; exit 1',
        "STACK-012",
        "no Docker engine answers",
    ),
    "Compose v1": (
        '[ "$1" = version ] && { echo 20.10.24; exit 0; }; echo "compose is not a docker command." >&2; exit 1',
        "STACK-013",
        "Compose",
    ),
}


@pytest.mark.parametrize(("script", "code", "says"), FAKES.values(), ids=FAKES.keys())
def test_docker_that_cannot_be_used(
    new_instance: NewInstance, tmp_path: Path, script: str, code: str, says: str
) -> None:
    fake = tmp_path / "docker"
    fake.write_text(f"#!/bin/sh\n{script}\n")
    fake.chmod(0o755)
    path = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    instance = new_instance()
    done = instance.switchyard("up", "--target", "compose", check=False, env=path)
    assert_error(done, code, 69, says, "make up TARGET=embedded")


def test_docker_that_is_not_installed(new_instance: NewInstance, tmp_path: Path) -> None:
    done = new_instance().switchyard("up", "--target", "compose", check=False, env={"PATH": str(tmp_path)})
    assert_error(done, "STACK-010", 69, "Docker is not installed")


# -------------------- the target
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


def test_unknown_words_are_usage_errors(target: Target) -> None:
    for words in (["up", "--target", "moon"], ["restart"], ["copy", "--source", "no-equals-sign"], ["frobnicate"]):
        done = target.instance.switchyard(*words, check=False)
        assert done.returncode == 2, str(done)
        assert "Usage" in done.stderr or "error" in done.stderr
