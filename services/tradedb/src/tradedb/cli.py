"""The command line of the shared database package: ``tradedb``.

Import heavy modules inside the commands: ``tradedb --help`` answers at once.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import click

from tradedb.errors import SwitchyardError

EXIT_INTERRUPTED = 130  # what a shell reports for Ctrl-C

json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout.")


class Commands(click.Group):
    """Commands in which a SwitchyardError ends as three lines (or as the object of ``--json``) and its exit code."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; on a SwitchyardError, print it in the form that the caller asked for and exit."""
        as_json = "--json" in ctx.args  # the command's own arguments are not parsed yet
        try:
            return super().invoke(ctx)
        except SwitchyardError as error:
            if as_json:
                click.echo(json.dumps({"schema_version": 1, "error": error.as_dict()}))
            else:
                click.echo("\n".join(error.lines()), err=True)
            sys.exit(error.exit_code)
        except KeyboardInterrupt:
            sys.exit(EXIT_INTERRUPTED)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """See and prepare the database that DATABASE_URL names."""


if __name__ == "__main__":
    main()
