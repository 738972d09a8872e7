"""What a person reads when the database cannot be used: each cause has its code, its words and its exit code."""

from __future__ import annotations

import contextlib
import socket
import sqlite3
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg2
import pytest
from click.testing import CliRunner, Result
from sqlalchemy import exc as sa
from sqlalchemy import text
from tradedb.cli import main
from tradedb.errors import SwitchyardError
from tradedb.failures import DatabaseUnavailable, Place, explain
from tradedb.manager import DatabaseManager
from tradedb.retry import Phase
from tradedb.revisions import head_revision
from tradedb.testing import PostgresServer, ThrowawayDatabase, closed_port

MakeManager = Callable[..., DatabaseManager]


def failure(manager: DatabaseManager) -> SwitchyardError:
    with pytest.raises(SwitchyardError) as failed:
        manager.read(lambda c: c.execute(text("SELECT 1")), name="t", deadline_s=3)
    assert isinstance(failed.value, DatabaseUnavailable)
    assert failed.value.why.endswith("Nothing was changed.")
    return failed.value


def test_wrong_password(database: ThrowawayDatabase, make_manager: MakeManager) -> None:
    error = failure(make_manager(database.url("trading_bot").set(password="wr0ng-canary")))
    where = f"127.0.0.1:{database.server.port}/{database.name}"
    assert error.lines() == [
        f"error DB-003: {where} refused the password of trading_bot",
        "  the role has another password, or there is no such role. Nothing was changed.",
        "  Fix: correct DATABASE_URL, or set the role's password from .env: switchyard db roles",
    ]
    assert error.exit_code == 78


def test_no_such_role_reads_the_same(database: ThrowawayDatabase, make_manager: MakeManager) -> None:
    """The server does not tell them apart, so that nobody can search for role names."""
    assert failure(make_manager(database.url("trading_bot").set(username="nobody_here"))).code == "DB-003"


def test_unknown_host(make_manager: MakeManager) -> None:
    error = failure(make_manager("postgresql://bot:secret1@no-such-host.invalid/railway"))
    assert error.code == "DB-002"
    assert error.exit_code == 69
    assert error.what == "the host of no-such-host.invalid:5432/railway is unknown"
    assert "correct the host in DATABASE_URL" in error.fix


def test_closed_port(make_manager: MakeManager) -> None:
    with closed_port() as port:
        error = failure(make_manager(f"postgresql://bot:secret1@127.0.0.1:{port}/railway"))
    assert error.code == "DB-001"
    assert error.exit_code == 69
    assert error.what == f"nothing listens at 127.0.0.1:{port}/railway"
    assert error.fix == "start it (make up), or correct the port in DATABASE_URL"


def test_database_absent(postgres: PostgresServer, make_manager: MakeManager) -> None:
    error = failure(make_manager(postgres.url("no_such_database")))
    assert error.code == "DB-004"
    assert error.exit_code == 78
    assert error.what == f"127.0.0.1:{postgres.port}/no_such_database: there is no such database"


def test_server_refuses_tls(postgres: PostgresServer, make_manager: MakeManager) -> None:
    url = postgres.url().update_query_dict({"sslmode": "require"})
    error = failure(make_manager(url))
    assert error.code == "DB-005"
    assert error.exit_code == 78
    assert error.what == f"127.0.0.1:{postgres.port}/postgres refuses TLS"


def test_not_let_into_this_database(database: ThrowawayDatabase, make_manager: MakeManager) -> None:
    error = failure(make_manager(database.url("trading_bot").set(database="postgres")))
    assert error.code == "DB-017"
    assert error.exit_code == 78
    assert error.what == f"127.0.0.1:{database.server.port}/postgres does not let trading_bot in"


@pytest.fixture
def impostor() -> Iterator[int]:
    """A server that asks for the password in the clear, and keeps what it gets."""
    got: list[bytes] = []
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = listener.accept()
                client.recv(1024)
                client.sendall(b"R" + struct.pack("!ii", 8, 3))  # AuthenticationCleartextPassword
                got.append(client.recv(1024))
                client.close()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield listener.getsockname()[1]
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join(30)
    assert not any(got), "the password was given away"


def test_an_impostor_does_not_get_the_password(impostor: int, make_manager: MakeManager) -> None:
    error = failure(make_manager(f"postgresql://bot:canary-secret@127.0.0.1:{impostor}/railway?sslmode=disable"))
    assert error.code == "DB-018"
    assert error.exit_code == 78
    assert error.what == f"127.0.0.1:{impostor}/railway does not prove that it knows the password of bot"


