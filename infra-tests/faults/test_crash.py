"""F1, F2, F4: the server ends, in order or not, while writers commit."""

from __future__ import annotations

import random
import time
from collections.abc import Callable

import pytest

from faults import mutants
from faults.bench import Bench
from faults.places.embedded import EmbeddedPlace
from faults.plugin import Tier

pytestmark = pytest.mark.targets("embedded")


def _writers(bench: Bench) -> None:
    bench.start("rows", "rows-1")
    bench.start("rows", "rows-2")
    bench.start("trades", "trades-1")
    for name in ("rows-1", "rows-2", "trades-1"):
        bench.wait_written(20, name)


@pytest.mark.fault("F1", "no-durable-commit")
@pytest.mark.timeout(300)
def test_a_killed_server_has_what_it_acknowledged(bench: Bench, tier: Tier) -> None:
    _writers(bench)
    with bench.observed():
        for _ in range(tier.pick(2, 8)):
            time.sleep(random.uniform(1, tier.pick(2, 6)))
            with bench.fault("every process of the server killed"):
                bench.place.crash()
            bench.wait_written(100)
    bench.finish()


@pytest.mark.fault("F2", "lost-connection-is-final")
def test_a_killed_backend_takes_nobodys_writes_along(bench: Bench, tier: Tier) -> None:
    _writers(bench)
    for _ in range(tier.pick(3, 12)):
        time.sleep(random.uniform(1, 4))
        with bench.fault("one backend killed"):
            bench.place.kill_backend(random.choice(bench.database.backends()))
        bench.wait_written(100)
    history, _ = bench.finish()
    bench.nobody_was_sent_away(history)


@pytest.mark.fault("F4", "lost-connection-is-final")
def test_a_restart_is_waited_out(bench: Bench, tier: Tier) -> None:
    _writers(bench)
    for _ in range(tier.pick(2, 6)):
        time.sleep(random.uniform(0.2, 1))
        with bench.fault("restart"):
            bench.place.restart()
        bench.wait_written(100)
    history, _ = bench.finish()
    bench.nobody_was_sent_away(history)


@pytest.mark.full
@pytest.mark.fault("F1", "no-durable-commit")
@pytest.mark.timeout(900)
def test_a_hundred_thousand_acknowledged_writes(bench: Bench, loopback: EmbeddedPlace, tier: Tier) -> None:
    """Five to a transaction, while the server is killed, restarted and loses backends in the order of a seed."""
    chance = random.Random(tier.seed)
    for name in ("rows-1", "rows-2", "rows-3", "trades-1"):
        bench.start(name.partition("-")[0], name, batch=5)
        bench.wait_written(5, name)
    faults: dict[str, Callable[[], None]] = {
        "killed": loopback.crash,
        "restarted": loopback.restart,
        "backend killed": lambda: loopback.kill_backend(chance.choice(bench.database.backends())),
    }
    injected = 0
    deadline = time.monotonic() + 780
    wanted = 3_000 if mutants.chosen() else 100_000
    while (bench.written() < wanted or injected < 6) and time.monotonic() < deadline:
        time.sleep(chance.uniform(5, 15))
        what = chance.choice(sorted(faults))
        with bench.fault(what):
            faults[what]()
        injected += 1
        bench.wait_written(50)
    bench.note(seed=tier.seed, faults=injected)
    history, _ = bench.finish()
    assert len(history.acknowledged()) >= wanted
