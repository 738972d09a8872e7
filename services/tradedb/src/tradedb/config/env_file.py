"""The .env file: strict about its form, so that a torn line never becomes a missing setting."""

from __future__ import annotations

import io
import os
from pathlib import Path

from dotenv.parser import parse_stream

from tradedb.errors import EXIT_CONFIG, SwitchyardError


def find_env_file(env_file: Path | None = None) -> Path | None:
    """Return the .env file to read: the given one, else SWITCHYARD_ENV_FILE's, else ./.env if there is one."""
    named = env_file or os.environ.get("SWITCHYARD_ENV_FILE")
    if named:
        return Path(named)
    try:
        return Path(".env") if Path(".env").is_file() else None
    except PermissionError:  # a service of another user, started in a folder that it may not enter
        return None


def read_env_file(path: Path) -> dict[str, str]:
    """Return the variables of a .env file.

    ``KEY=value`` a line, optionally after ``export``; ``#`` begins a comment; quotes around a value are removed, inside
    it they stay; nothing is expanded, so a ``$`` in a password is a ``$``.

    Raises:
        SwitchyardError: CONFIG-005 when the file cannot be read, CONFIG-004 when a line has no meaning.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise SwitchyardError(
            "CONFIG-005",
            f"{path}: expected a readable .env file, found: {error.strerror or error}",
            why="SWITCHYARD_ENV_FILE or an option names this file, so it is not skipped.",
            fix=f"make the file readable, or unset SWITCHYARD_ENV_FILE (now {path})",
            exit_code=EXIT_CONFIG,
        ) from None
    except UnicodeDecodeError as error:
        line = 1 + error.object[: error.start].count(b"\n")
        raise _malformed(path, line, "a byte that is not UTF-8") from None
    values: dict[str, str] = {}
    for binding in parse_stream(io.StringIO(text)):
        entry = binding.original.string  # begins with the blank lines before it
        line = binding.original.line + entry[: len(entry) - len(entry.lstrip())].count("\n")
        if binding.error:
            raise _malformed(path, line, "a line that is not KEY=value (or a quote that does not end)")
        if binding.key is None:
            continue
        if binding.value is None:
            raise _malformed(path, line, "a word without = and a value")
        values[binding.key] = binding.value
    return values


def _malformed(path: Path, line: int, found: str) -> SwitchyardError:
    """Return the error for a line that says nothing; the line itself is not shown, it may be a secret."""
    return SwitchyardError(
        "CONFIG-004",
        f"{path}, line {line}: expected KEY=value, a comment or an empty line; found {found}",
        why="a setting that cannot be read must not silently become its default. Nothing was started or changed.",
        fix=f"correct line {line} of {path}; .env.example shows the form",
        exit_code=EXIT_CONFIG,
    )
