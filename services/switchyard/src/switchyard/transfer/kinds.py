"""What a Postgres column takes: for each type, which stored values it keeps exactly, and how COPY spells them.

A value that Postgres would refuse is a problem, and so is one that it would take but change: a rounded number, a time
whose zone it would ignore, text that it would pad. The rules judge whole columns of a batch at once where they can.
"""

from __future__ import annotations

import json
import math
import re
import struct
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Context, Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from switchyard.transfer.target import TargetColumn

NULL = r"\N"
BIG = Context(prec=200_000, Emax=10**9, Emin=-(10**9))
_NUMERIC_INTEGER_DIGITS, _NUMERIC_FRACTION_DIGITS = 131_072, 16_383  # postgresql.org/docs/18/datatype-numeric.html
_INFINITE_NUMERIC_SINCE = 140_000

_STORAGE = {int: "an integer", float: "a real number", str: "text", bytes: "a blob"}
_DECIMAL = re.compile(r"-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d{1,6})?", re.ASCII)
_ZONE = r"(?P<zone>Z|[+-](?:0\d|1[0-5])(?::?[0-5]\d)?)"
_CLOCK = r"(?:[01]\d|2[0-3]):[0-5]\d(?::[0-5]\d(?:\.(?P<fraction>\d+))?)?"
_TIMESTAMP = re.compile(rf"\d{{4}}-\d\d-\d\d(?:[ T]{_CLOCK}{_ZONE}?)?", re.ASCII)
_DATE = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
_TIME = re.compile(_CLOCK, re.ASCII)
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


@dataclass(frozen=True)
class Kind:
    """The rules of one target column.

    Args:
        family: one word: integer, numeric, float, boolean, text, blob, json, jsonb, timestamp, timestamptz, date, time,
            uuid, unknown. The verification reads by it, with rules of its own.
        storage: the SQLite storage classes that may land here, as Python types.
        problem: says why a value (of one of these classes) would be refused or changed; None when it is kept.
        spell: the value as COPY text, before escaping.
        escape: whether that text can hold a backslash, tab or line break.
        all_fine: says quickly that every value of a list is kept; when it does not, `problem` looks at each.
    """

    family: str
    storage: frozenset[type]
    problem: Callable[[Any], str | None]
    spell: Callable[[Any], str] = str
    escape: bool = False
    all_fine: Callable[[Collection[Any]], bool] | None = None

    def why_not(self, value: Any) -> str | None:
        """Return why `value` (not NULL) cannot be kept in this column, or None."""
        if type(value) not in self.storage:
            return f"{_STORAGE[type(value)]} is stored where the target takes {self.family}"
        return self.problem(value)

    def accepts(self, values: Sequence[Any], types: set[type]) -> bool:
        """Return True when every value that is not NULL is kept; False when `why_not` must look at each."""
        if not (types - {type(None)}) <= self.storage:
            return False
        distinct = {value for value in values if value is not None}
        if self.all_fine is not None:
            return self.all_fine(distinct)
        return all(self.problem(value) is None for value in distinct)

    def encode(self, values: Sequence[Any]) -> list[str]:
        """Return the values as fields of COPY's text format."""
        spell = self.spell
        if None not in values:
            fields = list(map(spell, values))
            return _escaped(fields) if self.escape else fields
        if not self.escape:
            return [NULL if value is None else spell(value) for value in values]
        there = iter(_escaped([spell(value) for value in values if value is not None]))
        return [NULL if value is None else next(there) for value in values]


def _escaped(fields: list[str]) -> list[str]:
    """Return the fields with COPY's escapes. They hold no NUL (checked before), so NUL can part them."""
    joined = "\0".join(fields)
    if not any(special in joined for special in "\\\t\n\r"):
        return fields
    joined = joined.replace("\\", r"\\").replace("\t", r"\t").replace("\n", r"\n").replace("\r", r"\r")
    return joined.split("\0")


def kind_for(column: TargetColumn, server_version: int) -> Kind:
    """Return the rules for a column of the target.

    Args:
        column: from the catalog.
        server_version: as libpq gives it, like 180006.
    """
    name, modifier = column.type_name, column.modifier
    if name in _INTEGERS:
        return _integer(*_INTEGERS[name])
    if column.labels is not None:
        return _labels(column.labels)
    if name == "numeric":
        return _numeric(modifier, infinite=server_version >= _INFINITE_NUMERIC_SINCE)
    if name in ("timestamp", "timestamptz"):
        return _timestamp(name, modifier)
    if name in ("varchar", "text", "citext", "bpchar"):
        return _text(modifier - 4 if modifier >= 4 else None, padded=name == "bpchar")
    simple = {
        "float8": _float8,
        "float4": _float4,
        "bool": _boolean,
        "bytea": _blob,
        "json": _json,
        "jsonb": _jsonb,
        "date": _date,
        "time": lambda: _time(modifier),
        "uuid": _uuid,
    }
    if name in simple:
        return simple[name]()
    reason = f"there is no exact rule yet for the target's type {column.type_text}"
    return Kind("unknown", frozenset(_STORAGE), lambda _: reason)


