"""Lives of the bot itself, its own loop and all that it works with, through faults that every target can have.

Afterwards the venue's file is the truth: each of its fills is in the database once, as it was, and no other.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from watch import until

from faults.bench import Bench
from faults.real_bot import HOLD
from faults.venue_file import differences

# what is killed keeps its lease until the end of it
LEASE: dict[str, Any] = {"account": "shared", "lease": "shared", "ttl_s": 3.0, "renew_s": 0.6, "margin_s": 0.5}
STEPS = ("decided", "intent", "unsent", "sent", "filled", "fill", "recorded")
LOSES_COMMITS = (
    "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET synchronous_commit = off', current_database()); END $$",
    "ALTER SYSTEM SET wal_writer_delay = '10s'",
    "SELECT pg_reload_conf()",
)
ONE_ORDER = 4  # a decision and its three parts, which a bot may add before it notices that the server is another
KEEPS_COMMITS = ("ALTER SYSTEM RESET wal_writer_delay", "SELECT pg_reload_conf()")


def finish(bench: Bench) -> None:
    """End the bots; every promise is kept, and the database has what the venue did."""
    _, final = bench.finish()
    found = differences(bench.folder / "state-shared" / "venue.db", final)
    bench.note(venue_fills=len(final.fills))
    assert not found, "\n".join(found[:20])
    assert final.quarantined == []


def _missing(bench: Bench, outcomes: tuple[str, ...]) -> set[tuple[str, str]]:
    """Which decisions and fills of these outcomes the database does not have now."""
    wanted = {
        (op.kind, op.key) for op in bench.history().ops if op.kind in ("intent", "fill") and op.outcome in outcomes
    }
    there = {("intent", row["intent_id"]) for row in bench.database.fetch("SELECT intent_id FROM order_intents")}
    there |= {("fill", row["venue_trade_id"]) for row in bench.database.fetch("SELECT venue_trade_id FROM fills")}
    return wanted - there


def loses_commits(bench: Bench, rounds: int) -> None:
    """It acknowledges before its disk has it, and is killed; the bot goes on by itself, and its spool has the rest."""
    for statement in LOSES_COMMITS:
        bench.database.execute(statement)
    bot = bench.start("bot", "bot-1", **{**LEASE, "ttl_s": 30.0})
    bench.wait_written(10, "bot-1")
    lost = replayed = 0
    try:
        for _ in range(rounds):
            bench.database.execute("CHECKPOINT")
            bench.wait_written(25, "bot-1")
            bench.paused("bot-1")
            bot.pause()
            bench.place.crash()
            acknowledged, attempted = _missing(bench, ("ok",)), _missing(bench, ("ok", "unknown"))
            before = _replayed(bench)
            with bench.fault("acknowledged commits lost"):
                bot.resume()
            if acknowledged:  # its log may have reached the disk just before
                until(lambda: _replayed(bench)[0] > before[0], 30, "the bot says what it found")  # noqa: B023
            bench.wait_written(10, "bot-1")
            back = _replayed(bench)[1] - before[1]
            assert len(acknowledged) <= back <= len(attempted) + ONE_ORDER, "what came back is not what was lost"
            lost, replayed = lost + len(acknowledged), replayed + back
    finally:
        for statement in KEEPS_COMMITS:
            bench.database.execute(statement)
    bench.note(acknowledged_and_lost=lost, replayed=replayed)
    assert lost, "the server lost nothing"
    finish(bench)


def _replayed(bench: Bench) -> tuple[int, int]:
    """How often the bot told of a recovery from a server that was not the one before, and what it replayed in all."""
    [row] = bench.database.fetch(
        "SELECT count(*) AS times, coalesce(sum((details->>'spool_replayed')::int), 0)::int AS facts FROM system_events"
        " WHERE event_type = 'RECOVERY' AND details->>'other_server' = 'true'"
    )
    return row["times"], row["facts"]


def killed_at(bench: Bench, steps: Sequence[str]) -> None:
    """SIGKILL between each two of its steps; the next process finds what was decided, and what the venue did."""
    gates = bench.folder / "gates"
    gates.mkdir()
    for step in steps:
        bench.start("bot", "bot-1", **LEASE, gates=bench.place.inside(gates))
        bench.wait_written(5, "bot-1")
        before = bench.marks("bot-1", "at gate")
        (gates / step).touch()
        bench.wait_mark("bot-1", "at gate", before + 1)
        bench.kill("bot-1")
        (gates / step).unlink()
    bench.start("bot", "bot-1", **LEASE)
    bench.wait_written(10, "bot-1")
    finish(bench)


def full_disk(
    bench: Bench, where: str, spool: str, take_all: Callable[[], object], give_back: Callable[[], object]
) -> None:
    """No room for the spool: entries halt, what is held is sold all the same, and all goes on when there is room again.

    Args:
        bench: the experiment.
        where: what the place is told of the bot.
        spool: its folder, on a disk of 1 MiB.
        take_all: leaves no room on that disk.
        give_back: makes room again.
    """
    gates = bench.folder / "gates"
    gates.mkdir()
    held = "SELECT count(*) FROM positions WHERE status = 'OPEN'"
    entries = "SELECT count(*) FROM order_intents WHERE leg = 'ENTRY'"
    bench.start("bot", "bot-1", **LEASE, where=where, spool=spool, gates=bench.place.inside(gates))
    bench.wait_written(20, "bot-1")
    (gates / HOLD).touch()
    until(lambda: bench.database.value(held) == 1, 30, "a position is held")
    time.sleep(1)  # its last part is filled
    with bench.fault("disk full"):
        take_all()
        (gates / HOLD).unlink()
        bench.wait_mark("bot-1", "spool full", timeout_s=30)
        assert bench.last("bot-1", "spool full")["leg"] == "EXIT"
        until(lambda: bench.database.value(held) == 0, 30, "spool full: what was held is sold all the same")
        time.sleep(0.5)
        before = bench.database.value(entries)
        time.sleep(2)
        assert bench.database.value(entries) == before, "spool full: entries went on"
        give_back()
    bench.wait_written(20, "bot-1")
    finish(bench)
