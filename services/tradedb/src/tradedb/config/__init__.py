"""Configuration: one settings object per service, read in a fixed order, and which source won for each setting.

1. Railway's variables (on Railway the environment is what Railway injected, and it wins)
2. AWS Secrets Manager, only if SWITCHYARD_AWS_SECRET_ID is set
3. environment variables
4. the .env file
"""

from tradedb.config.database import ResolvedUrl, resolve_database_url
from tradedb.config.load import Origin, load_settings, provenance
from tradedb.config.settings import DatabaseSettings, LogSettings
from tradedb.config.sources import on_railway

__all__ = [
    "DatabaseSettings",
    "LogSettings",
    "Origin",
    "ResolvedUrl",
    "load_settings",
    "on_railway",
    "provenance",
    "resolve_database_url",
]
