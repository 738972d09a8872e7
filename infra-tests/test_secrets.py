"""Secrets planted as canaries are in .env and behind ``db url``, and nowhere else."""

from __future__ import annotations

import stat

import pytest
from pages import anonymous
from targets import SERVICES, Target
from watch import ready

MARK = "canary-"


def test_the_canaries_are_planted(target: Target) -> None:
    """Otherwise the tests below could not fail."""
    secrets = target.instance.secrets()
    assert len(secrets) >= 8
    assert all(value.startswith(MARK) for value in secrets.values())
    assert secrets["POSTGRES_PASSWORD"] in target.instance.switchyard("db", "url").stdout


def test_env_is_readable_by_its_owner_only(target: Target) -> None:
    assert stat.S_IMODE(target.instance.env_file.stat().st_mode) == 0o600


@pytest.mark.timeout(300)
def test_no_secret_in_logs_arguments_images_or_state(target: Target) -> None:
    """After the faults, whose log lines say most."""
    ready(target)
    # provoke what logs like to say: a failing connection with the URL in it, a wrong login, an unknown page
    wrong = target.database_url.replace(MARK, MARK + "wrong-", 1)
    target.instance.switchyard("copy", "--source", "bot=/nowhere.db", "--target-url", wrong, "--yes", check=False)
    with anonymous(target) as client:
        client.get("/nowhere")
    secrets = set(target.instance.secrets().values())
    found: list[str] = []
    seen = 0
    for where, text in target.public_texts():
        seen += 1
        found += [f"{where}: ...{text[max(0, text.index(s) - 80) : text.index(s)]}" for s in secrets if s in text]
    assert seen > 5
    assert found == []


def test_no_secret_in_what_the_commands_print(target: Target) -> None:
    commands = [
        ["status"],
        ["status", "--json"],
        ["config", "show"],
        ["config", "show", "--json"],
        ["config", "show", "--service", "dashboard", "--json"],
        ["db", "roles"],
        ["db", "prepare"],
        ["env"],
        ["logs"],
        *(["logs", service] for service in SERVICES),
        *(["exec", service, "--", "tradedb", *words] for service in SERVICES[1:] for words in INSIDE),
    ]
    for words in commands:
        done = target.instance.switchyard(*words, check=False)
        said = done.stdout + done.stderr
        assert done.returncode == 0, str(done)
        assert said.strip(), words
        assert MARK not in said, f"switchyard {' '.join(words)} shows a secret"


INSIDE = (["info", "--json"], ["health", "--json"], ["config", "show", "--json"])


def test_postgres_keeps_no_password_in_the_clear(target: Target) -> None:
    stored = target.sql("SELECT rolname, rolpassword FROM pg_authid WHERE rolcanlogin")
    assert {row["rolname"] for row in stored} >= {
        "postgres",
        "migrator",
        "trading_bot",
        "dashboard",
        "monitor",
        "backup",
    }
    assert [row["rolname"] for row in stored if not row["rolpassword"].startswith("SCRAM-SHA-256$")] == []
    seen = target.sql(
        "SELECT query FROM pg_stat_activity WHERE pid <> pg_backend_pid() "
        "UNION ALL SELECT query FROM pg_stat_statements"
    )
    assert [row["query"] for row in seen if row["query"] and MARK in row["query"]] == []
