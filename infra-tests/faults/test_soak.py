"""Faults in an order that a seed decides, for as long as one likes: `make faults TIER=soak MINUTES=60 SEED=1`."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest

from faults.bench import Bench
from faults.places.network import NetworkPlace
from faults.plugin import NewBench, Tier

LONGEST_FAULT_S = 60.0
pytestmark = [pytest.mark.targets("embedded"), pytest.mark.soak, pytest.mark.needs("network"), pytest.mark.timeout(0)]


@contextmanager
def _frozen(place: NetworkPlace, bench: Bench) -> Iterator[None]:
    """Freeze the sessions that there are now; new ones are answered."""
    stopped = bench.database.backends()
    try:
        for pid in stopped:
            place.server.pause(pid)
        yield
    finally:
        for pid in stopped:
            place.server.resume(pid)


@contextmanager
def _inject(what: str, place: NetworkPlace, bench: Bench, chance: random.Random) -> Iterator[None]:
    with ExitStack() as ending:
        if what == "crash":
            place.crash()
        elif what == "restart":
            place.restart()
        elif what == "backend":
            place.kill_backend(chance.choice(bench.database.backends()))
        elif what == "frozen":
            ending.enter_context(_frozen(place, bench))
        else:
            cable = place.cables[what[-1]]
            ending.enter_context(cable.cut() if what.startswith("cut") else cable.slow("64kbit"))
        yield


FAULTS = ("crash", "restart", "backend", "frozen", "cut a", "cut b", "slow a")
PASSING = ("crash", "restart", "backend")  # over as soon as they are done


@pytest.mark.fault("F1-F9", "no-durable-commit")
def test_soak(new_bench: NewBench, network: NetworkPlace, tier: Tier) -> None:
    """Two bots share an account, two write rows; whatever happens, in whatever order, nothing is lost or doubled."""
    print(f"seed {tier.seed}, {tier.minutes:g} minutes; the same: make faults TIER=soak SEED={tier.seed}")  # noqa: T201
    chance = random.Random(tier.seed)
    bench = new_bench(network)
    shared: dict[str, Any] = {"account": "shared", "lease": "shared"}
    for where in ("a", "b"):
        url = network.url_through(bench.database, where)
        bench.start("trades", f"bot-{where}", where=where, url=url, **shared)
        bench.start("rows", f"rows-{where}", where=where, url=url)
    bench.wait_written(50)
    injected: dict[str, int] = dict.fromkeys(FAULTS, 0)
    end = time.monotonic() + 60 * tier.minutes
    while time.monotonic() < end:
        what = chance.choice(FAULTS)
        lasts = min(LONGEST_FAULT_S, 6 * tier.minutes) * chance.random()
        with bench.fault(what), _inject(what, network, bench, chance):
            time.sleep(0 if what in PASSING else lasts)
        injected[what] += 1
        bench.wait_written(50, timeout_s=120)
        time.sleep(chance.uniform(0, min(60, tier.minutes)))
    bench.note(seed=tier.seed, **injected)
    bench.finish()
