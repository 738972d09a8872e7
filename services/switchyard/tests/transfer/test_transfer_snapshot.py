"""Every state in which a SQLite file may be found: read consistently, without touching it, or named."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from switchyard.output import Progress
from switchyard.transfer import snapshot as snapshots
from switchyard.transfer.snapshot import Source, snapshot
from switchyard.transfer.source import SourceDatabase
from tradedb.errors import SwitchyardError
from transfer_harness import sqlite_file

TABLE = "CREATE TABLE t (id INTEGER PRIMARY KEY, note TEXT)"


@pytest.fixture(autouse=True)
def own_temporary_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Snapshots go here, and nothing is left of them."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield folder
    assert list(folder.iterdir()) == []


@pytest.fixture
def place(tmp_path: Path) -> Path:
    folder = tmp_path / "place"
    folder.mkdir()
    return folder


def read(path: Path) -> list[tuple[int, str]]:
    """The rows that a copy would see."""
    with Progress(quiet=True).step("snapshot") as step, snapshot(Source("bot", path), step) as file:
        assert file.parent.stat().st_mode & 0o777 == 0o700
        with SourceDatabase(file) as database:
            return [row for batch in database.batches(database.tables[0]) for row in batch]


def refused(path: Path) -> SwitchyardError:
    with pytest.raises(SwitchyardError) as caught:
        read(path)
    assert "othing was changed" in caught.value.why
    return caught.value


def listing(folder: Path) -> dict[str, bytes]:
    return {path.name: hashlib.sha256(path.read_bytes()).digest() for path in folder.iterdir()}


def wal_file(place: Path, *, rows: int = 3) -> sqlite3.Connection:
    """A WAL database with one row in its file and the others only in its -wal; the writer stays open."""
    writer = sqlite3.connect(place / "bot.db", isolation_level=None)
    writer.execute("PRAGMA journal_mode=WAL")
    writer.execute("PRAGMA wal_autocheckpoint=0")
    writer.execute(TABLE)
    writer.execute("INSERT INTO t VALUES (1, 'in the file')")
    writer.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    for number in range(2, rows + 1):
        writer.execute("INSERT INTO t VALUES (?, 'in the wal')", (number,))
    return writer


def test_rows_that_live_in_the_wal_count_and_a_running_bot_is_not_disturbed(place: Path) -> None:
    writer = wal_file(place)
    writer.execute("BEGIN IMMEDIATE")
    writer.execute("INSERT INTO t VALUES (99, 'not committed')")
    assert [row[0] for row in read(place / "bot.db")] == [1, 2, 3]
    writer.execute("COMMIT")
    assert [row[0] for row in read(place / "bot.db")] == [1, 2, 3, 99]
    writer.close()


def test_a_wal_whose_writer_crashed_is_read_and_nothing_is_left_beside_it(place: Path, tmp_path: Path) -> None:
    writer = wal_file(place)
    crashed = tmp_path / "crashed"
    crashed.mkdir()
    for name in ("bot.db", "bot.db-wal"):
        shutil.copyfile(place / name, crashed / name)
    writer.close()
    before = listing(crashed)
    assert [row[0] for row in read(crashed / "bot.db")] == [1, 2, 3]
    assert listing(crashed) == before


def test_a_clean_wal_database_gets_no_files_beside_it(place: Path) -> None:
    wal_file(place).close()
    before = listing(place)
    assert list(before) == ["bot.db"]
    assert [row[0] for row in read(place / "bot.db")] == [1, 2, 3]
    assert listing(place) == before


def test_a_link_to_the_database_finds_the_wal(place: Path, tmp_path: Path) -> None:
    writer = wal_file(place)
    link = tmp_path / "link.db"
    link.symlink_to(place / "bot.db")
    assert [row[0] for row in read(link)] == [1, 2, 3]
    writer.close()


def test_a_crashed_rollback_journal_is_rolled_back_in_the_copy_only(place: Path) -> None:
    script = (
        "import sqlite3, os, sys\n"
        f"db = sqlite3.connect({str(place / 'bot.db')!r}, isolation_level=None)\n"
        f"db.execute({TABLE!r})\n"
        "db.executemany('INSERT INTO t VALUES (?, ?)', ((n, 'good' * 500) for n in range(1, 400)))\n"
        "db.execute('PRAGMA cache_size=5')\n"
        "db.execute('BEGIN')\n"
        "db.execute(\"UPDATE t SET note = 'torn'\")\n"  # more pages than the cache holds: they go to the file
        "os.kill(os.getpid(), 9)\n"
    )
    subprocess.run([sys.executable, "-c", script], check=False, timeout=60)
    assert (place / "bot.db-journal").stat().st_size > 0
    assert b"torn" in (place / "bot.db").read_bytes()
    before = listing(place)
    rows = read(place / "bot.db")
    assert len(rows) == 399
    assert {note for _, note in rows} == {"good" * 500}
    assert listing(place) == before


def test_a_writer_in_rollback_mode_goes_on_while_its_file_is_copied(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshots, "PAGES_PER_STEP", 5)
    path = sqlite_file(place / "bot.db", TABLE, rows={"t": [(n, "x" * 3000) for n in range(1, 201)]})
    stop, waits = threading.Event(), [0.0]

    def write() -> None:
        with contextlib.closing(sqlite3.connect(path, isolation_level=None, timeout=60)) as writer:
            while not stop.wait(0.005):
                started = time.monotonic()
                writer.execute("UPDATE t SET note = note || 'y' WHERE id <= 200")  # one transaction over all rows
                waits.append(time.monotonic() - started)

    thread = threading.Thread(target=write)
    thread.start()
    try:
        for _ in range(3):
            rows = read(path)
            assert len(rows) == 200
            assert len({len(note) for _, note in rows}) == 1  # all of one moment
    finally:
        stop.set()
        thread.join()
    assert max(waits) < 30


def test_an_exclusive_writer_is_waited_for_a_bounded_time(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshots, "LOCK_WAIT_S", 0.3)
    path = sqlite_file(place / "bot.db", TABLE, rows={"t": [(1, "x")]})
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as writer:
        writer.execute("BEGIN EXCLUSIVE")
        error = refused(path)
        writer.execute("ROLLBACK")
    assert error.code == "COPY-007"
    assert error.exit_code == 1
    assert f"{path} could not be read" in error.what
    assert "lsof" in error.fix
    assert read(path) == [(1, "x")]


def test_an_exclusive_wal_writer_is_seen_too(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has no -shm, so it looks as if nobody had the file open."""
    monkeypatch.setattr(snapshots, "LOCK_WAIT_S", 0.3)
    script = (
        "import sqlite3, sys\n"
        f"db = sqlite3.connect({str(place / 'bot.db')!r}, isolation_level=None)\n"
        "db.execute('PRAGMA locking_mode=EXCLUSIVE')\n"
        "db.execute('PRAGMA journal_mode=WAL')\n"
        f"db.execute({TABLE!r})\n"
        "print('ready', flush=True)\n"
        "sys.stdin.read()\n"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        try:
            assert not (place / "bot.db-shm").exists()
            assert refused(place / "bot.db").code == "COPY-007"
        finally:
            holder.kill()


@pytest.mark.parametrize("mode", ["DELETE", "WAL"])
def test_a_file_in_a_folder_where_we_may_not_write(place: Path, mode: str) -> None:
    path = sqlite_file(place / "bot.db", f"PRAGMA journal_mode={mode}", TABLE, rows={"t": [(1, "x")]})
    script = (
        "import os, sys\n"
        "from pathlib import Path\n"
        "from switchyard.output import Progress\n"
        "from switchyard.transfer.snapshot import Source, snapshot\n"
        "from switchyard.transfer.source import SourceDatabase\n"
        "os.setgid(65534); os.setuid(65534)\n"
        "with Progress(quiet=True).step('s') as step, snapshot(Source('bot', Path(sys.argv[1])), step) as file:\n"
        "    with SourceDatabase(file) as database:\n"
        "        print(database.tables[0].rows)\n"
    )
    if os.geteuid() != 0:
        place.chmod(0o500)
        assert read(path) == [(1, "x")]
        place.chmod(0o700)
        return
    # pytest's folders are closed to others: use one that is not
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        Path(folder).chmod(0o755)
        shutil.copyfile(path, Path(folder) / "bot.db")
        (Path(folder) / "bot.db").chmod(0o444)
        (Path(folder) / "tmp").mkdir(mode=0o777)
        (Path(folder) / "tmp").chmod(0o777)
        done = subprocess.run(
            [sys.executable, "-c", script, f"{folder}/bot.db"],
            capture_output=True, text=True, check=False, timeout=60, env={**os.environ, "TMPDIR": f"{folder}/tmp"},
        )  # fmt: skip
        assert done.stdout == "1\n", done.stderr
        assert sorted(path.name for path in Path(folder).iterdir()) == ["bot.db", "tmp"]


def test_a_missing_file(place: Path) -> None:
    error = refused(place / "bot.db")
    assert error.code == "COPY-001"
    assert str(place / "bot.db") in error.what


def test_a_wal_without_its_file(place: Path, tmp_path: Path) -> None:
    writer = wal_file(place)
    shutil.copyfile(place / "bot.db-wal", tmp_path / "lost.db-wal")
    writer.close()
    error = refused(tmp_path / "lost.db")
    assert error.code == "COPY-006"
    assert "lost.db-wal is there, its database" in error.what


def test_a_folder(place: Path) -> None:
    assert refused(place).code == "COPY-002"


def test_an_unreadable_file(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = sqlite_file(place / "bot.db", TABLE)
    if os.geteuid() == 0:  # root reads everything

        def deny(*_: object, **__: object) -> None:
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr(Path, "open", deny)
    path.chmod(0)
    error = refused(path)
    assert (error.code, error.exit_code) == ("COPY-002", 78)
    assert "Permission denied" in error.what


def test_an_empty_file(place: Path) -> None:
    (place / "bot.db").touch()
    error = refused(place / "bot.db")
    assert error.code == "COPY-003"
    assert "0 bytes" in error.what


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"timestamp,balance\n2025-07-01,100\n", "begins with the text 'timestamp,balance"),
        (b"\x1f\x8b\x08\x00" + bytes(2000), "compressed archive"),
        (hashlib.shake_256(b"encrypted").digest(4096), "probably encrypted"),
        (bytes(4096), "begins with 00 00"),
    ],
)
def test_a_file_that_is_not_sqlite(place: Path, content: bytes, said: str) -> None:
    (place / "bot.db").write_bytes(content)
    error = refused(place / "bot.db")
    assert error.code == "COPY-004"
    assert said in error.what


