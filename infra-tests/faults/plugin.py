"""``--tier``, the experiments' fixtures, refusals, and the report."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from targets.instance import CHECKOUT

from faults.bench import Bench, Row
from faults.inject.refusal import missing
from faults.places import Place

if TYPE_CHECKING:
    from faults.places.network import NetworkPlace

TIERS = ("quick", "full", "soak")
_COUNTED = ("acknowledged", "commits", "lost", "doubled", "unknown")
REPORTS = CHECKOUT / ".switchyard" / "faults"

_rows = pytest.StashKey[list[Row]]()
_refused = pytest.StashKey[list[str]]()


@dataclass(frozen=True)
class Tier:
    """How much is done.

    Args:
        name: quick, full or soak.
        seed: of whatever is left to chance; printed, so that a run can be repeated.
        minutes: of the soak.
    """

    name: str
    seed: int
    minutes: float

    def pick(self, quick: int, full: int) -> int:
        """The number for this tier."""
        return quick if self.name == "quick" else full


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("faults")
    group.addoption("--tier", default="quick", choices=TIERS, help="how much the fault suite does (default: quick)")
    group.addoption("--faults-seed", type=int, default=None, metavar="N", help="of the soak's schedule")
    group.addoption("--minutes", type=float, default=10.0, help="of the soak (default: 10)")
    group.addoption("--mutants", action="store_true", help="run each defect made on purpose against its tests")


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_rows] = []
    config.stash[_refused] = []


def pytest_cmdline_main(config: pytest.Config) -> int | None:
    if not config.getoption("--mutants"):
        return None
    from faults.mutation import run

    return run(config)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    tier = config.getoption("--tier")
    kept: list[pytest.Item] = []
    left: list[pytest.Item] = []
    for item in items:
        wanted = "full" if item.get_closest_marker("full") else "soak" if item.get_closest_marker("soak") else "quick"
        fits = wanted == tier or (tier == "full" and wanted == "quick") or item.get_closest_marker("fault") is None
        if fits and (why := _lacking(item)) and not os.environ.get("CI"):
            config.stash[_refused].append(f"{item.nodeid}: {why}")
            fits = False
        (kept if fits else left).append(item)
    if left:
        config.hook.pytest_deselected(items=left)
        items[:] = kept


def _lacking(item: pytest.Item) -> str | None:
    """What this machine lacks for a test; None when it has everything."""
    wanted = [what for mark in item.iter_markers("needs") for what in mark.args]
    return next((why for what in wanted if (why := missing(what))), None)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    if why := _lacking(item):
        pytest.fail(f"REFUSED, not tested: {why}", pytrace=False)


@pytest.fixture(scope="session")
def tier(request: pytest.FixtureRequest) -> Tier:
    """How much is to be done."""
    given = request.config.getoption("--faults-seed")
    seed = int(time.time()) if given is None else int(given)
    return Tier(str(request.config.getoption("--tier")), seed, float(str(request.config.getoption("--minutes"))))


@pytest.fixture(scope="session")
def loopback(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """A durable server on this machine's loopback."""
    from faults.places.embedded import embedded_place

    with embedded_place(tmp_path_factory.mktemp("embedded")) as place:
        yield place


@pytest.fixture(scope="session")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NetworkPlace]:
    """A durable server and two bots in network namespaces."""
    from faults.places.network import network_place

    with network_place(tmp_path_factory.mktemp("network")) as place:
        yield place


NewBench = Callable[[Place], Bench]


@pytest.fixture
def new_bench(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[NewBench]:
    """``new_bench(place)``: an experiment there, with a database of its own."""
    mark = request.node.get_closest_marker("fault")
    assert mark is not None, "every test of a fault says which one it is: @pytest.mark.fault"
    with ExitStack() as ending:

        def create(place: Place) -> Bench:
            return ending.enter_context(_bench(request, place, tmp_path, mark.args[0]))

        yield create


@contextmanager
def _bench(request: pytest.FixtureRequest, place: Place, folder: Path, fault: str) -> Iterator[Bench]:
    for part in (folder, *folder.parents[:3]):
        part.chmod(part.stat().st_mode | 0o755)
    folder.chmod(0o777)
    row = Row(fault, request.node.name, place.name)
    request.config.stash[_rows].append(row)
    with place.database() as database:
        bench = Bench(place, database, folder, row)
        try:
            yield bench
        finally:
            bench.close()


@pytest.fixture
def bench(new_bench: NewBench, loopback: Place) -> Bench:
    """An experiment on this machine's loopback."""
    return new_bench(loopback)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    rows, refused = config.stash[_rows], config.stash[_refused]
    if refused:
        terminalreporter.section(f"faults: {len(refused)} tests REFUSED, so these faults were not tested")
        for line in refused:
            terminalreporter.write_line(line)
    if not rows:
        return
    name = f"{config.getoption('--target')}-{config.getoption('--tier')}"
    REPORTS.mkdir(parents=True, exist_ok=True)
    report = {
        "schema_version": 1,
        "tier": config.getoption("--tier"),
        "target": config.getoption("--target"),
        **{name: sum(getattr(row, name) for row in rows) for name in _COUNTED},
        "longest_call_s": max(row.longest_call_s for row in rows),
        "heal_to_write_s": max((row.heal_to_write_s or 0.0 for row in rows), default=0.0),
        "faults": [asdict(row) for row in rows],
        "refused": refused,
    }
    new = REPORTS / f"{name}.json.{os.getpid()}"
    new.write_text(json.dumps(report, indent=1, default=str))
    new.replace(REPORTS / f"{name}.json")
    write = terminalreporter.write_line
    terminalreporter.section(f"faults: {name}")
    head = ("fault", "place", "acked", "commits", "lost", "twice", "unknown", "longest call", "heal to write", "test")
    lines = [
        (row.fault, row.place, *(getattr(row, name) for name in _COUNTED), *_times(row), _said(row)) for row in rows
    ]
    total = ("all", "", *(report[name] for name in _COUNTED))
    lines.append((*total, f"{report['longest_call_s']:.2f} s", f"{report['heal_to_write_s']:.2f} s", ""))
    texts = [[str(cell) for cell in line] for line in (head, *lines)]
    widths = [max(len(line[at]) for line in texts) for at in range(len(head))]
    for line in texts:
        write("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
    write(f"report: {(REPORTS / f'{name}.json').relative_to(CHECKOUT)}")


def _times(row: Row) -> tuple[str, str]:
    """The longest call, and the time from the end of the fault to the first write."""
    return f"{row.longest_call_s:.2f} s", "-" if row.heal_to_write_s is None else f"{row.heal_to_write_s:.2f} s"


def _said(row: Row) -> str:
    """A test and its own figures."""
    notes = ", ".join(f"{key} {value}" for key, value in row.notes.items() if not key.startswith("log of "))
    return f"{row.test} ({notes})" if notes else row.test
