"""The OpenAPI 3.1 document, made from the very types that check the questions and write the answers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from dashboard.web.export import LIMIT_ROWS
from dashboard.web.problems import CODES, Problem

if TYPE_CHECKING:
    from dashboard.web.api.service import Operation
    from dashboard.web.api.values import Parameters

REFERENCE = "#/components/schemas/{model}"
PROBLEMS = {
    400: "A parameter or a cursor is wrong; `parameter` says which.",
    413: "More rows than a file may have.",
    401: "Neither a session nor the right token.",
    403: "Over plain http, across a network.",
    404: "No row with this id.",
    421: "This host name is not one of the dashboard's.",
    429: "Too many requests; Retry-After says how long to wait.",
    503: "The database does not answer and never did, or has no tables yet.",
}
ABOUT = (
    "The data of the dashboard's pages. It only reads. Amounts of money are text with every digit; times are UTC with "
    "an offset, except those of a copied history whose zone nobody wrote down: `times_in_utc` says which. "
    "`freshness.stale` is true where the database did not answer and the data are the last ones it gave."
)


def document(operations: Sequence[Operation], prefix: str, csv_path: str, csv_filter: type[Parameters]) -> str:
    """Return the document, as JSON.

    Args:
        operations: what the API answers.
        prefix: of their paths.
        csv_path: where the file of trades is.
        csv_filter: its parameters.
    """
    answers: list[type[BaseModel]] = [*(operation.answer for operation in operations), Problem]
    _, schemas = models_json_schema([(answer, "serialization") for answer in answers], ref_template=REFERENCE)
    told = {"schema": {"$ref": REFERENCE.format(model="Problem")}}
    return json.dumps(
        {
            "openapi": "3.1.1",
            "info": {
                "title": "Switchyard dashboard", "version": version("dashboard"), "description": ABOUT,
                "license": {"name": "MIT", "identifier": "MIT"},
            },
            "servers": [{"url": "/"}],
            "security": [{"session": []}, {"token": []}],
            "paths": {f"{prefix}{operation.path}": {"get": _get(operation)} for operation in operations}
            | {
                f"{prefix}{csv_path}": {"get": _file(csv_filter)},
                f"{prefix}/openapi.json": {"get": _itself()},
            },
            "components": {
                "schemas": schemas["$defs"],
                "responses": {
                    str(status): {
                        "description": f"{CODES[status]}. {text}",
                        "content": {"application/problem+json": told},
                    }
                    for status, text in PROBLEMS.items()
                },
                "securitySchemes": {
                    "session": {
                        "type": "apiKey", "in": "cookie", "name": "__Host-dashboard",
                        "description": "The cookie of the login page; its name is another one over plain http.",
                    },
                    "token": {"type": "http", "scheme": "bearer", "description": "The value of DASHBOARD_API_TOKEN."},
                },
            },
        }
    )  # fmt: skip


def _get(operation: Operation) -> dict[str, Any]:
    return {
        "operationId": operation.name,
        "summary": operation.summary,
        "parameters": _parameters(operation.parameters, operation.path),
        "responses": {
            "200": {
                "description": operation.summary,
                "content": {
                    "application/json": {"schema": {"$ref": REFERENCE.format(model=operation.answer.__name__)}}
                },
            }
        }
        | {str(status): {"$ref": f"#/components/responses/{status}"} for status in PROBLEMS if status != 413},
    }


def _file(csv_filter: type[Parameters]) -> dict[str, Any]:
    return {
        "operationId": "trades_csv",
        "summary": f"All trades of the filter as a CSV file, at most {LIMIT_ROWS:,} rows, all of one moment",
        "parameters": _parameters(csv_filter),
        "responses": {
            "200": {
                "description": "The file. A broken-off answer is an error: the file is not whole then.",
                "content": {"text/csv": {"schema": {"type": "string"}}},
            }
        }
        | {str(status): {"$ref": f"#/components/responses/{status}"} for status in PROBLEMS if status != 404},
    }


def _itself() -> dict[str, Any]:
    return {
        "operationId": "openapi",
        "summary": "This document",
        "responses": {
            "200": {"description": "This document", "content": {"application/json": {"schema": {"type": "object"}}}},
            "401": {"$ref": "#/components/responses/401"},
        },
    }


def _parameters(parameters: type[Parameters], path: str = "") -> list[dict[str, Any]]:
    schema = parameters.model_json_schema(by_alias=True)
    required = set(schema.get("required", ()))
    listed = []
    for name, given in schema.get("properties", {}).items():
        kind = {key: value for key, value in given.items() if key not in {"description", "title"}}
        if "anyOf" in kind:  # "or nothing" is said by required: false
            [only] = [choice for choice in kind.pop("anyOf") if choice != {"type": "null"}]
            kind = {**only, **{key: value for key, value in kind.items() if key != "default"}}
        listed.append(
            {
                "name": name,
                "in": "path" if f"{{{name}}}" in path else "query",
                "required": name in required,
                "description": given.get("description", ""),
                "schema": kind,
            }
        )
    return listed
