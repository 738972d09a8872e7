"""The command line. Each command imports what it needs when it runs, so that ``--help`` and ``status`` stay quick."""

# ruff: noqa: D301  # \b is click's mark for lines that it must not join

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, ClassVar

import click
from tradedb.errors import EXIT_FAILED, EXIT_USAGE, SwitchyardError

from switchyard.transfer.source_option import SOURCE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from switchyard.transfer.snapshot import Source

EXIT_INTERRUPTED = 130


class LazyGroup(click.Group):
    """A group of which some commands live in modules that are imported only when they are used."""

    lazy: ClassVar[dict[str, tuple[str, str]]] = {"copy": ("switchyard.transfer.cli", "copy_command")}

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all commands."""
        return sorted([*super().list_commands(ctx), *self.lazy])

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return one command, importing its module if need be."""
        if cmd_name in self.lazy:
            module, name = self.lazy[cmd_name]
            return getattr(importlib.import_module(module), name)
        return super().get_command(ctx, cmd_name)


ROLE = click.Choice(["admin", "migrator", "trading-bot", "dashboard", "monitor", "backup"])
TARGET = click.Choice(["embedded", "compose"])
json_option = click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
yes_option = click.option("--yes", "-y", "assume_yes", is_flag=True, help="Answer every question with yes.")


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="switchyard")
def cli() -> None:
    """One Postgres for your bot and your dashboard: on your laptop and on Railway.

    \b
    switchyard up                                   start everything
    switchyard up --source bot=data/trading_bot.db  … with the history of a SQLite file in it
    switchyard status                               what runs, and where
    switchyard down                                 stop everything; the data stays
    """


@cli.command()
@click.option("--target", type=TARGET, help="Where to run; chosen by itself and remembered when left out.")
@click.option("--source", "sources", type=SOURCE, multiple=True, help="Copy this SQLite file first.")
@click.option("--new-ports", is_flag=True, help="Choose free ports anew, in .env too.")
@yes_option
def up(target: str | None, sources: tuple[Source, ...], new_ports: bool, assume_yes: bool) -> None:
    """Start everything and say where it is.

    Postgres, roles and migrations, then both services. Again when all of it runs: checks, and changes nothing.

    \b
    switchyard up
    switchyard up --target embedded --source bot=data/trading_bot.db
    """
    from switchyard import stack

    stack.up(target, sources, new_ports=new_ports, assume_yes=assume_yes)


@cli.command()
def down() -> None:
    """Stop everything and leave no process. The data stays.

    \b
    switchyard down
    """
    from switchyard import stack

    stack.down()


@cli.command()
@json_option
def status(as_json: bool) -> int:
    """Show what runs, where, and which database is behind it. Exit code 1 when something is not healthy.

    \b
    switchyard status
    switchyard status --json
    """
    from switchyard import stack

    return stack.status(as_json=as_json)


@cli.command()
@click.option("--follow", "-f", is_flag=True, help="Go on showing new lines until Ctrl-C.")
@click.argument("service", required=False)
def logs(follow: bool, service: str | None) -> int:
    """Show the newest log lines.

    \b
    switchyard logs trading-bot
    switchyard logs -f
    """
    from switchyard import stack

    return stack.logs(service, follow=follow)


@cli.command()
@click.argument("service")
def restart(service: str) -> None:
    """Restart SERVICE and wait until it is ready.

    \b
    switchyard restart dashboard
    """
    from switchyard import stack

    stack.restart(service)


@cli.command(context_settings={"ignore_unknown_options": True})
@click.argument("args", nargs=-1, type=click.UNPROCESSED)
def psql(args: tuple[str, ...]) -> int:
    """Open psql as the superuser.

    ARGS go to psql.

    \b
    switchyard psql
    switchyard psql -c 'SELECT count(*) FROM trades'
    """
    from switchyard import stack

    return stack.psql(args)


@cli.command(name="exec", context_settings={"ignore_unknown_options": True})
@click.argument("service")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def exec_(service: str, command: tuple[str, ...]) -> int:
    """Run COMMAND as SERVICE would.

    It gets exactly the environment that SERVICE has, and nothing else.

    \b
    switchyard exec trading-bot -- tradedb info --json
    """
    from switchyard import stack

    return stack.exec_in(service, command)


@cli.command()
def env() -> None:
    """Write .env with fresh secrets and ports.

    An existing one is left as it is.

    \b
    switchyard env
    """
    from switchyard import stack

    stack.write_env()


@cli.command()
@click.option("--target", type=TARGET, help="Whose database; without it that of the target that was used last.")
@yes_option
def reset(target: str | None, assume_yes: bool) -> None:
    """Stop everything and DELETE THE DATABASE. Asks first; without a terminal it needs --yes.

    \b
    switchyard reset
    switchyard reset --target embedded
    """
    from switchyard import stack

    stack.reset(target, assume_yes=assume_yes)


@cli.group()
def db() -> None:
    """The database: its URL, its roles, its schema.

    \b
    switchyard db url --role dashboard
    switchyard db roles
    """


@db.command(name="url")
@click.option("--role", type=ROLE, default="admin", show_default=True, help="Whose URL.")
def db_url(role: str) -> None:
    """Print the URL of the database, password included.

    \b
    switchyard db url --role dashboard
    """
    from switchyard import stack

    click.echo(stack.database_url(role))


@db.command(name="roles")
def db_roles() -> None:
    """Create the least-privilege roles, or set them right. Passwords come from .env (in an image: the environment).

    \b
    switchyard db roles
    """
    from switchyard import stack

    stack.ensure_roles()


@db.command(name="prepare")
def db_prepare() -> None:
    """Wait for the database, create the roles, migrate. `up` does it; in the ops image it is the command.

    \b
    switchyard db prepare
    """
    from switchyard import stack

    stack.prepare_database()


@cli.group(name="config")
def config_group() -> None:
    """The settings.

    \b
    switchyard config show --service dashboard
    """


@config_group.command(name="show")
@click.option(
    "--service",
    type=click.Choice(["trading-bot", "dashboard"]),
    default="trading-bot",
    show_default=True,
    help="Whose settings.",
)
@json_option
def config_show(service: str, as_json: bool) -> int:
    """Show every setting, redacted, and which source won.

    \b
    switchyard config show
    switchyard config show --service dashboard --json
    """
    from switchyard import stack

    return stack.config_show(service, as_json=as_json)


def main(args: Sequence[str] | None = None, *, command: click.Command = cli, name: str = "switchyard") -> None:
    """Run the command line (or the one `command` that a script stands for) and end the process with its exit code."""
    arguments = list(sys.argv[1:] if args is None else args)
    as_json = "--json" in arguments
    try:
        code = command.main(args=arguments, prog_name=name, standalone_mode=False)
    except SwitchyardError as error:
        from switchyard.output import print_error

        print_error(error, as_json=as_json)
        code = error.exit_code
    except click.ClickException as error:
        error.show()
        code = EXIT_USAGE if isinstance(error, click.UsageError) else EXIT_FAILED
    except (click.Abort, KeyboardInterrupt):
        sys.stderr.write("\nInterrupted.\n")
        code = EXIT_INTERRUPTED
    except BrokenPipeError:  # `switchyard logs | head`
        sys.stderr.close()
        code = EXIT_FAILED
    sys.exit(code if isinstance(code, int) else 0)
