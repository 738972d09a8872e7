"""Defects made on purpose, one at a time. The suite is worth something if each of them makes a test fail.

A mutant is chosen by the environment variable FAULTS_MUTANT. Its part in a writer is applied before the writer starts;
its part in the database, where it has one, when that is made.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from faults import bot_mutants

VARIABLE = "FAULTS_MUTANT"


@dataclass(frozen=True)
class Mutant:
    """One defect.

    Args:
        what: is wrong, in a phrase.
        shows: words of the failure that it must lead to; another failure would be an accident.
        writer: applied in the writers' processes.
        database: statements run in each new database.
    """

    what: str
    shows: str
    writer: Callable[[], None] | None = None
    database: tuple[str, ...] = ()


def _no_on_conflict() -> None:
    from sqlalchemy.dialects.postgresql import Insert

    Insert.on_conflict_do_nothing = lambda self, *_, **__: self  # pyright: ignore[reportAttributeAccessIssue]


def _no_epoch_test() -> None:
    from sqlalchemy import literal, select
    from tradedb.models import BotLease
    from trading_bot import lease

    def held(self: Any, conn: Any, *columns: Any, alone: bool = False) -> Any:
        ours = [literal(self.epoch).label("lease_epoch") if column is BotLease.epoch else column for column in columns]
        return select(*ours).where(BotLease.name == lease.LEASE_NAME).select_from(BotLease)

    lease.Lease.held = held


def _no_fence_no_key() -> None:
    from trading_bot.ledger import facts

    _no_epoch_test()
    _no_on_conflict()
    for name in ("compare_held", "_require_ordered"):
        setattr(facts, name, lambda *_: None)


def _setting(name: str, value: Any) -> Callable[[], None]:
    def apply() -> None:
        from tradedb.config.settings import DatabaseSettings

        DatabaseSettings.model_fields[name].default = value
        DatabaseSettings.model_rebuild(force=True)

    return apply


def _no_deadline() -> None:
    from tradedb.deadline import Guard

    Guard.expire = lambda _: None  # pyright: ignore[reportAttributeAccessIssue]


def _no_bound() -> None:
    _no_deadline()
    _setting("keepalives_idle_s", 600)()


def _final(state: str) -> Callable[[], None]:
    def apply() -> None:
        from tradedb import retry

        retry._RETRY_STATES = retry._RETRY_STATES - {state}  # pyright: ignore[reportPrivateUsage]

    return apply


def _lost_is_final() -> None:
    from tradedb import retry

    retry.is_lost = lambda _: False


def _no_session_lock() -> None:
    from trading_bot.ledger import intents, locks

    intents.lock_account = locks.compare_held  # pyright: ignore[reportPrivateImportUsage]


def _unknown_is_failed() -> None:
    """A connection lost in COMMIT is taken for one lost before it."""
    from tradedb import manager, retry

    def classify(error: BaseException, phase: retry.Phase) -> retry.Verdict:
        return retry.classify(error, retry.Phase.WORK if phase is retry.Phase.COMMIT else phase)

    manager.classify = classify  # pyright: ignore[reportPrivateImportUsage]


def _local_clock() -> None:
    from datetime import UTC, datetime, timedelta

    from sqlalchemy import literal
    from tradedb.types import UtcDateTime
    from trading_bot import lease
    from trading_bot.ledger import facts, intents

    def now(_: Any) -> Any:
        return literal(datetime.now(UTC), UtcDateTime())

    for module in (lease, facts, intents):
        setattr(module, "db_clock", now)  # noqa: B010  the type checker knows of no such assignment
    lease.db_clock_in = lambda _, seconds: literal(  # pyright: ignore[reportPrivateImportUsage]
        datetime.now(UTC) + timedelta(seconds=seconds), UtcDateTime()
    )


def _fill_apart() -> None:
    from sqlalchemy import Engine, event

    def commit(conn: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if statement.startswith("INSERT INTO fills"):
            conn.connection.dbapi_connection.commit()

    event.listen(Engine, "after_cursor_execute", commit)


def _no_recovery() -> None:
    from trading_bot import ledger

    ledger.pending_intents = lambda *_: []


def _forgetful_venue() -> None:
    from trading_bot.venue.paper import PaperVenue

    whole = PaperVenue.__init__

    def begin(self: Any, name: str, path: Any, **rates: Any) -> None:
        whole(self, name, None, **rates)

    PaperVenue.__init__ = begin


def _errors_swallowed() -> None:
    from tradedb.failures import DatabaseUnavailable
    from tradedb.manager import DatabaseManager

    whole = DatabaseManager.transaction

    def transaction(self: Any, work: Any, *, name: str, **options: Any) -> Any:
        try:
            return whole(self, work, name=name, **options)
        except DatabaseUnavailable:
            if name != "row":
                raise

    DatabaseManager.transaction = transaction


def _leaked_connections() -> None:
    """One in fifty transactions keeps its connection."""
    import itertools

    from sqlalchemy import Engine

    whole = Engine.connect
    kept: list[Any] = []
    count = itertools.count(1)

    def connect(self: Any) -> Any:
        if next(count) % 50 == 0:
            kept.append(whole(self))
        return whole(self)

    Engine.connect = connect


def _no_release() -> None:
    from trading_bot.lease import Lease

    Lease.release = lambda *_: None  # pyright: ignore[reportAttributeAccessIssue]


def _full_spool_ignored() -> None:
    from trading_bot.spool import Spool, SpoolFull

    whole = Spool.append

    def append(self: Any, kind: str, key: str, body: Any) -> int:
        try:
            return whole(self, kind, key, body)
        except SpoolFull:
            return 0

    Spool.append = append


def _migration_in_pieces() -> None:
    from sqlalchemy import Engine, event

    def commit(conn: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if statement.strip().upper().startswith("CREATE TABLE"):
            conn.connection.dbapi_connection.commit()

    event.listen(Engine, "after_cursor_execute", commit)


def _no_migration_lock() -> None:
    import os

    from tradedb import migrate

    migrate.MIGRATION_LOCK = os.getpid()


NO_KEYS = (
    "ALTER TABLE venue_orders DROP CONSTRAINT venue_orders_client_order_id_fkey",
    "ALTER TABLE fills DROP CONSTRAINT fills_intent_id_fkey",
    "ALTER TABLE fills DROP CONSTRAINT fills_pkey",
    "ALTER TABLE order_intents DROP CONSTRAINT order_intents_pkey",
    "DROP INDEX uq_ledger_entries_fill",
)


def _ignored(what: str, table: str) -> tuple[str, ...]:
    """Statements after which an INSERT into that table, or an UPDATE of it, does nothing and says so to nobody."""
    return (
        "CREATE FUNCTION nothing() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'",
        f"CREATE TRIGGER nothing BEFORE {what} ON {table} FOR EACH ROW EXECUTE FUNCTION nothing()",
    )


MUTANTS: dict[str, Mutant] = {
    "no-on-conflict": Mutant("INSERT without ON CONFLICT DO NOTHING", "DB-010|IntegrityError", _no_on_conflict),
    "no-epoch-test": Mutant("a write does not look at the lease row", "I5: ", _no_epoch_test),
    "no-durable-commit": Mutant(
        "a commit is acknowledged before it is on the disk",
        "I1: ",
        database=(
            "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET synchronous_commit = off', current_database()); END $$",
            "ALTER SYSTEM SET wal_writer_delay = '10s'",
            "SELECT pg_reload_conf()",
        ),
    ),
    "no-log": Mutant(
        "decisions are in a table that a crash empties",
        "I1: ",
        database=(
            "ALTER TABLE venue_orders DROP CONSTRAINT venue_orders_client_order_id_fkey",
            "ALTER TABLE fills DROP CONSTRAINT fills_intent_id_fkey",
            "ALTER TABLE order_intents SET UNLOGGED",
        ),
    ),
    "no-tcp-user-timeout": Mutant(
        "unacknowledged data does not end a connection", "lasted", _setting("tcp_user_timeout_ms", 0)
    ),
    "no-deadline": Mutant("a call that is not answered is waited for", "I6: .* lasted", _no_deadline),
    "no-bound": Mutant("neither keepalives nor a deadline end a call", "I6: .* lasted", _no_bound),
    "no-key": Mutant("decisions and fills without a primary key", "I2: ", _no_on_conflict, NO_KEYS),
    "no-fence-no-key": Mutant("nothing stands against a stale fill", "I[245]: ", _no_fence_no_key, NO_KEYS),
    "unknown-is-failed": Mutant("a connection lost in COMMIT counts as a failure", "I3: ", _unknown_is_failed),
    "deadlock-is-final": Mutant("a deadlock's victim is not tried again", "sent away.*DB-014", _final("40P01")),
    "serialization-is-final": Mutant(
        "a serialization failure is not tried again", "sent away.*DB-014", _final("40001")
    ),
    "lock-timeout-is-final": Mutant("a lock timeout is not tried again", "sent away.*DB-014", _final("55P03")),
    "lost-connection-is-final": Mutant("a lost connection is not tried again", "sent away.*DB-0", _lost_is_final),
    "no-role-limit": Mutant(
        "one role may take every connection",
        "too many clients|remaining connection slots|DID NOT RAISE",
        database=("ALTER ROLE trading_bot CONNECTION LIMIT -1",),
    ),
    "no-idle-limit": Mutant(
        "a transaction may sleep for ever",
        "'leading'",
        database=("ALTER ROLE trading_bot RESET idle_in_transaction_session_timeout",),
    ),
    "local-clock": Mutant(
        "the lease and the order of rows are by the bot's own clock",
        "I[25]: |right says 'standing by'|not on the database's clock",
        _local_clock,
    ),
    "no-ledger": Mutant(
        "nothing is written into the books", "is not in the ledger", database=_ignored("INSERT", "ledger_entries")
    ),
    "orders-left": Mutant(
        "an order's row stays as it was when the venue took it",
        "I8: order .* is ACCEPTED, its intent FILLED",
        database=_ignored("UPDATE", "venue_orders"),
    ),
    "fill-apart": Mutant("a fill is committed before what follows from it", "I[478]: ", _fill_apart),
    "no-recovery": Mutant("what was decided before the start is not looked for", "is still pending", _no_recovery),
    "forgetful-venue": Mutant(
        "what the venue did dies with the bot", "the venue forgot|the venue never made", _forgetful_venue
    ),
    "errors-swallowed": Mutant("a write that failed is reported as done", "I1: ", _errors_swallowed),
    "full-spool-ignored": Mutant(
        "decisions go on without a place on the disk", "says 'spool full'", _full_spool_ignored
    ),
    "migration-in-pieces": Mutant(
        "a migration commits half way",
        "half a migration|already exists|permission denied for table alembic_version",
        _migration_in_pieces,
    ),
    "leaked-connections": Mutant(
        "connections are not given back", "I6: .* connections in use|QueuePool", _leaked_connections
    ),
    "no-release": Mutant("a bot that ends keeps its lease", "a hand-over took|not given back", _no_release),
    "no-migration-lock": Mutant("two migrators at once", "already exists|duplicate key", _no_migration_lock),
    "server-not-looked-at": Mutant(
        "a server that lost what it acknowledged is not noticed",
        "the bot says what it found",
        bot_mutants.server_not_looked_at,
    ),
    "outage-ends-the-loop": Mutant(
        "the bot ends with the first outage", "an outage ended the loop", bot_mutants.outage_ends_the_loop
    ),
    "full-spool-stops-exits": Mutant(
        "a full disk stops exits too", "what was held is sold", bot_mutants.full_spool_stops_exits
    ),
    "venue-in-memory": Mutant("the paper venue forgets with its process", "the venue", _forgetful_venue),
    "no-session-lock": Mutant("two decisions about one account at once", "I[24]: ", _no_session_lock),
}


def chosen() -> Mutant | None:
    """The mutant of this run, if it is one."""
    name = os.environ.get(VARIABLE)
    return MUTANTS[name] if name else None


def apply_in_writer() -> None:
    """Break this process's code as the environment says."""
    mutant = chosen()
    if mutant is not None and mutant.writer is not None:
        mutant.writer()


def apply_in_database(execute: Callable[[str], Any]) -> None:
    """Break a new database as the environment says."""
    mutant = chosen()
    for statement in mutant.database if mutant is not None else ():
        execute(statement)


def passed_on() -> dict[str, str]:
    """What a writer's environment needs, so that it is the same mutant."""
    name = os.environ.get(VARIABLE)
    return {VARIABLE: name} if name else {}
