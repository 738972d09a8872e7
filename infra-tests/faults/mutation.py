"""``make faults ARGS=--mutants``: each defect made on purpose against the tests that must find it."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import pytest
from targets.instance import CHECKOUT

from faults.mutants import MUTANTS, VARIABLE

HERE = Path(__file__).resolve().parent
LONGEST_S = 600


@dataclass(frozen=True)
class Named:
    """A test and what it says of itself: ``@pytest.mark.fault(number, *mutants)``."""

    node: str
    fault: str
    mutants: tuple[str, ...]
    tier: str
    targets: tuple[str, ...] = ()


def named_tests() -> Iterator[Named]:
    """Every test of a fault, as its file says without being run."""
    for path in sorted(HERE.glob("test_*.py")):
        body = ast.parse(path.read_text()).body
        of_all = [mark for item in body if isinstance(item, ast.Assign) for mark in _module_marks(item)]
        for item in body:
            if not isinstance(item, ast.FunctionDef) or not item.name.startswith("test_"):
                continue
            marks = dict(filter(None, map(_mark, [*of_all, *item.decorator_list])))
            if "fault" in marks:
                tier = next((name for name in ("full", "soak") if name in marks), "quick")
                fault, *mutants = marks["fault"]
                node = f"{path.relative_to(CHECKOUT)}::{item.name}"
                yield Named(node, fault, tuple(mutants), tier, tuple(marks.get("targets", ())))


def _module_marks(item: ast.Assign) -> list[ast.expr]:
    """The marks that a module's ``pytestmark`` gives to each of its tests."""
    if ast.unparse(item.targets[0]) != "pytestmark":
        return []
    return item.value.elts if isinstance(item.value, ast.List) else [item.value]


def _mark(decorator: ast.expr) -> tuple[str, list[str]] | None:
    """The name and the words of a ``pytest.mark``; None for any other decorator."""
    call = decorator if isinstance(decorator, ast.Call) else None
    name = ast.unparse(call.func if call else decorator)
    words = [str(ast.literal_eval(arg)) for arg in call.args if isinstance(arg, ast.Constant)] if call else []
    return (name.removeprefix("pytest.mark."), words) if name.startswith("pytest.mark.") else None


def run(config: pytest.Config) -> int:
    """Run every mutant, print what caught it, and return 1 when one survives."""
    target = str(config.getoption("--target"))
    survived: list[str] = []
    lines: list[str] = []
    tests = [named for named in named_tests() if named.tier != "soak" and target in (named.targets or (target,))]
    wanted = str(config.option.keyword or "")
    for name, mutant in MUTANTS.items():
        catchers = [named for named in tests if name in named.mutants]
        if not catchers or (wanted and wanted not in name):
            continue
        for named in catchers:
            began = time.monotonic()
            found = _caught(name, mutant.shows, named, target)
            took = time.monotonic() - began
            lines.append(f"{name:28} {named.fault:5} {'caught' if found else 'SURVIVED':8} {took:5.0f} s  {named.node}")
            print(lines[-1], f"\n{'':34} {found}" if found else "", flush=True)  # noqa: T201
            if not found:
                survived.append(f"{name} ({named.node})")
    print(f"\n{len(lines)} mutants against their tests, {len(survived)} survived", *survived, sep="\n  ")  # noqa: T201
    return 1 if survived or not lines else 0


def _caught(name: str, shows: str, named: Named, target: str) -> str:
    """Return the line of the test's failure that shows the defect; nothing when the test passed, or broke elsewhere."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder, "report.xml")
        words = ["-q", "-p", "no:cacheprovider", f"--tier={named.tier}", f"--target={target}", f"--junitxml={report}"]
        done = subprocess.run(
            [sys.executable, "-m", "pytest", *words, named.node],
            cwd=CHECKOUT,
            env=os.environ | {VARIABLE: name},
            capture_output=True,
            text=True,
            timeout=LONGEST_S,
            check=False,
        )
        if done.returncode != 1:
            return ""
        for failure in ElementTree.parse(report).iter("failure"):  # pytest's own file
            for line in (failure.text or "").splitlines():
                shown = re.search(shows, line) if line.startswith("E ") else None  # not the test's own words
                if shown:
                    return line[max(1, shown.start() - 70) : shown.end() + 70].strip()
    return ""
