"""AWS Secrets Manager as a source, against a real moto server; and every way in which it can fail."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from moto.server import ThreadedMotoServer
from tradedb.config import DatabaseSettings, LogSettings, Origin, aws, load_settings, provenance
from tradedb.errors import SwitchyardError

SECRET = "prod/switchyard"
REGION = "eu-west-1"


@pytest.fixture(scope="module")
def moto_url() -> Iterator[str]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def account(bare_environment: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """Configure the source; nothing answers yet."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_REGION", REGION)
    monkeypatch.setenv("SWITCHYARD_AWS_SECRET_ID", SECRET)


@pytest.fixture
def manager(account: None, moto_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Return a client of Secrets Manager, in which every secret is deleted at the end."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", moto_url)
    client: Any = boto3.client("secretsmanager", region_name=REGION)
    yield client
    for secret in client.list_secrets(IncludePlannedDeletion=True)["SecretList"]:
        client.delete_secret(SecretId=secret["Name"], ForceDeleteWithoutRecovery=True)
    client.close()


def error_of() -> SwitchyardError:
    started = time.monotonic()
    with pytest.raises(SwitchyardError) as caught:
        load_settings(DatabaseSettings)
    assert time.monotonic() - started < 60
    assert caught.value.exit_code == 78
    return caught.value


