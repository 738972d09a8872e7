"""A bot's history in SQLite: the real file where there is one, else a twin of it; and the comparison with Postgres.

The twin has the real file's tables, its numbers of rows, and the values that broke earlier importers: NULL beside
the model's default, infinite and non-terminating doubles, integers in REAL columns, empty texts, quotes, tabs,
backslashes, line breaks, JSON kept as text, labels in the original's case, times with and without microseconds.
"""

from __future__ import annotations

import os
import sqlite3
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import Any

from sqlalchemy import Boolean, DateTime, Table, Text
from sqlalchemy.dialects import sqlite
from sqlalchemy.schema import CreateIndex, CreateTable
from targets import Target
from targets.instance import CHECKOUT
from tradedb.models import Base
from tradedb.types import LegacyNumeric, Ratio

REAL = CHECKOUT.parent / "shared" / "data" / "real" / "bot.db"
ROWS = {
    "trading_sessions": 79,
    "positions": 98,
    "account_history": 59,
    "performance_metrics": 49,
    "system_events": 557,
    "trades": 2096,
    "strategy_executions": 0,
}

_START = datetime(2025, 6, 27, 9, 30)  # noqa: DTZ001  # the file's times have no zone
_TEXTS = (
    "",
    "plain",
    'a "quoted" word',
    "tab\there",
    "back\\slash \\N \\.",
    "two\nlines",
    "comma, 'apostrophe'",
    "größer ≥ 日本",
)
_JSONS = ("null", "{}", '{"strategy": "trend", "depth": 1.10}', '{"b": 1,  "a": [1, 2.50, null]}', '"text"', "[]")
_LABELS = {
    "side": ("LONG", "SHORT"),
    "status": ("FILLED",),
    "source": ("PAPER", "BACKTEST"),
    "mode": ("PAPER", "BACKTEST"),
}


def require_real() -> bool:
    """True where the run must have copied the real file (CI says so by an environment variable)."""
    return os.environ.get("SWITCHYARD_REQUIRE_REAL_DATA") == "1"


def source_file(folder: Path) -> Path:
    """Return the history to copy: the real file, or a twin made in ``folder``."""
    if REAL.exists():
        return REAL
    assert not require_real(), f"SWITCHYARD_REQUIRE_REAL_DATA=1 and there is no {REAL}"
    return make_twin(folder / "bot.db")


def legacy_tables() -> list[Table]:
    """The seven tables of the original file, parents first."""
    return [table for table in Base.metadata.sorted_tables if table.name in ROWS]


def make_twin(path: Path, *, seed: int = 20250707) -> Path:
    """Write a history with the real file's shape and difficult values; the same seed gives the same file."""
    random = Random(seed)  # test data
    db = sqlite3.connect(path)
    for table in legacy_tables():
        ddl = str(CreateTable(table).compile(dialect=sqlite.dialect()))
        db.execute(ddl.replace("BIGINT", "INTEGER").replace("DOUBLE", "FLOAT"))
        for index in table.indexes:
            db.execute(str(CreateIndex(index).compile(dialect=sqlite.dialect())))
    for table in legacy_tables():
        marks = ", ".join("?" * len(table.columns))
        rows = [
            [_value(random, table, column.name, number) for column in table.columns]
            for number in range(1, ROWS[table.name] + 1)
        ]
        db.executemany(f"INSERT INTO {table.name} VALUES ({marks})", rows)  # names from our own models
    db.commit()
    db.close()
    return path


def _value(random: Random, table: Table, name: str, number: int) -> Any:
    column = table.c[name]
    if name == "id":
        return number
    if column.foreign_keys:
        [key] = column.foreign_keys
        parents = ROWS[key.column.table.name]
        return random.randint(1, parents) if parents and random.random() < 0.8 else None
    if column.nullable and random.random() < 0.15:
        return None
    if name == "order_id":
        return f"order-{number}"
    if name in _LABELS:
        return random.choice(_LABELS[name])
    if name == "period_start":
        return str(_START + timedelta(days=number))
    if isinstance(column.type, DateTime):
        moment = _START + timedelta(seconds=random.randint(0, 10**6))
        return str(moment.replace(microsecond=random.randint(1, 999_999)) if number % 2 else moment)
    if isinstance(column.type, Boolean):
        return random.randint(0, 1)
    if column.type.__class__.__name__ == "JSON":
        return random.choice(_JSONS)
    if isinstance(column.type, LegacyNumeric):
        return random.choice((0.1 + 0.2, 1 / 3, 1e-9, 0.0, 100, 118_034.567_890_12, random.uniform(-5e4, 5e4)))
    if isinstance(column.type, Ratio):
        return random.choice((float("inf"), 0.0, 57.142857142857146, -1 / 7, random.random()))
    if isinstance(column.type, Text) or (getattr(column.type, "length", None) or 0) >= 50:
        return random.choice(_TEXTS)
    if getattr(column.type, "length", None):
        return "BTCUSDT"[: column.type.length]  # pyright: ignore[reportAttributeAccessIssue]
    return random.randint(0, 2**40)


def differences(source: Path, target: Target) -> list[str]:
    """Every value of the source that Postgres does not hold exactly, as one line each; [] when all are equal."""
    found: list[str] = []
    db = sqlite3.connect(f"{source.resolve().as_uri()}?mode=ro", uri=True)
    db.row_factory = sqlite3.Row
    for table in legacy_tables():
        names = [column.name for column in table.columns]
        as_text = ", ".join(f"{name}::text AS {name}" for name in names)
        there = {row["id"]: row for row in target.sql(f"SELECT {as_text} FROM {table.name} ORDER BY id")}
        here = {str(row["id"]): row for row in db.execute(f"SELECT * FROM {table.name}")}
        found += [f"{table.name} id={key}: not copied" for key in here.keys() - there.keys()]
        for key in here.keys() & there.keys():
            found += [
                f"{table.name}.{name} id={key}: {here[key][name]!r} became {there[key][name]!r}"
                for name in names
                if not _same(table, name, here[key][name], there[key][name])
            ]
    db.close()
    return found


def _same(table: Table, name: str, here: Any, there: str | None) -> bool:
    """Is Postgres' text form the very value that SQLite stores?"""
    if here is None or there is None:
        return here is there
    kind = table.c[name].type
    if isinstance(kind, LegacyNumeric):
        return Decimal(repr(here)) == Decimal(there)
    if isinstance(kind, Ratio):
        return float(there) == float(here)
    if isinstance(kind, Boolean):
        return there == ("true" if here else "false")
    if isinstance(kind, DateTime):
        return datetime.fromisoformat(there) == datetime.fromisoformat(here)
    return there == str(here)  # JSON too: its text, not its meaning


def counts(target: Target) -> dict[str, int]:
    """Rows in Postgres of each table that the original file has."""
    query = " UNION ALL ".join(f"SELECT '{name}' AS name, count(*) AS n FROM {name}" for name in ROWS)
    return {row["name"]: row["n"] for row in target.sql(query)}
