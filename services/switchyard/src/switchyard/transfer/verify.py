"""Reads both sides again and compares every value. Shares no code with the writer: own SQL, own reading of types.

Runs inside the writer's transaction, before COMMIT: what differs is never seen by anyone.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import secrets
import sqlite3
import struct
from datetime import UTC, datetime, timedelta
from decimal import Context, Decimal
from typing import TYPE_CHECKING, Any

from tradedb.errors import SwitchyardError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from psycopg2.extensions import connection as Connection

    from switchyard.transfer.plan import Plan, TablePlan

_NAMED_DIFFERENCES = 5
_ROWS = 1000
_SMALL_ROWS = 20
_EXACT = Context(prec=200_000, Emax=10**9, Emin=-(10**9))
# families that are read as text; the others as psycopg2 gives them: int, float, bool, Decimal, str, memoryview
_AS_TEXT = ("json", "jsonb", "timestamp", "timestamptz", "date", "time", "uuid")


def verify_table(connection: Connection, snapshot: Path, table: TablePlan, on_rows: Callable[[int], None]) -> int:
    """Compare every row of a table on both sides and return how many there are.

    Args:
        connection: inside the transaction that wrote the rows.
        snapshot: the SQLite file; opened anew.
        table: what was written. Columns that only the target has are not compared.
        on_rows: told how many rows were compared.
    Raises: SwitchyardError: COPY-023, names the first rows that differ.
    """
    with contextlib.closing(sqlite3.connect(f"{snapshot.as_uri()}?mode=ro", uri=True)) as source:
        order = _common_order(source, table)
        if order:
            return _verify_in_order(connection, source, table, order, on_rows)
        return _verify_as_bag(connection, source, table, on_rows)


def verify_sequences(cursor: Any, plan: Plan) -> None:
    """Raise unless the next number of every sequence is above every key.

    Raises: SwitchyardError: COPY-023.
    """
    for table in plan.tables:
        for column in table.target.columns:
            if column.sequence is None:
                continue
            cursor.execute(
                f"SELECT s.last_value + CASE WHEN s.is_called THEN q.seqincrement ELSE 0 END, "  # noqa: S608
                f'(SELECT max(t."{column.name.replace(chr(34), chr(34) * 2)}") FROM {table.target.qualified} t) '
                f"FROM {column.sequence} s, pg_sequence q WHERE q.seqrelid = %s::regclass",
                (column.sequence,),
            )
            [(following, highest)] = cursor.fetchall()
            floor = max((value for value in (highest, table.source.sequence) if value is not None), default=None)
            if floor is not None and following <= floor:
                said = f"{column.name}: the next number is {following}, the highest key is {floor}"
                raise _mismatch(table.name, [said])


def _common_order(source: sqlite3.Connection, table: TablePlan) -> list[str]:
    """Return the primary key's columns if both databases sort by them alike: integers, and text in UTF-8; else []."""
    key = table.target.primary_key
    columns = [table.column(name) for name in key]
    for column in columns:
        if column is None or column.kind.family not in ("integer", "text"):
            return []
        if column.target.labels is not None or column.target.type_name in ("citext", "bpchar"):
            return []
        if column.kind.family == "text" and source.execute("PRAGMA encoding").fetchone()[0] != "UTF-8":
            return []
    return list(key)


def _name(name: str) -> str:
    return f'"{name.replace(chr(34), chr(34) * 2)}"'


def _select(table: TablePlan, *, postgres: bool, order: Sequence[str]) -> str:
    """Return the query of one side: the same columns in the same order."""
    parts = []
    for column in table.columns:
        as_text = postgres and column.kind.family in _AS_TEXT
        parts.append(_name(column.name) + ("::text" if as_text else ""))
    keys = []
    for name in order:
        column = table.column(name)
        text = column is not None and column.kind.family == "text"
        collation = (' COLLATE "C"' if postgres else " COLLATE BINARY") if text else ""
        keys.append(_name(name) + collation)
    relation = table.target.qualified if postgres else _name(table.name)
    return f"SELECT {', '.join(parts)} FROM {relation}" + (f" ORDER BY {', '.join(keys)}" if keys else "")  # noqa: S608


