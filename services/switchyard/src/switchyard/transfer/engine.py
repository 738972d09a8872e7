"""One copy, from the file to the commit. All tables in one transaction: every row is there and verified, or none is."""

from __future__ import annotations

import contextlib
import time
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import psycopg2
import psycopg2.errors
from tradedb.errors import EXIT_UNREACHABLE, SwitchyardError

from switchyard.transfer import ledger
from switchyard.transfer.check import check_keys, check_values
from switchyard.transfer.plan import Plan, make_plan
from switchyard.transfer.report import CopyReport, TableReport
from switchyard.transfer.snapshot import Source, snapshot
from switchyard.transfer.source import SourceDatabase
from switchyard.transfer.source_option import require_one
from switchyard.transfer.target import (
    LOCK_TIMEOUT_S,
    assume_owner,
    connect,
    held_rows,
    read_tables,
    redacted,
    resolve_url,
)
from switchyard.transfer.verify import verify_sequences, verify_table
from switchyard.transfer.write import copy_table, set_sequences

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from psycopg2.extensions import connection as Connection
    from sqlalchemy import URL

    from switchyard.output import Progress, Step

OUTCOME_WAIT_S = 20.0  # how long we go on asking what became of a COMMIT that was not answered


class _Meter:
    """Counts rows for the step that is shown."""

    def __init__(self, step: Step, total: int) -> None:
        self._step, self._total, self._rows = step, total, 0

    def add(self, rows: int) -> None:
        """Count more rows and say how fast they come."""
        self._rows += rows
        rate = self._rows / max(self._step.elapsed_s, 1e-3)
        left_s = (self._total - self._rows) / max(rate, 1e-3)
        self._step.detail = f"{self._rows:,} of {self._total:,} rows, {rate:,.0f} rows/s, {left_s:.0f} s left"


@dataclass(frozen=True)
class _Job:
    """What stays the same during one run."""

    source: Source
    url: URL
    report: Progress
    started_at: datetime
    started: float

    def finished(self, status: str, plan: Plan, digest: str, **more: Any) -> CopyReport:
        """Return the report of this run."""
        return CopyReport(
            run_id=more.pop("run_id", None),
            status=status,
            source={"label": self.source.label, "file": self.source.path.name, "digest": digest},
            target=redacted(self.url),
            tables=more.pop("tables", ()),
            plan=plan,
            seconds=time.monotonic() - self.started,
            **more,
        )


def copy(
    sources: Mapping[str, Path],
    target_url: str,
    *,
    report: Progress,
    confirm: Callable[[Plan, str], bool],
    dry_run: bool = False,
) -> CopyReport:
    """Copy a SQLite file into the tables of the same names in Postgres, and return what was done.

    The target's tables must hold no rows. Repeating a finished copy changes nothing and says so, also when rows have
    come into the target since. Either everything is committed, each value read back and compared, or nothing changes.

    Args:
        sources: one label and its file; the file is only read and may be in use.
        target_url: of the Postgres, or ``env:NAME``.
        report: is told what is being done.
        confirm: is shown the plan and the redacted target; False ends the run with nothing changed.
        dry_run: check everything, write nothing.
    Raises: SwitchyardError: COPY-001 … COPY-028; nothing was changed, except COPY-025, which says how to find out.
    """
    require_one(len(sources))
    [(label, path)] = sources.items()
    job = _Job(Source(label, path), resolve_url(target_url), report, datetime.now(UTC), time.monotonic())
    with contextlib.ExitStack() as stack:
        with report.step(f"Snapshot of {path.name}") as step:
            file = stack.enter_context(snapshot(job.source, step))
            database = stack.enter_context(SourceDatabase(file))
        connection = stack.enter_context(contextlib.closing(connect(job.url)))
        with _server_errors(job):
            tables = read_tables(connection, [table.name for table in database.tables])
            assume_owner(connection, list(tables.values()))
            plan = make_plan(database, tables, connection.server_version)
            with report.step("Checking every value") as step:
                digest = check_values(database, plan, _Meter(step, plan.rows).add)
                check_keys(database, plan)
            if (done := _already_copied(job, connection, plan, digest)) is not None:
                return done
        if dry_run or not confirm(plan, redacted(job.url)):
            return job.finished("planned" if dry_run else "declined", plan, digest)
        return _transfer(job, connection, database, plan, digest)


