"""The faults that containers have, from killed to out of memory, and those that have to be the same on every target."""

from __future__ import annotations

import time
from typing import Any

import pytest
from targets import Target
from targets.compose import ComposeTarget

from faults.bench import Bench
from faults.bot_lives import STEPS, full_disk, killed_at
from faults.contention import deadlocks, long_locks, serialization_failures
from faults.places.compose import ComposePlace, Container
from faults.plugin import NewBench, Tier

pytestmark = [pytest.mark.targets("compose"), pytest.mark.timeout(300), pytest.mark.destructive]
LEASE: dict[str, Any] = {"ttl_s": 4.0, "renew_s": 1.0, "margin_s": 0.8}


@pytest.fixture
def place(whole: Target) -> ComposePlace:
    assert isinstance(whole, ComposeTarget)
    return ComposePlace(whole)


@pytest.fixture
def bench(new_bench: NewBench, place: ComposePlace) -> Bench:
    return new_bench(place)


def _writers(bench: Bench) -> None:
    for kind in ("rows", "trades"):
        bench.start(kind, f"{kind}-1")
    for kind in ("rows", "trades"):
        bench.wait_written(10, f"{kind}-1")


def _container(bench: Bench, name: str) -> Container:
    process = bench.processes[name]
    assert isinstance(process, Container)
    return process


@pytest.mark.fault("F1", "no-log")
def test_a_killed_database_container_has_what_it_acknowledged(bench: Bench, tier: Tier) -> None:
    _writers(bench)
    with bench.observed():
        for _ in range(tier.pick(1, 5)):
            with bench.fault("the container killed"):
                bench.place.crash()
            bench.wait_written(30)
    bench.finish()


@pytest.mark.fault("F5", "no-deadline")
def test_a_frozen_database_container(bench: Bench, place: ComposePlace) -> None:
    """Its kernel still acknowledges every segment: only the deadline ends a call."""
    _writers(bench)
    place.target.pause("postgres")
    try:
        time.sleep(16)
    finally:
        with bench.fault("frozen"):
            place.target.resume("postgres")
    for name in ("rows-1", "trades-1"):
        bench.wait_written(10, name)
    bench.finish()


@pytest.mark.full
@pytest.mark.fault("F5", "leaked-connections")
def test_a_bot_taken_off_the_network(bench: Bench, place: ComposePlace) -> None:
    _writers(bench)
    with bench.fault("no network"), place.disconnected(_container(bench, "rows-1")):
        time.sleep(15)
    bench.wait_written(10, "rows-1")
    bench.finish()


@pytest.mark.needs("containers")
@pytest.mark.fault("F7", "no-epoch-test")
def test_one_of_two_bots_cut_off(bench: Bench, place: ComposePlace) -> None:
    """Its packets are dropped where they arrive, at both ends; the other bot leads within TTL + 5 s."""
    shared: dict[str, Any] = {**LEASE, "account": "shared", "lease": "shared", "pause_s": 0.02}
    bench.start("rows", "one", **shared)
    bench.wait_written(10, "one")
    bench.start("rows", "two", **shared)
    bench.wait_mark("two", "standing by")
    with place.cut(_container(bench, "one")):
        began = time.monotonic()
        bench.wait_mark("two", "leading", timeout_s=30)
        took = time.monotonic() - began
        bench.wait_written(10, "two")
    bench.note(taken_over_s=round(took, 1))
    bench.wait_written(10, "two")
    bench.finish()
    assert took < LEASE["ttl_s"] + 5


@pytest.mark.fault("F18", "forgetful-venue")
def test_a_container_out_of_memory(bench: Bench) -> None:
    for _ in range(2):
        bench.start("trades", "trades-1", **LEASE, where="128m", leak_mb=2)
        bench.expects_death("trades-1")
        ended = _container(bench, "trades-1")
        assert ended.wait(90) == 137, ended.log()
        assert ended.killed_for_memory()
        bench.venue_forgot_nothing("trades-1")
    bench.start("trades", "trades-1", **LEASE)
    bench.wait_written(20, "trades-1")
    bench.finish()


@pytest.mark.full
@pytest.mark.fault("F4", "lost-connection-is-final")
def test_a_restarted_database_container(bench: Bench) -> None:
    _writers(bench)
    for _ in range(3):
        with bench.fault("restart"):
            bench.place.restart()
        bench.wait_written(30)
    history, _ = bench.finish()
    bench.nobody_was_sent_away(history)


@pytest.mark.full
@pytest.mark.needs("containers")
@pytest.mark.fault("F8", "leaked-connections")
def test_a_slow_line_to_the_database_container(bench: Bench, place: ComposePlace) -> None:
    """64 kbit/s: writes go on; nobody opens a second connection for what is under way already."""
    _writers(bench)
    most = 0
    with bench.fault("64 kbit/s"), place.slow(_container(bench, "rows-1"), "64kbit"):
        until_at = time.monotonic() + 20
        while time.monotonic() < until_at:
            most = max(most, len(bench.database.backends()))
            time.sleep(0.5)
        bench.wait_written(5, "rows-1")
    bench.note(connections=most)
    bench.finish()
    assert most <= 4


@pytest.mark.full
@pytest.mark.needs("containers")
@pytest.mark.fault("F9", "lost-connection-is-final")
def test_resets_between_a_bot_and_the_database_container(bench: Bench, place: ComposePlace, tier: Tier) -> None:
    _writers(bench)
    with bench.fault("resets"):
        for _ in range(tier.pick(5, 15)):
            with place.reset(_container(bench, "trades-1")):
                time.sleep(0.1)
            time.sleep(1.9)
    bench.wait_written(20, "trades-1")
    history, _ = bench.finish()
    bench.nobody_was_sent_away(history)


@pytest.mark.full
@pytest.mark.fault("F12", "full-spool-ignored", "full-spool-stops-exits")
def test_a_bots_container_without_room_for_its_spool(bench: Bench) -> None:
    def take_all() -> None:
        _container(bench, "bot-1").run("dd", "if=/dev/zero", "of=/disk/ballast", "bs=512", check=False)

    full_disk(bench, "/disk", "/disk/spool", take_all, lambda: _container(bench, "bot-1").run("rm", "/disk/ballast"))


@pytest.mark.fault("F14", "deadlock-is-final")
def test_a_deadlock_in_the_database_container(bench: Bench, tier: Tier) -> None:
    deadlocks(bench, tier.pick(1, 6))


@pytest.mark.fault("F15", "serialization-is-final")
def test_serialization_failures_in_the_database_container(bench: Bench, tier: Tier) -> None:
    serialization_failures(bench, tier.pick(20, 150))


@pytest.mark.fault("F16", "lock-timeout-is-final")
def test_a_long_lock_in_the_database_container(bench: Bench, tier: Tier) -> None:
    long_locks(bench, tier.pick(1, 3))


@pytest.mark.full
@pytest.mark.fault("F19", "venue-in-memory")
def test_a_bots_container_killed_at_every_step(bench: Bench) -> None:
    killed_at(bench, STEPS)
