"""``trading-bot backtest``: from its options to its report."""

from __future__ import annotations

import json
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
from pydantic import ValidationError
from pydantic_settings import InitSettingsSource
from tradedb.config import load_settings

from trading_bot.backtest.engine import Engine
from trading_bot.backtest.measures import measures
from trading_bot.backtest.progress import Progress
from trading_bot.backtest.report import as_dict, lines
from trading_bot.backtest.source import nothing_there, past
from trading_bot.risk import RiskLimits
from trading_bot.settings import BotSettings
from trading_bot.strategies.registry import build_strategy
from trading_bot.venue.paper import PaperVenue


def run_backtest(
    overrides: dict[str, Any],
    *,
    start: datetime | None,
    end: datetime | None,
    plot: Path | None,
    as_json: bool,
    quiet: bool,
) -> None:
    """Run a backtest and print its report.

    Args:
        overrides: settings by name that the command line gives.
        start: opening of the first candle, UTC; None: the feed's own choice.
        end: close of the last candle.
        plot: file to draw into.
        as_json: print one object instead of text.
        quiet: show no progress.

    Raises: SwitchyardError, as the feed, the strategy and the plot raise it.
    """
    settings = settled(overrides)
    start, end = _utc(start), _utc(end)
    if start is not None and end is not None and start >= end:
        raise click.UsageError(f"--from {start.isoformat()} is not before --to {end.isoformat()}")
    if plot is not None:
        from trading_bot.backtest.plot import require_writable

        require_writable(plot)
    strategy = build_strategy(settings.bot_strategy, settings.bot_strategy_parameters)
    source = past(settings, start, end, datetime.now(UTC))
    venue = PaperVenue(
        source.playback.venue,
        None,
        fee_rate=settings.bot_fee_rate,
        slippage_rate=settings.bot_slippage_rate,
        partial_fills=settings.bot_partial_fills,
    )
    engine = Engine(
        source.playback,
        strategy=strategy,
        limits=RiskLimits.from_settings(settings),
        venue=venue,
        initial_balance=settings.bot_initial_balance,
    )
    began = time.monotonic()
    progress = None if quiet else Progress(sys.stderr, source.expected)
    try:
        run = engine.play(progress)
    finally:
        venue.close()
        if progress is not None:
            progress.end()
    if run.last is None:
        raise nothing_there(source.title, start, end)
    found = measures(run)
    if as_json:
        report = as_dict(run, found, settings=settings, strategy=strategy, title=source.title)
        click.echo(json.dumps(report))
    else:
        click.echo("\n".join(lines(run, found, settings=settings, strategy=strategy, title=source.title)))
    if plot is not None:
        from trading_bot.backtest.plot import write_plot

        write_plot(plot, run, title=f"{strategy.name} on {source.title}")
    if not quiet:
        drawn = f"; drawn in {plot}" if plot else ""
        click.echo(f"done in {time.monotonic() - began:.1f} s{drawn}", err=True)


def settled(overrides: dict[str, Any]) -> BotSettings:
    """Return the settings of the environment and .env with what the command line says instead.

    Raises: UsageError, a value does not fit; SwitchyardError CONFIG-002, one of the environment's does not.
    """
    settings = load_settings(BotSettings)
    if overrides.get("bot_strategy", settings.bot_strategy) != settings.bot_strategy:
        overrides = {"bot_strategy_parameters": {}, **overrides}  # those of the environment are another strategy's
    try:
        # from these values alone: a source of its own beside them would be merged into the parameters
        source = InitSettingsSource(BotSettings, {**settings.model_dump(), **overrides})
        return BotSettings(_build_sources=((source,), {}))  # pyright: ignore[reportCallIssue]  # of BaseSettings
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"]) or "settings"
        raise click.UsageError(f"{name}: {first['msg']}") from error


def _utc(moment: datetime | None) -> datetime | None:
    """A time of the command line: UTC where it names no zone."""
    if moment is None:
        return None
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
