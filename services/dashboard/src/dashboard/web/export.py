"""The trades of a filter as one CSV file, written while they are read: a page at a time, all from one moment."""

from __future__ import annotations

import asyncio
import contextlib
import csv
import io
import logging
import threading
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal

from sqlalchemy import Connection
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from tradedb import DatabaseManager
from tradedb.errors import SwitchyardError

from dashboard import formats
from dashboard.reading.consistent import read_consistently
from dashboard.reading.schema import SchemaState
from dashboard.reading.trades import TradePage, TradeQuery, TradeRow, read_trades
from dashboard.web.gate import Refuse

LIMIT_ROWS = 1_000_000
PAGE_ROWS = 2_000
AT_ONCE = 2
WITHIN_S = 600.0  # a million rows take one to three minutes, if the machine is busy
STALLED_S = 8.0  # the role's idle_in_transaction_session_timeout is 10 s
FIRST_WITHIN_S = 10.0
AHEAD = 2  # pages that wait for the visitor: with the one being read, all that is ever in memory
BUSY_RETRY_S = 15
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
COLUMNS = (
    "id", "closed", "opened", "times_in_utc", "symbol", "side", "source", "strategy", "exchange", "session",
    "quantity", "size", "entry_price", "exit_price", "pnl", "pnl_percent", "fees", "why_closed", "copied_from",
    "copy_run",
)  # fmt: skip

logger = logging.getLogger(__name__)


class _TooManyError(Exception):
    """The filter has more rows than a file may have."""

    def __init__(self, matching: int) -> None:
        super().__init__(matching)
        self.matching = matching


class _NoTablesError(Exception):
    """There is nothing to read yet."""


class _GoneError(Exception):
    """Nobody reads the file any more, or too slowly."""


class Export:
    """Writes CSV files.

    Args:
        manager: the way to the database.
        refuse: makes an error page, or the API's error.
    """

    def __init__(self, manager: DatabaseManager, refuse: Refuse) -> None:
        self._manager = manager
        self._refuse = refuse
        self._free = AT_ONCE

    async def trades(self, request: Request) -> Response:
        """GET /trades.csv: the whole filter of the page with the same parameters, or why not."""
        query = replace(TradeQuery.from_parameters(request.query_params), cursor="", page_size=PAGE_ROWS)
        if request.method == "HEAD":
            return Response(headers=_headers())
        if not self._free:
            busy = self._refuse(
                request, 429, "Too many files at once", f"{AT_ONCE} files are being written. Try again in a moment."
            )
            busy.headers["retry-after"] = str(BUSY_RETRY_S)
            return busy
        self._free -= 1
        pipe = _Pipe(asyncio.get_running_loop())
        threading.Thread(target=self._write, args=(query, pipe), daemon=True, name="csv").start()
        try:
            first = await asyncio.wait_for(pipe.get(), FIRST_WITHIN_S)
        except TimeoutError as error:
            first = error
        if isinstance(first, str):
            return StreamingResponse(self._send(first, pipe), headers=_headers())
        pipe.close()
        return self._without_file(request, first)

    async def _send(self, first: str, pipe: _Pipe) -> AsyncIterator[str]:
        """Hand the pages on. An error half way breaks the connection off, so that nobody takes a part for the whole."""
        try:
            chunk: str | BaseException | None = first
            while isinstance(chunk, str):
                yield chunk
                chunk = await pipe.get()
            if chunk is not None:
                raise chunk
        finally:
            pipe.close()

    def _without_file(self, request: Request, problem: BaseException | None) -> Response:
        if isinstance(problem, _TooManyError):
            return self._refuse(
                request,
                413,
                "Too many trades for one file",
                f"{formats.plural(problem.matching, 'trade')} match, and a file has at most {LIMIT_ROWS:,}. "
                "Narrow the filter, for instance by time.",
            )
        if isinstance(problem, _NoTablesError):
            return self._refuse(request, 503, "No tables to read", str(problem))
        said = (
            f"{problem.what[:1].upper()}{problem.what[1:]}."
            if isinstance(problem, SwitchyardError)
            else "It has not answered."
        )
        return self._refuse(request, 503, "The database does not answer", said)

    def _write(self, query: TradeQuery, pipe: _Pipe) -> None:
        """Read the pages in one transaction and put their text into the pipe; in a thread of its own."""

        def work(conn: Connection) -> None:
            for text in _pages(conn, query):
                pipe.put(text)

        end: BaseException | None = None
        try:
            schema = read_consistently(self._manager, work, name="CSV of trades", once_within_s=WITHIN_S)
            if isinstance(schema, SchemaState):
                end = _NoTablesError(f"{schema.problem} {schema.remedy}".strip())
        except Exception as error:
            if not isinstance(error, SwitchyardError | _TooManyError | _GoneError):
                logger.exception("a CSV file could not be written")
            end = error
        with contextlib.suppress(_GoneError):
            pipe.put(end)
        with contextlib.suppress(RuntimeError):  # the loop has closed: the process is ending
            pipe.loop.call_soon_threadsafe(self._release)

    def _release(self) -> None:
        self._free += 1


