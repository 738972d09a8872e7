"""The original guide's two commands: export a bot's file here, import it there. ``scripts/`` holds their doors."""

# ruff: noqa: D301  # \b is click's mark for lines that it must not join; in a raw string it would be printed

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import click
from tradedb.errors import EXIT_USAGE, SwitchyardError

from switchyard.transfer.cli import copy_to_default
from switchyard.transfer.run import run_copy
from switchyard.transfer.snapshot import Source
from switchyard.transfer.source_option import SOURCE_OR_FILE

# where the bot of the original guide keeps its file, and where ours does without a DATABASE_URL; the first that exists
USUAL_FILES = (Path("src/data/trading_bot.db"), Path("data/trading_bot.db"))


@click.command("export_sqlite_data")
@click.option(
    "--source",
    "given",
    type=SOURCE_OR_FILE,
    help=f"A SQLite file; {' or '.join(map(str, USUAL_FILES))} when left out.",
)
@click.option("--output", type=click.Path(path_type=Path), help="A new folder outside any git work tree.")
@click.option("--json", "as_json", is_flag=True, help="The manifest as one JSON object on stdout.")
def export_command(given: Source | None, output: Path | None, as_json: bool) -> None:
    """Write a checked snapshot of a bot's SQLite file, with a manifest of its digests, into a new folder.

    \b
    python3 scripts/export_sqlite_data.py
    python3 scripts/export_sqlite_data.py --source bot=data/trading_bot.db --output /media/stick/export
    """
    from switchyard.output import Progress, print_json
    from switchyard.transfer.archive import default_folder, export

    source = given or _usual_file()
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    folder = output or default_folder() / f"{source.label}-{stamp}"
    manifest = export(source, folder, Progress())
    if as_json:
        print_json({**manifest, "folder": str(folder)})
        return
    click.echo(f"Exported {sum(manifest['rows'].values()):,} rows of {source.path} to {folder}.")
    click.echo(f"Next: python3 scripts/import_to_postgresql.py {folder}")


@click.command("import_to_postgresql")
@click.argument("archive", required=False, type=click.Path(path_type=Path))
@click.option("--label", help="The name under which the ledger keeps the rows; the archive's own when left out.")
@click.option(
    "--target-url", metavar="URL|env:NAME", help="The Postgres to copy into; the running stack's when left out."
)
@click.option("--yes", "-y", "assume_yes", is_flag=True, help="Do not ask.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
@click.option("--dry-run", is_flag=True, help="Check every value and show the plan; write nothing.")
def import_command(
    archive: Path | None, label: str | None, target_url: str | None, assume_yes: bool, as_json: bool, dry_run: bool
) -> int:
    """Copy an exported folder (or a SQLite file) into Postgres; the newest export when none is named.

    \b
    python3 scripts/import_to_postgresql.py
    python3 scripts/import_to_postgresql.py /media/stick/export --target-url env:DATABASE_URL --yes
    """
    from switchyard.transfer.archive import default_folder, load, newest

    if archive is not None and not archive.is_dir():
        source = Source(label or "bot", archive)
    else:
        checked = load(archive or newest(default_folder()))
        source = Source(label or checked.label, checked.file)
    if target_url is not None:
        return run_copy([source], target_url, assume_yes=assume_yes, as_json=as_json, dry_run=dry_run)
    return copy_to_default([source], assume_yes=assume_yes, as_json=as_json, dry_run=dry_run)


def _usual_file() -> Source:
    """Return the file that a bot without DATABASE_URL writes.

    Raises: SwitchyardError: COPY-033, there is none.
    """
    for path in USUAL_FILES:
        if path.is_file():
            return Source("bot", path)
    raise SwitchyardError(
        "COPY-033",
        f"no --source was given, and there is neither {USUAL_FILES[0]} nor {USUAL_FILES[1]} in {Path.cwd()}",
        why="These are the places where a bot without DATABASE_URL keeps its data. Nothing was written.",
        fix="name the file: python3 scripts/export_sqlite_data.py --source bot=path/to/trading_bot.db",
        exit_code=EXIT_USAGE,
    )
