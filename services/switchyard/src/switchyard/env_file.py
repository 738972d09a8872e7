"""The stack's ``.env``: written once with fresh secrets and free ports, read strictly, so that a typing error is found.

The list of keys is ``.env.example`` itself: ``KEY=value`` stands in every .env, ``#KEY=value`` is optional. What we
accept reads the same for Docker Compose, python-dotenv and a shell; whatever they read differently (``$``, backslashes,
`` #`` inside a value) is an error.
"""

from __future__ import annotations

import difflib
import os
import re
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tradedb.errors import EXIT_CONFIG, SwitchyardError

from switchyard import ports

if TYPE_CHECKING:
    from pathlib import Path

    from switchyard.checkout import Checkout

LINE = re.compile(r"(?P<key>[A-Za-z_][A-Za-z0-9_]*)=(?P<value>.*)")
OPTIONAL = re.compile(r"#(?P<key>[A-Z][A-Z0-9_]*)=.*")
URL_SAFE = re.compile(r"[A-Za-z0-9._~-]+")
PORT_KEYS = ("DASHBOARD_PORT", "DATABASE_DEBUG_PORT")
SECRET_BYTES = 24  # 32 characters of base64url: no guessing, and still one word in a terminal


def is_secret(key: str) -> bool:
    """Return whether the value of `key` must never be shown."""
    return key.endswith(("_PASSWORD", "_SECRET", "_TOKEN"))


@dataclass(frozen=True)
class Template:
    """What .env.example says: which keys a .env must have, and which it may have."""

    required: tuple[str, ...]
    optional: tuple[str, ...]

    @classmethod
    def of(cls, path: Path) -> Template:
        """Return the keys that `path` lists."""
        required: list[str] = []
        optional: list[str] = []
        for line in path.read_text().splitlines():
            if match := LINE.fullmatch(line):
                required.append(match["key"])
            elif match := OPTIONAL.fullmatch(line):
                optional.append(match["key"])
        return cls(tuple(required), tuple(optional))


def write(checkout: Checkout) -> bool:
    """Write .env (mode 600) from .env.example; return False, and touch nothing, if there is one already.

    Raises: SwitchyardError: ENV-001, the folder cannot be written.
    """
    if checkout.env_file.exists():
        return False
    generated = {"COMPOSE_PROJECT_NAME": f"switchyard-{checkout.instance_id}"}
    taken: list[int] = []
    lines: list[str] = []
    for line in checkout.example_file.read_text().splitlines():
        match = LINE.fullmatch(line)
        if match is None:
            lines.append(line)
            continue
        key, value = match["key"], match["value"]
        if is_secret(key):
            value = secrets.token_urlsafe(SECRET_BYTES)
        elif key in PORT_KEYS:
            taken.append(ports.choose_free(taken))
            value = str(taken[-1])
        lines.append(f"{key}={generated.get(key, value)}")
    try:
        fd = os.open(checkout.env_file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:  # another process was quicker: its file is as good
        return False
    except OSError as error:
        raise SwitchyardError(
            "ENV-001",
            f"cannot write {checkout.env_file}: {error.strerror}",
            why="The stack keeps its passwords and ports there. Nothing was changed.",
            fix=f"give yourself that folder: sudo chown -R $(id -un) {checkout.env_file.parent}",
            exit_code=EXIT_CONFIG,
        ) from error
    with os.fdopen(fd, "w") as handle:
        handle.write("\n".join(lines) + "\n")
    return True


def read(checkout: Checkout) -> dict[str, str]:
    """Return every key of .env with its value, checked.

    Raises: SwitchyardError: ENV-002 to ENV-010, with file and line; exit code 78.
    """
    path = checkout.env_file
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise _missing(checkout) from None
    except (OSError, UnicodeDecodeError) as error:
        raise _error(
            "ENV-002",
            f"{path} cannot be read: {error}",
            "It holds the passwords and ports of the stack.",
            f"ls -l {path}",
        ) from error
    template = Template.of(checkout.example_file)
    known = (*template.required, *template.optional)
    values: dict[str, str] = {}
    seen_at: dict[str, int] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        where = f"{path}:{number}"
        match = LINE.fullmatch(line)
        if match is None:
            raise _error(
                "ENV-003",
                f"{where}: expected KEY=value, found {_shown(line)}",
                "No spaces around the equals sign, no `export`, one setting a line.",
                f"correct line {number}; .env.example shows every key",
            )
        key = match["key"]
        if key not in known:
            near = difflib.get_close_matches(key.upper(), known, n=1)
            raise _error(
                "ENV-004",
                f"{where}: unknown key {key}" + (f"; did you mean {near[0]}?" if near else ""),
                "A key that nothing reads would look as if it worked.",
                f"correct or remove line {number}; .env.example shows every key",
            )
        if key in seen_at:
            raise _error(
                "ENV-005",
                f"{where}: {key} stands in line {seen_at[key]} already",
                "Which of the two counts would depend on who reads the file.",
                f"remove line {seen_at[key]} or line {number}",
            )
        seen_at[key] = number
        values[key] = _value(key, match["value"], where, number)
    for key in template.required:
        if not values.get(key):
            state = f"{path}:{seen_at[key]}: {key} is empty" if key in seen_at else f"{path}: {key} is missing"
            hint = (
                "a fresh secret: python3 -c 'import secrets; print(secrets.token_urlsafe(24))'"
                if is_secret(key)
                else f"see {key} in .env.example"
            )
            raise _error("ENV-006", state, "The stack does not start without it.", hint)
    return values


def renew_ports(checkout: Checkout, avoid: list[int]) -> None:
    """Choose the ports of .env anew and change those lines alone."""
    taken = list(avoid)
    lines: list[str] = []
    for line in checkout.env_file.read_text().splitlines():
        match = LINE.fullmatch(line)
        if match is not None and match["key"] in PORT_KEYS:
            taken.append(ports.choose_free(taken))
            lines.append(f"{match['key']}={taken[-1]}")
        else:
            lines.append(line)
    fresh = checkout.env_file.with_name(f"{checkout.env_file.name}.new")
    fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "w") as handle:
        handle.write("\n".join(lines) + "\n")
    fresh.replace(checkout.env_file)


