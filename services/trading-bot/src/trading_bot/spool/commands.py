"""``trading-bot spool``: what an operator asks at three in the morning. Both commands only read."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from tradedb.cli import json_option
from tradedb.errors import EXIT_FAILED

if TYPE_CHECKING:
    from trading_bot.spool.inspect import Findings, Place
    from trading_bot.spool.segments import Entry

folder_option = click.option(
    "--folder",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="A spool's own folder; without it, every spool in BOT_STATE_DIR.",
)


@click.group()
def spool() -> None:
    r"""See what waits in the spool for the database, and whether it is whole. Reads only; the bot may be running.

    \b
    Examples:
      trading-bot spool verify
      docker compose exec trading-bot trading-bot spool show --json
    """


@spool.command()
@folder_option
@json_option
def verify(folder: Path | None, as_json: bool) -> None:
    """Read every record and its checksums. Exit code 1 when one is damaged, with its file and byte."""
    from trading_bot.spool.inspect import inspect

    found = [inspect(path) for path in _folders(folder)]
    if as_json:
        click.echo(json.dumps({"schema_version": 1, "spools": [_as_json(one) for one in found]}))
    else:
        _echo_findings(found)
    sys.exit(0 if all(one.sound for one in found) else EXIT_FAILED)


@spool.command()
@folder_option
@click.option("--limit", default=20, show_default=True, type=click.IntRange(0), help="Entries to print of each spool.")
@json_option
def show(folder: Path | None, limit: int, as_json: bool) -> None:
    """Print what no database has acknowledged, oldest first. Exit code 1 when the spool is damaged."""
    from trading_bot.spool.inspect import inspect

    found = [inspect(path) for path in _folders(folder)]
    if as_json:
        spools = [{**_as_json(one), "shown": [_entry_as_json(entry) for entry in one.waiting[:limit]]} for one in found]
        click.echo(json.dumps({"schema_version": 1, "spools": spools}))
    else:
        _echo_findings(found, limit)
    sys.exit(0 if all(one.sound for one in found) else EXIT_FAILED)


def _folders(folder: Path | None) -> list[Path]:
    if folder is not None:
        return [folder]
    from tradedb.config import load_settings

    from trading_bot.settings import BotSettings
    from trading_bot.spool.inspect import spool_folders

    return spool_folders(load_settings(BotSettings).bot_state_dir)


def _echo_findings(found: list[Findings], entries: int | None = None) -> None:
    """Say what was found, with this many of the entries that wait; None: without them."""
    if not found:
        click.echo("no spool in BOT_STATE_DIR: the bot has not run with it yet")
    for one in found:
        click.echo(f"{'OK  ' if one.sound else 'FAIL'}  {one.folder}")
        for line in _lines(one):
            click.echo(f"      {line}")
        if entries is None:
            continue
        for entry in one.waiting[:entries]:
            click.echo(f"  {entry.number:>8}  {_text(entry.appended_at)}  {entry.kind:<8} {_short(entry.body)}")
        if len(one.waiting) > entries:
            click.echo(f"  and {len(one.waiting) - entries} more: --limit {len(one.waiting)}")


def _lines(one: Findings) -> list[str]:
    read = f"{one.entries} entries in {one.files} files, {one.disk_bytes / 1024:.1f} KiB"
    lines = [f"{read}; {'in use by ' + one.held_by if one.held_by else 'in use by nobody'}"]
    if one.waiting:
        kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(one.kinds.items()))
        at = one.waiting[0].appended_at
        age_s = max(0.0, (datetime.now(UTC) - at).total_seconds())
        lines.append(f"{len(one.waiting)} not acknowledged ({kinds}), the oldest since {age_s:.0f} s ({_text(at)})")
    else:
        lines.append(
            f"everything {'before the damage' if one.damage else 'in it'} was acknowledged"
            if one.entries
            else "nothing in it"
        )
    if one.identity:
        lines.append(f"last acknowledged by database {one.identity}")
    if one.torn is not None:
        lines.append(f"the last record is not whole: {_where(one.torn)}")
        lines.append("it is being written now" if one.held_by else "a crash cut it short: the next start cuts it off")
    if one.damage is not None:
        lines.append(f"DAMAGED: {_where(one.damage)}")
        lines.append("nothing behind that was read; what to do: docs/troubleshooting/bot.md, BOT-030")
    return lines


def _where(place: Place) -> str:
    return f"{place.file}{'' if place.offset is None else f' at byte {place.offset}'}: {place.why}"


def _as_json(one: Findings) -> dict[str, Any]:
    """Everything but the entries themselves."""
    values = asdict(one)
    del values["waiting"]
    oldest = one.waiting[0].appended_at if one.waiting else None
    return {
        **values,
        "sound": one.sound,
        "unacknowledged": len(one.waiting),
        "kinds": one.kinds,
        "oldest_unacknowledged_at": _text(oldest) if oldest else None,
    }


def _entry_as_json(entry: Entry) -> dict[str, Any]:
    return {
        "number": entry.number,
        "appended_at": _text(entry.appended_at),
        "kind": entry.kind,
        "key": entry.key,
        "body": entry.body,
    }


def _text(at: datetime) -> str:
    return at.isoformat(timespec="milliseconds")


def _short(body: Mapping[str, Any]) -> str:
    """A body on one line, without what is too long for it."""
    text = json.dumps(body)
    return text if len(text) <= 160 else f"{text[:159]}…"