class _Pipe:
    """Takes text from a thread to the event loop; a full pipe makes the thread wait, and a stalled one ends it.

    Args:
        loop: where the text is taken out.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._queue: asyncio.Queue[str | BaseException | None] = asyncio.Queue(AHEAD)
        self._closed = threading.Event()

    def put(self, item: str | BaseException | None) -> None:
        """Put something in, from the thread. Raises: _GoneError: nobody takes it any more."""
        if self._closed.is_set():
            raise _GoneError
        try:
            placed = asyncio.run_coroutine_threadsafe(self._queue.put(item), self.loop)
        except RuntimeError as error:  # the loop has closed: the process is ending
            raise _GoneError from error
        try:
            placed.result(STALLED_S)
        except TimeoutError as error:
            placed.cancel()
            self.loop.call_soon_threadsafe(self._break_off)
            raise _GoneError from error

    async def get(self) -> str | BaseException | None:
        """Take the next thing out."""
        return await self._queue.get()

    def close(self) -> None:
        """Take nothing more; a thread that waits goes on, to be told so."""
        self._closed.set()
        while not self._queue.empty():
            self._queue.get_nowait()

    def _break_off(self) -> None:
        """Let whoever wakes up late find an error after what is still there, not silence."""
        self.close()
        self._queue.put_nowait(_GoneError("the visitor took too long"))


def _pages(conn: Connection, query: TradeQuery) -> Iterator[str]:
    """Yield the file, a page of rows at a time."""
    first = True
    while True:
        page = read_trades(conn, query)
        if first and page.matching > LIMIT_ROWS:
            raise _TooManyError(page.matching)
        yield _text(page, head=first)
        if page.next is None:
            return
        first, query = False, replace(query, cursor=page.next)


def _text(page: TradePage, *, head: bool) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\r\n")
    if head:
        writer.writerow(COLUMNS)
    writer.writerows(_cells(row) for row in page.rows)
    return text.getvalue()


def _cells(row: TradeRow) -> list[str]:
    return [
        str(row.id),
        formats.recorded(row.exit_time, in_utc=row.ours), formats.recorded(row.entry_time, in_utc=row.ours),
        "true" if row.ours else "false", words(row.symbol), words(row.side), words(row.source),
        words(row.strategy_name), words(row.exchange), "" if row.session_id is None else str(row.session_id),
        _number(row.quantity), _number(row.size), _number(row.entry_price), _number(row.exit_price), _number(row.pnl),
        "" if row.pnl_percent is None else repr(row.pnl_percent), _number(row.commission), words(row.exit_reason),
        words(row.copied.file if row.copied else None), row.copied.run_id if row.copied else "",
    ]  # fmt: skip


def words(text: str | None) -> str:
    """Return text as a cell: what a spreadsheet would take for a formula gets an apostrophe before it.

    Control characters are written out, as on the pages.

    Source: https://owasp.org/www-community/attacks/CSV_Injection
    """
    if not text:
        return ""
    text = formats.visible(text)
    # some programs pass over the blanks before a formula
    return f"'{text}" if text.startswith(FORMULA) or text.lstrip().startswith(FORMULA) else text


def _number(value: Decimal | None) -> str:
    return "" if value is None else formats.exact(value)


def _headers() -> dict[str, str]:
    name = f"switchyard-trades-{datetime.now(UTC):%Y%m%dT%H%M%SZ}.csv"
    return {"content-type": "text/csv; charset=utf-8", "content-disposition": f'attachment; filename="{name}"'}
