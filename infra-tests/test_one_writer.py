"""Two bots on one database: one decides, the other waits, and a leader that slept past its time writes nothing more."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from faults.stack import broken_promises
from targets import Target
from test_faults import acknowledged, fills
from watch import until

pytestmark = pytest.mark.destructive


@contextmanager
def second_bot(target: Target) -> Iterator[subprocess.Popen[str]]:
    """Run one on a free port of its own; ended like any service."""
    process = target.instance.popen("exec", "trading-bot", "--", "env", "PORT=0", "trading-bot", "run")
    try:
        assert process.stdout is not None
        # until it has seen that somebody leads; the end of its output, if it never does
        assert any('"event": "standby"' in line for line in iter(process.stdout.readline, ""))
        yield process
    finally:
        process.terminate()  # on compose too, where it is inside a container
        try:
            process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 0, "the second bot did not end in order"


def lease(target: Target) -> dict[str, Any]:
    [row] = target.sql("SELECT holder, epoch FROM bot_lease WHERE name = 'trading-bot'")
    return row


def intents_by_epoch(target: Target) -> dict[int, int]:
    rows = target.sql("SELECT lease_epoch, count(*) AS n FROM order_intents GROUP BY 1")
    return {row["lease_epoch"]: row["n"] for row in rows}


def test_a_second_bot_stands_by(whole: Target) -> None:
    before = lease(whole)
    epochs = intents_by_epoch(whole)
    with second_bot(whole) as other:
        now = fills(whole)
        until(lambda: fills(whole) > now, 60, "the first bot goes on trading")
        assert other.poll() is None, "the second bot gave up"
        assert lease(whole) == before
    assert set(intents_by_epoch(whole)) == set(epochs)
    assert broken_promises(whole, acknowledged(whole)) == []


@pytest.mark.targets("embedded")
@pytest.mark.slow
def test_a_leader_that_slept_past_its_lease_writes_nothing(whole: Target) -> None:
    before = lease(whole)
    with second_bot(whole) as other:
        whole.pause("trading-bot")
        try:
            until(lambda: lease(whole)["epoch"] == before["epoch"] + 1, 40, "the second bot takes over")
            now = fills(whole)
            until(lambda: fills(whole) > now, 60, "the second bot trades")
        finally:
            whole.resume("trading-bot")
        taken = lease(whole)
        stale = intents_by_epoch(whole).get(before["epoch"], 0)
        now = fills(whole)
        until(lambda: fills(whole) > now, 60, "the second bot still trades")
        assert other.poll() is None
        assert lease(whole) == taken
        assert intents_by_epoch(whole).get(before["epoch"], 0) == stale, "the old leader decided something"
        assert whole.answer("trading-bot", "/readyz")[0] == 200, "the old leader stands by and is ready to lead again"
    # the second bot went in order, so the first leads again without waiting for the end of the lease
    until(lambda: lease(whole)["epoch"] != taken["epoch"], 30, "the first bot leads again")
    assert broken_promises(whole) == []
