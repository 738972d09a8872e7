"""Finding strategies: every installed package can bring some, by the entry-point group ``trading_bot.strategies``.

In the pyproject.toml of a package of one's own::

    [project.entry-points."trading_bot.strategies"]
    BuyTheDip = "my_package.dip:BuyTheDip"

Installed beside the bot, it is found by its name: ``BOT_STRATEGY=BuyTheDip``.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from tradedb.errors import EXIT_CONFIG, SwitchyardError

from trading_bot.strategies import Strategy

GROUP = "trading_bot.strategies"


@dataclass(frozen=True, slots=True)
class Installed:
    """A strategy that some package brings. ``problem`` says why it cannot be used, where it cannot."""

    name: str
    package: str
    version: str
    summary: str
    parameters: dict[str, Any]
    problem: str | None = None


def installed() -> list[Installed]:
    """Return every strategy that is installed, sorted by name; broken ones too, with what is wrong with them."""
    found = []
    for entry in sorted(entry_points(group=GROUP), key=lambda entry: entry.name):
        package = entry.dist.name if entry.dist else "?"
        version = entry.dist.version if entry.dist else "?"
        try:
            cls = _loaded(entry)
        except SwitchyardError as error:
            found.append(Installed(entry.name, package, version, "", {}, f"{error.what}. {error.why}"))
        else:
            found.append(Installed(entry.name, package, version, _summary(cls), _parameters(cls)))
    return found


def build_strategy(name: str, parameters: Mapping[str, Any]) -> Strategy:
    """Return a strategy, built with its parameters.

    Args:
        name: that of its entry point.
        parameters: given to its class by keyword.

    Raises: SwitchyardError BOT-023, there is no such strategy or it cannot be loaded; BOT-024, the parameters are not
    its. All end with exit code 78.
    """
    entries = [entry for entry in entry_points(group=GROUP) if entry.name == name]
    if not entries:
        known = ", ".join(sorted(entry.name for entry in entry_points(group=GROUP))) or "none"
        raise _unusable(f"no strategy {name!r} is installed", f"Installed are: {known}. Names are case-sensitive.")
    if len({entry.value for entry in entries}) > 1:
        raise _unusable(f"{len(entries)} packages bring a strategy {name!r}", "Which one is meant cannot be told.")
    cls = _loaded(entries[0])
    accepted = _parameters(cls)
    takes = ", ".join(f"{key}={value!r}" for key, value in accepted.items()) or "no parameters"
    if unknown := [key for key in parameters if accepted and key not in accepted]:
        raise _misset(f"{name} has no parameter {unknown[0]!r}", f"It takes: {takes}.")
    try:
        strategy = cls(**parameters)
    except (TypeError, ValueError) as error:
        raise _misset(f"strategy {name}: {error}", f"It takes: {takes}.") from error
    try:
        json.dumps(strategy.config(), allow_nan=False)
    except Exception as error:  # whatever a stranger's method raises
        raise _unusable(
            f"strategy {name}: config() returned what is no JSON", f"{type(error).__name__}: {error}."
        ) from error
    problem = next((problem for attribute in ("name", "warmup") if (problem := _lacks(strategy, attribute))), None)
    if problem:
        raise _unusable(f"{entries[0].value} is no strategy: {problem}", "See Strategy in trading_bot.strategies.")
    return strategy


def _loaded(entry: EntryPoint) -> type[Any]:
    """Return the class behind an entry point."""
    try:
        cls = entry.load()
    except Exception as error:  # whatever a stranger's module raises when it is imported
        raise _unusable(
            f"strategy {entry.name} ({entry.value}) cannot be imported", f"{type(error).__name__}: {error}"
        ) from error
    if not inspect.isclass(cls):
        raise _unusable(f"{entry.value} is no strategy: expected a class", "See Strategy in trading_bot.strategies.")
    for method in ("decide", "config"):
        if not callable(getattr(cls, method, None)):
            raise _unusable(
                f"{entry.value} is no strategy: it has no method {method}()", "See Strategy in trading_bot.strategies."
            )
    return cls


def _lacks(strategy: Any, attribute: str) -> str | None:
    """Return what is wrong with an attribute of a strategy."""
    value = getattr(strategy, attribute, None)
    if attribute == "warmup":
        sound = isinstance(value, int) and value >= 1
        return None if sound else f"warmup is {value!r}, expected a whole number of candles from 1"
    # the name becomes part of rows and of the session's name
    sound = isinstance(value, str) and 1 <= len(value) <= 50
    return None if sound else f"name is {value!r}, expected 1 to 50 characters"


def _summary(cls: type[Any]) -> str:
    return (inspect.getdoc(cls) or "").split("\n\n")[0].replace("\n", " ")


def _parameters(cls: type[Any]) -> dict[str, Any]:
    """Return the parameters of a strategy with their defaults, as far as its signature says."""
    try:
        signature = inspect.signature(cls)
    except (TypeError, ValueError):
        return {}
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    found = [parameter for parameter in signature.parameters.values() if parameter.kind in named]
    if len(found) < len(signature.parameters):
        return {}  # **anything: only the class itself can tell
    return {p.name: "required" if p.default is inspect.Parameter.empty else p.default for p in found}


def _unusable(what: str, why: str) -> SwitchyardError:
    return SwitchyardError(
        "BOT-023",
        what,
        why=f"{why} Nothing was started.",
        fix="trading-bot strategies lists what is installed; BOT_STRATEGY (or --strategy) names one of them",
        exit_code=EXIT_CONFIG,
    )


def _misset(what: str, why: str) -> SwitchyardError:
    return SwitchyardError(
        "BOT-024",
        what,
        why=f"{why} Nothing was started.",
        fix="correct BOT_STRATEGY_PARAMETERS (or --parameters), a JSON object like '{\"fast_candles\": 5}'",
        exit_code=EXIT_CONFIG,
    )
