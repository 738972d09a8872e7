"""Loads a settings class from the sources in order, and remembers for every setting which source won."""

from __future__ import annotations

import weakref
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, get_args

from pydantic import AliasChoices, SecretBytes, SecretStr, ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, EnvSettingsSource
from sqlalchemy import URL

from tradedb.config.sources import Source, SourceName, read_sources
from tradedb.errors import EXIT_CONFIG, SwitchyardError
from tradedb.redaction import HIDDEN, redact, register_secret
from tradedb.urls import parse_database_url, redact_url

S = TypeVar("S", bound=BaseSettings)


@dataclass(frozen=True)
class Origin:
    """Where one setting's value came from.

    Args:
        value: the value as a person may see it; None when the setting is unset.
        source: which source won.
        where: what to open to change it.
    """

    value: str | None
    source: SourceName
    where: str


class _Layer(EnvSettingsSource):
    """One source, seen as pydantic-settings sees an environment: only the variables that the class declares."""

    def __init__(self, cls: type[BaseSettings], source: Source) -> None:
        super().__init__(cls)
        declared = {name: variable_name(cls, name) for name in cls.model_fields}
        nested = self.env_nested_delimiter
        self.source = source
        self.env_vars = {
            key.lower(): value
            for key, value in source.values.items()
            if key in declared.values() or (nested and key.partition(nested)[0] in declared.values())
        }

    def decode_complex_value(self, field_name: str, field: FieldInfo, value: Any) -> Any:
        """Return the list or mapping in a JSON text; say which variable is at fault."""
        try:
            return super().decode_complex_value(field_name, field, value)
        except ValueError:
            variable = variable_name(self.settings_cls, field_name)
            found = HIDDEN if is_secret(field) else repr(value)
            problem = f"{variable}: expected JSON, found {found} (from {self.source.where})"
            raise _invalid([problem], self.source.where) from None


def load_settings(cls: type[S], *, env_file: Path | None = None) -> S:
    """Return the settings of `cls`, read from Railway, AWS Secrets Manager, the environment and .env, in this order.

    Every secret value read is registered, so that no log shows it.

    Args:
        cls: any BaseSettings subclass. A field's variable is its alias or its prefixed name, in upper case.
        env_file: the .env file; without it SWITCHYARD_ENV_FILE's, else ./.env if there is one.

    Raises:
        SwitchyardError: exit code 78. CONFIG-002 a value that does not fit, CONFIG-003 a required setting that no
            source has, CONFIG-004 to CONFIG-008 a source that is configured and cannot be read.
    """
    layers = [_Layer(cls, source) for source in read_sources(env_file)]
    found = [(layer.source, layer()) for layer in layers]
    _register_secrets(cls, [values for _, values in found])
    winners = {name: _winner(cls, name, found) for name in cls.model_fields}
    try:
        settings = cls(_build_sources=(tuple(layers), {}))
    except ValidationError as error:
        raise _explain(cls, error, winners) from None
    _remember(settings, winners)
    return settings


def provenance(settings: BaseSettings) -> dict[str, Origin]:
    """Return for every setting, by variable name, its redacted value and the source that won.

    Settings that no `load_settings` made say "code" for what was given and "default" for the rest.
    """
    cls = type(settings)
    winners = _winners.get(id(settings))
    origins: dict[str, Origin] = {}
    for name in cls.model_fields:
        if winners is not None:
            source, where = winners[name]
        elif name in settings.model_fields_set:
            source, where = "code", "given by the program"
        else:
            source, where = _DEFAULT
        origins[variable_name(cls, name)] = Origin(_shown(getattr(settings, name)), source, where)
    return origins


def variable_name(cls: type[BaseSettings], name: str) -> str:
    """Return the one name under which a person sets the field `name`, like DATABASE_POOL_SIZE for pool_size."""
    alias = cls.model_fields[name].validation_alias
    if isinstance(alias, AliasChoices):
        alias = alias.choices[0]
    if isinstance(alias, str):
        return alias.upper()
    return f"{cls.model_config.get('env_prefix', '')}{name}".upper()


def is_secret(field: FieldInfo) -> bool:
    """Return whether the field's type hides its value."""
    return _holds_secret(field.annotation)


_DEFAULT: tuple[SourceName, str] = ("default", "its default")
_winners: dict[int, Mapping[str, tuple[SourceName, str]]] = {}  # by id(settings), for as long as they live


