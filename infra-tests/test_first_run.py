"""An owner's first run: a fresh instance, started with the bot's SQLite file, has every row and value in Postgres."""

from __future__ import annotations

import re
import shutil
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urljoin

import pytest
from faults.stack import broken_promises
from history import REAL, ROWS, counts, differences, make_twin, require_real, source_file
from pages import text_of, trade_ids, visitor
from targets import SETTINGS, Target, attach
from targets.instance import Completed, Instance
from watch import ready, until


@dataclass(frozen=True)
class FirstRun:
    """A stack that was started with a history, the file, and what the command said."""

    target: Target
    source: Path
    said: Completed


@pytest.fixture(scope="module")
def first_run(target_name: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[FirstRun]:
    """``switchyard up --source bot=FILE`` in a fresh instance."""
    # a copy: the owner's file must stay as it is, and so must ours
    source = tmp_path_factory.mktemp("owner") / "bot.db"
    original = source_file(source.parent / "made" if REAL.exists() else source.parent)
    if original != source:
        shutil.copyfile(original, source)
    instance = Instance.create(target_name, **SETTINGS)
    try:
        said = instance.up("--source", f"bot={source}")
        yield FirstRun(attach(instance), source, said)
    finally:
        instance.destroy()


def test_the_real_file_was_used_where_it_must_be(first_run: FirstRun) -> None:
    if require_real():
        assert first_run.source.read_bytes() == REAL.read_bytes()


def test_every_row_is_there(first_run: FirstRun) -> None:
    db = sqlite3.connect(first_run.source)
    there = {name: db.execute(f"SELECT count(*) FROM {name}").fetchone()[0] for name in ROWS}
    db.close()
    assert there == ROWS
    assert sum(there.values()) == 2938
    bound = {name: db_max(first_run, name) for name in ROWS}
    copied = {name: first_run.target.value(f"SELECT count(*) FROM {name} WHERE id <= {bound[name]}") for name in ROWS}
    assert copied == ROWS


def db_max(first_run: FirstRun, table: str) -> int:
    """The highest id of the source: what is above it is the bot's."""
    db = sqlite3.connect(first_run.source)
    try:
        return db.execute(f"SELECT coalesce(max(id), 0) FROM {table}").fetchone()[0]
    finally:
        db.close()


def test_every_value_is_the_very_same(first_run: FirstRun) -> None:
    assert differences(first_run.source, first_run.target) == []


def test_the_command_said_how_many(first_run: FirstRun) -> None:
    assert re.search(r"2[,.\u202f' ]?938", first_run.said.stderr + first_run.said.stdout), str(first_run.said)


def test_the_bots_next_rows_get_free_ids(first_run: FirstRun) -> None:
    ready(first_run.target)
    highest = {name: db_max(first_run, name) for name in ("trading_sessions", "positions", "trades", "account_history")}
    for name, top in highest.items():
        until(
            lambda name=name, top=top: first_run.target.value(f"SELECT count(*) FROM {name} WHERE id > {top}"),
            60,
            f"the bot's first row in {name}",
        )
    assert broken_promises(first_run.target) == []


def test_copied_history_is_never_the_bots_own(first_run: FirstRun) -> None:
    """Sessions of the history that say is_active are nobody's to continue, and its positions are not open."""
    top = db_max(first_run, "trading_sessions")
    assert first_run.target.value(f"SELECT min(session_id) FROM order_intents") > top  # noqa: F541
    assert first_run.target.value("SELECT count(*) FROM positions WHERE status = 'OPEN'") <= 1


def test_the_dashboard_lists_every_trade_of_the_history(first_run: FirstRun) -> None:
    bound = db_max(first_run, "trades")
    listed: set[int] = set()
    pages = 0
    with visitor(first_run.target) as client:
        path: str | None = "/trades"
        while path:
            page = client.get(path)
            assert page.status_code == 200
            listed |= trade_ids(page.text)
            following = re.search(r'<a\b[^>]*\brel="next"[^>]*>', page.text)
            href = re.search(r'href="([^"]+)"', following[0]) if following else None
            path = urljoin(str(page.url), href[1].replace("&amp;", "&")) if href else None
            pages += 1
            assert pages < 500
    assert len({number for number in listed if number <= bound}) == ROWS["trades"] == 2096


def test_the_overview_says_what_the_history_holds(first_run: FirstRun) -> None:
    with visitor(first_run.target) as client:
        page = text_of(client.get("/").text)
    assert "98 positions of the copied history are not counted as open: 98 with status FILLED" in page


def test_the_same_copy_again_changes_nothing_and_says_so(first_run: FirstRun) -> None:
    instance = first_run.target.instance
    runs = "SELECT count(*) FROM switchyard.copy_run"
    before = first_run.target.value(runs)
    again = instance.switchyard("copy", "--source", f"bot={first_run.source}", "--yes")
    assert re.search(r"already|nothing (was )?(changed|to do)", again.stdout + again.stderr, re.IGNORECASE), str(again)
    assert first_run.target.value(runs) == before
    assert differences(first_run.source, first_run.target) == []


def test_up_again_with_the_same_source_is_no_error(first_run: FirstRun) -> None:
    again = first_run.target.instance.up("--source", f"bot={first_run.source}")
    assert again.returncode == 0
    assert differences(first_run.source, first_run.target) == []


def test_another_file_is_refused_and_nothing_changes(first_run: FirstRun, tmp_path: Path) -> None:
    other = make_twin(tmp_path / "other.db", seed=1)
    before = counts(first_run.target)
    done = first_run.target.instance.switchyard("copy", "--source", f"bot={other}", "--yes", "--json", check=False)
    assert done.returncode == 1, str(done)
    error = done.json()["error"]
    assert re.fullmatch(r"COPY-\d{3}", error["code"])
    assert "trades" in error["what"] + error["why"]
    after = counts(first_run.target)
    assert all(after[name] - before[name] < 20 for name in ROWS), "rows of the other file came in"
    assert differences(first_run.source, first_run.target) == []


def test_the_source_file_is_untouched(first_run: FirstRun) -> None:
    if REAL.exists():
        assert first_run.source.read_bytes() == REAL.read_bytes()
    assert [path.name for path in first_run.source.parent.iterdir()] == ["bot.db"]
