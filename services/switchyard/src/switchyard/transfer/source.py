"""What a SQLite snapshot holds: its tables, and their rows as SQLite stores them, in batches."""

from __future__ import annotations

import functools
import hashlib
import sqlite3
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tradedb.errors import SwitchyardError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    Row = tuple[Any, ...]

BATCH_ROWS = 1000
BATCH_BYTES = 4_000_000
_FIRST_BATCH_ROWS = 100
_DIGEST_BITS = 256
_LENIENT = functools.partial(str, encoding="utf-8", errors="surrogateescape")

_SUMS = "the target makes these sums itself, of the rows that it gets"
SKIP = {
    "alembic_version": "the target's migrations keep their own version",
    "equity_hours": _SUMS,
    "strategy_weeks": _SUMS,
    "trade_cell_days": _SUMS,
    "trade_days": _SUMS,
    "trade_groups": _SUMS,
    "trade_histogram": _SUMS,
}


@dataclass(frozen=True)
class SourceTable:
    """One table of the file.

    Args:
        name: as the file spells it.
        columns: in the file's order, generated ones included.
        key: columns that tell rows apart and are never NULL (INTEGER PRIMARY KEY, or WITHOUT ROWID); () if none.
        naming: SQL expressions that name a row for people: the primary key, else the rowid.
        rows: how many there are.
        sequence: the highest number that AUTOINCREMENT ever gave, deleted rows included; None without AUTOINCREMENT.
    """

    name: str
    columns: tuple[str, ...]
    key: tuple[str, ...]
    naming: tuple[str, ...]
    rows: int
    sequence: int | None


def quoted(name: str) -> str:
    """Return `name` as an SQL identifier, for SQLite and for Postgres."""
    return '"' + name.replace('"', '""') + '"'


