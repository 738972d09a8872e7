"""One account, its password kept only as an argon2id hash."""

from __future__ import annotations

import hmac
import threading

from argon2 import PasswordHasher, Type
from argon2.exceptions import InvalidHashError, VerificationError

# OWASP's first choice for argon2id; each attempt takes 19 MiB for some 30 ms, so the limit below bounds memory too
_HASHER = PasswordHasher(time_cost=2, memory_cost=19456, parallelism=1, type=Type.ID)
_AT_ONCE = threading.BoundedSemaphore(2)


class Account:
    """The one account. The clear password is not kept.

    Args:
        user: the name to sign in with.
        password: hashed here, at once.
    """

    def __init__(self, user: str, password: str) -> None:
        self.user = user
        self._hash = _HASHER.hash(password)

    def verify(self, user: str, password: str) -> bool:
        """Return whether both are right. A wrong name costs the same time as a wrong password: some 30 ms."""
        right_name = hmac.compare_digest(user.encode(), self.user.encode())
        with _AT_ONCE:
            try:
                right_password = _HASHER.verify(self._hash, password)
            except (VerificationError, InvalidHashError):
                right_password = False
        return right_name and right_password
