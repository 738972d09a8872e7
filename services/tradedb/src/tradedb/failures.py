"""What a person reads when the database did not do it: what happened where, whether anything changed, what next."""

from __future__ import annotations

import os
import sqlite3
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import exc as sa

from tradedb.errors import EXIT_CONFIG, EXIT_UNREACHABLE, SwitchyardError
from tradedb.redaction import redact
from tradedb.retry import Phase, driver_error, is_lost, sqlstate

NOTHING_CHANGED = "Nothing was changed."


class DatabaseUnavailable(SwitchyardError):
    """The database could not be used, and nothing was changed; a service waits and tries again later."""


class OutcomeUnknown(DatabaseUnavailable):
    """The connection was lost while COMMIT was under way: the transaction may be in the database, or may not."""


@dataclass(frozen=True)
class Place:
    """Which database an error is about, as a person may see it.

    Args:
        name: host:port/database, or the SQLite file.
        user: the role; None on SQLite.
        sqlite: whether it is a file.
    """

    name: str
    user: str | None
    sqlite: bool


def explain(error: BaseException, phase: Phase, place: Place, *, name: str, waited_s: float) -> SwitchyardError | None:
    """Return the error for a person, or None when it is the caller's own (bad data, a broken constraint, wrong SQL).

    Args:
        error: what SQLAlchemy or the driver raised.
        phase: how far the transaction had come.
        place: which database.
        name: what the transaction is called.
        waited_s: how long it was tried, in seconds.
    """
    if isinstance(error, SwitchyardError):
        return error
    if isinstance(error, sa.TimeoutError):
        return DatabaseUnavailable(
            "DB-011",
            f"{name}: every pooled connection to {place.name} was in use for {waited_s:.1f} s",
            why=f"the pool of this process is exhausted by its own transactions. {NOTHING_CHANGED}",
            fix="look for a transaction that does not end (tradedb info), or raise DATABASE_POOL_SIZE",
            exit_code=EXIT_UNREACHABLE,
        )
    inner = driver_error(error)
    if isinstance(inner, sqlite3.Error):
        return _explain_sqlite(inner, phase, place, name, waited_s)
    if phase is Phase.CONNECT:
        return _explain_connect(inner, place)
    return _explain_work(error, phase, place, name, waited_s)


def outcome_unknown(place: Place, name: str, error: BaseException) -> OutcomeUnknown:
    """Return the error for a connection that went while COMMIT was under way."""
    return OutcomeUnknown(
        "DB-010",
        f"{name}: the connection to {place.name} was lost while COMMIT was under way",
        why=f"the transaction may be in the database, or may not ({_first_line(error)}).",
        fix="read back the row by its key before doing it again; what is keyed by its own id may simply be repeated",
        exit_code=EXIT_UNREACHABLE,
    )


def unreachable(place: Place, waited_s: float) -> DatabaseUnavailable:
    """Return the error for a server, or a network, that is there but says nothing."""
    return DatabaseUnavailable(
        "DB-008",
        f"{place.name} did not answer within {waited_s:.1f} s",
        why=f"the connection is open but silent: the server, a proxy or the network is frozen. {NOTHING_CHANGED}",
        fix="see whether the server runs (switchyard status) and this machine reaches it, then repeat the command",
        exit_code=EXIT_UNREACHABLE,
    )


def _explain_connect(error: BaseException, place: Place) -> SwitchyardError:
    """Return the error for a connection that could not be made. psycopg2 has only libpq's and the server's words."""
    text = str(error)
    user = place.user or "(none)"
    for words, make in _CONNECT_FAILURES:
        if any(word in text for word in words):
            code, what, why, fix, exit_code = make
            return DatabaseUnavailable(
                code,
                what.format(place=place.name, user=user),
                why=f"{why} {NOTHING_CHANGED}",
                fix=fix.format(user=user.replace("_", "-")),
                exit_code=exit_code,
            )
    return DatabaseUnavailable(
        "DB-020",
        f"no connection to {place.name} as {user}",
        why=f"{_first_line(error)}. {NOTHING_CHANGED}",
        fix="correct DATABASE_URL, or see whether the server runs (switchyard status)",
        exit_code=EXIT_UNREACHABLE,
    )


