"""How far a long backtest is: one line that is rewritten on a terminal, a line every ten seconds elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime
from typing import TextIO

ON_TERMINAL_S, ELSEWHERE_S = 0.2, 10.0
_LOOK_EVERY = 256  # candles between two looks at the clock


class Progress:
    """Called after each candle; writes now and then.

    Args:
        stream: where to; stderr, since stdout is data.
        expected: how many candles there are, where that is known.
        clock: monotonic seconds; tests set it.
    """

    def __init__(self, stream: TextIO, expected: int | None, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream
        self._expected = expected
        self._clock = clock
        self._terminal = stream.isatty()
        self._began = self._said = clock()
        self._calls = 0
        self._width = 0

    def __call__(self, at: datetime, done: int) -> None:
        """Say it, when it is time to.

        Args:
            at: where in the past the run is.
            done: candles so far.
        """
        self._calls += 1
        if self._calls % _LOOK_EVERY:
            return
        now = self._clock()
        if now - self._said < (ON_TERMINAL_S if self._terminal else ELSEWHERE_S):
            return
        self._said = now
        rate = done / max(now - self._began, 1e-9)
        line = f"{at:%Y-%m-%d %H:%M} UTC, {done:,} candles, {rate:,.0f}/s"
        if self._expected:
            left_s = max(self._expected - done, 0) / max(rate, 1e-9)
            line = f"{100 * done / self._expected:.0f} % {line}, {left_s:.0f} s left"
        self._write(line)

    def end(self) -> None:
        """Take the line away."""
        if self._terminal and self._width:
            self._stream.write("\r" + " " * self._width + "\r")
            self._stream.flush()

    def _write(self, line: str) -> None:
        self._stream.write(f"\r{line.ljust(self._width)}" if self._terminal else f"{line}\n")
        self._stream.flush()
        self._width = max(self._width, len(line))
