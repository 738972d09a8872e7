"""The sentences at the top of a page: each says one thing, with its number, and whether it is as it should be."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

from dashboard import formats
from dashboard import server_verdicts as server
from dashboard.reading.database import DatabaseFacts, DatabaseState
from dashboard.reading.overview import COUNTED_POSITIONS, LeaseRow, Overview
from dashboard.reading.schema import SchemaState
from dashboard.thresholds import Thresholds
from dashboard.verdict import Verdict

KNOWN_STATUSES = frozenset({"OPEN", "CLOSED"})


def overview_verdicts(overview: Overview, *, heartbeat_warn_s: float) -> list[Verdict]:
    """Return the overview's sentences, the bot first.

    Args:
        overview: what was read.
        heartbeat_warn_s: age in seconds of the newest account record from which it is late.
    """
    found = [bot_verdict(overview, heartbeat_warn_s=heartbeat_warn_s)]
    found.append(_positions_verdict(overview))
    if schema := schema_verdict(overview.schema):
        found.append(schema)
    if other := _status_verdict(overview.position_statuses):
        found.append(other)
    return found


def of_then(verdicts: list[Verdict]) -> list[Verdict]:
    """Return the sentences for data that could not be read anew: nothing is fine now that only was fine then."""
    return [
        replace(
            verdict,
            level="info" if verdict.level == "ok" else verdict.level,
            sentence=f"When last read: {verdict.sentence[0].lower()}{verdict.sentence[1:]}",
        )
        for verdict in verdicts
    ]


def bot_verdict(overview: Overview, *, heartbeat_warn_s: float) -> Verdict:
    """Return whether the bot is there, and whether it still does something: a lease alone is not work."""
    lease = overview.lease
    if lease is None:
        return Verdict("info", "No bot has run on this database yet.", "Start one with make up, or trading-bot run.")
    if lease.left_s < 0:
        return Verdict(
            "fail",
            f"The bot is not running: its lease ended {formats.ago(-lease.left_s)}.",
            f"Last heartbeat {formats.ago(lease.age_s)}. See what it says with switchyard logs trading-bot.",
        )
    beat = f"last heartbeat {formats.ago(lease.age_s)}"
    session = next((session for session in overview.sessions if session.ours), None)
    late_s = overview.last_record_age_s
    if session is not None and overview.session == session and late_s is not None and late_s > heartbeat_warn_s:
        return Verdict(
            "warn",
            f"The bot holds its lease, but has recorded nothing for {formats.duration(late_s)}.",
            f"{beat.capitalize()}. See what it says with switchyard logs trading-bot.",
        )
    return Verdict("ok", f"The bot is running: {beat}.")


def schema_verdict(schema: SchemaState) -> Verdict | None:
    """Return a sentence if the schema is not the one this dashboard was made for."""
    if schema.problem is None:
        return None
    return Verdict("warn", schema.problem, schema.remedy)


def lease_sentence(lease: LeaseRow | None) -> Verdict:
    """Return who may write now."""
    if lease is None:
        return Verdict("info", "Nobody has ever held the writer's lease.")
    if lease.left_s < 0:
        return Verdict(
            "warn",
            f"Nobody holds the writer's lease: it ended {formats.ago(-lease.left_s)}.",
            f"Last held by {lease.holder}.",
        )
    return Verdict("ok", f"The writer's lease is held, for another {formats.duration(lease.left_s)}.")


def _positions_verdict(overview: Overview) -> Verdict:
    if not overview.open_count:
        return Verdict("ok", "No open positions.")
    pnl = [position.unrealized_pnl for position in overview.open_positions if position.unrealized_pnl is not None]
    unknown = overview.open_count - len(pnl)
    total = sum((value for value in pnl if value.is_finite()), Decimal(0))
    simulated = " on the simulated market" if any(position.simulated for position in overview.open_positions) else ""
    text = f"{formats.plural(overview.open_count, 'open position')}{simulated}, {formats.signed(total)} unrealised"
    return Verdict("ok", f"{text}{f' ({unknown} without a price)' if unknown else ''}.")


def _status_verdict(statuses: dict[str, int]) -> Verdict | None:
    """Say which positions are counted as neither open nor closed: the original system's words are kept as they were."""
    others = {status: n for status, n in sorted(statuses.items()) if status not in KNOWN_STATUSES}
    if not others:
        return None
    parts = " and ".join(
        f"{n:,}{' or more' if n >= COUNTED_POSITIONS else ''} with status {status}" for status, n in others.items()
    )
    total = sum(others.values())
    return Verdict(
        "info",
        f"{formats.plural(total, 'position')} of the copied history "
        f"{'is' if total == 1 else 'are'} not counted as open: {parts}.",
        "The file does not say whether they were ever closed, so nothing is guessed: they are kept as they were.",
    )


