"""The real process against a real database: killed, stopped, paused, alone and in pairs."""

from __future__ import annotations

import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from bot_harness import check_books
from sqlalchemy import URL
from tradedb import migrate
from tradedb.manager import DatabaseManager
from tradedb.testing import (
    ROLE_PASSWORDS,
    ThrowawayDatabase,
    empty_database,
    free_port,
    migrated_database,
    throwaway_server,
)

FAST = {
    "BOT_CANDLE_INTERVAL_S": "1",
    "BOT_LEASE_TTL_S": "2", "BOT_LEASE_RENEW_S": "0.5", "BOT_LEASE_MARGIN_S": "0.4", "BOT_SNAPSHOT_INTERVAL_S": "0.5",
}  # fmt: skip
PASSWORD = ROLE_PASSWORDS["trading_bot"]
PATIENCE_S = 60.0


class Process:
    """A running ``trading-bot run``, in a folder of its own and with no other setting than those given."""

    def __init__(self, folder: Path, url: URL | None, **env: str) -> None:
        self.port = free_port()
        self.log_file = folder / f"bot-{self.port}.log"
        settings = {**FAST, "HOST": "127.0.0.1", "PORT": str(self.port), "LOG_FORMAT": "json", **env}
        if url is not None:
            settings["DATABASE_URL"] = url.render_as_string(hide_password=False)
        with self.log_file.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, str(Path(__file__).parent / "fast_bot.py")],
                cwd=folder, env={"PATH": os.environ["PATH"], **settings}, stdout=log, stderr=log,
            )  # fmt: skip

    def get(self, path: str) -> tuple[int, dict[str, Any]]:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=20) as response:
                return response.status, json.load(response)
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.load(error)
        except OSError:
            return 0, {}

    def until(self, wanted: Callable[[int, dict[str, Any]], bool], path: str = "/readyz") -> dict[str, Any]:
        """Return the answer once it is as wanted; the process must be running all the while."""
        found: tuple[int, dict[str, Any]] = (0, {})
        end = time.monotonic() + PATIENCE_S
        while time.monotonic() < end:
            assert self._process.poll() is None, self.log
            found = self.get(path)
            if found[0] and wanted(*found):
                return found[1]
            time.sleep(0.05)
        raise AssertionError(f"still {found} after {PATIENCE_S} s\n{self.log}")

    def until_role(self, role: str) -> dict[str, Any]:
        return self.until(lambda code, body: code == 200 and body["role"] == role)

    def send(self, number: int) -> None:
        self._process.send_signal(number)

    def end(self, number: int = signal.SIGTERM) -> int:
        """Return the exit code. That it ends in time, however slow the machine, is its own limit: STOP_WITHIN_S."""
        self.send(number)
        return self._process.wait(60)

    @property
    def log(self) -> str:
        return self.log_file.read_text()

    def clean_up(self) -> None:
        if self._process.poll() is None:
            self._process.kill()  # SIGKILL works on a paused process too
            self._process.wait(60)


Start = Callable[..., Process]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Return a function that starts a bot. At the end none is left, and no log has the password in it."""
    started: list[Process] = []

    def make(url: URL | None, **env: str) -> Process:
        started.append(Process(tmp_path, url, **env))
        return started[-1]

    yield make
    for process in started:
        process.clean_up()
    for process in started:
        assert PASSWORD not in process.log
        assert quote(PASSWORD, safe="") not in process.log


def wait_for(wanted: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + PATIENCE_S
    while not wanted():
        assert time.monotonic() < end, f"{what}: not within {PATIENCE_S} s"
        time.sleep(0.05)


def number(database: ThrowawayDatabase, table: str) -> int:
    return database.execute(f"SELECT count(*) FROM {table}")[0][0]  # table: our own names


def wait_for_more_fills(database: ThrowawayDatabase, more: int) -> None:
    before = number(database, "fills")
    wait_for(lambda: number(database, "fills") >= before + more, f"{more} more fills")


def stop_outside_of_the_venue(bot: Process, file: Path) -> None:
    """Pause a bot anywhere but in the middle of the paper venue's transaction, which its rival shares with it."""
    while True:
        bot.send(signal.SIGSTOP)
        venue = sqlite3.connect(file, timeout=1, isolation_level=None)
        try:
            venue.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError:
            bot.send(signal.SIGCONT)
        else:
            return
        finally:
            venue.close()


