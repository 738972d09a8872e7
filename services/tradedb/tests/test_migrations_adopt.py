"""A database that was there before: the original file, or its tables in Postgres, taken over without losing a row."""

from __future__ import annotations

import hashlib
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import Float, create_engine, text
from tradedb import adopt
from tradedb.errors import SwitchyardError
from tradedb.manager import DatabaseManager
from tradedb.migrate import differences, upgrade
from tradedb.models import Base
from tradedb.testing import ThrowawayDatabase

MakeManager = Callable[..., DatabaseManager]
REAL = Path(__file__).parents[4] / "shared" / "data" / "real" / "bot.db"
ORIGINAL = list(adopt.ORIGINAL_COLUMNS)


def legacy_ddl() -> list[str]:
    """The seven tables as the original system's file has them: unnamed constraints, FLOAT, BOOLEAN."""
    types = {"integer": "INTEGER", "number": "FLOAT", "text": "VARCHAR(100)", "time": "DATETIME", "boolean": "BOOLEAN",
             "json": "JSON"}  # fmt: skip
    statements = []
    for table, columns in adopt.ORIGINAL_COLUMNS.items():
        lines = [f"{name} {types[kind]}" for name, kind in columns.items()]
        lines += ["PRIMARY KEY (id)"]
        if table in ("trades", "positions"):
            lines.append("UNIQUE (order_id)")
        if table == "performance_metrics":
            lines.append("UNIQUE (period, period_start, session_id)")
        statements.append(f"CREATE TABLE {table} ({', '.join(lines)})")
    return statements


@pytest.fixture
def original(tmp_path: Path) -> Path:
    """An unversioned file with the original tables and a row: the real one where it is, else one built like it."""
    file = tmp_path / "bot.db"
    if REAL.is_file():
        shutil.copyfile(REAL, file)
        return file
    connection = sqlite3.connect(file)
    for statement in legacy_ddl():
        connection.execute(statement)
    connection.execute("INSERT INTO trading_sessions (id, start_time, mode) VALUES (7, '2025-06-27 10:00:00', 'PAPER')")
    connection.execute("INSERT INTO trades (id, symbol, entry_price, session_id) VALUES (4711, 'BTCUSDT', 0.1, 7)")
    connection.commit()
    connection.close()
    return file


def rows(file: Path) -> dict[str, str]:
    """A digest of every original table, types of the stored values included."""
    connection = sqlite3.connect(file)
    digests = {}
    for table in ORIGINAL:
        columns = [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]
        wanted = ", ".join(f'quote("{name}"), typeof("{name}")' for name in columns)
        content = repr(connection.execute(f"SELECT {wanted} FROM {table} ORDER BY rowid").fetchall())
        digests[table] = hashlib.sha256(content.encode()).hexdigest()
    connection.close()
    return digests


def test_the_original_file_is_taken_over_with_every_row_untouched(original: Path, make_manager: MakeManager) -> None:
    before = rows(original)
    result = upgrade(f"sqlite:///{original}")
    assert (result.before, result.after, result.applied, result.adopted) == (
        None,
        "0004",
        ["0002", "0003", "0004"],
        True,
    )
    assert rows(original) == before
    manager = make_manager(f"sqlite:///{original}")
    assert manager.health().ok
    assert manager.read(differences, name="check") == [] or not REAL.is_file()
    again = upgrade(f"sqlite:///{original}")
    assert (again.applied, again.adopted) == ([], False)


def test_a_built_file_is_taken_over_too(tmp_path: Path) -> None:
    connection = sqlite3.connect(tmp_path / "bot.db")
    for statement in legacy_ddl():
        connection.execute(statement)
    connection.close()
    assert upgrade(f"sqlite:///{tmp_path}/bot.db").adopted


@pytest.mark.parametrize(
    ("sql", "said"),
    [
        ("DROP TABLE strategy_executions", "table strategy_executions is missing"),
        ("ALTER TABLE trades DROP COLUMN commission", "column trades.commission is missing"),
        ("CREATE TABLE fills (venue TEXT)", "table fills is there without a revision"),
    ],
)
def test_a_file_that_is_half_there_is_refused_and_left(original: Path, sql: str, said: str) -> None:
    connection = sqlite3.connect(original)
    connection.execute(sql)
    connection.commit()
    connection.close()
    before = set(tables(original))
    with pytest.raises(SwitchyardError) as refused:
        upgrade(f"sqlite:///{original}")
    assert refused.value.code == "SCHEMA-003"
    assert refused.value.exit_code == 1
    assert refused.value.what == f"the database has tables with our names that are not the original ones: {said}"
    assert refused.value.why.endswith("Nothing was changed.")
    assert set(tables(original)) == before


