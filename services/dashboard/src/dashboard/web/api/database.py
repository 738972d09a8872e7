"""GET /api/v1/database."""

from __future__ import annotations

from typing import Any, Generic, Literal, Self, TypeVar

from dashboard.reading.database import DatabaseFacts, Part
from dashboard.reading.snapshots import Answer
from dashboard.web.api.answers import Age, Judged, Sentence, Told, judged
from dashboard.web.api.overview import Lease
from dashboard.web.api.trades import Copied
from dashboard.web.api.values import Instant, Model, Parameters
from dashboard.web.pages import Pages

T = TypeVar("T")


class DatabaseParameters(Parameters):
    """Nothing may be chosen."""


class Known(Model, Generic[T]):
    """A part that may be hidden."""

    value: T | None
    missing: str | None
    """What it needs, where it is not available: a privilege, or another kind of database."""


class Schema(Model):
    """The schema's revision, and the one that this dashboard was made for."""

    revision: str | None
    head: str
    problem: str | None


class Info(Model):
    """Which database this is."""

    dialect: Literal["postgresql", "sqlite"]
    host: str | None
    port: int | None
    database: str
    server_version: str
    system_identifier: str
    timeline_id: int | None
    size_bytes: int
    user: str | None
    tls: str | None


class RoleConnections(Model):
    """The connections of one role."""

    role: str
    used: int
    limit: int | None


class Connections(Model):
    """Connections against the server's limit."""

    roles: list[RoleConnections]
    total: int
    max_connections: int


class Pool(Model):
    """The dashboard's own connections."""

    size: int
    checked_in: int
    checked_out: int
    overflow: int


class Growth(Model):
    """How fast it grows."""

    seen_bytes: int | None
    seen_for_s: float | None
    expected_bytes_a_day: int | None
    rows_a_day: dict[str, int]


class Table(Model):
    """A table."""

    name: str
    rows: int | None
    estimated: bool
    """True: the planner's estimate, not a count."""
    size_bytes: int | None
    index_bytes: int | None
    dead_rows: int | None
    dead_percent: float | None
    bloat_bytes: int | None
    bloat_percent: float | None
    vacuumed_at: Instant | None
    analyzed_at: Instant | None


class Wait(Model):
    """A session that waits for a lock."""

    pid: int
    role: str | None
    waits_for: str
    waited_s: float | None
    blocked_by: list[str]


class Lock(Model):
    """Locks of one kind that a role holds."""

    role: str
    mode: str
    held: int
    waiting: int


class Query(Model):
    """A statement, without its constants. Times in milliseconds."""

    query: str
    role: str
    calls: int
    mean_ms: float
    max_ms: float
    total_ms: float
    rows: int
    share_percent: float
    slow: bool


class Queries(Model):
    """The slow statements first, then those that took most time in all."""

    rows: list[Query]
    since: Instant | None


class LongSession(Model):
    """A session whose statement or open transaction lasts."""

    pid: int
    role: str
    application: str
    state: str
    age_s: float
    query: str


class Counters(Model):
    """What the server has counted."""

    cache_hit_percent: float | None
    reads: int
    deadlocks: int
    temp_bytes: int
    rolled_back: int
    checksum_failures: int | None
    transaction_ids_percent: float
    since: Instant | None


class Archive(Model):
    """The server's log archive."""

    archived: int
    last_at: Instant | None
    failed: int
    last_failed_at: Instant | None
    failing: bool


class Database(Model):
    """The state of the database itself."""

    now: Instant
    info: Info
    db_schema: Schema
    connections: Known[Connections]
    pool: Pool
    growth: Growth
    lease: Known[Lease]
    """A value of null with nothing missing: nobody ever held it."""
    tables: Known[list[Table]]
    waits: Known[list[Wait]]
    locks: Known[list[Lock]]
    queries: Known[Queries]
    long_sessions: Known[list[LongSession]]
    counters: Known[Counters]
    archive: Known[Archive]
    last_copy: Known[Copied]

    @classmethod
    def of_facts(cls, facts: DatabaseFacts) -> Self:
        """Return what was read."""
        state = facts.state
        connections = None
        if facts.connections is not None:
            roles = [RoleConnections.of(role) for role in facts.connections.roles]
            connections = Connections.of(facts.connections, roles=roles)
        queries = None
        if state.queries.value is not None:
            queries = Queries.of(state.queries.value, rows=[Query.of(row) for row in state.queries.value.rows])
        return cls(
            now=state.now,
            info=Info.of(facts.info),
            db_schema=Schema.of(state.schema),
            connections=Known[Connections](value=connections, missing=facts.connections_missing),
            pool=Pool.of(facts.pool),
            growth=Growth.of(facts.growth),
            lease=_one(Lease, state.lease),
            tables=_list(Table, state.tables),
            waits=_list(Wait, state.waits),
            locks=_list(Lock, state.locks),
            queries=Known[Queries](value=queries, missing=state.queries.missing),
            long_sessions=_list(LongSession, state.long_sessions),
            counters=_one(Counters, state.counters),
            archive=_one(Archive, state.archive),
            last_copy=Known[Copied](value=Copied.of_run(state.copy.value), missing=state.copy.missing),
        )


M = TypeVar("M", bound=Model)


def _one(kind: type[M], part: Part[Any]) -> Known[M]:
    return Known[kind](value=None if part.value is None else kind.of(part.value), missing=part.missing)


def _list(kind: type[M], part: Part[Any]) -> Known[list[M]]:
    rows = None if part.value is None else [kind.of(row) for row in part.value]
    return Known[list[kind]](value=rows, missing=part.missing)


class DatabaseAnswer(Told):
    """The database."""

    data: Database
    verdicts: list[Sentence]


async def ask(pages: Pages, _given: DatabaseParameters) -> Answer[Any]:
    """Return what is known."""
    return judged(pages, await pages.ask_database())


def shape(answer: Answer[Any], seen: Judged[DatabaseFacts]) -> DatabaseAnswer:
    """Return it as the API says it."""
    return DatabaseAnswer(
        freshness=Age.of_answer(answer), data=Database.of_facts(seen.value),
        verdicts=Sentence.of_verdicts(seen.verdicts),
    )  # fmt: skip
