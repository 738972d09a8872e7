"""A snapshot to carry elsewhere: the file, and a manifest of what must be in it, checked again before it is used."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tradedb.errors import SwitchyardError

from switchyard.transfer.snapshot import Source, snapshot
from switchyard.transfer.source import SourceDatabase, content_digest

if TYPE_CHECKING:
    from switchyard.output import Progress

MANIFEST = "manifest.json"
SNAPSHOT = "snapshot.db"
SCHEMA_VERSION = 1
_BLOCK = 1 << 20


@dataclass(frozen=True)
class Archive:
    """A checked archive: the label of its rows and the SQLite file in it."""

    label: str
    file: Path


def default_folder() -> Path:
    """Where archives go when no folder is named: outside any checkout."""
    return Path.home() / "switchyard-exports"


def export(source: Source, folder: Path, report: Progress) -> dict[str, Any]:
    """Write a snapshot of the source and its manifest into a new folder, and return the manifest.

    Args:
        source: is only read and may be in use.
        folder: must not exist; made readable by this user only.
        report: is told what is being done.
    Raises: SwitchyardError: COPY-001 … COPY-008; COPY-030 inside a git work tree; COPY-031 the folder cannot be made.
    """
    folder = folder.expanduser().absolute()
    refuse_work_tree(folder)
    with report.step(f"Snapshot of {source.path.name}") as step, snapshot(source, step) as file:
        with SourceDatabase(file) as database:
            digests = []
            for table in database.tables:
                digest = database.table_digest(table)
                for rows in database.batches(table, lenient=True):
                    digest.feed(rows)
                digests.append((table, digest))
            manifest = {
                "schema_version": SCHEMA_VERSION,
                "label": source.label,
                "source_name": source.path.name,
                "created_at": datetime.now(UTC).isoformat(timespec="seconds"),
                "file": SNAPSHOT,
                "file_sha256": _sha256(file),
                "content_digest": content_digest(digests),
                "rows": {table.name: table.rows for table in database.tables},
            }
        _write(folder, file, manifest)
    return manifest


def _write(folder: Path, file: Path, manifest: dict[str, Any]) -> None:
    """Make the folder; the manifest comes last, so that a half-written archive has none."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir(mode=0o700)
        shutil.copyfile(file, folder / SNAPSHOT)
        (folder / SNAPSHOT).chmod(0o600)
        (folder / MANIFEST).write_text(json.dumps(manifest, indent=2, ensure_ascii=False) + "\n")
        (folder / MANIFEST).chmod(0o600)
    except OSError as error:
        raise SwitchyardError(
            "COPY-031",
            f"cannot write the archive {folder}: {error.strerror or error}",
            why="An archive is written into a new folder. The source was only read.",
            fix="name a new folder where there is room: --output /path/to/new-folder",
        ) from error


def load(folder: Path) -> Archive:
    """Return the archive in a folder after checking every byte of its snapshot against the manifest.

    Raises: SwitchyardError: COPY-032, it is not what was exported.
    """
    path = folder / MANIFEST
    try:
        manifest = json.loads(path.read_text())
        label, expected = str(manifest["label"]), str(manifest["file_sha256"])
        if manifest["schema_version"] != SCHEMA_VERSION or manifest["file"] != SNAPSHOT:
            raise _broken(folder, f"{MANIFEST} was written by another version")
        found = _sha256(folder / SNAPSHOT)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _broken(folder, f"{type(error).__name__}: {error}") from error
    if found != expected:
        raise _broken(folder, f"{SNAPSHOT} has SHA-256 {found[:16]}…, the manifest says {expected[:16]}…")
    return Archive(label, folder / SNAPSHOT)


def newest(folder: Path) -> Path:
    """Return the archive in `folder` that was exported last.

    Raises: SwitchyardError: COPY-032, there is none.
    """
    found = sorted(folder.glob(f"*/{MANIFEST}"), key=lambda path: path.stat().st_mtime_ns)
    if not found:
        raise _broken(folder, "there is no archive in it")
    return found[-1].parent


def refuse_work_tree(folder: Path) -> None:
    """Raise if `folder` lies inside a git work tree: somebody's trading history would end in a commit.

    Raises: SwitchyardError: COPY-030.
    """
    resolved = folder.resolve()
    for place in (resolved, *resolved.parents):
        if os.path.lexists(place / ".git"):
            raise SwitchyardError(
                "COPY-030",
                f"{folder} lies inside the git work tree {place}",
                why="An export holds somebody's trading history; in a work tree it would sooner or later be committed. "
                "Nothing was written.",
                fix=f"name a folder outside it: --output {place.parent / 'switchyard-export'}",
            )


def _broken(folder: Path, detail: str) -> SwitchyardError:
    return SwitchyardError(
        "COPY-032",
        f"{folder} is no complete archive: {detail}",
        why=f"An archive is {SNAPSHOT} and {MANIFEST}, byte for byte as they were exported. Nothing was changed.",
        fix="export again: python3 scripts/export_sqlite_data.py --source bot=FILE --output FOLDER",
    )


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()
