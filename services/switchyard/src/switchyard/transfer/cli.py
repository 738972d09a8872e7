"""``switchyard copy``: the plan, the question, the progress and the result."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import click
from tradedb.errors import EXIT_CONFIG, EXIT_FAILED, EXIT_USAGE, SwitchyardError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from types import FrameType

    from switchyard.output import Progress
    from switchyard.targets import SourceArg as SourceArg  # archive_cli takes it from here
    from switchyard.transfer.plan import Plan

_TERMINATED = 128 + signal.SIGTERM


def run_copy(
    sources: Sequence[SourceArg],
    target_url: str,
    *,
    assume_yes: bool,
    as_json: bool,
    dry_run: bool = False,
    report: Progress | None = None,
) -> int:
    """Copy, tell a person or a program about it, and return the exit code.

    Args:
        sources: label and file.
        target_url: of the Postgres, or ``env:NAME``.
        assume_yes: do not ask.
        as_json: one object on stdout instead of a table.
        dry_run: check everything, write nothing.
        report: takes the progress; a new one on stderr when None.
    Raises: SwitchyardError, as `engine.copy` does; COPY-026, nobody to ask; COPY-027, more than one source.
    """
    from switchyard.output import Progress, print_json
    from switchyard.transfer.engine import copy
    from switchyard.transfer.report import plan_text

    names = {source.label: Path(source.path) for source in sources}
    if len(names) != len(sources):
        raise click.UsageError("two sources have the same label")
    shown_source = ", ".join(f"{label}={path}" for label, path in names.items())

    def confirm(plan: Plan, target: str) -> bool:
        click.echo(plan_text(plan, shown_source, target), err=True)
        return assume_yes or _ask()

    with _ended_by_sigterm():
        done = copy(names, target_url, report=report or Progress(), confirm=confirm, dry_run=dry_run)
    if done.status == "planned":
        click.echo(plan_text(done.plan, shown_source, done.target), err=True)
    if as_json:
        print_json(done.as_dict())
    else:
        click.echo(done.text())
    return EXIT_FAILED if done.status == "declined" else 0


def _ask() -> bool:
    """Return the answer on the terminal; No is the default.

    Raises: SwitchyardError: COPY-026, there is no terminal.
    """
    if not sys.stdin.isatty():
        raise SwitchyardError(
            "COPY-026",
            "there is no terminal to ask on, and --yes was not given",
            why="A copy changes the target, so it asks first. Nothing was changed.",
            fix="look at the plan above, then run the same command with --yes",
            exit_code=EXIT_USAGE,
        )
    return click.confirm("Copy these rows?", default=False, err=True)


@contextlib.contextmanager
def _ended_by_sigterm() -> Iterator[None]:
    """Let SIGTERM end the run as Ctrl-C does: the transaction is taken back and the snapshot removed."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(_signal: int, _frame: FrameType | None) -> None:
        sys.exit(_TERMINATED)

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def copy_to_default(sources: Sequence[SourceArg], *, assume_yes: bool, as_json: bool, dry_run: bool) -> int:
    """Copy into the stack of this checkout; outside a checkout (in an image) into the environment's DATABASE_URL.

    Raises: SwitchyardError: COPY-029, neither is there.
    """
    from switchyard.checkout import Checkout
    from switchyard.targets import current_target

    try:
        checkout = Checkout.find()
    except SwitchyardError:
        if os.environ.get("DATABASE_URL"):
            return run_copy(sources, "env:DATABASE_URL", assume_yes=assume_yes, as_json=as_json, dry_run=dry_run)
        raise SwitchyardError(
            "COPY-029",
            "no target: this is no checkout, and there is no DATABASE_URL in the environment",
            why="The rows must go somewhere. Nothing was changed.",
            fix="name it: switchyard copy --source bot=FILE --target-url env:DATABASE_URL",
            exit_code=EXIT_CONFIG,
        ) from None
    return current_target(checkout).copy(sources, assume_yes=assume_yes, as_json=as_json, dry_run=dry_run)


def parse_source(value: str) -> SourceArg:
    """Return ``LABEL=FILE`` as a SourceArg.

    Raises: click.BadParameter.
    """
    label, equals, path = value.partition("=")
    if not equals or not label.strip() or not path:
        raise click.BadParameter(f"{value!r} is not LABEL=FILE, for example bot=data/trading_bot.db")
    return source_arg(label.strip(), Path(path).expanduser())


def source_arg(label: str, path: Path) -> SourceArg:
    """Return a source as targets take it."""
    from switchyard.targets import SourceArg

    return SourceArg(label=label, path=path)


def _parse_sources(_ctx: click.Context, _param: click.Parameter, values: tuple[str, ...]) -> tuple[SourceArg, ...]:
    return tuple(parse_source(value) for value in values)


@click.command("copy")
@click.option(
    "--source",
    "sources",
    metavar="LABEL=FILE",
    multiple=True,
    required=True,
    callback=_parse_sources,
    help="A SQLite file, and the name under which the ledger keeps it. It is only read and may be in use.",
)
@click.option(
    "--target-url",
    metavar="URL|env:NAME",
    help="The Postgres to copy into; the running stack's when left out. A URL here shows in `ps`: env:NAME reads it "
    "from that environment variable instead.",
)
@click.option("--yes", "-y", "assume_yes", is_flag=True, help="Do not ask.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
@click.option("--dry-run", is_flag=True, help="Check every value and show the plan; write nothing.")
def copy_command(
    sources: tuple[SourceArg, ...], target_url: str | None, assume_yes: bool, as_json: bool, dry_run: bool
) -> int:
    r"""Copy every row of a SQLite file into Postgres: one transaction, each value read back before it commits.

    \b
    switchyard copy --source bot=data/trading_bot.db
    switchyard copy --source bot=data/trading_bot.db --dry-run
    switchyard copy --source bot=data/trading_bot.db --target-url env:DATABASE_URL --yes --json

    The tables in the target must hold no rows. Repeating a finished copy changes nothing and says so.
    """
    if target_url is not None:
        return run_copy(sources, target_url, assume_yes=assume_yes, as_json=as_json, dry_run=dry_run)
    return copy_to_default(sources, assume_yes=assume_yes, as_json=as_json, dry_run=dry_run)
