"""Database URLs as people paste them, turned into what SQLAlchemy and libpq need.

A URL is read strictly first. When that finds no host, it is read as one whose password was pasted without
percent-encoding: then everything between the user and the last ``@`` that a host follows is the password.
"""

from __future__ import annotations

import ipaddress
import re
from urllib.parse import unquote

from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

from tradedb.errors import EXIT_CONFIG, SwitchyardError
from tradedb.redaction import HIDDEN, redact

POSTGRES_SCHEMES = ("postgres", "postgresql", "postgresql+psycopg2")
SQLITE_SCHEMES = ("sqlite", "sqlite+pysqlite")
SSL_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")  # weakest first
PLAINTEXT_MODES = ("disable", "allow", "prefer")  # libpq may or will talk without TLS

_BAD_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")
_HOST_AND_PORT = re.compile(r"(?P<host>\[[0-9A-Fa-f:.%]+\]|[A-Za-z0-9._-]+)(?::(?P<port>\d{1,5}))?")


class _NotStrictError(ValueError):
    """The text is no well-formed URL; the message says which part."""


def parse_database_url(text: str | URL, *, variable: str = "DATABASE_URL") -> URL:
    """Return the SQLAlchemy URL of a Postgres (driver psycopg2) or SQLite database.

    Args:
        text: a URL with one of the schemes above. The password may be percent-encoded or raw. Query parameters are
            those of libpq; several hosts may be given, separated by commas. A URL object is only given the driver.
        variable: where the text came from, for the error.

    Raises:
        SwitchyardError: CONFIG-009, when it is no such URL.
    """
    if isinstance(text, URL):
        return text.set(drivername="postgresql+psycopg2") if text.get_backend_name() == "postgresql" else text
    text = text.strip()
    scheme, separator, rest = text.partition("://")
    if not separator or scheme.lower() not in POSTGRES_SCHEMES + SQLITE_SCHEMES:
        found = f"the scheme {scheme!r}" if separator and scheme.replace("+", "").isalnum() else "no scheme"
        raise _invalid(variable, text, f"expected {', '.join(POSTGRES_SCHEMES)} or sqlite, found {found}")
    if scheme.lower() in SQLITE_SCHEMES:
        try:
            return make_url(text)
        except ArgumentError:
            raise _invalid(variable, text, "expected sqlite:///path/to/file.db") from None
    try:
        return _strict(rest)
    except _NotStrictError as problem:
        url = _with_raw_password(rest)
        if url is None:
            raise _invalid(variable, text, str(problem)) from None
        return url


def redact_url(url: URL | str) -> str:
    """Return the URL as a person may see it: the password is ``***``, also one in the query."""
    if isinstance(url, str):
        return redact(url)
    hidden = {key: HIDDEN for key in url.query if "password" in key}
    plain = url.set(drivername=url.get_backend_name())  # the driver is our business
    return plain.update_query_dict(hidden).render_as_string(hide_password=True)


def hosts_of(url: URL) -> list[str]:
    """Return the addresses that libpq will try: hostaddr when given, else the hosts; socket folders start with /."""
    for key in ("hostaddr", "host"):
        if key in url.query:
            values = url.query[key]
            found = ",".join((values,) if isinstance(values, str) else values)
            return [re.sub(r":\d+$", "", host) if key == "host" else host for host in found.split(",")]
    return (url.host or "").split(",")


def is_local(host: str) -> bool:
    """Return whether the traffic to this host stays on this machine: a socket, localhost or a loopback address."""
    if host.startswith(("/", "@")) or host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def with_tls_arguments(url: URL, *, allow_plaintext: bool = False, variable: str = "DATABASE_URL") -> URL:
    """Return the URL with the TLS and authentication arguments that it does not set itself.

    Across a network: ``sslmode=require channel_binding=require require_auth=scram-sha-256``, which works with a
    self-signed certificate and, unlike ``require`` alone, gives no password to an impostor. verify-ca and verify-full
    prove the server by its certificate and stay as they are. On this machine only require_auth is added; a server
    that trusts local users needs ``require_auth=none`` in the URL.

    Args:
        url: a Postgres URL; a SQLite URL is returned as it is.
        allow_plaintext: accept sslmode disable, allow and prefer to a host that is not this machine.
        variable: where the URL came from, for the error.

    Raises:
        SwitchyardError: CONFIG-010 for an unknown sslmode, CONFIG-011 for one that allows plaintext across a network.
    """
    if url.get_backend_name() != "postgresql":
        return url
    mode = str(url.query.get("sslmode", ""))
    if mode and mode not in SSL_MODES:
        raise SwitchyardError(
            "CONFIG-010",
            f"{variable}: sslmode is one of {', '.join(SSL_MODES)}; found {mode!r}",
            why="libpq knows no other mode. Nothing was connected to.",
            fix=f"correct sslmode in {variable}, or leave it out: the default across a network is require",
            exit_code=EXIT_CONFIG,
        )
    local = all(is_local(host) for host in hosts_of(url))
    if not local and mode in PLAINTEXT_MODES and not allow_plaintext:
        raise SwitchyardError(
            "CONFIG-011",
            f"{variable}: sslmode={mode} to {', '.join(hosts_of(url))}, which is not this machine",
            why="the password and every row could cross the network unencrypted. Nothing was connected to.",
            fix=f"remove sslmode from {variable} (the default is require), or set DATABASE_ALLOW_PLAINTEXT=true",
            exit_code=EXIT_CONFIG,
        )
    wanted: dict[str, str] = {}
    if local or mode in PLAINTEXT_MODES:
        wanted = {"require_auth": "scram-sha-256"}
    elif mode in ("", "require"):
        wanted = {"sslmode": "require", "channel_binding": "require", "require_auth": "scram-sha-256"}
    return url.update_query_dict({key: value for key, value in wanted.items() if key not in url.query})


