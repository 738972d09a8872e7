"""The settings that every service has: its database and its log. Each field says what it is, for docs and errors."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict


class DatabaseSettings(BaseSettings):
    """Where the database is, and how long to wait for it."""

    # Names are for code (settings.pool_size), aliases for people (DATABASE_POOL_SIZE).
    model_config = SettingsConfigDict(validate_by_name=True, validate_by_alias=True)

    database_url: SecretStr | None = Field(
        default=None,
        description="The database, as postgresql://USER:PASSWORD@HOST:5432/DATABASE or sqlite:///FILE. Wins over the "
        "PG* parts. Without both, off Railway: the SQLite file data/trading_bot.db.",
    )
    database_unpooled_url: SecretStr | None = Field(
        default=None,
        description="The same database without a connection pooler in between, for what needs one session. Railway "
        "sets it when its PgBouncer add-on takes over DATABASE_URL.",
    )
    database_allow_plaintext: bool = Field(
        default=False, description="Accept sslmode disable, allow or prefer to a host that is not this machine."
    )
    pghost: str | None = Field(default=None, description="Host, or folder of the socket, when DATABASE_URL is absent.")
    pgport: int = Field(default=5432, ge=1, le=65535, description="Port, when DATABASE_URL is absent.")
    pguser: str | None = Field(default=None, description="User, when DATABASE_URL is absent.")
    pgpassword: SecretStr | None = Field(default=None, description="Password, when DATABASE_URL is absent.")
    pgdatabase: str | None = Field(default=None, description="Database, when DATABASE_URL is absent.")
    pgsslmode: str | None = Field(default=None, description="The sslmode of libpq, when DATABASE_URL is absent.")
    pgsslrootcert: str | None = Field(
        default=None,
        description="File with the certificate authority for verify-ca and verify-full, when DATABASE_URL is absent.",
    )

    pool_size: int = Field(
        default=4,
        ge=1,
        le=50,
        validation_alias="DATABASE_POOL_SIZE",
        description="Connections that a process keeps open.",
    )
    max_overflow: int = Field(
        default=2,
        ge=0,
        le=50,
        validation_alias="DATABASE_MAX_OVERFLOW",
        description="Connections beyond these, under load.",
    )
    pool_timeout_s: float = Field(
        default=5,
        gt=0,
        le=60,
        validation_alias="DATABASE_POOL_TIMEOUT_S",
        description="Longest wait for a free connection.",
    )
    pool_recycle_s: int = Field(
        default=900,
        ge=1,
        validation_alias="DATABASE_POOL_RECYCLE_S",
        description="Age at which a connection is replaced.",
    )
    connect_timeout_s: int = Field(
        default=5,
        ge=1,
        le=60,
        validation_alias="DATABASE_CONNECT_TIMEOUT_S",
        description="Longest wait for one address.",
    )
    tcp_user_timeout_ms: int = Field(
        default=6000,
        ge=100,
        le=60000,
        validation_alias="DATABASE_TCP_USER_TIMEOUT_MS",
        description="A connection whose sent data stays unacknowledged this long is dead; it bounds a COMMIT.",
    )
    keepalives_idle_s: int = Field(
        default=5,
        ge=1,
        validation_alias="DATABASE_KEEPALIVES_IDLE_S",
        description="Silence before the first keepalive.",
    )
    keepalives_interval_s: int = Field(
        default=2, ge=1, validation_alias="DATABASE_KEEPALIVES_INTERVAL_S", description="Time between keepalives."
    )
    keepalives_count: int = Field(
        default=3,
        ge=1,
        validation_alias="DATABASE_KEEPALIVES_COUNT",
        description="Unanswered keepalives until it is dead.",
    )


class LogSettings(BaseSettings):
    """How a process writes its log."""

    log_format: Literal["json", "plain"] | None = Field(
        default=None,
        description="One object a line (json) or text (plain). Without it: json on Railway, plain elsewhere.",
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        default="INFO", description="The least severe level written."
    )

    @field_validator("log_level", mode="before")
    @classmethod
    def _upper(cls, value: object) -> object:
        """Accept info as INFO."""
        return value.upper() if isinstance(value, str) else value


class SourcesSettings(BaseSettings):
    """Where settings come from beyond the environment. Read from the environment; the AWS ones also from .env."""

    switchyard_env_file: str | None = Field(
        default=None, description="The .env file to read. Without it: .env in the working directory, if there is one."
    )
    switchyard_aws_secret_id: str | None = Field(
        default=None,
        description="Name or ARN of a secret in AWS Secrets Manager: a JSON object whose keys are names from this "
        "page. Once set, a secret that cannot be read within 10 s is an error.",
    )
    switchyard_aws_region: str | None = Field(
        default=None,
        description="AWS region of the secret. Without it AWS_REGION, AWS_DEFAULT_REGION or the AWS profile.",
    )
