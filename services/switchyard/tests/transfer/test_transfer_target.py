"""What the target may look like, and how it may answer."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg2
import pytest
from switchyard.output import Progress
from switchyard.transfer import CopyReport, copy, engine
from switchyard.transfer import target as targets
from switchyard.transfer.check import FindingsError
from switchyard.transfer.source import SourceDatabase
from tradedb.errors import SwitchyardError
from tradedb.testing import PostgresServer, ThrowawayDatabase, closed_port, throwaway_server
from transfer_harness import make_twin, run_copy, sqlite_file, url_of

T = "CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT)"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return sqlite_file(tmp_path / "s.db", T, rows={"t": [(1, "a"), (5, "b")]})


def refused(source: Path, database: ThrowawayDatabase, **how: Any) -> SwitchyardError:
    with pytest.raises(SwitchyardError) as caught:
        run_copy(source, database, **how)
    assert "othing" in caught.value.why
    return caught.value


# ---- what the tables look like


def test_a_table_that_is_missing_in_the_target(database: ThrowawayDatabase, source: Path) -> None:
    error = refused(source, database)
    assert error.code == "COPY-017"
    assert "table t (2 rows) is missing in the target" in error.what


def test_columns_that_do_not_fit(database: ThrowawayDatabase, source: Path) -> None:
    database.execute('CREATE TABLE t (id bigint PRIMARY KEY, "V" text, must text NOT NULL)')
    error = refused(source, database)
    assert error.code == "COPY-017"
    assert "column t.v is missing in the target (it has V, spelt differently)" in error.what
    assert "column t.must is NOT NULL without a default, and missing in the file" in error.what


def test_what_the_source_lacks_is_filled_and_said(database: ThrowawayDatabase, source: Path) -> None:
    database.execute(
        "CREATE TABLE t (id bigint PRIMARY KEY, v text, d text NOT NULL DEFAULT 'new', n text, "
        "number bigint GENERATED ALWAYS AS IDENTITY)"
    )
    report = run_copy(source, database)
    assert report.plan.tables[0].absent == {"d": "its default 'new'::text", "n": "NULL", "number": "its identity"}
    assert database.execute("SELECT d, n, number FROM t") == [("new", None, 1), ("new", None, 2)]
    assert database.execute("INSERT INTO t (id) VALUES (9) RETURNING number") == [(3,)]


def test_what_is_not_copied_is_said(database: ThrowawayDatabase, tmp_path: Path) -> None:
    source = sqlite_file(
        tmp_path / "s.db",
        T,
        "CREATE TABLE alembic_version (version_num TEXT)",
        "INSERT INTO alembic_version VALUES ('abc')",
        "CREATE TABLE empty_here (id INTEGER PRIMARY KEY AUTOINCREMENT)",
        "CREATE VIEW look AS SELECT * FROM t",
        "CREATE TRIGGER act AFTER INSERT ON t BEGIN SELECT 1; END",
    )
    database.execute("CREATE TABLE t (id bigint PRIMARY KEY, v text)")
    plan = run_copy(source, database).plan
    assert plan.skipped == {
        "alembic_version": "the target's migrations keep their own version",
        "empty_here": "missing in the target, and it holds no rows",
    }
    assert plan.notes == ("views are not copied, only rows: look", "triggers are not copied, only rows: act")


def test_a_file_without_tables(database: ThrowawayDatabase, tmp_path: Path) -> None:
    assert refused(sqlite_file(tmp_path / "s.db", "CREATE VIEW v AS SELECT 1"), database).code == "COPY-009"


def test_names_that_need_quotes(database: ThrowawayDatabase, tmp_path: Path) -> None:
    database.execute('CREATE TABLE "Odd ""Name""" ("order" bigint PRIMARY KEY, "Größe %s" text, "a""b" text)')
    source = sqlite_file(
        tmp_path / "s.db",
        'CREATE TABLE "Odd ""Name""" ("order" INTEGER PRIMARY KEY, "Größe %s" TEXT, "a""b" TEXT)',
        'INSERT INTO "Odd ""Name""" VALUES (1, \'x\', \'y\')',
    )
    assert run_copy(source, database).rows == 1
    assert database.execute('SELECT * FROM "Odd ""Name"""') == [(1, "x", "y")]


