"""Hides secrets in whatever a person or a log file may see.

Two nets: the values registered by `register_secret` (the configuration registers every secret that it reads), and
patterns for the passwords that nobody registered: URLs, ``password=...``, ``"password": "..."``.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

HIDDEN = "***"
SHORTEST_SECRET = 6  # a shorter value would hide innocent words; the patterns still hide it where it is a password

# Every repetition is bounded: a long line must not take long. Greedy up to the last @ of the word, because a password
# pasted raw may hold @, / and : itself.
_URL = re.compile(r"(\b[A-Za-z][A-Za-z0-9+.-]{0,30}://[^\s:/@]{0,100}:)\S{1,2000}@")
_WORD = r"(?:password|passwd|pwd|secret|token|api_?key)"
_VALUE = r"""(?:'(?:\\.|[^'\\])*'|"(?:\\.|[^"\\])*"|\S+)"""
_ASSIGNED = re.compile(rf"(?i)({_WORD}[\w-]{{0,40}}\s{{0,10}}=\s{{0,10}}){_VALUE}")
_QUOTED_KEY = re.compile(rf"(?i)({_WORD}[\w-]{{0,40}}['\"]\s{{0,10}}:\s{{0,10}}){_VALUE}")
_SECRET_KEY = re.compile(rf"(?i){_WORD}")

_lock = threading.Lock()
_secrets: set[str] = set()
_known: re.Pattern[str] | None = None


def register_secret(value: str) -> None:
    """Make `redact` hide this value, from now on, however it is escaped. Values under 6 characters are left out."""
    global _known
    if len(value) < SHORTEST_SECRET:
        return
    with _lock:
        _secrets.update({value, quote(value, safe=""), repr(value)[1:-1], json.dumps(value)[1:-1]})
        longest_first = sorted(_secrets, key=len, reverse=True)  # one secret may begin with another
        _known = re.compile("|".join(re.escape(secret) for secret in longest_first))


def redact(text: str) -> str:
    """Return `text` with every registered secret and everything that looks like a password replaced by ``***``."""
    if _known is not None:
        text = _known.sub(HIDDEN, text)
    text = _URL.sub(rf"\1{HIDDEN}@", text)
    text = _ASSIGNED.sub(rf"\1{HIDDEN}", text)
    return _QUOTED_KEY.sub(rf"\1{HIDDEN}", text)


def redact_value(value: Any) -> Any:
    """Return `value` redacted: strings as by `redact`, mappings and sequences inside as well, numbers as they are."""
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, Mapping):
        return {
            redact(str(key)): HIDDEN if item is not None and _SECRET_KEY.search(str(key)) else redact_value(item)
            for key, item in value.items()
        }
    if isinstance(value, list | tuple | set | frozenset):
        return [redact_value(item) for item in value]
    return redact(str(value))
