"""What was attempted, and how each attempt ended: ok, fail or unknown. Written as it happens, so a kill loses nothing.

A line is written before an operation and another one after it. An operation without its second line was cut off with
its process: nobody knows what became of it. Times are the machine's monotonic clock, which every process and every
container here shares.
"""

from __future__ import annotations

import itertools
import json
import os
import secrets
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

Outcome = Literal["ok", "fail", "unknown"]
WRITES = frozenset({"intent", "fill", "row", "filled"})
"""The kinds of operation that put something into the database under a key. "filled" is all that a bot's log tells of a
fill: the intent that it belongs to."""
BARE_ROW = "a row of the fault suite"
"""The reason of an intent that is only written, never acted on: what the writer at the highest rate writes."""


@dataclass(frozen=True)
class Op:
    """One operation of one writer.

    Args:
        writer: who did it.
        kind: "intent", "fill", "row" (writes, each with its key); "lease", "load", "observe" and the like.
        key: what is written, under the name that it has in the database.
        began: monotonic seconds.
        ended: the same; None when its process did not live to see it.
        outcome: ok (the database said so), fail (nothing was changed, said the database's manager), unknown.
        error: the code of the error, or its class.
        body: the values that were written, as text; what was seen, for "observe".
        part: the number of the row in its transaction, from 0.
    """

    writer: str
    kind: str
    key: str
    began: float
    ended: float | None = None
    outcome: Outcome = "unknown"
    error: str | None = None
    body: Mapping[str, Any] = field(default_factory=dict)
    part: int = 0


@dataclass(frozen=True)
class Mark:
    """Something that was done, or seen, at one moment: a fault, its end, a pause of a writer, a writer's end."""

    writer: str
    name: str
    at: float
    body: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class History:
    """Everything that was recorded.

    Args:
        ops: in the order of their beginning.
        marks: in the order of their time.
        ended: when the recording was over, monotonic seconds.
        complete: whether every writer of the database was recorded; else what is there beyond it proves nothing.
    """

    ops: tuple[Op, ...] = ()
    marks: tuple[Mark, ...] = ()
    ended: float = 0.0
    complete: bool = True

    def acknowledged(self) -> list[Op]:
        """The writes that the database said it has."""
        return [op for op in self.ops if op.kind in WRITES and op.outcome == "ok"]

    def commits(self) -> int:
        """In how many transactions they were."""
        return sum(op.part == 0 for op in self.acknowledged())

    def unknown(self) -> list[Op]:
        """The writes of which nobody can say what became of them: none of their attempts was acknowledged."""
        known = {(op.kind, op.key) for op in self.acknowledged()}
        return [
            op for op in self.ops if op.kind in WRITES and op.outcome == "unknown" and (op.kind, op.key) not in known
        ]

    def named(self, name: str) -> list[Mark]:
        """The marks of that name."""
        return [mark for mark in self.marks if mark.name == name]


class Recorder:
    """Appends to one file, each line with one write, so that lines of a process that is killed are whole or absent."""

    def __init__(self, path: Path, writer: str) -> None:
        self.writer = writer
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
        self._numbers = itertools.count()
        self._run = secrets.token_hex(4)  # a process of the same name may have the same number, in a container

    def mark(self, name: str, **body: Any) -> None:
        """Note that something happened."""
        self._write({"mark": name, "at": time.monotonic(), "body": body})

    @contextmanager
    def op(self, kind: str, key: str = "", **body: Any) -> Iterator[dict[str, Any]]:
        """Record an operation. The block sets ``outcome`` and ``error`` of what it is given; else it was well.

        Whatever is added to its ``body`` is recorded with the end. An exception passes, and is of unknown outcome
        unless the block said otherwise.
        """
        number = f"{self._run}-{next(self._numbers)}"
        end: dict[str, Any] = {"outcome": "ok", "error": None, "body": {}}
        self._write({"begin": number, "kind": kind, "key": key, "at": time.monotonic(), "body": body})
        try:
            yield end
        except BaseException as error:
            if end["outcome"] == "ok":
                end |= {"outcome": "unknown", "error": type(error).__name__}
            raise
        finally:
            self._write({"end": number, "kind": kind, "rows": body.get("batch", 1), "at": time.monotonic(), **end})

    def _write(self, line: dict[str, Any]) -> None:
        text = json.dumps({"writer": self.writer, "thread": threading.get_ident(), **line}, default=str)
        os.write(self._file, text.encode() + b"\n")


def load(paths: Iterable[Path], *, complete: bool = True) -> History:
    """Return what these files hold, as one history that ends now."""
    ops: dict[tuple[str, str], Op] = {}
    marks: list[Mark] = []
    for path in paths:
        for text in path.read_text().splitlines():
            line = json.loads(text)
            writer = line["writer"]
            if "mark" in line:
                marks.append(Mark(writer, line["mark"], line["at"], line["body"]))
            elif "begin" in line:
                ops[writer, line["begin"]] = Op(writer, line["kind"], line["key"], line["at"], body=line["body"])
            else:
                begun = ops[writer, line["end"]]
                ops[writer, line["end"]] = Op(
                    writer,
                    begun.kind,
                    begun.key,
                    begun.began,
                    ended=line["at"],
                    outcome=line["outcome"],
                    error=line["error"],
                    body={**begun.body, **line["body"]},
                )
    every = [one for op in ops.values() for one in _each(op)]
    return History(
        ops=tuple(sorted(every, key=lambda op: op.began)),
        marks=tuple(sorted(marks, key=lambda mark: mark.at)),
        ended=time.monotonic(),
        complete=complete,
    )


def _each(op: Op) -> list[Op]:
    """One operation for each row, where one transaction wrote a batch of them."""
    if "batch" not in op.body:
        return [op]
    body = {name: value for name, value in op.body.items() if name != "batch"}
    return [replace(op, key=f"{op.key}-{n}", body=body, part=n) for n in range(op.body["batch"])]
