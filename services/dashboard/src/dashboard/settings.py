"""What the dashboard is told from outside, and what it refuses to start with."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets

from pydantic import AliasChoices, Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict
from tradedb.errors import EXIT_CONFIG, SwitchyardError

from dashboard.web.hosts import host_name

MIN_PASSWORD_LENGTH = 12
MIN_SECRET_LENGTH = 32
MIN_TOKEN_LENGTH = 32
TOKEN = re.compile(r"[A-Za-z0-9._~+/-]+=*")  # what a bearer token may be made of (RFC 6750)
# what people leave in from an example; compared without case, spaces, hyphens and underscores
EXAMPLE_PASSWORDS = frozenset(
    {
        "changethisnow", "changethispassword", "changemeplease", "changemenow", "password1234", "password12345",
        "passwordpassword", "adminadminadmin", "administrator", "correcthorsebatterystaple", "yourpasswordhere",
        "yourstrongpassword", "strongpassword", "dashboardpassword", "replacewitharandomsecret", "randomsecret",
        "examplepassword", "supersecretpassword", "123456789012", "1234567890123", "qwertyuiopas",
    }
)  # fmt: skip
EXAMPLE_BEGINNINGS = ("changeme", "changethis", "replace", "example", "yourpassword", "<")


class DashboardSettings(BaseSettings):
    """The dashboard's own settings; the database's are in ``tradedb.config.DatabaseSettings``."""

    model_config = SettingsConfigDict(extra="ignore", populate_by_name=True, hide_input_in_errors=True)

    host: str = Field("127.0.0.1", validation_alias=AliasChoices("HOST", "host"), description="Address to listen on.")
    port: int = Field(
        8080,
        validation_alias=AliasChoices("PORT", "port"),
        ge=0,
        le=65535,
        description="Port to listen on; 0: any free one.",
    )
    dashboard_user: str = Field("admin", min_length=1, max_length=100, description="The name to sign in with.")
    dashboard_password: SecretStr | None = Field(
        None, description=f"The password to sign in with; at least {MIN_PASSWORD_LENGTH} characters. Required."
    )
    dashboard_session_secret: SecretStr | None = Field(
        None,
        description=f"Signs the session cookies; at least {MIN_SECRET_LENGTH} characters. "
        "Without it a random one is made at each start, and a restart signs everybody out.",
    )
    dashboard_api_token: SecretStr | None = Field(
        None,
        description=f"Lets scripts read /api/v1 with Authorization: Bearer; at least {MIN_TOKEN_LENGTH} characters. "
        "Without it only a login does.",
    )
    dashboard_hosts: str | None = Field(
        None,
        description="Names under which the dashboard answers, with commas between them, beside 127.0.0.1, localhost, "
        "its private name and Railway's domain.",
    )
    dashboard_behind_proxy: bool | None = Field(
        None,
        description="True: exactly one proxy of yours that speaks https stands before the dashboard, and its "
        "X-Forwarded-For and X-Forwarded-Proto are believed. Default: true on Railway, else false.",
    )
    railway_public_domain: str | None = Field(
        None, description="Set by Railway: a name under which the dashboard answers."
    )
    railway_private_domain: str | None = Field(
        None, description="Set by Railway: a name under which the dashboard answers."
    )
    dashboard_refresh_s: float = Field(
        3.0, ge=1, le=3600, description="Seconds between two refreshes of an open page, where its script runs."
    )
    dashboard_heartbeat_warn_s: float = Field(
        60.0, gt=0, description="Age in seconds of the bot's newest account record from which the overview warns."
    )
    dashboard_connections_percent: float = Field(
        80.0, gt=0, le=100, description="Connections in use, in percent of a limit, from which the database page warns."
    )
    dashboard_lock_wait_s: float = Field(
        5.0, gt=0, description="Seconds of waiting for a lock from which the database page calls it failing."
    )
    dashboard_long_query_s: float = Field(
        30.0, gt=0, description="Seconds that a query has been running from which the database page warns."
    )
    dashboard_idle_transaction_s: float = Field(
        30.0, gt=0, description="Seconds that a transaction has been open and idle from which the database page warns."
    )
    dashboard_slow_query_ms: float = Field(
        20.0, gt=0, description="Mean milliseconds of a statement from which the database page calls it slow."
    )
    dashboard_slow_query_calls: int = Field(
        50, ge=1, description="Calls of a statement from which its mean time counts as known."
    )
    dashboard_cache_hit_percent: float = Field(
        99.0, gt=0, le=100, description="Blocks found in memory, in percent, below which the database page warns."
    )
    dashboard_dead_rows_percent: float = Field(
        20.0, gt=0, le=100, description="Dead rows of a table, in percent, from which the database page warns."
    )
    dashboard_bloat_percent: float = Field(
        50.0, gt=0, le=100, description="Empty space of a table, in percent, from which the database page warns."
    )
    dashboard_transaction_ids_percent: float = Field(
        50.0, gt=0, le=100, description="Used transaction ids, in percent, from which the database page warns."
    )


def take_password(settings: DashboardSettings) -> str:
    """Return the password and forget it in the settings: from here on only its hash is kept.

    Raises: SwitchyardError: DASH-001 there is none; DASH-002 too short; DASH-003 it is an example.
    """
    secret = settings.dashboard_password
    settings.dashboard_password = None
    password = secret.get_secret_value() if secret else ""
    fix = "make env writes .env with a random one; elsewhere set it to the output of: openssl rand -base64 24"
    if not password:
        raise SwitchyardError(
            "DASH-001",
            "DASHBOARD_PASSWORD is not set",
            why="The dashboard does not start without a login.",
            fix=fix,
            exit_code=EXIT_CONFIG,
        )
    if len(password) < MIN_PASSWORD_LENGTH:
        raise SwitchyardError(
            "DASH-002",
            f"DASHBOARD_PASSWORD has {len(password)} characters; at least {MIN_PASSWORD_LENGTH} are needed",
            why="A short password can be guessed. The dashboard did not start.",
            fix=fix,
            exit_code=EXIT_CONFIG,
        )
    plain = "".join(letter for letter in password.lower() if letter not in " -_.!")
    if plain in EXAMPLE_PASSWORDS or plain.startswith(EXAMPLE_BEGINNINGS) or len(set(password)) < 4:
        raise SwitchyardError(
            "DASH-003",
            "DASHBOARD_PASSWORD is an example that anybody can read",
            why="It stands in documentation or in lists of common passwords. The dashboard did not start.",
            fix=fix,
            exit_code=EXIT_CONFIG,
        )
    return password


def session_secret(settings: DashboardSettings) -> str:
    """Return the secret that signs session cookies: the configured one, or a random one of this process.

    Raises: SwitchyardError: DASH-004, the configured one is too short to be random.
    """
    secret = settings.dashboard_session_secret.get_secret_value() if settings.dashboard_session_secret else ""
    if not secret:
        return secrets.token_urlsafe(32)
    if len(secret) < MIN_SECRET_LENGTH:
        raise SwitchyardError(
            "DASH-004",
            f"DASHBOARD_SESSION_SECRET has {len(secret)} characters; at least {MIN_SECRET_LENGTH} are needed",
            why="Whoever guesses it can sign in without the password. The dashboard did not start.",
            fix="make env writes a random one into .env; elsewhere set it to the output of: openssl rand -base64 36",
            exit_code=EXIT_CONFIG,
        )
    return secret


def take_api_token(settings: DashboardSettings) -> str | None:
    """Return the API's token and forget it in the settings; None if there is none, and then no token is right.

    Raises: SwitchyardError: DASH-005, it is too short to be random, or cannot be sent in a header.
    """
    secret = settings.dashboard_api_token
    settings.dashboard_api_token = None
    token = secret.get_secret_value() if secret else ""
    if not token:
        return None
    if len(token) < MIN_TOKEN_LENGTH or not TOKEN.fullmatch(token) or len(set(token)) < 8:
        raise SwitchyardError(
            "DASH-005",
            f"DASHBOARD_API_TOKEN is not a random token of at least {MIN_TOKEN_LENGTH} letters, digits and . _ ~ + / -",
            why="Whoever guesses it reads everything. The dashboard did not start.",
            fix="set it to the output of: openssl rand -hex 24; or leave it out, and only a login opens the API",
            exit_code=EXIT_CONFIG,
        )
    return token


def host_names(settings: DashboardSettings) -> list[str]:
    """Return the configured names under which the dashboard answers, beside those it always has.

    Raises: SwitchyardError: DASH-006, one is not a name.
    """
    named = [name.strip() for name in (settings.dashboard_hosts or "").split(",") if name.strip()]
    wrong = [name for name in named if host_name(name) is None]
    if wrong:
        raise SwitchyardError(
            "DASH-006",
            f"DASHBOARD_HOSTS has something in it that is not a host name: {wrong[0][:80]}",
            why="Names stand there as a browser's address line has them, without https:// and without a path. "
            "The dashboard did not start.",
            fix="write it like DASHBOARD_HOSTS=board.example.com,board.example.org",
            exit_code=EXIT_CONFIG,
        )
    return [*named, *filter(None, (settings.railway_public_domain, settings.railway_private_domain))]


def bound_secret(secret: str, user: str, password: str) -> str:
    """Return a signing secret that is another one after a change of name or password: that ends every session."""
    return hmac.new(secret.encode(), f"{user}\0{password}".encode(), hashlib.sha256).hexdigest()
