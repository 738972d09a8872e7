"""The images that the stack starts from behave as docker-compose.yml and the Dockerfiles rely on: stand-in or real.

Source: the behaviour of ghcr.io/railwayapp-templates/postgres-ssl:18, listed in offline-images/README.md.
"""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from types import ModuleType
from typing import Any
from uuid import uuid4

import psycopg2
import pytest
import yaml
from targets.instance import CHECKOUT

pytestmark = pytest.mark.targets("compose")

IMAGE = "ghcr.io/railwayapp-templates/postgres-ssl:18"
PASSWORD = "quite-secret"
PGDATA = "/var/lib/postgresql/data/pgdata"
SERVICE: dict[str, Any] = yaml.safe_load((CHECKOUT / "docker-compose.yml").read_text())["services"]["postgres"]
CAPABILITIES = [
    *(f"--cap-drop={name}" for name in SERVICE["cap_drop"]),
    *(f"--cap-add={name}" for name in SERVICE["cap_add"]),
]


def docker(*args: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(["docker", *args], capture_output=True, text=True, timeout=120, check=False)
    assert not check or done.returncode == 0, f"docker {' '.join(args)}\n{done.stdout}{done.stderr}"
    return done


@contextmanager
def container(*options: str, command: tuple[str, ...] = ()) -> Iterator[str]:
    """A container of the Postgres image with a fresh volume, as docker-compose.yml runs it; gone afterwards."""
    name = f"switchyard-image-test-{uuid4().hex[:8]}"
    volume = ("--volume", f"{name}:/var/lib/postgresql/data", "--tmpfs", SERVICE["tmpfs"][0])
    try:
        docker(
            "run",
            "--detach",
            "--name",
            name,
            "--init",
            "--env=TINI_KILL_PROCESS_GROUP=1",
            *volume,
            *CAPABILITIES,
            *options,
            IMAGE,
            *command,
        )
        yield name
    finally:
        docker("rm", "--force", "--volumes", name, check=False)
        docker("volume", "rm", name, check=False)


def logs(name: str) -> str:
    done = docker("logs", name)
    return done.stdout + done.stderr


def wait_ready(name: str) -> None:
    """Wait until Postgres answers over TCP."""
    deadline = time.monotonic() + 60
    while docker("exec", name, "pg_isready", "-q", "-h", "127.0.0.1", "-U", "postgres", check=False).returncode != 0:
        assert time.monotonic() < deadline, logs(name)
        time.sleep(0.1)


def ended(name: str) -> int:
    """Exit code of a container that ends by itself within a minute."""
    return int(subprocess.run(["docker", "wait", name], capture_output=True, text=True, timeout=60, check=True).stdout)


def psql(name: str, query: str, database: str = "railway") -> str:
    return docker("exec", name, "psql", "-XAtU", "postgres", "-d", database, "-c", query).stdout.strip()


def certificate(name: str, file: str, *options: str) -> str:
    words = ("openssl", "x509", "-noout", "-in", f"/var/lib/postgresql/data/certs/{file}", *options)
    return docker("exec", name, *words, check=False).stdout


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """Postgres after its first boot, with its port on a free one of the host's loopback."""
    settings = {"PGDATA": PGDATA, "POSTGRES_DB": "railway", "POSTGRES_PASSWORD": PASSWORD}
    with container("--publish=127.0.0.1::5432", *(f"--env={key}={value}" for key, value in settings.items())) as name:
        wait_ready(name)
        yield name


def connect(name: str, **options: str) -> psycopg2.extensions.connection:
    host, port = docker("port", name, "5432/tcp").stdout.splitlines()[0].rsplit(":", 1)
    place = {"host": host, "port": port, "user": "postgres", "dbname": "railway", "connect_timeout": "10"}
    return psycopg2.connect(psycopg2.extensions.make_dsn(**place, **options))


def test_a_data_folder_outside_the_volume_ends_the_start() -> None:
    with container(f"--env=POSTGRES_PASSWORD={PASSWORD}") as name:  # the base image's default PGDATA
        assert ended(name) == 1
        assert "PGDATA" in logs(name)


def test_a_first_boot_without_a_password_ends_the_start() -> None:
    with container(f"--env=PGDATA={PGDATA}") as name:
        assert ended(name) == 1
        assert "POSTGRES_PASSWORD" in logs(name)


def test_no_new_privileges_stops_the_first_boot() -> None:
    options = ("--security-opt=no-new-privileges:true", f"--env=PGDATA={PGDATA}", f"--env=POSTGRES_PASSWORD={PASSWORD}")
    with container(*options) as name:
        assert ended(name) != 0
        assert "no new privileges" in logs(name)


def test_it_starts_as_root_and_the_server_runs_as_postgres(server: str) -> None:
    listing = docker("top", server, "-eo", "pid,uid,args").stdout
    assert re.search(r"^ *\d+ +0 .*wrapper\.sh", listing, re.MULTILINE)
    assert re.search(r"^ *\d+ +999 +postgres -p 5432", listing, re.MULTILINE)
    assert docker("exec", server, "stat", "-c", "%u %a", PGDATA).stdout.split() == ["999", "700"]


def test_the_first_server_listens_on_the_socket_only(server: str) -> None:
    starts = re.split(r"LOG:  starting PostgreSQL 18", logs(server))[1:]
    assert len(starts) == 2
    assert "Unix socket" in starts[0]
    assert "IPv4" not in starts[0]
    assert 'IPv4 address "0.0.0.0", port 5432' in starts[1]


def test_settings_are_as_on_railway(server: str) -> None:
    names = (
        "ssl",
        "shared_preload_libraries",
        "data_checksums",
        "listen_addresses",
        "port",
        "fsync",
        "password_encryption",
    )
    shown = psql(server, "SELECT " + ", ".join(f"current_setting('{name}')" for name in names))
    assert shown == "on|pg_stat_statements|on|*|5432|on|scram-sha-256"
    assert (
        psql(server, "SELECT datcollate, pg_encoding_to_char(encoding) FROM pg_database WHERE datname = 'railway'")
        == "en_US.utf8|UTF8"
    )
    assert psql(server, "SELECT extname FROM pg_extension WHERE extname <> 'plpgsql'") == ""


def test_the_last_rule_lets_everybody_in_with_scram(server: str) -> None:
    rules = docker("exec", server, "grep", "-vE", "^ *(#|$)", f"{PGDATA}/pg_hba.conf").stdout.splitlines()
    assert rules[-1].split() == ["host", "all", "all", "all", "scram-sha-256"]


def test_the_certificate_is_for_localhost_from_its_own_root(server: str) -> None:
    subject = certificate(server, "server.crt", "-subject", "-issuer", "-ext", "subjectAltName")
    assert re.search(r"subject=CN ?= ?localhost", subject)
    assert re.search(r"issuer=CN ?= ?root-ca", subject)
    assert "DNS:localhost" in subject
    day = 24 * 3600
    assert "will not expire" in certificate(server, "server.crt", "-checkend", str(819 * day))
    assert "will expire" in certificate(server, "server.crt", "-checkend", str(821 * day))
    certs = "/var/lib/postgresql/data/certs"
    docker("exec", server, "openssl", "verify", "-CAfile", f"{certs}/root.crt", f"{certs}/server.crt")
    assert docker("exec", server, "stat", "-c", "%a", f"{certs}/server.key").stdout.strip() == "600"


def test_tls_works_with_what_the_stack_asks_for_and_plain_text_is_let_in(server: str) -> None:
    strict = {"sslmode": "require", "channel_binding": "require", "require_auth": "scram-sha-256"}
    for options, version in ((strict, "TLSv1.3"), ({"sslmode": "disable"}, None)):
        connection = connect(server, password=PASSWORD, **options)
        with connection.cursor() as cursor:
            cursor.execute("SELECT version FROM pg_stat_ssl WHERE pid = pg_backend_pid()")
            assert cursor.fetchone() == (version,)
        connection.close()
    with pytest.raises(psycopg2.OperationalError, match="password authentication failed"):
        connect(server, password="wrong", **strict)


def test_settings_come_from_files_too(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    for key, value in {
        "PASSWORD": PASSWORD,
        "USER": "keeper",
        "DB": "ledger",
        "INITDB_ARGS": "--wal-segsize=4",
    }.items():
        (tmp_path / key).write_text(value)
    names = [f"--env=POSTGRES_{path.name}_FILE=/settings/{path.name}" for path in tmp_path.iterdir()]
    with container(f"--env=PGDATA={PGDATA}", f"--volume={tmp_path}:/settings:ro", *names) as name:
        wait_ready(name)
        query = "SELECT current_user, current_database(), current_setting('wal_segment_size')"
        assert (
            docker("exec", name, "psql", "-XAtU", "keeper", "-d", "ledger", "-c", query).stdout.strip()
            == "keeper|ledger|4MB"
        )


def test_a_certificate_is_made_anew_in_its_last_thirty_days_and_not_before() -> None:
    settings = (f"--env=PGDATA={PGDATA}", f"--env=POSTGRES_PASSWORD={PASSWORD}", "--env=POSTGRES_DB=railway")
    for days, renewed in (("20", True), ("40", False)):
        with container(f"--env=SSL_CERT_DAYS={days}", *settings) as name:
            wait_ready(name)
            before = certificate(name, "server.crt", "-fingerprint")
            docker("restart", name)
            wait_ready(name)
            assert (certificate(name, "server.crt", "-fingerprint") != before) is renewed
            assert psql(name, "SHOW ssl") == "on"


def test_a_stop_as_docker_compose_does_it_is_clean() -> None:
    """Without KILL, or without init, the image's outer shell keeps the signal and every stop ends in SIGKILL."""
    assert "KILL" in SERVICE["cap_add"]
    assert SERVICE["init"] is True
    assert SERVICE["environment"]["TINI_KILL_PROCESS_GROUP"] == "1"
    with container(f"--env=PGDATA={PGDATA}", f"--env=POSTGRES_PASSWORD={PASSWORD}") as name:
        wait_ready(name)
        docker("stop", "--time=30", name)
        assert json.loads(docker("inspect", "--format={{json .State}}", name).stdout)["ExitCode"] == 0
        assert "database system is shut down" in logs(name).splitlines()[-1]


def test_entry_command_and_stop_signal_are_the_real_ones() -> None:
    config = json.loads(docker("image", "inspect", "--format={{json .Config}}", IMAGE).stdout)
    assert config["Entrypoint"] == ["wrapper.sh"]
    assert config["Cmd"] == ["postgres", "-p", "5432", "-c", "listen_addresses=*"]
    assert config["StopSignal"] == "SIGINT"
    assert list(config["Volumes"]) == ["/var/lib/postgresql"]


def test_the_python_image_has_an_unmanaged_python_with_pip() -> None:
    program = (
        "import sys, sysconfig, pathlib\n"
        "print(sys.version_info[:2], pathlib.Path(sysconfig.get_path('stdlib'), 'EXTERNALLY-MANAGED').exists())"
    )
    assert docker("run", "--rm", "python:3.13-slim", "python", "-c", program).stdout.strip() == "(3, 13) False"
    assert docker("run", "--rm", "python:3.13-slim", "pip", "--version").stdout.startswith("pip ")


@pytest.fixture
def builder(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The build script, on one tag of its own instead of the real ones."""
    path = Path(__file__).parent / "offline-images/build"
    loader = SourceFileLoader("build_offline_images", str(path))  # by name: the file has no ending
    spec = spec_from_loader(loader.name, loader)
    assert spec
    module = module_from_spec(spec)
    monkeypatch.setitem(sys.modules, loader.name, module)
    loader.exec_module(module)
    tag = f"switchyard-image-test:{uuid4().hex[:8]}"
    monkeypatch.setattr(module, "STAND_INS", (module.StandIn(tag, path.parent / "python", "python:3.13-slim"),))
    monkeypatch.setattr("sys.argv", ["build"])
    yield module
    docker("image", "rm", tag, check=False)


def test_a_real_image_is_never_replaced(builder: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    [stand_in] = builder.STAND_INS
    somebodys = io.BytesIO()
    with tarfile.open(fileobj=somebodys, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("somebodys-work"))
    subprocess.run(["docker", "import", "-", stand_in.tag], input=somebodys.getvalue(), capture_output=True, check=True)
    before = builder.inspect(stand_in.tag, "{{.Id}}")
    assert builder.main() == 0
    assert builder.inspect(stand_in.tag, "{{.Id}}") == before
    assert "left as it is" in capsys.readouterr().err


def test_a_stand_in_is_built_again_only_when_its_files_have_changed(
    builder: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    [original] = builder.STAND_INS
    dockerfile = tmp_path / "Dockerfile"
    dockerfile.write_text("FROM python:3.13-slim\n")
    stand_in = builder.StandIn(original.tag, tmp_path, original.base)
    monkeypatch.setattr(builder, "STAND_INS", (stand_in,))
    ids: list[str] = []
    for text in ("", "", "ENV CHANGED=1\n"):
        dockerfile.write_text(dockerfile.read_text() + text)
        assert builder.main() == 0
        ids.append(builder.inspect(stand_in.tag, "{{.Id}}"))
    assert ids[0] == ids[1] != ids[2]
    assert "up to date" in capsys.readouterr().err
