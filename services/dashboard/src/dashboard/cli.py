"""The command line of the dashboard: ``dashboard run``. Heavy imports are inside the command."""

from __future__ import annotations

import click
from tradedb.cli import Commands


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Look at the bot, its trades and its database, in a browser."""


@main.command()
def run() -> None:
    """Serve the pages on HOST and PORT until SIGTERM.

    Needs DASHBOARD_PASSWORD (12 characters or more). DATABASE_URL names the database; off Railway, without it, the
    SQLite file data/trading_bot.db is read.
    """
    from dashboard.serve import serve

    serve()
