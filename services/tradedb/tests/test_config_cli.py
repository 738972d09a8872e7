"""`tradedb config show`, as a person and as a program sees it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from tradedb import cli

pytestmark = pytest.mark.usefixtures("bare_environment")


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli.main, ["config", "show", *arguments])


def test_every_setting_with_its_source(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgres://bot:p@ss:w/rd?#%zz@db.example:6543/railway")
    Path(".env").write_text("DATABASE_POOL_SIZE=3\nPGPASSWORD=hunter2secret\n")
    result = run("--json")
    assert (result.exit_code, result.stderr) == (0, "")
    found = json.loads(result.stdout)
    assert found["schema_version"] == 1
    assert found["errors"] == []
    by_name = {(line["read_by"], line["name"]): line for line in found["settings"]}
    assert by_name["every service", "DATABASE_URL"] == {
        "name": "DATABASE_URL",
        "value": "postgresql://bot:***@db.example:6543/railway",
        "source": "environment",
        "where": "the environment of the process",
        "secret": True,
        "read_by": "every service",
    }
    assert by_name["every service", "DATABASE_POOL_SIZE"]["where"] == ".env"
    assert by_name["every service", "PGPASSWORD"]["value"] == "***"
    assert by_name["every service", "LOG_LEVEL"] == {
        "name": "LOG_LEVEL",
        "value": "INFO",
        "source": "default",
        "where": "its default",
        "secret": False,
        "read_by": "every service",
    }
    tls = "channel_binding=require&require_auth=scram-sha-256&sslmode=require"
    url = f"postgresql://bot:***@db.example:6543/railway?{tls}"
    assert found["database"] == {
        "dialect": "postgresql",
        "url": url,
        "unpooled_url": url,
        "origin": "DATABASE_URL from the environment of the process",
    }
    assert "zz" not in result.stdout
    assert "hunter2secret" not in result.stdout


def test_the_table_for_people(monkeypatch: pytest.MonkeyPatch, bare_environment: Path) -> None:
    monkeypatch.setenv("DATABASE_POOL_SIZE", "3")
    result = run("--service", "trading-bot")
    assert result.exit_code == 0
    assert re.search(r"^  DATABASE_POOL_SIZE +3 +environment$", result.stdout, re.M)
    assert re.search(r"^  DATABASE_URL +\(unset\) +default$", result.stdout, re.M)
    assert result.stdout.startswith("read by every service:\n")
    assert "\nread by trading-bot:\n" in result.stdout
    assert "read by dashboard" not in result.stdout
    assert result.stdout.endswith(
        f"\ndatabase: sqlite:///{bare_environment}/data/trading_bot.db\n"
        "          no DATABASE_URL and no PG* parts, so the SQLite file data/trading_bot.db\n"
    )


def test_what_is_wrong_is_said_beside_what_is_right(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAILWAY_ENVIRONMENT", "production")
    monkeypatch.setenv("LOG_LEVEL", "LOUD")
    result = run()
    assert result.exit_code == 78
    assert re.search(r"^  DATABASE_POOL_SIZE +4 +default$", result.stdout, re.M)
    assert "error CONFIG-001: DATABASE_URL: required on Railway" in result.stderr
    assert "error CONFIG-002: LOG_LEVEL: expected 'DEBUG', 'INFO', 'WARNING' or 'ERROR', found 'LOUD'" in result.stderr
    as_json = run("--json")
    assert (as_json.exit_code, as_json.stderr) == (78, "")
    found = json.loads(as_json.stdout)
    assert [error["code"] for error in found["errors"]] == ["CONFIG-001", "CONFIG-002"]
    assert found["database"] is None


def test_a_broken_source_is_one_error() -> None:
    Path(".env").write_text("torn\n")
    result = run()
    assert result.exit_code == 78
    assert result.stderr.count("error CONFIG-004") == 1


def test_an_unknown_service_is_a_usage_error() -> None:
    result = run("--service", "bot")
    assert result.exit_code == 2
    assert "expected one of" in result.stderr
    assert "found 'bot'" in result.stderr


def test_the_command_in_a_process_of_its_own(bare_environment: Path) -> None:
    command = [sys.executable, "-m", "tradedb.cli", "config", "show", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["database"]["url"] == f"sqlite:///{bare_environment}/data/trading_bot.db"


def test_what_switchyard_handed_over_from_its_env_file_is_said_to_be_from_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In a container, or under the supervisor, all of it is in the environment."""
    monkeypatch.setenv("SWITCHYARD_SETTINGS_FROM_ENV_FILE", "LOG_LEVEL,DATABASE_POOL_SIZE")
    monkeypatch.setenv("LOG_LEVEL", "DEBUG")
    monkeypatch.setenv("DATABASE_MAX_OVERFLOW", "2")
    found = {line["name"]: line for line in json.loads(run("--json").stdout)["settings"]}
    assert (found["LOG_LEVEL"]["source"], found["LOG_LEVEL"]["value"]) == (".env", "DEBUG")
    assert found["LOG_LEVEL"]["where"].startswith("the .env of the checkout")
    assert found["DATABASE_MAX_OVERFLOW"]["source"] == "environment"
    assert found["DATABASE_POOL_SIZE"]["source"] == "default"
