"""The fault suite covers what it says: every fault has a test, every test a defect that it finds; both are listed."""

from __future__ import annotations

import re

from faults.mutants import MUTANTS
from faults.mutation import named_tests
from targets.instance import CHECKOUT

DOCUMENT = (CHECKOUT / "docs" / "testing.md").read_text()
SECTION = DOCUMENT.split("\n## Faults\n")[1].split("\n## ")[0]
TESTS = list(named_tests())
HERE = "infra-tests/faults/"


def _without(target: str) -> set[str]:
    """The faults that no test of the suite, nor one that the table lists of the whole stack, injects on a target."""
    wanted = {f"F{n}" for n in (*range(1, 21), 27)}
    there = {named.fault for named in TESTS if target in (named.targets or (target,))}
    for row in SECTION.splitlines():
        if row.startswith("|") and re.search(r"`infra-tests/test_\w+\.py::", row):  # these run on every target
            there |= set(re.findall(r"\bF\d+\b", row.split("|")[1]))
    return wanted - there


def test_every_fault_is_injected_on_embedded_and_on_compose_or_the_document_says_why_not() -> None:
    reasons = SECTION.split("| fault | why not in containers |\n")[1].split("\n\n")[0]
    assert _without("embedded") == set()
    assert _without("compose") == set(re.findall(r"^\| (F\d+) \|", reasons, re.MULTILINE))


def test_every_test_names_a_defect_that_it_finds() -> None:
    assert [named.node for named in TESTS if not named.mutants] == []
    assert {name for named in TESTS for name in named.mutants} - set(MUTANTS) == set()


def test_every_defect_is_found_by_a_test() -> None:
    assert set(MUTANTS) - {name for named in TESTS for name in named.mutants} == set()


def test_every_test_function_of_the_suite_is_of_a_fault() -> None:
    found = {
        f"{path.relative_to(CHECKOUT)}::{name}"
        for path in (CHECKOUT / HERE).glob("test_*.py")
        for name in re.findall(r"^def (test_\w+)", path.read_text(), re.MULTILINE)
    }
    assert found == {named.node for named in TESTS}


def test_the_table_lists_every_test_under_its_fault() -> None:
    rows = [line for line in SECTION.splitlines() if line.startswith("|")]
    missing = [
        f"{named.fault}: {named.node}"
        for named in TESTS
        if not any(re.search(rf"\b{named.fault}\b", row) and f"`{named.node}`" in row for row in rows)
    ]
    assert missing == []


def test_the_table_lists_only_tests_that_there_are() -> None:
    for node in re.findall(r"`(infra-tests/[\w/.]+)::(\w+)`", SECTION):
        path, name = node
        assert f"def {name}(" in (CHECKOUT / path).read_text(), node


def test_ci_installs_what_faults_need() -> None:
    script = (CHECKOUT / ".ci" / "run").read_text()
    for command, package in (("iptables", "iptables"), ("ip", "iproute2"), ("faketime", "faketime")):
        assert re.search(rf"^\s*need {command} {package}$", script, re.MULTILINE), command
