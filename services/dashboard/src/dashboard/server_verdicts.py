"""Sentences on the server behind the database: what is slow, what waits to be cleaned up, what is kept where."""

from __future__ import annotations

from dashboard import formats
from dashboard.reading.database import DatabaseState
from dashboard.reading.growth import Growth
from dashboard.thresholds import Thresholds
from dashboard.verdict import Verdict

FEW_ROWS = 10_000
"""Dead rows of a small table are no trouble."""
NEARLY_ALL_IDS_PERCENT = 90


def verdicts(state: DatabaseState, limits: Thresholds) -> list[Verdict]:
    """Return the sentences on queries, memory and tables; of what this role may not see, what it needs.

    Args:
        state: of a Postgres.
        limits: from where on they warn.
    """
    return [
        _long_session_verdict(state, limits),
        _slow_query_verdict(state, limits),
        *_counter_verdicts(state, limits),
        _table_verdict(state, limits),
    ]


def _long_session_verdict(state: DatabaseState, limits: Thresholds) -> Verdict:
    if (found := state.long_sessions.value) is None:
        return Verdict("info", f"Long-running queries are not available: needs {state.long_sessions.missing}.")
    if not found:
        return Verdict(
            "ok",
            f"No query has been running for {formats.duration(limits.long_query_s)}, "
            f"and no transaction has been idle for {formats.duration(limits.idle_transaction_s)}.",
        )
    one = found[0]
    doing = "has been running a query" if one.state == "active" else "has kept an idle transaction open"
    return Verdict(
        "warn",
        f"{formats.plural(len(found), 'session')} {'takes' if len(found) == 1 else 'take'} long: "
        f"{one.role} (pid {one.pid}) {doing} for {formats.duration(one.age_s)}.",
        f"It holds its locks until it ends. To end it: SELECT pg_terminate_backend({one.pid});",
    )


def _slow_query_verdict(state: DatabaseState, limits: Thresholds) -> Verdict:
    if (found := state.queries.value) is None:
        return Verdict("info", f"Slow queries are not available: needs {state.queries.missing}.")
    bound = f"{limits.slow_query_ms:g} ms"
    slow = [query for query in found.rows if query.slow]
    if not slow:
        return Verdict("ok", f"No statement with {limits.slow_query_calls:,} calls or more takes {bound} on average.")
    worst = max(slow, key=lambda query: query.mean_ms)
    return Verdict(
        "warn",
        f"{formats.plural(len(slow), 'statement')} {'takes' if len(slow) == 1 else 'take'} more than {bound} "
        f"on average, the slowest {worst.mean_ms:,.0f} ms over {formats.plural(worst.calls, 'call')}.",
        "They are listed below.",
    )


def _counter_verdicts(state: DatabaseState, limits: Thresholds) -> list[Verdict]:
    counters = state.counters.value
    if counters is None:
        return [Verdict("info", f"The server's counters are not available: needs {state.counters.missing}.")]
    found: list[Verdict] = []
    if counters.cache_hit_percent is None:
        found.append(Verdict("info", "Too little was read so far to say how much of it memory answers."))
    else:
        good = counters.cache_hit_percent >= limits.cache_hit_percent
        found.append(
            Verdict(
                "ok" if good else "warn",
                f"{formats.percent(counters.cache_hit_percent, 1)} of block reads were answered from memory.",
                "" if good else f"Below {limits.cache_hit_percent:g}% a larger shared_buffers or more memory may help.",
            )
        )
    if counters.checksum_failures:
        found.append(
            Verdict(
                "fail",
                f"{formats.plural(counters.checksum_failures, 'block')} failed the checksum: the storage is damaged.",
                "Take a backup of what can be read now, then move to other storage.",
            )
        )
    used = counters.transaction_ids_percent
    if used >= limits.transaction_ids_percent:
        found.append(
            Verdict(
                "fail" if used >= NEARLY_ALL_IDS_PERCENT else "warn",
                f"{formats.percent(used, 0)} of the transaction ids are used; at 100% the server stops writing.",
                "Something keeps vacuum from its work: an old open transaction, or autovacuum is off.",
            )
        )
    return found


def _table_verdict(state: DatabaseState, limits: Thresholds) -> Verdict:
    if (tables := state.tables.value) is None:
        return Verdict("info", f"Dead rows are not available: needs {state.tables.missing}.")
    many = [table for table in tables if table.dead_rows and table.dead_rows >= FEW_ROWS]
    dead = [table for table in many if (table.dead_percent or 0) >= limits.dead_rows_percent]
    if dead:
        worst = max(dead, key=lambda table: table.dead_rows or 0)
        return Verdict(
            "warn",
            f"{formats.percent(worst.dead_percent, 0)} of the rows of {worst.name} are dead "
            f"({formats.count(worst.dead_rows)}).",
            f"Autovacuum has not come round to it. By hand: VACUUM ANALYZE {worst.name};",
        )
    empty = [table for table in tables if (table.bloat_percent or 0) >= limits.bloat_percent]
    if empty:
        worst = max(empty, key=lambda table: table.bloat_bytes or 0)
        return Verdict(
            "warn",
            f"About {formats.percent(worst.bloat_percent, 0)} of {worst.name} is empty space "
            f"({formats.size(worst.bloat_bytes)}).",
            "New rows fill it. To give it back to the disk, which locks the table meanwhile: "
            f"VACUUM FULL {worst.name};",
        )
    return Verdict("ok", "No table holds many dead rows or much empty space.")


def archive_verdict(state: DatabaseState) -> Verdict:
    """Return what there is to restore from, as far as the server knows."""
    if state.archive.missing is not None:
        return Verdict("info", f"The state of the log archive is not available: needs {state.archive.missing}.")
    archive = state.archive.value
    if archive is None:
        return Verdict("info", "No backup is recorded here, and the server keeps no log archive.")
    if archive.failing:
        return Verdict(
            "fail",
            f"Archiving the log has failed {formats.plural(archive.failed, 'time')}, last at "
            f"{formats.utc(archive.last_failed_at)}.",
            "What is not archived cannot be restored, and fills the disk. The server's log says why.",
        )
    if archive.last_at is None:
        return Verdict("info", "The server archives its log; nothing was due yet.")
    return Verdict("ok", f"The log was last archived at {formats.utc(archive.last_at)}.")


def growth_verdict(growth: Growth) -> Verdict:
    """Return how fast the database grows, and from what that is known."""
    if growth.seen_bytes is not None and growth.seen_for_s is not None:
        way = "grew by" if growth.seen_bytes >= 0 else "shrank by"
        sentence = f"It {way} {formats.size(abs(growth.seen_bytes))} in the last {formats.duration(growth.seen_for_s)}."
    else:
        sentence = "How fast it grows is known when the dashboard has watched it for a quarter of an hour."
    if growth.expected_bytes_a_day is None:
        return Verdict("info", sentence)
    rows = " and ".join(f"{n:,} of {name}" for name, n in growth.rows_a_day.items())
    return Verdict(
        "info", sentence, f"The rows of the last 24 hours ({rows}) come to {formats.size(growth.expected_bytes_a_day)}."
    )
