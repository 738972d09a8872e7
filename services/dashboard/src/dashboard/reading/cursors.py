"""Where a list goes on: the last row's sort key and id, as text that means nothing to anybody else."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections.abc import Hashable
from datetime import datetime

MAX_LENGTH = 512
MAX_ID = 2**63 - 1


def encode(question: Hashable, *key: str | int | None) -> str:
    """Return the cursor for the rows after one.

    Args:
        question: what was asked, without the page: a cursor goes with its own question only.
        key: the sort values of the last row given.
    """
    text = json.dumps([_digest(question), *key], separators=(",", ":"))
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def decode(question: Hashable, cursor: str) -> list[str | int | None]:
    """Return the key in a cursor.

    Raises: ValueError: it is not one of ours, or not of this question.
    """
    if len(cursor) > MAX_LENGTH or not cursor.isascii():
        raise ValueError(cursor[:MAX_LENGTH])
    try:
        digest, *key = json.loads(base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True))
    except (binascii.Error, TypeError, RecursionError) as error:
        raise ValueError(cursor) from error
    if digest != _digest(question) or not all(isinstance(part, str | int | None) for part in key):
        raise ValueError(cursor)
    return key


def decode_time_and_id(question: Hashable, cursor: str) -> tuple[datetime, int]:
    """Return the time and the id in the cursor of a list that is sorted by time.

    Raises: ValueError: it is not one of ours, or not of this question.
    """
    match decode(question, cursor):
        case [str(when), int(number)] if 0 <= number <= MAX_ID:
            return datetime.fromisoformat(when), number
        case _:
            raise ValueError(cursor)


def _digest(question: Hashable) -> str:
    return hashlib.sha256(repr(question).encode()).hexdigest()[:12]
