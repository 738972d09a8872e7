"""The Postgres side: the connection, and what its catalog says of the tables that a copy fills."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tradedb.errors import EXIT_CONFIG, EXIT_UNREACHABLE, SwitchyardError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from psycopg2.extensions import connection as Connection
    from sqlalchemy import URL

CONNECT_TIMEOUT_S = 10
LOCK_TIMEOUT_S = 10
OWNER_ROLE = "owner"  # owns every table of our own stack
_WRONG_LOGIN = ("password", "authentication", "no pg_hba.conf entry", "does not exist", "not permitted to log in")

# what the session must be like whatever the role's or the server's defaults are
_SESSION = {
    "statement_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
    "lock_timeout": f"{LOCK_TIMEOUT_S}s",
    "client_encoding": "UTF8",
    "DateStyle": "ISO, YMD",
    "TimeZone": "UTC",
    "bytea_output": "hex",
    "extra_float_digits": "1",
    "standard_conforming_strings": "on",
    "row_security": "off",
}


@dataclass(frozen=True)
class TargetColumn:
    """A column as the catalog describes it.

    Args:
        name: exact.
        type_name: the type's own name (int8, numeric, varchar); of a domain, the name of what is under it.
        type_text: the type as people write it: ``character varying(20)``.
        modifier: the type's modifier (length, precision), -1 for none.
        labels: of an enum; None for other types.
        required: NOT NULL, and nothing fills it when the source does not.
        not_null: NOT NULL.
        filled_by: what fills the column when the source has none: ``its default``, ``its identity``, ``NULL`` …
        generated: computed by the server, so never written.
        sequence: the sequence behind it (quoted), or None.
    """

    name: str
    type_name: str
    type_text: str
    modifier: int
    labels: frozenset[str] | None
    required: bool
    not_null: bool
    filled_by: str
    generated: bool
    sequence: str | None


@dataclass(frozen=True)
class ForeignKey:
    """Columns that must name a row of another table."""

    name: str
    columns: tuple[str, ...]
    parent_oid: int
    parent_columns: tuple[str, ...]
    deferrable: bool


@dataclass(frozen=True)
class UniqueKey:
    """Columns whose values must differ between rows; `nulls_differ`: rows with a NULL in them always do."""

    name: str
    columns: tuple[str, ...]
    primary: bool
    nulls_differ: bool


@dataclass(frozen=True)
class TargetTable:
    """A table that already exists in the target."""

    oid: int
    name: str
    qualified: str  # quoted, with its schema
    owner: str
    columns: tuple[TargetColumn, ...]
    foreign_keys: tuple[ForeignKey, ...]
    unique_keys: tuple[UniqueKey, ...]
    triggers: tuple[str, ...]

    @property
    def primary_key(self) -> tuple[str, ...]:
        """The columns of the primary key; () without one."""
        return next((key.columns for key in self.unique_keys if key.primary), ())


def resolve_url(text: str) -> URL:
    """Return the target's URL with TLS required wherever a network is crossed.

    Args:
        text: a URL, or ``env:NAME`` for the one in that environment variable (an argument shows in ``ps``).
    Raises: SwitchyardError: COPY-011, no such variable or not Postgres; CONFIG-009 … 011, not a usable URL.
    """
    from tradedb.urls import parse_database_url, with_tls_arguments

    variable = "--target-url"
    if text.startswith("env:"):
        variable = text[4:]
        if not (text := os.environ.get(variable, "")):
            raise SwitchyardError(
                "COPY-011",
                f"--target-url env:{variable}: there is no environment variable {variable}",
                why="The URL of the target is read from it. Nothing was changed.",
                fix=f"export {variable}=postgresql://user:password@host:5432/database",
                exit_code=EXIT_CONFIG,
            )
    url = parse_database_url(text, variable=variable)
    if url.get_backend_name() != "postgresql":
        raise SwitchyardError(
            "COPY-011",
            f"{variable} names a {url.get_backend_name()} database; the target of a copy is Postgres",
            why="A copy goes from a SQLite file into a PostgreSQL database. Nothing was changed.",
            fix="give the URL of the Postgres: --target-url postgresql://user:password@host:5432/database",
            exit_code=EXIT_CONFIG,
        )
    return with_tls_arguments(url, variable=variable)


def redacted(url: URL) -> str:
    """Return the URL for people: no password, no query."""
    return url.set(password=None, query={}, drivername="postgresql").render_as_string()


def connect(url: URL) -> Connection:
    """Return a connection in autocommit mode, its settings independent of the role's.

    Raises: SwitchyardError: COPY-010 unreachable (exit 69), COPY-012 login refused (exit 78).
    """
    import psycopg2
    from sqlalchemy.dialects.postgresql.psycopg2 import PGDialect_psycopg2

    _, arguments = PGDialect_psycopg2().create_connect_args(url)
    defaults: dict[str, Any] = {
        "connect_timeout": CONNECT_TIMEOUT_S,
        "application_name": "switchyard copy",
        "keepalives_idle": 10,
        "keepalives_interval": 5,
        "keepalives_count": 3,
    }
    try:
        connection = psycopg2.connect(**(defaults | arguments))
    except psycopg2.OperationalError as error:
        detail = " ".join(str(error).split())
        if any(word in detail for word in _WRONG_LOGIN):
            raise SwitchyardError(
                "COPY-012",
                f"{redacted(url)} refuses the login: {detail}",
                why="The server answers; user, password, database or its access rules do not fit. Nothing was changed.",
                fix="compare the URL with the one you were given (our own stack: switchyard db url --role migrator)",
                exit_code=EXIT_CONFIG,
            ) from None
        raise SwitchyardError(
            "COPY-010",
            f"{redacted(url)} cannot be reached: {detail}",
            why=f"No connection in {CONNECT_TIMEOUT_S} s. Nothing was changed.",
            fix="start the database (make up), or correct host and port in --target-url",
            exit_code=EXIT_UNREACHABLE,
        ) from None
    connection.autocommit = True
    with connection.cursor() as cursor:
        for name, value in _SESSION.items():
            cursor.execute("SELECT set_config(%s, %s, false)", (name, value))
        if connection.server_version >= 170_000:
            cursor.execute("SELECT set_config('transaction_timeout', '0', false)")
    return connection


def assume_owner(connection: Connection, tables: Sequence[TargetTable]) -> None:
    """Act as the role ``owner`` from here on where it owns these tables and this login may: as on our own stack."""
    if not any(table.owner == OWNER_ROLE for table in tables):
        return
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_has_role(%s, 'MEMBER')", (OWNER_ROLE,))
        [(member,)] = cursor.fetchall()
        if member:
            cursor.execute(f'SET ROLE "{OWNER_ROLE}"')


def read_tables(connection: Connection, names: Sequence[str]) -> dict[str, TargetTable]:
    """Return those of the named tables that exist and that this session sees without naming a schema."""
    with connection.cursor() as cursor:
        cursor.execute(_TABLES, (list(names),))
        found = cursor.fetchall()
        return {
            name: TargetTable(
                oid=oid,
                name=name,
                qualified=qualified,
                owner=owner,
                triggers=tuple(triggers),
                columns=_columns(cursor, oid),
                foreign_keys=_foreign_keys(cursor, oid),
                unique_keys=_unique_keys(cursor, oid),
            )
            for oid, name, qualified, owner, triggers in found
        }


def held_rows(connection: Connection, tables: Sequence[TargetTable]) -> dict[str, int]:
    """Return how many rows each of the tables holds, those with none left out."""
    counts: dict[str, int] = {}
    with connection.cursor() as cursor:
        for table in tables:
            cursor.execute(f"SELECT EXISTS (SELECT FROM {table.qualified})")  # noqa: S608
            [(there,)] = cursor.fetchall()
            if there:
                cursor.execute(f"SELECT count(*) FROM {table.qualified}")  # noqa: S608
                [(counts[table.name],)] = cursor.fetchall()
    return counts


_TABLES = """
SELECT c.oid::bigint, c.relname::text, format('%%I.%%I', n.nspname, c.relname), pg_get_userbyid(c.relowner)::text,
       ARRAY(SELECT t.tgname::text FROM pg_trigger t WHERE t.tgrelid = c.oid AND NOT t.tgisinternal
             AND t.tgenabled <> 'D' AND t.tgtype & 1 = 1 ORDER BY 1)
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relname = ANY(%s) AND c.relkind IN ('r', 'p') AND pg_table_is_visible(c.oid)
  AND n.nspname NOT IN ('pg_catalog', 'information_schema')
