"""The command line of the bot: ``trading-bot``."""

from __future__ import annotations

import json
import sys

import click
from tradedb.cli import Commands, json_option


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Trade on paper, on a simulated market, into the shared database."""


@main.command()
def run() -> None:
    """Run until SIGTERM. Settings come from the environment or .env: DATABASE_URL, PORT, BOT_*."""
    from trading_bot.service import run as run_service

    sys.exit(run_service())


@main.command()
@json_option
def strategies(as_json: bool) -> None:
    r"""List the strategies that are installed, with their parameters; those of other packages too.

    \b
    Examples:
      trading-bot strategies
      BOT_STRATEGY=RsiMeanReversion BOT_STRATEGY_PARAMETERS='{"buy_below": 25}' trading-bot run
    """
    from dataclasses import asdict

    from trading_bot.strategies.registry import installed

    found = installed()
    if as_json:
        click.echo(json.dumps({"schema_version": 1, "strategies": [asdict(row) for row in found]}, default=str))
        return
    for row in found:
        click.echo(f"{row.name}  ({row.package} {row.version})")
        if row.problem:
            click.echo(f"  cannot be used: {row.problem}")
            continue
        click.echo(f"  {row.summary}")
        click.echo("  " + (", ".join(f"{name}={value}" for name, value in row.parameters.items()) or "no parameters"))
