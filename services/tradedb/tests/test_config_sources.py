"""The four sources: their order, what they cost when they are not configured, and what is said when one is broken."""

from __future__ import annotations

import gc
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Literal

import pytest
from pydantic import AliasChoices, Field, SecretStr, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict
from tradedb.config import (
    DatabaseSettings,
    LogSettings,
    Origin,
    aws,
    load_settings,
    on_railway,
    provenance,
)
from tradedb.config import load as load_module
from tradedb.errors import SwitchyardError
from tradedb.redaction import redact

pytestmark = pytest.mark.usefixtures("bare_environment")

ENVIRONMENT = "the environment of the process"


class Shop(BaseSettings):
    """A settings class of somebody else, with everything that such a class may do."""

    model_config = SettingsConfigDict(env_prefix="shop_")

    size_bytes: int = Field(10, ge=1, le=100)
    mode: Literal["fast", "safe"] = "safe"
    tags: list[str] = []
    key: SecretStr | None = None
    pin: Annotated[SecretStr, Field(min_length=4)] | None = None
    spare_keys: list[SecretStr] = []
    door: str = Field("front", validation_alias=AliasChoices("DOOR", "door"))
    window: str = Field("shut", validation_alias="SHOP_WINDOW_STATE")

    @model_validator(mode="after")
    def _together(self) -> Shop:
        if self.mode == "fast" and self.size_bytes > 50:
            raise ValueError("SHOP_MODE=fast needs SHOP_SIZE_BYTES of 50 or less")
        return self


class Needs(BaseSettings):
    """A class with a setting that has no default."""

    api_url: str
    api_key: SecretStr


def error_of(cls: type[BaseSettings], env_file: Path | None = None) -> SwitchyardError:
    with pytest.raises(SwitchyardError) as caught:
        load_settings(cls, env_file=env_file)
    assert caught.value.exit_code == 78
    return caught.value


def test_defaults_when_no_source_says_anything() -> None:
    settings = load_settings(Shop)
    assert settings == Shop.model_construct()
    assert provenance(settings)["SHOP_SIZE_BYTES"] == Origin("10", "default", "its default")
    assert set(provenance(settings)) == {
        "SHOP_SIZE_BYTES",
        "SHOP_MODE",
        "SHOP_TAGS",
        "SHOP_KEY",
        "SHOP_PIN",
        "SHOP_SPARE_KEYS",
        "DOOR",
        "SHOP_WINDOW_STATE",
    }


def test_the_environment_wins_over_env_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SHOP_SIZE_BYTES", "20")
    file = tmp_path / "some.env"
    file.write_text('SHOP_SIZE_BYTES=30\nSHOP_MODE=fast\nSHOP_TAGS=["a", "b"]\nDOOR=back\nSHOP_WINDOW_STATE=open\n')
    settings = load_settings(Shop, env_file=file)
    assert (settings.size_bytes, settings.mode, settings.tags) == (20, "fast", ["a", "b"])
    assert (settings.door, settings.window) == ("back", "open")
    origins = provenance(settings)
    assert origins["SHOP_SIZE_BYTES"] == Origin("20", "environment", ENVIRONMENT)
    for name in ("SHOP_MODE", "SHOP_TAGS", "DOOR", "SHOP_WINDOW_STATE"):
        assert (origins[name].source, origins[name].where) == (".env", str(file))


def test_on_railway_the_environment_is_railways_and_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    Path(".env").write_text("SHOP_MODE=fast\nSHOP_SIZE_BYTES=1\n")
    monkeypatch.setenv("SHOP_SIZE_BYTES", "20")
    monkeypatch.setenv("RAILWAY_ENVIRONMENT", "production")
    origins = provenance(load_settings(Shop))
    assert origins["SHOP_SIZE_BYTES"] == Origin("20", "railway", "the service's variables on Railway")
    assert origins["SHOP_MODE"] == Origin("fast", ".env", ".env")


