"""How a SQLite file is named on a command line."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from switchyard.transfer.snapshot import Source


class SourceType(click.ParamType):
    """``LABEL=FILE`` as a Source."""

    name = "LABEL=FILE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Source:
        """Return the Source, or end with a usage error; whether the file is there is asked later."""
        from switchyard.transfer.snapshot import Source

        if isinstance(value, Source):
            return value
        label, equals, path = str(value).partition("=")
        if not equals or not label.strip() or not path:
            self.fail(f"{value!r} is not LABEL=FILE, for example bot=data/trading_bot.db", param, ctx)
        return Source(label.strip(), Path(path).expanduser())


class SourceOrFileType(SourceType):
    """The same, or a bare file, which gets the label ``bot``."""

    name = "[LABEL=]FILE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Source:
        """Return the Source, or end with a usage error."""
        return super().convert(value if "=" in str(value) else f"bot={value}", param, ctx)


SOURCE = SourceType()
SOURCE_OR_FILE = SourceOrFileType()