_INTEGERS = {"int2": (-(2**15), 2**15 - 1), "int4": (-(2**31), 2**31 - 1), "int8": (-(2**63), 2**63 - 1)}


def _integer(low: int, high: int) -> Kind:
    def problem(value: int) -> str | None:
        return None if low <= value <= high else f"the target takes {low} to {high}"

    def all_fine(values: Collection[int]) -> bool:
        return not values or (min(values) >= low and max(values) <= high)

    return Kind("integer", frozenset({int}), problem, all_fine=all_fine)


def _numeric(modifier: int, *, infinite: bool) -> Kind:
    precision, scale = _numeric_limits(modifier)

    def problem(value: float | str) -> str | None:
        if isinstance(value, float) and math.isinf(value):
            return None if infinite and precision is None else "infinity is not a number that this column keeps"
        if isinstance(value, str) and not _DECIMAL.fullmatch(value):
            return "not a decimal number as Postgres writes it"
        try:
            number = Decimal(repr(value) if isinstance(value, float) else value)
            exact = BIG.normalize(number)
        except InvalidOperation:
            return "more digits than numeric holds"
        whole_digits = max(0, exact.adjusted() + 1) if exact else 0
        if precision is None:
            too_big = whole_digits > _NUMERIC_INTEGER_DIGITS or _decimals(number) > _NUMERIC_FRACTION_DIGITS
            return "more digits than numeric holds" if too_big else None
        if exact and _decimals(exact) > scale:
            return f"more than {scale} decimals: it would be rounded"
        if whole_digits > precision - scale:
            return f"more than {precision - scale} digits before the point"
        return None

    def all_fine(values: Collection[Any]) -> bool:
        if precision is None and infinite and not any(type(value) is str for value in values):
            return True  # every double and every 64-bit integer fits
        return all(problem(value) is None for value in values)

    return Kind("numeric", frozenset({int, float, str}), problem, all_fine=all_fine, spell=_spell_number)


def _decimals(number: Decimal) -> int:
    """Return how many digits stand behind the point; negative for trailing zeros before it."""
    exponent = number.as_tuple().exponent
    return -exponent if isinstance(exponent, int) else 0


def _numeric_limits(modifier: int) -> tuple[int | None, int]:
    if modifier < 4:
        return None, 0
    packed = modifier - 4
    return (packed >> 16) & 0xFFFF, ((packed & 0x7FF) ^ 1024) - 1024  # the scale is signed since Postgres 15


def _spell_number(value: float | str) -> str:
    """Return the shortest digits that give the same double back; integers and decimal texts as they are."""
    return value if type(value) is str else repr(value)


def _float8() -> Kind:
    def problem(value: float) -> str | None:
        if isinstance(value, float) or int(float(value)) == value:
            return None
        return "this integer has no exact double"

    return Kind("float", frozenset({int, float}), problem, spell=repr)


def _float4() -> Kind:
    def problem(value: float) -> str | None:
        try:
            same = struct.unpack("f", struct.pack("f", value))[0] == value
        except (OverflowError, struct.error):
            same = False
        return None if same else "it would be rounded to a 4-byte float"

    return Kind("float", frozenset({int, float}), problem, spell=repr)


def _boolean() -> Kind:
    def problem(value: int) -> str | None:
        return None if value in (0, 1) else "a boolean is 0 or 1"

    return Kind("boolean", frozenset({int}), problem)


def _bad_text(value: str) -> str | None:
    if "\0" in value:
        return "a NUL character, which Postgres text cannot hold"
    if not value.isascii() and any("\ud800" <= character <= "\udfff" for character in value):
        return "bytes that are not UTF-8"
    return None


def _text(longest: int | None, *, padded: bool) -> Kind:
    def problem(value: str) -> str | None:
        if padded and len(value) != (longest or 1):
            return f"{len(value)} characters; the target pads or cuts to {longest or 1}"
        if longest is not None and len(value) > longest:
            return f"{len(value)} characters; the target takes {longest}"
        return _bad_text(value)

    def all_fine(values: Collection[str]) -> bool:
        if padded or (longest is not None and values and max(map(len, values)) > longest):
            return all(problem(value) is None for value in values)
        return _bad_text("".join(values)) is None

    return Kind("text", frozenset({str}), problem, escape=True, all_fine=all_fine)