def test_tables_that_are_not_in_the_file_stay_untouched(database: ThrowawayDatabase, source: Path) -> None:
    database.execute("CREATE TABLE t (id bigint PRIMARY KEY, v text)")
    database.execute("CREATE TABLE other (id bigint); INSERT INTO other VALUES (1)")
    run_copy(source, database)
    assert database.execute("SELECT xmin::text, id FROM other")[0][1] == 1


def test_text_keys_composite_keys_and_tables_without_rowid(database: ThrowawayDatabase, tmp_path: Path) -> None:
    keys = ["b", "B", "a", "ä", "Z", "_", "", "é", "🚀", "a b"]
    database.execute("CREATE TABLE t (k text PRIMARY KEY, v bigint)")
    database.execute("CREATE TABLE pair (a text, b bigint, c text, PRIMARY KEY (a, b))")
    source = sqlite_file(
        tmp_path / "s.db",
        "CREATE TABLE t (k TEXT COLLATE NOCASE, v, PRIMARY KEY (k COLLATE BINARY)) WITHOUT ROWID",
        "CREATE TABLE pair (a TEXT, b INTEGER, c TEXT, PRIMARY KEY (a, b))",
        rows={"t": [(key, n) for n, key in enumerate(keys)], "pair": [(k, n, "x") for k in keys for n in range(200)]},
    )
    assert run_copy(source, database).rows == 201 * len(keys)


def test_computed_columns_are_not_written_but_compared(database: ThrowawayDatabase, tmp_path: Path) -> None:
    source = sqlite_file(tmp_path / "s.db", "CREATE TABLE t (a INTEGER PRIMARY KEY, b AS (a * 2))")
    db = sqlite3.connect(source)
    db.executemany("INSERT INTO t VALUES (?)", [(n,) for n in range(5)])
    db.commit()
    db.close()
    database.execute("CREATE TABLE t (a bigint PRIMARY KEY, b bigint GENERATED ALWAYS AS (a * 3) STORED)")
    assert refused(source, database).code == "COPY-023"
    database.execute("DROP TABLE t; CREATE TABLE t (a bigint PRIMARY KEY, b bigint GENERATED ALWAYS AS (a * 2) STORED)")
    assert run_copy(source, database).rows == 5


# ---- keys and order


def test_children_come_after_parents_whatever_the_names(database: ThrowawayDatabase, tmp_path: Path) -> None:
    database.execute("CREATE TABLE z (id bigint PRIMARY KEY, up bigint REFERENCES z)")
    database.execute("CREATE TABLE m (id bigint PRIMARY KEY, z bigint REFERENCES z)")
    database.execute("CREATE TABLE a (id bigint PRIMARY KEY, m bigint REFERENCES m)")
    source = sqlite_file(
        tmp_path / "s.db",
        "CREATE TABLE a (id INTEGER PRIMARY KEY, m)",
        "CREATE TABLE m (id INTEGER PRIMARY KEY, z)",
        "CREATE TABLE z (id INTEGER PRIMARY KEY, up)",
        rows={"z": [(1, 2), (2, None)], "m": [(1, 1)], "a": [(1, 1)]},
    )  # fmt: skip
    assert [table.name for table in run_copy(source, database).tables] == ["z", "m", "a"]


@pytest.mark.parametrize("deferrable", [True, False])
def test_keys_in_a_circle(database: ThrowawayDatabase, tmp_path: Path, *, deferrable: bool) -> None:
    database.execute("CREATE TABLE a (id bigint PRIMARY KEY, other bigint)")
    database.execute("CREATE TABLE b (id bigint PRIMARY KEY, other bigint REFERENCES a)")
    database.execute(
        f"ALTER TABLE a ADD CONSTRAINT k FOREIGN KEY (other) REFERENCES b {'DEFERRABLE' if deferrable else ''}"
    )
    tables = [f"CREATE TABLE {name} (id INTEGER PRIMARY KEY, other)" for name in "ab"]
    source = sqlite_file(tmp_path / "s.db", *tables, rows={"a": [(1, 1)], "b": [(1, 1)]})
    if deferrable:
        assert run_copy(source, database).rows == 2
    else:
        error = refused(source, database)
        assert error.code == "COPY-018"
        assert "a, b" in error.what