def test_what_is_no_postgres_at_all(make_manager: MakeManager) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]

        def hang_up() -> None:
            with contextlib.suppress(OSError):
                while True:
                    listener.accept()[0].close()

        threading.Thread(target=hang_up, daemon=True).start()
        error = failure(make_manager(f"postgresql://bot:secret1@127.0.0.1:{port}/railway"))
        listener.shutdown(socket.SHUT_RDWR)
    assert error.code == "DB-009"
    assert error.exit_code == 69


@pytest.mark.parametrize(
    ("words", "code", "exit_code"),
    [
        ("FATAL:  the database system is starting up", "DB-013", 69),
        ("FATAL:  the database system is shutting down", "DB-013", 69),
        ("FATAL:  sorry, too many clients already", "DB-007", 69),
        ("FATAL:  remaining connection slots are reserved for roles with the SUPERUSER attribute", "DB-007", 69),
        ('FATAL:  role "owner" is not permitted to log in', "DB-017", 78),
        ('FATAL:  no pg_hba.conf entry for host "10.0.0.9"', "DB-017", 78),
        ("channel binding required but not supported by server's authentication request", "DB-018", 78),
        ("SSL error: certificate verify failed", "DB-021", 78),
        ('root certificate file "/x/root.crt" does not exist', "DB-021", 78),
        ("timeout expired", "DB-008", 69),
        ("No route to host", "DB-009", 69),
        ("ein unbekannter Fehler", "DB-020", 69),
    ],
)
def test_the_rest_of_what_connecting_can_say(words: str, code: str, exit_code: int) -> None:
    place = Place("db:5432/railway", "trading_bot", sqlite=False)
    error = explain(psycopg2.OperationalError(words), Phase.CONNECT, place, name="t", waited_s=1)
    assert error is not None
    assert (error.code, error.exit_code) == (code, exit_code)
    assert "db:5432/railway" in error.what


def test_messages_of_the_driver_are_redacted() -> None:
    place = Place("db:5432/railway", "trading_bot", sqlite=False)
    words = "odd failure at postgresql://bot:canary-secret@db/x"
    error = explain(psycopg2.OperationalError(words), Phase.CONNECT, place, name="t", waited_s=1)
    assert "canary-secret" not in str(error.lines())  # type: ignore[union-attr]


def test_a_full_disk_is_said() -> None:
    class DiskFull(psycopg2.OperationalError):
        pgcode = "53100"

    place = Place("db:5432/railway", "trading_bot", sqlite=False)
    wrapped = sa.OperationalError("INSERT", {}, DiskFull("could not extend file: No space left on device"))
    error = explain(wrapped, Phase.WORK, place, name="record", waited_s=1)
    assert error is not None
    assert error.code == "DB-019"
    assert error.what == "record: db:5432/railway is out of a resource: could not extend file: No space left on device"


# --- SQLite --------------------------------------------------------------------------------------------------------


def test_no_such_sqlite_file(tmp_path: Path, make_manager: MakeManager) -> None:
    error = failure(make_manager(f"sqlite:///{tmp_path}/absent.db"))
    assert error.code == "DB-023"
    assert error.exit_code == 78
    assert error.what == f"there is no SQLite file {tmp_path}/absent.db"
    assert error.fix == "tradedb migrate (makes the file and its tables)"
    assert list(tmp_path.iterdir()) == []  # asking did not make it


