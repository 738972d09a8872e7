"""``switchyard copy`` as a person and as a program meet it: the real command in a process of its own."""

from __future__ import annotations

import json
import os
import pty
import random
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from switchyard.cli import cli
from tradedb.testing import PostgresServer, ThrowawayDatabase, closed_port, empty_database, throwaway_server
from transfer_harness import clean_environment, sqlite_file, url_of

SWITCHYARD = Path(sys.executable).with_name("switchyard")
T = "CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT)"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return sqlite_file(tmp_path / "bot.db", T, rows={"t": [(1, "a"), (5, "b")]})


@pytest.fixture
def table(database: ThrowawayDatabase) -> ThrowawayDatabase:
    database.execute("CREATE TABLE t (id bigint PRIMARY KEY, v text)")
    return database


def environment(database: ThrowawayDatabase | None, tmp_path: Path) -> dict[str, str]:
    (tmp_path / "snapshots").mkdir(exist_ok=True)
    url = {"TARGET": url_of(database)} if database else {}
    return clean_environment(TMPDIR=str(tmp_path / "snapshots"), SWITCHYARD_HOME=str(tmp_path / "home"), **url)


def switchyard(*args: str, database: ThrowawayDatabase | None, tmp_path: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(SWITCHYARD), *args],
        env=environment(database, tmp_path),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def rows(database: ThrowawayDatabase) -> int:
    return database.execute("SELECT count(*) FROM t")[0][0]


def test_json_is_one_object_and_the_second_run_says_unchanged(
    table: ThrowawayDatabase, source: Path, tmp_path: Path
) -> None:
    command = ["copy", "--source", f"bot={source}", "--target-url", "env:TARGET", "--yes", "--json"]
    first = switchyard(*command, database=table, tmp_path=tmp_path)
    assert first.returncode == 0, first.stderr
    report = json.loads(first.stdout)
    assert report["schema_version"] == 1
    assert (report["status"], report["rows"], report["tables"][0]["rows_verified"]) == ("copied", 2, 2)
    assert report["source"]["label"] == "bot"
    assert report["source"]["digest"].startswith("sha256:")
    assert {"run_id", "seconds", "rows_per_s", "target"} <= report.keys()
    assert table.server.password not in first.stdout + first.stderr
    second = switchyard(*command, database=table, tmp_path=tmp_path)
    assert second.returncode == 0
    assert json.loads(second.stdout)["status"] == "unchanged"
    assert json.loads(second.stdout)["run_id"] == report["run_id"]
    third = switchyard(*command[:-1], database=table, tmp_path=tmp_path)
    assert third.returncode == 0
    assert third.stdout.startswith(
        f"Already copied on {report['copied_at'][:19].replace('T', ' ')} UTC, run {report['run_id']}. "
        "Nothing was changed."
    )


def test_a_person_sees_the_plan_and_the_result(table: ThrowawayDatabase, source: Path, tmp_path: Path) -> None:
    done = switchyard(
        "copy", "--source", f"bot={source}", "--target-url", "env:TARGET", "--yes", database=table, tmp_path=tmp_path
    )
    assert done.returncode == 0
    assert f"Copy bot={source} into postgresql://postgres" in done.stderr
    assert "2 rows in all" in done.stderr
    assert done.stdout.splitlines()[0].split() == ["table", "read", "written", "verified"]
    assert done.stdout.splitlines()[1].split() == ["t", "2", "2", "2"]
    assert "Every value was read back and compared." in done.stdout


def test_without_a_terminal_and_without_yes_it_fails(table: ThrowawayDatabase, source: Path, tmp_path: Path) -> None:
    done = switchyard(
        "copy", "--source", f"bot={source}", "--target-url", "env:TARGET", database=table, tmp_path=tmp_path
    )
    assert done.returncode == 2
    assert "error COPY-026: there is no terminal to ask on, and --yes was not given" in done.stderr
    assert rows(table) == 0


def test_dry_run_needs_no_answer_and_writes_nothing(table: ThrowawayDatabase, source: Path, tmp_path: Path) -> None:
    done = switchyard(
        "copy",
        "--source",
        f"bot={source}",
        "--target-url",
        "env:TARGET",
        "--dry-run",
        "--json",
        database=table,
        tmp_path=tmp_path,
    )
    assert done.returncode == 0
    assert json.loads(done.stdout)["status"] == "planned"
    assert json.loads(done.stdout)["plan"]["tables"] == [{"name": "t", "rows": 2, "columns": 2, "filled_by_target": {}}]
    assert rows(table) == 0


@pytest.mark.parametrize(("answer", "code", "there"), [("\n", 1, 0), ("n\n", 1, 0), ("y\n", 0, 2)])
def test_on_a_terminal_it_asks_and_no_is_the_default(
    table: ThrowawayDatabase, source: Path, tmp_path: Path, answer: str, code: int, there: int
) -> None:
    ours, theirs = pty.openpty()
    command = [str(SWITCHYARD), "copy", "--source", f"bot={source}", "--target-url", "env:TARGET"]
    with subprocess.Popen(
        command, env=environment(table, tmp_path), stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True
    ) as process:
        os.close(theirs)
        seen = read_until(ours, b"[y/N]")
        os.write(ours, answer.encode())
        seen += read_until(ours, None)
        assert process.wait(90) == code, seen
    assert rows(table) == there
    assert (b"Nothing was changed" in seen) == (there == 0)


