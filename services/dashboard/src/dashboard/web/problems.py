"""What the API answers when it cannot: problem details (RFC 9457) with a code of ours."""

from __future__ import annotations

from typing import Any

from starlette.responses import JSONResponse

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


class ProblemResponse(JSONResponse):
    """A problem as ``application/problem+json``."""

    media_type = "application/problem+json"


def problem(status: int, title: str, detail: str, **more: Any) -> ProblemResponse:
    """Return the answer.

    Args:
        status: a key of CODES.
        title: the kind of problem, always the same for one status and cause.
        detail: what was wrong this time, and what to do.
        more: further members, like ``parameter``.
    """
    return ProblemResponse(
        {"schema_version": SCHEMA_VERSION, "status": status, "code": CODES[status], "title": title, "detail": detail}
        | more,
        status,
    )
