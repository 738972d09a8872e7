"""docs/security.md promises nothing that no test shows."""

from __future__ import annotations

import re

from targets.instance import CHECKOUT

PAGE = (CHECKOUT / "docs" / "security.md").read_text()
LINE = re.compile(r"^\| (V\d+\.\d+\.\d+) \| ([^|]+) \| (.+) \|$", re.MULTILINE)
# every line of the subset that reliability and security ask for; who drops one must say so here
ASKED_FOR = {
    "V1.2.1", "V1.2.4", "V1.2.10", "V3.3.1", "V3.3.2", "V3.3.3", "V3.3.4", "V3.4.1", "V3.4.3", "V3.4.4", "V3.4.5",
    "V3.4.6", "V3.5.1", "V4.1.3", "V4.2.1", "V5.3.2", "V6.1.1", "V6.3.1", "V7.2.4", "V7.3.1", "V7.3.2", "V7.4.1",
    "V8.2.1", "V11.4.2", "V12.2.1", "V13.2.2", "V14.2.1", "V14.3.2", "V15.2.2", "V16.2.5", "V16.5.1",
}  # fmt: skip


def dashboard_tests() -> set[str]:
    files = (CHECKOUT / "services" / "dashboard" / "tests").glob("test_*.py")
    return {name for file in files for name in re.findall(r"^def (test_\w+)\(", file.read_text(), re.MULTILINE)}


def test_every_test_that_the_page_names_is_there() -> None:
    named = set(re.findall(r"`(test_\w+)`", PAGE))
    assert len(named) > 50
    assert named - dashboard_tests() == set()


def test_every_line_has_a_test_and_stands_once() -> None:
    lines = LINE.findall(PAGE)
    assert len(lines) == len([row for row in PAGE.splitlines() if row.startswith("| V")])
    numbers = [number for number, _, _ in lines]
    assert len(numbers) == len(set(numbers))
    assert set(numbers) >= ASKED_FOR
    for number, _, tests in lines:
        assert re.fullmatch(r"`test_\w+`(, `test_\w+`)*", tests), number
