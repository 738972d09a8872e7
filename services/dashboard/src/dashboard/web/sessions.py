"""Signed session cookies: 30 minutes idle, 12 hours at most, gone at sign-out.

The cookie itself holds the session, signed; so a restart of the dashboard does not sign anybody out. What was signed
out is remembered here for as long as its cookie could be presented. A restart forgets that list: a cookie that was
copied before sign-out then works for what is left of its 30 idle minutes. Changing DASHBOARD_SESSION_SECRET,
the name or the password ends every session at once.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from itsdangerous import BadSignature, URLSafeSerializer

IDLE_S = 30 * 60
ABSOLUTE_S = 12 * 60 * 60
DEVICE_S = 180 * 24 * 60 * 60
RENEW_AFTER_S = 60  # how old "last seen" may get before the cookie is written again


@dataclass(frozen=True)
class Session:
    """Somebody who is signed in. Times are seconds since 1970."""

    id: str
    user: str
    started_at: int
    seen_at: int


class Sessions:
    """Issues, reads and revokes sessions.

    Args:
        secret: signs them.
        clock: seconds since 1970.
    """

    def __init__(self, secret: str, clock: Callable[[], float] = time.time) -> None:
        self._signer = URLSafeSerializer(
            secret, salt="dashboard-session", signer_kwargs={"digest_method": hashlib.sha256}
        )
        self._devices = URLSafeSerializer(
            secret, salt="dashboard-device", signer_kwargs={"digest_method": hashlib.sha256}
        )
        self._secret = secret.encode()
        self._clock = clock
        self._revoked: dict[str, float] = {}  # session id -> when its cookie would have ended anyway
        self._lock = threading.Lock()

    def start(self, user: str) -> Session:
        """Return a new session under a new id."""
        now = int(self._clock())
        return Session(secrets.token_urlsafe(24), user, now, now)

    def cookie(self, session: Session) -> str:
        """Return the signed text that goes into the cookie."""
        text = self._signer.dumps([session.id, session.user, session.started_at, session.seen_at])
        return text if isinstance(text, str) else text.decode()

    def read(self, cookie: str | None) -> Session | None:
        """Return the session of a cookie, or None: no cookie, not signed by us, too old, or signed out."""
        if not cookie or len(cookie) > 1024:
            return None
        try:
            session = Session(*self._signer.loads(cookie))
        except (BadSignature, TypeError):
            return None
        return None if self.expired(session) or self.revoked(session) else session

    def expired(self, session: Session) -> bool:
        """Return whether a session is too old, or was idle too long, since it was last seen."""
        now = self._clock()
        return now - session.seen_at > IDLE_S or now - session.started_at > ABSOLUTE_S

    def revoked(self, session: Session) -> bool:
        """Return whether somebody has signed out of it."""
        with self._lock:
            return session.id in self._revoked

    def renewed(self, session: Session) -> Session | None:
        """Return the session seen now, if its cookie is due to be written again."""
        now = int(self._clock())
        return replace(session, seen_at=now) if now - session.seen_at >= RENEW_AFTER_S else None

    def revoke(self, session: Session) -> None:
        """End a session: its cookies, also the older copies of them, are refused from now on."""
        now = self._clock()
        with self._lock:
            self._revoked = {key: ends for key, ends in self._revoked.items() if ends > now}
            self._revoked[session.id] = session.started_at + ABSOLUTE_S

    def device_cookie(self) -> str:
        """Return the signed text that tells, at a later login, that somebody has signed in with this browser before."""
        text = self._devices.dumps([secrets.token_urlsafe(18), int(self._clock())])
        return text if isinstance(text, str) else text.decode()

    def device(self, cookie: str | None) -> str | None:
        """Return the id in a device cookie, or None: no cookie, not signed by us, or older than 180 days."""
        if not cookie or len(cookie) > 1024:
            return None
        try:
            device, issued_at = self._devices.loads(cookie)
        except (BadSignature, TypeError, ValueError):
            return None
        return device if self._clock() - issued_at <= DEVICE_S else None

    def csrf_token(self, session_id: str) -> str:
        """Return the token that a form of this session carries."""
        return hmac.new(self._secret, f"csrf:{session_id}".encode(), hashlib.sha256).hexdigest()

    def csrf_matches(self, session_id: str, token: str) -> bool:
        """Return whether a form's token belongs to this session."""
        return hmac.compare_digest(self.csrf_token(session_id).encode(), token.encode())