@pytest.mark.parametrize("file", ["x.db", "new/folder/x.db"])
def test_sqlite_folder_not_writable(tmp_path: Path, file: str) -> None:
    """As another user when we are root, who may write everywhere."""
    folder = tmp_path / "locked"
    folder.mkdir(mode=0o555)
    for parent in tmp_path.parents:
        if parent.is_relative_to("/tmp/pytest-of-root"):  # pytest's own folders are closed to others
            parent.chmod(0o711)
    tmp_path.chmod(0o711)
    script = (
        "import os, sys\n"
        "from tradedb.errors import SwitchyardError\n"
        "from tradedb import migrate\nfrom tradedb.migrate import upgrade\n"
        "migrate._revisions()\n"  # reads the package's files while it still may
        "if os.geteuid() == 0: os.setgid(65534); os.setuid(65534)\n"
        "try: upgrade(sys.argv[1])\n"
        "except SwitchyardError as error: print('\\n'.join(error.lines())); sys.exit(error.exit_code)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, f"sqlite:///{folder}/{file}"],
        cwd="/", capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 78, done.stderr
    assert done.stdout.startswith(f"error DB-015: {folder}/{file} cannot be opened for writing (unable to ")
    assert "Nothing was changed." in done.stdout
    assert "Fix: give this user write permission on the folder" in done.stdout
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("kind", ["SQLITE_CANTOPEN", "SQLITE_READONLY_DIRECTORY", "SQLITE_PERM"])
def test_sqlite_not_writable_in_words(tmp_path: Path, kind: str) -> None:
    file = tmp_path / "x.db"
    file.touch()
    cause = sqlite3.OperationalError("attempt to write a readonly database")
    cause.sqlite_errorname = kind
    error = explain(cause, Phase.WORK, Place(str(file), None, sqlite=True), name="t", waited_s=0)
    assert error is not None
    assert (error.code, error.exit_code) == ("DB-015", 78)
    assert error.what == f"{file} cannot be opened for writing (attempt to write a readonly database)"


def test_not_a_sqlite_file(tmp_path: Path, make_manager: MakeManager) -> None:
    file = tmp_path / "notes.txt"
    file.write_text("not a database, but long enough to be looked at " * 50)
    error = failure(make_manager(f"sqlite:///{file}"))
    assert error.code == "DB-022"
    assert error.exit_code == 78
    assert error.what == f"{file} is not a sound SQLite database (file is not a database)"


# --- on the command line -------------------------------------------------------------------------------------------


def run(monkeypatch: pytest.MonkeyPatch, url: str, *arguments: str) -> Result:
    monkeypatch.setenv("DATABASE_URL", url)
    return CliRunner().invoke(main, list(arguments))


@pytest.mark.parametrize("command", ["info", "migrate", "roles", "health"])
def test_every_command_ends_with_69_when_nothing_listens(monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    for variable in ("MIGRATOR", "TRADING_BOT", "DASHBOARD", "MONITOR", "BACKUP"):
        monkeypatch.setenv(f"{variable}_DB_PASSWORD", "a-long-password")
    with closed_port() as port:
        result = run(monkeypatch, f"postgresql://postgres:canary-secret@127.0.0.1:{port}/railway", command)
    assert result.exit_code == 69
    assert "DB-001" in result.stderr
    assert f"nothing listens at 127.0.0.1:{port}/railway" in result.stderr
    assert "canary-secret" not in result.output


def test_errors_are_json_with_json(monkeypatch: pytest.MonkeyPatch, database: ThrowawayDatabase) -> None:
    import json

    url = database.url("trading_bot").set(password="wrong-one", drivername="postgresql")
    result = run(monkeypatch, url.render_as_string(hide_password=False), "info", "--json")
    assert result.exit_code == 78
    found = json.loads(result.stdout)
    assert found["schema_version"] == 1
    assert found["error"]["code"] == "DB-003"
    assert found["error"]["exit_code"] == 78


def test_newer_schema_on_the_command_line(monkeypatch: pytest.MonkeyPatch, database: ThrowawayDatabase) -> None:
    database.execute("UPDATE alembic_version SET version_num = '0099'")
    result = run(monkeypatch, database.url_text("migrator"), "migrate")
    assert result.exit_code == 1
    assert result.stderr.startswith("error SCHEMA-002: the schema is newer than the code")
    assert run(monkeypatch, database.url_text("trading_bot"), "health").exit_code == 1


def test_older_schema_on_the_command_line(monkeypatch: pytest.MonkeyPatch, database: ThrowawayDatabase) -> None:
    database.execute("UPDATE alembic_version SET version_num = '0001'")
    result = run(monkeypatch, database.url_text("dashboard"), "health")
    assert result.exit_code == 1
    assert "SCHEMA-001" in result.stderr
    assert f"the database is at revision 0001, the code needs {head_revision()}" in result.stderr


def test_missing_privilege_on_the_command_line(monkeypatch: pytest.MonkeyPatch, empty: ThrowawayDatabase) -> None:
    from tradedb.roles import ensure_roles
    from tradedb.testing import ROLE_PASSWORDS

    ensure_roles(empty.url(), ROLE_PASSWORDS)
    for role in ("trading_bot", "dashboard"):
        result = run(monkeypatch, empty.url_text(role), "migrate")
        assert result.exit_code == 78
        assert "error SCHEMA-005: this user may not change the schema: migrate: " in result.stderr
        assert "Nothing was changed" in result.stderr
        assert "switchyard db url --role migrator" in result.stderr
