"""What our containers cannot do, seen from inside while they run; and that docker-compose.yml alone suffices."""

from __future__ import annotations

import ipaddress
import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from targets import Target
from targets.compose import ComposeTarget, docker
from targets.instance import CHECKOUT, clean_environment
from watch import ready, until

pytestmark = pytest.mark.targets("compose")

OURS = (
    "trading-bot",
    "dashboard",
    "ops",
)  # ops has ended: there a command gets a container of its own, under the same rules
BARRED = """
import errno, json, os, pathlib
def attempt(path):
    try:
        pathlib.Path(path, "probe").write_text("x")
    except OSError as error:
        return errno.errorcode[error.errno]
    pathlib.Path(path, "probe").unlink()
    return "written"
status = {}
for process in pathlib.Path("/proc").glob("[0-9]*"):
    lines = dict(line.split(":\\t", 1) for line in (process / "status").read_text().splitlines() if ":\\t" in line)
    names = ("Uid", "Gid", "CapEff", "CapPrm", "CapBnd", "NoNewPrivs")
    status[process.name] = {name: lines[name].split()[0] for name in names}
routes = [line.split()[1] for line in pathlib.Path("/proc/net/route").read_text().splitlines()[1:]]
print(json.dumps({
    "status": status,
    "writing": {path: attempt(path) for path in "/ /app /venv /etc /var/tmp /tmp /dev/shm /data".split()},
    "default_route": "00000000" in routes,
}))
"""


@pytest.fixture
def compose(target: Target) -> ComposeTarget:
    assert isinstance(target, ComposeTarget)
    ready(target)
    return target


def inside(target: Target, service: str) -> dict[str, Any]:
    return json.loads(target.python(service, BARRED).stdout)


@pytest.mark.parametrize("service", OURS)
def test_every_process_is_an_ordinary_user_without_any_capability(compose: ComposeTarget, service: str) -> None:
    status = inside(compose, service)["status"]
    assert "1" in status
    nothing = "0000000000000000"
    expected = {
        "Uid": "10001",
        "Gid": "10001",
        "CapEff": nothing,
        "CapPrm": nothing,
        "CapBnd": nothing,
        "NoNewPrivs": "1",
    }
    assert {pid: facts for pid, facts in status.items() if facts != expected} == {}


@pytest.mark.parametrize("service", OURS)
def test_nothing_can_be_written_but_temporary_files_and_the_bots_own(compose: ComposeTarget, service: str) -> None:
    writing = inside(compose, service)["writing"]
    temporary = {path: writing.pop(path) for path in ("/tmp", "/dev/shm")}  # what is asked
    assert temporary == {"/tmp": "written", "/dev/shm": "written"}
    assert writing.pop("/data") == ("written" if service == "trading-bot" else "ENOENT")
    assert set(writing.values()) <= {"EROFS", "EACCES"}
    assert writing["/"] == "EROFS"


@pytest.mark.parametrize(("service", "leads_out"), [("trading-bot", False), ("ops", False), ("dashboard", True)])
def test_the_private_network_leads_nowhere(compose: ComposeTarget, service: str, leads_out: bool) -> None:
    """Only the dashboard, whose port is published, has a route to somewhere; see below how far it leads."""
    assert inside(compose, service)["default_route"] is leads_out


