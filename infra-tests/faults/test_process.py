"""F18, F19: the bot's own process ends: out of memory, or asked to, at every step of a decision."""

from __future__ import annotations

import time
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from faults.bench import Bench
from faults.inject.memory import memory_limit
from faults.plugin import Tier

pytestmark = pytest.mark.targets("embedded")
STEPS = ("decided", "intent", "unsent", "sent", "filled", "fill", "inside", "recorded")
LEASE: dict[str, Any] = {
    "ttl_s": 2.0,
    "renew_s": 0.5,
    "margin_s": 0.4,
}  # what is killed keeps its lease until the end of it


@pytest.mark.full
@pytest.mark.needs("memory")
@pytest.mark.fault("F18", "forgetful-venue")
@pytest.mark.timeout(300)
def test_out_of_memory(bench: Bench, tier: Tier) -> None:
    """The kernel kills the bot; the next one finds what was decided and what the venue did."""
    for _ in range(tier.pick(2, 6)):
        with memory_limit(160) as group:
            process = bench.start("trades", "trades-1", **LEASE, leak_mb=2)
            bench.expects_death("trades-1")
            (group / "cgroup.procs").write_text(str(process.pid))
            assert process.wait(60) == -9, process.log()[-2000:]
        bench.venue_forgot_nothing("trades-1")
    bench.start("trades", "trades-1", **LEASE)
    bench.wait_written(20, "trades-1")
    bench.finish()


def _at_every_step(bench: Bench, grace_s: float, rounds: int) -> float:
    """SIGTERM at each step, and SIGKILL after the grace where it is still there; return the longest time it took."""
    gates = bench.folder / "gates"
    gates.mkdir(exist_ok=True)
    longest = 0.0
    for step in STEPS * rounds:
        bench.start("trades", "trades-1", **LEASE, gates=str(gates))
        bench.wait_written(3, "trades-1")
        before = bench.marks("trades-1", "at gate")
        (gates / step).touch()
        bench.wait_mark("trades-1", "at gate", before + 1)
        began = time.monotonic()
        longest = max(longest, _end(bench, gates / step, grace_s, began))
    bench.start("trades", "trades-1", **LEASE)
    bench.wait_written(20, "trades-1")
    return longest


def _end(bench: Bench, gate: Path, grace_s: float, began: float) -> float:
    process = bench.processes["trades-1"]
    if grace_s == 0:
        bench.kill("trades-1")  # SIGTERM and SIGKILL in one breath
        gate.unlink()
        return 0.0
    bench.asked_to_end("trades-1")
    process.ask_to_end()
    gate.unlink()
    assert process.wait(grace_s) == 0, process.log()[-2000:]
    return time.monotonic() - began


@pytest.mark.fault("F19", "fill-apart", "no-recovery", "no-ledger", "orders-left")
@pytest.mark.timeout(300)
def test_killed_at_every_step(bench: Bench, tier: Tier) -> None:
    """No time at all between SIGTERM and SIGKILL, as on Railway by default."""
    _at_every_step(bench, 0, tier.pick(1, 5))
    bench.finish()


@pytest.mark.full
@pytest.mark.fault("F19", "no-release")
@pytest.mark.timeout(300)
def test_asked_to_end_at_every_step(bench: Bench) -> None:
    """Given 30 s, it ends with 0 long before, and gives the lease back."""
    longest = _at_every_step(bench, 30.0, 2)
    bench.note(longest_end_s=round(longest, 2))
    _, final = bench.finish()
    [lease] = final.leases
    renewed, over = (datetime.fromisoformat(lease[name]) for name in ("renewed_at", "expires_at"))
    assert (over - renewed).total_seconds() < LEASE["ttl_s"], "the lease was not given back"
