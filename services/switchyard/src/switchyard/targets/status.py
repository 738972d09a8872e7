"""Questions to a running stack: is a service ready, which database is behind it. Each is bounded and never raises."""

from __future__ import annotations

import http.client
import json
from typing import Any

from switchyard.targets import DatabaseStatus

ASK_TIMEOUT_S = 3


def ready(host: str, port: int, timeout_s: float = ASK_TIMEOUT_S) -> tuple[bool, str]:
    """Return whether ``/readyz`` says 200, and its reason if it does not."""
    connection = http.client.HTTPConnection(host, port, timeout=timeout_s)
    try:
        connection.request("GET", "/readyz")
        answer = connection.getresponse()
        body = answer.read(100_000)
    except (OSError, http.client.HTTPException) as error:
        return False, f"no answer on port {port} ({error or type(error).__name__})"
    finally:
        connection.close()
    if answer.status == 200:
        return True, ""
    return False, str(_object(body).get("reason") or f"/readyz says {answer.status}")


def database(url: str, host: str, port: int) -> DatabaseStatus:
    """Return what the database at `url` says of itself; host and port alone when it does not answer."""
    import psycopg2

    try:
        connection = psycopg2.connect(url, connect_timeout=ASK_TIMEOUT_S, application_name="switchyard status")
    except psycopg2.Error:
        return DatabaseStatus(host=host, port=port)
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
    except psycopg2.Error:
        return DatabaseStatus(host=host, port=port)
    finally:
        connection.close()
    return DatabaseStatus(host, port, version, identifier, revision, head())


def head() -> str:
    """Return the schema revision that this checkout's code knows."""
    from tradedb.migrate import head_revision

    return head_revision()


def _object(body: bytes) -> dict[str, Any]:
    """Return the JSON object in `body`, or an empty one."""
    try:
        value = json.loads(body)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}
