"""F13 to F16: connections run out, transactions collide, locks are held: nothing fails that may be tried again."""

from __future__ import annotations

from typing import Any

import psycopg2
import pytest
from tradedb import migrate
from tradedb.testing import ROLE_PASSWORDS

from faults.bench import Bench
from faults.contention import deadlocks, long_locks, serialization_failures
from faults.places.embedded import EmbeddedPlace
from faults.plugin import Tier

pytestmark = pytest.mark.targets("embedded")


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
def test_a_deadlock_is_tried_again(bench: Bench, tier: Tier) -> None:
    deadlocks(bench, tier.pick(3, 6))


@pytest.mark.fault("F15", "serialization-is-final")
def test_a_serialization_failure_is_tried_again(bench: Bench, tier: Tier) -> None:
    serialization_failures(bench, tier.pick(40, 150))


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
def test_a_long_lock_is_waited_out_within_the_call(bench: Bench, tier: Tier) -> None:
    long_locks(bench, tier.pick(1, 3))