def _strict(rest: str) -> URL:
    """Return the URL of ``user:password@host:port/database?key=value``, every part percent-encoded where needed."""
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
    if authority.count("@") > 1:
        raise _NotStrictError("expected one @ before the host")
    login, _, _ = authority.rpartition("@")
    if _BAD_PERCENT.search(login):
        raise _NotStrictError("expected two hexadecimal digits after each % of the password")
    user, _, password = login.partition(":")
    return _located(rest[len(login) + 1 if login or "@" in authority else 0 :], unquote(user), unquote(password))


def _with_raw_password(rest: str) -> URL | None:
    """Return the URL read with a raw password: the last @ that a host and a database follow ends it."""
    for at in reversed([match.start() for match in re.finditer("@", rest)]):
        user, colon, password = rest[:at].partition(":")
        try:
            url = _located(rest[at + 1 :], unquote(user), password)
        except _NotStrictError:
            continue
        if colon and url.database:
            return url
    return None


def _located(where: str, user: str, password: str) -> URL:
    """Return the URL of this login at ``host:port/database?key=value``."""
    if "#" in where:
        raise _NotStrictError("expected no # (write %23 in a password)")
    place, _, query = where.partition("?")
    authority, _, database = place.partition("/")
    if re.search(r"[/@:]", database) or _BAD_PERCENT.search(database):
        raise _NotStrictError("expected host:port/database, found more than one part behind the host")
    arguments = _query(query)
    hosts = [_HOST_AND_PORT.fullmatch(host) for host in authority.split(",")] if authority else []
    if not hosts and "host" not in arguments:
        raise _NotStrictError("expected a host after the @ (for a socket: ?host=/its/folder)")
    host = port = None
    for found in hosts:
        if found is None or not 0 < int(found["port"] or 5432) < 65536:
            raise _NotStrictError("expected host:port, the port a number up to 65535")
        host, port = found["host"].strip("[]"), int(found["port"]) if found["port"] else None
    if len(hosts) > 1:
        arguments["host"] = tuple(authority.split(","))
        host = port = None
    return URL.create(
        "postgresql+psycopg2", user or None, password or None, host, port, unquote(database) or None, arguments
    )


def _query(text: str) -> dict[str, str | tuple[str, ...]]:
    """Return the libpq arguments of a query, percent-decoded; ``host`` may repeat."""
    arguments: dict[str, str | tuple[str, ...]] = {}
    for pair in text.split("&") if text else []:
        key, equals, value = pair.partition("=")
        if not equals or _BAD_PERCENT.search(value) or not _is_libpq_argument(key):
            raise _NotStrictError("expected key=value pairs behind the ?, each a connection parameter of libpq")
        before = arguments.get(key, ())
        if before and key != "host":
            raise _NotStrictError(f"expected {key} once behind the ?")
        before = (before,) if isinstance(before, str) else before
        arguments[key] = (*before, unquote(value)) if before else unquote(value)
    return arguments


def _is_libpq_argument(key: str) -> bool:
    """Return whether the libpq in use knows this connection parameter."""
    from psycopg2 import ProgrammingError
    from psycopg2.extensions import parse_dsn

    try:
        parse_dsn(f"{key}=x")
    except ProgrammingError:
        return False
    return key.isidentifier()


def _invalid(variable: str, text: str, problem: str) -> SwitchyardError:
    """Return the error for a URL that cannot be used."""
    if "${{" in text:
        problem = "it still holds a reference that nothing resolved"
    return SwitchyardError(
        "CONFIG-009",
        f"{variable} is no database URL: {problem}",
        why=f"Found {len(text)} characters, not shown because they may hold a password. Nothing was connected to.",
        fix=f"set {variable}=postgresql://USER:PASSWORD@HOST:5432/DATABASE",
        exit_code=EXIT_CONFIG,
    )
