"""What the answers are made of: money as text with every digit, times that say their zone, and nothing by accident."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any, Self

from pydantic import AllowInfNan, BaseModel, BeforeValidator, ConfigDict, PlainSerializer, WithJsonSchema

from dashboard import formats
from dashboard.reading.events import clean, moment


class Model(BaseModel):
    """A part of an answer. Its fields, their types and what stands below them are the OpenAPI document."""

    model_config = ConfigDict(use_attribute_docstrings=True, extra="forbid", frozen=True, defer_build=True)

    @classmethod
    def of(cls, row: object, **more: Any) -> Self:
        """Return the part with the attributes of the same names of `row`; `more` are those that it has otherwise."""
        return cls(**{name: getattr(row, name) for name in cls.model_fields if name not in more}, **more)


Money = Annotated[
    Decimal,
    AllowInfNan(True),  # a copied history has them, and they are told as they are
    PlainSerializer(formats.exact, return_type=str, when_used="json"),
    WithJsonSchema(
        {
            "type": "string",
            "pattern": r"^(-?[0-9]+(\.[0-9]+)?|NaN|-?Infinity)$",
            "description": "An exact decimal number as text, without an exponent.",
        }
    ),
]
Instant = Annotated[
    datetime,
    PlainSerializer(formats.machine_instant, return_type=str, when_used="json"),
    WithJsonSchema({"type": "string", "format": "date-time", "description": "A time with its offset, in UTC."}),
]
RecordedTime = Annotated[
    str,
    WithJsonSchema(
        {
            "type": "string",
            "pattern": r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,6})?Z?$"
            r"|^-?infinity$|^[0-9]{4,6}-[0-9 :.-]+( BC)?$",
            "description": "A time in UTC, with Z; or, where `times_in_utc` is false, the wall clock of whoever wrote "
            "a copied history, who did not record its zone: then without an offset, because none is known. Times "
            "beyond the years 1 to 9999 are as Postgres writes them.",
        }
    ),
]


class Parameters(BaseModel):
    """What may stand behind the question mark. A name that is not here is an error, not ignored."""

    model_config = ConfigDict(use_attribute_docstrings=True, extra="forbid", frozen=True, defer_build=True)


def _moment(given: object, *, end: bool) -> object:
    found = moment(given, end=end) if isinstance(given, str) else None
    if found is None:
        raise ValueError("is a date like 2026-11-01, or a time like 2026-11-01T12:00:00Z")
    return found


_TIME = WithJsonSchema(
    {"type": "string", "examples": ["2026-11-01", "2026-11-01T12:00:00Z"]}, mode="validation"
)  # a date has no format of a time
From = Annotated[datetime, BeforeValidator(lambda given: _moment(given, end=False)), _TIME]
To = Annotated[datetime, BeforeValidator(lambda given: _moment(given, end=True)), _TIME]
Text = Annotated[str, BeforeValidator(lambda given: clean(given) if isinstance(given, str) else given)]