def _verify_in_order(
    connection: Connection,
    source: sqlite3.Connection,
    table: TablePlan,
    order: Sequence[str],
    on_rows: Callable[[int], None],
) -> int:
    """Walk both sides in key order."""
    readers = [_reader(column.kind.family, column.target.type_name) for column in table.columns]
    key_positions = [next(i for i, column in enumerate(table.columns) if column.name == name) for name in order]
    ours = source.execute(_select(table, postgres=False, order=order))
    rows = 0
    with connection.cursor(name=f"verify_{secrets.token_hex(4)}") as theirs:
        theirs.execute(_select(table, postgres=True, order=order))
        size = _SMALL_ROWS
        while True:
            here, there = ours.fetchmany(size), theirs.fetchmany(size)
            if not here and not there:
                return rows
            if not _same(here, there, readers):
                here = [*here, *ours.fetchmany(_ROWS)]
                there = [*there, *theirs.fetchmany(_ROWS)]
                complete = max(len(here), len(there)) < size + _ROWS  # else the longer side's tail has no partner yet
                raise _mismatch(table.name, _differences(table, here, there, readers, key_positions, complete=complete))
            rows += len(here)
            on_rows(len(here))
            size = _next_size(here)


def _same(here: list[tuple[Any, ...]], there: list[tuple[Any, ...]], readers: list[_Reader]) -> bool:
    """Whether two batches hold the same rows; compared column by column."""
    if len(here) != len(there):
        return False
    for ours, theirs, reader in zip(zip(*here, strict=True), zip(*there, strict=True), readers, strict=True):
        if _read(ours, reader.ours) != _read(theirs, reader.theirs):
            return False
    return True


def _read(values: Sequence[Any], reader: Callable[[Any], Any]) -> list[Any]:
    if reader is _as_is:
        return list(values)
    return [None if value is None else reader(value) for value in values]


def _differences(
    table: TablePlan,
    here: list[tuple[Any, ...]],
    there: list[tuple[Any, ...]],
    readers: list[_Reader],
    key_positions: list[int],
    *,
    complete: bool,
) -> list[str]:
    """Return the first differing rows of two batches as sentences."""

    def key_of(row: tuple[Any, ...]) -> tuple[Any, ...]:
        return tuple(row[position] for position in key_positions)

    def named(key: tuple[Any, ...]) -> str:
        return ", ".join(
            f"{table.columns[position].name}={value!r}"[:80] for position, value in zip(key_positions, key, strict=True)
        )

    found = []
    theirs = {key_of(row): row for row in there}
    ours = {key_of(row): row for row in here}
    end = min((_sorts(key_of(side[-1])) for side in (here, there) if side), default=())
    for key, row in ours.items():
        other = theirs.get(key)
        if other is None:
            if complete or _sorts(key) <= end:
                found.append(f"{named(key)}: missing in the target")
            continue
        for column, reader, left, right in zip(table.columns, readers, row, other, strict=True):
            if (None if left is None else reader.ours(left)) != (None if right is None else reader.theirs(right)):
                said = f"{named(key)}: {column.name} is {left!r} in the source"[:160]
                found.append(said + f" and {right!r} in the target"[:120])
    found += [
        f"{named(key)}: only in the target" for key in theirs if key not in ours and (complete or _sorts(key) <= end)
    ]
    return found[:_NAMED_DIFFERENCES] or ["rows come in another order"]


