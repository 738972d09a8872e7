"""How a SQLite file is named on a command line."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from tradedb.errors import EXIT_USAGE, SwitchyardError

if TYPE_CHECKING:
    from switchyard.transfer.snapshot import Source


def require_one(count: int) -> None:
    """Return if exactly one source was given.

    Raises: SwitchyardError: COPY-027.
    """
    if count != 1:
        raise SwitchyardError(
            "COPY-027",
            f"{count} sources were given; a copy takes one",
            why="Rows of several files need rules for merging, and there are none yet. Nothing was changed.",
            fix="name one file: switchyard copy --source bot=data/trading_bot.db",
            exit_code=EXIT_USAGE,
        )


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