def damaged(place: Path) -> Path:
    rows = {"t": [(n, "x" * 900) for n in range(1, 500)]}
    return sqlite_file(place / "bot.db", TABLE, "CREATE INDEX i ON t (note, id)", rows=rows)


def test_a_torn_page(place: Path) -> None:
    path = damaged(place)
    content = bytearray(path.read_bytes())
    content[20 * 4096 : 20 * 4096 + 2048] = os.urandom(2048)
    path.write_bytes(content)
    error = refused(path)
    assert error.code == "COPY-005"
    assert "is damaged" in error.what


def test_a_truncated_file(place: Path) -> None:
    path = damaged(place)
    path.write_bytes(path.read_bytes()[: 30 * 4096])
    assert refused(path).code == "COPY-005"


def test_a_file_that_ends_in_its_header(place: Path) -> None:
    path = damaged(place)
    path.write_bytes(path.read_bytes()[:60])
    assert refused(path).code == "COPY-005"


def test_no_room_for_the_snapshot(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = damaged(place)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10, 10, 0))
    error = refused(path)
    assert error.code == "COPY-008"
    assert "TMPDIR" in error.fix


def test_values_that_break_a_check_are_no_damage(place: Path) -> None:
    """integrity_check also complains of values; those are judged with their names, later."""
    path = sqlite_file(place / "bot.db", "CREATE TABLE t (id INTEGER PRIMARY KEY, note TEXT)", rows={"t": [(1, None)]})  # type: ignore[dict-item]
    db = sqlite3.connect(path)
    db.execute("PRAGMA writable_schema=ON")
    db.execute("UPDATE sqlite_master SET sql = replace(sql, 'note TEXT', 'note TEXT NOT NULL')")
    db.commit()
    db.close()
    assert read(path) == [(1, None)]


