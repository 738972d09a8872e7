"""Which database: DATABASE_URL, else the PG* parts put together, else (never on Railway) a SQLite file."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from sqlalchemy import URL

from tradedb.config.load import provenance
from tradedb.config.settings import DatabaseSettings
from tradedb.config.sources import on_railway
from tradedb.errors import EXIT_CONFIG, SwitchyardError
from tradedb.urls import is_local, parse_database_url, redact_url, with_tls_arguments

SEED_FILE = Path("src/data/trading_bot.db")  # where the bot of the original guide keeps it
LOCAL_FILE = Path("data/trading_bot.db")


@dataclass(frozen=True)
class ResolvedUrl:
    """The database a process will use.

    Args:
        url: complete, TLS arguments included. `str(url)` hides the password.
        unpooled: the same database without a pooler in between; equal to `url` unless DATABASE_UNPOOLED_URL says more.
        origin: which settings it came from, and which source had them, in words.
        dialect: "postgresql" or "sqlite".
    """

    url: URL
    unpooled: URL
    origin: str
    dialect: Literal["postgresql", "sqlite"]

    @property
    def redacted(self) -> str:
        """The URL as a person may see it."""
        return redact_url(self.url)


def resolve_database_url(settings: DatabaseSettings) -> ResolvedUrl:
    """Return which database these settings mean, and why. Connects to nothing and creates nothing.

    Raises:
        SwitchyardError: exit code 78. CONFIG-001 on Railway with no database; CONFIG-009 to CONFIG-011 a URL that
            cannot be used; CONFIG-012 half a set of PG* parts; CONFIG-013 a SQLite file that cannot be written;
            CONFIG-014 a SQLite file on Railway that the next deployment would delete.
    """
    origins = provenance(settings)
    if settings.database_url is not None:
        url = _usable(settings.database_url.get_secret_value(), "DATABASE_URL", settings)
        origin = f"DATABASE_URL from {origins['DATABASE_URL'].where}"
    elif any((settings.pghost, settings.pguser, settings.pgpassword, settings.pgdatabase)):
        url = _from_parts(settings)
        origin = f"the PG* parts from {origins['PGHOST'].where}"
    elif on_railway():
        raise SwitchyardError(
            "CONFIG-001",
            "DATABASE_URL: required on Railway, and neither it nor PGHOST is set",
            why="a SQLite file here would be a second, short-lived database that no other service sees. Nothing was "
            "started.",
            fix="in this service's variables on Railway, set the reference DATABASE_URL=${{Postgres.DATABASE_URL}}",
            exit_code=EXIT_CONFIG,
        )
    else:
        file = SEED_FILE if SEED_FILE.is_file() else LOCAL_FILE
        url = URL.create("sqlite", database=str(file.absolute()))
        origin = f"no DATABASE_URL and no PG* parts, so the SQLite file {file}"
    if url.get_backend_name() == "sqlite":
        _check_sqlite(url)
        return ResolvedUrl(url, url, origin, "sqlite")
    unpooled = url
    if settings.database_unpooled_url is not None:
        unpooled = _usable(settings.database_unpooled_url.get_secret_value(), "DATABASE_UNPOOLED_URL", settings)
    return ResolvedUrl(url, unpooled, origin, "postgresql")


def _usable(text: str, variable: str, settings: DatabaseSettings) -> URL:
    """Return the URL in a setting, with its TLS arguments."""
    url = parse_database_url(text, variable=variable)
    return with_tls_arguments(url, allow_plaintext=settings.database_allow_plaintext, variable=variable)


def _from_parts(settings: DatabaseSettings) -> URL:
    """Return the URL put together from PGHOST, PGPORT, PGUSER, PGPASSWORD, PGDATABASE and PGSSL*."""
    host = settings.pghost
    parts = {
        "PGHOST": host,
        "PGUSER": settings.pguser,
        "PGPASSWORD": settings.pgpassword or (host if host and is_local(host) else None),  # local: peer, .pgpass
        "PGDATABASE": settings.pgdatabase,
    }
    missing = [name for name, value in parts.items() if not value]
    if missing or host is None:
        raise SwitchyardError(
            "CONFIG-012",
            f"{', '.join(missing)}: required together with {', '.join(name for name in parts if name not in missing)}",
            why="half a set of PG* parts names no database, and DATABASE_URL is not set. Nothing was connected to.",
            fix=f"set {', '.join(missing)} as well, or DATABASE_URL alone, or unset every PG* part for SQLite",
            exit_code=EXIT_CONFIG,
        )
    password = settings.pgpassword.get_secret_value() if settings.pgpassword else None
    query = {"sslmode": settings.pgsslmode, "sslrootcert": settings.pgsslrootcert}
    url = URL.create(
        "postgresql+psycopg2",
        settings.pguser,
        password,
        host,
        settings.pgport,
        settings.pgdatabase,
        {key: value for key, value in query.items() if value},
    )
    return with_tls_arguments(url, allow_plaintext=settings.database_allow_plaintext, variable="PGSSLMODE")


def _check_sqlite(url: URL) -> None:
    """Raise unless this process may write the file and what SQLite keeps beside it, where it will survive."""
    name = url.database
    if not name or name == ":memory:" or name.startswith("file:"):
        return
    file = Path(name).absolute()
    volume = os.environ.get("RAILWAY_VOLUME_MOUNT_PATH")
    if on_railway() and not (volume and file.is_relative_to(volume)):
        raise SwitchyardError(
            "CONFIG-014",
            f"DATABASE_URL: expected Postgres or a file on a volume, found the SQLite file {file}",
            why="on Railway a file outside a volume is gone with the next deployment. Nothing was opened.",
            fix="set the reference DATABASE_URL=${{Postgres.DATABASE_URL}}, or attach a volume and put the file there",
            exit_code=EXIT_CONFIG,
        )
    folder = next(parent for parent in file.parents if parent.exists())
    problem = None
    if not folder.is_dir():
        problem = f"{folder} is a file, not a folder"
    elif file.is_dir():
        problem = f"{file} is a folder"
    elif not _writable(folder):
        problem = f"no permission to write in {folder}"
    elif file.exists() and not _writable(file):
        problem = f"no permission to write {file}"
    if problem:
        raise SwitchyardError(
            "CONFIG-013",
            f"SQLite database {file}: {problem}",
            why="SQLite writes its journal beside the file, so it needs both. Nothing was opened or changed.",
            fix=f"ls -ld {folder}  (then change its owner or mode, or set DATABASE_URL to another file or to Postgres)",
            exit_code=EXIT_CONFIG,
        )


def _writable(path: Path) -> bool:
    """Return whether this process may write there, as the user it acts as."""
    return os.access(path, os.W_OK, effective_ids=os.access in os.supports_effective_ids)
