"""What each service gets to see: its own variables and its own role's password, and nothing of anybody else's."""

from __future__ import annotations

import hashlib
import os
import shlex
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from tradedb.errors import EXIT_CONFIG, SwitchyardError

from switchyard.targets import ROLE_LOGIN
from switchyard.targets.embedded import state_folder

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from switchyard.checkout import Checkout
    from switchyard.targets import Role

DATABASE = "railway"
HOST = "127.0.0.1"
# service -> the program that its package installs, and the packages whose change means that it must be started anew
COMMANDS = {"trading-bot": ["trading-bot", "run"], "dashboard": ["dashboard", "run"]}
# the keys of .env that put an owner's own program in the place of ours
OWN_COMMANDS = {"trading-bot": "TRADING_BOT_COMMAND", "dashboard": "DASHBOARD_COMMAND"}
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
    ),
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
    if service == "trading-bot":
        own["BOT_STATE_DIR"] = str(state_folder.place(checkout))
    return {
        **environment,
        **own,
        "DATABASE_URL": database_url(role, values, ports["postgres"]),
        "HOST": HOST,
        "PORT": str(ports[service]),
        "LOG_FORMAT": "json",
    }


def own_command(service: str, values: Mapping[str, str]) -> str | None:
    """Return the command that .env puts in the place of our program, or None: it is ours."""
    return values.get(OWN_COMMANDS.get(service, "")) or None


def command(service: str, values: Mapping[str, str]) -> list[str]:
    """Return the words that start `service`. No shell reads them.

    Raises: SwitchyardError: STACK-037, an owner's command has a quote that does not end.
    """
    own = own_command(service, values)
    if own is None:
        return COMMANDS[service]
    try:
        words = shlex.split(own)
    except ValueError as error:
        raise _no_program(service, str(error).lower()) from error
    return words or COMMANDS[service]


def program(service: str, words: Sequence[str], environment: Mapping[str, str]) -> Path:
    """Return the program that the first word means, as `service` has PATH.

    Raises: SwitchyardError: STACK-037, there is none.
    """
    if list(words) == COMMANDS[service]:
        return Path(sys.executable).parent / words[0]
    found = shutil.which(words[0], path=environment["PATH"])
    if found is None:
        raise _no_program(service, f"there is no program {words[0]}")
    return Path(found)


def own_files(words: Sequence[str]) -> list[Path]:
    """Return which words of a command are files of this machine: the program itself, the script that it runs."""
    return [path for word in words if (path := Path(word)).is_absolute() and path.is_file()]


def _no_program(service: str, why: str) -> SwitchyardError:
    return SwitchyardError(
        "STACK-037",
        f"{OWN_COMMANDS[service]} cannot be started: {why}",
        why="It stands in .env for a program of yours that takes the place of ours.",
        fix="give the full path of the program and of its script, as docs/bring-your-own.md shows; then make up",
        exit_code=EXIT_CONFIG,
    )


def fingerprint(
    service: str, checkout: Checkout, environment: Mapping[str, str], words: Sequence[str] | None = None
) -> str:
    """Return a digest of what a running service was started with: its environment, its command and its code.

    `up` restarts a service whose digest is no longer this one: after a change of .env, or a `git pull`.

    Args:
        service: ``trading-bot`` or ``dashboard``.
        checkout: the instance.
        environment: of the service.
        words: its command, if it is not ours: then the files that it names are its code.
    """
    digest = hashlib.sha256()
    if words is not None and list(words) != COMMANDS[service]:
        digest.update(repr(words).encode())
        for path in own_files(words):
            digest.update(f"{path} {path.stat().st_size} {path.stat().st_mtime_ns}\n".encode())
    for key in sorted(environment.keys() - set(PASSED_ON)):
        digest.update(f"{key}={environment[key]}\n".encode())
    for package in PACKAGES[service]:
        for path in sorted((checkout.root / "services" / package / "src").rglob("*")):
            if path.suffix not in (".pyc", "") and path.is_file():
                stat = path.stat()
                digest.update(f"{path} {stat.st_size} {stat.st_mtime_ns}\n".encode())
    return digest.hexdigest()
