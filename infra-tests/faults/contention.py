"""F14, F15, F16 as they are on every target: SQL is all that they need."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from watch import until

from faults.bench import Bench
from faults.record import History

# who looks for a deadlock first is its victim: the writer, after 1 s
PATIENT = "SET LOCAL deadlock_timeout = '60s'"


@contextmanager
def _again_and_again(bench: Bench, statements: str) -> Iterator[None]:
    """Somebody else's transactions, one after the other, as the administrator."""
    end = threading.Event()

    def disturb() -> None:
        while not end.is_set():
            with suppress(Exception):  # it may collide as well: what counts is what the server and the writer say
                bench.database.execute(statements)
            end.wait(0.05)

    thread = threading.Thread(target=disturb)
    thread.start()
    try:
        yield
    finally:
        end.set()
        thread.join(30)


def deadlocks(bench: Bench, wanted: int) -> None:
    """Another transaction takes the account first and then the lease; the writer, in the reverse order, loses."""
    bench.start("trades", "trades-1")
    bench.wait_written(10, "trades-1")
    cross = f"""
        BEGIN; {PATIENT};
        SELECT 1 FROM trading_sessions FOR UPDATE; SELECT pg_sleep(0.2); SELECT 1 FROM bot_lease FOR UPDATE;
        COMMIT
    """
    counted = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
    with bench.fault("deadlocks"), _again_and_again(bench, cross):
        deadline = time.monotonic() + 60
        while bench.database.value(counted) < wanted and time.monotonic() < deadline:
            time.sleep(0.2)
    bench.wait_written(20, "trades-1")
    bench.note(deadlocks=bench.database.value(counted))
    history, _ = bench.finish()
    assert bench.row.notes["deadlocks"] >= wanted, "there was no deadlock"
    bench.nobody_was_sent_away(history)


def serialization_failures(bench: Bench, writes: int) -> None:
    """With snapshots of the strictest kind, and somebody who changes the account meanwhile."""
    bench.database.execute(
        f"ALTER ROLE trading_bot IN DATABASE {bench.database.name} SET default_transaction_isolation = 'serializable'"
    )
    bench.start("trades", "trades-1")
    bench.wait_written(10, "trades-1")
    touch = "BEGIN; UPDATE trading_sessions SET updated_at = now(); SELECT pg_sleep(0.05); COMMIT"
    with bench.fault("serialization failures"), _again_and_again(bench, touch):
        bench.wait_written(writes, "trades-1")
        until(lambda: _repeated(bench.history()), 60, "something collides")
    history, _ = bench.finish()
    bench.nobody_was_sent_away(history)
    bench.note(repeated=_repeated(history))


def _repeated(history: History) -> int:
    """How many writes were acknowledged at a later try than the first."""
    return sum(op.body.get("tries", 1) > 1 for op in history.acknowledged())


def long_locks(bench: Bench, locks: int) -> None:
    """Each statement waits 2 s at most (lock_timeout) and is tried again; the call ends well when the lock goes."""
    for name in ("rows-1", "trades-1"):
        bench.start(name.partition("-")[0], name)
        bench.wait_written(10, name)
    with bench.fault("a lock of 5 s"), bench.observed():
        for _ in range(locks):
            bench.database.execute(
                f"BEGIN; {PATIENT}; LOCK TABLE trades, fills, order_intents; SELECT pg_sleep(5); COMMIT"
            )
            bench.wait_written(20)
    history, _ = bench.finish()
    bench.nobody_was_sent_away(history)