def check_writers(database: ThrowawayDatabase) -> None:
    """I5: no row has a lower epoch than an earlier row."""
    for table, at in (("order_intents", "created_at"), ("fills", "recorded_at")):
        epochs = [row[0] for row in database.execute(f"SELECT lease_epoch FROM {table} ORDER BY {at}")]
        assert epochs == sorted(epochs)


def check_everything(database: ThrowawayDatabase) -> None:
    manager = DatabaseManager(database.url(), service="checker")
    assert check_books(manager) >= 1
    manager.dispose()
    check_writers(database)
    assert number(database, "trading_sessions") == 1


def test_kill_pause_and_stop_with_a_second_bot_waiting(
    database: ThrowawayDatabase, start: Start, tmp_path: Path
) -> None:
    bots = [start(database.url("trading_bot"))]
    bots[0].until_role("leader")
    bots.append(start(database.url("trading_bot")))
    standby = bots[1].until_role("standby")
    assert standby["epoch"] is None
    assert standby["leader"] == bots[0].get("/readyz")[1]["leader"]
    wait_for_more_fills(database, 2)
    epoch = 1

    for where in ("anywhere", "between intent and fill", "between intent and fill"):  # paused past its lease
        if where == "anywhere":
            stop_outside_of_the_venue(bots[0], tmp_path / "data" / "trading-bot" / "venue.db")
        else:
            (tmp_path / "pause").touch()
        assert bots[1].until_role("leader")["epoch"] == epoch + 1
        assert not (tmp_path / "pause").exists()
        epoch += 1
        wait_for_more_fills(database, 1)
        bots[0].send(signal.SIGCONT)
        bots[0].until_role("standby")
        bots.reverse()
        check_writers(database)

    assert bots[0].end(signal.SIGKILL) == -signal.SIGKILL  # nothing is released: the other waits for the TTL
    assert bots[1].until_role("leader")["epoch"] == epoch + 1
    wait_for_more_fills(database, 2)

    third = start(database.url("trading_bot"))
    third.until_role("standby")
    assert bots[1].end(signal.SIGTERM) == 0  # released: the other leads at once
    assert "lease_released" in bots[1].log
    assert third.until_role("leader")["epoch"] == epoch + 2
    wait_for_more_fills(database, 2)
    assert third.end(signal.SIGTERM) == 0

    check_everything(database)
    events = database.execute("SELECT event_type, message, details FROM system_events ORDER BY id")
    assert sum("leads with epoch" in message for _, message, _ in events) == epoch + 2
    found = [details for event_type, _, details in events if event_type == "RECOVERY" and details]
    assert len(found) == epoch + 2
    # what the paused ones had decided, and never sent before the next one looked, was sent by it or ended by it
    assert sum(one["intents_resubmitted"] + one["intents_cancelled"] for one in found) >= 2
    assert {one["books"] for one in found} == {"balanced"}
    assert number(database, "quarantined_facts") == 0
    assert events[-1][0] == "ENGINE_STOP"
    assert database.execute("SELECT expires_at <= clock_timestamp() FROM bot_lease") == [(True,)]
    session = database.execute("SELECT is_active, end_time FROM trading_sessions")
    assert session == [(True, None)]  # the bot stopped; the account did not end


def test_a_venue_that_cannot_be_used_is_waited_for_and_named(
    start: Start, database: ThrowawayDatabase, tmp_path: Path
) -> None:
    file = tmp_path / "venue.db"
    file.write_bytes(b"no SQLite file " * 500)
    bots = [start(database.url("trading_bot"), BOT_VENUE_FILE=str(file)) for _ in range(2)]
    for bot in bots:
        said = bot.until(lambda code, body: code == 503 and "BOT-043" in (body["reason"] or ""))
        assert str(file) in said["reason"]
        assert bot.get("/healthz")[0] == 200
    assert bots[1].end(signal.SIGTERM) == 0, "asked to end while it waits"
    file.rename(tmp_path / "aside.db")
    bots[0].until_role("leader")
    assert bots[0].end(signal.SIGTERM) == 0


