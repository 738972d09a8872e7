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


@main.group()
def config() -> None:
    """Show the settings."""


@config.command()
@click.option("--service", help="Only this service's own settings, beside the common ones.")
@json_option
def show(service: str | None, as_json: bool) -> None:
    """Show every setting, redacted, which source won, and the database that they mean."""
    from tradedb.config.classes import service_classes
    from tradedb.config.report import config_report

    services = service_classes()
    if service is not None and service not in services:
        raise click.BadParameter(f"expected one of {', '.join(services)}; found {service!r}", param_hint="--service")
    report = config_report({name: cls for name, cls in services.items() if service in (None, name)})
    click.echo(json.dumps(report.as_dict()) if as_json else "\n".join(report.lines()))
    if not as_json:
        for error in report.errors:
            click.echo("\n".join(error.lines()), err=True)
    sys.exit(report.exit_code)


if __name__ == "__main__":
    main()