# The engine of another system is in a machine of its own, and only root may make a network beside this one.
if sys.platform == "linux" and os.geteuid() == 0:

    @pytest.fixture
    def internet() -> Iterator[str]:
        """A machine beyond this one that listens on port 8080, and that knows no way to the engine's networks."""
        tag = secrets.token_hex(3)
        block = f"198.18.{secrets.randbelow(256)}.{4 * secrets.randbelow(64)}"  # of the range for measurements
        ours, theirs = (str(ipaddress.ip_address(block) + n) for n in (1, 2))
        beyond = ["ip", "netns", "exec", f"sy{tag}"]
        server = None
        try:
            for words in (
                f"ip netns add sy{tag}",
                f"ip link add sy{tag}a type veth peer name sy{tag}b netns sy{tag}",
                f"ip address add {ours}/30 dev sy{tag}a",
                f"ip link set sy{tag}a up",
                f"ip -n sy{tag} address add {theirs}/30 dev sy{tag}b",
                f"ip -n sy{tag} link set sy{tag}b up",
            ):
                subprocess.run(words.split(), check=True, capture_output=True, text=True, timeout=60)
            command = [*beyond, sys.executable, "-m", "http.server", "--bind", theirs, "8080"]
            server = subprocess.Popen(command, cwd="/", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            until(lambda: reaches(theirs), 60, "the machine beyond answers")
            yield theirs
        finally:
            if server is not None:
                server.kill()
                server.wait(60)
            subprocess.run(["ip", "netns", "delete", f"sy{tag}"], check=False, capture_output=True, timeout=60)

    def reaches(host: str) -> bool:
        try:
            socket.create_connection((host, 8080), timeout=5).close()
        except OSError:
            return False
        return True

    def test_the_dashboards_door_is_no_way_out(compose: ComposeTarget, internet: str) -> None:
        """Its port answers on this machine, and nothing beyond it can be talked to; from a usual network it can."""
        assert compose.get("dashboard", "/healthz")[0] == 200
        program = f"import socket; socket.create_connection(({internet!r}, 8080), timeout=5)"
        image = compose.inspect("dashboard")["Image"]
        usual = f"sy-usual-{secrets.token_hex(3)}"
        docker("network", "create", usual)
        try:
            words = ["run", "--rm", f"--network={usual}", "--entrypoint=python", image, "-c", program]
            docker(*words)  # the machine beyond can be reached
        finally:
            docker("network", "rm", usual)
        refused = docker("exec", compose.container("dashboard"), "python", "-c", program, check=False)
        assert refused.returncode == 1
        assert "TimeoutError" in refused.stderr


def test_the_engine_enforces_the_limits(compose: ComposeTarget) -> None:
    for service in ("postgres", "trading-bot", "dashboard", "ops"):
        host = compose.inspect(service)["HostConfig"]
        assert host["Memory"] > 0, service
        assert host["NanoCpus"] > 0, service
        assert 0 < host["PidsLimit"] <= 256, service
        assert host["Privileged"] is False
        assert host["RestartPolicy"]["Name"] == ("no" if service == "ops" else "unless-stopped"), service


def test_one_port_is_published_and_on_loopback(compose: ComposeTarget) -> None:
    published: dict[str, Any] = {}
    for service in ("postgres", "trading-bot", "dashboard", "ops"):
        for port, places in compose.inspect(service)["NetworkSettings"]["Ports"].items():
            if places:
                published[f"{service} {port}"] = places
    port = compose.instance.read_env()["DASHBOARD_PORT"]
    assert published == {"dashboard 8080/tcp": [{"HostIp": "127.0.0.1", "HostPort": port}]}


def test_postgres_steps_down_and_holds_no_capability(compose: ComposeTarget) -> None:
    """The image starts as root with six capabilities; the server itself has none of them."""
    words = "cat /proc/$(head -1 $PGDATA/postmaster.pid)/status"
    status = compose.execute("postgres", "bash", "-c", words).stdout
    facts = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    assert facts["Name"] == "postgres"
    assert facts["Uid"].split()[0] == "999"
    assert facts["CapEff"] == "0000000000000000"


def test_an_image_holds_no_source_of_secrets(compose: ComposeTarget) -> None:
    for service in ("trading-bot", "dashboard", "ops"):
        found = compose.python(
            service, "import pathlib; print([str(p) for p in pathlib.Path('/').glob('*/.env')])"
        ).stdout
        assert found.strip() == "[]"


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    """A checkout in which nobody has run anything yet."""
    for name in ("docker-compose.yml", "docker-compose.debug.yml"):
        shutil.copy(CHECKOUT / name, tmp_path)
    return tmp_path


def up(folder: Path) -> subprocess.CompletedProcess[str]:
    command = ["docker", "compose", "up", "--no-build", "--pull", "never", "--dry-run"]
    return subprocess.run(
        command, cwd=folder, env=clean_environment(), capture_output=True, text=True, timeout=60, check=False
    )


def test_without_env_compose_says_the_one_sentence(bare: Path) -> None:
    done = up(bare)
    assert done.returncode != 0
    assert done.stdout == ""
    [line] = done.stderr.splitlines()
    assert line.endswith("there is no .env with the passwords and ports yet - run `make env` to write it")


def test_with_env_compose_needs_nothing_else(compose: ComposeTarget, bare: Path) -> None:
    shutil.copy(compose.instance.env_file, bare / ".env")
    done = subprocess.run(
        ["docker", "compose", "config", "--quiet"],
        cwd=bare,
        env=clean_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_the_debug_overlay_opens_the_database_on_loopback_for_its_roles(compose: ComposeTarget) -> None:
    import psycopg2

    def start_postgres(*files: str) -> None:
        chosen = [word for file in files for word in ("--file", str(CHECKOUT / file))]
        settings = ["--env-file", str(compose.instance.env_file)]
        docker("compose", *chosen, *settings, "up", "--detach", "--no-build", "--no-deps", "postgres", timeout_s=120)

    start_postgres("docker-compose.yml", "docker-compose.debug.yml")
    try:
        done = compose.instance.switchyard("db", "url", "--role", "dashboard")
        port = compose.instance.read_env()["DATABASE_DEBUG_PORT"]
        assert f"@127.0.0.1:{port}/railway?sslmode=require" in done.stdout
        assert done.stderr == ""
        ready(compose)
        connection = psycopg2.connect(done.stdout.strip(), connect_timeout=10)
        with connection.cursor() as cursor:
            cursor.execute("SELECT current_user, ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()")
            assert cursor.fetchone() == ("dashboard", True)
        connection.close()
        bindings = json.loads(docker("inspect", compose.container("postgres")).stdout)[0]["NetworkSettings"]["Ports"][
            "5432/tcp"
        ]
        assert bindings == [{"HostIp": "127.0.0.1", "HostPort": port}]
    finally:
        start_postgres("docker-compose.yml")
    ready(compose)
    assert compose.inspect("postgres")["NetworkSettings"]["Ports"].get("5432/tcp") in (None, [])
