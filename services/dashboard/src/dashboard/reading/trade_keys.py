"""Which trades stand on a page: found so that no page reads more than a few thousand index entries, whatever is asked.

Postgres has an index for each order: over all trades, in a session, and in a cell (symbol, strategy, source). A list
that is filtered by labels is the merge of the lists of its cells, each of which an index has in order. Where only few
trades of a cell are meant (a short span of time, a small session), they are read by time and sorted instead: the sums
that triggers keep say how many there are before anything is read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import ColumnElement, Connection, String, cast, literal, select, text, tuple_
from sqlalchemy.orm import InstrumentedAttribute
from tradedb.models import Trade

READ_AND_SORT = 40_000
"""So many trades may be read (from an index alone) and sorted for one page, which takes some 15 ms. Of more, an index
is walked in the list's order: then at least one in 250 of ten million matches."""
READ_SESSION = 3_000
"""A session of so many trades is read and sorted whole: each of them may lie on a page of its own."""
MAX_CELLS = 4_000

SORT_COLUMNS: Mapping[str, InstrumentedAttribute[Any]] = {
    "exit_time": Trade.exit_time,
    "pnl": Trade.pnl,
    "pnl_percent": Trade.pnl_percent,
}
"""What a list may be sorted by: what there is an index for."""
_TYPES = {"exit_time": "timestamp", "pnl": "numeric", "pnl_percent": "float8"}
# beyond every value of the type, in Postgres' order (NaN is the greatest number)
_LOWEST = {"exit_time": "-infinity", "pnl": "-Infinity", "pnl_percent": "-Infinity"}
_HIGHEST = {"exit_time": "infinity", "pnl": "NaN", "pnl_percent": "NaN"}


@dataclass(frozen=True)
class Cell:
    """The trades of one symbol, strategy and source: how many there are, and how many of them are asked for.

    ``low`` and ``high`` bound the sort value of those that are asked for, where that is known.
    """

    symbol: str
    strategy: str
    source: str
    trades: int
    matching: int
    low: str | None = None
    high: str | None = None


@dataclass(frozen=True)
class Wanted:
    """Which rows: filters, order, where to go on and how many.

    ``after`` is the sort value (as text) and id of the last row seen. ``since`` is included, ``until`` is not.
    """

    symbol: str = ""
    strategy: str = ""
    source: str = ""
    session_id: int | None = None
    since: datetime | None = None
    until: datetime | None = None
    sort: str = "exit_time"
    descending: bool = True
    after: tuple[str, int] | None = None
    limit: int = 50

    @property
    def by_labels(self) -> bool:
        """Return whether only some cells are meant."""
        return bool(self.symbol or self.strategy or self.source)


def find(conn: Connection, wanted: Wanted, cells: Sequence[Cell], in_session: int) -> list[int]:
    """Return the ids of the rows, in order.

    Args:
        conn: in a transaction.
        wanted: what is asked for.
        cells: those that the labels leave, with how many trades match all of the filters.
        in_session: how many trades the session has, without the other filters; 0 where none is asked for.
    """
    if conn.dialect.name != "postgresql":
        return _walk_one(conn, wanted)
    cells = [cell for cell in cells if cell.matching]
    matching = sum(cell.matching for cell in cells)
    if not matching:
        return []
    if wanted.session_id is not None and in_session <= READ_SESSION:
        return _walk_one(conn, wanted)
    if wanted.sort == "exit_time":
        everything = sum(cell.trades for cell in cells)
        by_session = wanted.session_id is not None and in_session <= everything
        if by_session or not wanted.by_labels or len(cells) > MAX_CELLS:
            return _walk_one(conn, wanted)
        return _merge(conn, wanted, cells, [])
    few, many, read = [], [], 0
    spanned = (wanted.since is not None or wanted.until is not None) and wanted.session_id is None
    for cell in sorted(cells, key=lambda cell: cell.matching / max(cell.trades, 1)):
        read += cell.matching
        # a span of time may have had other prices, so that walking in their order passes over most of the rest
        (few if spanned and read <= READ_AND_SORT and cell.matching < cell.trades else many).append(cell)
    return _merge(conn, wanted, many[:MAX_CELLS], few)


def conditions(wanted: Wanted) -> list[ColumnElement[bool]]:
    """Return the filters as conditions on ``Trade``."""
    found: list[ColumnElement[bool]] = []
    if wanted.symbol:
        found.append(Trade.symbol == wanted.symbol)
    if wanted.strategy:
        found.append(Trade.strategy_name == wanted.strategy)
    if wanted.source:
        found.append(Trade.source == wanted.source)
    if wanted.session_id is not None:
        found.append(Trade.session_id == wanted.session_id)
    if wanted.since is not None:
        found.append(Trade.exit_time >= wanted.since)
    if wanted.until is not None:
        found.append(Trade.exit_time < wanted.until)
    return found