def test_what_a_killed_run_left_is_removed(place: Path, own_temporary_folder: Path) -> None:
    path = sqlite_file(place / "bot.db", TABLE, rows={"t": [(1, "x")]})
    script = (
        "import os, sys\n"
        "from pathlib import Path\n"
        "from switchyard.output import Progress\n"
        "from switchyard.transfer.snapshot import Source, snapshot\n"
        "with Progress(quiet=True).step('s') as step, snapshot(Source('bot', Path(sys.argv[1])), step):\n"
        "    os.kill(os.getpid(), 9)\n"
    )
    subprocess.run(
        [sys.executable, "-c", script, str(path)],
        check=False,
        env={**os.environ, "TMPDIR": str(own_temporary_folder)},
        timeout=60,
    )
    assert len(list(own_temporary_folder.iterdir())) == 1
    assert read(path) == [(1, "x")]  # and the fixture sees that nothing is left


def test_runs_at_the_same_time_leave_each_others_folders_alone() -> None:
    lost: list[Path] = []

    def run() -> None:
        for _ in range(60):
            with snapshots.private_folder() as folder:
                (folder / "mine").touch()
                time.sleep(0.001)
                if not (folder / "mine").exists():
                    lost.append(folder)

    threads = [threading.Thread(target=run) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert lost == []
