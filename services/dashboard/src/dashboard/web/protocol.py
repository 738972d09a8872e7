"""HTTP/1.1 as uvicorn speaks it, with a time within which a request must have arrived.

uvicorn waits for ever for a request that was begun, or never begun, on an open connection. So two hundred silent
connections, which cost a stranger nothing, would use up its limit and keep everybody else out.
"""

from __future__ import annotations

import asyncio

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol


class PunctualProtocol(H11Protocol):
    """Closes a connection on which a whole request, head and body, has not arrived in time, or an answer is not taken.

    An answer larger than the buffers waits for whoever asked; who takes none of it for long is hung up on too.
    """

    arrives_within_s = 15.0
    taken_within_s = 30.0
    _timer: asyncio.TimerHandle | None = None
    _taking: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for the first request."""
        super().connection_made(transport)
        self._watch()

    def data_received(self, data: bytes) -> None:
        """Wait on for the rest of a request, or no longer if it is complete. More bytes give no more time."""
        super().data_received(data)
        self._watch()

    def pause_writing(self) -> None:
        """Begin to wait for the visitor to take what is in the buffers."""
        super().pause_writing()
        if self._taking is None:
            self._taking = self.loop.call_later(self.taken_within_s, self._abort)

    def resume_writing(self) -> None:
        """Wait no longer: it was taken."""
        super().resume_writing()
        self._stop_taking()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._stop()
        self._stop_taking()
        super().connection_lost(exc)

    def _watch(self) -> None:
        incomplete = self.conn.their_state in {h11.IDLE, h11.SEND_BODY}
        if not incomplete or self.transport.is_closing():
            self._stop()
        elif self._timer is None:
            self._timer = self.loop.call_later(self.arrives_within_s, self._close)

    def _stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _stop_taking(self) -> None:
        if self._taking is not None:
            self._taking.cancel()
            self._taking = None

    def _abort(self) -> None:
        self._taking = None
        self.transport.abort()  # closing would wait for the buffers to be taken

    def _close(self) -> None:
        self._timer = None
        if not self.transport.is_closing():
            self.transport.close()
