"""The spool in terms of what the bot puts there: decisions with the account that they are for, and fills.

What the venue says about an order is not put there: it can be asked again at any time.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from tradedb.errors import SwitchyardError

from trading_bot.ledger import SessionTerms
from trading_bot.orders import Intent, VenueFill
from trading_bot.spool import Entry, Opened, Spool, SpoolBusy, SpoolState
from trading_bot.spool.inspect import spool_folders

_FOLDERS = 9  # processes that share a state folder: more than any deploy overlaps

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Decided:
    """A decision and its account's terms, which make the account again in a database that lost both."""

    intent: Intent
    terms: SessionTerms


@dataclass(frozen=True, slots=True)
class Noted:
    """An entry of the spool, under its number there."""

    number: int
    fact: Decided | VenueFill

    @property
    def at(self) -> tuple[datetime, int]:
        """Return when it happened by the market's time, and the venue's number of it."""
        if isinstance(self.fact, Decided):
            return self.fact.intent.signal_time, 0
        return self.fact.filled_at, self.fact.sequence


class FactSpool:
    """A spool of this process.

    Another process may have the folder: a bot that stands by, or one that was stopped in its sleep and still holds it.
    Then the next free one of ``folder-2``, ``folder-3``, … is this process's own.

    Args:
        folder: where the first spool lies.
        make: makes a spool for a folder; tests set it.
    """

    def __init__(self, folder: Path, make: Callable[[Path], Spool] = Spool) -> None:
        self._folder = folder
        self._make = make
        self._spool: Spool | None = None
        self.acknowledged_by: str | None = None  # identity of the server that took something last

    def open(self) -> Opened:
        """Open the first free folder and return what was found in it.

        Raises: SwitchyardError BOT-03x: it is damaged, or cannot be written; every one is in use.
        """
        busy: SpoolBusy | None = None
        for n in range(1, _FOLDERS + 1):
            spool = self._make(self._folder if n == 1 else self._folder.with_name(f"{self._folder.name}-{n}"))
            try:
                return self._take(spool)
            except SpoolBusy as error:
                busy = error
        assert busy is not None  # noqa: S101  the loop ran
        raise busy

    @contextmanager
    def left_behind(self, unreadable: Callable[[SwitchyardError], None]) -> Iterator[list[FactSpool]]:
        """Take the spools beside this one whose process has ended, until the end of the context.

        A decision that such a process took while the database was away may stand nowhere else.

        Args:
            unreadable: told of a spool that is damaged, or not ours to read; it is left as it is.
        """
        taken: list[FactSpool] = []
        try:
            for folder in spool_folders(self._folder.parent):
                if folder == self._open_spool().folder:
                    continue
                other = FactSpool(folder, self._make)
                try:
                    other._take(self._make(folder))
                except SpoolBusy:
                    continue  # its process lives, and knows what it knows
                except SwitchyardError as error:
                    unreadable(error)
                else:
                    taken.append(other)
            yield taken
        finally:
            for other in taken:
                other.prune()
                other.close()

    def _take(self, spool: Spool) -> Opened:
        opened = spool.open()
        self._spool, self.acknowledged_by = spool, opened.identity
        return opened

    @property
    def is_open(self) -> bool:
        """Return whether ``open`` has been done."""
        return self._spool is not None

    def add_intent(self, intent: Intent, terms: SessionTerms) -> int:
        """Put a decision on the disk and return its number.

        Raises: SpoolFull, nothing was written.
        """
        body = {"intent": _to_json(asdict(intent)), "session": terms.as_body()}
        return self._open_spool().append("intent", intent.intent_id, body)

    def add_fill(self, fill: VenueFill) -> int:
        """Put a fill on the disk and return its number.

        Raises: SpoolFull, nothing was written.
        """
        return self._open_spool().append("fill", f"{fill.venue}/{fill.venue_trade_id}", _to_json(asdict(fill)))

    def acknowledge(self, numbers: Iterable[int], identity: str) -> None:
        """Say that the server with this identity has taken these; lost words only mean a repeated replay."""
        self._open_spool().acknowledge(numbers, identity)
        self.acknowledged_by = identity

    def unacknowledged(self) -> list[Noted]:
        """Return what no server has taken yet, oldest first."""
        return [_noted(entry) for entry in self._open_spool().unacknowledged()]

    def retained(self) -> Iterator[Noted]:
        """Give everything that is still there, oldest first."""
        return map(_noted, self._open_spool().retained())

    def state(self) -> SpoolState:
        """Return how full it is."""
        return self._open_spool().state()

    def prune(self) -> int:
        """Remove what was acknowledged long enough ago; return how many entries."""
        return self._open_spool().prune()

    def close(self) -> None:
        """Let another process have the folder."""
        if self._spool is not None:
            self._spool.close()
            self._spool = None

    def _open_spool(self) -> Spool:
        if self._spool is None:
            raise RuntimeError("the spool is not open")
        return self._spool


def _to_json(values: Mapping[str, Any]) -> dict[str, Any]:
    """Amounts and times as text that gives the same value back."""
    return {
        name: value.isoformat() if isinstance(value, datetime) else str(value) if isinstance(value, Decimal) else value
        for name, value in values.items()
    }


def _noted(entry: Entry) -> Noted:
    if entry.kind == "fill":
        return Noted(entry.number, _fill(entry.body))
    return Noted(entry.number, Decided(_intent(entry.body["intent"]), SessionTerms.from_body(entry.body["session"])))


def _fill(body: Mapping[str, Any]) -> VenueFill:
    amounts = {name: Decimal(body[name]) for name in ("price", "quantity", "fee")}
    return VenueFill(**{**body, **amounts, "filled_at": datetime.fromisoformat(body["filled_at"])})


def _intent(body: Mapping[str, Any]) -> Intent:
    amounts = {name: Decimal(body[name]) for name in ("quantity", "reference_price")}
    return Intent(**{**body, **amounts, "signal_time": datetime.fromisoformat(body["signal_time"])})