def _already_copied(job: _Job, connection: Connection, plan: Plan, digest: str) -> CopyReport | None:
    """Return the report of "nothing to do" if this very content was copied before; None for an empty target.

    Raises: SwitchyardError: COPY-015, COPY-016, the target holds other rows.
    """
    held = held_rows(connection, [table.target for table in plan.tables])
    with connection.cursor() as cursor:
        runs = ledger.past_runs(cursor)
    mine = [run for run in runs if run.label == job.source.label]
    same = next((run for run in mine if run.digest == digest), None)
    if same is not None and (held or not same.rows):
        fewer = [
            f"{name} held {rows:,} rows after that copy and holds {held.get(name, 0):,} now: they were removed since"
            for name, rows in same.tables.items()
            if held.get(name, 0) < rows
        ]
        return job.finished(
            "unchanged", plan, digest, run_id=same.run_id, copied_at=same.finished_at.isoformat(), notes=tuple(fewer)
        )
    if not held:
        return None
    counts = ", ".join(f"{name} {rows:,}" for name, rows in held.items())
    if mine:
        raise SwitchyardError(
            "COPY-016",
            f"{job.source.label} was copied before, and {job.source.path.name} holds something else now; "
            f"the target holds rows: {counts}",
            why=f"Run {mine[0].run_id} of {mine[0].finished_at.isoformat(timespec='seconds')} had the content "
            f"{mine[0].digest[:19]}…, this file has {digest[:19]}…. Newer rows cannot be merged yet. "
            "Nothing was changed.",
            fix="keep what was copied, or copy into an empty database: make reset, then make up SOURCE=LABEL=FILE",
        )
    came = next((run for run in runs if run.digest == digest), None)
    other = f" (the same content came in as {came.label}, run {came.run_id})" if came else ""
    raise SwitchyardError(
        "COPY-015",
        f"the target already holds rows: {counts}{other}",
        why="A copy goes into empty tables: rows of two histories are never mixed. Nothing was changed.",
        fix="for the stack's own database make reset, then make up SOURCE=LABEL=FILE, which copies before the bot "
        "trades; or name an empty database with --target-url",
    )


def _transfer(job: _Job, connection: Connection, source: SourceDatabase, plan: Plan, digest: str) -> CopyReport:
    """Write, verify and commit."""
    run_id = str(uuid.uuid4())
    connection.autocommit = False
    with _server_errors(job), connection.cursor() as cursor:
        cursor.execute("SET TRANSACTION ISOLATION LEVEL READ COMMITTED, READ WRITE")
        ledger.lock(cursor)
        names = ", ".join(table.target.qualified for table in plan.tables)
        cursor.execute(f"LOCK TABLE {names} IN SHARE ROW EXCLUSIVE MODE")
        if (done := _already_copied(job, connection, plan, digest)) is not None:  # somebody was quicker
            connection.rollback()
            return done
        cursor.execute("SET CONSTRAINTS ALL DEFERRED")
        written = _write(job, cursor, source, plan)
        following = set_sequences(cursor, plan)
        verified = _verify(job, connection, source, plan, written)
        verify_sequences(cursor, plan)
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
        for table in plan.tables:
            cursor.execute(f"ANALYZE {table.target.qualified}")
        finished_at = ledger.record(
            cursor,
            run_id=run_id,
            label=job.source.label,
            name=job.source.path.name,
            digest=digest,
            size_bytes=source.path.stat().st_size,
            started_at=job.started_at,
            tables=verified,
            next_keys=following,
        )
        cursor.execute("SELECT pg_current_xact_id()::text")
        [(transaction,)] = cursor.fetchall()
    notes = _commit_or_find_out(job, connection, run_id, transaction)
    tables = tuple(
        TableReport(
            name=table.name,
            rows_read=table.source.rows,
            rows_written=written[table.name],
            rows_verified=verified[table.name],
            next_ids={
                column.name: following[f"{table.name}.{column.name}"]
                for column in table.target.columns
                if f"{table.name}.{column.name}" in following
            },
        )
        for table in plan.tables
    )
    return job.finished(
        "copied", plan, digest, run_id=run_id, tables=tables, copied_at=finished_at.isoformat(), notes=notes
    )


def _write(job: _Job, cursor: Any, source: SourceDatabase, plan: Plan) -> dict[str, int]:
    with job.report.step(f"Writing {plan.rows:,} rows") as step:
        meter = _Meter(step, plan.rows)
        return {table.name: copy_table(cursor, source, table, meter.add) for table in plan.tables}


