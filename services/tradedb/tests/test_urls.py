"""Database URLs: how people paste them, and what libpq is told in the end."""

from __future__ import annotations

import re
from urllib.parse import quote

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st
from psycopg2.extensions import parse_dsn
from sqlalchemy import URL, make_url
from tradedb.errors import SwitchyardError
from tradedb.urls import hosts_of, is_local, parse_database_url, redact_url, with_tls_arguments

HORROR = "p@ss:w/rd?#%zz"
# Everything a terminal or a settings page lets a person type or paste; NUL cannot be in an environment variable.
passwords = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=40)
special = st.text(st.sampled_from("@:/?#[]%&=+;,!$'()*\\\"<>{}|^`~ -._aZ09"), min_size=1, max_size=40)


def password_in(text: str) -> str:
    url = parse_database_url(text)
    assert (url.username, url.host, url.port, url.database) == ("bot", "db.example", 6543, "railway")
    assert url.drivername == "postgresql+psycopg2"
    return str(url.password)


@given(passwords | special)
@example(HORROR)
@example("%41")
def test_any_password_percent_encoded_is_read_as_libpq_reads_it(password: str) -> None:
    text = f"postgresql://bot:{quote(password, safe='')}@db.example:6543/railway?sslmode=require"
    assert password_in(text) == password == parse_dsn(text)["password"]


@given(passwords | special)
@example(HORROR)
@example("@")
@example("x@y@z")
@example("a@h/d?q")
@example("/")
@example("#")
@example("a b")
@example("@h:1/d?a=b")
@example("${{")
def test_any_password_pasted_raw_is_read_as_it_stands(password: str) -> None:
    assume(not re.search(r"%[0-9A-Fa-f]{2}", password))  # that is the encoded form of another password
    assert password_in(f"postgres://bot:{password}@db.example:6543/railway") == password


@given(special)
@example(HORROR)
def test_a_raw_password_and_arguments(password: str) -> None:
    assume(not re.search(r"%[0-9A-Fa-f]{2}", password))
    text = f"postgresql://bot:{password}@db.example:6543/railway?sslmode=require&application_name=me@home"
    url = parse_database_url(text)
    assert (url.password, url.query) == (password, {"sslmode": "require", "application_name": "me@home"})


@given(passwords | special)
def test_the_parsed_url_survives_being_written_and_read_again(password: str) -> None:
    url = URL.create("postgresql+psycopg2", "bot", password, "db.example", 6543, "railway", {"sslmode": "require"})
    assert parse_database_url(url.render_as_string(hide_password=False)) == url


@given(passwords)
def test_no_password_is_shown(password: str) -> None:
    assume(len(password) > 3 and password not in "postgresql://bot:***@db.example:6543/railway")
    url = URL.create("postgresql+psycopg2", "bot", password, "db.example", 6543, "railway")
    assert redact_url(url) == "postgresql://bot:***@db.example:6543/railway"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("postgres://u:p@h:1/d", ("u", "p", "h", 1, "d", {})),
        ("postgresql://u:p@h/d", ("u", "p", "h", None, "d", {})),
        ("postgresql+psycopg2://u:p@h/d", ("u", "p", "h", None, "d", {})),
        ("POSTGRES://u:p@h/d", ("u", "p", "h", None, "d", {})),
        ("  postgres://u:p@h/d\n", ("u", "p", "h", None, "d", {})),
        ("postgres://u@h/d", ("u", None, "h", None, "d", {})),
        ("postgres://u%40corp:p@h/d", ("u@corp", "p", "h", None, "d", {})),
        ("postgres://h", (None, None, "h", None, None, {})),
        ("postgres://u:p@[::1]:5433/d", ("u", "p", "::1", 5433, "d", {})),
        ("postgres://u:p@h/d%2Fe", ("u", "p", "h", None, "d/e", {})),
        ("postgres://u:p@h/d?options=-c%20x%3D1", ("u", "p", "h", None, "d", {"options": "-c x=1"})),
        ("postgres://u:p@h/d?options=a+b", ("u", "p", "h", None, "d", {"options": "a+b"})),  # as libpq, not as a form
        ("postgresql:///d?host=/run/pg", (None, None, None, None, "d", {"host": "/run/pg"})),
        ("postgres://u:p@a:1,b:2/d", ("u", "p", None, None, "d", {"host": ("a:1", "b:2")})),
        ("postgres://u:p@/d?host=a&host=b", ("u", "p", None, None, "d", {"host": ("a", "b")})),
        # strict is right although a raw reading exists
        ("postgres://u:p@h/d?application_name=x@y", ("u", "p", "h", None, "d", {"application_name": "x@y"})),
    ],
)
def test_forms_of_a_url(text: str, expected: tuple[object, ...]) -> None:
    url = parse_database_url(text)
    assert (url.username, url.password, url.host, url.port, url.database, dict(url.query)) == expected


