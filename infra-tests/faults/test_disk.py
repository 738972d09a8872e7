"""F10, F11, F12: no room on the server's disk, where the tables are and where the log is; no room on the bot's own."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import psycopg2
import pytest
from tradedb.testing import PostgresServer, postgres_bin
from watch import until

from faults.inject.disks import fill, memory_disk, small_disk
from faults.places.embedded import EmbeddedPlace
from faults.plugin import NewBench

pytestmark = [pytest.mark.targets("embedded"), pytest.mark.needs("disks"), pytest.mark.full, pytest.mark.timeout(240)]


@contextmanager
def _server_on(disk: Path, folder: Path, what: str) -> Iterator[EmbeddedPlace]:
    """A durable server whose tables ("base") or whose write-ahead log ("pg_wal") are on that disk."""
    home = Path(tempfile.mkdtemp(prefix="faults-server-"))
    options = {"max_connections": "40", "shared_buffers": "16MB", "min_wal_size": "32MB", "max_wal_size": "64MB"}
    server = PostgresServer(bin=postgres_bin(), folder=home, options=options)
    try:
        server.initialise()
        place = disk / what
        shutil.copytree(server.data / what, place)
        shutil.rmtree(server.data / what)
        for path in (place, *place.rglob("*")):
            shutil.chown(path, server.data.owner())
        place.chmod(0o700)
        (server.data / what).symlink_to(place)
        server.start()
        yield EmbeddedPlace(server, folder)
    finally:
        server.stop("immediate")
        shutil.rmtree(home, ignore_errors=True)


ServerOn = Callable[[Path, str], EmbeddedPlace]


@pytest.fixture
def server_on(tmp_path: Path) -> Iterator[ServerOn]:
    """``server_on(disk, "base")``; it outlives the experiment that is made on it."""
    with ExitStack() as ending:
        yield lambda disk, what: ending.enter_context(_server_on(disk, tmp_path, what))


@pytest.fixture
def new_disk() -> Iterator[Callable[[int], Path]]:
    """``new_disk(megabytes)``; it outlives the server on it."""
    with ExitStack() as ending:
        yield lambda megabytes: ending.enter_context(small_disk(megabytes))


@pytest.mark.fault("F10", "errors-swallowed")
def test_no_room_for_tables(new_disk: Callable[[int], Path], server_on: ServerOn, new_bench: NewBench) -> None:
    """The server refuses (53100) and stays up; the writer says why and goes on when there is room again."""
    disk = new_disk(160)
    place = server_on(disk, "base")
    bench = new_bench(place)
    for kind in ("rows", "trades"):
        bench.start(kind, f"{kind}-1")
        bench.wait_written(20, f"{kind}-1")
    server = place.server.pid
    with bench.fault("disk full, tables"):
        ballast = fill(disk)
        bench.wait_mark("trades-1", "waiting", timeout_s=90)
        time.sleep(2)
        ballast.unlink()
    for name in ("rows-1", "trades-1"):
        bench.wait_written(20, name)
    history, _ = bench.finish()
    assert {mark.body["code"] for mark in history.named("waiting")} == {"DB-019"}
    assert place.server.pid == server


@pytest.mark.fault("F11", "no-durable-commit")
def test_no_room_for_the_log(new_disk: Callable[[int], Path], server_on: ServerOn, new_bench: NewBench) -> None:
    """The server stops itself (PANIC) and cannot recover without room; then all that it acknowledged is there."""
    disk = new_disk(128)
    place = server_on(disk, "pg_wal")
    bench = new_bench(place)
    bench.start("rows", "rows-1")
    bench.start("rows", "rows-2")
    bench.wait_written(50)
    with bench.fault("disk full, log"):
        ballast = fill(disk)
        until(lambda: "PANIC" in _log_after(place, bench.database.name), 120, "the server gives up")
        place.server.kill()
        ballast.unlink()
        place.server.start()
    bench.wait_written(20)
    bench.finish()


def _log_after(place: EmbeddedPlace, database: str) -> str:
    """The server's log; a switch of the log makes sure that it needs the disk soon."""
    with suppress(psycopg2.Error):
        place.server.execute("CREATE TABLE IF NOT EXISTS filler (x text)", database=database)
        place.server.execute(
            "INSERT INTO filler SELECT repeat(md5(i::text), 40) FROM generate_series(1, 20000) i", database=database
        )
    return place.server.log


@pytest.mark.fault("F12", "full-spool-ignored")
def test_no_room_for_the_spool(new_bench: NewBench, loopback: EmbeddedPlace) -> None:
    """1 MiB: the writer decides nothing more, drops nothing, and goes on when there is room again."""
    bench = new_bench(loopback)
    with memory_disk("1m") as disk:
        bench.start("trades", "trades-1", spool=str(disk / "spool"))
        bench.wait_written(20, "trades-1")
        with bench.fault("spool full"):
            ballast = fill(disk)
            began = time.monotonic()
            bench.wait_mark("trades-1", "spool full")
            bench.note(halted_after_s=round(time.monotonic() - began, 2))
            time.sleep(1)
            before = bench.database.value("SELECT count(*) FROM order_intents WHERE leg = 'ENTRY'")
            time.sleep(2)
            assert bench.database.value("SELECT count(*) FROM order_intents WHERE leg = 'ENTRY'") == before
            ballast.unlink()
        bench.wait_written(20, "trades-1")
        bench.finish()