def test_the_secret_wins_over_environment_and_env_file(manager: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    values = {
        "DATABASE_URL": "postgresql://bot:hunter2secret@db.example/railway",
        "database_pool_size": 7,  # JSON numbers and booleans are values as well; the case of a key does not matter
        "DATABASE_ALLOW_PLAINTEXT": True,
        "PGUSER": None,
        "UNRELATED": {"deep": 1},
    }
    manager.create_secret(Name=SECRET, SecretString=json.dumps(values))
    monkeypatch.setenv("DATABASE_POOL_SIZE", "9")
    monkeypatch.setenv("PGUSER", "from-environment")
    settings = load_settings(DatabaseSettings)
    assert (settings.pool_size, settings.database_allow_plaintext, settings.pguser) == (7, True, "from-environment")
    origins = provenance(settings)
    shown = Origin("postgresql://bot:***@db.example/railway", "aws-secrets-manager", f"AWS secret {SECRET}")
    assert origins["DATABASE_URL"] == shown
    assert origins["DATABASE_POOL_SIZE"] == Origin("7", "aws-secrets-manager", f"AWS secret {SECRET}")
    assert origins["PGUSER"].source == "environment"


def test_railways_variables_win_over_the_secret(manager: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    manager.create_secret(Name=SECRET, SecretString='{"DATABASE_POOL_SIZE": 7, "DATABASE_MAX_OVERFLOW": 1}')
    monkeypatch.setenv("RAILWAY_ENVIRONMENT", "production")
    monkeypatch.setenv("DATABASE_POOL_SIZE", "9")
    settings = load_settings(DatabaseSettings)
    assert (settings.pool_size, settings.max_overflow) == (9, 1)
    assert provenance(settings)["DATABASE_POOL_SIZE"].source == "railway"


def test_the_secret_is_fetched_once_per_process(manager: Any) -> None:
    manager.create_secret(Name=SECRET, SecretString='{"DATABASE_POOL_SIZE": 7, "LOG_LEVEL": "ERROR"}')
    load_settings(DatabaseSettings)
    manager.put_secret_value(SecretId=SECRET, SecretString="{}")
    assert load_settings(LogSettings).log_level == "ERROR"


def test_the_region_can_be_set_for_the_secret_alone(manager: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    manager.create_secret(Name=SECRET, SecretString='{"DATABASE_POOL_SIZE": 7}')
    monkeypatch.setenv("AWS_REGION", "us-east-2")
    assert error_of().code == "CONFIG-007"
    monkeypatch.setenv("SWITCHYARD_AWS_REGION", REGION)
    assert load_settings(DatabaseSettings).pool_size == 7


def test_a_value_in_the_secret_that_does_not_fit_names_the_secret(manager: Any) -> None:
    manager.create_secret(Name=SECRET, SecretString='{"DATABASE_POOL_SIZE": "many"}')
    error = error_of()
    assert error.code == "CONFIG-002"
    assert error.what == f"DATABASE_POOL_SIZE: expected a valid integer, found 'many' (from AWS secret {SECRET})"


@pytest.mark.usefixtures("manager")
def test_a_secret_that_does_not_exist() -> None:
    assert error_of().lines() == [
        f"error CONFIG-007: SWITCHYARD_AWS_SECRET_ID: expected the secret '{SECRET}', "
        "found none in this account and region",
        "  the source is configured, so it is not skipped. Nothing was started or changed.",
        "  Fix: correct SWITCHYARD_AWS_SECRET_ID or SWITCHYARD_AWS_REGION, or unset SWITCHYARD_AWS_SECRET_ID",
    ]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("{'DATABASE_URL': 'hunter2secret'}", "text that is no JSON object"),
        ("postgresql://u:hunter2secret@h/d", "text that is no JSON object"),
        ('["hunter2secret"]', "text that is no JSON object"),
        ('{"DATABASE_URL": "hunter2secret', "text that is no JSON object"),
        ('{"PGUSER": "hunter2secret", "pguser": "b"}', "PGUSER twice"),
    ],
)
def test_a_secret_of_another_form(manager: Any, text: str, found: str) -> None:
    manager.create_secret(Name=SECRET, SecretString=text)
    error = error_of()
    assert error.code == "CONFIG-008"
    assert error.what == f"AWS secret {SECRET}: expected a JSON object of setting names and values, found {found}"
    assert "hunter2secret" not in "\n".join(error.lines())


def test_a_binary_secret(manager: Any) -> None:
    manager.create_secret(Name=SECRET, SecretBinary=b"hunter2secret")
    error = error_of()
    assert (error.code, error.what.endswith("found a binary secret")) == ("CONFIG-008", True)


@pytest.mark.usefixtures("manager")
def test_a_secret_that_is_going_to_be_deleted(manager: Any) -> None:
    manager.create_secret(Name=SECRET, SecretString="{}")
    manager.delete_secret(SecretId=SECRET, RecoveryWindowInDays=7)
    error = error_of()
    assert (error.code, error.what.endswith("it answered InvalidRequestException")) == ("CONFIG-006", True)


@pytest.mark.usefixtures("account")
def test_nobody_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as reserved:  # bound and not listening: refused
        reserved.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{reserved.getsockname()[1]}"
        monkeypatch.setenv("AWS_ENDPOINT_URL", url)
        error = error_of()
    assert error.lines() == [
        f"error CONFIG-006: SWITCHYARD_AWS_SECRET_ID: expected AWS Secrets Manager to hand over '{SECRET}'; "
        f'Could not connect to the endpoint URL: "{url}/"',
        "  the source is configured, so it is not skipped. Nothing was started or changed.",
        f"  Fix: aws secretsmanager get-secret-value --secret-id {SECRET}  (the same credentials, region and network)",
    ]


@pytest.mark.usefixtures("account")
def test_it_accepts_and_never_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{silent.getsockname()[1]}")
        error = error_of()
    assert error.code == "CONFIG-006"
    assert "Read timeout on endpoint URL" in error.what


@pytest.mark.usefixtures("account")
def test_what_boto3_does_not_bound_is_bounded_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aws, "TOTAL_TIMEOUT_S", 1.0)
    released = threading.Event()
    monkeypatch.setattr(aws, "_fetch", lambda *_: released.wait(120))  # as a name service that hangs
    error = error_of()
    released.set()
    assert (error.code, error.what.endswith("; no answer within 1 s")) == ("CONFIG-006", True)


@pytest.mark.usefixtures("manager")
def test_no_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    error = error_of()
    assert (error.code, error.what.endswith("; Unable to locate credentials")) == ("CONFIG-006", True)


@pytest.mark.usefixtures("manager")
def test_no_region(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_REGION")
    error = error_of()
    assert (error.code, error.what.endswith("; You must specify a region")) == ("CONFIG-006", True)


@pytest.mark.usefixtures("account")
def test_a_failure_is_asked_again_the_next_time(manager: Any) -> None:
    assert error_of().code == "CONFIG-007"
    manager.create_secret(Name=SECRET, SecretString='{"DATABASE_POOL_SIZE": 7}')
    assert load_settings(DatabaseSettings).pool_size == 7