"""

_COLUMNS = """
WITH RECURSIVE under(attnum, oid, modifier, not_null) AS (
    SELECT attnum, atttypid, atttypmod, attnotnull FROM pg_attribute
    WHERE attrelid = %(oid)s AND attnum > 0 AND NOT attisdropped
    UNION ALL
    SELECT u.attnum, t.typbasetype, CASE WHEN t.typtypmod >= 0 THEN t.typtypmod ELSE u.modifier END,
           u.not_null OR t.typnotnull
    FROM under u JOIN pg_type t ON t.oid = u.oid WHERE t.typtype = 'd'
)
SELECT a.attname::text, t.typname::text, format_type(a.atttypid, a.atttypmod), u.modifier,
       CASE WHEN t.typtype = 'e' THEN ARRAY(SELECT enumlabel::text FROM pg_enum WHERE enumtypid = t.oid) END,
       u.not_null, a.attidentity::text, a.attgenerated::text,
       pg_get_expr(d.adbin, d.adrelid),
       (SELECT format('%%I.%%I', sn.nspname, s.relname)
        FROM pg_class s JOIN pg_namespace sn ON sn.oid = s.relnamespace
        WHERE s.relkind = 'S' AND (
              EXISTS (SELECT FROM pg_depend p WHERE p.classid = 'pg_class'::regclass AND p.objid = s.oid
                      AND p.refclassid = 'pg_class'::regclass AND p.refobjid = a.attrelid AND p.refobjsubid = a.attnum
                      AND p.deptype IN ('a', 'i'))
           OR EXISTS (SELECT FROM pg_depend p WHERE p.classid = 'pg_attrdef'::regclass AND p.objid = d.oid
                      AND p.refclassid = 'pg_class'::regclass AND p.refobjid = s.oid))
        LIMIT 1)
