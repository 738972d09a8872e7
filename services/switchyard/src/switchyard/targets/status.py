"""Questions to a running stack: is a service ready, which database is behind it. Each is bounded and never raises."""

from __future__ import annotations

import http.client
import json
from dataclasses import dataclass
from typing import Any

from switchyard.targets import DatabaseStatus

ASK_TIMEOUT_S = 3


@dataclass(frozen=True, slots=True)
class Readiness:
    """Whether a service is ready, and what it says against itself: why it is not, or what it leaves undone.

    ``reason`` is None for one that is well.
    """

    ready: bool
    reason: str | None = None


NO_ANSWER = Readiness(ready=False)


def ready(host: str, port: int, timeout_s: float = ASK_TIMEOUT_S) -> Readiness:
    """Ask ``/readyz``."""
    connection = http.client.HTTPConnection(host, port, timeout=timeout_s)
    try:
        connection.request("GET", "/readyz")
        answer = connection.getresponse()
        body = answer.read(100_000)
    except (OSError, http.client.HTTPException) as error:
        return Readiness(False, f"no answer on port {port} ({error or type(error).__name__})")
    finally:
        connection.close()
    return readiness(body, ready=answer.status == 200)


def readiness(body: bytes | str, *, ready: bool) -> Readiness:
    """Return what a service said, from its status and the body of ``/readyz``."""
    said = _object(body)
    if not ready:
        return Readiness(False, str(said.get("reason") or "/readyz does not say 200"))
    halted = said.get("halted")
    return Readiness(True, "; ".join(map(str, halted)) if isinstance(halted, list) and halted else None)


# what Postgres or its client says -> what that means to the owner of the stack; the first that occurs wins
REASONS = (
    ("password authentication failed", "Postgres refuses POSTGRES_PASSWORD of .env: it was made with another one"),
    ("too many clients", "Postgres has no connection left, not even for its superuser"),
    ("remaining connection slots", "Postgres has no connection left for anybody but its superuser"),
    ("starting up", "Postgres is starting"),
    ("not yet accepting connections", "Postgres is starting"),
    ("in recovery mode", "Postgres recovers from a crash"),
    ("shutting down", "Postgres is stopping"),
    ("No such file or directory", "Postgres is starting"),  # its socket, in a container
    ("Connection refused", "nothing listens there"),
    ("timeout expired", "it accepts the connection and says nothing: Postgres is frozen or overloaded"),
    ("statement timeout", "it accepts the connection and says nothing: Postgres is frozen or overloaded"),
    ('database "railway" does not exist', 'Postgres runs, but its database "railway" is not there'),
)  # fmt: skip


def reason(said: str) -> str:
    """Return a clause that says why the database was of no use, from the words of Postgres or of its client."""
    for words, meaning in REASONS:
        if words in said:
            return meaning
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    return lines[-1].removeprefix("FATAL:").strip() if lines else "it gave no reason"


def database(url: str, host: str, port: int) -> DatabaseStatus:
    """Return what the database at `url` says of itself; host, port and the reason when it does not."""
    import psycopg2

    try:
        connection = psycopg2.connect(url, connect_timeout=ASK_TIMEOUT_S, application_name="switchyard status")
    except psycopg2.Error as error:
        return DatabaseStatus(host=host, port=port, reason=reason(str(error)))
    try:
        with connection.cursor() as cursor:
            cursor.execute("SET statement_timeout = '3s'")
            cursor.execute("SELECT current_setting('server_version'), system_identifier::text FROM pg_control_system()")
            version, identifier = cursor.fetchone() or (None, None)
            cursor.execute("SELECT to_regclass('public.alembic_version') IS NOT NULL")
            revision = None
            if (cursor.fetchone() or (False,))[0]:
                cursor.execute("SELECT version_num FROM public.alembic_version")
                revision = (cursor.fetchone() or (None,))[0]
    except psycopg2.Error as error:
        return DatabaseStatus(host=host, port=port, reason=reason(str(error)))
    finally:
        connection.close()
    return DatabaseStatus(host, port, version, identifier, revision, head())


def head() -> str:
    """Return the schema revision that this checkout's code knows."""
    from tradedb.revisions import head_revision

    return head_revision()


def _object(body: bytes | str) -> dict[str, Any]:
    """Return the JSON object in `body`, or an empty one."""
    try:
        value = json.loads(body)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}
