"""The owner's first run: a bot's history, copied into our stack's tables. Nothing here knows how the copy works."""

from __future__ import annotations

import hashlib
import os
import shutil
import sqlite3
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import psycopg2
import pytest
from tradedb.errors import SwitchyardError
from tradedb.testing import ThrowawayDatabase
from transfer_harness import LEGACY, REAL_FILES, make_twin, run_copy, url_of

ROWS = {"bot.db": 2938, "dashboard.db": 2883, "twin": 2938}


@pytest.fixture(params=["twin", *(path.name for path in REAL_FILES)])
def history(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A bot's file: always the twin, and the real ones where they are."""
    if request.param == "twin":
        return make_twin(tmp_path / "twin")
    return next(path for path in REAL_FILES if path.name == request.param)


def test_real_files_are_here_where_they_must_be() -> None:
    if os.environ.get("SWITCHYARD_REQUIRE_REAL_DATA") == "1":
        assert [path.name for path in REAL_FILES] == ["bot.db", "dashboard.db"]


def test_every_value_of_every_row_is_in_postgres(history: Path, stack_database: ThrowawayDatabase) -> None:
    run_copy(history, stack_database, role="migrator")
    source = sqlite3.connect(f"{history.as_uri()}?mode=ro", uri=True)
    source.row_factory = sqlite3.Row
    target = stack_database.server.connect(stack_database.name)
    found = 0
    with target.cursor() as cursor:
        for table in LEGACY:
            rows = source.execute(f"SELECT * FROM {table} ORDER BY id").fetchall()
            columns = rows[0].keys() if rows else ["id"]
            wanted = ", ".join(f"{name}::text, pg_typeof({name})::text" for name in columns)
            cursor.execute(f"SELECT {wanted} FROM {table} ORDER BY {table}.id")
            copied = cursor.fetchall()
            assert len(copied) == len(rows), table
            for row, there in zip(rows, copied, strict=True):
                for position, name in enumerate(columns):
                    text, kind = there[2 * position : 2 * position + 2]
                    assert _same(row[name], text, kind), f"{table}.{name} id={row['id']}: {row[name]!r} became {text!r}"
                found += 1
    source.close()
    target.close()
    assert found == ROWS[history.name]


def _same(stored: Any, text: str | None, kind: str) -> bool:
    """Is the text that Postgres shows the value that SQLite stores?"""
    if stored is None or text is None:
        return stored is text
    if kind == "numeric":
        return Decimal(text) == Decimal(repr(stored))
    if kind == "double precision":
        return float(text).hex() == float(stored).hex()
    if kind == "bigint":
        return int(text) == stored
    if kind == "boolean":
        return text == {0: "false", 1: "true"}[stored]
    if kind == "timestamp without time zone":
        return datetime.fromisoformat(text) == datetime.fromisoformat(stored)
    assert kind in ("character varying", "text", "json"), kind
    return text == str(stored)  # SQLite itself stores the JSON text 5 as the integer 5


def test_bots_next_rows_get_the_next_free_ids(history: Path, stack_database: ThrowawayDatabase) -> None:
    report = run_copy(history, stack_database, role="migrator")
    source = sqlite3.connect(f"{history.as_uri()}?mode=ro", uri=True)
    highest = {table: source.execute(f"SELECT coalesce(max(id), 0) FROM {table}").fetchone()[0] for table in LEGACY}
    source.close()
    bot = psycopg2.connect(url_of(stack_database, "trading_bot"))
    with bot, bot.cursor() as cursor:
        cursor.execute("INSERT INTO account_history (timestamp, balance, equity) VALUES (now(), 1, 1) RETURNING id")
        assert cursor.fetchone() == (highest["account_history"] + 1,)
    bot.close()
    assert {table.name: table.next_ids["id"] for table in report.tables} == {
        table: key + 1 for table, key in highest.items()
    }


def test_the_source_and_its_folder_stay_as_they_were(history: Path, stack_database: ThrowawayDatabase) -> None:
    before = hashlib.sha256(history.read_bytes()).digest(), sorted(history.parent.iterdir()), history.stat().st_mtime_ns
    run_copy(history, stack_database, role="migrator")
    assert before == (
        hashlib.sha256(history.read_bytes()).digest(), sorted(history.parent.iterdir()), history.stat().st_mtime_ns
    )  # fmt: skip


def test_the_report_adds_up(history: Path, stack_database: ThrowawayDatabase) -> None:
    report = run_copy(history, stack_database, role="migrator").as_dict()
    assert report["schema_version"] == 1
    assert report["status"] == "copied"
    assert report["rows"] == ROWS[history.name]
    for table in report["tables"]:
        assert table["rows_read"] == table["rows_written"] == table["rows_verified"]
    assert "password" not in report["target"]
    assert report["source"] == {"label": "bot", "file": history.name, "digest": report["source"]["digest"]}


def facts(database: ThrowawayDatabase) -> list[tuple[Any, ...]]:
    """Everything a copy could change."""
    union = " UNION ALL ".join(
        f"SELECT '{table}', count(*), max(id), (SELECT last_value FROM {table}_id_seq) FROM {table}" for table in LEGACY
    )
    ledger = database.execute("SELECT to_regclass('switchyard.copy_run') IS NOT NULL")[0][0]
    runs = database.execute("SELECT run_id, source_label FROM switchyard.copy_run ORDER BY 1") if ledger else []
    return [*database.execute(union), *runs]


def test_repeating_a_finished_copy_changes_nothing(
    history: Path, stack_database: ThrowawayDatabase, tmp_path: Path
) -> None:
    first = run_copy(history, stack_database, role="migrator")
    stack_database.execute(
        "INSERT INTO system_events (timestamp, event_type, message) VALUES (now(), 'TEST', 'the bot runs')"
    )
    before = facts(stack_database)
    copied_before = tmp_path / "other" / history.name
    copied_before.parent.mkdir()
    shutil.copyfile(history, copied_before)
    db = sqlite3.connect(copied_before)
    db.execute("PRAGMA journal_mode=WAL")
    db.execute("PRAGMA page_size=8192")
    db.execute("VACUUM")
    db.close()
    for path in (history, copied_before):
        again = run_copy(path, stack_database, role="migrator")
        assert (again.status, again.run_id) == ("unchanged", first.run_id)
        assert "Already copied" in again.text()
        assert again.tables == ()
        assert facts(stack_database) == before


def test_another_content_under_the_same_label_is_refused(
    history: Path, stack_database: ThrowawayDatabase, tmp_path: Path
) -> None:
    run_copy(history, stack_database, role="migrator")
    changed = tmp_path / "changed.db"
    shutil.copyfile(history, changed)
    db = sqlite3.connect(changed)
    db.execute("UPDATE trades SET commission = 0.25 WHERE id = 7")
    db.commit()
    db.close()
    before = facts(stack_database)
    with pytest.raises(SwitchyardError) as caught:
        run_copy(changed, stack_database, role="migrator")
    assert caught.value.code == "COPY-016"
    assert "trades 2,09" in caught.value.what
    with pytest.raises(SwitchyardError) as caught:
        run_copy(history, stack_database, label="other", role="migrator")
    assert caught.value.code == "COPY-015"
    assert "the same content came in as bot" in caught.value.what
    assert facts(stack_database) == before


def test_rows_that_are_already_there_are_left_alone(history: Path, stack_database: ThrowawayDatabase) -> None:
    stack_database.execute("INSERT INTO system_events (timestamp, event_type, message) VALUES (now(), 'TEST', 'mine')")
    before = facts(stack_database)
    with pytest.raises(SwitchyardError) as caught:
        run_copy(history, stack_database, role="migrator")
    assert caught.value.code == "COPY-015"
    assert "system_events 1" in caught.value.what
    assert "Nothing was changed" in caught.value.why
    assert facts(stack_database) == before


def test_a_copy_whose_rows_were_removed_is_made_again(history: Path, stack_database: ThrowawayDatabase) -> None:
    run_copy(history, stack_database, role="migrator")
    stack_database.execute("DELETE FROM trades WHERE id > 2000")
    again = run_copy(history, stack_database, role="migrator")
    assert again.status == "unchanged"
    assert "trades held 2,09" in again.notes[0]
    # the ledger of the bot refers to these tables, and refuses TRUNCATE
    stack_database.execute(f"SET LOCAL session_replication_role = replica; TRUNCATE {', '.join(LEGACY)} CASCADE")
    assert run_copy(history, stack_database, role="migrator").status == "copied"


def test_dry_run_writes_nothing(history: Path, stack_database: ThrowawayDatabase) -> None:
    before = facts(stack_database)
    report = run_copy(history, stack_database, role="migrator", dry_run=True)
    assert (report.status, report.plan.rows) == ("planned", ROWS[history.name])
    assert facts(stack_database) == before


def test_the_ledger_belongs_to_the_owner(history: Path, stack_database: ThrowawayDatabase) -> None:
    run_copy(history, stack_database, role="migrator")
    owner = stack_database.execute("SELECT relowner::regrole::text FROM pg_class WHERE relname = 'copy_run'")
    assert owner == [("owner",)]
