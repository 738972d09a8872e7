"""Deliberate defects of the writer: the verification catches each before the commit; nothing is left in the target."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from switchyard.transfer import engine, write
from switchyard.transfer.kinds import NULL, Kind
from tradedb.errors import SwitchyardError
from tradedb.testing import ThrowawayDatabase
from transfer_harness import LEGACY, make_twin, run_copy, sqlite_file

Encode = Callable[[Kind, Sequence[Any]], list[str]]
ENCODE: Encode = Kind.encode
ENCODE_ROWS = write.encode_rows


@pytest.fixture(scope="module")
def twin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_twin(tmp_path_factory.mktemp("twin") / "twin.db")


def of_family(family: str, change: Callable[[str], str]) -> Encode:
    """A writer that spells one family of types differently."""

    def encode(kind: Kind, values: Sequence[Any]) -> list[str]:
        fields = ENCODE(kind, values)
        return [change(field) for field in fields] if kind.family == family else fields

    return encode


def fifteen_digits(field: str) -> str:
    return field if field == NULL or "inf" in field or "e+308" in field else f"{float(field):.15g}"


def seventeen_digits(field: str) -> str:
    return field if field == NULL or "inf" in field else f"{float(field):.17g}"


VALUES: dict[str, Encode] = {
    "NULL number becomes the model's default": of_family("numeric", lambda field: "0" if field == NULL else field),
    "NULL boolean becomes false": of_family("boolean", lambda field: "0" if field == NULL else field),
    "NULL text becomes empty": of_family("text", lambda field: "" if field == NULL else field),
    "NULL time becomes now": of_family("timestamp", lambda field: "2026-01-01 00:00:00" if field == NULL else field),
    "empty text becomes NULL": of_family("text", lambda field: field or NULL),
    "money rounded to 15 digits": of_family("numeric", fifteen_digits),
    "money with 17 digits": of_family("numeric", seventeen_digits),
    "doubles rounded to 15 digits": of_family("float", fifteen_digits),
    "JSON encoded twice": of_family(
        "json", lambda field: field if field == NULL else '"' + field.replace('"', '\\\\"') + '"'
    ),
    "text trimmed": of_family("text", str.strip),
    "a lost backslash": of_family("text", lambda field: field.replace("\\\\", "")),
    "time without its microseconds": of_family("timestamp", lambda field: field.split(".")[0]),
    "time in another zone": of_family("timestamp", lambda field: field if field == NULL else field.replace(" 1", " 0")),
}


def without_constraints(database: ThrowawayDatabase) -> None:
    """Take away what the server itself would refuse these defects by: the verification alone must see them."""
    for table in LEGACY:
        database.execute(f"ALTER TABLE {table} DISABLE TRIGGER USER")  # their sums take no NULL either
        for (name,) in database.execute(
            "SELECT conname FROM pg_constraint WHERE contype IN ('f', 'u') AND conrelid = %s::regclass", (table,)
        ):
            database.execute(f"ALTER TABLE {table} DROP CONSTRAINT {name}")
        for (name,) in database.execute(
            "SELECT attname FROM pg_attribute WHERE attrelid = %s::regclass AND attnum > 1 AND attnotnull", (table,)
        ):
            database.execute(f"ALTER TABLE {table} ALTER {name} DROP NOT NULL")


def refused_and_undone(source: Path, database: ThrowawayDatabase) -> SwitchyardError:
    with pytest.raises(SwitchyardError) as caught:
        run_copy(source, database, role="migrator")
    assert caught.value.code == "COPY-023"
    assert "nothing was changed" in caught.value.why
    for table in LEGACY:
        assert database.execute(f"SELECT count(*) FROM {table}") == [(0,)]
        assert database.execute(f"SELECT last_value, is_called FROM {table}_id_seq") == [(1, False)]
    assert database.execute("SELECT to_regclass('switchyard.copy_run')") == [(None,)]
    return caught.value


@pytest.mark.parametrize("defect", VALUES)
def test_a_changed_value_is_caught(
    twin: Path, stack_database: ThrowawayDatabase, monkeypatch: pytest.MonkeyPatch, defect: str
) -> None:
    without_constraints(stack_database)
    monkeypatch.setattr(Kind, "encode", VALUES[defect])
    error = refused_and_undone(twin, stack_database)
    assert " in the source and " in error.what
    assert "id=" in error.what


def test_one_changed_bit_in_one_double_is_caught(
    twin: Path, stack_database: ThrowawayDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    changed: list[str] = []

    def encode(kind: Kind, values: Sequence[Any]) -> list[str]:
        fields = ENCODE(kind, values)
        if kind.family == "float" and not changed:
            spot = next((n for n, value in enumerate(values) if isinstance(value, float) and 0 < value < 1e9), None)
            if spot is not None:
                fields[spot] = repr(math.nextafter(values[spot], math.inf))
                changed.append(fields[spot])
        return fields

    monkeypatch.setattr(Kind, "encode", encode)
    error = refused_and_undone(twin, stack_database)
    assert changed[0] in error.what


def dropped(lines: list[bytes]) -> list[bytes]:
    return lines[:-1] if len(lines) > 1 else lines


def shifted_column(lines: list[bytes]) -> list[bytes]:
    """Each row gets the last column of the row before it."""
    heads, tails = zip(*(line.rsplit(b"\t", 1) for line in lines), strict=True)
    return [b"\t".join(pair) for pair in zip(heads, (tails[-1], *tails[:-1]), strict=True)]


def missing_row_of_one_batch(lines: list[bytes]) -> list[bytes]:
    return lines[1:] if len(lines) == 1000 else lines


def another_key(lines: list[bytes]) -> list[bytes]:
    """The last row of each batch gets a key that no other row has."""
    key, rest = lines[-1].split(b"\t", 1)
    return [*lines[:-1], b"%d\t%s" % (int(key) + 100_000, rest)]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (dropped, "missing in the target"),
        (missing_row_of_one_batch, "missing in the target"),
        (shifted_column, "in the source and"),
        (another_key, "missing in the target"),
    ],
)
def test_lost_and_moved_rows_are_caught(
    twin: Path, stack_database: ThrowawayDatabase, monkeypatch: pytest.MonkeyPatch, change: Any, said: str
) -> None:
    def encode_rows(columns: Any, rows: Any) -> bytes:
        return b"".join(change(ENCODE_ROWS(columns, rows).splitlines(keepends=True)))

    without_constraints(stack_database)
    monkeypatch.setattr(write, "encode_rows", encode_rows)
    assert said in refused_and_undone(twin, stack_database).what


def test_a_sequence_that_is_one_too_low_is_caught(
    twin: Path, stack_database: ThrowawayDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    restart = write._restart

    def low(cursor: Any, sequence: str, highest: int | None, column: str) -> int:
        return restart(cursor, sequence, None if highest is None else highest - 1, column)

    monkeypatch.setattr(write, "_restart", low)
    assert "the next number is" in refused_and_undone(twin, stack_database).what


def test_forgotten_sequences_are_caught(
    twin: Path, stack_database: ThrowawayDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "set_sequences", lambda _cursor, _plan: {})
    assert "the next number is 1, the highest key is" in refused_and_undone(twin, stack_database).what


def test_a_trigger_that_changes_rows_is_caught(twin: Path, stack_database: ThrowawayDatabase) -> None:
    stack_database.execute(
        "CREATE FUNCTION meddle() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN NEW.symbol := lower(NEW.symbol); RETURN NEW; END $$"
    )
    stack_database.execute("CREATE TRIGGER meddle BEFORE INSERT ON trades FOR EACH ROW EXECUTE FUNCTION meddle()")
    assert "trades" in refused_and_undone(twin, stack_database).what


def test_a_trigger_that_swallows_rows_is_caught(twin: Path, stack_database: ThrowawayDatabase) -> None:
    stack_database.execute(
        "CREATE FUNCTION swallow() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN IF NEW.id = 300 THEN RETURN NULL; END IF; RETURN NEW; END $$"
    )
    stack_database.execute(
        "CREATE TRIGGER swallow BEFORE INSERT ON system_events FOR EACH ROW EXECUTE FUNCTION swallow()"
    )
    assert "id=300: missing in the target" in refused_and_undone(twin, stack_database).what


@pytest.mark.parametrize("defect", ["NULL becomes zero", "a row twice", "a row lost"])
def test_a_table_without_a_key_is_compared_too(
    database: ThrowawayDatabase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, defect: str
) -> None:
    database.execute("CREATE TABLE t (a bigint, b numeric, c jsonb)")
    rows: list[tuple[Any, ...]] = [(n % 7, None if n % 3 else n / 3, '{"x": 1.50}') for n in range(2500)]
    source = sqlite_file(tmp_path / "s.db", "CREATE TABLE t (a, b, c)", rows={"t": rows})

    def encode_rows(columns: Any, rows: Any) -> bytes:
        lines = ENCODE_ROWS(columns, rows).splitlines(keepends=True)
        if defect == "NULL becomes zero":
            lines[0] = lines[0].replace(b"\\N", b"0")
        elif defect == "a row twice":
            lines = [*lines[:-1], lines[-2]] if len(lines) > 1 else lines
        else:
            lines = lines[1:]
        return b"".join(lines)

    with monkeypatch.context() as patch:
        patch.setattr(write, "encode_rows", encode_rows)
        with pytest.raises(SwitchyardError) as caught:
            run_copy(source, database)
    assert caught.value.code == "COPY-023"
    assert database.execute("SELECT count(*) FROM t") == [(0,)]
    assert run_copy(source, database).rows == 2500