def read_until(fd: int, mark: bytes | None) -> bytes:
    """Return what comes from a terminal until `mark`, or its end."""
    seen = b""
    until = time.monotonic() + 90
    while time.monotonic() < until and not (mark and mark in seen):
        if select.select([fd], [], [], 0.2)[0]:
            try:
                got = os.read(fd, 4096)
            except OSError:
                break
            seen += got
    return seen


@pytest.mark.parametrize("as_json", [True, False])
def test_errors_have_a_code_three_lines_and_an_exit_code(tmp_path: Path, source: Path, *, as_json: bool) -> None:
    with closed_port() as port:
        url = f"postgresql://u:s3cret@127.0.0.1:{port}/d"
        words = ["copy", "--source", f"bot={source}", "--target-url", url, "--yes", *(["--json"] if as_json else [])]
        done = switchyard(*words, database=None, tmp_path=tmp_path)
    assert done.returncode == 69
    assert "s3cret" not in done.stdout + done.stderr
    if as_json:
        assert json.loads(done.stdout)["error"]["code"] == "COPY-010"
    else:
        lines = done.stderr.splitlines()[-3:]
        assert lines[0].startswith("error COPY-010: ")
        assert lines[2].startswith("  Fix: ")
    assert "Traceback" not in done.stderr


def test_findings_are_in_the_json(table: ThrowawayDatabase, tmp_path: Path) -> None:
    source = sqlite_file(tmp_path / "s.db", T, rows={"t": [(1, "a\0b"), (2, "c\0d")]})
    done = switchyard(
        "copy",
        "--source",
        f"bot={source}",
        "--target-url",
        "env:TARGET",
        "--yes",
        "--json",
        database=table,
        tmp_path=tmp_path,
    )
    assert done.returncode == 1
    [finding] = json.loads(done.stdout)["error"]["findings"]
    assert finding == {
        "table": "t",
        "column": "v",
        "reason": "a NUL character, which Postgres text cannot hold",
        "rows": 2,
        "examples": [{"row": "id=1", "value": "'a\\x00b'"}, {"row": "id=2", "value": "'c\\x00d'"}],
    }


@pytest.mark.parametrize("word", ["bot", "=file", "bot="])
def test_a_source_that_is_not_label_and_file(word: str, tmp_path: Path) -> None:
    done = switchyard("copy", "--source", word, "--yes", database=None, tmp_path=tmp_path)
    assert done.returncode == 2
    assert "is not LABEL=FILE" in done.stderr


def test_the_command_is_in_the_help(tmp_path: Path) -> None:
    assert "copy" in cli.list_commands(None)  # type: ignore[arg-type]
    done = switchyard("copy", "--help", database=None, tmp_path=tmp_path)
    assert "\n  switchyard copy --source bot=data/trading_bot.db\n" in done.stdout  # a line of its own
    assert "\\b" not in done.stdout


# ---- kills


@pytest.fixture(scope="module")
def many_rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    content: list[tuple[Any, ...]] = [(n, f"row {n} " + "x" * 60) for n in range(30_000)]
    return sqlite_file(tmp_path_factory.mktemp("many") / "many.db", T, rows={"t": content})


@pytest.fixture(scope="module")
def killing_ground() -> Iterator[PostgresServer]:
    with throwaway_server() as server:
        yield server


@pytest.mark.parametrize("sign", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_copy_killed_at_any_point_leaves_the_old_state_and_can_be_repeated(
    killing_ground: PostgresServer, many_rows: Path, tmp_path: Path, sign: signal.Signals
) -> None:
    dice = random.Random(sign.value)
    command = [str(SWITCHYARD), "copy", "--source", f"bot={many_rows}", "--target-url", "env:TARGET", "--yes", "--json"]
    with empty_database(killing_ground) as database:
        database.execute("CREATE TABLE t (id bigint PRIMARY KEY GENERATED BY DEFAULT AS IDENTITY, v text)")
        started = time.monotonic()
        subprocess.run(command, env=environment(database, tmp_path), check=True, capture_output=True, timeout=120)
        whole_s = time.monotonic() - started
        interrupted = 0
        for number in range(20):
            if number >= 4 and interrupted:  # a machine that became quicker meanwhile gets more chances
                break
            database.execute("TRUNCATE t RESTART IDENTITY")
            database.execute("TRUNCATE switchyard.copy_run")
            with subprocess.Popen(
                command, env=environment(database, tmp_path), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            ) as process:
                time.sleep(whole_s * dice.uniform(0.3, 0.95))
                process.send_signal(sign)
                code = process.wait(90)
            until = time.monotonic() + 60  # the server notices the dead client a moment later
            alive = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'switchyard copy'"
            while database.execute(alive) != [(0,)] and time.monotonic() < until:
                time.sleep(0.02)
            there = (rows(database), database.execute("SELECT count(*) FROM switchyard.copy_run")[0][0])
            assert there in ((0, 0), (30_000, 1))
            if code != 0:
                interrupted += 1
                assert code in (-sign, 128 + sign)  # the first while Python is still starting
                if there == (0, 0):
                    assert database.execute("SELECT last_value, is_called FROM t_id_seq") == [(1, False)]
        assert interrupted
        again = subprocess.run(
            command, env=environment(database, tmp_path), check=True, capture_output=True, timeout=120
        )
        assert json.loads(again.stdout)["status"] in ("copied", "unchanged")
        assert rows(database) == 30_000
    assert list((tmp_path / "snapshots").iterdir()) == []
