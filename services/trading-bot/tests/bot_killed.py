"""Kill a bot (SIGKILL) between each two of its steps, with a real database, spool and venue, and start it once more.

    bot_killed.py BOT_URL ADMIN_URL FOLDER [--every N]

Afterwards the database must have what it has when nobody is killed, to the last digit. Each life is a process of its
own, forked here, so that nothing in memory helps the next one. On success the last line is the number of deaths.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg2
from bot_harness import START, Breaking, Clock, EveryOther, check_books, expire_lease, facts, make_bot
from sqlalchemy import select
from tradedb.manager import DatabaseManager
from tradedb.models import Base, SystemEvent

CANDLES = 6  # an entry that is cancelled when it is filled in part, its exit in parts, another entry
BEGIN = START + timedelta(seconds=114)


@dataclass
class Killing(Breaking):
    """Instead of raising, ends the process; only between steps, and in the middle of a write to the spool."""

    def point(self, what: str) -> None:
        if what.startswith("fill-record: ") and "COMMIT" not in what:
            return  # within a transaction: Postgres forgets it, wherever it ends
        self.seen.append(what)
        if len(self.seen) == self.at + 1:
            os.write(1, f"{what}\n".encode())
            os.kill(os.getpid(), signal.SIGKILL)


def tear(killing: Killing) -> None:
    """Make the middle of each write to the spool a point as well: what is left is a torn record."""
    write = os.pwrite

    def torn(fd: int, data: bytes, offset: int) -> int:
        half = write(fd, data[: len(data) // 2], offset)
        killing.point("spool: half a record")
        return half + write(fd, data[half:], offset + half)

    os.pwrite = torn


def live(url: str, folder: Path, at: int | None) -> None:
    """Trade from where the life before came to; die at point ``at``; None: never."""
    manager = DatabaseManager(url, service="trading-bot")
    passed = folder / "candles"
    done = int(passed.read_text()) if passed.exists() else 0
    clock = Clock(at=BEGIN + timedelta(seconds=2 * done))
    database: Any = manager
    if at is not None:
        database = Killing(manager, at)
        tear(database)
    bot = make_bot(database, clock, folder, holder=f"{os.getpid()}", strategy=EveryOther())
    for n in range(done, CANDLES):
        passed.write_text(str(n))
        bot.step()
        clock.next_candle()
    passed.write_text(str(CANDLES))


def empty(url: str) -> None:
    """Remove every row. The ledger refuses that to everybody who is not a superuser and says this first."""
    tables = ", ".join(table.name for table in Base.metadata.sorted_tables)
    with psycopg2.connect(url) as conn, conn.cursor() as cursor:
        cursor.execute(f"SET LOCAL session_replication_role = replica; TRUNCATE {tables} RESTART IDENTITY CASCADE")


def judge(url: str, expected: Path) -> None:
    """See that the database has what it should; the first time, note what that is."""
    manager = DatabaseManager(url, service="killer")
    check_books(manager)
    found = facts(manager)
    # a session that was begun and rolled back leaves a gap in the numbers of sessions
    found["ledger"] = sorted((row[1:] for row in found["ledger"]), key=repr)
    if not expected.exists():
        assert {row[-1] for row in found["intents"]} >= {"FILLED", "CANCELLED"}
        assert len(found["trades"]) == 1
        expected.write_text(repr(found))
    assert repr(found) == expected.read_text()
    recoveries = manager.read(
        lambda conn: (
            conn.execute(select(SystemEvent.details).where(SystemEvent.event_type == "RECOVERY")).scalars().all()
        ),
        name="recoveries",
    )
    assert recoveries, "what was found at the start is in system_events"
    assert all(details["books"] == "balanced" for details in recoveries if details)


def in_a_process(what: Callable[[], None]) -> bool:
    """Run something in a process of its own; return whether it was killed.

    Raises: SystemExit, it failed.
    """
    pid = os.fork()
    if pid == 0:
        try:
            what()
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    _, status = os.waitpid(pid, 0)
    if status not in (0, signal.SIGKILL):
        sys.exit(f"a life ended with status {status}")
    return status != 0


def main() -> None:
    """Live once undisturbed, then die at one point after another."""
    parser = argparse.ArgumentParser()
    parser.add_argument("bot_url")
    parser.add_argument("admin_url")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--every", type=int, default=1, help="die at each N-th point only")
    arguments = parser.parse_args()
    expected = arguments.folder / "expected"
    deaths, at, died = 0, 0, True
    while died:
        folder = arguments.folder / f"at-{at}"
        folder.mkdir()
        in_a_process(lambda: empty(arguments.admin_url))
        if at == 0:  # nobody dies
            in_a_process(lambda folder=folder: live(arguments.bot_url, folder, None))
            in_a_process(lambda: judge(arguments.admin_url, expected))
            at = 1
            continue
        died = in_a_process(lambda folder=folder, at=at: live(arguments.bot_url, folder, at - 1))
        if died:
            deaths += 1
            in_a_process(lambda: expire_lease(DatabaseManager(arguments.admin_url, service="killer")))
            in_a_process(lambda folder=folder: live(arguments.bot_url, folder, None))
        in_a_process(lambda: judge(arguments.admin_url, expected))
        at += arguments.every
    sys.stdout.write(f"{deaths}\n")


if __name__ == "__main__":
    main()