def test_no_database_at_the_start_a_killed_one_later_and_a_frozen_one_at_the_end(start: Start) -> None:
    with throwaway_server() as server, migrated_database(server) as database:
        server.stop()
        bot = start(database.url("trading_bot"))
        away = bot.until(lambda code, body: code == 503 and body["role"] == "waiting")
        assert away["reason"].startswith(f"nothing listens at 127.0.0.1:{server.port}/")
        assert bot.get("/healthz")[0] == 200
        server.start()
        bot.until_role("leader")
        wait_for_more_fills(database, 2)

        server.kill()
        # the loop may know first: what /readyz last heard of the database is up to a second old
        bot.until(lambda code, body: code == 503 and body["system_identifier"] is None)
        assert bot.get("/healthz")[1]["status"] == "alive"
        server.start()
        bot.until_role("leader")
        wait_for_more_fills(database, 1)
        check_everything(database)
        said = [row[0] for row in database.execute("SELECT message FROM system_events WHERE event_type = 'RECOVERY'")]
        assert any(message.startswith("trading goes on after") for message in said)

        frozen = [row[0] for row in database.execute("SELECT pid FROM pg_stat_activity WHERE usename = 'trading_bot'")]
        for pid in (server.pid, *frozen):
            server.pause(pid)
        try:
            assert bot.end(signal.SIGTERM) == 0
        finally:
            for pid in (server.pid, *frozen):
                server.resume(pid)


def test_an_unmigrated_server_is_waited_for_and_never_migrated(database: ThrowawayDatabase, start: Start) -> None:
    with empty_database(database.server) as empty:
        bot = start(empty.url())
        body = bot.until(lambda code, body: code == 503 and body["revision"] is None and "schema" in body["reason"])
        assert "the schema is older than the code: the database has no tables yet" in body["reason"]
        assert bot.get("/healthz")[0] == 200
        assert empty.execute("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'") == [(0,)]
        migrate.upgrade(empty.url())
        bot.until_role("leader")
        assert bot.end() == 0


def test_a_first_run_without_any_setting_trades_into_a_sqlite_file_and_goes_on_after_a_kill(
    tmp_path: Path, start: Start
) -> None:
    first = start(None)
    body = first.until_role("leader")
    file = tmp_path / "data" / "trading_bot.db"
    assert body["system_identifier"] == str(file)
    manager = DatabaseManager(URL.create("sqlite", database=str(file)), service="checker")

    def trades() -> int:
        return check_books(manager)

    wait_for(lambda: trades() >= 1, "a trade")
    second = start(None)
    second.until_role("standby")
    assert first.end(signal.SIGKILL) == -signal.SIGKILL
    second.until_role("leader")
    before = trades()
    wait_for(lambda: trades() > before, "a trade of the second bot")
    assert second.end() == 0
    assert trades() > before
    manager.dispose()


@pytest.mark.parametrize(
    ("env", "code", "said"),
    [
        ({"RAILWAY_ENVIRONMENT": "production"}, 78, ["error CONFIG-001: DATABASE_URL: required on Railway", "Fix: "]),
        ({"BOT_SYMBOL": "btc usdt"}, 78, ["error CONFIG-002:", "BOT_SYMBOL"]),
        ({"BOT_STRATEGY_PARAMETERS": "[}"}, 78, ["error CONFIG-002: BOT_STRATEGY_PARAMETERS: expected JSON"]),
        ({"PORT": "TAKEN"}, 1, ["error BOT-001: cannot listen on 127.0.0.1 port", "Address already in use"]),
    ],
)
def test_a_bot_that_cannot_start_says_why_in_three_lines(
    tmp_path: Path, start: Start, env: dict[str, str], code: int, said: list[str]
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        bot = start(None, **{key: str(taken.getsockname()[1]) if v == "TAKEN" else v for key, v in env.items()})
        assert bot._process.wait(60) == code
    lines = [line for line in bot.log.splitlines() if not line.startswith("{")]
    assert len(lines) == 3
    assert all(words in bot.log for words in said)
    assert not (tmp_path / "data").exists()