class SourceDatabase:
    """A snapshot, open for reading."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.connection = open_snapshot(path)
        self.skipped: dict[str, str] = {}
        self.notes: list[str] = []
        self.utf8 = self.connection.execute("PRAGMA encoding").fetchone()[0] == "UTF-8"
        self.tables = tuple(self._table(name) for name in self._table_names())

    def close(self) -> None:
        """Close the file."""
        self.connection.close()

    def __enter__(self) -> SourceDatabase:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def batches(
        self, table: SourceTable, columns: Iterable[str] | None = None, *, lenient: bool = False, named: bool = False
    ) -> Iterator[list[Row]]:
        """Yield the rows, in key order where the table has a key, a bounded number of bytes at a time.

        Args:
            table: one of self.tables.
            columns: which ones, in this order; all of them when None.
            lenient: give text that is not UTF-8 as text with surrogates, instead of raising sqlite3.OperationalError.
            named: put the values of `table.naming` before those of `columns`.
        """
        wanted = [quoted(column) for column in (table.columns if columns is None else columns)]
        order = f" ORDER BY {', '.join(map(quoted, table.key))}" if table.key else ""
        expressions = [*(table.naming if named else ()), *wanted]
        self.connection.text_factory = _LENIENT if lenient else str
        cursor = self.connection.execute(f"SELECT {', '.join(expressions)} FROM {quoted(table.name)}{order}")  # noqa: S608
        size = _FIRST_BATCH_ROWS
        while rows := cursor.fetchmany(size):  # the cursor ends with the connection: a reader may stop in the middle
            yield rows
            size = next_batch_size(rows)

    def table_digest(self, table: SourceTable) -> TableDigest:
        """Return an empty digest of the table, to be fed with its rows."""
        return TableDigest(ordered=bool(table.key))

    def _table_names(self) -> list[str]:
        names: list[str] = []
        others: dict[str, list[str]] = {"view": [], "trigger": []}
        for kind, name in self.connection.execute("SELECT type, name FROM sqlite_master ORDER BY name"):
            if kind == "table" and not name.lower().startswith("sqlite_"):
                if name in SKIP:
                    self.skipped[name] = SKIP[name]
                else:
                    names.append(name)
            elif kind in others:
                others[kind].append(name)
        for kind, found in others.items():
            if found:
                self.notes.append(f"{kind}s are not copied, only rows: {', '.join(found)}")
        return names

    def _table(self, name: str) -> SourceTable:
        info = self.connection.execute(f"PRAGMA table_xinfo({quoted(name)})").fetchall()
        columns = tuple(row[1] for row in info if row[6] != 1)  # 1 = a virtual table's hidden parameters
        primary = [row for row in sorted(info, key=lambda row: row[5]) if row[5]]
        key_names = tuple(row[1] for row in primary)
        rowid = self._rowid_name(name, columns)
        indexed = any(row[3] == "pk" for row in self.connection.execute(f"PRAGMA index_list({quoted(name)})"))
        is_rowid = len(primary) == 1 and primary[0][2].upper() == "INTEGER" and not indexed and rowid is not None
        key = key_names if key_names and (is_rowid or rowid is None) else ()
        naming = tuple(map(quoted, key_names)) or ((rowid,) if rowid else ())
        [rows] = self.connection.execute(f"SELECT count(*) FROM {quoted(name)}").fetchone()  # noqa: S608
        return SourceTable(name, columns, key, naming, rows, self._sequence(name))

    def _rowid_name(self, table: str, columns: Sequence[str]) -> str | None:
        """Return a name for the rowid that no column has taken; None for a WITHOUT ROWID table."""
        taken = {column.lower() for column in columns}
        for name in ("rowid", "_rowid_", "oid"):
            if name not in taken:
                try:
                    self.connection.execute(f"SELECT {name} FROM {quoted(table)} LIMIT 0")  # noqa: S608
                except sqlite3.OperationalError:
                    return None
                return name
        return None

    def _sequence(self, table: str) -> int | None:
        if not self.connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'sqlite_sequence'").fetchone():
            return None
        row = self.connection.execute("SELECT max(seq) FROM sqlite_sequence WHERE name = ?", (table,)).fetchone()
        return row[0] if isinstance(row[0], int) else None


class TableDigest:
    """A digest of a table's rows: their values and storage classes, not the bytes of the file.

    With a key the rows come in its order and are hashed as one stream. Without one their order means nothing (VACUUM
    may change it), so the hashes of the single rows are added.
    """

    def __init__(self, *, ordered: bool) -> None:
        self._stream = hashlib.sha256() if ordered else None
        self._sum = 0
        self.rows = 0

    def feed(self, rows: Sequence[Row]) -> None:
        """Add a batch. ``ascii`` gives one text for one value: shortest digits of a REAL, escapes for all but ASCII."""
        self.rows += len(rows)
        if self._stream is not None:
            self._stream.update("\n".join(map(ascii, rows)).encode() + b"\n")
            return
        for row in rows:
            self._sum += int.from_bytes(hashlib.sha256(ascii(row).encode()).digest(), "big")

    def hexdigest(self) -> str:
        """Return 64 hex digits."""
        if self._stream is not None:
            return self._stream.hexdigest()
        return f"{self._sum % (1 << _DIGEST_BITS):064x}"


def content_digest(tables: Iterable[tuple[SourceTable, TableDigest]]) -> str:
    """Return the digest of every row of the file; the same after VACUUM, touch, or a change of journal mode."""
    total = hashlib.sha256()
    for table, digest in sorted(tables, key=lambda pair: pair[0].name):
        if digest.rows:
            total.update(ascii((table.name, table.columns, digest.rows, digest.hexdigest())).encode() + b"\n")
    return f"sha256:{total.hexdigest()}"


def next_batch_size(rows: Sequence[Row]) -> int:
    """Return how many rows to take next, so that a batch of rows like these stays under BATCH_BYTES."""
    sample = rows[:: max(1, len(rows) // 10)]
    heaviest = max(sum(len(value) if isinstance(value, str | bytes) else 8 for value in row) for row in sample)
    return max(1, min(BATCH_ROWS, BATCH_BYTES // max(1, heaviest)))


def open_snapshot(path: Path) -> sqlite3.Connection:
    """Return a read-only connection to a snapshot that only we have.

    Raises: SwitchyardError: COPY-005, the schema cannot be read.
    """
    connection = sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, isolation_level=None)
    try:
        connection.execute("PRAGMA cell_size_check=ON")
        connection.execute("PRAGMA trusted_schema=OFF")
        connection.execute("PRAGMA cache_size=-2000")
        connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except sqlite3.DatabaseError as error:
        connection.close()
        raise SwitchyardError(
            "COPY-005",
            f"the schema of the source cannot be read: {error}",
            why="The pages are well formed, what they say is not. Nothing was changed.",
            fix="open it with the sqlite3 program and run .schema to see which statement it is",
        ) from error
    return connection