def database_verdicts(facts: DatabaseFacts, limits: Thresholds | None = None) -> list[Verdict]:
    """Return the sentences of the database page.

    Args:
        facts: what was read.
        limits: from where on it warns; the defaults if not given.
    """
    wanted = limits or Thresholds()
    found = [_identity_verdict(facts), *_connection_verdicts(facts, wanted)]
    if facts.info.dialect == "postgresql":
        found.append(_waiting_verdict(facts.state, wanted))
        found += server.verdicts(facts.state, wanted)
        found.append(_encryption_verdict(facts))
    schema = facts.state.schema
    found.append(schema_verdict(schema) or Verdict("ok", f"The schema is at head ({schema.head})."))
    if facts.state.lease.missing is None:
        found.append(lease_sentence(facts.state.lease.value))
    if facts.info.dialect == "postgresql":
        found.append(server.archive_verdict(facts.state))
    found.append(server.growth_verdict(facts.growth))
    return found


def _identity_verdict(facts: DatabaseFacts) -> Verdict:
    info = facts.info
    if info.dialect == "sqlite":
        return Verdict(
            "info",
            f"This is the SQLite file {info.database}, {formats.size(info.size_bytes)}.",
            "Postgres starts with make up.",
        )
    return Verdict(
        "ok", f"This is PostgreSQL {info.server_version}, database {info.database}, {formats.size(info.size_bytes)}."
    )


def _connection_verdicts(facts: DatabaseFacts, limits: Thresholds) -> list[Verdict]:
    stats = facts.connections
    if facts.info.dialect == "sqlite":
        return []
    if stats is None:
        return [Verdict("info", "Connections are not available.", facts.connections_missing or "")]
    full = [role for role in stats.roles if role.limit and role.used * 100 >= role.limit * limits.connections_percent]
    text = f"{stats.total} of {stats.max_connections} connections are in use"
    if stats.total * 100 >= stats.max_connections * limits.connections_percent:
        return [Verdict("fail", f"{text}.", "New sessions are refused when all are.")]
    if full:
        names = ", ".join(f"{role.role} ({role.used} of {role.limit})" for role in full)
        return [Verdict("warn", f"{text}; close to its own limit: {names}.")]
    return [Verdict("ok", f"{text}; every role is below its limit.")]


def _waiting_verdict(state: DatabaseState, limits: Thresholds) -> Verdict:
    if state.waits.value is None:
        return Verdict("info", f"Who waits for whom is not available: needs {state.waits.missing}.")
    if not state.waits.value:
        return Verdict("ok", "No session waits for a lock.")
    longest = max((wait.waited_s or 0.0 for wait in state.waits.value), default=0.0)
    n = len(state.waits.value)
    return Verdict(
        "warn" if longest < limits.lock_wait_s else "fail",
        f"{formats.plural(n, 'session')} {'waits' if n == 1 else 'wait'} for a lock, "
        f"the longest for {formats.duration(longest)}.",
        "See who waits for whom below.",
    )


def _encryption_verdict(facts: DatabaseFacts) -> Verdict:
    if facts.info.tls:
        return Verdict("ok", f"This connection is encrypted with {facts.info.tls}.")
    if facts.info.host in {"127.0.0.1", "::1", "localhost"} or (facts.info.host or "/").startswith("/"):
        return Verdict("info", "This connection is not encrypted: it does not leave this machine.")
    return Verdict(
        "warn", "This connection is not encrypted and crosses a network.", "Set sslmode=require in DATABASE_URL."
    )