FROM under u
JOIN pg_attribute a ON a.attrelid = %(oid)s AND a.attnum = u.attnum
JOIN pg_type t ON t.oid = u.oid AND t.typtype <> 'd'
LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
ORDER BY a.attnum
"""

_FOREIGN_KEYS = """
SELECT conname::text,
       ARRAY(SELECT attname::text FROM unnest(conkey) WITH ORDINALITY k(n, i)
             JOIN pg_attribute ON attrelid = conrelid AND attnum = n ORDER BY i),
       confrelid::bigint,
       ARRAY(SELECT attname::text FROM unnest(confkey) WITH ORDINALITY k(n, i)
             JOIN pg_attribute ON attrelid = confrelid AND attnum = n ORDER BY i),
       condeferrable
FROM pg_constraint WHERE contype = 'f' AND conrelid = %s ORDER BY conname
"""

_UNIQUE_KEYS = """
SELECT c.relname::text,
       ARRAY(SELECT attname::text FROM unnest(i.indkey::int2[]) WITH ORDINALITY k(n, pos)
             JOIN pg_attribute ON attrelid = i.indrelid AND attnum = n WHERE pos <= i.indnkeyatts ORDER BY pos),
       i.indisprimary,
       NOT coalesce((to_jsonb(i) ->> 'indnullsnotdistinct')::boolean, false)
FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
WHERE i.indrelid = %s AND i.indisunique AND i.indpred IS NULL AND i.indexprs IS NULL ORDER BY c.relname
"""


def _columns(cursor: Any, oid: int) -> tuple[TargetColumn, ...]:
    cursor.execute(_COLUMNS, {"oid": oid})
    found = []
    for row in cursor.fetchall():
        name, type_name, type_text, modifier, labels, not_null, identity, generated, default, sequence = row
        filled_by = (
            "the server computes it" if generated
            else "its identity" if identity
            else f"its default {default}" if default is not None
            else "NULL"
        )  # fmt: skip
        found.append(
            TargetColumn(
                name=name,
                type_name=type_name,
                type_text=type_text,
                modifier=modifier,
                labels=frozenset(labels) if labels is not None else None,
                required=not_null and filled_by == "NULL",
                not_null=not_null,
                filled_by=filled_by,
                generated=bool(generated),
                sequence=sequence,
            )
        )
    return tuple(found)


def _foreign_keys(cursor: Any, oid: int) -> tuple[ForeignKey, ...]:
    cursor.execute(_FOREIGN_KEYS, (oid,))
    return tuple(
        ForeignKey(name, tuple(columns), parent, tuple(parent_columns), deferrable)
        for name, columns, parent, parent_columns, deferrable in cursor.fetchall()
    )


def _unique_keys(cursor: Any, oid: int) -> tuple[UniqueKey, ...]:
    cursor.execute(_UNIQUE_KEYS, (oid,))
    return tuple(UniqueKey(name, tuple(columns), primary, nulls) for name, columns, primary, nulls in cursor.fetchall())