# The order matters: the first entry whose words occur wins.
_CONNECT_FAILURES: tuple[tuple[tuple[str, ...], tuple[str, str, str, str, int]], ...] = (
    (
        ("could not translate host name", "Name or service not known", "nodename nor servname"),
        (
            "DB-002",
            "the host of {place} is unknown",
            "its name has no address here: a typing error, or the name service is away.",
            "correct the host in DATABASE_URL; *.railway.internal names exist only inside the private network",
            EXIT_UNREACHABLE,
        ),
    ),
    (
        ("password authentication failed", "no password supplied"),
        (
            "DB-003",
            "{place} refused the password of {user}",
            "the role has another password, or there is no such role.",
            "correct DATABASE_URL, or set the role's password from .env: switchyard db roles",
            EXIT_CONFIG,
        ),
    ),
    (
        ("is not permitted to log in", "no pg_hba.conf entry", "permission denied for database"),
        (
            "DB-017",
            "{place} does not let {user} in",
            "the role may not log in, or not to this database from this machine.",
            "use a role that may (switchyard db url --role {user}), or repair the roles: switchyard db roles",
            EXIT_CONFIG,
        ),
    ),
    (
        ("does not support SSL",),
        (
            "DB-005",
            "{place} refuses TLS",
            "the URL asks for an encrypted connection and the server has none.",
            "turn TLS on in the server; only on this machine itself may the URL say sslmode=disable",
            EXIT_CONFIG,
        ),
    ),
    (
        ("channel binding", "authentication method requirement"),
        (
            "DB-018",
            "{place} does not prove that it knows the password of {user}",
            "it asked for the password in a way that would give it to an impostor, so it did not get it.",
            "make sure the host is yours; behind PgBouncer use sslmode=verify-ca with its certificate",
            EXIT_CONFIG,
        ),
    ),
    (
        ("certificate verify failed", "root certificate file", "server certificate"),
        (
            "DB-021",
            "the certificate of {place} is not one that the URL trusts",
            "sslmode=verify-ca and verify-full need the authority's certificate in sslrootcert.",
            "set sslrootcert in DATABASE_URL, or remove sslmode from it (the default is require)",
            EXIT_CONFIG,
        ),
    ),
    (
        ("too many connections", "too many clients", "remaining connection slots"),
        (
            "DB-007",
            "{place} has no connection left for {user}",
            "the server's or the role's limit is reached.",
            "see who holds them (tradedb info, as another role), and stop what should not run",
            EXIT_UNREACHABLE,
        ),
    ),
    (
        ("starting up", "shutting down", "in recovery mode", "not yet accepting connections"),
        (
            "DB-013",
            "{place} is starting or stopping",
            "it answers, but takes no sessions yet.",
            "wait some seconds and repeat the command",
            EXIT_UNREACHABLE,
        ),
    ),
    (
        ("session is read-only",),
        (
            "DB-012",
            "{place} is read-only",
            "it is a replica now, or was set read-only; a writer needs the primary.",
            "point DATABASE_URL at the primary",
            EXIT_UNREACHABLE,
        ),
    ),
    (
        ("Connection refused",),
        (
            "DB-001",
            "nothing listens at {place}",
            "the machine answers, but its port is closed: the server is down, or the port is another one.",
            "start it (make up), or correct the port in DATABASE_URL",
            EXIT_UNREACHABLE,
        ),
    ),
    (
        ("does not exist",),
        (
            "DB-004",
            "{place}: there is no such database",
            "the server answers and has no database of this name.",
            "correct the name in DATABASE_URL, or create it: createdb",
            EXIT_CONFIG,
        ),
    ),
    (
        ("timeout expired", "timed out", "did not resolve within"),
        (
            "DB-008",
            "{place} did not answer in time",
            "the server, a proxy or the network between is frozen or gone.",
            "see whether the server runs (switchyard status) and this machine reaches it, then repeat the command",
            EXIT_UNREACHABLE,
        ),
    ),
    (
        ("server closed the connection unexpectedly", "Connection reset", "No route to host", "Network is unreachable"),
        (
            "DB-009",
            "the connection to {place} was lost",
            "the server or the network went away while it was being made.",
            "see whether the server runs (switchyard status), then repeat the command",
            EXIT_UNREACHABLE,
        ),
    ),
)