def test_orphans_and_duplicates_are_named_before_anything_is_written(
    database: ThrowawayDatabase, tmp_path: Path
) -> None:
    database.execute("CREATE TABLE p (id bigint PRIMARY KEY, code text UNIQUE NULLS NOT DISTINCT)")
    database.execute("CREATE TABLE c (id bigint PRIMARY KEY, p bigint REFERENCES p, n text UNIQUE)")
    source = sqlite_file(
        tmp_path / "s.db",
        "CREATE TABLE p (id INTEGER PRIMARY KEY, code)",
        "CREATE TABLE c (id INTEGER PRIMARY KEY, p, n COLLATE NOCASE)",
        rows={
            "p": [(1, None), (2, None), (3, "x")],
            "c": [(1, 1, "same"), (2, 99, "same"), (3, None, "SAME"), (4, 98, None), (5, 3, None)],
        },
    )
    with pytest.raises(FindingsError) as caught:
        run_copy(source, database)
    assert caught.value.code == "COPY-021"
    said = caught.value.what
    assert "p.code, 2 rows: None: the target's p_code_key wants each only once" in said
    assert "c.n, 2 rows: 'same': the target's c_n_key wants each only once" in said
    assert "c.p, id=2: 99: p has no such row (and 1 more rows)" in said
    assert database.execute("SELECT count(*) FROM p") == [(0,)]


def test_a_row_that_only_the_server_refuses_is_named(database: ThrowawayDatabase, tmp_path: Path) -> None:
    database.execute("CREATE TABLE t (id bigint PRIMARY KEY, v text, CHECK (v <> 'bad'))")
    rows = [(n * 2, "bad" if n == 1700 else "good") for n in range(2500)]
    source = sqlite_file(tmp_path / "s.db", T, rows={"t": rows})
    error = refused(source, database)
    assert error.code == "COPY-022"
    assert "a row of t, id=3400" in error.what
    assert "t_v_check" in error.what
    assert database.execute("SELECT count(*) FROM t") == [(0,)]


# ---- sequences


@pytest.mark.parametrize("kind", ["BY DEFAULT", "ALWAYS"])
def test_identity_columns_go_on_after_the_highest_key(database: ThrowawayDatabase, source: Path, kind: str) -> None:
    database.execute(f"CREATE TABLE t (id bigint PRIMARY KEY GENERATED {kind} AS IDENTITY, v text)")
    assert run_copy(source, database).tables[0].next_ids == {"id": 6}
    assert database.execute("INSERT INTO t (v) VALUES ('c') RETURNING id") == [(6,)]


def test_numbers_of_deleted_rows_do_not_come_back(database: ThrowawayDatabase, tmp_path: Path) -> None:
    database.execute("CREATE TABLE t (id bigserial PRIMARY KEY, v text)")
    source = sqlite_file(
        tmp_path / "s.db",
        "CREATE TABLE t (id INTEGER PRIMARY KEY AUTOINCREMENT, v TEXT)",
        "INSERT INTO t VALUES (1, 'a'), (900, 'b')",
        "DELETE FROM t WHERE id = 900",
    )
    run_copy(source, database)
    assert database.execute("INSERT INTO t (v) VALUES ('c') RETURNING id") == [(901,)]


@pytest.mark.parametrize("keys", [[], [-5], [0], [-5, 3]])
def test_sequences_of_few_and_odd_keys(database: ThrowawayDatabase, tmp_path: Path, keys: list[int]) -> None:
    database.execute("CREATE TABLE t (id bigint PRIMARY KEY GENERATED BY DEFAULT AS IDENTITY, v text)")
    source = sqlite_file(
        tmp_path / "s.db",
        T,
        "CREATE TABLE u (id INTEGER PRIMARY KEY)",
        rows={"t": [(k, "x") for k in keys]} if keys else {},
    )
    run_copy(source, database)
    assert database.execute("INSERT INTO t (v) VALUES ('c') RETURNING id") == [(max([0, *keys]) + 1,)]


def test_no_number_left(database: ThrowawayDatabase, tmp_path: Path) -> None:
    database.execute("CREATE TABLE t (id bigint PRIMARY KEY GENERATED BY DEFAULT AS IDENTITY, v text)")
    source = sqlite_file(tmp_path / "s.db", T, rows={"t": [(2**63 - 1, "x")]})
    error = refused(source, database)
    assert error.code == "COPY-028"
    assert "t.id has a key 9223372036854775807" in error.what
    assert database.execute("SELECT count(*) FROM t") == [(0,)]