def _remember(settings: BaseSettings, winners: Mapping[str, tuple[SourceName, str]]) -> None:
    """Keep which source won; settings classes are not ours, so it cannot be kept in the object."""
    _winners[id(settings)] = winners
    weakref.finalize(settings, _winners.pop, id(settings), None)


def _winner(cls: type[BaseSettings], name: str, found: list[tuple[Source, dict[str, Any]]]) -> tuple[SourceName, str]:
    """Return the first source that has the field."""
    keys = _keys(cls, name)
    for source, values in found:
        if keys & values.keys():
            return source.name, source.where
    return _DEFAULT


def _holds_secret(kind: object) -> bool:
    """Return whether a type, or one inside it (a union, Annotated, a list), hides its value."""
    return kind in (SecretStr, SecretBytes) or any(_holds_secret(inner) for inner in get_args(kind))


def _keys(cls: type[BaseSettings], name: str) -> set[str]:
    """Return the keys under which pydantic may report the field: its name and its aliases."""
    alias = cls.model_fields[name].validation_alias
    aliases = alias.choices if isinstance(alias, AliasChoices) else [alias]
    return {name, *(choice for choice in aliases if isinstance(choice, str))}


def _register_secrets(cls: type[BaseSettings], sources: list[dict[str, Any]]) -> None:
    """Make every log hide the secrets in all sources: of a database URL the password, its host stays readable."""
    for name, field in cls.model_fields.items():
        if is_secret(field):
            for text in _texts([values[key] for values in sources for key in _keys(cls, name) if key in values]):
                url = _database_url(text)
                for secret in (url.password, url.query.get("password")) if url else (text,):
                    register_secret(str(secret or ""))


def _texts(value: object) -> Iterator[str]:
    """Yield the texts in a value, however deep in lists and mappings."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        yield from _texts(list(value.values()))
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item)


def _database_url(text: str) -> URL | None:
    """Return the text as a database URL if it is one."""
    try:
        return parse_database_url(text)
    except SwitchyardError:
        return None


def _shown(value: object) -> str | None:
    """Return the value as a person may see it."""
    if value is None:
        return None
    if isinstance(value, SecretStr):
        url = _database_url(value.get_secret_value())
        return redact_url(url) if url else HIDDEN
    return HIDDEN if isinstance(value, SecretBytes) else redact(str(value))


def _explain(
    cls: type[BaseSettings], error: ValidationError, winners: Mapping[str, tuple[SourceName, str]]
) -> SwitchyardError:
    """Return the error that names each variable at fault, what was expected and found, and its source."""
    by_key = {key: name for name in cls.model_fields for key in _keys(cls, name)}
    problems: list[str] = []
    missing: list[str] = []
    wheres: list[str] = []
    for problem in error.errors(include_url=False):
        key = str(problem["loc"][0]) if problem["loc"] else ""
        name = by_key.get(key)
        if name is None:  # a rule over several settings
            problems.append(_sentence(problem["msg"]))
            continue
        variable = variable_name(cls, name)
        if problem["type"] == "missing":
            missing.append(variable)
            continue
        _, where = winners[name]
        shown = HIDDEN if is_secret(cls.model_fields[name]) else redact(repr(problem.get("input")))
        problems.append(f"{variable}: {_sentence(problem['msg'])}, found {shown} (from {where})")
        wheres.append(f"{variable} in {where}")
    if problems:
        return _invalid(problems, ", ".join(wheres) or "the settings named above")
    return SwitchyardError(
        "CONFIG-003",
        f"{', '.join(missing)}: required, and set nowhere",
        why="no source has it: Railway's variables, AWS Secrets Manager, the environment, .env. Nothing was started.",
        fix=f"set {', '.join(missing)}; docs/configuration.md says what belongs there",
        exit_code=EXIT_CONFIG,
    )


def _sentence(message: str) -> str:
    """Return pydantic's message in our words: "expected a valid integer"."""
    message = message.removeprefix("Value error, ").partition(", unable to ")[0]
    return f"expected {message.removeprefix('Input should be ')}" if message.startswith("Input") else redact(message)


def _invalid(problems: list[str], where: str) -> SwitchyardError:
    """Return the error for values that do not fit."""
    return SwitchyardError(
        "CONFIG-002",
        "; ".join(problems),
        why="a setting that does not fit is never replaced by its default. Nothing was started or changed.",
        fix=f"correct {where}; docs/configuration.md says what belongs there",
        exit_code=EXIT_CONFIG,
    )
