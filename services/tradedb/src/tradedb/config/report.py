"""What `tradedb config show` says: every setting, redacted, with the source that won, and the resolved database."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pydantic_settings import BaseSettings

from tradedb.config.classes import COMMON
from tradedb.config.database import resolve_database_url
from tradedb.config.load import Origin, is_secret, load_settings, provenance, variable_name
from tradedb.config.settings import DatabaseSettings
from tradedb.errors import SwitchyardError
from tradedb.urls import redact_url

# names that `switchyard` took from the checkout's .env and handed over in this process's environment, with commas
FROM_ENV_FILE = "SWITCHYARD_SETTINGS_FROM_ENV_FILE"


@dataclass(frozen=True)
class SettingLine:
    """One setting: `value` is redacted, None when unset; `read_by` is a service, or "every service"."""

    name: str
    value: str | None
    source: str
    where: str
    secret: bool
    read_by: str


@dataclass
class ConfigReport:
    """The settings that could be read, the database that they mean, and what is wrong with the others."""

    settings: list[SettingLine] = field(default_factory=list)
    database: dict[str, str] | None = None
    errors: list[SwitchyardError] = field(default_factory=list)

    @property
    def exit_code(self) -> int:
        """0, or that of the first error."""
        return self.errors[0].exit_code if self.errors else 0

    def as_dict(self) -> dict[str, Any]:
        """Return the object for ``--json``."""
        return {
            "schema_version": 1,
            "settings": [asdict(line) for line in self.settings],
            "database": self.database,
            "errors": [error.as_dict() for error in self.errors],
        }

    def lines(self) -> list[str]:
        """Return the same as a table for a terminal."""
        rows = [(line.name, "(unset)" if line.value is None else line.value, line.source) for line in self.settings]
        widths = [max((len(row[column]) for row in rows), default=0) for column in (0, 1)]
        table: list[str] = []
        read_by = None
        for line, (name, value, source) in zip(self.settings, rows, strict=True):
            if line.read_by != read_by:
                read_by = line.read_by
                table += ["", f"read by {read_by}:"] if table else [f"read by {read_by}:"]
            table.append(f"  {name:<{widths[0]}}  {value:<{widths[1]}}  {source}")
        if self.database:
            table += ["", f"database: {self.database['url']}", f"          {self.database['origin']}"]
        return table


def config_report(services: dict[str, type[BaseSettings]], *, env_file: Path | None = None) -> ConfigReport:
    """Return the report on the common settings and on those of `services` (name to class).

    A class whose settings cannot be read becomes an error in the report; the others are still shown. The same fault
    in several classes (an unreadable source) is one error.
    """
    report = ConfigReport()
    for read_by, cls in [("every service", cls) for cls in COMMON] + list(services.items()):
        try:
            settings = load_settings(cls, env_file=env_file)
            report.settings += _lines(settings, read_by)
            if isinstance(settings, DatabaseSettings):
                resolved = resolve_database_url(settings)
                report.database = {
                    "dialect": resolved.dialect,
                    "url": resolved.redacted,
                    "unpooled_url": redact_url(resolved.unpooled),
                    "origin": resolved.origin,
                }
        except SwitchyardError as error:
            if error.as_dict() not in [known.as_dict() for known in report.errors]:
                report.errors.append(error)
    return report


def _lines(settings: BaseSettings, read_by: str) -> list[SettingLine]:
    """Return a line for each setting of a class."""
    cls = type(settings)
    handed_over = frozenset(os.environ.get(FROM_ENV_FILE, "").split(","))

    def source(name: str, origin: Origin) -> tuple[str, str]:
        if origin.source == "environment" and name in handed_over:
            return ".env", "the .env of the checkout; switchyard handed it over"
        return origin.source, origin.where

    secrets = {variable_name(cls, name): is_secret(info) for name, info in cls.model_fields.items()}
    return [
        SettingLine(name, origin.value, *source(name, origin), secrets[name], read_by)
        for name, origin in provenance(settings).items()
    ]
