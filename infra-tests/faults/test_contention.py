"""F13 to F16: connections run out, transactions collide, locks are held: nothing fails that may be tried again."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import psycopg2
import pytest
from tradedb import migrate
from tradedb.testing import ROLE_PASSWORDS

from faults.bench import Bench
from faults.places.embedded import EmbeddedPlace
from faults.plugin import Tier

pytestmark = pytest.mark.targets("embedded")
# who looks for a deadlock first is its victim: the writer, after 1 s
PATIENT = "SET LOCAL deadlock_timeout = '60s'"


@contextmanager
def _again_and_again(bench: Bench, place: EmbeddedPlace, statements: str) -> Iterator[list[int]]:
    """Somebody else's transactions, one after the other, as the administrator; yields how many were done."""
    end = threading.Event()
    done: list[int] = []

    def disturb() -> None:
        connection = place.server.connect(bench.database.name)
        try:
            while not end.is_set():
                with suppress(psycopg2.errors.DeadlockDetected, psycopg2.errors.SerializationFailure):
                    connection.cursor().execute(statements)
                    done.append(1)
                end.wait(0.05)
        finally:
            connection.close()

    thread = threading.Thread(target=disturb)
    thread.start()
    try:
        yield done
    finally:
        end.set()
        thread.join(30)


def _take_all(bench: Bench, place: EmbeddedPlace, held: list[psycopg2.extensions.connection]) -> None:
    for _ in range(60):
        held.append(place.server.connect(bench.database.name, "trading_bot", ROLE_PASSWORDS["trading_bot"]))


@pytest.mark.fault("F13", "no-role-limit")
def test_connections_run_out(bench: Bench, loopback: EmbeddedPlace) -> None:
    """The role's limit is reached: the writer waits and says why; others get in, and the migrator does its work."""
    bench.start("rows", "rows-1", pause_s=0.01)
    bench.wait_written(10, "rows-1")
    held: list[psycopg2.extensions.connection] = []
    with bench.fault("no connection left"):
        with pytest.raises(psycopg2.OperationalError, match='too many connections for role "trading_bot"'):
            _take_all(bench, loopback, held)
        bench.start("trades", "trades-1")
        bench.wait_mark("trades-1", "waiting")
        migrate.upgrade(loopback.server.url(bench.database.name, "migrator", ROLE_PASSWORDS["migrator"]))
        for connection in held:
            connection.close()
    bench.wait_written(20, "trades-1")
    history, _ = bench.finish()
    assert {mark.body["code"] for mark in history.named("waiting")} == {"DB-007"}


@pytest.mark.fault("F14", "deadlock-is-final")
def test_a_deadlock_is_tried_again(bench: Bench, loopback: EmbeddedPlace, tier: Tier) -> None:
    """Another transaction takes the account first and then the lease; the writer, in the reverse order, loses."""
    bench.start("trades", "trades-1")
    bench.wait_written(10, "trades-1")
    cross = f"""
        BEGIN; {PATIENT};
        SELECT 1 FROM trading_sessions FOR UPDATE; SELECT pg_sleep(0.2); SELECT 1 FROM bot_lease FOR UPDATE;
        COMMIT
    """
    deadlocks = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
    with bench.fault("deadlocks"), _again_and_again(bench, loopback, cross):
        deadline = time.monotonic() + 60
        while bench.database.value(deadlocks) < tier.pick(3, 6) and time.monotonic() < deadline:
            time.sleep(0.2)
    bench.wait_written(20, "trades-1")
    bench.note(deadlocks=bench.database.value(deadlocks))
    history, _ = bench.finish()
    assert bench.row.notes["deadlocks"] >= tier.pick(3, 6), "there was no deadlock"
    bench.nobody_was_sent_away(history)


@pytest.mark.fault("F15", "serialization-is-final")
def test_a_serialization_failure_is_tried_again(bench: Bench, loopback: EmbeddedPlace, tier: Tier) -> None:
    """With snapshots of the strictest kind, and somebody who changes the account meanwhile."""
    bench.database.execute(
        f"ALTER ROLE trading_bot IN DATABASE {bench.database.name} SET default_transaction_isolation = 'serializable'"
    )
    bench.start("trades", "trades-1")
    bench.wait_written(10, "trades-1")
    touch = "BEGIN; UPDATE trading_sessions SET updated_at = now(); SELECT pg_sleep(0.05); COMMIT"
    with bench.fault("serialization failures"), _again_and_again(bench, loopback, touch):
        bench.wait_written(tier.pick(40, 150), "trades-1")
    history, _ = bench.finish()
    bench.nobody_was_sent_away(history)
    repeated = sum(op.body.get("tries", 1) > 1 for op in history.acknowledged())
    bench.note(repeated=repeated)
    assert repeated, "nothing collided"


@pytest.mark.fault("F15", "no-session-lock")
def test_two_decisions_about_one_account_at_once(bench: Bench, tier: Tier) -> None:
    """Write skew: both see that nothing is held, both want to enter. One does; the other looks again."""
    gates = bench.folder / "gates"
    gates.mkdir()
    both: dict[str, Any] = {"account": "shared", "lease": "shared", "same_holder": "the bot", "gates": str(gates)}
    bench.start("trades", "one", **both)
    bench.wait_written(4, "one")
    bench.start("trades", "two", **both, variant=1)
    bench.wait_written(4)
    for _ in range(tier.pick(10, 40)):
        at = {name: bench.marks(name, "at gate") for name in ("one", "two")}
        (gates / "intent").touch()
        for name, before in at.items():
            bench.wait_mark(name, "at gate", before + 1)
        (gates / "intent").unlink()
        bench.wait_written(2)
    history, _ = bench.finish()
    looked_again = len(history.named("asking again"))
    bench.note(looked_again=looked_again)
    assert looked_again, "the two never met"


@pytest.mark.fault("F16", "lock-timeout-is-final")
def test_a_long_lock_is_waited_out_within_the_call(bench: Bench, loopback: EmbeddedPlace, tier: Tier) -> None:
    """Each statement waits 2 s at most (lock_timeout) and is tried again; the call ends well when the lock goes."""
    for name in ("rows-1", "trades-1"):
        bench.start(name.partition("-")[0], name)
        bench.wait_written(10, name)
    with bench.fault("a lock of 5 s"), bench.observed():
        for _ in range(tier.pick(1, 3)):
            loopback.server.execute(
                f"BEGIN; {PATIENT}; LOCK TABLE trades, fills, order_intents; SELECT pg_sleep(5); COMMIT",
                database=bench.database.name,
            )
            bench.wait_written(20)
    history, _ = bench.finish()
    bench.nobody_was_sent_away(history)
