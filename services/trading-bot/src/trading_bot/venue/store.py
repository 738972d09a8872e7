"""The file of a paper venue: SQLite, durable at each COMMIT, for any number of processes."""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from tradedb.errors import EXIT_CONFIG, SwitchyardError

from trading_bot.venue import VenueUnreachable

VERSION = 1
BUSY_S = 5.0  # how long another process may keep the file to itself
_DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)

# Decimals and times are text: SQLite's own numbers are doubles. Sequences begin at 1 for each venue and have no gap.
_SCHEMA = (
    """CREATE TABLE orders (
        number INTEGER PRIMARY KEY,
        venue TEXT NOT NULL,
        client_order_id TEXT NOT NULL,
        venue_order_id TEXT NOT NULL,
        symbol TEXT NOT NULL,
        side TEXT NOT NULL CHECK (side IN ('BUY', 'SELL')),
        quantity TEXT NOT NULL,
        reference_price TEXT NOT NULL,
        status TEXT NOT NULL
            CHECK (status IN ('ACCEPTED', 'PARTIALLY_FILLED', 'FILLED', 'CANCELLED', 'REJECTED')),
        filled_quantity TEXT NOT NULL,
        parts_filled INTEGER NOT NULL,
        accepted_at TEXT NOT NULL,
        updated_at TEXT NOT NULL,
        UNIQUE (venue, client_order_id)
    ) STRICT""",
    """CREATE INDEX orders_open ON orders (venue, number) WHERE status IN ('ACCEPTED', 'PARTIALLY_FILLED')""",
    """CREATE TABLE fills (
        venue TEXT NOT NULL,
        sequence INTEGER NOT NULL CHECK (sequence > 0),
        venue_trade_id TEXT NOT NULL,
        client_order_id TEXT NOT NULL,
        symbol TEXT NOT NULL,
        side TEXT NOT NULL,
        price TEXT NOT NULL,
        quantity TEXT NOT NULL,
        fee TEXT NOT NULL,
        fee_currency TEXT NOT NULL,
        filled_at TEXT NOT NULL,
        PRIMARY KEY (venue, sequence),
        UNIQUE (venue, venue_trade_id),
        FOREIGN KEY (venue, client_order_id) REFERENCES orders (venue, client_order_id)
    ) STRICT, WITHOUT ROWID""",
    f"PRAGMA user_version = {VERSION}",
)


class Store:
    """A connection to the file, used by one thread at a time.

    Args:
        path: made where it is not there, with its folder; None: in memory, gone at ``close``.

    Raises: SwitchyardError BOT-043, the file cannot be used.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self._guard = threading.RLock()
        try:
            if path is not None:
                path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
            self._conn = sqlite3.connect(
                ":memory:" if path is None else path, timeout=BUSY_S, isolation_level=None, check_same_thread=False
            )
        except (OSError, sqlite3.Error) as error:
            raise self._unusable(str(error)) from error
        self._conn.row_factory = sqlite3.Row
        try:
            self._prepare()
        except sqlite3.Error as error:
            self._conn.close()
            raise self._unusable(str(error)) from error
        except BaseException:
            self._conn.close()
            raise

    def _prepare(self) -> None:
        self._write_ahead()
        for pragma in ("synchronous = FULL", "fullfsync = ON", "foreign_keys = ON"):
            self._conn.execute(f"PRAGMA {pragma}")
        self._conn.execute("BEGIN IMMEDIATE")  # two processes may make the file at the same time
        version = self._conn.execute("PRAGMA user_version").fetchone()[0]
        if version == 0:
            for statement in _SCHEMA:
                self._conn.execute(statement)
        elif version != VERSION:
            raise self._unusable(f"it is of version {version}, and this bot knows {VERSION}")
        self._conn.execute("COMMIT")
        if self.path is not None:
            _sync_folder(self.path.parent)

    def _write_ahead(self) -> None:
        """Switch the file to a write-ahead log. SQLite does not wait for others here, so this does."""
        end = time.monotonic() + BUSY_S
        while True:
            try:
                self._conn.execute("PRAGMA journal_mode = WAL")
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > end:
                    raise
                time.sleep(0.02)
            else:
                return

    def rows(self, sql: str, values: tuple[Any, ...] = ()) -> list[sqlite3.Row]:
        """Return the rows of a query.

        Raises: VenueUnreachable. SwitchyardError BOT-043, the file is damaged.
        """
        with self._guard, self._translated():
            return self._conn.execute(sql, values).fetchall()

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Give the connection in a transaction that nobody else writes beside; committed, and durable, at the end.

        Raises: VenueUnreachable. SwitchyardError BOT-043, the file is damaged.
        """
        with self._guard, self._translated():
            self._conn.execute("BEGIN IMMEDIATE")
            try:
                yield self._conn
                self._conn.execute("COMMIT")
            except BaseException:
                if self._conn.in_transaction:
                    with suppress(sqlite3.Error):  # it has rolled back by itself
                        self._conn.execute("ROLLBACK")
                raise

    def close(self) -> None:
        """Close the file."""
        with self._guard:
            self._conn.close()

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.ProgrammingError:
            raise  # a defect of ours, like a closed connection
        except sqlite3.DatabaseError as error:
            if getattr(error, "sqlite_errorcode", 0) & 0xFF in _DAMAGED:
                raise self._unusable(str(error)) from error
            if not isinstance(error, sqlite3.OperationalError):
                raise
            raise VenueUnreachable(
                "BOT-040",
                f"the paper venue's file {self.path} does not answer: {error}",
                why="Whether the venue did what it was asked for is not known. The bot asks again under the same id.",
                fix=f"make room on the disk of {self.path}, and see that it can be written; the bot goes on by itself",
            ) from error

    def _unusable(self, why: str) -> SwitchyardError:
        return SwitchyardError(
            "BOT-043",
            f"the paper venue's file {self.path} cannot be used: {why}",
            why="It has the orders that the bot gave and what was filled of them, so the bot does not trade without.",
            fix="make it readable and writable for the bot, or bring it back from a backup; put aside under another "
            "name, it is begun anew, and what was still to be filled is lost",
            exit_code=EXIT_CONFIG,
        )


def _sync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
