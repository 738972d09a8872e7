"""A look at a spool that changes nothing and takes no lock: for people, and while the bot runs."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from trading_bot.spool import files, segments
from trading_bot.spool.errors import SpoolCorrupt
from trading_bot.spool.segments import Entry, Torn

_SPOOLS = ("spool", "spool-*")


@dataclass(frozen=True, slots=True)
class Place:
    """Where in which file something is not whole, and why; ``offset`` in bytes, None: the file as a whole."""

    file: str
    offset: int | None
    why: str


@dataclass(slots=True)
class Findings:
    """What is in a spool.

    ``waiting`` are the entries that no database acknowledged, oldest first; ``identity`` is the database that
    acknowledged last, and ``held_by`` the process that has the spool. ``torn`` is a record that is being written right
    now, or whose write a crash cut short; ``damage`` is the first place that is not as it was written, behind which
    nothing was read.
    """

    folder: str
    held_by: str | None
    files: int = 0
    disk_bytes: int = 0
    entries: int = 0
    waiting: list[Entry] = field(default_factory=list)
    identity: str | None = None
    torn: Place | None = None
    damage: Place | None = None

    @property
    def sound(self) -> bool:
        """Return whether the bot would start with it."""
        return self.damage is None

    @property
    def kinds(self) -> dict[str, int]:
        """Return how many entries of each kind wait."""
        return dict(Counter(entry.kind for entry in self.waiting))


def spool_folders(state_folder: Path) -> list[Path]:
    """Return the folders of the spools in a bot's state folder."""
    return sorted(
        path for pattern in _SPOOLS for path in state_folder.glob(pattern) if path.is_dir() and _has_spool(path)
    )


def _has_spool(folder: Path) -> bool:
    try:
        return bool(segments.segment_files(folder))
    except OSError:
        return True  # what cannot be read is reported, not passed over


def inspect(folder: Path) -> Findings:
    """Read a spool from its beginning to its end, or to the first damage, and return what was found.

    Raises: SwitchyardError BOT-032, the folder cannot be read.
    """
    try:
        try:
            return _look(folder)
        except FileNotFoundError:
            return _look(folder)  # the bot has just removed a file that was kept long enough
    except OSError as error:
        raise files.unusable(folder, error.strerror or str(error)) from error


def _look(folder: Path) -> Findings:
    found = Findings(str(folder), files.holder_of(folder))
    waiting: dict[int, Entry] = {}
    _read(folder, found, waiting)
    found.waiting = list(waiting.values())
    return found


def _read(folder: Path, found: Findings, waiting: dict[int, Entry]) -> None:
    seen: Path | None = None
    try:
        for path, record in segments.records(folder):
            if path != seen:
                seen = path
                found.files += 1
                found.disk_bytes += path.stat().st_size
            if isinstance(record, Torn):
                found.torn = Place(str(record.path), record.offset, record.why)
            elif record is None:
                continue
            elif isinstance(record.content, Entry):
                found.entries += 1
                waiting[record.content.number] = record.content
            else:
                found.identity = record.content.identity
                for number in record.content.numbers():
                    waiting.pop(number, None)
    except SpoolCorrupt as damage:
        found.damage = Place(str(damage.file), damage.offset, damage.finding)
