"""Which database the settings mean."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import NullPool, create_engine
from tradedb.config import DatabaseSettings, ResolvedUrl, load_settings, resolve_database_url
from tradedb.errors import SwitchyardError
from tradedb.testing import PostgresServer

pytestmark = pytest.mark.usefixtures("bare_environment")

HORROR = "p@ss:w/rd?#%zz"
PARTS = {
    "PGHOST": "postgres.railway.internal",
    "PGPORT": "6543",
    "PGUSER": "bot",
    "PGPASSWORD": HORROR,
    "PGDATABASE": "railway",
}
RAILWAY = {"RAILWAY_ENVIRONMENT": "production"}
TLS = {"sslmode": "require", "channel_binding": "require", "require_auth": "scram-sha-256"}


def resolve(monkeypatch: pytest.MonkeyPatch, **variables: str) -> ResolvedUrl:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    return resolve_database_url(load_settings(DatabaseSettings))


def error_of(monkeypatch: pytest.MonkeyPatch, **variables: str) -> SwitchyardError:
    with pytest.raises(SwitchyardError) as caught:
        resolve(monkeypatch, **variables)
    assert caught.value.exit_code == 78
    return caught.value


def test_database_url_wins_over_the_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    found = resolve(monkeypatch, DATABASE_URL="postgres://u:p@h:1/d", **PARTS)
    assert (found.url.host, found.url.password, found.dialect) == ("h", "p", "postgresql")
    assert found.origin == "DATABASE_URL from the environment of the process"
    assert dict(found.url.query) == TLS


def test_the_parts_are_put_together(monkeypatch: pytest.MonkeyPatch) -> None:
    found = resolve(monkeypatch, **PARTS)
    url = found.url
    assert (url.username, url.password, url.host, url.port, url.database) == (
        "bot",
        HORROR,
        "postgres.railway.internal",
        6543,
        "railway",
    )
    assert (dict(url.query), found.origin) == (TLS, "the PG* parts from the environment of the process")
    assert found.unpooled == url
    assert found.redacted.startswith("postgresql://bot:***@postgres.railway.internal:6543/railway?")


@given(st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1))
def test_any_password_as_a_part(password: str) -> None:
    made = DatabaseSettings.model_validate({"pghost": "h", "pguser": "u", "pgdatabase": "d", "pgpassword": password})
    assert resolve_database_url(made).url.password == password


def test_certificates_through_the_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    found = resolve(monkeypatch, PGSSLMODE="verify-full", PGSSLROOTCERT="/ca.pem", **PARTS)
    assert dict(found.url.query) == {"sslmode": "verify-full", "sslrootcert": "/ca.pem"}


def test_a_socket_needs_no_password(monkeypatch: pytest.MonkeyPatch) -> None:
    found = resolve(monkeypatch, PGHOST="/run/postgresql", PGUSER="bot", PGDATABASE="railway")
    assert (found.url.host, found.url.password) == ("/run/postgresql", None)


@pytest.mark.parametrize(
    ("given", "missing", "have"),
    [
        ({"PGHOST": "h"}, "PGUSER, PGPASSWORD, PGDATABASE", "PGHOST"),
        ({"PGHOST": "h", "PGUSER": "u", "PGDATABASE": "d"}, "PGPASSWORD", "PGHOST, PGUSER, PGDATABASE"),
        ({"PGUSER": "u", "PGPASSWORD": "hunter2secret"}, "PGHOST, PGDATABASE", "PGUSER, PGPASSWORD"),
    ],
)
def test_half_a_set_of_parts(given: dict[str, str], missing: str, have: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert error_of(monkeypatch, **given).lines() == [
        f"error CONFIG-012: {missing}: required together with {have}",
        "  half a set of PG* parts names no database, and DATABASE_URL is not set. Nothing was connected to.",
        f"  Fix: set {missing} as well, or DATABASE_URL alone, or unset every PG* part for SQLite",
    ]


def test_a_weak_sslmode_in_the_parts_is_refused_unless_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    error = error_of(monkeypatch, PGSSLMODE="prefer", **PARTS)
    assert error.what == "PGSSLMODE: sslmode=prefer to postgres.railway.internal, which is not this machine"
    assert error.code == "CONFIG-011"
    found = resolve(monkeypatch, DATABASE_ALLOW_PLAINTEXT="true")
    assert found.url.query["sslmode"] == "prefer"


def test_the_unpooled_url_is_carried(monkeypatch: pytest.MonkeyPatch) -> None:
    found = resolve(
        monkeypatch, DATABASE_URL="postgres://u:p@pooler/d", DATABASE_UNPOOLED_URL="postgres://u:p@direct/d"
    )
    assert (found.url.host, found.unpooled.host, dict(found.unpooled.query)) == ("pooler", "direct", TLS)
    error = error_of(monkeypatch, DATABASE_UNPOOLED_URL="direct/d")
    assert error.what.startswith("DATABASE_UNPOOLED_URL is no database URL")


# --- Railway -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("variable", ["RAILWAY_ENVIRONMENT", "RAILWAY_ENVIRONMENT_ID", "RAILWAY_PROJECT_ID"])
@pytest.mark.parametrize("url", [None, ""])
def test_on_railway_no_database_is_an_error(variable: str, url: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    given = {variable: "x"} if url is None else {variable: "x", "DATABASE_URL": url}
    assert error_of(monkeypatch, **given).lines() == [
        "error CONFIG-001: DATABASE_URL: required on Railway, and neither it nor PGHOST is set",
        "  a SQLite file here would be a second, short-lived database that no other service sees. Nothing was started.",
        "  Fix: in this service's variables on Railway, set the reference DATABASE_URL=${{Postgres.DATABASE_URL}}",
    ]


def test_on_railway_railway_database_url_is_not_database_url(monkeypatch: pytest.MonkeyPatch) -> None:
    error = error_of(monkeypatch, RAILWAY_DATABASE_URL="postgres://u:p@h/d", **RAILWAY)
    assert error.code == "CONFIG-001"
    found = resolve(monkeypatch, DATABASE_URL="postgres://u:p@right/d")
    assert found.url.host == "right"


def test_on_railway_the_parts_will_do(monkeypatch: pytest.MonkeyPatch) -> None:
    assert resolve(monkeypatch, **PARTS, **RAILWAY).url.host == "postgres.railway.internal"


def test_on_railway_a_sqlite_file_needs_a_volume(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/volume/x.db"
    error = error_of(monkeypatch, DATABASE_URL=url, **RAILWAY)
    assert error.lines() == [
        f"error CONFIG-014: DATABASE_URL: expected Postgres or a file on a volume, found the SQLite file "
        f"{tmp_path}/volume/x.db",
        "  on Railway a file outside a volume is gone with the next deployment. Nothing was opened.",
        "  Fix: set the reference DATABASE_URL=${{Postgres.DATABASE_URL}}, or attach a volume and put the file there",
    ]
    assert resolve(monkeypatch, RAILWAY_VOLUME_MOUNT_PATH=f"{tmp_path}/volume").dialect == "sqlite"


# --- SQLite ------------------------------------------------------------------------------------------------------


def test_elsewhere_no_database_is_a_sqlite_file(monkeypatch: pytest.MonkeyPatch, bare_environment: Path) -> None:
    found = resolve(monkeypatch)
    assert (found.dialect, found.url.database) == ("sqlite", str(bare_environment / "data/trading_bot.db"))
    assert found.origin == "no DATABASE_URL and no PG* parts, so the SQLite file data/trading_bot.db"
    assert list(bare_environment.iterdir()) == []  # asking makes nothing


def test_the_file_of_the_guide_where_it_exists(monkeypatch: pytest.MonkeyPatch, bare_environment: Path) -> None:
    file = bare_environment / "src/data/trading_bot.db"
    file.parent.mkdir(parents=True)
    assert resolve(monkeypatch).url.database == str(bare_environment / "data/trading_bot.db")
    file.touch()
    assert resolve(monkeypatch).url.database == str(file)


def test_a_sqlite_url(monkeypatch: pytest.MonkeyPatch) -> None:
    found = resolve(monkeypatch, DATABASE_URL="sqlite:///some/x.db")
    assert (found.dialect, found.url.database) == ("sqlite", "some/x.db")
    assert resolve(monkeypatch, DATABASE_URL="sqlite://").dialect == "sqlite"


@pytest.fixture
def unprivileged() -> Iterator[None]:
    """Act as an ordinary user: root may write anywhere."""
    if os.geteuid() == 0:
        os.seteuid(65534)
        yield
        os.seteuid(0)
    else:
        yield


def test_a_folder_that_cannot_be_written(
    monkeypatch: pytest.MonkeyPatch, bare_environment: Path, request: pytest.FixtureRequest
) -> None:
    for folder in (bare_environment, *bare_environment.parents[:3]):  # pytest's own folders are closed to others
        folder.chmod(0o755)
    bare_environment.chmod(0o555)
    request.getfixturevalue("unprivileged")
    assert error_of(monkeypatch).lines() == [
        f"error CONFIG-013: SQLite database {bare_environment}/data/trading_bot.db: "
        f"no permission to write in {bare_environment}",
        "  SQLite writes its journal beside the file, so it needs both. Nothing was opened or changed.",
        f"  Fix: ls -ld {bare_environment}  (then change its owner or mode, or set DATABASE_URL to another file or to "
        "Postgres)",
    ]


def test_a_working_directory_that_cannot_be_entered(
    monkeypatch: pytest.MonkeyPatch, bare_environment: Path, request: pytest.FixtureRequest
) -> None:
    """No .env can be seen there; what is set in the environment must still work."""
    bare_environment.chmod(0o000)
    request.getfixturevalue("unprivileged")
    assert resolve(monkeypatch, DATABASE_URL="postgres://u:p@h/d").url.host == "h"


def test_a_file_that_cannot_be_written(
    monkeypatch: pytest.MonkeyPatch, bare_environment: Path, request: pytest.FixtureRequest
) -> None:
    for folder in (bare_environment, *bare_environment.parents[:3]):
        folder.chmod(0o755)
    bare_environment.chmod(0o777)
    file = bare_environment / "x.db"
    file.touch(mode=0o444)
    request.getfixturevalue("unprivileged")
    error = error_of(monkeypatch, DATABASE_URL=f"sqlite:///{file}")
    assert error.what == f"SQLite database {file}: no permission to write {file}"


def test_a_folder_or_a_file_in_the_way(monkeypatch: pytest.MonkeyPatch, bare_environment: Path) -> None:
    Path("data").touch()
    assert error_of(monkeypatch).what.endswith(f"{bare_environment}/data is a file, not a folder")
    Path("data").unlink()
    Path("data/trading_bot.db").mkdir(parents=True)
    assert error_of(monkeypatch).what.endswith(f"{bare_environment}/data/trading_bot.db is a folder")


# --- a real server -----------------------------------------------------------------------------------------------


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(st.sampled_from("@:/?#[]%&=+;,!$'()*\\\"<>{}|^`~ -._aZ0é€"), min_size=1, max_size=30))
def test_a_server_accepts_the_password_however_it_was_given(postgres: PostgresServer, password: str) -> None:
    postgres.execute("DROP ROLE IF EXISTS odd")
    postgres.execute("CREATE ROLE odd LOGIN PASSWORD %s", (password,))
    parts = {"pghost": "127.0.0.1", "pgport": postgres.port, "pguser": "odd", "pgdatabase": "postgres"}
    raw = f"postgres://odd:{password}@127.0.0.1:{postgres.port}/postgres"
    encoded = postgres.url("postgres", "odd", password).render_as_string(hide_password=False)
    ways = [{"database_url": encoded}, {**parts, "pgpassword": password}]
    if "%" not in password:  # where it could be read as encoded
        ways.append({"database_url": raw})
    for way in ways:
        url = resolve_database_url(DatabaseSettings.model_validate(way)).url
        assert url.query["require_auth"] == "scram-sha-256"
        create_engine(url, poolclass=NullPool).connect().close()
