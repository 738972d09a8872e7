"""Writes docs/configuration.md from the settings classes: ``python -m tradedb.config.document docs/configuration.md``.

With ``--check`` nothing is written; the exit code is 1 when the page is not what the settings say.
"""

from __future__ import annotations

from pathlib import Path

import click
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined
from pydantic_settings import BaseSettings

from tradedb.config.classes import COMMON, service_classes
from tradedb.config.load import is_secret, variable_name

INTRODUCTION = """\
# Configuration

<!-- Generated from the settings classes by `make docs`; do not edit. -->

Every setting is a variable. Four sources are read, and the first that has the variable wins:

1. **Railway's variables.** On Railway (`RAILWAY_ENVIRONMENT` and its like are present) the environment is what Railway
   injected, and it wins.
2. **AWS Secrets Manager**, only if `SWITCHYARD_AWS_SECRET_ID` is set. A secret that is configured and cannot be read
   stops the start; it is never skipped.
3. **Environment variables.**
4. **The `.env` file**: `KEY=value` lines, read as they stand; nothing in a value is expanded.

`tradedb config show` says for every setting its value (secrets hidden) and which source won; `switchyard config show`
asks the same where a service runs. Names are exact, upper case; an empty value counts as unset. A value that does not
fit stops the start with exit code 78 and names the variable, what was expected and its source.

The keys of the local stack's own `.env` (ports, the passwords of the roles) are described in
[`.env.example`](../.env.example); errors in
[troubleshooting](troubleshooting/README.md).

## Which database

`DATABASE_URL` wins; else `PGHOST`, `PGPORT`, `PGUSER`, `PGPASSWORD` and `PGDATABASE` are put together; else, and never
on Railway, a SQLite file: `src/data/trading_bot.db` where it exists, else `data/trading_bot.db`. `postgres://` and
`postgresql://` are the same. A password may hold any character, percent-encoded or as it is; as it is, a `%` followed
by two hexadecimal digits would be read as encoded.

To any host but this machine the URL is given `sslmode=require channel_binding=require require_auth=scram-sha-256`
unless it says otherwise; on this machine only `require_auth=scram-sha-256` (a server with trust authentication needs
`require_auth=none` in the URL). A weaker `sslmode` across a network is refused.
"""

UNITS = {"_s": "seconds", "_ms": "milliseconds", "_bytes": "bytes", "_candles": "candles"}


def page(services: dict[str, type[BaseSettings]]) -> str:
    """Return the page on the common settings and on those of `services` (name to class)."""
    parts = [INTRODUCTION]
    parts += [_section(cls.__name__.removesuffix("Settings"), cls, "every service") for cls in COMMON]
    parts += [_section(name, cls, name) for name, cls in services.items()]
    return "\n".join(parts)


def _section(title: str, cls: type[BaseSettings], read_by: str) -> str:
    """Return the section on one class: its docstring and a table of its fields."""
    summary = (cls.__doc__ or "").strip().splitlines()[0].replace("``", "`")
    rows = [
        "| variable | what it is | unit | default | read by | secret |",
        "|---|---|---|---|---|---|",
        *(_row(variable_name(cls, name), name, field, read_by) for name, field in cls.model_fields.items()),
    ]
    return f"## {title}\n\n{summary}\n\n" + "\n".join(rows) + "\n"


def _row(variable: str, name: str, field: FieldInfo, read_by: str) -> str:
    """Return the table row of one setting."""
    what = (field.description or "").strip().rstrip(".")
    what = what[:1].upper() + what[1:]
    unit = next((unit for suffix, unit in UNITS.items() if name.endswith(suffix)), "")
    cells = (f"`{variable}`", what, unit, _default(field), read_by, "yes" if is_secret(field) else "")
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _default(field: FieldInfo) -> str:
    """Return the default as one would write it."""
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=False)
    if value is None or value is PydanticUndefined:
        return ""
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--check", is_flag=True, help="Write nothing; exit 1 when FILE is not what the settings say.")
def main(file: Path, *, check: bool) -> None:
    """Write the configuration page to FILE."""
    text = page(service_classes())
    if not check:
        file.write_text(text, encoding="utf-8")
    elif not file.is_file() or file.read_text(encoding="utf-8") != text:
        click.echo(f"{file} is not what the settings say.\n  Fix: python -m tradedb.config.document {file}", err=True)
        raise SystemExit(1)


if __name__ == "__main__":
    main()
