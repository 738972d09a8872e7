from __future__ import annotations

import sqlite3
from typing import Any

import psycopg2
import pytest
from sqlalchemy import exc as sa
from tradedb.retry import Fatal, Phase, Retry, Unknown, classify


class Coded(psycopg2.OperationalError):
    """A psycopg2 error with a SQLSTATE; the real attribute can only be set in C."""

    pgcode: Any = None

    def __init__(self, code: str | None, text: str = "") -> None:
        super().__init__(text)
        self.pgcode = code


def wrapped(code: str | None, text: str = "", *, lost: bool = False) -> sa.DBAPIError:
    return sa.OperationalError("SELECT", {}, Coded(code, text), connection_invalidated=lost)


def busy(name: str) -> sqlite3.OperationalError:
    error = sqlite3.OperationalError("database is locked")
    error.sqlite_errorname = name
    return error


@pytest.mark.parametrize("code", ["40001", "40P01", "55P03", "57P01", "57P02", "57P03", "53300"])
@pytest.mark.parametrize("phase", [Phase.CONNECT, Phase.WORK])
def test_states_that_pass_are_tried_again(code: str, phase: Phase) -> None:
    assert classify(wrapped(code), phase) == Retry()


@pytest.mark.parametrize(
    "code", ["22001", "22P02", "23505", "23503", "23514", "42501", "42P01", "57014", "53100", "XX000"]
)
@pytest.mark.parametrize("phase", [Phase.CONNECT, Phase.WORK])
def test_states_that_stay_are_final(code: str, phase: Phase) -> None:
    assert classify(wrapped(code), phase) == Fatal()


def test_a_read_only_server_empties_the_pool() -> None:
    assert classify(wrapped("25006"), Phase.WORK) == Retry(dispose=True)
    assert classify(wrapped(None, "session is read-only"), Phase.CONNECT) == Retry(dispose=True)


@pytest.mark.parametrize(
    "text",
    [
        "connection refused",
        'FATAL:  too many connections for role "trading_bot"',
        "FATAL:  sorry, too many clients already",
        "FATAL:  the database system is starting up",
        "timeout expired",
        'could not translate host name "db" to address: Name or service not known',
        "server closed the connection unexpectedly",
        "irgendetwas auf Deutsch",
    ],
)
def test_without_a_state_connecting_is_tried_again(text: str) -> None:
    assert classify(wrapped(None, text), Phase.CONNECT) == Retry()
    assert classify(Coded(None, text), Phase.CONNECT) == Retry()


@pytest.mark.parametrize(
    "text",
    [
        'FATAL:  password authentication failed for user "trading_bot"',
        "fe_sendauth: no password supplied",
        'FATAL:  database "railway" does not exist',
        "server does not support SSL, but SSL was required",
        "channel binding required but not supported by server's authentication request",
        'authentication method requirement "scram-sha-256" failed: server requested a cleartext password',
        'FATAL:  role "owner" is not permitted to log in',
        "SSL error: certificate verify failed",
    ],
)
def test_a_wrong_configuration_is_not_tried_again(text: str) -> None:
    assert classify(wrapped(None, text), Phase.CONNECT) == Fatal()


def test_a_lost_connection_depends_on_the_phase() -> None:
    lost = wrapped(None, "server closed the connection unexpectedly", lost=True)
    assert classify(lost, Phase.WORK) == Retry()
    assert classify(lost, Phase.COMMIT) == Unknown()


@pytest.mark.parametrize("code", [None, "57P01", "57P02", "25006", "08006", "XX000", "53100", "55P03"])
def test_an_error_in_commit_is_unknown(code: str | None) -> None:
    assert classify(wrapped(code, lost=code is None), Phase.COMMIT) == Unknown()


@pytest.mark.parametrize(
    ("code", "verdict"), [("40001", Retry()), ("40P01", Retry()), ("23505", Fatal()), ("23503", Fatal())]
)
def test_what_the_server_decided_at_commit_is_known(code: str, verdict: object) -> None:
    assert classify(wrapped(code), Phase.COMMIT) == verdict


def test_an_exhausted_pool_is_tried_again() -> None:
    assert classify(sa.TimeoutError("QueuePool"), Phase.CONNECT) == Retry()


@pytest.mark.parametrize("name", ["SQLITE_BUSY", "SQLITE_BUSY_SNAPSHOT", "SQLITE_LOCKED", "SQLITE_PROTOCOL"])
@pytest.mark.parametrize("phase", list(Phase))
def test_sqlite_busy_is_tried_again_even_at_commit(name: str, phase: Phase) -> None:
    assert classify(busy(name), phase) == Retry()
    assert classify(sa.OperationalError("COMMIT", {}, busy(name)), phase) == Retry()


def test_sqlite_disk_error_at_commit_is_unknown() -> None:
    assert classify(busy("SQLITE_IOERR_FSYNC"), Phase.COMMIT) == Unknown()
    assert classify(busy("SQLITE_IOERR_FSYNC"), Phase.WORK) == Fatal()
    assert classify(busy("SQLITE_CONSTRAINT_UNIQUE"), Phase.WORK) == Fatal()
    assert classify(busy("SQLITE_FULL"), Phase.COMMIT) == Fatal()


def test_a_real_driver_error_has_no_state_when_connecting_fails() -> None:
    """The reason for reading words: psycopg2 gives a refused connection no SQLSTATE."""
    with pytest.raises(psycopg2.OperationalError) as refused:
        psycopg2.connect(host="127.0.0.1", port=1, dbname="x", connect_timeout=2)
    assert refused.value.pgcode is None
    assert classify(refused.value, Phase.CONNECT) == Retry()
