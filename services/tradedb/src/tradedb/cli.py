"""The command line of the shared database package: ``tradedb``.

Import heavy modules inside the commands: ``tradedb --help`` answers at once.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from tradedb.errors import SwitchyardError

if TYPE_CHECKING:
    from tradedb.manager import DatabaseManager

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


@main.command()
@click.option("--wait-s", default=60.0, show_default=True, help="How long to wait for locks that others hold.")
@json_option
def migrate(wait_s: float, as_json: bool) -> None:
    """Bring the database to this code's revision. Any number of processes may do it at once; there is no way back."""
    from tradedb.migrate import upgrade

    with _manager("tradedb-migrate", create_file=True) as manager:
        result = upgrade(manager, wait_s=wait_s)
        if as_json:
            click.echo(json.dumps({"schema_version": 1, **asdict(result)}))
            return
        if result.adopted:
            click.echo(f"{manager.url_redacted} has the original tables: taken over as they are, no row touched")
        if result.applied:
            click.echo(f"{manager.url_redacted} migrated to {result.after} ({', '.join(result.applied)})")
        else:
            click.echo(f"{manager.url_redacted} is at {result.after}: nothing to do")


@main.command()
@json_option
def info(as_json: bool) -> None:
    """Say which database DATABASE_URL means, as it says itself."""
    with _manager("tradedb-info") as manager:
        found = asdict(manager.database_info())
        stats = asdict(manager.connection_stats())
        if as_json:
            click.echo(json.dumps({"schema_version": 1, "database": found, "connections": stats}))
            return
        for name, value in found.items():
            click.echo(f"{name:<18} {'-' if value is None else value}")
        click.echo(f"{'connections':<18} {stats['total']} of {stats['max_connections']}")
        for role in stats["roles"]:
            click.echo(f"  {role['role']:<16} {role['used']} of {role['limit'] or 'no limit'}")


@main.command()
@json_option
def health(as_json: bool) -> None:
    """Exit 0 when the database answers and its schema is this code's; 69 when it does not answer, 1 when it is not."""
    from tradedb.errors import EXIT_FAILED, EXIT_UNREACHABLE

    with _manager("tradedb-health") as manager:
        found = manager.health()
    if as_json:
        click.echo(json.dumps({"schema_version": 1, "health": asdict(found)}))
    elif found.ok:
        click.echo(f"ok: revision {found.revision}, answered in {found.latency_ms} ms")
    else:
        click.echo(f"not ok: {found.code}: {found.reason}", err=True)
    if not found.ok:
        sys.exit(EXIT_UNREACHABLE if found.latency_ms is None else EXIT_FAILED)


@main.command()
@json_option
def roles(as_json: bool) -> None:
    """Make the roles and their grants. Needs the superuser's DATABASE_URL, and the passwords in *_DB_PASSWORD."""
    from tradedb.config import DatabaseSettings, load_settings, resolve_database_url
    from tradedb.roles import ensure_roles, passwords_from

    _log_to_stderr()
    url = resolve_database_url(load_settings(DatabaseSettings)).unpooled
    changes = ensure_roles(url, passwords_from(os.environ))
    if as_json:
        click.echo(json.dumps({"schema_version": 1, "changes": changes}))
    else:
        click.echo("\n".join(changes) if changes else "every role and grant is as it should be: nothing changed")


@contextmanager
def _manager(service: str, *, create_file: bool = False) -> Iterator[DatabaseManager]:
    """Yield a manager of the database that the settings name."""
    from tradedb.config import DatabaseSettings, load_settings
    from tradedb.manager import DatabaseManager

    _log_to_stderr()
    manager = DatabaseManager.from_settings(load_settings(DatabaseSettings), service=service, create_file=create_file)
    try:
        yield manager
    finally:
        manager.dispose()


def _log_to_stderr() -> None:
    """Send the log to stderr: stdout is data. What it says there is mostly that something is tried again."""
    from tradedb.logs import configure_logging

    configure_logging("tradedb", fmt="plain", stream=sys.stderr)


if __name__ == "__main__":
    main()
