"""Writes rows with COPY, and sets the sequences behind them. Inside the caller's transaction."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import psycopg2
from tradedb.errors import SwitchyardError

from switchyard.transfer.check import row_name, shown
from switchyard.transfer.source import quoted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from switchyard.transfer.plan import ColumnPlan, Plan, TablePlan
    from switchyard.transfer.source import Row, SourceDatabase


class _Chunks:
    """A generator of bytes as the file that psycopg2 wants; remembers what went wrong in it."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self.error: BaseException | None = None

    def read(self, _size: int = -1) -> bytes:
        """Return the next chunk, whole; empty at the end."""
        try:
            return next(self._chunks, b"")
        except BaseException as error:
            self.error = error
            raise


def copy_table(cursor: Any, source: SourceDatabase, table: TablePlan, on_rows: Callable[[int], None]) -> int:
    """Write every row of the table and return how many the server counted.

    Raises:
        SwitchyardError: COPY-022, the server refuses a row (its CHECK, a trigger …); names the row.
        psycopg2.Error: anything else; the transaction is lost.
    """
    written = table.written
    names = ", ".join(quoted(column.name) for column in written)
    chunks = _Chunks(_lines(source, table, on_rows))
    try:
        cursor.copy_expert(f"COPY {table.target.qualified} ({names}) FROM STDIN", chunks)
    except psycopg2.Error as error:
        if chunks.error is not None:
            raise chunks.error from None
        if (error.pgcode or "")[:2] in ("22", "23", "P0", "44"):
            raise _refused(source, table, error) from None
        raise
    return cursor.rowcount


def _lines(source: SourceDatabase, table: TablePlan, on_rows: Callable[[int], None]) -> Iterator[bytes]:
    """Yield the rows as COPY's text format, a batch at a time."""
    for rows in source.batches(table.source, [column.name for column in table.written]):
        yield encode_rows(table.written, rows)
        on_rows(len(rows))


def encode_rows(columns: Sequence[ColumnPlan], rows: Sequence[Row]) -> bytes:
    """Return rows as lines of COPY's text format; column by column, which is several times faster than row by row."""
    fields = [column.kind.encode(values) for column, values in zip(columns, zip(*rows, strict=True), strict=True)]
    return ("\n".join(map("\t".join, zip(*fields, strict=True))) + "\n").encode()


def _refused(source: SourceDatabase, table: TablePlan, error: psycopg2.Error) -> SwitchyardError:
    """Return the error for a row that the server refused; COPY says in which line it was."""
    message = (error.diag.message_primary or str(error)).strip()
    detail = error.diag.message_detail or ""
    row = _row_of_line(source, table, error.diag.context or "")
    where = f", {row}" if row else ""
    return SwitchyardError(
        "COPY-022",
        f"the target refuses a row of {table.name}{where}: {shown(message)} {shown(detail) if detail else ''}".rstrip(),
        why=f"SQLSTATE {error.pgcode}. Everything was taken back: nothing was changed.",
        fix="correct that row in the SQLite file (the bot stopped), then run the same command again",
    )


def _row_of_line(source: SourceDatabase, table: TablePlan, context: str) -> str:
    """Return the name of the row that COPY wrote in the line its context tells; empty when it tells none."""
    words = context.split("\n", 1)[0].replace(",", " ").replace(":", " ").split()
    if "line" not in words[:-1] or not words[words.index("line") + 1].isdigit():
        return ""
    line = int(words[words.index("line") + 1])
    rows = itertools.chain.from_iterable(source.batches(table.source, named=True))
    row = next(itertools.islice(rows, line - 1, None), None)
    return row_name(table, row) if row else ""


def set_sequences(cursor: Any, plan: Plan) -> dict[str, int]:
    """Let each sequence go on behind the highest key, and return the next number of each column.

    SQLite's own AUTOINCREMENT counter counts too: numbers of deleted rows do not come back. RESTART instead of setval,
    because a rollback takes it back.

    Raises: SwitchyardError: COPY-028, the highest key leaves no number free.
    """
    following: dict[str, int] = {}
    for table in plan.tables:
        for column in table.target.columns:
            if column.sequence is None:
                continue
            name = f"{table.name}.{column.name}"
            cursor.execute(f"SELECT max({quoted(column.name)}) FROM {table.target.qualified}")  # noqa: S608
            [(highest,)] = cursor.fetchall()
            if table.source.sequence is not None and column.name in table.source.key:
                highest = max(table.source.sequence, highest if highest is not None else table.source.sequence)
            following[name] = _restart(cursor, column.sequence, highest, name)
    return following


def _restart(cursor: Any, sequence: str, highest: int | None, column: str) -> int:
    cursor.execute(
        "SELECT seqstart, seqmin, seqmax, seqincrement FROM pg_sequence WHERE seqrelid = %s::regclass", (sequence,)
    )
    [(start, lowest, last, step)] = cursor.fetchall()
    following = start if highest is None else max(lowest, highest + step)
    if step < 1:
        raise SwitchyardError(
            "COPY-028",
            f"the sequence behind {column} counts down ({step})",
            why="There is no rule for the number after the highest key. Everything was taken back.",
            fix=f"ALTER SEQUENCE {sequence} INCREMENT 1, then run the same command again",
        )
    if following > last:
        raise SwitchyardError(
            "COPY-028",
            f"{column} has a key {highest}, and its sequence ends at {last}",
            why="The next insert would find no free number. Everything was taken back: nothing was changed.",
            fix="give that row a smaller key in the SQLite file (the bot stopped), then run the same command again",
        )
    cursor.execute(f"ALTER SEQUENCE {sequence} RESTART WITH {int(following)}")
    return int(following)