def _verify(
    job: _Job, connection: Connection, source: SourceDatabase, plan: Plan, written: Mapping[str, int]
) -> dict[str, int]:
    """Compare both sides and return the rows of each table.

    Raises: SwitchyardError: COPY-023.
    """
    with job.report.step("Reading every row back and comparing it") as step:
        meter = _Meter(step, plan.rows)
        verified = {table.name: verify_table(connection, source.path, table, meter.add) for table in plan.tables}
    for table in plan.tables:
        if not table.source.rows == written[table.name] == verified[table.name]:
            raise SwitchyardError(
                "COPY-023",
                f"{table.name}: {table.source.rows:,} rows read, {written[table.name]:,} written, "
                f"{verified[table.name]:,} verified",
                why="The three numbers must be equal. Everything was taken back: nothing was changed.",
                fix="look for triggers or rules on the target's table; if there are none, report this as a defect",
            )
    return verified


def _commit_or_find_out(job: _Job, connection: Connection, run_id: str, transaction: str) -> tuple[str, ...]:
    """Commit. If the answer is lost, ask the server what happened, for a bounded time.

    Raises: SwitchyardError: COPY-024, it was taken back; COPY-025, nobody could tell.
    """
    try:
        _commit(connection)
    except (psycopg2.OperationalError, psycopg2.InterfaceError) as error:
        lost = " ".join(str(error).split())
    except psycopg2.Error as error:  # the server refused, and said so: a deferred constraint, for example
        raise _refused(error) from None
    else:
        return ()
    with job.report.step("The answer to COMMIT was lost: asking what became of it"):
        deadline = time.monotonic() + OUTCOME_WAIT_S
        status = "unknown"
        while status not in ("committed", "aborted") and time.monotonic() < deadline:
            with (
                contextlib.suppress(SwitchyardError, psycopg2.Error),
                contextlib.closing(connect(job.url)) as again,
                again.cursor() as cursor,
            ):
                status = ledger.outcome(cursor, run_id, transaction)
            if status not in ("committed", "aborted"):
                time.sleep(0.5)
    if status == "committed":
        return (f"the connection broke during COMMIT ({lost}); the server was asked again and has committed",)
    if status == "aborted":
        raise _lost(job, lost)
    raise SwitchyardError(
        "COPY-025",
        f"the connection to {redacted(job.url)} broke during COMMIT: {lost}",
        why=f"Whether run {run_id} was committed is unknown: the server could not be asked for {OUTCOME_WAIT_S:.0f} s. "
        "Either all rows are there, or none.",
        fix="run the same command again: it says that it was copied, or it copies. To only ask: "
        f"look for run {run_id} in switchyard.copy_run",
        exit_code=EXIT_UNREACHABLE,
    )


def _commit(connection: Connection) -> None:
    connection.commit()


@contextlib.contextmanager
def _server_errors(job: _Job) -> Iterator[None]:
    """Turn what the server or the connection says into an error that a person can act on. Nothing was committed."""
    try:
        yield
    except psycopg2.errors.LockNotAvailable as error:
        raise SwitchyardError(
            "COPY-014",
            f"{redacted(job.url)} is busy: a table could not be locked within {LOCK_TIMEOUT_S} s",
            why=f"Another session writes to them, or another copy runs ({_first_line(error)}). Nothing was changed.",
            fix="stop the bot (switchyard down) or wait for the other copy, then run the same command again",
        ) from None
    except (psycopg2.errors.InsufficientPrivilege, psycopg2.errors.ReadOnlySqlTransaction) as error:
        raise SwitchyardError(
            "COPY-013",
            f"this login may not do that in {redacted(job.url)}: {_first_line(error)}",
            why="A copy fills the tables, sets their sequences, and keeps its ledger in the schema switchyard. "
            "Nothing was changed.",
            fix="use the role that owns the tables (our own stack: switchyard db url --role migrator), on the primary",
        ) from None
    except psycopg2.Error as error:
        if error.pgcode is None or error.pgcode.startswith(("57P", "08")):
            raise _lost(job, " ".join(str(error).split())) from None
        raise _refused(error) from None


def _lost(job: _Job, detail: str) -> SwitchyardError:
    return SwitchyardError(
        "COPY-024",
        f"the connection to {redacted(job.url)} was lost: {detail}",
        why="The server takes back what was not committed: nothing was changed.",
        fix="see that the database is up (switchyard status), then run the same command again",
        exit_code=EXIT_UNREACHABLE,
    )


def _refused(error: psycopg2.Error) -> SwitchyardError:
    return SwitchyardError(
        "COPY-022",
        f"the target refuses the copy: {_first_line(error)}",
        why=f"SQLSTATE {error.pgcode}. Everything was taken back: nothing was changed.",
        fix="remove the cause that the message names, then run the same command again",
    )


def _first_line(error: psycopg2.Error) -> str:
    return (error.diag.message_primary or str(error)).strip().split("\n", 1)[0][:300]
