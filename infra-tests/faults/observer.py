"""A reader that looks all the time: nobody may ever see a part of a transaction."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from faults.final import Fetch
from faults.record import Recorder

_HALF = """
SELECT
  (SELECT count(*) FROM positions p WHERE p.status = 'CLOSED' AND p.session_id IN (SELECT session_id FROM order_intents)
     AND NOT EXISTS (SELECT FROM trades t WHERE t.position_id = p.id)) AS "closed positions without a trade",
  (SELECT count(*) FROM order_intents i WHERE i.status = 'FILLED'
     AND NOT EXISTS (SELECT FROM fills f WHERE f.intent_id = i.intent_id)) AS "filled intents without a fill"
"""


@contextmanager
def observing(fetch: Fetch, history: Path, every_s: float = 0.5) -> Iterator[None]:
    """Look again and again while the block runs; a look that fails is an outage and not a finding."""
    record = Recorder(history, "observer")
    end = threading.Event()

    def look() -> None:
        while not end.wait(every_s):
            try:
                with record.op("observe") as seen:
                    [row] = fetch(_HALF)
                    seen["body"] = row
            except Exception as error:  # the database is away: that is what the experiment is about
                record.mark("not seen", why=type(error).__name__)

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield
    finally:
        end.set()
        thread.join(20)
