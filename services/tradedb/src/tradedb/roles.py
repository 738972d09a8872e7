"""The database's roles: who may do what. A table of roles, one of grants, and a run that makes the server so.

Everything is compared with the catalogs first, so a second run changes nothing, and whatever was granted by hand to
these roles or to PUBLIC is taken back. Order does not matter: roles before migrations, or after.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from psycopg2.extensions import encrypt_password
from sqlalchemy import URL, Connection, text

from tradedb.errors import EXIT_CONFIG, SwitchyardError
from tradedb.manager import DatabaseManager
from tradedb.redaction import register_secret
from tradedb.rollups import TABLES as ROLLUPS

OWNER = "owner"
TOOLS_SCHEMA = "switchyard"  # the operator's tools keep their ledgers here
PUBLIC = "PUBLIC"


@dataclass(frozen=True)
class Role:
    """One role as it should be.

    Args:
        name: as it is in the server, and in URLs.
        login: whether it may log in.
        connection_limit: -1 is none. A service's is its pool twice (two deploys overlap), and four for tools.
        settings: what ALTER ROLE … SET gives every session; here, because PgBouncer refuses ``options=``.
        member_of: roles whose rights it has (inherits), or may take on (SET ROLE): "inherit" or "set".
    """

    name: str
    login: bool = True
    connection_limit: int = -1
    settings: Mapping[str, str] = field(default_factory=dict)
    member_of: Mapping[str, str] = field(default_factory=dict)

    @property
    def inherit(self) -> bool:
        """Return whether the role has its memberships' rights without SET ROLE."""
        return "set" not in self.member_of.values()

    @property
    def password_variable(self) -> str:
        """Return the variable in .env that holds its password."""
        return f"{self.name.upper()}_DB_PASSWORD"


# tcp_user_timeout: a bot cut off from the network must not hold its locks for minutes (Linux servers only)
# temp_file_limit: one sort must not fill the disk and stop the database; of these settings it is the one that a role
# cannot lift by itself
ROLES: tuple[Role, ...] = (
    Role(OWNER, login=False, settings={"TimeZone": "UTC"}),
    Role(
        "migrator",
        connection_limit=8,
        settings={"TimeZone": "UTC", "idle_in_transaction_session_timeout": "60s"},
        member_of={OWNER: "set"},
    ),
    Role(
        "trading_bot",
        connection_limit=16,
        settings={
            "TimeZone": "UTC",
            "statement_timeout": "10s",
            "lock_timeout": "2s",
            "idle_in_transaction_session_timeout": "10s",
            "tcp_user_timeout": "8s",
            "temp_file_limit": "1GB",
        },
    ),
    Role(
        "dashboard",
        connection_limit=16,
        settings={
            "TimeZone": "UTC",
            "default_transaction_read_only": "on",
            "statement_timeout": "5s",
            "lock_timeout": "2s",
            "idle_in_transaction_session_timeout": "10s",
            "tcp_user_timeout": "8s",
            "jit": "off",  # compiling a question of a page takes longer than its answer
            "temp_file_limit": "1GB",
        },
        # its database page shows who is connected, what waits, and which queries are slow
        member_of={"pg_read_all_stats": "inherit"},
    ),
    Role(
        "monitor",
        connection_limit=4,
        settings={
            "TimeZone": "UTC",
            "default_transaction_read_only": "on",
            "statement_timeout": "5s",
            "temp_file_limit": "1GB",
        },
        member_of={"pg_monitor": "inherit"},
    ),
    Role(
        "backup",
        connection_limit=4,
        settings={"TimeZone": "UTC", "default_transaction_read_only": "on"},
        member_of={"pg_read_all_data": "inherit"},
    ),
)
NAMES = tuple(role.name for role in ROLES)
LOGIN_ROLES = tuple(role for role in ROLES if role.login)

_LEDGER = {"trading_bot": ("SELECT", "INSERT"), "dashboard": ("SELECT",)}


