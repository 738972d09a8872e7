"""The one way to a connection: whole transactions, tried again where that is safe, and ended in time."""

from __future__ import annotations

import contextlib
import logging
import sqlite3
import threading
import time
from collections.abc import Callable
from typing import Literal, TypeVar

import psycopg2
import tenacity
from sqlalchemy import URL, Connection, Engine
from sqlalchemy import exc as sa

from tradedb import reports
from tradedb.config.settings import DatabaseSettings
from tradedb.deadline import watchdog
from tradedb.engine import (
    LEAST_CONNECT_TIMEOUT_S,
    READ_ONLY,
    may_be_lost,
    postgres_engine,
    sqlite_engine,
    sqlite_path,
)
from tradedb.errors import SwitchyardError
from tradedb.failures import DatabaseUnavailable, OutcomeUnknown, Place, explain, outcome_unknown, unreachable
from tradedb.reports import ConnectionStats, DatabaseInfo, Health, PoolStatus
from tradedb.retry import Fatal, Phase, Retry, Unknown, Verdict, classify, driver_error, sqlstate
from tradedb.urls import hosts_of, parse_database_url, redact_url, with_tls_arguments

__all__ = ["DatabaseManager", "DatabaseUnavailable", "OutcomeUnknown"]

LONGEST_CALL_S = 12.0
FIRST_ANSWER_S = 6.0  # a person who mistyped the port waits this long
HEALTH_DEADLINE_S = 3.0  # and two seconds more at most, for a connection that was begun at the very end
READ_ONLY_USERS = frozenset({"dashboard", "monitor", "backup"})  # their role says so (tradedb.roles)

T = TypeVar("T")
logger = logging.getLogger(__name__)


class _AttemptError(Exception):
    """One attempt that failed: with what, how far it had come, and whether it may be tried again."""

    def __init__(self, error: Exception, phase: Phase, verdict: Verdict, *, expired: bool) -> None:
        super().__init__(str(error))
        self.error = error
        self.phase = phase
        self.verdict = verdict
        self.expired = expired


