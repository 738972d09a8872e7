"""docker-compose.yml and the Dockerfiles say what the architecture promises."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from switchyard.targets.compose import images

ROOT = Path(__file__).resolve().parents[3]
TEXT = (ROOT / "docker-compose.yml").read_text()
COMPOSE: dict[str, Any] = yaml.safe_load(TEXT)
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = ("ops", "trading-bot", "dashboard")
DATABASE = "postgres.railway.internal:5432/railway?sslmode=require&channel_binding=require&require_auth=scram-sha-256"


def passwords(service: str) -> set[str]:
    """The secrets of .env that a service is given."""
    text = str(SERVICES[service]["environment"])
    return {name for name in re.findall(r"\$\{([A-Z_]+)", text) if name.endswith(("_PASSWORD", "_SECRET"))}


def test_the_services_have_the_names_they_have_on_railway() -> None:
    assert set(SERVICES) == {"postgres", *OURS}
    for name, service in SERVICES.items():
        assert service["networks"]["private"]["aliases"] == [f"{name}.railway.internal"]


def test_the_private_network_has_no_way_out_and_only_the_dashboard_has_a_door() -> None:
    assert COMPOSE["networks"]["private"] == {"internal": True}
    assert [name for name, service in SERVICES.items() if "ports" in service] == ["dashboard"]
    assert [name for name, service in SERVICES.items() if "edge" in service["networks"]] == ["dashboard"]
    assert COMPOSE["networks"]["edge"]["driver_opts"] == {"com.docker.network.bridge.enable_ip_masquerade": "false"}
    [port] = SERVICES["dashboard"]["ports"]
    assert re.fullmatch(r"127\.0\.0\.1:\$\{DASHBOARD_PORT:\?[^}]+\}:8080", port)


@pytest.mark.parametrize(
    ("service", "role", "variable"),
    [
        ("ops", "postgres", "POSTGRES_PASSWORD"),
        ("trading-bot", "trading_bot", "TRADING_BOT_DB_PASSWORD"),
        ("dashboard", "dashboard", "DASHBOARD_DB_PASSWORD"),
    ],
)
def test_a_database_url_is_one_readable_line(service: str, role: str, variable: str) -> None:
    url = f"postgresql://{role}:${{{variable}:?run make env}}@{DATABASE}"
    assert SERVICES[service]["environment"]["DATABASE_URL"] == url
    assert f"      DATABASE_URL: {url}\n" in TEXT


def test_a_service_gets_no_password_but_its_own() -> None:
    assert passwords("postgres") == {"POSTGRES_PASSWORD"}
    assert passwords("trading-bot") == {"TRADING_BOT_DB_PASSWORD"}
    assert passwords("dashboard") == {"DASHBOARD_DB_PASSWORD", "DASHBOARD_PASSWORD", "DASHBOARD_SESSION_SECRET"}
    assert passwords("ops") == {
        "POSTGRES_PASSWORD",
        *(f"{role}_DB_PASSWORD" for role in ("MIGRATOR", "TRADING_BOT", "DASHBOARD", "MONITOR", "BACKUP")),
    }


@pytest.mark.parametrize("name", OURS)
def test_our_containers_may_do_nothing_that_they_need_not(name: str) -> None:
    service = SERVICES[name]
    assert service["user"] == "10001:10001"
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert "cap_add" not in service
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["init"] is True
    assert re.search(r"uid=10001,gid=10001,mode=0700", service["tmpfs"][0])
    assert not {"privileged", "devices", "network_mode", "pid", "ipc"} & set(service)
    assert service.get("volumes") == (["bot-state:/data"] if name == "trading-bot" else None)


def test_what_the_bot_must_not_forget_is_on_a_volume_of_its_own() -> None:
    assert SERVICES["trading-bot"]["environment"]["BOT_STATE_DIR"] == "/data"
    assert COMPOSE["volumes"] == {"postgres-data": {}, "bot-state": {}}
    dockerfile = (ROOT / "services/trading-bot/Dockerfile").read_text()
    assert "--mode=0700 --owner=switchyard --group=switchyard /data" in dockerfile
    assert "BOT_STATE_DIR=/data" in dockerfile
    assert "VOLUME" not in dockerfile  # a nameless one would be left behind by every `down`, and Railway refuses it


@pytest.mark.parametrize("name", ["postgres", *OURS])
def test_every_container_has_its_limits(name: str) -> None:
    service = SERVICES[name]
    assert {"mem_limit", "cpus", "pids_limit", "stop_grace_period"} <= set(service)
    assert service["logging"]["options"] == {"max-size": "10m", "max-file": "3"}
    assert service["restart"] == ("no" if name == "ops" else "unless-stopped")
    assert "container_name" not in service


def test_the_others_start_after_ops_and_ops_after_postgres() -> None:
    healthy = {"postgres": {"condition": "service_healthy"}}
    assert SERVICES["ops"]["depends_on"] == healthy
    for name in ("trading-bot", "dashboard"):
        assert SERVICES[name]["depends_on"] == healthy | {"ops": {"condition": "service_completed_successfully"}}


def test_postgres_is_asked_over_tcp_and_its_data_is_where_the_image_wants_it() -> None:
    postgres = SERVICES["postgres"]
    assert postgres["image"] == "ghcr.io/railwayapp-templates/postgres-ssl:18"
    assert "127.0.0.1" in postgres["healthcheck"]["test"]
    assert postgres["environment"]["PGDATA"].startswith("/var/lib/postgresql/data/")
    assert postgres["volumes"] == ["postgres-data:/var/lib/postgresql/data"]
    assert postgres["cap_drop"] == ["ALL"]
    assert postgres["cap_add"] == ["CHOWN", "DAC_OVERRIDE", "FOWNER", "SETGID", "SETUID", "KILL"]


def test_the_debug_overlay_adds_one_loopback_port_and_nothing_else() -> None:
    overlay = yaml.safe_load((ROOT / "docker-compose.debug.yml").read_text())
    assert list(overlay) == ["services"]
    [(name, service)] = overlay["services"].items()
    assert name == "postgres"
    assert service == {"ports": ["127.0.0.1:${DATABASE_DEBUG_PORT:?run make env}:5432"], "networks": {"edge": None}}


def test_the_exchange_overlay_gives_the_bot_a_way_out_and_nobody_a_way_in() -> None:
    overlay = yaml.safe_load((ROOT / "docker-compose.exchange.yml").read_text())
    assert overlay == {"services": {"trading-bot": {"networks": {"exchange": None}}}, "networks": {"exchange": {}}}


def test_compose_builds_what_the_target_believes_it_builds() -> None:
    built = {name: service["build"] for name, service in SERVICES.items() if "build" in service}
    assert built == {name: {"context": ".", "dockerfile": path} for name, path in images.DOCKERFILES.items()}


@pytest.mark.parametrize("path", images.DOCKERFILES.values())
def test_a_dockerfile_is_as_plain_as_promised(path: str) -> None:
    text = (ROOT / path).read_text()
    stages = re.findall(r"^FROM (\S+)", text, re.MULTILINE)
    assert set(stages) == {"python:3.13-slim"}
    assert "--require-hashes" in text
    assert "--mount" not in text  # the classic builder knows it not
    assert not re.search(r"^ARG ", text, re.MULTILINE)
    assert re.search(r"^USER 10001:10001$", text, re.MULTILINE)
    assert re.search(r'^CMD \["', text, re.MULTILINE)
    assert text.index("COPY requirements/build.txt") < text.index("COPY services/")


@pytest.mark.parametrize("path", images.DOCKERFILES.values())
def test_dockerignore_lets_through_what_is_copied(path: str) -> None:
    """Each source of a COPY is named in .dockerignore itself: the classic builder does not look below a wildcard."""
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    for name in images.COPIED.findall((ROOT / path).read_text()):
        if (ROOT / name).is_file():
            assert "requirements/*.txt" in allowed
        else:
            assert {f"{name}/pyproject.toml", f"{name}/src"} <= allowed
    assert (ROOT / ".dockerignore").read_text().splitlines()[2] == "*"