def _sorts(key: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return the key as both databases order it."""
    return tuple(value.encode() if isinstance(value, str) else value for value in key)


def _verify_as_bag(
    connection: Connection, source: sqlite3.Connection, table: TablePlan, on_rows: Callable[[int], None]
) -> int:
    """Compare tables without a common order by the sum of their rows' hashes, and by their number."""
    readers = [_reader(column.kind.family, column.target.type_name) for column in table.columns]
    ours = _bag(source.execute(_select(table, postgres=False, order=())), [reader.ours for reader in readers], on_rows)
    with connection.cursor(name=f"verify_{secrets.token_hex(4)}") as cursor:
        cursor.execute(_select(table, postgres=True, order=()))
        theirs = _bag(cursor, [reader.theirs for reader in readers], lambda _: None)
    if ours != theirs:
        raise _mismatch(
            table.name,
            [f"{ours[0]:,} rows in the source and {theirs[0]:,} in the target; the table has no key to name a row by"],
        )
    return ours[0]


def _bag(cursor: Any, read: Sequence[Callable[[Any], Any]], on_rows: Callable[[int], None]) -> tuple[int, int]:
    """Return the number of rows and the sum of their hashes."""
    count = total = 0
    size = _SMALL_ROWS
    while rows := cursor.fetchmany(size):
        for row in rows:
            values = tuple(
                None if value is None else _one_spelling(reader(value)) for value, reader in zip(row, read, strict=True)
            )
            total += int.from_bytes(hashlib.sha256(ascii(values).encode()).digest(), "big")
        count += len(rows)
        on_rows(len(rows))
        size = _next_size(rows)
    return count, total % (1 << 256)


def _one_spelling(value: Any) -> Any:
    """Return numbers that are equal in one form, at any depth: 1.0 and 1.00 hash alike."""
    if isinstance(value, Decimal):
        return str(_EXACT.normalize(value)) if value.is_finite() else str(value)
    if isinstance(value, dict):
        return sorted((key, _one_spelling(child)) for key, child in value.items())
    if isinstance(value, list):
        return [_one_spelling(child) for child in value]
    return value


def _next_size(rows: Sequence[Sequence[Any]]) -> int:
    """Return how many rows like these make 4 MB, at most _ROWS."""
    sample = rows[:: max(1, len(rows) // 8)]
    heaviest = max(sum(len(value) if hasattr(value, "__len__") else 8 for value in row) for row in sample)
    return max(1, min(_ROWS, 4_000_000 // max(1, heaviest)))


class _Reader:
    """Gives a value of each side in a form in which equal means the same value."""

    def __init__(self, ours: Callable[[Any], Any], theirs: Callable[[Any], Any]) -> None:
        self.ours = ours
        self.theirs = theirs


def _as_is(value: Any) -> Any:
    return value


def _reader(family: str, type_name: str) -> _Reader:
    if type_name == "float4":
        return _Reader(_bits, lambda value: struct.pack(">d", struct.unpack("f", struct.pack("f", value))[0]))
    readers: dict[str, tuple[Callable[[Any], Any], Callable[[Any], Any]]] = {
        "integer": (_as_is, _as_is),
        "text": (_as_is, _as_is),
        "json": (_json_text, _as_is),
        "uuid": (_as_is, _as_is),
        "unknown": (_as_is, _as_is),  # only NULLs get this far
        "boolean": ({0: False, 1: True}.get, _as_is),
        "float": (_bits, _bits),
        "numeric": (_shortest_decimal, _as_is),
        "blob": (_as_is, bytes),
        "jsonb": (_meaning, _meaning),
        "timestamp": (_wall_clock, _as_is),
        "timestamptz": (_instant, lambda text: text.removesuffix("+00")),
        "date": (_as_is, _as_is),
        "time": (_clock, _as_is),
    }
    return _Reader(*readers[family])


def _bits(value: float) -> bytes:
    """Return a double bit by bit: -0.0 is not 0.0."""
    return struct.pack(">d", value)


def _shortest_decimal(value: float | str) -> Decimal:
    """Return the decimal number with the fewest digits that is this double."""
    return Decimal(f"{value!r}") if isinstance(value, float) else Decimal(value)


def _json_text(value: float | str) -> str:
    """Return the JSON text; SQLite stores a JSON number as a number."""
    return value if isinstance(value, str) else json.dumps(value)


def _meaning(value: float | str) -> Any:
    return json.loads(_json_text(value), parse_int=Decimal, parse_float=Decimal)


def _clock(text: str) -> str:
    """Return a time of day as Postgres writes it: seconds always, trailing zeros of the fraction never."""
    whole, _, fraction = text.partition(".")
    if whole.count(":") == 1:
        whole += ":00"
    fraction = fraction.rstrip("0")
    return f"{whole}.{fraction}" if fraction else whole


def _wall_clock(text: str) -> str:
    """Return a date and time as Postgres writes it."""
    return f"{text[:10]} {_clock(text[11:] or '00:00')}"


def _instant(text: str) -> str:
    """Return a time with its zone as wall clock in UTC, as Postgres writes it in a UTC session."""
    body, sign, zone = text.rstrip("Z"), "+", ""
    for mark in "+-":
        head, found, tail = text[10:].rpartition(mark)
        if found:
            body, sign, zone = text[:10] + head, mark, tail.replace(":", "")
    offset = timedelta(hours=int(zone[:2] or 0), minutes=int(zone[2:4] or 0))
    date_part, clock = body[:10], _clock(body[11:] or "00:00")
    whole, _, fraction = clock.partition(".")
    moment = datetime.strptime(f"{date_part} {whole}", "%Y-%m-%d %H:%M:%S").replace(tzinfo=UTC)
    moment = moment - offset if sign == "+" else moment + offset
    # strftime("%Y") leaves out leading zeros on some systems, isoformat does not
    return moment.replace(tzinfo=None).isoformat(sep=" ") + (f".{fraction}" if fraction else "")


def _mismatch(table: str, differences: list[str]) -> SwitchyardError:
    return SwitchyardError(
        "COPY-023",
        f"{table} is not the same on both sides: {'; '.join(differences)}",
        why="Every value was read back and compared before the commit. Everything was taken back: nothing was changed.",
        fix="look for triggers or rules on the target's table; if there are none, report this as a defect",
    )
