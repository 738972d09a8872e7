"""One setting has one name, and stands in every place that must know it."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml
from switchyard.checkout import Checkout
from switchyard.env_file import Template
from targets.instance import CHECKOUT

COMPOSE: dict[str, Any] = yaml.safe_load((CHECKOUT / "docker-compose.yml").read_text())
TEMPLATE = Template.of(CHECKOUT / ".env.example")
KNOWN = {*TEMPLATE.required, *TEMPLATE.optional}
DEBUG = (CHECKOUT / "docker-compose.debug.yml").read_text()
RAW = (CHECKOUT / "docker-compose.yml").read_text()


def interpolated(text: str) -> set[str]:
    """The names between ${ and }, without default or message."""
    uncommented = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))
    return set(re.findall(r"\$\{([A-Z_]+)", uncommented))


def passed_by_name(service: str) -> set[str]:
    """Variables that Compose passes on as they are in .env."""
    environment = COMPOSE["services"][service].get("environment", {})
    return {name for name, value in environment.items() if value is None}


def test_every_variable_of_compose_is_in_the_example() -> None:
    used = interpolated(RAW) | interpolated(DEBUG)
    for service in COMPOSE["services"]:
        used |= passed_by_name(service)
    assert used - KNOWN == set()


def test_every_setting_of_the_example_is_read_by_compose() -> None:
    used = interpolated(RAW) | interpolated(DEBUG)
    for service in COMPOSE["services"]:
        used |= passed_by_name(service)
    by_hand = {"DATABASE_URL"}  # of a service that is run without the stack, as its comment says
    of_the_target = {"COMPOSE_FILE", "TRADING_BOT_COMMAND", "DASHBOARD_COMMAND"}  # what is started, not what it is told
    assert KNOWN - used - by_hand - of_the_target == set()


@pytest.mark.parametrize("service", ["trading-bot", "dashboard"])
def test_a_service_gets_the_same_variables_on_both_targets(service: str) -> None:
    from switchyard.targets.embedded.environment import PASSED_ON, service_environment

    values = dict.fromkeys(KNOWN, "1")
    ports = {"postgres": 1, "trading-bot": 2, "dashboard": 3}
    embedded = service_environment(service, Checkout.find(), values, ports)
    of_the_place = {*PASSED_ON, "TZ", "PYTHONUNBUFFERED", "SWITCHYARD_HOME", "HOST", "PORT", "LOG_FORMAT"}
    compose = COMPOSE["services"][service]["environment"]
    assert set(embedded) - of_the_place == set(compose) - of_the_place


@pytest.mark.parametrize("service", ["trading-bot", "dashboard"])
def test_the_url_is_one_readable_line_that_names_its_own_role_only(service: str) -> None:
    url = COMPOSE["services"][service]["environment"]["DATABASE_URL"]
    role = service.replace("-", "_")
    assert re.fullmatch(
        rf"postgresql://{role}:\$\{{{role.upper()}_DB_PASSWORD:\?[^}}]+\}}@postgres\.railway\.internal:5432/railway"
        r"\?sslmode=require&channel_binding=require&require_auth=scram-sha-256",
        url,
    )


def test_the_example_shows_the_defaults_that_the_code_has() -> None:
    """An optional line shows the default: it must be the one that counts when the line stays away."""
    from trading_bot.settings import BotSettings

    shown = dict(re.findall(r"^#((?:BOT)_[A-Z_]+)=(.*)$", (CHECKOUT / ".env.example").read_text(), re.MULTILINE))
    assert shown
    real = {name: str(BotSettings.model_fields[name.lower()].default) for name in shown}
    assert shown == real


def test_no_secret_has_a_value_in_the_example() -> None:
    lines = (CHECKOUT / ".env.example").read_text().splitlines()
    assert [line for line in lines if re.match(r"#?[A-Z_]+_(PASSWORD|SECRET|TOKEN)=.", line)] == []