def test_only_some_columns_are_named_when_many_are_wrong(tmp_path: Path) -> None:
    connection = sqlite3.connect(tmp_path / "bot.db")
    connection.execute("CREATE TABLE trades (id INTEGER PRIMARY KEY)")
    connection.close()
    with pytest.raises(SwitchyardError, match=r"; and \d+ more$"):
        upgrade(f"sqlite:///{tmp_path}/bot.db")


def tables(file: Path) -> list[str]:
    connection = sqlite3.connect(file)
    found = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    connection.close()
    return found


def make_unversioned(database: ThrowawayDatabase, *, floats: bool) -> None:
    """The seven tables as ``create_all`` of an older system left them in Postgres."""
    engine = create_engine(database.url())
    names = [Base.metadata.tables[name] for name in ORIGINAL]
    Base.metadata.create_all(engine, tables=names)
    engine.dispose()
    if floats:
        database.execute(f"ALTER TABLE trades ALTER COLUMN entry_price TYPE {Float(53).compile()}")
    database.execute(
        "INSERT INTO trading_sessions (start_time, mode, initial_balance, strategy_name, symbol, timeframe)"
        " VALUES (now(), 'PAPER', 1, 's', 'X', '1m')"
    )


@pytest.mark.parametrize("floats", [False, True])
def test_unversioned_tables_in_postgres_are_taken_over(empty: ThrowawayDatabase, floats: bool) -> None:
    make_unversioned(empty, floats=floats)
    result = upgrade(empty.url_text())
    assert (result.applied, result.adopted) == (["0002", "0003", "0004"], True)
    assert empty.execute("SELECT count(*) FROM trading_sessions") == [(1,)]


@pytest.mark.parametrize(
    ("sql", "said"),
    [
        (
            "ALTER TABLE trades ALTER COLUMN symbol TYPE int USING 0",
            "column trades.symbol is INTEGER, expected a kind of text",
        ),
        ("ALTER TABLE positions DROP COLUMN stop_loss", "column positions.stop_loss is missing"),
        ("ALTER TABLE trades ALTER COLUMN id DROP IDENTITY", "column trades.id does not number its rows by itself"),
        (
            "ALTER TABLE account_history DROP CONSTRAINT account_history_pkey",
            "table account_history has no primary key (id)",
        ),
    ],
)
def test_tables_of_another_shape_in_postgres_are_refused(empty: ThrowawayDatabase, sql: str, said: str) -> None:
    make_unversioned(empty, floats=False)
    empty.execute(sql)
    with pytest.raises(SwitchyardError) as refused:
        upgrade(empty.url_text())
    assert refused.value.code == "SCHEMA-003"
    assert refused.value.what.endswith(f": {said}")
    assert empty.execute("SELECT to_regclass('alembic_version')") == [(None,)]


def test_the_original_columns_are_those_of_the_models() -> None:
    for table, columns in adopt.ORIGINAL_COLUMNS.items():
        assert list(columns) == [column.name for column in Base.metadata.tables[table].columns]


@pytest.mark.parametrize(
    ("declared", "stored"),
    [("BIGINT", "INTEGER"), ("VARCHAR(5)", "TEXT"), ("FLOAT", "REAL"), ("DOUBLE", "REAL"), ("NUMERIC", "NUMERIC"),
     ("DATETIME", "NUMERIC"), ("BOOLEAN", "NUMERIC"), ("JSON", "NUMERIC"), ("BLOB", "BLOB"), ("", "BLOB")],
)  # fmt: skip
def test_affinities_are_sqlites(declared: str, stored: str) -> None:
    assert adopt.affinity(declared) == stored


def test_the_bot_can_write_beside_the_history(original: Path, make_manager: MakeManager) -> None:
    upgrade(f"sqlite:///{original}")
    manager = make_manager(f"sqlite:///{original}")
    biggest = manager.read(lambda c: c.execute(text("SELECT max(id) FROM trading_sessions")).scalar_one(), name="r")
    manager.transaction(
        lambda c: c.execute(
            text(
                "INSERT INTO trading_sessions (start_time, mode, initial_balance, strategy_name, symbol, timeframe)"
                " VALUES ('2026-01-01 00:00:00', 'PAPER', 1, 's', 'X', '1m')"
            )
        ),
        name="w",
    )
    assert (
        manager.read(lambda c: c.execute(text("SELECT max(id) FROM trading_sessions")).scalar_one(), name="r") > biggest
    )
