"""The original guide's two commands, and the archive between them."""

from __future__ import annotations

import json
import shutil
import sqlite3
import subprocess
import sys
import venv
from pathlib import Path

import pytest
from switchyard.output import Progress
from switchyard.transfer.archive import export, load
from switchyard.transfer.snapshot import Source
from tradedb.errors import SwitchyardError
from tradedb.testing import ThrowawayDatabase
from transfer_harness import CHECKOUT, clean_environment, make_twin, sqlite_file, url_of


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return sqlite_file(
        tmp_path / "s.db", "CREATE TABLE t (id INTEGER PRIMARY KEY, v)", rows={"t": [(1, "a"), (2, None)]}
    )


def script(
    name: str, *words: str, folder: Path, python: str = sys.executable, **more: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [python, str(CHECKOUT / "scripts" / name), *words],
        env=clean_environment(HOME=str(folder), **more),
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )


def test_the_two_commands_of_the_guide_move_every_row(stack_database: ThrowawayDatabase, tmp_path: Path) -> None:
    (tmp_path / "src" / "data").mkdir(parents=True)
    make_twin(tmp_path / "src" / "data" / "trading_bot.db")
    done = script("export_sqlite_data.py", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Exported 2,938 rows of src/data/trading_bot.db" in done.stdout
    [folder] = (tmp_path / "switchyard-exports").iterdir()
    assert sorted(path.name for path in folder.iterdir()) == ["manifest.json", "snapshot.db"]
    assert folder.stat().st_mode & 0o777 == 0o700
    done = script(
        "import_to_postgresql.py", "--target-url", "env:TARGET", "--yes", "--json",
        folder=tmp_path, TARGET=url_of(stack_database, "migrator"),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert (report["status"], report["rows"]) == ("copied", 2938)
    assert report["source"]["digest"] == json.loads((folder / "manifest.json").read_text())["content_digest"]
    # the file itself is the same content
    done = script(
        "import_to_postgresql.py", "src/data/trading_bot.db", "--target-url", "env:TARGET", "--yes",
        folder=tmp_path, TARGET=url_of(stack_database, "migrator"),
    )  # fmt: skip
    assert "Already copied" in done.stdout


def test_another_python_goes_on_in_the_checkouts_own(tmp_path: Path, source: Path) -> None:
    """A Python without our packages, beside a checkout whose .venv has them."""
    bare = tmp_path / "bare"
    venv.create(bare, symlinks=True)
    done = script(
        "export_sqlite_data.py", "--source", str(source), folder=tmp_path, python=str(bare / "bin" / "python")
    )
    assert done.returncode == 0, done.stderr
    checkout = tmp_path / "checkout"
    shutil.copytree(CHECKOUT / "scripts", checkout / "scripts")
    done = subprocess.run(
        [str(bare / "bin" / "python"), str(checkout / "scripts" / "export_sqlite_data.py")],
        capture_output=True, text=True, check=False, timeout=60, env=clean_environment(),
    )  # fmt: skip
    assert done.returncode == 78
    assert "error COPY-034" in done.stderr
    assert "Fix: make setup" in done.stderr


def test_without_a_source_the_places_are_named(tmp_path: Path) -> None:
    done = script("export_sqlite_data.py", folder=tmp_path)
    assert done.returncode == 2
    assert "error COPY-033" in done.stderr
    assert "src/data/trading_bot.db" in done.stderr


def test_an_export_into_a_git_work_tree_is_refused(tmp_path: Path, source: Path) -> None:
    (tmp_path / "repo" / ".git").mkdir(parents=True)
    (tmp_path / "repo" / "deep").mkdir()
    with pytest.raises(SwitchyardError) as caught:
        export(Source("bot", source), tmp_path / "repo" / "deep" / "export", Progress(quiet=True))
    assert caught.value.code == "COPY-030"
    assert "Nothing was written" in caught.value.why
    assert list((tmp_path / "repo" / "deep").iterdir()) == []


def test_an_existing_folder_is_never_written_over(tmp_path: Path, source: Path) -> None:
    export(Source("bot", source), tmp_path / "export", Progress(quiet=True))
    with pytest.raises(SwitchyardError) as caught:
        export(Source("bot", source), tmp_path / "export", Progress(quiet=True))
    assert caught.value.code == "COPY-031"


def test_rows_in_the_wal_are_exported(tmp_path: Path) -> None:
    writer = sqlite3.connect(tmp_path / "live.db", isolation_level=None)
    writer.execute("PRAGMA journal_mode=WAL")
    writer.execute("CREATE TABLE t (id INTEGER PRIMARY KEY)")
    writer.execute("INSERT INTO t VALUES (1)")
    manifest = export(Source("bot", tmp_path / "live.db"), tmp_path / "export", Progress(quiet=True))
    assert manifest["rows"] == {"t": 1}
    writer.close()


@pytest.mark.parametrize("harm", ["a changed byte", "no manifest", "half a manifest", "no snapshot", "another version"])
def test_an_archive_that_is_not_what_was_exported_is_refused(tmp_path: Path, source: Path, harm: str) -> None:
    folder = tmp_path / "export"
    export(Source("bot", source), folder, Progress(quiet=True))
    assert load(folder).label == "bot"
    manifest = folder / "manifest.json"
    if harm == "a changed byte":
        content = bytearray((folder / "snapshot.db").read_bytes())
        content[-1] ^= 1
        (folder / "snapshot.db").write_bytes(content)
    elif harm == "no manifest":
        manifest.unlink()
    elif harm == "half a manifest":
        manifest.write_text(manifest.read_text()[:50])
    elif harm == "no snapshot":
        (folder / "snapshot.db").unlink()
    else:
        manifest.write_text(manifest.read_text().replace('"schema_version": 1', '"schema_version": 2'))
    with pytest.raises(SwitchyardError) as caught:
        load(folder)
    assert caught.value.code == "COPY-032"
    assert "Nothing was changed" in caught.value.why


def test_an_import_without_any_export(tmp_path: Path) -> None:
    done = script("import_to_postgresql.py", folder=tmp_path)
    assert done.returncode == 1
    assert "error COPY-032" in done.stderr
