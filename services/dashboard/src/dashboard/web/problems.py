"""What the API answers when it cannot: problem details (RFC 9457) with a code of ours."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict
from starlette.responses import Response

SCHEMA_VERSION = 1
CODES = {
    400: "API-001",
    401: "API-002",
    403: "API-003",
    404: "API-004",
    405: "API-005",
    413: "API-006",
    421: "API-007",
    429: "API-008",
    500: "API-009",
    503: "API-010",
}
"""One code for each status; docs/troubleshooting/dashboard.md has a section on each."""


class Problem(BaseModel):
    """Why there is no answer (RFC 9457)."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    schema_version: Literal[1]
    """Grows when something in these answers changes its meaning."""
    status: int
    """The status of the answer, once more."""
    code: str
    """What docs/troubleshooting/dashboard.md explains."""
    title: str
    """The kind of problem, in a few words."""
    detail: str
    """What was wrong this time, and what to do."""
    parameter: str | None = None
    """The parameter that was wrong, if one was."""


def problem(status: int, title: str, detail: str, *, parameter: str | None = None) -> Response:
    """Return the answer, as ``application/problem+json``.

    Args:
        status: a key of CODES.
        title: the kind of problem, in a few words.
        detail: what was wrong this time, and what to do.
        parameter: the one that was wrong.
    """
    told = Problem(
        schema_version=SCHEMA_VERSION, status=status, code=CODES[status], title=title, detail=detail,
        parameter=parameter,
    )  # fmt: skip
    return Response(told.model_dump_json(exclude_none=True), status, media_type="application/problem+json")
