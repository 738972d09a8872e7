"""One experiment: a database, writers in their own processes, a fault, its end, and what came of it all."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from watch import until

from faults import checker
from faults.final import Final, read_final
from faults.places import Database, Place, Process
from faults.record import WRITES, History, Recorder, load
from faults.venue_file import differences
from faults.work import Config


@dataclass
class Row:
    """One line of the report: what an experiment showed."""

    fault: str
    test: str
    place: str
    acknowledged: int = 0
    commits: int = 0
    lost: int = 0
    doubled: int = 0
    unknown: int = 0
    longest_call_s: float = 0.0
    heal_to_write_s: float | None = None
    seconds: float = 0.0
    violations: list[str] = field(default_factory=list)
    notes: dict[str, Any] = field(default_factory=dict)


class Bench:
    """What a test works with.

    Args:
        place: where the database and the writers are.
        database: one of its own, empty and migrated.
        folder: for the histories; every process can write into it.
        row: this experiment's line of the report.
    """

    def __init__(self, place: Place, database: Database, folder: Path, row: Row) -> None:
        self.place = place
        self.database = database
        self.folder = folder
        self.row = row
        self.processes: dict[str, Process] = {}
        self._files: dict[str, _Tail] = {}
        self._record = Recorder(self._file("bench"), "bench")
        self._began = time.monotonic()

    # --- writers ------------------------------------------------------------------------------------------------------

    def start(
        self,
        kind: str,
        name: str,
        *,
        where: str = "",
        url: str = "",
        env: dict[str, str] | None = None,
        **more: Any,
    ) -> Process:
        """Start a writer, or start it again; it is told what its kind, its name and ``Config`` say."""
        config = Config(
            name=name,
            kind=kind,
            url=url or self.database.url,
            history=self.place.inside(self._file(name)),
            **more,
        )
        self.processes[name] = self.place.spawn(config.write(self.folder / f"{name}.json"), name, where, env or {})
        return self.processes[name]

    def written(self, *names: str) -> int:
        """How many writes of these writers, or of all, have been acknowledged so far."""
        return sum(tail.written() for name, tail in self._files.items() if not names or name in names)

    def marks(self, name: str, mark: str) -> int:
        """How often a writer has made this mark so far."""
        return self._files[name].marks(mark)

    def wait_written(self, more: int, *names: str, timeout_s: float = 60) -> None:
        """Wait until so many more writes are acknowledged."""
        wanted = self.written(*names) + more
        self._until(lambda: self.written(*names) >= wanted, timeout_s, f"{wanted} acknowledged writes", names, 0.05)

    def wait_mark(self, name: str, mark: str, count: int = 1, timeout_s: float = 60) -> None:
        """Wait until a writer has made this mark so often."""
        self._until(lambda: self.marks(name, mark) >= count, timeout_s, f"{name} says {mark!r}", (name,), 0.005)

    def _until(
        self, condition: Callable[[], bool], timeout_s: float, what: str, names: tuple[str, ...], every_s: float
    ) -> None:
        """Wait for something that writers do; when it does not come, say what they said."""
        try:
            until(condition, timeout_s, what, every_s)
        except AssertionError as late:
            said = (
                f"{name}: {self.processes[name].log()[-1500:]}\n{self._files[name].end()}"
                for name in names or tuple(self.processes)
                if name in self.processes
            )
            raise AssertionError("\n".join([str(late), *said, *self._broken_already()])) from None

    def _broken_already(self) -> list[str]:
        """What is broken while writers are still at work: what one look at the database shows, and what is lost."""
        history = self.history()  # before the look: what was acknowledged until now must be there
        try:
            final = read_final(self.database.fetch)
        except Exception as error:  # the place's own; the database may be what is missing
            return [f"the database does not say what it holds: {error}"]
        return [
            str(found)
            for found in checker.check(history, final)
            if found.invariant in ("I1", "I2", "I4", "I6", "I7", "I8")
        ]

    def kill(self, name: str) -> None:
        """SIGKILL a writer."""
        self._record.mark("killed", who=name)
        self.processes.pop(name).kill()

    def terminate(self, name: str, timeout_s: float = 20) -> int:
        """SIGTERM a writer; return its exit code."""
        self._record.mark("terminated", who=name)
        return self.processes.pop(name).terminate(timeout_s)

    def expects_death(self, name: str) -> None:
        """Note that a writer is about to be ended from outside."""
        self._record.mark("killed", who=name)

    def asked_to_end(self, name: str) -> None:
        """Note that a writer is about to get SIGTERM."""
        self._record.mark("terminated", who=name)

    def last(self, name: str, mark: str) -> dict[str, Any]:
        """What a writer said with its last mark of that name; {} when there is none."""
        return self._files[name].last(mark)

    def paused(self, name: str) -> None:
        """Note that a writer was stopped from outside, or by itself: its calls last as long as that."""
        self._record.mark("paused", who=name)

    # --- faults -------------------------------------------------------------------------------------------------------

    @contextmanager
    def fault(self, name: str) -> Iterator[None]:
        """Note the beginning and the end of a fault."""
        self._record.mark("fault", what=name)
        yield
        self._record.mark("heal", what=name)

    @contextmanager
    def observed(self) -> Iterator[None]:
        """Let a reader look at the tables the whole time: it must never see half a transaction."""
        with self.place.observer(self.database, self._file("observer")):
            yield

    def note(self, **facts: Any) -> None:
        """Put a figure into the report."""
        self.row.notes |= facts

    # --- the end ------------------------------------------------------------------------------------------------------

    def history(self, *, complete: bool = True) -> History:
        """What has been recorded so far."""
        return load((tail.path for tail in self._files.values()), complete=complete)

    def finish(self, *, complete: bool = True) -> tuple[History, Final]:
        """End every writer in order, fail if any promise was broken; return what was recorded and what is there."""
        for name, process in list(self.processes.items()):
            self._record.mark("stopping", who=name)
            code = process.terminate(30)
            if code != 0:
                self._record.mark("died", who=name, code=code)
                self.row.notes[f"log of {name}"] = process.log()[-2000:]
        self.processes.clear()
        history = self.history(complete=complete)
        final = read_final(self.database.fetch)
        violations = checker.check(history, final)
        self._report(history, violations)
        logs = {key: text for key, text in self.row.notes.items() if key.startswith("log of ")}
        assert not violations, "\n".join(
            [*map(str, violations[:20]), *(f"{key}: {text}" for key, text in logs.items())]
        )
        return history, final

    def _report(self, history: History, violations: list[checker.Violation]) -> None:
        resumed = [seconds for _, seconds in checker.resumed_after(history) if seconds is not None]
        row = self.row
        row.acknowledged = len(history.acknowledged())
        row.commits = history.commits()
        row.unknown = len(history.unknown())
        row.lost = sum(found.invariant == "I1" for found in violations)
        row.doubled = sum(found.invariant == "I2" for found in violations)
        row.longest_call_s = round(checker.longest_call(history)[0], 2)
        row.heal_to_write_s = round(max(resumed), 2) if resumed else None
        row.seconds = round(time.monotonic() - self._began, 1)
        row.violations = [str(found) for found in violations]

    def nobody_was_sent_away(self, history: History) -> None:
        """Whatever stood in the way was waited out within the call: nothing failed, unless the lease had ended."""
        failed = [op for op in history.ops if op.kind not in ("observe", "lease") and op.outcome == "fail"]
        sent_away = [op for op in failed if str(op.error).startswith("DB-")]
        reasons = sorted({str(op.error) for op in sent_away})
        assert sent_away == [], f"{len(sent_away)} calls were sent away: {reasons}, {sent_away[0].key}"

    def venue_forgot_nothing(self, name: str) -> None:
        """What the database holds of a writer's venue, the venue knows; it may know more."""
        said = differences(self.folder / f"state-{name}" / "venue.db", read_final(self.database.fetch))
        forgotten = [what for what in said if "the venue forgot" in what or "the venue never made" in what]
        assert not forgotten, "\n".join(forgotten)

    def close(self) -> None:
        """Leave nothing running, whatever happened."""
        for process in self.processes.values():
            process.kill()
        self.processes.clear()

    def _file(self, name: str) -> Path:
        path = self.folder / f"{name}.jsonl"
        if name not in self._files:
            path.touch()
            path.chmod(0o666)
            self._files[name] = _Tail(path)
        return path


class _Tail:
    """Counts what one writer has recorded, reading each line once."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._at = 0
        self._written = 0
        self._marks: dict[str, int] = {}
        self._last: dict[str, dict[str, Any]] = {}

    def _read(self) -> None:
        with self.path.open("rb") as file:
            file.seek(self._at)
            data = file.read()
        whole = data[: data.rfind(b"\n") + 1]
        self._at += len(whole)
        for text in whole.splitlines():
            if b'"begin"' in text:
                continue
            line = json.loads(text)
            if "mark" in line:
                self._marks[line["mark"]] = self._marks.get(line["mark"], 0) + 1
                self._last[line["mark"]] = line["body"]
            elif line["kind"] in WRITES and line["outcome"] == "ok":
                self._written += line["rows"]

    def end(self) -> str:
        """The last lines."""
        return "\n".join(self.path.read_text().splitlines()[-6:])

    def written(self) -> int:
        self._read()
        return self._written

    def last(self, name: str) -> dict[str, Any]:
        self._read()
        return self._last.get(name, {})

    def marks(self, name: str) -> int:
        self._read()
        return self._marks.get(name, 0)