class DatabaseManager:
    """Connections to one database, Postgres or a SQLite file, behind one API.

    Nothing is connected by the constructor. ``transaction`` and ``read`` are the only ways to a connection.

    Args:
        url: postgresql://… or sqlite:///…; TLS arguments that it does not name are added (tradedb.urls).
        service: who asks; the name that the server shows for its sessions.
        settings: pool sizes and timeouts; without them the defaults, whatever the environment says.
        create_file: make a SQLite file that is not there (migrations do; a service must not).

    Raises: SwitchyardError, CONFIG-009 to CONFIG-011, for a URL that cannot be used.
    """

    def __init__(
        self,
        url: URL | str,
        *,
        service: str,
        settings: DatabaseSettings | None = None,
        create_file: bool = False,
    ) -> None:
        settings = settings or DatabaseSettings.model_construct()
        parsed = with_tls_arguments(parse_database_url(url), allow_plaintext=settings.database_allow_plaintext)
        self.service = service
        self.dialect: Literal["postgresql", "sqlite"]
        self.url_redacted = redact_url(parsed)
        self._settings = settings
        self._writes = parsed.username not in READ_ONLY_USERS
        self._engine: Engine
        if parsed.get_backend_name() == "sqlite":
            self.dialect = "sqlite"
            self._place = Place(sqlite_path(parsed), None, sqlite=True)
            self._engine = sqlite_engine(parsed, settings, create=create_file)
        else:
            self.dialect = "postgresql"
            name = f"{','.join(hosts_of(parsed))}:{parsed.port or 5432}/{parsed.database or parsed.username or ''}"
            self._place = Place(name, parsed.username, sqlite=False)
            self._engine = postgres_engine(parsed, settings, service=service, writes=self._writes)
        # waits for a connection within the transaction's own deadline, which the pool's own waiting cannot
        self._slots = threading.BoundedSemaphore(settings.pool_size + settings.max_overflow)

    @classmethod
    def from_settings(cls, settings: DatabaseSettings, *, service: str, create_file: bool = False) -> DatabaseManager:
        """Return a manager for the database that the settings name: DATABASE_URL, the PG* parts, or the SQLite file.

        DATABASE_UNPOOLED_URL wins when it is there: this pool makes an outer one pointless, and PgBouncer cannot do
        channel binding.

        Raises: SwitchyardError, as ``resolve_database_url``.
        """
        from tradedb.config import resolve_database_url

        url = resolve_database_url(settings).unpooled
        return cls(url, service=service, settings=settings, create_file=create_file)

    def __repr__(self) -> str:
        return f"DatabaseManager({self.url_redacted!r}, service={self.service!r})"

    def transaction(
        self,
        work: Callable[[Connection], T],
        *,
        name: str,
        deadline_s: float = LONGEST_CALL_S,
        read_only: bool = False,
        retry: bool = True,
        idempotent: bool = False,
        retry_for_s: float | None = None,
    ) -> T:
        """Return what ``work(connection)`` returns, after its transaction has been committed.

        The whole of ``work`` is run again, on a new transaction, after errors that leave nothing behind and may pass: a
        lost or refused connection, a serialization failure, a deadlock, a lock timeout. So it must do nothing but talk
        to the database. Results must not leave it unread: they belong to the connection.

        Args:
            work: gets a ``sqlalchemy.Connection`` in a transaction; must not commit, roll back or keep it.
            name: what the transaction is called in errors and logs.
            deadline_s: the longest this call takes, attempts and waits included; a call that is blocked then is ended.
            read_only: the database refuses writes in it.
            retry: False runs it once.
            idempotent: the work done twice is the work done once (unique keys, ON CONFLICT DO NOTHING). Then it is
                tried again also when a connection was lost during COMMIT, instead of raising OutcomeUnknown.
            retry_for_s: begin no new attempt after this long; without it, the deadline alone counts.

        Raises:
            OutcomeUnknown: DB-010, the connection was lost during COMMIT; the row may be there or not.
            DatabaseUnavailable: DB-0xx, the database could not be used until the deadline; nothing was changed.
            SwitchyardError: DB-006, the role may not do this.
            sqlalchemy.exc.DBAPIError: the caller's own errors as they are, like IntegrityError and DataError.
        """
        started = time.monotonic()
        until = started + deadline_s
        last_start = until if retry_for_s is None else min(until, started + retry_for_s)

        doubts: list[_AttemptError] = []  # tries that may have been carried out

        def may_retry(error: BaseException) -> bool:
            if isinstance(error, _AttemptError) and isinstance(error.verdict, Unknown) and not read_only:
                doubts.append(error)
            if not retry or not isinstance(error, _AttemptError):
                return False
            return isinstance(error.verdict, Retry) or (idempotent and isinstance(error.verdict, Unknown))

        needed = LEAST_CONNECT_TIMEOUT_S if self.dialect == "postgresql" else 0
        growing = tenacity.wait_random_exponential(multiplier=0.05, max=5)

        def wait_s(state: tenacity.RetryCallState) -> float:
            # never so long that the deadline alone would be the reason not to try again
            left = last_start - needed - time.monotonic()
            return min(growing(state), max(0.05, left / 2))

        def out_of_time(state: tenacity.RetryCallState) -> bool:
            return time.monotonic() + state.upcoming_sleep + needed >= last_start

        def report(state: tenacity.RetryCallState) -> None:
            error = state.outcome.exception() if state.outcome else None
            logger.warning(
                "transaction is tried again",
                extra={"transaction": name, "attempt": state.attempt_number, "error": str(error)},
            )

        retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception(may_retry),
            wait=wait_s,
            stop=out_of_time,
            before_sleep=report,
            reraise=True,
        )
        try:
            return retrying(self._attempt, work, until, read_only=read_only)
        except _AttemptError as failed:
            # where one try may have been carried out, no later one that reached nobody says that nothing was changed
            told = doubts[0] if doubts else failed
            raise self._explained(told, name, time.monotonic() - started) from failed.error

    def read(
        self,
        work: Callable[[Connection], T],
        *,
        name: str,
        deadline_s: float = LONGEST_CALL_S,
        retry: bool = True,
    ) -> T:
        """Return what ``work(connection)`` returns in a read-only transaction. As ``transaction`` in all else."""
        return self.transaction(work, name=name, deadline_s=deadline_s, read_only=True, retry=retry, idempotent=True)

    def health(self) -> Health:
        """Return whether the database answers and its schema is the code's; never raises, takes 5 s at most."""
        return reports.health(self, HEALTH_DEADLINE_S)

    def wait(self, wait_s: float = FIRST_ANSWER_S) -> None:
        """Return when the database answers.

        Raises: DatabaseUnavailable, as ``read``, when it does not within ``wait_s`` seconds.
        """
        self.read(lambda connection: connection.exec_driver_sql("SELECT 1"), name="connect", deadline_s=wait_s)

    def connection_stats(self) -> ConnectionStats:
        """Return the connections by role against their limits.

        Raises: DatabaseUnavailable, as ``read``.
        """
        return self.read(reports.connection_stats, name="connection_stats", deadline_s=FIRST_ANSWER_S)

    def database_info(self) -> DatabaseInfo:
        """Return which database this is, as it says itself.

        Raises: DatabaseUnavailable, as ``read``.
        """
        url = self._engine.url
        host, port = (None, None) if self._place.sqlite else (",".join(hosts_of(url)), url.port or 5432)
        return self.read(
            lambda connection: reports.database_info(connection, host, port),
            name="database_info",
            deadline_s=FIRST_ANSWER_S,
        )

    def pool_status(self) -> PoolStatus:
        """Return how many connections this process holds; asks nobody."""
        return reports.pool_status(self._engine)

    def dispose(self) -> None:
        """Close every idle connection; those in use are closed when they come back. The manager stays usable."""
        self._engine.dispose()

    def _attempt(self, work: Callable[[Connection], T], until: float, *, read_only: bool) -> T:
        """Return the work's result after one try; raises _AttemptError for the database's errors."""
        phase = Phase.CONNECT
        with watchdog.guard(until) as guard:
            wait_s = min(self._settings.pool_timeout_s, guard.remaining_s)
            if not self._slots.acquire(timeout=wait_s):
                error = sa.TimeoutError(f"no free connection within {wait_s:.1f} s")
                raise _AttemptError(error, phase, classify(error, phase), expired=False)
            try:
                with self._engine.connect() as connection:
                    if read_only:
                        options = {READ_ONLY: True}
                        if self.dialect == "postgresql":
                            options["postgresql_readonly"] = True
                        connection = connection.execution_options(**options)
                    transaction = connection.begin()
                    phase = Phase.WORK
                    try:
                        result = work(connection)
                        if may_be_lost(connection):  # found out now, it is a failure; found out by COMMIT, a doubt
                            connection.exec_driver_sql("SELECT 1")
                        phase = Phase.COMMIT
                        transaction.commit()
                    except BaseException as error:
                        _roll_back(connection, error)
                        raise
                    return result
            except (sa.DBAPIError, sa.TimeoutError, psycopg2.Error, sqlite3.Error) as error:
                verdict = classify(error, phase)
                if sqlstate(error) == "25006" and (read_only or not self._writes):
                    verdict = Fatal()  # no failover: it was the transaction, or the role, that may only read
                if isinstance(verdict, Retry) and verdict.dispose:
                    self._engine.dispose()
                raise _AttemptError(error, phase, verdict, expired=guard.expired) from error
            finally:
                self._slots.release()

    def _explained(self, failed: _AttemptError, name: str, waited_s: float) -> Exception:
        """Return what the caller gets for an attempt that was the last one."""
        if isinstance(failed.verdict, Unknown):
            return outcome_unknown(self._place, name, failed.error)
        ended_by_us = failed.expired and (failed.phase is not Phase.CONNECT or "closed the connection" in str(failed))
        if ended_by_us and sqlstate(failed.error) is None:
            return unreachable(self._place, waited_s)
        return explain(failed.error, failed.phase, self._place, name=name, waited_s=waited_s) or failed.error