@pytest.mark.parametrize(
    ("text", "database"),
    [
        ("sqlite:///data/x.db", "data/x.db"),
        ("sqlite:////var/x.db", "/var/x.db"),
        ("sqlite://", None),
        ("sqlite+pysqlite:///x.db", "x.db"),
    ],
)
def test_sqlite_urls(text: str, database: str | None) -> None:
    url = parse_database_url(text)
    assert (url.get_backend_name(), url.database) == ("sqlite", database)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "found no scheme"),
        ("hunter2secret", "found no scheme"),
        ("user:hunter2secret@h/d", "found no scheme"),
        (
            "mysql://u:hunter2secret@h/d",
            "expected postgres, postgresql, postgresql+psycopg2 or sqlite, found the scheme 'mysql'",
        ),
        ("postgresql+asyncpg://u:hunter2secret@h/d", "found the scheme 'postgresql+asyncpg'"),
        ("${{Postgres.DATABASE_URL}}", "it still holds a reference that nothing resolved"),
        ("postgres://u:hunter2secret@${{Postgres.HOST}}/d", "it still holds a reference that nothing resolved"),
        ("postgres://u:hunter2secret@", "expected a host after the @"),
        ("postgres://", "expected a host after the @"),
        ("postgres://u:hunter2secret@h:port/d", "expected host:port"),
        ("postgres://u:hunter2secret@h:99999/d", "expected host:port"),
        ("postgres://u:hunter2secret@h/d?schema=public", "each a connection parameter of libpq"),
        ("postgres://u:hunter2secret@h/d?sslmode=require&sslmode=disable", "expected sslmode once"),
        ("postgres://u:hunter2secret@h o s t/d", "expected host:port"),
        ("sqlite:/x.db", "found no scheme"),
    ],
)
def test_what_is_no_url_is_said_without_showing_it(text: str, problem: str) -> None:
    with pytest.raises(SwitchyardError) as caught:
        parse_database_url(text, variable="DATABASE_UNPOOLED_URL")
    said = "\n".join(caught.value.lines())
    assert problem in said
    assert (caught.value.code, caught.value.exit_code) == ("CONFIG-009", 78)
    assert "DATABASE_UNPOOLED_URL is no database URL" in said
    assert "Nothing was connected to." in said
    assert "Fix: set DATABASE_UNPOOLED_URL=postgresql://USER:PASSWORD@HOST:5432/DATABASE" in said
    assert "hunter2secret" not in said


@pytest.mark.parametrize(
    ("host", "local"),
    [
        ("localhost", True),
        ("LOCALHOST", True),
        ("127.0.0.1", True),
        ("127.8.9.1", True),
        ("::1", True),
        ("/run/postgresql", True),
        ("@abstract", True),
        ("postgres.railway.internal", False),
        ("10.0.0.1", False),
        ("0.0.0.0", False),
        ("localhost.example.com", False),
        ("127.0.0.1.example.com", False),
        ("", False),
    ],
)
def test_what_counts_as_this_machine(host: str, local: bool) -> None:
    assert is_local(host) is local