def _labels(labels: frozenset[str]) -> Kind:
    def problem(value: str) -> str | None:
        return None if value in labels else f"not one of the target's labels: {', '.join(sorted(labels))[:200]}"

    return Kind("text", frozenset({str}), problem, escape=True)


def _blob() -> Kind:
    return Kind(
        "blob", frozenset({bytes}), lambda _: None, spell=lambda value: r"\\x" + value.hex(), all_fine=lambda _: True
    )


def _uuid() -> Kind:
    def problem(value: str) -> str | None:
        return None if _UUID.fullmatch(value) else "not a UUID in lower-case hexadecimal groups of 8-4-4-4-12"

    return Kind("uuid", frozenset({str}), problem)


class _NotJsonError(ValueError):
    """A token that Python reads and JSON does not have."""


def _refuse(token: str) -> None:
    raise _NotJsonError(token)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise _NotJsonError("duplicate keys")
    return found


# numbers stay text: their size does not matter here
_VALIDATE = json.JSONDecoder(parse_float=str, parse_int=str, parse_constant=_refuse).decode
_VALIDATE_UNIQUE = json.JSONDecoder(
    parse_float=str, parse_int=str, parse_constant=_refuse, object_pairs_hook=_unique
).decode


# a column declared JSON has numeric affinity in SQLite: the JSON text 5 is stored as the integer 5
_JSON_STORAGE = frozenset({int, float, str})


def _json() -> Kind:
    return Kind("json", _JSON_STORAGE, _json_problem, spell=_spell_number, escape=True)


def _jsonb() -> Kind:
    def problem(value: float | str) -> str | None:
        if (found := _json_problem(value)) is not None or not isinstance(value, str):
            return found
        if "\\u" in value and _has_unkept_escape(value):
            return "an escaped NUL or half a surrogate pair, which jsonb cannot hold"
        try:
            _VALIDATE_UNIQUE(value)
        except _NotJsonError:
            return "a key occurs twice: jsonb would keep only the last"
        return None

    return Kind("jsonb", _JSON_STORAGE, problem, spell=_spell_number, escape=True)


def _json_problem(value: float | str) -> str | None:
    if not isinstance(value, str):
        return None if math.isfinite(value) else "infinity is not JSON"
    if (bad := _bad_text(value)) is not None:
        return bad
    try:
        _VALIDATE(value)
    except RecursionError:
        return "JSON nested too deeply"
    except _NotJsonError as error:
        return f"{error} is not JSON"
    except ValueError:
        return "not valid JSON"
    return None


def _has_unkept_escape(value: str) -> bool:
    """Whether a string inside this JSON holds a NUL or half of a surrogate pair."""
    found: list[str] = []

    def walk(node: Any) -> None:
        if isinstance(node, str):
            found.append(node)
        elif isinstance(node, dict):
            for key, child in node.items():
                found.append(key)
                walk(child)
        elif isinstance(node, list):
            for child in node:
                walk(child)

    walk(json.loads(value, parse_int=str, parse_float=str))
    return any(_bad_text(text) for text in found)


def _not_a_moment(value: str, shape: re.Pattern[str], digits: int) -> str | None:
    """Return what is wrong with the spelling, the calendar date or the precision of a moment."""
    match = shape.fullmatch(value)
    if match is None:
        return "not written as YYYY-MM-DD HH:MM:SS"
    fraction = (match.groupdict().get("fraction") or "").rstrip("0")
    if len(fraction) > digits:
        return f"{len(fraction)} digits of a second; the target keeps {digits}"
    try:
        if shape is not _TIME:
            date.fromisoformat(value[:10])
    except ValueError:
        return "no such day in the calendar"
    return None


def _timestamp(name: str, modifier: int) -> Kind:
    digits = modifier if modifier >= 0 else 6
    zoned = name == "timestamptz"

    def problem(value: str) -> str | None:
        if (bad := _not_a_moment(value, _TIMESTAMP, digits)) is not None:
            return bad
        match = _TIMESTAMP.fullmatch(value)
        zone = match["zone"] if match else None
        if zoned and zone is None:
            return "it has no time zone, and zones are never guessed"
        if not zoned and zone is not None:
            return "it has a time zone, which the target would ignore"
        if zone is not None:
            try:
                datetime.fromisoformat(value).astimezone(UTC)
            except (ValueError, OverflowError):
                return "out of range in UTC"
        return None

    return Kind(name, frozenset({str}), problem)


def _date() -> Kind:
    return Kind("date", frozenset({str}), lambda value: _not_a_moment(value, _DATE, 0))


def _time(modifier: int) -> Kind:
    digits = modifier if modifier >= 0 else 6
    return Kind("time", frozenset({str}), lambda value: _not_a_moment(value, _TIME, digits))