# ---- how the server answers


def test_a_wrong_password(database: ThrowawayDatabase, source: Path) -> None:
    wrong = database.url().set(drivername="postgresql", password="s3cret-and-wrong")
    error = failure(source, wrong.render_as_string(hide_password=False))
    assert (error.code, error.exit_code) == ("COPY-012", 78)
    assert "password authentication failed" in error.what
    assert "s3cret" not in str(error.as_dict())


def test_a_database_that_is_not_there(database: ThrowawayDatabase, source: Path) -> None:
    error = failure(source, url_of(database).replace(database.name, "nowhere"))
    assert (error.code, error.exit_code) == ("COPY-012", 78)
    assert 'database "nowhere" does not exist' in error.what


def test_a_closed_port(source: Path) -> None:
    with closed_port() as port:
        error = failure(source, f"postgresql://u:s3cret@127.0.0.1:{port}/db")
    assert (error.code, error.exit_code) == ("COPY-010", 69)
    assert "s3cret" not in str(error.as_dict())
    assert "Nothing was changed" in error.why


def test_an_unknown_host(source: Path) -> None:
    error = failure(source, "postgresql://u:s3cret@no-such-host.invalid/db")
    assert (error.code, error.exit_code) == ("COPY-010", 69)


def test_a_url_that_is_no_postgres(source: Path) -> None:
    assert failure(source, "sqlite:///other.db").code == "COPY-011"
    assert failure(source, "env:NO_SUCH_VARIABLE_HERE").code == "COPY-011"


def failure(source: Path, url: str) -> SwitchyardError:
    with pytest.raises(SwitchyardError) as caught:
        copy({"bot": source}, url, report=Progress(quiet=True), confirm=lambda _plan, _target: True)
    return caught.value


def test_more_than_one_source(database: ThrowawayDatabase, source: Path) -> None:
    with pytest.raises(SwitchyardError) as caught:
        copy({"a": source, "b": source}, url_of(database), report=Progress(quiet=True), confirm=lambda _p, _t: True)
    assert (caught.value.code, caught.value.exit_code) == ("COPY-027", 2)


def test_a_role_that_may_not_write(stack_database: ThrowawayDatabase, tmp_path: Path) -> None:
    twin = make_twin(tmp_path / "twin.db")
    error = refused(twin, stack_database, role="dashboard")
    assert error.code == "COPY-013"
    assert "migrator" in error.fix


def test_the_timeouts_of_a_role_do_not_end_a_copy(database: ThrowawayDatabase, source: Path) -> None:
    database.execute("CREATE TABLE t (id bigint PRIMARY KEY, v text)")
    database.execute(
        "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(0.3); RETURN NEW; END $$"
    )
    database.execute("CREATE TRIGGER slow BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION slow()")
    for name in ("statement_timeout", "transaction_timeout", "idle_in_transaction_session_timeout"):
        database.execute(f"ALTER DATABASE {database.name} SET {name} = '200ms'")
    report = run_copy(source, database)
    assert report.rows == 2
    assert "t has triggers that run for every row: slow" in report.plan.notes


