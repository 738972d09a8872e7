"""The bearer token that scripts show the API instead of a session's cookie."""

from __future__ import annotations

import hashlib
import hmac

SCHEME = "bearer "


class ApiToken:
    """One token, of which only a digest is kept.

    Args:
        token: as configured; random, so a plain digest is enough.
    """

    def __init__(self, token: str) -> None:
        self._digest = hashlib.sha256(token.encode()).digest()

    def matches(self, header: str) -> bool:
        """Return whether an Authorization header carries the token; it takes the same time for every wrong one."""
        if header[: len(SCHEME)].lower() != SCHEME or len(header) > 1024:
            return False
        shown = header[len(SCHEME) :].strip()
        return hmac.compare_digest(hashlib.sha256(shown.encode()).digest(), self._digest)