def _explain_work(
    error: BaseException, phase: Phase, place: Place, name: str, waited_s: float
) -> SwitchyardError | None:
    """Return the error for a transaction that failed on an open connection, or None when it is the caller's own."""
    state = sqlstate(error)
    if state == "42501":
        return SwitchyardError(
            "DB-006",
            f"{name}: {place.user} may not do this in {place.name}: {_first_line(error)}",
            why=f"the role lacks the privilege. {NOTHING_CHANGED}",
            fix="if it should have it, repair the roles: switchyard db roles; else use another role",
            exit_code=EXIT_CONFIG,
        )
    if state == "25006":
        return DatabaseUnavailable(
            "DB-012",
            f"{name}: {place.name} is read-only for {place.user}",
            why=f"it is a replica now, or the role, or this transaction, may only read. {NOTHING_CHANGED}",
            fix="point DATABASE_URL at the primary, with a role that may write",
            exit_code=EXIT_UNREACHABLE,
        )
    if state in ("40001", "40P01", "55P03", "57014"):
        return DatabaseUnavailable(
            "DB-014",
            f"{name}: {place.name} did not get to it within {waited_s:.1f} s: {_first_line(error)}",
            why=f"other transactions hold what it needs, or it takes longer than allowed. {NOTHING_CHANGED}",
            fix="see who holds the locks on the dashboard's database page, then repeat",
            exit_code=EXIT_UNREACHABLE,
        )
    if state == "53300":
        return _explain_connect(error, place)
    if is_lost(error) or (state and state.startswith(("57P", "08"))):
        return DatabaseUnavailable(
            "DB-009",
            f"{name}: the connection to {place.name} was lost",
            why=f"{_first_line(error)}. {NOTHING_CHANGED}",
            fix="see whether the server runs (switchyard status), then repeat",
            exit_code=EXIT_UNREACHABLE,
        )
    if state and state.startswith("53"):
        return DatabaseUnavailable(
            "DB-019",
            f"{name}: {place.name} is out of a resource: {_first_line(error)}",
            why=f"its disk or its memory is full. {NOTHING_CHANGED}",
            fix="make room on the server (Railway: grow the volume), then repeat",
            exit_code=EXIT_UNREACHABLE,
        )
    return None


def _explain_sqlite(
    error: sqlite3.Error, phase: Phase, place: Place, name: str, waited_s: float
) -> SwitchyardError | None:
    """Return the error for a SQLite file that could not be used, or None when it is the caller's own."""
    kind = getattr(error, "sqlite_errorname", "") or ""
    text = str(error)
    if kind.startswith(("SQLITE_BUSY", "SQLITE_LOCKED", "SQLITE_PROTOCOL")):
        return DatabaseUnavailable(
            "DB-016",
            f"{name}: another process held {place.name} locked for {waited_s:.1f} s",
            why=f"SQLite lets one writer in at a time. {NOTHING_CHANGED}",
            fix=f"find the other process (lsof {place.name}) and end it, or move to Postgres: make up",
            exit_code=EXIT_UNREACHABLE,
        )
    if kind.startswith("SQLITE_CANTOPEN") and _is_merely_absent(Path(place.name)):
        return DatabaseUnavailable(
            "DB-023",
            f"there is no SQLite file {place.name}",
            why=f"it was never made, or DATABASE_URL names another folder. {NOTHING_CHANGED}",
            fix="tradedb migrate (makes the file and its tables)",
            exit_code=EXIT_CONFIG,
        )
    if kind.startswith(("SQLITE_CANTOPEN", "SQLITE_READONLY", "SQLITE_PERM", "SQLITE_AUTH")):
        return DatabaseUnavailable(
            "DB-015",
            f"{place.name} cannot be opened for writing ({text})",
            why=f"SQLite needs to write the file and its folder. {NOTHING_CHANGED}",
            fix="give this user write permission on the folder, or name another file in DATABASE_URL",
            exit_code=EXIT_CONFIG,
        )
    if kind.startswith(("SQLITE_NOTADB", "SQLITE_CORRUPT")):
        return DatabaseUnavailable(
            "DB-022",
            f"{place.name} is not a sound SQLite database ({text})",
            why=f"it is another kind of file, or torn. {NOTHING_CHANGED}",
            fix="name another file in DATABASE_URL, or restore this one from a backup",
            exit_code=EXIT_CONFIG,
        )
    if kind.startswith(("SQLITE_FULL", "SQLITE_IOERR")):
        return DatabaseUnavailable(
            "DB-019",
            f"{name}: the disk of {place.name} is full or failing ({text})",
            why=NOTHING_CHANGED,
            fix="make room on the disk, then repeat",
            exit_code=EXIT_UNREACHABLE,
        )
    if kind == "SQLITE_INTERRUPT":
        return unreachable(place, waited_s)
    return None


def _is_merely_absent(file: Path) -> bool:
    """Return whether a file is not there, but could be made."""
    folder = next((parent for parent in file.parents if os.access(parent, os.F_OK)), Path("/"))
    return not os.access(file, os.F_OK) and os.access(folder, os.W_OK | os.X_OK)


def _first_line(error: BaseException) -> str:
    """Return the first line of the driver's message, without secrets."""
    lines = [line.strip() for line in str(driver_error(error)).splitlines() if line.strip()]
    return redact(lines[0]) if lines else type(error).__name__