def test_a_table_that_a_writer_holds(
    database: ThrowawayDatabase, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(targets._SESSION, "lock_timeout", "300ms")
    database.execute("CREATE TABLE t (id bigint PRIMARY KEY, v text)")
    holder = psycopg2.connect(url_of(database))
    with holder.cursor() as cursor:
        cursor.execute("LOCK TABLE t IN ROW EXCLUSIVE MODE")
        error = refused(source, database)
    holder.close()
    assert error.code == "COPY-014"


def test_two_copies_at_once_copy_once(database: ThrowawayDatabase, source: Path) -> None:
    database.execute("CREATE TABLE t (id bigint PRIMARY KEY, v text)")
    done: list[CopyReport] = []
    threads = [threading.Thread(target=lambda: done.append(run_copy(source, database))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(report.status for report in done) == ["copied", "unchanged", "unchanged", "unchanged"]
    assert len({report.run_id for report in done}) == 1


def test_rows_that_came_while_the_question_was_open(database: ThrowawayDatabase, source: Path) -> None:
    database.execute("CREATE TABLE t (id bigint PRIMARY KEY, v text)")

    def answer(_plan: object, _target: str) -> bool:
        database.execute("INSERT INTO t VALUES (77, 'bot')")
        return True

    with pytest.raises(SwitchyardError) as caught:
        copy({"bot": source}, url_of(database), report=Progress(quiet=True), confirm=answer)
    assert caught.value.code == "COPY-015"
    assert database.execute("SELECT id FROM t") == [(77,)]


# ---- a connection that breaks


def break_commit(monkeypatch: pytest.MonkeyPatch, database: ThrowawayDatabase, *, before: bool) -> None:
    """End the session just before COMMIT is sent, or lose only its answer."""

    def commit(connection: Any) -> None:
        if before:
            pid = connection.info.backend_pid
            database.execute("SELECT pg_terminate_backend(%s, 5000)", (pid,))
        connection.commit()
        connection.close()
        raise psycopg2.OperationalError("server closed the connection unexpectedly")

    monkeypatch.setattr(engine, "_commit", commit)


def test_a_commit_whose_answer_is_lost_is_found_to_be_done(
    database: ThrowawayDatabase, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    database.execute("CREATE TABLE t (id bigint PRIMARY KEY, v text)")
    break_commit(monkeypatch, database, before=False)
    report = run_copy(source, database)
    assert report.status == "copied"
    assert "has committed" in report.notes[0]
    assert database.execute("SELECT count(*) FROM t") == [(2,)]


def test_a_commit_that_never_arrived_is_found_to_be_taken_back(
    database: ThrowawayDatabase, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    database.execute("CREATE TABLE t (id bigint PRIMARY KEY, v text)")
    with monkeypatch.context() as patch:
        break_commit(patch, database, before=True)
        error = refused(source, database)
    assert (error.code, error.exit_code) == ("COPY-024", 69)
    assert database.execute("SELECT count(*) FROM t") == [(0,)]
    assert run_copy(source, database).status == "copied"


@pytest.fixture
def own_server() -> Iterator[PostgresServer]:
    with throwaway_server() as server:
        yield server


def test_a_commit_after_which_the_server_is_gone_is_called_unknown(
    own_server: PostgresServer, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "OUTCOME_WAIT_S", 1.0)
    database = ThrowawayDatabase(own_server, "postgres")
    database.execute("CREATE TABLE t (id bigint PRIMARY KEY, v text)")

    def commit(connection: Any) -> None:
        own_server.stop("immediate")
        connection.commit()

    with monkeypatch.context() as patch:
        patch.setattr(engine, "_commit", commit)
        with pytest.raises(SwitchyardError) as caught:
            run_copy(source, database)
    assert (caught.value.code, caught.value.exit_code) == ("COPY-025", 69)
    assert "Either all rows are there, or none" in caught.value.why
    assert "run the same command again" in caught.value.fix
    own_server.start()
    assert run_copy(source, database).status == "copied"


def test_a_server_that_dies_during_the_writing_leaves_nothing(own_server: PostgresServer, tmp_path: Path) -> None:
    database = ThrowawayDatabase(own_server, "postgres")
    database.execute("CREATE TABLE t (id bigint PRIMARY KEY, v text)")
    source = sqlite_file(tmp_path / "big.db", T, rows={"t": [(n, "x" * 500) for n in range(40_000)]})

    def kill() -> None:
        until = time.monotonic() + 30
        query = "SELECT count(*) FROM pg_stat_progress_copy WHERE tuples_processed > 1000"
        while time.monotonic() < until and database.execute(query) == [(0,)]:
            time.sleep(0.005)
        own_server.kill()

    thread = threading.Thread(target=kill)
    thread.start()
    error = refused(source, database)
    thread.join()
    assert (error.code, error.exit_code) == ("COPY-024", 69)
    own_server.start()
    assert database.execute("SELECT count(*) FROM t") == [(0,)]
    assert run_copy(source, database).rows == 40_000


def test_a_reader_that_stops_in_the_middle_leaves_nothing_to_complain_of(tmp_path: Path) -> None:
    source = sqlite_file(tmp_path / "s.db", T, rows={"t": [(n, "x") for n in range(500)]})
    with SourceDatabase(source) as database:
        batches = database.batches(database.tables[0])
        assert len(next(batches)) == 100
    del batches  # a generator that would touch the closed file now fails this test run