def _ledger(*updatable: str) -> dict[str, tuple[str, ...]]:
    """Return the grants of a table that the bot appends to, and of which it may update these columns only."""
    return {**_LEDGER, "trading_bot": ("SELECT", "INSERT", *(f"UPDATE ({column})" for column in updatable))}


TABLE_GRANTS: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "trading_sessions": _ledger(
        "end_time",
        "is_active",
        "final_balance",
        "total_pnl",
        "total_trades",
        "win_rate",
        "max_drawdown",
        "strategy_config",
        "timeframe",
        "updated_at",
    ),
    # an entry is filled in parts, so what a position holds, and at which mean price, changes; the fills do not
    "positions": _ledger(
        "status",
        "entry_price",
        "size",
        "quantity",
        "stop_loss",
        "take_profit",
        "trailing_stop",
        "last_update",
        "current_price",
        "unrealized_pnl",
        "unrealized_pnl_percent",
        "updated_at",
    ),
    "trades": _LEDGER,
    "account_history": _LEDGER,
    "performance_metrics": _LEDGER,
    "system_events": _LEDGER,
    "strategy_executions": _LEDGER,
    "fills": _LEDGER,
    "order_intents": _ledger("status", "updated_at"),
    "venue_orders": _ledger("venue_order_id", "filled_quantity", "status", "accepted_at", "updated_at"),
    "ledger_entries": _LEDGER,
    "quarantined_facts": _LEDGER,
    # SELECT … FOR SHARE of the lease needs the right to update a column of it, which taking it over needs anyway
    "bot_lease": _ledger("holder", "epoch", "acquired_at", "renewed_at", "expires_at"),
    **{table: {"dashboard": ("SELECT",)} for table in ROLLUPS},  # triggers write these, as the owner
    "alembic_version": dict.fromkeys(("migrator", "trading_bot", "dashboard", "monitor"), ("SELECT",)),
}
OTHER_TABLES: Mapping[str, tuple[str, ...]] = {"trading_bot": ("SELECT",), "dashboard": ("SELECT",)}
"""What a table in ``public`` gets that is not listed above."""
TOOLS_TABLES: Mapping[str, tuple[str, ...]] = {"dashboard": ("SELECT",), "monitor": ("SELECT",)}

DATABASE_GRANTS: Mapping[str, tuple[str, ...]] = {
    OWNER: ("CREATE", "TEMPORARY"),
    **{role.name: ("CONNECT",) for role in LOGIN_ROLES},
}
SCHEMA_GRANTS: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "public": dict.fromkeys(("migrator", "trading_bot", "dashboard", "monitor", "backup"), ("USAGE",)),
    TOOLS_SCHEMA: dict.fromkeys(("dashboard", "monitor", "backup"), ("USAGE",)),
}
# Large objects and WAL messages are data that table grants do not cover; without this the read-only dashboard could
# write gigabytes.
_WRITERS = (
    "pg_logical_emit_message(boolean,text,text,boolean)",
    "pg_logical_emit_message(boolean,text,bytea,boolean)",
    "lo_creat(integer)",
    "lo_create(oid)",
    "lo_from_bytea(oid,bytea)",
    "lo_put(oid,bigint,bytea)",
    "lo_unlink(oid)",
    "lo_open(oid,integer)",
    "lowrite(integer,bytea)",
    "lo_truncate(integer,integer)",
    "lo_truncate64(integer,bigint)",
)
_IDENTITY_READERS = ("pg_control_system()", "pg_control_checkpoint()")  # which server is this: DatabaseManager asks

_PRIVILEGES_LOCK = 7_303_021_991  # one run at a time; any number that nobody else uses