@pytest.mark.parametrize(
    ("name", "value", "railway"),
    [
        ("RAILWAY_ENVIRONMENT", "production", True),
        ("RAILWAY_ENVIRONMENT_ID", "e", True),
        ("RAILWAY_PROJECT_ID", "p", True),
        ("RAILWAY_SERVICE_ID", "s", True),
        ("RAILWAY_ENVIRONMENT", "", False),
        ("RAILWAY_TOKEN", "t", False),  # a developer's token for the CLI
    ],
)
def test_what_tells_that_this_is_railway(name: str, value: str, railway: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, value)
    assert on_railway() is railway


def test_names_are_exact(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RAILWAY_DATABASE_URL", "database_url", "DATABASE_DATABASE_URL"):
        monkeypatch.setenv(name, "postgresql://wrong:wrong@wrong/wrong")
    for name in ("POOL_SIZE", "pool_size", "database_pool_size"):
        monkeypatch.setenv(name, "40")
    settings = load_settings(DatabaseSettings)
    assert settings.database_url is None
    assert settings.pool_size == 4
    monkeypatch.setenv("DATABASE_URL", "postgresql://right:right@right/right")
    monkeypatch.setenv("RAILWAY_ENVIRONMENT", "production")
    url = load_settings(DatabaseSettings).database_url
    assert url is not None
    assert "wrong" not in url.get_secret_value()


def test_an_empty_value_is_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOP_MODE", "")  # what compose and Railway hand over for an unset reference
    Path(".env").write_text("SHOP_MODE=fast\n")
    assert load_settings(Shop).mode == "fast"


def test_numbers_of_the_pool_and_their_names(monkeypatch: pytest.MonkeyPatch) -> None:
    defaults = load_settings(DatabaseSettings)
    assert (defaults.pool_size, defaults.max_overflow, defaults.pool_timeout_s, defaults.pool_recycle_s) == (
        4,
        2,
        5,
        900,
    )
    assert (defaults.connect_timeout_s, defaults.tcp_user_timeout_ms) == (5, 6000)
    assert (defaults.keepalives_idle_s, defaults.keepalives_interval_s, defaults.keepalives_count) == (5, 2, 3)
    monkeypatch.setenv("DATABASE_POOL_TIMEOUT_S", "0.5")
    assert load_settings(DatabaseSettings).pool_timeout_s == 0.5
    assert DatabaseSettings(pool_size=1).pool_size == 1


# --- the .env file -----------------------------------------------------------------------------------------------


def test_env_file_in_the_working_directory_and_by_variable(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    Path(".env").write_text("SHOP_SIZE_BYTES=11\n")
    assert load_settings(Shop).size_bytes == 11
    (tmp_path / "other.env").write_text("SHOP_SIZE_BYTES=12\n")
    monkeypatch.setenv("SWITCHYARD_ENV_FILE", str(tmp_path / "other.env"))
    assert load_settings(Shop).size_bytes == 12
    monkeypatch.setenv("SWITCHYARD_ENV_FILE", "/dev/null")
    assert load_settings(Shop).size_bytes == 10


def test_what_a_line_of_env_file_may_look_like() -> None:
    lines = [
        "# a comment",
        "",
        "export SHOP_MODE=fast   # inline comment",
        """SHOP_KEY='it''s "$HOME" # ${SHOP_MODE}'""".replace("''", ""),
        "UNRELATED=1",
        "SHOP_SIZE_BYTES = 30",
    ]
    Path(".env").write_text("\ufeff" + "\r\n".join(lines))
    settings = load_settings(Shop)
    assert (settings.mode, settings.size_bytes) == ("fast", 30)
    assert settings.key is not None
    assert settings.key.get_secret_value() == 'its "$HOME" # ${SHOP_MODE}'


@pytest.mark.parametrize(
    ("text", "line", "found"),
    [
        ("A=1\n\nhunter2secret\n", 3, "a word without = and a value"),
        ("A=1\nB='hunter2secret\n", 2, "a line that is not KEY=value (or a quote that does not end)"),
        ("# c\n\n\nB=1\nhunter2secret hunter3secret\n", 5, "a line that is not KEY=value"),
        ("=hunter2secret\n", 1, "a line that is not KEY=value"),
    ],
)
def test_a_malformed_line_is_named_and_not_shown(text: str, line: int, found: str) -> None:
    Path(".env").write_text(text)
    error = error_of(Shop)
    assert error.code == "CONFIG-004"
    assert error.what.startswith(f".env, line {line}: expected KEY=value, a comment or an empty line; found ")
    assert found in error.what
    assert "hunter" not in "\n".join(error.lines())
    assert error.fix == f"correct line {line} of .env; .env.example shows the form"


def test_an_env_file_that_is_not_text() -> None:
    Path(".env").write_bytes(b"A=1\nB=\xff\xfe\n")
    error = error_of(Shop)
    assert (error.code, error.what.startswith(".env, line 2: ")) == ("CONFIG-004", True)
    assert "a byte that is not UTF-8" in error.what


def test_a_named_env_file_that_is_absent_is_not_skipped(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    missing = tmp_path / "missing.env"
    assert error_of(Shop, missing).code == "CONFIG-005"
    monkeypatch.setenv("SWITCHYARD_ENV_FILE", str(missing))
    assert error_of(Shop).lines() == [
        f"error CONFIG-005: {missing}: expected a readable .env file, found: No such file or directory",
        "  SWITCHYARD_ENV_FILE or an option names this file, so it is not skipped.",
        f"  Fix: make the file readable, or unset SWITCHYARD_ENV_FILE (now {missing})",
    ]


# --- values that do not fit --------------------------------------------------------------------------------------


def test_a_value_that_does_not_fit_names_variable_expectation_finding_and_source(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SHOP_SIZE_BYTES", "ten")
    assert error_of(Shop).lines() == [
        f"error CONFIG-002: SHOP_SIZE_BYTES: expected a valid integer, found 'ten' (from {ENVIRONMENT})",
        "  a setting that does not fit is never replaced by its default. Nothing was started or changed.",
        f"  Fix: correct SHOP_SIZE_BYTES in {ENVIRONMENT}; docs/configuration.md says what belongs there",
    ]
    monkeypatch.delenv("SHOP_SIZE_BYTES")
    file = tmp_path / "x.env"
    file.write_text("SHOP_SIZE_BYTES=101\nSHOP_MODE=slow\n")
    error = error_of(Shop, file)
    assert f"SHOP_SIZE_BYTES: expected less than or equal to 100, found '101' (from {file})" in error.what
    assert f"SHOP_MODE: expected 'fast' or 'safe', found 'slow' (from {file})" in error.what


def test_an_aliased_setting_is_named_by_the_name_people_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_POOL_SIZE", "none")
    assert error_of(DatabaseSettings).what.startswith("DATABASE_POOL_SIZE: expected a valid integer, found 'none'")


def test_a_list_that_is_no_json(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOP_TAGS", "a,b")
    error = error_of(Shop)
    assert (error.code, error.what) == ("CONFIG-002", f"SHOP_TAGS: expected JSON, found 'a,b' (from {ENVIRONMENT})")


def test_a_secret_that_does_not_fit_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOP_PIN", "xq7")
    error = error_of(Shop)
    assert error.what.startswith("SHOP_PIN: ")
    assert error.what.endswith(f"found *** (from {ENVIRONMENT})")
    assert "xq7" not in "\n".join(error.lines())


def test_a_rule_over_several_settings_speaks_for_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOP_MODE", "fast")
    monkeypatch.setenv("SHOP_SIZE_BYTES", "60")
    error = error_of(Shop)
    assert (error.code, error.what) == ("CONFIG-002", "SHOP_MODE=fast needs SHOP_SIZE_BYTES of 50 or less")


def test_required_settings_that_nobody_set_are_all_named() -> None:
    assert error_of(Needs).lines() == [
        "error CONFIG-003: API_URL, API_KEY: required, and set nowhere",
        "  no source has it: Railway's variables, AWS Secrets Manager, the environment, .env. Nothing was started.",
        "  Fix: set API_URL, API_KEY; docs/configuration.md says what belongs there",
    ]


@pytest.mark.parametrize(("name", "value"), [("LOG_FORMAT", "xml"), ("LOG_LEVEL", "LOUD")])
def test_log_settings_are_words(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, value)
    assert error_of(LogSettings).what.startswith(f"{name}: expected '")
    monkeypatch.setenv("LOG_FORMAT", "json")
    monkeypatch.setenv("LOG_LEVEL", "debug")
    assert load_settings(LogSettings).log_level == "DEBUG"


# --- provenance and secrets --------------------------------------------------------------------------------------


def test_provenance_hides_secrets_and_keeps_hosts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgres://bot:p@ss:w/rd?#%zz@db.example:6543/railway")
    monkeypatch.setenv("PGPASSWORD", "hunter2secret")
    monkeypatch.setenv("SHOP_KEY", "https://hooks.example/hunter3secret")  # a URL, but not of a database
    origins = provenance(load_settings(DatabaseSettings))
    assert origins["DATABASE_URL"].value == "postgresql://bot:***@db.example:6543/railway"
    assert origins["PGPASSWORD"].value == "***"
    assert origins["DATABASE_UNPOOLED_URL"].value is None
    assert provenance(load_settings(Shop))["SHOP_KEY"].value == "***"


def test_every_secret_that_was_read_is_registered_even_one_that_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgres://bot:p@ss:w/rd?#%zz@db.example/railway")
    monkeypatch.setenv("SHOP_KEY", "hunter2secret")
    monkeypatch.setenv("SHOP_SPARE_KEYS", '["hunter4secret"]')
    Path(".env").write_text("SHOP_KEY=hunter3secret\nSHOP_MODE=slow\n")
    load_settings(DatabaseSettings)
    error_of(Shop)  # registered before anything is refused
    said = "got p@ss:w/rd?#%zz, hunter2secret; hunter3secret or hunter4secret from db.example"
    assert redact(said) == "got ***, ***; *** or *** from db.example"


def test_settings_made_by_the_program_say_so() -> None:
    origins = provenance(DatabaseSettings(pool_size=2))
    assert origins["DATABASE_POOL_SIZE"] == Origin("2", "code", "given by the program")
    assert origins["DATABASE_MAX_OVERFLOW"].source == "default"


def test_what_is_remembered_goes_with_the_settings() -> None:
    settings = load_settings(Shop)
    key = id(settings)
    assert key in load_module._winners
    del settings
    gc.collect()
    assert key not in load_module._winners


# --- cost --------------------------------------------------------------------------------------------------------


def test_an_unconfigured_source_costs_nothing() -> None:
    """No boto3, no socket, no name looked up: in a fresh process, where no other test has imported anything."""
    program = """
import socket, sys
def refuse(*args, **kwargs): raise AssertionError("the network was touched")
socket.socket.connect = socket.getaddrinfo = socket.create_connection = refuse
from tradedb.config import DatabaseSettings, load_settings, provenance, resolve_database_url
settings = load_settings(DatabaseSettings)
resolve_database_url(settings), provenance(settings)
print(sorted(name for name in sys.modules if name.partition(".")[0] in ("boto3", "botocore", "tradedb.config.aws")))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, "[]", "")


def test_the_secret_is_asked_for_only_where_it_is_configured(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, str | None]] = []

    def read_secret(secret_id: str, region: str | None) -> dict[str, str]:
        asked.append((secret_id, region))
        return {"SHOP_MODE": "fast", "SHOP_SIZE_BYTES": "40"}

    monkeypatch.setattr(aws, "read_secret", read_secret)
    load_settings(Shop)
    assert asked == []
    Path(".env").write_text("SWITCHYARD_AWS_SECRET_ID=prod/shop\nSWITCHYARD_AWS_REGION=eu-west-1\nSHOP_MODE=safe\n")
    monkeypatch.setenv("SHOP_SIZE_BYTES", "20")
    origins = provenance(load_settings(Shop))
    assert asked == [("prod/shop", "eu-west-1")]
    assert origins["SHOP_SIZE_BYTES"] == Origin("40", "aws-secrets-manager", "AWS secret prod/shop")
    monkeypatch.setenv("RAILWAY_ENVIRONMENT", "production")
    origins = provenance(load_settings(Shop))  # Railway > AWS > .env
    assert (origins["SHOP_SIZE_BYTES"].source, origins["SHOP_MODE"].source) == ("railway", "aws-secrets-manager")
