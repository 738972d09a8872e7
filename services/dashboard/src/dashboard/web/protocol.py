"""HTTP/1.1 as uvicorn speaks it, with a time within which a request must have arrived.

uvicorn waits for ever for a request that was begun, or never begun, on an open connection. So two hundred silent
connections, which cost a stranger nothing, would use up its limit and keep everybody else out.
"""

from __future__ import annotations

import asyncio
import itertools

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

_turns = itertools.count(1)  # an order finer than the event loop's clock


class PunctualProtocol(H11Protocol):
    """Closes a connection on which a whole request, head and body, has not arrived in time, or an answer is not taken.

    An answer larger than the buffers waits for whoever asked; who takes none of it for long is hung up on too.
    Of connections that wait for a request, or for the rest of one, there are so many at once; one more ends the oldest:
    who opens silent ones without end closes his own, and a request that arrives in one piece always finds its place.
    """

    most_waiting = 100  # half of uvicorn's limit_concurrency
    arrives_within_s = 15.0
    taken_within_s = 30.0
    _waits_since: int | None = None
    _timer: asyncio.TimerHandle | None = None
    _taking: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for the first request."""
        super().connection_made(transport)
        self._watch()
        self._make_room()

    def data_received(self, data: bytes) -> None:
        """Wait on for the rest of a request, or no longer if it is complete. More bytes give no more time."""
        super().data_received(data)
        self._watch()

    def on_response_complete(self) -> None:
        """Wait for the next request, which may come or not."""
        super().on_response_complete()
        if self._timer is None and self.conn.their_state is h11.IDLE:
            self._waits_since = next(_turns)

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
            self._waits_since = next(_turns)

    def _make_room(self) -> None:
        waiting = [
            (line._waits_since, line)
            for line in self.connections
            if isinstance(line, PunctualProtocol) and line._waits_since is not None
        ]
        if len(waiting) > self.most_waiting:
            min(waiting)[1]._close()

    def _stop(self) -> None:
        self._waits_since = None
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
        self._stop()
        if not self.transport.is_closing():
            self.transport.close()