def passwords_from(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the roles' passwords by role, from the variables named in .env (TRADING_BOT_DB_PASSWORD, …)."""
    return {
        role.name: environment[role.password_variable]
        for role in LOGIN_ROLES
        if environment.get(role.password_variable)
    }


def ensure_roles(conn_url: URL | str, passwords: Mapping[str, str]) -> list[str]:
    """Make roles, passwords, ownership and grants in this database what this module says; return what was changed.

    All or nothing: one transaction. A second run returns an empty list.

    Args:
        conn_url: of the database, as a superuser.
        passwords: by role name ("trading_bot": …). A role that is not named keeps the password it has.

    Raises: SwitchyardError: ROLE-001 a password is missing, ROLE-002 not a superuser, ROLE-003 a password cannot be
        used, ROLE-004 the URL is a SQLite file; DatabaseUnavailable.
    """
    for role, password in passwords.items():
        register_secret(password)
        _require_usable(role, password)
    manager = DatabaseManager(conn_url, service="switchyard-roles")
    try:
        if manager.dialect == "sqlite":
            raise SwitchyardError(
                "ROLE-004",
                f"{manager.url_redacted} is a SQLite file, which has no roles",
                why="whoever may read the file may read everything in it. Nothing was changed.",
                fix="point DATABASE_URL at the Postgres server (make up starts one)",
                exit_code=EXIT_CONFIG,
            )
        manager.wait()
        return manager.transaction(
            lambda connection: _Run(connection, passwords).everything(), name="roles", deadline_s=60, idempotent=True
        )
    finally:
        manager.dispose()


def grant_tables(connection: Connection) -> list[str]:
    """Make the grants on every table of ours what this module says, as the tables' owner; return what was changed.

    Migrations call it, so that a table is never there without its grants.
    """
    run = _Run(connection, {})
    run.table_grants()
    return run.changes


def _require_usable(role: str, password: str) -> None:
    """Raise ROLE-003 for a password that Postgres would not take, or that anybody would guess."""
    if len(password) < 8 or "\0" in password:
        raise SwitchyardError(
            "ROLE-003",
            f"the password of {role} has fewer than 8 characters, or a NUL in it",
            why="such a password would be guessed or refused. Nothing was changed.",
            fix=f"write a longer one to {role.upper()}_DB_PASSWORD in .env (make env makes random ones)",
            exit_code=EXIT_CONFIG,
        )


Grant = tuple[str, str]  # (role or PUBLIC, privilege as GRANT writes it: "SELECT", "UPDATE (status)")


def _grants(table: Mapping[str, tuple[str, ...]]) -> set[Grant]:
    """Return the pairs of a grant table."""
    return {(role, privilege) for role, privileges in table.items() for privilege in privileges}


class _Run:
    """One comparison of the server with this module, in one transaction; ``changes`` is what it did."""

    def __init__(self, connection: Connection, passwords: Mapping[str, str]) -> None:
        self.connection = connection
        self.passwords = passwords
        self.changes: list[str] = []

    def everything(self) -> list[str]:
        """Make everything equal and return the changes."""
        self._prepare()
        for role in ROLES:
            self._role(role)
        for role in ROLES:
            self._memberships(role)
        self._database()
        self._schemas()
        self._ownership()
        self._extension()
        self.table_grants()
        self._functions()
        self._default_privileges()
        return self.changes

    def table_grants(self) -> None:
        """Make the grants on every table equal."""
        existing = {row.rolname for row in self._rows("SELECT rolname FROM pg_roles")}
        for row in self._rows(
            "SELECT c.oid, n.nspname AS schema, c.relname AS name FROM pg_class c JOIN pg_namespace n"
            " ON n.oid = c.relnamespace WHERE n.nspname IN ('public', :tools) AND c.relkind IN ('r', 'p', 'v', 'm')"
            " AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = c.oid AND d.deptype = 'e') ORDER BY 2, 3",
            tools=TOOLS_SCHEMA,
        ):
            wanted = TOOLS_TABLES if row.schema == TOOLS_SCHEMA else TABLE_GRANTS.get(row.name, OTHER_TABLES)
            actual = self._acl(
                "SELECT a.grantee, a.privilege_type FROM pg_class c,"
                " aclexplode(coalesce(c.relacl, acldefault('r', c.relowner))) a"
                " WHERE c.oid = :oid AND a.grantee <> c.relowner"
                " UNION ALL SELECT a.grantee, a.privilege_type || ' (' || t.attname || ')' FROM pg_class c"
                " JOIN pg_attribute t ON t.attrelid = c.oid AND t.attacl IS NOT NULL AND NOT t.attisdropped,"
                " aclexplode(t.attacl) a WHERE c.oid = :oid AND a.grantee <> c.relowner",
                oid=row.oid,
            )
            grants = {(role, privilege) for role, privilege in _grants(wanted) if role in existing}
            self._reconcile(f"TABLE {self._quote(row.schema)}.{self._quote(row.name)}", actual, grants)

    def _prepare(self) -> None:
        """Check that we may, take the lock, and keep password verifiers out of the log and of what others see of us."""
        user, superuser = self._rows("SELECT current_user, rolsuper FROM pg_roles WHERE rolname = current_user")[0]
        if not superuser:
            raise SwitchyardError(
                "ROLE-002",
                f"{user} is not a superuser of this server, so it cannot make roles",
                why="making roles and handing objects to their owner needs one. Nothing was changed.",
                fix="run it with the admin URL: DATABASE_URL=$(switchyard db url --role admin) tradedb roles",
                exit_code=EXIT_CONFIG,
            )
        self._execute(f"SELECT pg_advisory_xact_lock({_PRIVILEGES_LOCK})")
        self._execute(
            "SELECT set_config(name, value, true) FROM (VALUES ('log_statement', 'none'),"
            " ('log_min_duration_statement', '-1'), ('log_min_error_statement', 'panic'),"
            " ('pg_stat_statements.track', 'none'), ('track_activities', 'off'),"
            " ('search_path', 'pg_catalog')) AS v (name, value)"
            " WHERE EXISTS (SELECT FROM pg_settings s WHERE s.name = v.name)"
        )

    def _role(self, role: Role) -> None:
        """Make one role, its attributes, settings and password equal."""
        found = self._rows("SELECT * FROM pg_authid WHERE rolname = :name", name=role.name)
        if not found:
            self._change(f"CREATE ROLE {role.name}")
            found = self._rows("SELECT * FROM pg_authid WHERE rolname = :name", name=role.name)
        row = found[0]
        wanted = {
            "rolsuper": ("SUPERUSER", False),
            "rolcreatedb": ("CREATEDB", False),
            "rolcreaterole": ("CREATEROLE", False),
            "rolreplication": ("REPLICATION", False),
            "rolbypassrls": ("BYPASSRLS", False),
            "rolcanlogin": ("LOGIN", role.login),
            "rolinherit": ("INHERIT", role.inherit),
        }
        different = [
            (word if value else f"NO{word}")
            for column, (word, value) in wanted.items()
            if getattr(row, column) != value
        ]
        if row.rolconnlimit != role.connection_limit:
            different.append(f"CONNECTION LIMIT {role.connection_limit}")
        if different:
            self._change(f"ALTER ROLE {role.name} {' '.join(different)}")
        self._settings(role, row.oid)
        if role.login:
            self._password(role, row.rolpassword)

    def _settings(self, role: Role, oid: int) -> None:
        """Make the role's session settings equal; settings of an operator's own are left."""
        rows = self._rows(
            "SELECT unnest(setconfig) AS pair FROM pg_db_role_setting WHERE setrole = :oid AND setdatabase = 0", oid=oid
        )
        actual = dict(row.pair.split("=", 1) for row in rows)
        linux = "linux" in self._rows("SELECT version() AS v")[0].v
        for name, value in role.settings.items():
            if name == "tcp_user_timeout" and not linux:
                continue
            if actual.get(name) != value:
                self._change(f"ALTER ROLE {role.name} SET {name} = '{value}'")
        # a role may set its own defaults, and those for one database go before the ones above
        for row in self._rows(
            "SELECT d.datname AS database, split_part(pair, '=', 1) AS name FROM pg_db_role_setting s"
            " JOIN pg_database d ON d.oid = s.setdatabase, unnest(s.setconfig) AS pair"
            " WHERE s.setrole = :oid ORDER BY 1, 2",
            oid=oid,
        ):
            if row.name in role.settings:
                self._change(f"ALTER ROLE {role.name} IN DATABASE {self._quote(row.database)} RESET {row.name}")

    def _password(self, role: Role, verifier: str | None) -> None:
        """Set the role's password if it is another one. Only its SCRAM verifier goes to the server."""
        password = self.passwords.get(role.name)
        if password is None:
            if verifier is None:
                raise SwitchyardError(
                    "ROLE-001",
                    f"{role.password_variable} is not set, and {role.name} has no password yet",
                    why="a role without a password cannot log in. Nothing was changed.",
                    fix=f"make env (writes .env with random passwords), or set {role.password_variable}",
                    exit_code=EXIT_CONFIG,
                )
            return
        if verifier is not None and scram_matches(verifier, password):
            return
        raw = self.connection.connection.dbapi_connection
        scram = encrypt_password(password, role.name, scope=raw, algorithm="scram-sha-256")  # type: ignore[arg-type]
        self._execute(f"ALTER ROLE {role.name} PASSWORD '{scram}'")
        self.changes.append(f"password of {role.name}")

    def _memberships(self, role: Role) -> None:
        """Make the role a member of what it should be, and of nothing else."""
        rows = self._rows(
            "SELECT g.rolname AS name, m.admin_option, m.inherit_option, m.set_option FROM pg_auth_members m"
            " JOIN pg_roles g ON g.oid = m.roleid JOIN pg_roles u ON u.oid = m.member WHERE u.rolname = :name",
            name=role.name,
        )
        actual = {row.name: (row.admin_option, row.inherit_option, row.set_option) for row in rows}
        for group, how in role.member_of.items():
            inherits = how == "inherit"
            if actual.get(group) != (False, inherits, True):
                options = f"ADMIN FALSE, INHERIT {str(inherits).upper()}, SET TRUE"
                self._change(f"GRANT {group} TO {role.name} WITH {options}")
        for group in sorted(actual.keys() - role.member_of.keys()):
            self._change(f"REVOKE {self._quote(group)} FROM {role.name}")

    def _database(self) -> None:
        """Let only our roles connect to this database, and nobody but superusers to the server's own two."""
        current = self._rows("SELECT current_database() AS name")[0].name
        for name in dict.fromkeys((current, "postgres", "template1")):
            actual = self._acl(
                "SELECT a.grantee, a.privilege_type FROM pg_database d,"
                " aclexplode(coalesce(d.datacl, acldefault('d', d.datdba))) a"
                " WHERE d.datname = :name AND a.grantee <> d.datdba",
                name=name,
            )
            wanted = _grants(DATABASE_GRANTS) if name == current else set[Grant]()
            self._reconcile(f"DATABASE {self._quote(name)}", actual, wanted)

    def _schemas(self) -> None:
        """Make both schemas, the owner's, with their grants."""
        for schema, grants in SCHEMA_GRANTS.items():
            rows = self._rows(
                "SELECT o.rolname AS owner FROM pg_namespace n JOIN pg_roles o ON o.oid = n.nspowner"
                " WHERE n.nspname = :name",
                name=schema,
            )
            if not rows:
                self._change(f"CREATE SCHEMA {schema} AUTHORIZATION {OWNER}")
            elif rows[0].owner != OWNER:
                self._change(f"ALTER SCHEMA {schema} OWNER TO {OWNER}")
            actual = self._acl(
                "SELECT a.grantee, a.privilege_type FROM pg_namespace n,"
                " aclexplode(coalesce(n.nspacl, acldefault('n', n.nspowner))) a"
                " WHERE n.nspname = :name AND a.grantee <> n.nspowner",
                name=schema,
            )
            self._reconcile(f"SCHEMA {schema}", actual, _grants(grants))

    def _ownership(self) -> None:
        """Hand tables, views and free sequences of both schemas to the owner, whoever made them."""
        for row in self._rows(
            "SELECT n.nspname AS schema, c.relname AS name, c.relkind AS kind FROM pg_class c"
            " JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_roles o ON o.oid = c.relowner"
            " WHERE n.nspname IN ('public', :tools) AND c.relkind IN ('r', 'p', 'v', 'm', 'S') AND o.rolname <> :owner"
            " AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = c.oid AND d.deptype IN ('e', 'i', 'a'))",
            tools=TOOLS_SCHEMA,
            owner=OWNER,
        ):
            kind = {"v": "VIEW", "m": "MATERIALIZED VIEW", "S": "SEQUENCE"}.get(row.kind, "TABLE")
            self._change(f"ALTER {kind} {self._quote(row.schema)}.{self._quote(row.name)} OWNER TO {OWNER}")
        # those of triggers run with their owner's rights: a superuser's would be the way to become one
        for row in self._rows(
            "SELECT p.oid::regprocedure::text AS signature FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace"
            " JOIN pg_roles o ON o.oid = p.proowner WHERE n.nspname IN ('public', :tools) AND o.rolname <> :owner"
            " AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = p.oid AND d.deptype = 'e')",
            tools=TOOLS_SCHEMA,
            owner=OWNER,
        ):
            self._change(f"ALTER ROUTINE {row.signature} OWNER TO {OWNER}")

    def _extension(self) -> None:
        """Create pg_stat_statements where the server has loaded it; Railway's image loads it and stops there."""
        rows = self._rows(
            "SELECT 1 FROM pg_available_extensions WHERE name = 'pg_stat_statements' AND installed_version IS NULL"
            " AND current_setting('shared_preload_libraries') LIKE '%' || name || '%'"
        )
        if rows:
            self._change("CREATE EXTENSION pg_stat_statements SCHEMA public")
        self._no_utility_statements()
        for row in self._rows(
            "SELECT c.relname AS name FROM pg_class c JOIN pg_depend d ON d.objid = c.oid AND d.deptype = 'e'"
            " JOIN pg_extension e ON e.oid = d.refobjid AND e.extname = 'pg_stat_statements' WHERE c.relkind = 'v'"
        ):
            actual = self._acl(
                "SELECT a.grantee, a.privilege_type FROM pg_class c,"
                " aclexplode(coalesce(c.relacl, acldefault('r', c.relowner))) a"
                " WHERE c.relname = :name AND c.relnamespace = 'public'::regnamespace AND a.grantee <> c.relowner",
                name=row.name,
            )
            readers = {("monitor", "SELECT"), ("dashboard", "SELECT")}
            self._reconcile(f"TABLE public.{self._quote(row.name)}", actual, readers)

    def _no_utility_statements(self) -> None:
        """Keep ALTER ROLE … PASSWORD out of the statistics, which readers of slow queries see."""
        loaded = self._rows(
            "SELECT current_database() AS name FROM pg_settings WHERE name = 'pg_stat_statements.track_utility'"
            " AND NOT EXISTS (SELECT FROM pg_db_role_setting s JOIN pg_database d ON d.oid = s.setdatabase"
            " WHERE d.datname = current_database() AND s.setrole = 0"
            " AND 'pg_stat_statements.track_utility=off' = ANY (s.setconfig))"
        )
        if loaded:
            name = self._quote(loaded[0].name)
            self._change(f"ALTER DATABASE {name} SET pg_stat_statements.track_utility = 'off'")

    def _functions(self) -> None:
        """Take what writes outside of tables from PUBLIC, and let every role ask which server this is."""
        everyone = {(role.name, "EXECUTE") for role in LOGIN_ROLES} | {(OWNER, "EXECUTE")}
        wanted: dict[str, set[Grant]] = {function: set() for function in _WRITERS}
        wanted |= dict.fromkeys(_IDENTITY_READERS, everyone)
        for function, grants in wanted.items():
            actual = self._acl(
                "SELECT a.grantee, a.privilege_type FROM pg_proc p,"
                " aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a"
                " WHERE p.oid = CAST(:name AS regprocedure) AND a.grantee <> p.proowner",
                name=f"pg_catalog.{function}",
            )
            self._reconcile(f"FUNCTION pg_catalog.{function}", actual, grants)

    def _default_privileges(self) -> None:
        """Give tables that the owner makes later, also outside migrations, their readers; and PUBLIC no functions."""
        for schema, grants in (("public", OTHER_TABLES), (TOOLS_SCHEMA, TOOLS_TABLES)):
            actual = self._acl(
                "SELECT a.grantee, a.privilege_type FROM pg_default_acl d, aclexplode(d.defaclacl) a"
                " WHERE d.defaclrole = CAST(:owner AS regrole) AND d.defaclobjtype = 'r'"
                " AND d.defaclnamespace = CAST(:schema AS regnamespace)",
                owner=OWNER,
                schema=schema,
            )
            self._reconcile(
                "TABLES",
                actual,
                _grants(grants),
                prefix=f"ALTER DEFAULT PRIVILEGES FOR ROLE {OWNER} IN SCHEMA {schema} ",
            )
        actual = self._acl(
            "SELECT a.grantee, a.privilege_type FROM aclexplode(coalesce((SELECT d.defaclacl FROM pg_default_acl d"
            " WHERE d.defaclrole = CAST(:owner AS regrole) AND d.defaclobjtype = 'f' AND d.defaclnamespace = 0),"
            " acldefault('f', CAST(:owner AS regrole)))) a",
            owner=OWNER,
        )
        actual.discard((OWNER, "EXECUTE"))
        self._reconcile("FUNCTIONS", actual, set(), prefix=f"ALTER DEFAULT PRIVILEGES FOR ROLE {OWNER} ")

    def _reconcile(self, what: str, actual: set[Grant], wanted: set[Grant], prefix: str = "") -> None:
        """Grant what is missing and revoke what is too much, among our roles and PUBLIC."""
        for role, privilege in sorted(actual - wanted):
            self._change(f"{prefix}REVOKE {privilege} ON {what} FROM {role}")
        for role, privilege in sorted(wanted - actual):
            self._change(f"{prefix}GRANT {privilege} ON {what} TO {role}")

    def _acl(self, sql: str, **parameters: Any) -> set[Grant]:
        """Return the grants that a query of (grantee oid, privilege) finds, of our roles and PUBLIC only."""
        names = {row.oid: row.rolname for row in self._rows("SELECT oid, rolname FROM pg_roles")} | {0: PUBLIC}
        rows = self.connection.execute(text(sql), parameters).all()
        found = {(names.get(grantee, ""), privilege) for grantee, privilege in rows}
        return {(role, privilege) for role, privilege in found if role == PUBLIC or role in NAMES}

    def _rows(self, sql: str, **parameters: Any) -> list[Any]:
        """Return the rows of a query of the catalogs."""
        return list(self.connection.execute(text(sql), parameters).all())

    def _quote(self, name: str) -> str:
        """Return an identifier as SQL writes it."""
        return self.connection.dialect.identifier_preparer.quote(name)

    def _execute(self, sql: str) -> None:
        """Run one statement."""
        self.connection.exec_driver_sql(sql)

    def _change(self, sql: str) -> None:
        """Run one statement that changes the server, and remember it."""
        self._execute(sql)
        self.changes.append(sql)


def scram_matches(verifier: str, password: str) -> bool:
    """Return whether Postgres' stored verifier is of this password.

    Source: https://www.postgresql.org/docs/18/catalog-pg-authid.html
        (SCRAM-SHA-256$<iterations>:<salt>$<StoredKey>:<ServerKey>)
    """
    try:
        scheme, parameters, keys = verifier.split("$")
        iterations, salt = parameters.split(":")
        stored, _ = keys.split(":")
    except ValueError:
        return False
    if scheme != "SCRAM-SHA-256":
        return False
    prepared = unicodedata.normalize("NFKC", password).encode()  # what SASLprep does to the passwords people choose
    salted = hashlib.pbkdf2_hmac("sha256", prepared, base64.b64decode(salt), int(iterations))
    client_key = hmac.digest(salted, b"Client Key", "sha256")
    return hmac.compare_digest(hashlib.sha256(client_key).digest(), base64.b64decode(stored))
