"""Which settings classes are installed: tradedb's own, and those that services declare.

A service declares its class in its pyproject.toml, so that nothing here imports it::

    [project.entry-points."tradedb.settings"]
    trading-bot = "trading_bot.settings:BotSettings"
"""

from __future__ import annotations

from importlib.metadata import entry_points

from pydantic_settings import BaseSettings

from tradedb.config.settings import DatabaseSettings, LogSettings, SourcesSettings

COMMON: tuple[type[BaseSettings], ...] = (DatabaseSettings, LogSettings, SourcesSettings)  # what every service reads


def service_classes() -> dict[str, type[BaseSettings]]:
    """Return the settings class of each installed service, by the service's name."""
    found = sorted(entry_points(group="tradedb.settings"), key=lambda entry: entry.name)
    return {entry.name: entry.load() for entry in found}
