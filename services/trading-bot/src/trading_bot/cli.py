"""The command line of the bot: ``trading-bot``."""

from __future__ import annotations

import sys

import click
from tradedb.cli import Commands


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Trade on paper, on a simulated market, into the shared database."""


@main.command()
def run() -> None:
    """Run until SIGTERM. Settings come from the environment or .env: DATABASE_URL, PORT, BOT_*."""
    from trading_bot.service import run as run_service

    sys.exit(run_service())
