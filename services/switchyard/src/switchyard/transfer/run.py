"""One copy as a person or a program sees it: the plan, the question, the progress and the result."""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
from typing import TYPE_CHECKING, NoReturn

import click
from tradedb.errors import EXIT_FAILED, EXIT_USAGE, SwitchyardError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from types import FrameType

    from switchyard.output import Progress
    from switchyard.transfer.plan import Plan
    from switchyard.transfer.snapshot import Source


def run_copy(
    sources: Sequence[Source],
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

    names = {source.label: source.path for source in sources}
    if len(names) != len(sources):
        raise click.UsageError("two sources have the same label")
    shown_source = ", ".join(f"{label}={path}" for label, path in names.items())

    def confirm(plan: Plan, target: str) -> bool:
        click.echo(plan_text(plan, shown_source, target), err=True)
        return assume_yes or _ask()

    with _ended_by_signals():
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
def _ended_by_signals() -> Iterator[None]:
    """Let SIGTERM end the run as Ctrl-C does: the transaction is taken back and the snapshot removed."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    received: list[int] = []

    def stop(number: int, _frame: FrameType | None) -> None:
        received.append(number)
        _end(number)

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    except Exception:
        if received:  # psycopg2 makes an error of its own of whatever is raised while COPY reads
            _end(received[0])
        raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _end(number: int) -> NoReturn:
    """Raise what ends a program for that signal."""
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    sys.exit(128 + number)
