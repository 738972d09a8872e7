"""``switchyard copy``: into a URL that is named, or into the stack that runs here."""

# ruff: noqa: D301  # \b is click's mark for lines that it must not join; in a raw string it would be printed

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click
from tradedb.errors import EXIT_CONFIG, SwitchyardError

from switchyard.transfer.run import run_copy
from switchyard.transfer.source_option import SOURCE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from switchyard.transfer.snapshot import Source


def copy_to_default(sources: Sequence[Source], *, assume_yes: bool, as_json: bool, dry_run: bool) -> int:
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


@click.command("copy")
@click.option(
    "--source",
    "sources",
    type=SOURCE,
    multiple=True,
    required=True,
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
    sources: tuple[Source, ...], target_url: str | None, assume_yes: bool, as_json: bool, dry_run: bool
) -> int:
    """Copy every row of a SQLite file into Postgres: one transaction, each value read back before it commits.

    \b
    switchyard copy --source bot=data/trading_bot.db
    switchyard copy --source bot=data/trading_bot.db --dry-run
    switchyard copy --source bot=data/trading_bot.db --target-url env:DATABASE_URL --yes --json

    The tables in the target must hold no rows. Repeating a finished copy changes nothing and says so.
    """
    if target_url is not None:
        return run_copy(sources, target_url, assume_yes=assume_yes, as_json=as_json, dry_run=dry_run)
    return copy_to_default(sources, assume_yes=assume_yes, as_json=as_json, dry_run=dry_run)
