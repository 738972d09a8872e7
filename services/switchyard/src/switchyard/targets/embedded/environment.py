"""What each service gets to see: its own variables and its own role's password, and nothing of anybody else's."""

from __future__ import annotations

import hashlib
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from switchyard.targets import ROLE_LOGIN

if TYPE_CHECKING:
    from collections.abc import Mapping

    from switchyard.checkout import Checkout
    from switchyard.targets import Role

DATABASE = "railway"
HOST = "127.0.0.1"
# service -> the program that its package installs, and the packages whose change means that it must be started anew
COMMANDS = {"trading-bot": ["trading-bot", "run"], "dashboard": ["dashboard", "run"]}
PACKAGES = {"trading-bot": ("tradedb", "trading-bot"), "dashboard": ("tradedb", "dashboard")}
# which keys of .env are a service's business
OWN_KEYS = {
    "trading-bot": ("LOG_LEVEL", "BOT_"),
    "dashboard": (
        "LOG_LEVEL",
        "DASHBOARD_USER",
        "DASHBOARD_PASSWORD",
        "DASHBOARD_SESSION_SECRET",
        "DASHBOARD_API_TOKEN",
        "DASHBOARD_HOSTS",
        "DASHBOARD_BEHIND_PROXY",
    ),  # fmt: skip
}
# of the machine, not of anybody's secrets
PASSED_ON = ("HOME", "LANG", "LC_ALL", "LC_CTYPE", "LOGNAME", "PATH", "TMPDIR", "USER")


def machine_environment(checkout: Checkout) -> dict[str, str]:
    """Return the variables that every process of the stack gets: the machine's, and which instance it belongs to."""
    passed_on = {key: os.environ[key] for key in PASSED_ON if key in os.environ}
    return {**passed_on, "TZ": "UTC", "PYTHONUNBUFFERED": "1", "SWITCHYARD_HOME": str(checkout.home)}


def database_url(role: Role, values: Mapping[str, str], port: int) -> str:
    """Return the URL of the embedded database for `role`, password included.

    Loopback is not a network that somebody else listens on, and the wheel's server is built without TLS; SCRAM is still
    demanded, so that whatever else sits on that port does not get the password.
    """
    user, key = ROLE_LOGIN[role]
    password = quote(values[key], safe="")
    return f"postgresql://{user}:{password}@{HOST}:{port}/{DATABASE}?sslmode=disable&require_auth=scram-sha-256"


def service_environment(
    service: str, checkout: Checkout, values: Mapping[str, str], ports: Mapping[str, int]
) -> dict[str, str]:
    """Return the whole environment of `service`; nothing else is inherited.

    Args:
        service: ``trading-bot`` or ``dashboard``.
        checkout: the instance.
        values: what .env says.
        ports: of ``postgres``, ``trading-bot`` and ``dashboard``.
    """
    own = {key: value for key, value in values.items() if value and key.startswith(OWN_KEYS[service])}
    role: Role = "trading-bot" if service == "trading-bot" else "dashboard"
    environment = machine_environment(checkout)
    environment["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), environment.get("PATH", os.defpath)])
    return {
        **environment,
        **own,
        "DATABASE_URL": database_url(role, values, ports["postgres"]),
        "HOST": HOST,
        "PORT": str(ports[service]),
        "LOG_FORMAT": "json",
    }


def fingerprint(service: str, checkout: Checkout, environment: Mapping[str, str]) -> str:
    """Return a digest of what a running service was started with: its environment and its packages' code.

    `up` restarts a service whose digest is no longer this one: after a change of .env, or a `git pull`.
    """
    digest = hashlib.sha256()
    for key in sorted(environment.keys() - set(PASSED_ON)):
        digest.update(f"{key}={environment[key]}\n".encode())
    for package in PACKAGES[service]:
        for path in sorted((checkout.root / "services" / package / "src").rglob("*")):
            if path.suffix not in (".pyc", "") and path.is_file():
                stat = path.stat()
                digest.update(f"{path} {stat.st_size} {stat.st_mtime_ns}\n".encode())
    return digest.hexdigest()
