"""Which value lands in which column: kept exactly and shown so by Postgres, or named before anything is written."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import psycopg2
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from switchyard.transfer.check import FindingsError
from tradedb.testing import PostgresServer, ThrowawayDatabase, empty_database
from transfer_harness import DOUBLES, JSONS, TEXTS, run_copy, sqlite_file, url_of

INF = float("inf")

# (type of the target's column, value in SQLite, how Postgres shows it)
KEPT: list[tuple[str, Any, str | None]] = [
    ("bigint", 2**63 - 1, "9223372036854775807"),
    ("bigint", -(2**63), "-9223372036854775808"),
    ("smallint", -32768, "-32768"),
    ("numeric", 0.1 + 0.2, "0.30000000000000004"),
    ("numeric", 100.0, "100.0"),
    ("numeric", 7, "7"),
    ("numeric", 5e-324, f"{Decimal('5e-324'):f}"),
    ("numeric", 1.7976931348623157e308, f"{Decimal('1.7976931348623157e308'):f}"),
    ("numeric", INF, "Infinity"),
    ("numeric", -INF, "-Infinity"),
    ("numeric", "118034.567890120000", "118034.567890120000"),
    ("numeric(20,8)", 0.00000001, "0.00000001"),
    ("numeric(5,2)", "999.99", "999.99"),
    ("numeric(3,-3)", 123000, "123000"),
    ("double precision", 0.1 + 0.2, "0.30000000000000004"),
    ("double precision", -0.0, "-0"),
    ("double precision", 5e-324, "5e-324"),
    ("double precision", INF, "Infinity"),
    ("double precision", 2**53, "9.007199254740992e+15"),
    ("real", 0.5, "0.5"),
    ("boolean", 1, "true"),
    ("boolean", 0, "false"),
    ("text", "", ""),
    *[("text", text, text) for text in TEXTS],
    ("text", "\x01\x07\x7f\x0b\x0c\x08", "\x01\x07\x7f\x0b\x0c\x08"),
    ("text", "NULL", "NULL"),
    ("varchar(3)", "日本🚀", "日本🚀"),
    ("char(3)", "abc", "abc"),
    ("bytea", bytes(range(256)), "\\x" + bytes(range(256)).hex()),
    ("bytea", b"", "\\x"),
    *[("json", text, text) for text in JSONS],
    ("json", 5, "5"),
    ("json", 1.5e300, "1.5e+300"),
    ("json", '"\\u0000"', '"\\u0000"'),
    ("jsonb", '{"a": 1.10,  "b": [null, "\\ud83d\\ude80"]}', '{"a": 1.10, "b": [null, "🚀"]}'),
    ("timestamp", "2025-06-27 20:47:39.169571", "2025-06-27 20:47:39.169571"),
    ("timestamp", "2025-06-27T20:47:39.100000000", "2025-06-27 20:47:39.1"),
    ("timestamp", "2025-06-27 20:47", "2025-06-27 20:47:00"),
    ("timestamp", "0001-01-01", "0001-01-01 00:00:00"),
    ("timestamp", "9999-12-31 23:59:59.999999", "9999-12-31 23:59:59.999999"),
    ("timestamp(3)", "2025-06-27 20:47:39.123000", "2025-06-27 20:47:39.123"),
    ("timestamptz", "2025-06-27T20:47:39.5+02:00", "2025-06-27 18:47:39.5+00"),
    ("timestamptz", "2025-06-27 20:47:39Z", "2025-06-27 20:47:39+00"),
    ("timestamptz", "2025-12-31 23:30:00-0330", "2026-01-01 03:00:00+00"),
    ("date", "2024-02-29", "2024-02-29"),
    ("time", "23:59:59.000001", "23:59:59.000001"),
    ("uuid", "0b1c3f2e-0000-4000-8000-00000000abcd", "0b1c3f2e-0000-4000-8000-00000000abcd"),
    ("mood", "happy", "happy"),
    ("positive", 3, "3"),
    ("interval", None, None),
]

# (type, value, words of the reason)
REFUSED: list[tuple[str, Any, str]] = [
    ("bigint", "12", "text is stored where the target takes integer"),
    ("bigint", 3.7, "a real number is stored"),
    ("bigint", 3.0, "a real number is stored"),
    ("bigint", "", "text is stored"),
    ("integer", 2**31, "the target takes -2147483648 to 2147483647"),
    ("numeric", "1,234.50", "not a decimal number"),
    ("numeric", "007", "not a decimal number"),
    ("numeric", "NaN", "not a decimal number"),
    ("numeric", "", "not a decimal number"),
    ("numeric", " 1", "not a decimal number"),
    ("numeric", "1e999999", "more digits than numeric holds"),
    ("numeric", "1e-20000", "more digits than numeric holds"),
    ("numeric(20,8)", 0.1234567891, "more than 8 decimals: it would be rounded"),
    ("numeric(20,8)", 1e15, "more than 12 digits before the point"),
    ("numeric(20,8)", INF, "infinity"),
    ("double precision", 2**53 + 1, "no exact double"),
    ("double precision", "1.5", "text is stored"),
    ("real", 0.1, "rounded to a 4-byte float"),
    ("real", 1e300, "rounded to a 4-byte float"),
    ("boolean", 2, "a boolean is 0 or 1"),
    ("boolean", "yes", "text is stored"),
    ("text", "ab\0cd", "NUL"),
    ("text", 5, "an integer is stored where the target takes text"),
    ("text", b"blob", "a blob is stored"),
    ("varchar(3)", "abcd", "4 characters; the target takes 3"),
    ("varchar(3)", "abc ", "4 characters; the target takes 3"),
    ("char(3)", "ab", "pads"),
    ("bytea", "text", "text is stored where the target takes blob"),
    ("json", "", "not valid JSON"),
    ("json", "{'a': True}", "not valid JSON"),
    ("json", '{"a": NaN}', "NaN is not JSON"),
    ("json", "[Infinity]", "Infinity is not JSON"),
    ("json", INF, "infinity is not JSON"),
    ("json", "[" * 200_000, "nested too deeply"),
    ("jsonb", '{"a": 1, "a": 2}', "a key occurs twice"),
    ("jsonb", '"\\u0000"', "escaped NUL"),
    ("jsonb", '["\\ud800"]', "half a surrogate pair"),
    ("timestamp", "now", "not written as"),
    ("timestamp", "infinity", "not written as"),
    ("timestamp", "03/04/2024", "not written as"),
    ("timestamp", "", "not written as"),
    ("timestamp", "2024-02-30 00:00:00", "no such day"),
    ("timestamp", "0000-00-00", "no such day"),
    ("timestamp", "2024-01-01 24:00:00", "not written as"),
    ("timestamp", "2024-01-01 10:00:60", "not written as"),
    ("timestamp", "2024-01-01 10:00:00.1234567", "7 digits of a second; the target keeps 6"),
    ("timestamp", "2024-01-01 10:00:00+02:00", "it has a time zone, which the target would ignore"),
    ("timestamp", "\uff12\uff10\uff12\uff14-01-01", "not written as"),
    ("timestamp", 1719521259, "an integer is stored"),
    ("timestamp(3)", "2025-06-27 20:47:39.1234", "4 digits of a second; the target keeps 3"),
    ("timestamptz", "2024-01-01 10:00:00", "no time zone, and zones are never guessed"),
    ("timestamptz", "0001-01-01 00:00:00+14:00", "out of range"),
    ("date", "2024-01-01 00:00:00", "not written as"),
    ("uuid", "0B1C3F2E-0000-4000-8000-00000000ABCD", "not a UUID in lower-case"),
    ("mood", "Happy", "not one of the target's labels"),
    ("interval", "1 day", "no exact rule yet for the target's type interval"),
]


def ident(value: Any) -> str:
    return f"{value!r}"[:40].encode("ascii", "replace").decode()


@pytest.fixture(scope="module")
def shared(postgres: PostgresServer) -> Iterator[ThrowawayDatabase]:
    """One database for many refusals: each makes its table anew."""
    with empty_database(postgres) as made:
        made.execute("CREATE TYPE mood AS ENUM ('happy', 'sad')")
        yield made


def table(database: ThrowawayDatabase, kind: str, columns: str = "") -> None:
    database.execute("DROP TABLE IF EXISTS t")
    database.execute(f"CREATE TABLE t (id bigint PRIMARY KEY, v {kind}{columns})")


@pytest.mark.parametrize("keyed", [True, False], ids=["key", "no-key"])
def test_kept_values_are_shown_by_postgres_as_they_were(
    database: ThrowawayDatabase, tmp_path: Path, *, keyed: bool
) -> None:
    """All in one file, each type a table; with and without a key, because the verification reads those differently."""
    database.execute("CREATE TYPE mood AS ENUM ('happy', 'sad')")
    database.execute("CREATE DOMAIN positive AS bigint CHECK (VALUE > 0)")
    kinds = sorted({kind for kind, _, _ in KEPT})
    expected: dict[str, list[str | None]] = {}
    statements, rows = [], {}
    for number, kind in enumerate(kinds):
        database.execute(f"CREATE TABLE t{number} (id bigint{' PRIMARY KEY' if keyed else ''}, v {kind})")
        statements.append(f"CREATE TABLE t{number} (id INTEGER PRIMARY KEY, v)")
        of_kind = [(value, shown) for other, value, shown in KEPT if other == kind]
        rows[f"t{number}"] = [(n, value) for n, (value, _) in enumerate(of_kind)] + [(1000, None)]
        expected[f"t{number}"] = [shown for _, shown in of_kind] + [None]
    source = sqlite_file(tmp_path / "s.db", *statements, rows=rows)
    report = run_copy(source, database)
    assert report.rows == len(KEPT) + len(kinds)
    connection = database.server.connect(database.name)
    with connection, connection.cursor() as cursor:
        cursor.execute("SET timezone = 'UTC'")
        for number, kind in enumerate(kinds):
            cast = "::varchar" if kind.startswith("char") else ""
            cursor.execute(f"SELECT v{cast}::text FROM t{number} ORDER BY id")
            assert [row[0] for row in cursor.fetchall()] == expected[f"t{number}"], kind
    connection.close()


@pytest.mark.parametrize(("kind", "value", "said"), REFUSED, ids=[f"{k}-{ident(v)}" for k, v, _ in REFUSED])
def test_what_would_be_refused_or_changed_is_named_before_anything_is_written(
    shared: ThrowawayDatabase, tmp_path: Path, kind: str, value: Any, said: str
) -> None:
    table(shared, kind)
    source = sqlite_file(
        tmp_path / "s.db",
        "CREATE TABLE t (id INTEGER PRIMARY KEY, v)",
        rows={"t": [(1, None), (4711, value), (4712, value), (4713, None)]},
    )
    with pytest.raises(FindingsError) as caught:
        run_copy(source, shared)
    assert caught.value.code == "COPY-020"
    assert "t.v, id=4711: " in caught.value.what
    assert said in caught.value.what
    assert "and 1 more rows" in caught.value.what
    assert "Nothing was changed" in caught.value.why
    assert len(caught.value.what) < 500
    [finding] = caught.value.as_dict()["findings"]
    assert (finding["table"], finding["column"], finding["rows"]) == ("t", "v", 2)
    assert shared.execute("SELECT count(*) FROM t") == [(0,)]


def test_text_that_is_not_utf8_is_named(database: ThrowawayDatabase, tmp_path: Path) -> None:
    table(database, "text")
    source = sqlite_file(
        tmp_path / "s.db",
        "CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT)",
        "INSERT INTO t VALUES (1, 'good'), (2, CAST(x'c328' AS TEXT)), (3, CAST(x'eda080' AS TEXT)), (4, 'good')",
    )
    with pytest.raises(FindingsError) as caught:
        run_copy(source, database)
    assert "t.v, id=2: '\\udcc3(': bytes that are not UTF-8 (and 1 more rows)" in caught.value.what


def test_null_where_the_target_wants_a_value(database: ThrowawayDatabase, tmp_path: Path) -> None:
    table(database, "text", " NOT NULL DEFAULT 'filled'")
    source = sqlite_file(
        tmp_path / "s.db", "CREATE TABLE t (id INTEGER PRIMARY KEY, v)", rows={"t": [(1, "x"), (2, None)]}
    )
    with pytest.raises(FindingsError) as caught:
        run_copy(source, database)
    assert "t.v, id=2: NULL: the target's column is NOT NULL" in caught.value.what


def test_null_stays_null_beside_a_default(database: ThrowawayDatabase, tmp_path: Path) -> None:
    table(database, "text", " DEFAULT 'filled', b boolean DEFAULT false, n numeric DEFAULT 0")
    source = sqlite_file(
        tmp_path / "s.db",
        "CREATE TABLE t (id INTEGER PRIMARY KEY, v, b, n)",
        rows={"t": [(1, None, None, None), (2, "", 0, 0)]},
    )
    run_copy(source, database)
    assert database.execute("SELECT * FROM t ORDER BY id") == [(1, None, None, None), (2, "", False, Decimal(0))]


def test_all_findings_are_listed(database: ThrowawayDatabase, tmp_path: Path) -> None:
    database.execute("CREATE TABLE t (id bigint PRIMARY KEY, a bigint, b boolean, c json)")
    source = sqlite_file(
        tmp_path / "s.db",
        "CREATE TABLE t (id INTEGER PRIMARY KEY, a, b, c)",
        rows={"t": [(n, "x", 5, "nan") for n in range(3000)]},
    )
    with pytest.raises(FindingsError) as caught:
        run_copy(source, database)
    assert [finding.count for finding in caught.value.findings] == [3000, 3000, 3000]
    assert "9,000 values" in caught.value.why


def test_a_huge_value_is_cut_in_the_message_and_copied_when_it_fits(
    database: ThrowawayDatabase, tmp_path: Path
) -> None:
    table(database, "varchar(10)")
    source = sqlite_file(
        tmp_path / "s.db", "CREATE TABLE t (id INTEGER PRIMARY KEY, v)", rows={"t": [(1, "x" * 5_000_000)]}
    )
    with pytest.raises(FindingsError) as caught:
        run_copy(source, database)
    assert len(caught.value.what) < 300
    database.execute("ALTER TABLE t ALTER v TYPE text")
    assert run_copy(source, database).rows == 1
    assert database.execute("SELECT length(v) FROM t") == [(5_000_000,)]


text_values = st.text(st.characters(codec="utf-8", exclude_characters="\0"))
json_texts = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8")),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(st.characters(codec="utf-8")), inner, max_size=3)
    ),
    max_leaves=6,
).flatmap(lambda value: st.sampled_from([json.dumps(value), json.dumps(value, ensure_ascii=False, indent=1)]))
moments = st.datetimes().map(lambda moment: moment.isoformat(sep=" "))
zoned = st.builds(
    lambda moment, zone: moment.isoformat(sep="T") + zone,
    st.datetimes().filter(lambda moment: 1 < moment.year < 9999),
    st.sampled_from(["Z", "+00:00", "-11:30", "+14:00", "+05"]),
)
doubles = (
    st.floats(allow_nan=False)
    | st.sampled_from(DOUBLES)
    | st.integers(0, 2**64 - 1)
    .map(lambda bits: struct.unpack(">d", bits.to_bytes(8))[0])
    .filter(lambda value: value == value)
)
rows_strategy = st.lists(
    st.tuples(
        st.none() | doubles,
        st.none() | doubles,
        st.none() | text_values,
        st.none() | st.binary(),
        st.none() | json_texts,
        st.none() | moments,
        st.none() | zoned,
        st.none() | st.integers(-(2**63), 2**63 - 1),
        st.none() | st.integers(0, 1),
    ),
    min_size=1,
    max_size=40,
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=rows_strategy)
def test_any_value_comes_back_as_it_was(
    database: ThrowawayDatabase, tmp_path: Path, rows: list[tuple[Any, ...]]
) -> None:
    database.execute("DROP TABLE IF EXISTS t")
    database.execute(
        "CREATE TABLE t (id bigint PRIMARY KEY, n numeric, f float8, s text, b bytea, j json, m timestamp, "
        "z timestamptz, i bigint, o bool)"
    )
    path = tmp_path / "s.db"
    path.unlink(missing_ok=True)
    sqlite_file(
        path,
        "CREATE TABLE t (id INTEGER PRIMARY KEY, n, f, s, b, j, m, z, i, o)",
        rows={"t": [(number, *row) for number, row in enumerate(rows)]},
    )
    assert run_copy(path, database).rows == len(rows)
    connection = psycopg2.connect(url_of(database))
    with connection, connection.cursor() as cursor:
        cursor.execute("SELECT n, f, s, b, j::text, m, z, i, o FROM t ORDER BY id")
        for row, there in zip(rows, cursor.fetchall(), strict=True):
            numeric, double, text, blob, document, moment, instant, integer, boolean = there
            assert numeric == (None if row[0] is None else Decimal(repr(row[0])))
            assert (None if double is None else struct.pack("d", double)) == (
                None if row[1] is None else struct.pack("d", row[1])
            )
            assert (text, integer, document) == (row[2], row[7], row[4])
            assert (None if blob is None else bytes(blob)) == row[3]
            assert boolean == (None if row[8] is None else bool(row[8]))
            for value, stored in ((moment, row[5]), (instant, row[6])):
                assert value == (None if stored is None else datetime.fromisoformat(stored))
    connection.close()
    database.execute("DROP SCHEMA switchyard CASCADE")
