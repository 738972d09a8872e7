"""/healthz and /readyz: what supervisors and deployments ask."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from tradedb import DatabaseManager

from dashboard.reading.snapshots import Snapshots

SERVICE = "dashboard"
LONGEST_WAIT_S = 4.5


class Probes:
    """The two probes.

    Args:
        manager: the way to the database.
    """

    def __init__(self, manager: DatabaseManager) -> None:
        self._manager = manager
        # one probe under way at a time, its answer kept for under a second; health() itself ends within 5 s
        self.snapshots = Snapshots(patience_s=LONGEST_WAIT_S)

    async def alive(self, _request: Request) -> Response:
        """GET /healthz: the process lives. Asks nobody."""
        return JSONResponse({"status": "alive", "service": SERVICE})

    async def ready(self, _request: Request) -> Response:
        """GET /readyz: the database answers and the schema is at head; else 503 and the reason. Takes under 5 s."""
        answer = await self.snapshots.get(("ready",), self._ask)
        if answer.trouble is None and answer.value is not None:
            return JSONResponse(answer.value, 200 if answer.value["status"] == "ready" else 503)
        reason = "the database has not answered yet"
        if answer.trouble is not None and answer.trouble.error is not None:
            reason = f"the probe failed ({type(answer.trouble.error).__name__})"
        return JSONResponse({"status": "not ready", "service": SERVICE, "reason": reason}, 503)

    def _ask(self) -> dict[str, Any]:
        health = self._manager.health()
        known = {
            "service": SERVICE,
            "dialect": self._manager.dialect,
            "revision": health.revision,
            "head": health.head,
            "latency_ms": health.latency_ms,
        }
        if not health.ok:
            return {"status": "not ready", "reason": health.reason, "code": health.code, **known}
        # anybody may ask: no address, no role, nothing that only helps somebody who wants to get in
        return {"status": "ready", **known, "system_identifier": self._manager.database_info().system_identifier}
