"""Candles in a file: CSV, or Parquet where pyarrow is installed. Rows are read as they come, never all at once.

Columns, in any order and with any others beside them: a time (``time``, ``timestamp``, ``open_time``, ``date`` or
``datetime``: ISO 8601, UTC where it names no zone, or seconds, milliseconds, microseconds or nanoseconds since 1970),
``open``, ``high``, ``low``, ``close``, and ``volume`` where there is one.
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from importlib.resources import files
from importlib.util import find_spec
from itertools import islice, pairwise
from pathlib import Path
from typing import Any, NamedTuple

from tradedb.errors import EXIT_CONFIG, SwitchyardError

from trading_bot.feeds.candles import Candle

SAMPLE = "sample"  # in place of a path: the file that ships
_TIME_COLUMNS = ("open_time", "time", "timestamp", "datetime", "date")
_PRICE_COLUMNS = ("open", "high", "low", "close")
_ROWS_FOR_INTERVAL = 1_000
_NAN = Decimal("NaN")


class Row(NamedTuple):
    """One row as it stands in the file. A cell that is empty, or whose value is not finite, is NaN."""

    open_time: datetime
    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal
    volume: Decimal


def candle_file(name: Path) -> Path:
    """Return the file that a setting means: a path, or ``sample`` for the synthetic one that ships."""
    return Path(str(files("trading_bot") / "feeds" / "sample-synthetic.csv")) if str(name) == SAMPLE else name


def read_rows(path: Path) -> Iterator[Row]:
    """Yield the rows of a file of candles, in its order.

    Raises: SwitchyardError BOT-026, the file cannot be read or has no such columns; BOT-025, it is Parquet and pyarrow
    is not installed. Both name the place, and end with exit code 78.
    """
    if path.suffix.lower() in (".parquet", ".pq"):
        return _parquet_rows(path)
    return _csv_rows(path)


def interval_of(path: Path) -> int:
    """Return the length of a file's candles in seconds: the smallest step between its first rows.

    Raises: as ``read_rows``; BOT-026 also for a file of fewer than two rows.
    """
    times = [row.open_time for row in islice(read_rows(path), _ROWS_FOR_INTERVAL)]
    steps = [step for a, b in pairwise(times) if (step := (b - a).total_seconds()) >= 1]
    if not steps:
        raise _unreadable(path, "the length of its candles cannot be told", "It has fewer than two rows in order.")
    return int(min(steps))


def as_candle(row: Row, *, venue: str, symbol: str, interval_s: int) -> Candle:
    """Return a row as a candle."""
    return Candle(
        venue=venue,
        symbol=symbol,
        index=int(row.open_time.timestamp()) // interval_s,
        open_time=row.open_time,
        close_time=row.open_time + timedelta(seconds=interval_s),
        open=row.open,
        high=row.high,
        low=row.low,
        close=row.close,
        volume=row.volume,
    )


def _csv_rows(path: Path) -> Iterator[Row]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            lines = csv.reader(file)
            columns = _columns(path, next(lines, []))
            for cells in lines:
                if cells:
                    yield _row(path, f"line {lines.line_num}", cells, columns)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise _unreadable(path, "it cannot be read", f"{error}.") from error


def _parquet_rows(path: Path) -> Iterator[Row]:
    try:
        import pyarrow as arrow
        from pyarrow import parquet
    except ImportError as error:
        raise SwitchyardError(
            "BOT-025",
            f"{path} is a Parquet file, and pyarrow is not installed",
            why="The bot reads CSV by itself; what reads Parquet is 130 MB and is not installed with it.",
            fix=f"{_installer()} 'pyarrow>=21', or give the candles as .csv",
            exit_code=EXIT_CONFIG,
        ) from error
    try:
        with parquet.ParquetFile(path) as file:
            names = list(file.schema_arrow.names)
            columns = _columns(path, names)
            wanted = [names[at] for at in columns if at is not None]
            at = iter(range(len(wanted)))
            places = [None if place is None else next(at) for place in columns]
            number = 0
            for batch in file.iter_batches(batch_size=4_096, columns=wanted):
                cells = [batch.column(name).to_pylist() for name in wanted]
                for values in zip(*cells, strict=True):
                    number += 1
                    yield _row(path, f"row {number}", values, places)
    except (OSError, arrow.ArrowException) as error:
        raise _unreadable(path, "it cannot be read", f"{error}.") from error


def _columns(path: Path, header: Sequence[str]) -> list[int | None]:
    """Return the places of time, open, high, low, close and volume; None for a volume that is not there."""
    names = [name.strip().lower() for name in header]
    time = next((name for name in _TIME_COLUMNS if name in names), None)
    missing = [name for name in _PRICE_COLUMNS if name not in names]
    if time is None or missing:
        wanted = missing or [f"a time ({', '.join(_TIME_COLUMNS)})"]
        found = ", ".join(header) or "nothing"
        raise _unreadable(path, f"it has no column {', '.join(wanted)}", f"Its first line names: {found}.")
    places: list[int | None] = [names.index(name) for name in (time, *_PRICE_COLUMNS)]
    return [*places, names.index("volume") if "volume" in names else None]


def _row(path: Path, where: str, cells: Sequence[Any], columns: Sequence[int | None]) -> Row:
    try:
        time, *values = [None if at is None else cells[at] for at in columns]
        prices = [_number(value) for value in values[:4]]
        volume = Decimal(0) if columns[5] is None else _number(values[4])
        return Row(_time(time), prices[0], prices[1], prices[2], prices[3], volume)
    except (IndexError, InvalidOperation, ValueError, OverflowError) as error:
        said = "a cell is missing" if isinstance(error, IndexError) else str(error)
        raise _unreadable(path, f"{where}: {said}", "Nothing after it was read.") from error


def _number(value: Any) -> Decimal:
    """A price as it is written; of a binary float, the shortest number that means it."""
    if value is None or value == "":
        return _NAN
    try:
        number = value if isinstance(value, Decimal) else Decimal(str(value).strip())
    except InvalidOperation:
        raise ValueError(f"{value!r} is no number") from None
    return number if number.is_finite() else _NAN


def _time(value: Any) -> datetime:
    """The time of a row, aware."""
    if isinstance(value, str):
        text = value.strip()
        if not text.lstrip("+-").replace(".", "", 1).isdigit():
            try:
                value = datetime.fromisoformat(text)
            except ValueError:
                raise ValueError(f"{value!r} is no time") from None
        else:
            value = float(text) if "." in text else int(text)
    if isinstance(value, datetime):
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
    # seconds have at most 11 digits until the year 5138, and each finer unit three more
    for unit in (1, 1_000, 1_000_000, 1_000_000_000):
        if isinstance(value, int | float) and abs(value) < 100_000_000_000 * unit:
            return datetime.fromtimestamp(0, UTC) + timedelta(seconds=value / unit)
    raise ValueError(f"{value!r} is no time")


def _installer() -> str:
    """Return the command that installs into the environment this runs in."""
    if find_spec("pip"):
        return f"{sys.executable} -m pip install"
    beside = Path(sys.executable).with_name("uv")
    return f"{beside if beside.exists() else 'uv'} pip install --python {sys.executable}"


def _unreadable(path: Path, what: str, why: str) -> SwitchyardError:
    return SwitchyardError(
        "BOT-026",
        f"file of candles {path}: {what}",
        why=f"{why} Expected are CSV or Parquet with columns time, open, high, low, close and, where known, volume.",
        fix="correct the file, or name another with BOT_REPLAY_FILE (or --file); 'sample' is the one that ships",
        exit_code=EXIT_CONFIG,
    )
