"""Where settings come from, in order. A source that is not configured is not touched."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from tradedb.config.env_file import find_env_file, read_env_file

SourceName = Literal["railway", "aws-secrets-manager", "environment", ".env", "default", "code"]

# What Railway sets in every deployment. RAILWAY_TOKEN is not among them: developers export it.
RAILWAY_VARIABLES = (
    "RAILWAY_ENVIRONMENT",
    "RAILWAY_ENVIRONMENT_ID",
    "RAILWAY_ENVIRONMENT_NAME",
    "RAILWAY_PROJECT_ID",
    "RAILWAY_SERVICE_ID",
)


@dataclass(frozen=True)
class Source:
    """One source as it was read.

    Args:
        name: its name in `config show`.
        where: what a person would open to change a value.
        values: variable name (upper case) to text; never an empty text.
    """

    name: SourceName
    where: str
    values: Mapping[str, str] = field(repr=False)


def on_railway() -> bool:
    """Return whether Railway runs this process: it has put its own variables into the environment."""
    return any(os.environ.get(name) for name in RAILWAY_VARIABLES)


def read_sources(env_file: Path | None = None) -> list[Source]:
    """Return the configured sources, the one that wins first.

    Names are exact: DATABASE_URL, never database_url, and never RAILWAY_DATABASE_URL in its place.

    Raises:
        SwitchyardError: a source that is configured cannot be read (CONFIG-004 to CONFIG-008).
    """
    path = find_env_file(env_file)
    file_values = read_env_file(path) if path else {}
    environment = (
        Source("railway", "the service's variables on Railway", _set(os.environ))
        if on_railway()
        else Source("environment", "the environment of the process", _set(os.environ))
    )
    sources = [environment]
    if path:
        sources.append(Source(".env", str(path), _set(file_values)))

    secret_id = _first(sources, "SWITCHYARD_AWS_SECRET_ID")
    if secret_id:
        from tradedb.config.aws import read_secret

        region = _first(sources, "SWITCHYARD_AWS_REGION")
        secret = Source("aws-secrets-manager", f"AWS secret {secret_id}", _set(read_secret(secret_id, region)))
        sources.insert(1 if on_railway() else 0, secret)
    return sources


def _first(sources: list[Source], variable: str) -> str | None:
    """Return the variable from the first source that has it."""
    return next((source.values[variable] for source in sources if variable in source.values), None)


def _set(values: Mapping[str, str]) -> dict[str, str]:
    """Return what is set: compose and Railway hand over an unset reference as an empty text."""
    return {name: value for name, value in values.items() if value}