def _walk_one(conn: Connection, wanted: Wanted) -> list[int]:
    """Walk one index in its order, and leave out what does not match."""
    column = SORT_COLUMNS[wanted.sort]
    where = conditions(wanted)
    if wanted.after is not None:
        value, key = wanted.after
        here, there = tuple_(column, Trade.id), tuple_(_typed(conn, wanted.sort, value), literal(key))
        where.append(here < there if wanted.descending else here > there)
    order = (column.desc(), Trade.id.desc()) if wanted.descending else (column.asc(), Trade.id.asc())
    return list(conn.execute(select(Trade.id).where(*where).order_by(*order).limit(wanted.limit)).scalars())


def _typed(conn: Connection, sort: str, value: str) -> ColumnElement[Any]:
    """Return a sort value as the column's type: Postgres reads the text itself, also what Python cannot hold."""
    column = SORT_COLUMNS[sort]
    if conn.dialect.name == "postgresql":
        return cast(literal(value, String()), column.type)
    known = datetime.fromisoformat(value) if sort == "exit_time" else Decimal(value) if sort == "pnl" else float(value)
    return literal(known, column.type)


def _merge(conn: Connection, wanted: Wanted, walked: Sequence[Cell], read: Sequence[Cell]) -> list[int]:
    """Merge the lists of cells: `walked` in the order of an index, `read` by time and then sorted.

    Two steps, so that no cell is walked further than the page needs: the first rows of each cell give a value that the
    last row of the page cannot be beyond, and only what is not beyond it is read then.
    """
    column, type_name = SORT_COLUMNS[wanted.sort].name, _TYPES[wanted.sort]
    down = wanted.descending
    order, past, least = ("DESC", "<", ">=") if down else ("ASC", ">", "<=")
    values: dict[str, Any] = {"limit": wanted.limit}
    filters = ""
    if wanted.session_id is not None:
        filters += " AND t.session_id = :session_id"
        values["session_id"] = wanted.session_id
    if wanted.since is not None:
        filters += " AND t.exit_time >= :since"
        values["since"] = wanted.since
    if wanted.until is not None:
        filters += " AND t.exit_time < :until"
        values["until"] = wanted.until
    if wanted.after is not None:
        filters += f" AND (t.{column}, t.id) {past} (CAST(:after AS {type_name}), :after_id)"
        values["after"], values["after_id"] = wanted.after
    parts = []
    for name, cells in (("walked", walked), ("read", read)):
        values[f"{name}_symbols"] = [cell.symbol for cell in cells]
        values[f"{name}_strategies"] = [cell.strategy for cell in cells]
        values[f"{name}_sources"] = [cell.source for cell in cells]
    same = "t.symbol = c.symbol AND t.strategy_name = c.strategy_name AND t.source = c.source"

    def cells_of(name: str, bound: bool = False) -> str:
        columns = [("symbol", "symbols"), ("strategy_name", "strategies"), ("source", "sources")]
        lists = [f"CAST(:{name}_{plural} AS varchar[])" for _, plural in columns]
        names = [single for single, _ in columns]
        if bound:
            lists += [f"CAST(:lows AS {type_name}[])", f"CAST(:highs AS {type_name}[])"]
            names += ["low", "high"]
        return f"unnest({', '.join(lists)}) AS c ({', '.join(names)})"

    if walked:
        # what is asked for may be a part of the cell's range: in a growing market the rest would be passed over
        values["lows"] = [cell.low or _LOWEST[wanted.sort] for cell in walked]
        values["highs"] = [cell.high or _HIGHEST[wanted.sort] for cell in walked]
        values["first"] = -(-wanted.limit // len(walked))
        begin = f"t.{column} BETWEEN c.low AND c.high"
        in_order = f"ORDER BY t.{column} {order}, t.id {order}"
        cells = cells_of("walked", bound=True)
        last = f"CAST(:beyond AS {type_name})"
        values["beyond"] = (_LOWEST if down else _HIGHEST)[wanted.sort]
        parts.append(
            f"""
            SELECT f.key, f.id FROM {cells} CROSS JOIN LATERAL (
                SELECT t.{column} AS key, t.id FROM trades t
                WHERE {same} AND {begin} AND t.{column} {least} coalesce((
                    SELECT f.key FROM {cells} CROSS JOIN LATERAL (
                        SELECT t.{column} AS key, t.id FROM trades t WHERE {same} AND {begin}{filters}
                        {in_order} LIMIT :first
                    ) f ORDER BY f.key {order} OFFSET :limit - 1 LIMIT 1
                ), {last}){filters}
                {in_order} LIMIT :limit
            ) f
            """  # noqa: S608 - names of our own, and every value is bound
        )
    if read:
        parts.append(
            f"SELECT t.{column} AS key, t.id FROM {cells_of('read')} CROSS JOIN LATERAL ("  # noqa: S608
            f" SELECT t.{column}, t.id FROM trades t WHERE {same}{filters} OFFSET 0) t"
        )
    sql = f"SELECT id FROM ({' UNION ALL '.join(parts)}) u ORDER BY key {order}, id {order} LIMIT :limit"  # noqa: S608
    return list(conn.execute(text(sql), values).scalars())
