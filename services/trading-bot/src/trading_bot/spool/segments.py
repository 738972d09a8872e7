"""What is in the files of a spool: entries, and the acknowledgements of earlier ones.

The files are named by their first record's number, and the numbers have no gap, within a file and from one to the
next: a record or a file that is missing shows.
"""

from __future__ import annotations

import json
import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from trading_bot.spool.errors import SpoolCorrupt
from trading_bot.spool.frames import BadFrame, frames

_NAME = re.compile(r"([0-9]{12})\.jsonl")


@dataclass(frozen=True, slots=True)
class Entry:
    """A fact in the spool. ``appended_at`` is aware UTC, by the clock of this machine."""

    number: int
    appended_at: datetime
    kind: str
    key: str
    body: Mapping[str, Any]
    acknowledged: bool = False


@dataclass(frozen=True, slots=True)
class Acknowledgement:
    """The database ``identity`` has taken the entries in ``ranges`` (first and last number of each)."""

    number: int
    at: datetime
    identity: str
    ranges: tuple[tuple[int, int], ...]

    def numbers(self) -> Iterator[int]:
        """Give the numbers of the entries."""
        for first, last in self.ranges:
            yield from range(first, last + 1)


@dataclass(frozen=True, slots=True)
class Record:
    """A record where it lies: ``size`` bytes from ``offset``."""

    offset: int
    size: int
    content: Entry | Acknowledgement


@dataclass(frozen=True, slots=True)
class Torn:
    """The end of a record whose write was cut short, ``size`` bytes from ``offset`` to the end of the last file."""

    path: Path
    offset: int
    size: int
    why: str


def segment_name(first: int) -> str:
    """Return the name of the file whose first record has this number."""
    return f"{first:012d}.jsonl"


def segment_files(folder: Path) -> list[tuple[int, Path]]:
    """Return (number of its first record, path) of each file of the spool, oldest first.

    Raises: OSError, the folder cannot be read.
    """
    return sorted((int(match[1]), path) for path in folder.iterdir() if (match := _NAME.fullmatch(path.name)))


def payload_of_entry(number: int, at: datetime, kind: str, key: str, body: Mapping[str, Any]) -> bytes:
    """Return the JSON of an entry.

    Raises: TypeError, ValueError: the body is no JSON; decimals and times are written as text.
    """
    return _json({"n": number, "at": at.isoformat(), "kind": kind, "key": key, "body": body})


def payload_of_acknowledgement(number: int, at: datetime, identity: str, numbers: Iterable[int]) -> bytes:
    """Return the JSON of an acknowledgement."""
    return _json({"n": number, "at": at.isoformat(), "ack": _ranges(numbers), "by": identity})


def records(folder: Path, *, since: int = 0) -> Iterator[tuple[Path, Record | Torn | None]]:
    """Give each file with each of its records, oldest first; a file without any is given once, with None.

    A torn record at the very end comes last.

    Args:
        folder: of the spool.
        since: begin with the file that has this record.

    Raises: SpoolCorrupt, at the first place where something is not as it was written; OSError.
    """
    files = segment_files(folder)
    files = files[max(0, bisect_right(files, since, key=lambda file: file[0]) - 1) :]
    expected = files[0][0] if files else 1
    for first, path in files:
        if first != expected:
            raise _corrupt(path, None, f"expected to begin with record {expected}: what is between is missing")
        found = False
        try:
            for record in _records_of(path, first):
                found = True
                expected = record.content.number + 1
                yield path, record
        except BadFrame as bad:
            if not bad.torn or path != files[-1][1]:
                raise _corrupt(path, bad.offset, bad.why) from bad
            found = True
            yield path, Torn(path, bad.offset, path.stat().st_size - bad.offset, bad.why)
        if not found:
            yield path, None


def _records_of(path: Path, first: int) -> Iterator[Record]:
    with path.open("rb") as file:
        for expected, (offset, payload) in enumerate(frames(file), first):
            content = _content(payload)
            if content is None:
                raise _corrupt(path, offset, "a record that no spool wrote")
            if content.number != expected:
                raise _corrupt(path, offset, f"record {content.number} stands where {expected} should")
            yield Record(offset, file.tell() - offset, content)


def _content(payload: bytes) -> Entry | Acknowledgement | None:
    try:
        values = json.loads(payload)
        at = datetime.fromisoformat(values["at"])
        if "ack" in values:
            return Acknowledgement(values["n"], at, values["by"], tuple((a, b) for a, b in values["ack"]))
        return Entry(values["n"], at, values["kind"], values["key"], values["body"])
    except (ValueError, KeyError, TypeError):
        return None


def _json(values: dict[str, Any]) -> bytes:
    return json.dumps(values, separators=(",", ":"), allow_nan=False).encode()


def _ranges(numbers: Iterable[int]) -> list[list[int]]:
    ranges: list[list[int]] = []
    for number in sorted(numbers):
        if ranges and ranges[-1][1] == number - 1:
            ranges[-1][1] = number
        else:
            ranges.append([number, number])
    return ranges


def _corrupt(path: Path, offset: int | None, finding: str) -> SpoolCorrupt:
    where = str(path) if offset is None else f"{path} at byte {offset}"
    return SpoolCorrupt(
        "BOT-030",
        f"the spool is damaged: {where}: {finding}",
        why="It is not the torn end that a crash leaves, so nothing is guessed: the bot takes no decision. "
        "Nothing was changed.",
        fix=f"see what can be read with `trading-bot spool verify --folder {path.parent}`, then put that folder aside "
        "under another name and start the bot: it asks the database and the venue for the rest",
        file=path,
        offset=offset,
        finding=finding,
    )