def require_for_data(checkout: Checkout) -> None:
    """Return if .env is there, or there is no database yet that another one belongs to.

    Raises: SwitchyardError: ENV-010.
    """
    if checkout.known_target() is not None and not checkout.env_file.exists():
        raise _missing(checkout)


def _missing(checkout: Checkout) -> SwitchyardError:
    if checkout.known_target() is None:
        what, why = f"{checkout.env_file} does not exist", "It holds the passwords and ports of the stack."
        return _error("ENV-002", what, why, "make env")
    return _error(
        "ENV-010",
        f"{checkout.env_file} is gone, and this checkout has a database that was made with its passwords",
        "A fresh one would not open that database.",
        "put the old file back; if it is lost and the data may go: make env, then make reset, then make up",
    )


def readable_by_others(checkout: Checkout) -> bool:
    """Return whether other users of this machine may read the secrets."""
    return bool(checkout.env_file.stat().st_mode & 0o077)


def _value(key: str, raw: str, where: str, number: int) -> str:
    """Return the value that every reader of the file agrees on."""
    value = raw.strip()
    quote = value[:1]
    if quote in ("'", '"'):
        if len(value) < 2 or value[-1] != quote or quote in value[1:-1]:
            raise _error(
                "ENV-003",
                f"{where}: {key} has a quote that does not end",
                "One value, one pair of quotes.",
                f"correct line {number}",
            )
        value = value[1:-1]
    elif re.search(r"\s#", value) or "'" in value or '"' in value:
        raise _error(
            "ENV-007",
            f"{where}: {key} has a comment or a quote inside its value",
            "Its readers disagree about those.",
            f"correct line {number}",
        )
    if "$" in value or "\\" in value:
        raise _error(
            "ENV-007",
            f"{where}: the value of {key} contains a dollar sign or a backslash",
            "Docker Compose, the services and a shell each read those in their own way.",
            f"choose another value in line {number}",
        )
    if value and key.endswith("_PASSWORD") and key != "DASHBOARD_PASSWORD" and not URL_SAFE.fullmatch(value):
        raise _error(
            "ENV-008",
            f"{where}: {key} has a character that a URL would need encoded",
            "docker-compose.yml puts it into DATABASE_URL as it is. Letters, digits and . _ ~ - are safe.",
            "a fresh secret: python3 -c 'import secrets; print(secrets.token_urlsafe(24))'",
        )
    if value and key in PORT_KEYS and not (value.isascii() and value.isdigit() and 1 <= int(value) <= 65535):
        raise _error(
            "ENV-009",
            f"{where}: {key} is {value!r}, expected a port from 1 to 65535",
            "Nothing can listen there.",
            f"correct line {number}",
        )
    return value


def _shown(line: str) -> str:
    """Return what may be shown of a malformed line: its first word, for the rest may be a secret."""
    return repr(re.split(r"[\s=:]", line.strip(), maxsplit=1)[0]) + " …"


def _error(code: str, what: str, why: str, fix: str) -> SwitchyardError:
    return SwitchyardError(code, what, why=f"{why} Nothing was changed.", fix=fix, exit_code=EXIT_CONFIG)