def _roll_back(connection: Connection, error: BaseException) -> None:
    """Roll back, and drop a connection that the driver found dead in a call that SQLAlchemy did not see (COPY)."""
    with contextlib.suppress(Exception):  # the first error is the one to report; a dead connection rolls back by itself
        inner = driver_error(error)
        if isinstance(inner, psycopg2.Error) and connection.connection.dbapi_connection.closed:  # type: ignore[union-attr]
            connection.invalidate(error)
        connection.rollback()


def pool_budget(settings: DatabaseSettings, *, services: int = 2) -> int:
    """Return the most connections that the services hold together, while an old and a new deploy of each overlap."""
    return (settings.pool_size + settings.max_overflow) * services * 2


def assert_pool_budget(settings: DatabaseSettings, *, services: int, max_connections: int, reserved: int) -> None:
    """Do nothing when the pools of every service fit under the server's limit.

    Args:
        settings: of each service.
        services: how many there are.
        max_connections: the server's setting.
        reserved: connections that are not the services': superuser, migrator, monitor, backup.

    Raises: SwitchyardError, DB-024.
    """
    budget = pool_budget(settings, services=services)
    if budget + reserved > max_connections:
        raise SwitchyardError(
            "DB-024",
            f"the pools may need {budget} connections, {reserved} are reserved, and the server gives {max_connections}",
            why=f"({settings.pool_size} + {settings.max_overflow}) x {services} services x 2 deploys that overlap.",
            fix="lower DATABASE_POOL_SIZE or DATABASE_MAX_OVERFLOW, or raise max_connections",
        )
