"""The bot itself (its own loop, desk, intake, recovery, spool and venue) where the other tests have writers."""

from __future__ import annotations

import time

import pytest

from faults.bench import Bench
from faults.bot_lives import LEASE, STEPS, finish, full_disk, killed_at, loses_commits
from faults.inject.disks import fill, memory_disk
from faults.plugin import Tier

pytestmark = [pytest.mark.targets("embedded"), pytest.mark.timeout(300)]


@pytest.mark.fault("F1", "server-not-looked-at")
def test_a_server_that_lost_acknowledged_commits_gets_them_back(bench: Bench, tier: Tier) -> None:
    loses_commits(bench, tier.pick(1, 5))


@pytest.mark.full
@pytest.mark.fault("F4", "outage-ends-the-loop")
def test_the_bot_goes_on_after_restarts_and_crashes(bench: Bench, tier: Tier) -> None:
    bench.start("bot", "bot-1", **LEASE)
    bench.wait_written(20, "bot-1")
    with bench.observed():
        for n in range(tier.pick(2, 6)):
            time.sleep(0.3 * n)
            with bench.fault("the server killed" if n % 2 else "restart"):
                (bench.place.crash if n % 2 else bench.place.restart)()
            bench.wait_written(20, "bot-1")
    finish(bench)


@pytest.mark.full
@pytest.mark.needs("disks")
@pytest.mark.fault("F12", "full-spool-ignored", "full-spool-stops-exits")
def test_a_full_disk_halts_the_bots_entries_and_none_of_its_exits(bench: Bench) -> None:
    with memory_disk("1m") as disk:
        full_disk(bench, "", str(disk / "spool"), lambda: fill(disk), (disk / "ballast").unlink)


@pytest.mark.fault("F19", "venue-in-memory")
def test_the_bot_killed_at_every_step(bench: Bench, tier: Tier) -> None:
    killed_at(bench, STEPS * 3 if tier.name == "full" else ("unsent", "fill"))


@pytest.mark.full
@pytest.mark.fault("F20", "no-epoch-test")
def test_a_bot_that_sleeps_before_it_sends_an_order(bench: Bench, tier: Tier) -> None:
    """The decision is committed and its leader stops; the other bot leads, trades, and is put to sleep in its turn."""
    names = ("one", "two")
    for name in names:
        bench.start("bot", name, **LEASE, stop_itself="unsent")
    done, last = 0, time.monotonic()
    while done < tier.pick(2, 20):
        for name, other in (names, names[::-1]):
            slept_in = bench.last(name, "pausing").get("epoch") or 0
            replaced = (bench.last(other, "leading").get("epoch") or 0) > slept_in
            if replaced and bench.processes[name].stopped():
                bench.paused(name)
                bench.processes[name].resume()
                done, last = done + 1, time.monotonic()
        assert time.monotonic() - last < 60, "\n".join(process.log()[-800:] for process in bench.processes.values())
        time.sleep(0.02)
    bench.note(pauses=done)
    finish(bench)
