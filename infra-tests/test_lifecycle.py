"""Down leaves nothing running, up again has the data, reset asks first; two instances do not meet."""

from __future__ import annotations

import os
import pty
import socket
import subprocess
import time

import pytest
from faults.stack import broken_promises
from stack_fixtures import NewInstance
from targets import SETTINGS, Target, attach
from targets.instance import CHECKOUT, SWITCHYARD, Instance
from watch import ready, until


def open_ports(target: Target) -> list[int]:
    """The ports of this instance that somebody listens on."""
    settings = target.instance.read_env()
    database = (
        target.instance.switchyard("db", "url", check=False)
        .stdout.rpartition("@")[2]
        .partition("/")[0]
        .partition(":")[2]
    )
    ports = [int(settings["DASHBOARD_PORT"])] + ([int(database)] if target.name == "embedded" and database else [])
    listening: list[int] = []
    for port in ports:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                listening.append(port)
    return listening


def marked(target: Target, write: str = "") -> str:
    """What stands in a file of ours in the folder where the bot keeps what it must not forget."""
    program = (
        "import os, pathlib, sys; file = pathlib.Path(os.environ['BOT_STATE_DIR'], 'mark')\n"
        "if sys.argv[1]: file.write_text(sys.argv[1])\n"
        "print(file.read_text() if file.exists() else 'nothing')"
    )
    return target.python("trading-bot", program, write).stdout.strip()


@pytest.mark.slow
@pytest.mark.timeout(420)
def test_down_up_reset(new_instance: NewInstance) -> None:
    instance = new_instance(**SETTINGS)
    first = instance.up()
    assert instance.read_env()["DASHBOARD_USER"] in first.stdout
    target = attach(instance)
    ready(target)
    assert marked(target, write="kept") == "kept"
    until(lambda: target.value("SELECT count(*) FROM fills") >= 2, 60, "the bot trades")
    assert len(open_ports(target)) >= 1
    identifier = target.status()["database"]["system_identifier"]

    again = instance.up()  # nothing to do, and that is no error
    assert again.returncode == 0

    instance.switchyard("down")
    assert target.leftovers() == []
    assert open_ports(target) == []
    stopped = instance.switchyard("status", "--json", check=False)
    assert stopped.returncode == 1
    assert {service["state"] for service in stopped.json()["services"]} <= {"stopped", "exited"}
    assert instance.switchyard("down").returncode == 0, "down twice is no error"

    began = time.monotonic()
    instance.up()
    warm_s = time.monotonic() - began
    target = attach(instance)
    ready(target)
    assert marked(target) == "kept"
    assert target.status()["database"]["system_identifier"] == identifier
    assert target.value("SELECT count(*) FROM fills") >= 2
    assert target.value("SELECT count(DISTINCT session_id) FROM order_intents") == 1, (
        "the account was not taken up again"
    )
    assert broken_promises(target) == []
    print(f"warm up on {target.name}: {warm_s:.1f} s")  # noqa: T201  # shown with -rP; the benchmark measures it

    refused = instance.switchyard("reset", check=False)
    assert refused.returncode == 2
    assert "--yes" in refused.stderr
    answer_at_terminal(instance, "\n")
    answer_at_terminal(instance, "n\n")
    assert attach(instance).status()["database"]["system_identifier"] == identifier, (
        "reset without a yes deleted something"
    )

    answer_at_terminal(instance, "y\n")
    assert target.leftovers() == []
    instance.up()
    target = attach(instance)
    ready(target)
    assert target.status()["database"]["system_identifier"] != identifier
    assert marked(target) == "nothing"
    instance.switchyard("reset", "--yes")
    assert target.leftovers() == []
    assert instance.env_file.exists(), "the passwords and ports are the owner's"


def answer_at_terminal(instance: Instance, answer: str) -> str:
    """Run ``switchyard reset`` on a terminal, type the answer, and return what was shown."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [str(SWITCHYARD), "reset"], env=instance.environment(), cwd=CHECKOUT, stdin=theirs, stdout=theirs, stderr=theirs
    )
    os.close(theirs)
    shown = b""
    typed = False
    try:
        while True:
            try:
                piece = os.read(ours, 4096)
            except OSError:  # the other end was closed
                break
            if not piece:
                break
            shown += piece
            if not typed and b"[y/N]" in shown:
                os.write(ours, answer.encode())
                typed = True
    finally:
        process.wait(90)
        os.close(ours)
    text = shown.decode()
    assert "[y/N]" in text, text
    return text


@pytest.mark.targets("embedded")
def test_two_instances_run_side_by_side(target: Target, new_instance: NewInstance) -> None:
    other = new_instance()
    other.up()
    there = attach(other)
    ready(there)
    ready(target)
    assert there.status()["database"]["system_identifier"] != target.status()["database"]["system_identifier"]
    other.switchyard("down")
    assert there.leftovers() == []
    ready(target)
