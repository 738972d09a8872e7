"""Which database errors may be tried again, decided by what the server said and how far the transaction had come."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from enum import Enum

import psycopg2
from sqlalchemy import exc as sa


class Phase(Enum):
    """How far a transaction had come when it failed."""

    CONNECT = "connect"
    WORK = "work"
    COMMIT = "commit"


@dataclass(frozen=True)
class Retry:
    """Nothing was changed and the same work may succeed now; ``dispose``: first close every pooled connection."""

    dispose: bool = False


@dataclass(frozen=True)
class Fatal:
    """Nothing was changed, and trying again would fail the same way."""


@dataclass(frozen=True)
class Unknown:
    """The connection went while COMMIT was under way: the transaction may be in the database, or may not."""


Verdict = Retry | Fatal | Unknown

_RETRY_STATES = frozenset({"40001", "40P01", "55P03", "57P01", "57P02", "57P03", "53300"})
_READ_ONLY_STATE = "25006"  # after a failover the pool still holds connections to what is a replica now
_DECIDED_AT_COMMIT = ("40", "23", "22")  # the server answered: it rolled back (serialization, deferred constraint)

# libpq's and the server's words while connecting, where psycopg2 has no SQLSTATE. A server in another language misses
# these and is tried again until the deadline, which is the safe side.
_FATAL_AT_CONNECT = (
    "password authentication failed",
    "no password supplied",
    "does not exist",
    "is not permitted to log in",
    "no pg_hba.conf entry",
    "does not support SSL",
    "channel binding",
    "authentication method requirement",
    "certificate",
    "permission denied for database",
    "invalid connection option",
    "invalid sslmode value",
)
_SQLITE_BUSY = ("SQLITE_BUSY", "SQLITE_LOCKED", "SQLITE_PROTOCOL")


def driver_error(error: BaseException) -> BaseException:
    """Return the driver's own error, out of SQLAlchemy's wrapper if it is in one."""
    if isinstance(error, sa.DBAPIError) and error.orig is not None:
        return error.orig
    return error


def sqlstate(error: BaseException) -> str | None:
    """Return Postgres' five-character code, or None (lost connections and refused ones have none in psycopg2)."""
    return getattr(driver_error(error), "pgcode", None)


def is_lost(error: BaseException) -> bool:
    """Return whether the error says that the connection is gone, also one from the driver itself (COPY)."""
    if isinstance(error, sa.DBAPIError):
        return error.connection_invalidated
    if isinstance(error, psycopg2.InterfaceError):
        return "connection already closed" in str(error)
    return isinstance(error, psycopg2.OperationalError) and error.pgcode is None


def classify(error: BaseException, phase: Phase) -> Verdict:
    """Return whether the whole transaction may be tried again.

    Args:
        error: what SQLAlchemy or the driver raised.
        phase: how far the transaction had come.
    """
    inner = driver_error(error)
    if isinstance(inner, sqlite3.Error):
        return _classify_sqlite(inner, phase)
    state = sqlstate(error)
    if phase is Phase.COMMIT and not (state and state.startswith(_DECIDED_AT_COMMIT)):
        return Unknown()
    if state == _READ_ONLY_STATE:
        return Retry(dispose=True)
    if state is not None:
        return Retry() if state in _RETRY_STATES else Fatal()
    if isinstance(error, sa.TimeoutError):  # the pool had no connection to give
        return Retry()
    if phase is Phase.CONNECT and isinstance(inner, Exception) and not isinstance(inner, sa.ArgumentError):
        if any(words in str(inner) for words in _FATAL_AT_CONNECT):
            return Fatal()
        return Retry(dispose="session is read-only" in str(inner))
    return Retry() if is_lost(error) else Fatal()


def _classify_sqlite(error: sqlite3.Error, phase: Phase) -> Verdict:
    """Return the verdict for SQLite, which says itself whether a COMMIT happened, except when its disk fails."""
    name = getattr(error, "sqlite_errorname", "") or ""
    if name.startswith(_SQLITE_BUSY):
        return Retry()
    if phase is Phase.COMMIT and name.startswith("SQLITE_IOERR"):
        return Unknown()
    return Fatal()
