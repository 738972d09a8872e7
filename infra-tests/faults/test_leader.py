"""F17, F20: two bots, a leader that sleeps between deciding and writing, clocks that are wrong."""

from __future__ import annotations

import itertools
import time
from pathlib import Path
from typing import Any

import pytest

from faults.bench import Bench
from faults.inject.refusal import faketime_library
from faults.plugin import Tier

pytestmark = pytest.mark.targets("embedded")
SHARED: dict[str, Any] = {"account": "shared", "lease": "shared"}
# short, so that a thousand take-overs last minutes; the margin is the share of it that the bot's own has
QUICK: dict[str, Any] = {**SHARED, "ttl_s": 0.4, "renew_s": 0.1, "margin_s": 0.08}


def _pauses(bench: Bench, step: str, pauses: int, kind: str = "rows", pairs: int = 1) -> None:
    """Let two bots stop themselves at a step when they lead, and wake each when the other one has led and written.

    Several pairs, each with a lease and an account of its own, do so side by side.
    """
    couples = [(f"{pair}-one", f"{pair}-two") for pair in range(pairs)]
    for pair, names in enumerate(couples):
        for name in names:
            bench.start(kind, name, **{**QUICK, "account": f"pair {pair}", "lease": f"pair {pair}"}, stop_itself=step)
    done = 0
    began = last = time.monotonic()
    while done < pauses:
        for name, other in (order for couple in couples for order in (couple, couple[::-1])):
            slept_in = bench.last(name, "pausing").get("epoch", 0)
            replaced = bench.last(other, "leading").get("epoch", 0) > slept_in
            # the other one writes twice before it sleeps in its turn
            if replaced and bench.processes[name].stopped():
                bench.processes[name].resume()
                done += 1
                last = time.monotonic()
        if time.monotonic() - last > 60:
            bench.finish()  # says what is broken, and what the writers said
            raise AssertionError("nobody stopped and was replaced for 60 s, and nothing is broken")
        time.sleep(0.005)
    bench.note(pauses=done, seconds_each=round((time.monotonic() - began) / done, 2))


@pytest.mark.fault("F20", "no-epoch-test")
@pytest.mark.timeout(900)
def test_a_leader_that_wakes_too_late_writes_nothing(bench: Bench, tier: Tier) -> None:
    """SIGSTOP inside the window from the decision to its INSERT, past the end of the lease: 0 stale writes."""
    _pauses(bench, "intent", tier.pick(20, 1000), pairs=tier.pick(2, 4))
    history, final = bench.finish()
    lost = len(history.named("leadership lost"))
    bench.note(refused=lost, written=len(final.intents))
    assert lost >= tier.pick(10, 500), "no leader woke up too late"


@pytest.mark.fault("F20", "no-fence-no-key")
@pytest.mark.timeout(300)
def test_a_leader_that_wakes_with_a_fill_in_its_hand_writes_nothing(bench: Bench, tier: Tier) -> None:
    """The other bot has recorded that fill from the venue meanwhile, under its own epoch."""
    _pauses(bench, "fill", tier.pick(8, 100), kind="trades")
    bench.finish()


@pytest.mark.full
@pytest.mark.fault("F20", "no-idle-limit")
@pytest.mark.timeout(300)
def test_a_leader_that_sleeps_inside_its_transaction_is_thrown_out(bench: Bench) -> None:
    """It holds the lease's row, so nobody can take over, until the server ends its idle transaction (10 s)."""
    lease = {**SHARED, "ttl_s": 3.0, "renew_s": 1.0, "margin_s": 0.6}
    bench.start("rows", "one", **lease, stop_itself="inside")
    bench.wait_mark("one", "pausing")
    bench.paused("one")
    bench.start("rows", "two", **lease)
    began = time.monotonic()
    bench.wait_mark("two", "leading", timeout_s=25)
    bench.note(taken_over_s=round(time.monotonic() - began, 1))
    bench.wait_written(10, "two")
    bench.processes["one"].resume()
    bench.wait_written(10, "two")
    bench.kill("one")
    bench.finish()


@pytest.mark.fault("F20", "no-release")
@pytest.mark.timeout(600)
def test_a_second_bot_beside_the_first(bench: Bench, tier: Tier) -> None:
    """The next deploy starts while the old one trades; it waits, and leads when the old one ends in order."""
    lease = {**SHARED, "ttl_s": 20.0, "renew_s": 5.0, "margin_s": 3.0}
    names = [f"deploy-{n}" for n in range(tier.pick(3, 20))]
    bench.start("trades", names[0], **lease)
    bench.wait_written(10, names[0])
    longest = 0.0
    for old, new in itertools.pairwise(names):
        bench.start("trades", new, **lease)
        bench.wait_mark(new, "standing by")
        bench.wait_written(10, old)
        began = time.monotonic()
        assert bench.terminate(old) == 0
        bench.wait_written(1, new)
        longest = max(longest, time.monotonic() - began)
    bench.note(hand_overs=len(names) - 1, longest_s=round(longest, 1))
    history, _ = bench.finish()
    assert longest < 15, f"a hand-over took {longest:.1f} s: the next bot waited for the end of the lease"
    assert [mark.body["epoch"] for mark in history.named("leading")] == list(range(1, len(names) + 1))


@pytest.mark.full
@pytest.mark.needs("clock")
@pytest.mark.fault("F17", "local-clock")
@pytest.mark.timeout(300)
def test_clocks_that_are_two_hours_wrong(bench: Bench, tmp_path: Path) -> None:
    """One bot lives two hours ahead, one two hours behind, and steps back again while it leads: the order is kept."""
    library = str(faketime_library())
    offset = tmp_path / "offset"
    tmp_path.chmod(0o755)

    def clock(text: str) -> dict[str, str]:
        offset.write_text(text)
        return {
            "LD_PRELOAD": library,
            "FAKETIME_TIMESTAMP_FILE": str(offset),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "DONT_FAKE_MONOTONIC": "1",
        }

    lease = {**SHARED, "ttl_s": 4.0, "renew_s": 1.0, "margin_s": 0.8}
    bench.start("trades", "ahead", env=clock("+2h"), **lease)
    bench.wait_written(20, "ahead")
    offset.write_text("-2h")  # an administrator sets the clock while it leads
    bench.wait_written(20, "ahead")
    bench.start("trades", "right", **lease)
    bench.wait_mark("right", "standing by")
    bench.wait_written(20, "ahead")
    bench.kill("ahead")
    bench.wait_written(20, "right")
    bench.start("trades", "behind", env=clock("-2h"), **lease)
    bench.wait_mark("behind", "standing by")
    assert bench.terminate("right") == 0
    bench.wait_written(20, "behind")
    said = bench.database.value("SELECT count(*) FROM bot_lease WHERE abs(extract(epoch FROM expires_at - now())) < 60")
    assert said == 1, "the lease is not on the database's clock"
    bench.finish()
