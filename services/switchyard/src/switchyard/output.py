"""What a person reads: steps with their time on stderr, tables and JSON on stdout, errors as three lines."""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tradedb.errors import SwitchyardError

FIRST_SIGN_OF_LIFE_S = 3.0  # a step that lasts longer says so, and again every…
SIGN_OF_LIFE_S = 10.0


def colour(stream: IO[str]) -> bool:
    """Return whether `stream` takes colours: a terminal, and neither NO_COLOR nor TERM=dumb."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def styled(text: str, code: str, stream: IO[str]) -> str:
    """Return `text` in an ANSI style (``1`` bold, ``32`` green …) if `stream` takes colours."""
    return f"\033[{code}m{text}\033[0m" if colour(stream) else text


def printable(text: str) -> str:
    """Return `text` with what would steer a terminal (colours, cursor, title, direction) or begin a line as an escape.

    Names of tables and columns come from other people's files and databases.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


class Step:
    """A step that is being done; its `detail` is shown whenever the step reports that it still runs."""

    def __init__(self, title: str) -> None:
        self.title = title
        self.detail = ""
        self.started = time.monotonic()

    @property
    def elapsed_s(self) -> float:
        """Seconds since the step began."""
        return time.monotonic() - self.started


class Progress:
    """Says on stderr what is done while it is done: one line a step with its time, a sign of life while a step lasts.

    Args:
        stream: where the lines go.
        quiet: only errors are shown.
    """

    def __init__(self, stream: IO[str] | None = None, *, quiet: bool = False) -> None:
        self._stream = stream if stream is not None else sys.stderr
        self._quiet = quiet
        self._open_line = False  # a terminal shows the running step on a line that is still being written
        self._lock = threading.RLock()
        self.changed = False  # whether a step did more than look: started, stopped, made or corrected something
        self.started = time.monotonic()

    def note(self, text: str) -> None:
        """Write one line between or inside steps."""
        if self._quiet:
            return
        with self._lock:
            self._end_open_line()
            self._stream.write(f"  {printable(text)}\n")
            self._stream.flush()

    @contextmanager
    def step(self, title: str) -> Iterator[Step]:
        """Show `title` while the body runs, then its time; on an exception ``failed`` and the time."""
        step = Step(title)
        done = threading.Event()
        watcher = threading.Thread(target=self._signs_of_life, args=(step, done), daemon=True)
        watcher.start()
        self._begin(step)
        word = "failed"
        try:
            yield step
            word = "done"
        finally:
            done.set()
            watcher.join()
            self._finish(step, word)

    def _begin(self, step: Step) -> None:
        if self._quiet or not self._stream.isatty():
            return
        with self._lock:
            self._stream.write(f"  {step.title} …")
            self._stream.flush()
            self._open_line = True

    def _finish(self, step: Step, word: str) -> None:
        if self._quiet:
            return
        with self._lock:
            if self._open_line:
                self._stream.write("\r\033[K")
                self._open_line = False
            mark = styled("done  ", "32", self._stream) if word == "done" else styled("FAILED", "31", self._stream)
            self._stream.write(f"  {mark} {step.title} ({step.elapsed_s:.1f} s)\n")
            self._stream.flush()

    def _signs_of_life(self, step: Step, done: threading.Event) -> None:
        """Say every few seconds that `step` still runs, with what it waits for."""
        wait_s = FIRST_SIGN_OF_LIFE_S
        while not done.wait(wait_s):
            wait_s = SIGN_OF_LIFE_S
            detail = f"; {printable(step.detail)}" if step.detail else ""
            self.note(f"… not yet: {step.title} ({step.elapsed_s:.0f} s so far{detail})")

    def _end_open_line(self) -> None:
        if self._open_line:
            self._stream.write("\n")
            self._open_line = False

    @property
    def elapsed_s(self) -> float:
        """Seconds since this report was made: the time of the whole command."""
        return time.monotonic() - self.started


def table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return `rows` under `headings`, in columns as wide as their widest cell."""
    rows = [[printable(cell) for cell in row] for row in rows]
    widths = [max(len(row[i]) for row in [headings, *rows]) for i in range(len(headings))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in [headings, *rows]
    ]
    return "\n".join(lines)


def print_json(value: dict[str, Any]) -> None:
    """Write one JSON object to stdout."""
    # ASCII on a terminal: JSON escapes ESC in any case, but not the one-byte controls above 0x7f
    sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=sys.stdout.isatty()) + "\n")


def print_error(error: SwitchyardError, *, as_json: bool) -> None:
    """Write the error's three lines to stderr, or one JSON object to stdout."""
    if as_json:
        print_json({"schema_version": 1, "error": error.as_dict()})
        return
    first, *rest = map(printable, error.lines())
    sys.stderr.write("\n".join([styled(first, "31", sys.stderr), *rest]) + "\n")