REMOTE = {"sslmode": "require", "channel_binding": "require", "require_auth": "scram-sha-256"}


@pytest.mark.parametrize(
    ("text", "added"),
    [
        ("postgres://u:p@postgres.railway.internal/d", REMOTE),
        ("postgres://u:p@h/d?sslmode=require", {"channel_binding": "require", "require_auth": "scram-sha-256"}),
        ("postgres://u:p@h/d?channel_binding=disable", {"sslmode": "require", "require_auth": "scram-sha-256"}),
        ("postgres://u:p@h/d?require_auth=md5", {"sslmode": "require", "channel_binding": "require"}),
        ("postgres://u:p@h/d?sslmode=verify-ca&sslrootcert=/ca.pem", {}),
        ("postgres://u:p@h/d?sslmode=verify-full&channel_binding=prefer", {}),
        ("postgres://u:p@localhost/d?hostaddr=10.0.0.1", REMOTE),
        ("postgres://u:p@127.0.0.1,10.0.0.1/d", REMOTE),
        ("postgres://u:p@127.0.0.1/d", {"require_auth": "scram-sha-256"}),
        ("postgres://u:p@127.0.0.1:1,localhost:2/d", {"require_auth": "scram-sha-256"}),
        ("postgres://u:p@[::1]/d?sslmode=disable", {"require_auth": "scram-sha-256"}),
        ("postgres:///d?host=/run/pg", {"require_auth": "scram-sha-256"}),
        ("postgres://u:p@localhost/d?require_auth=none", {}),
        ("sqlite:///x.db", {}),
    ],
)
def test_tls_arguments_that_are_added(text: str, added: dict[str, str]) -> None:
    url = parse_database_url(text)
    assert dict(with_tls_arguments(url).query) == {**url.query, **added}


@pytest.mark.parametrize("mode", ["disable", "allow", "prefer"])
def test_plaintext_across_a_network_is_refused_unless_allowed(mode: str) -> None:
    url = parse_database_url(f"postgres://u:hunter2secret@db.example/d?sslmode={mode}")
    with pytest.raises(SwitchyardError) as caught:
        with_tls_arguments(url)
    assert caught.value.exit_code == 78
    assert caught.value.lines() == [
        f"error CONFIG-011: DATABASE_URL: sslmode={mode} to db.example, which is not this machine",
        "  the password and every row could cross the network unencrypted. Nothing was connected to.",
        "  Fix: remove sslmode from DATABASE_URL (the default is require), or set DATABASE_ALLOW_PLAINTEXT=true",
    ]
    allowed = with_tls_arguments(url, allow_plaintext=True)
    assert allowed.query == {"sslmode": mode, "require_auth": "scram-sha-256"}  # no channel to bind without TLS


@pytest.mark.parametrize("host", ["db.example", "localhost"])
def test_an_unknown_sslmode_is_named(host: str) -> None:
    with pytest.raises(SwitchyardError, match=r"CONFIG-010: DATABASE_URL: sslmode is one of .*; found 'required'"):
        with_tls_arguments(parse_database_url(f"postgres://u:p@{host}/d?sslmode=required"))


def test_hosts_of_a_url_with_several() -> None:
    assert hosts_of(parse_database_url("postgres://u:p@a:1,b:2/d")) == ["a", "b"]
    assert hosts_of(parse_database_url("postgres://u:p@a/d?hostaddr=10.0.0.1,10.0.0.2")) == ["10.0.0.1", "10.0.0.2"]


def test_a_url_object_gets_the_driver_that_is_installed() -> None:
    assert parse_database_url(make_url("postgresql://u:p@h/d")).drivername == "postgresql+psycopg2"
    assert parse_database_url(make_url("sqlite:///x.db")).drivername == "sqlite"


def test_a_password_in_the_query_is_hidden_too() -> None:
    url = parse_database_url("postgres://u@h/d?password=hunter2secret&sslpassword=hunter3secret")
    assert "hunter" not in redact_url(url)
