"""What both services import.

Names load on first use: the command line wants the errors and not SQLAlchemy.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tradedb.config import DatabaseSettings, load_settings
    from tradedb.errors import SwitchyardError
    from tradedb.failures import DatabaseUnavailable, OutcomeUnknown
    from tradedb.logs import configure_logging
    from tradedb.manager import DatabaseManager

__all__ = [
    "DatabaseManager",
    "DatabaseSettings",
    "DatabaseUnavailable",
    "OutcomeUnknown",
    "SwitchyardError",
    "configure_logging",
    "load_settings",
]

_HOME = {
    "DatabaseManager": "tradedb.manager",
    "DatabaseSettings": "tradedb.config",
    "DatabaseUnavailable": "tradedb.failures",
    "OutcomeUnknown": "tradedb.failures",
    "SwitchyardError": "tradedb.errors",
    "configure_logging": "tradedb.logs",
    "load_settings": "tradedb.config",
}


def __getattr__(name: str) -> Any:
    """Return a public name from the module that defines it."""
    if name not in _HOME:
        raise AttributeError(f"module 'tradedb' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)
