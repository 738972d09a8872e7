"""The command line of the bot: ``trading-bot``."""

from __future__ import annotations

import json
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

import click
from tradedb.cli import Commands, json_option

from trading_bot.spool.commands import spool


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Trade on paper, into the shared database; or over the past."""


main.add_command(spool)


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


class Moment(click.ParamType):
    """A date or a time in ISO 8601."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        """Return the time that a text means."""
        try:
            return datetime.fromisoformat(value)
        except ValueError:
            self.fail(f"expected a date or a time like 2026-01-31 or 2026-01-31T12:00; found {value!r}", param, ctx)


class JsonObject(click.ParamType):
    """A JSON object."""

    name = "json"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> dict[str, Any]:
        """Return the object that a text means."""
        try:
            found = json.loads(value)
        except ValueError:
            found = None
        if not isinstance(found, dict):
            self.fail(f"expected a JSON object like '{{\"fast_candles\": 5}}'; found {value!r}", param, ctx)
        return found


@main.command()
@click.option("--feed", type=click.Choice(["simulated", "replay", "ccxt"]), help="Where the past comes from.")
@click.option("--file", type=click.Path(path_type=Path), help="Candles to replay, .csv or .parquet; or: sample.")
@click.option("--exchange", help="Exchange to ask, by ccxt's name for it.")
@click.option("--symbol", help="Base and quote in one word, like BTCUSDT.")
@click.option("--interval-s", type=int, help="Length of a candle in seconds; a file says it itself.")
@click.option("--seed", type=int, help="Seed of the simulated market.")
@click.option("--strategy", help="One of those that `trading-bot strategies` lists.")
@click.option("--parameters", type=JsonObject(), help="Its parameters, a JSON object.")
@click.option("--from", "start", type=Moment(), help="Opening of the first candle, UTC.")
@click.option("--to", "end", type=Moment(), help="Close of the last candle, UTC.")
@click.option("--plot", type=click.Path(path_type=Path), help="Draw equity and drawdown into this .svg file.")
@click.option("--quiet", is_flag=True, help="Show no progress.")
@json_option
def backtest(
    start: datetime | None, end: datetime | None, plot: Path | None, quiet: bool, as_json: bool, **chosen: Any
) -> None:
    r"""Trade over the past as the bot would have, and print what came of it: return, drawdown, Sharpe ratio, trades.

    It is the bot's own strategy, risk, paper venue and books; no database is touched. What is not given here comes from
    the bot's settings (BOT_STRATEGY, BOT_FEE_RATE, BOT_STOP_LOSS_PERCENT and so on).

    \b
    Examples:
      trading-bot backtest --feed simulated --strategy MovingAverageCross
      trading-bot backtest --feed replay --file sample --strategy RsiMeanReversion --plot backtest.svg
      trading-bot backtest --feed ccxt --exchange kraken --symbol BTCUSD --interval-s 3600 --from 2026-01-01
      trading-bot backtest --strategy MovingAverageCross --parameters '{"fast_candles": 5, "slow_candles": 20}' --json
    """
    from trading_bot.backtest.command import run_backtest

    names = {"file": "replay_file", "interval_s": "candle_interval_s", "parameters": "strategy_parameters"}
    overrides = {f"bot_{names.get(name, name)}": value for name, value in chosen.items() if value is not None}
    run_backtest(overrides, start=start, end=end, plot=plot, as_json=as_json, quiet=quiet)
