"""The Makefile's help is complete, and its recipes hold no logic."""

from __future__ import annotations

import re
import subprocess

from targets.instance import CHECKOUT

MAKEFILE = (CHECKOUT / "Makefile").read_text()
DOCUMENTED = set(re.findall(r"^([a-zA-Z0-9_-]+):.*?##", MAKEFILE, re.MULTILINE))


def test_every_phony_target_is_in_the_help_and_the_other_way_round() -> None:
    joined = MAKEFILE.replace("\\\n", " ")
    phony = {name for line in re.findall(r"^\.PHONY:(.*)$", joined, re.MULTILINE) for name in line.split()}
    assert phony == DOCUMENTED


def test_help_lists_every_target() -> None:
    shown = subprocess.run(
        ["make", "--no-print-directory"], cwd=CHECKOUT, capture_output=True, text=True, check=True
    ).stdout
    plain = re.sub(r"\x1b\[[0-9;]*m", "", shown)
    assert {name for name in DOCUMENTED if not re.search(rf"^\s*{name}\s", plain, re.MULTILINE)} == set()


def test_a_recipe_is_one_line() -> None:
    recipes = re.findall(r"^([a-zA-Z0-9_-]+):.*\n((?:\t.*(?:\\\n.*)*\n)*)", MAKEFILE, re.MULTILINE)
    long = {name for name, recipe in recipes if name not in {"help", "check"} and len(recipe.strip().splitlines()) > 1}
    assert long == set(), "a target does one thing; what is more belongs in a command"


def test_check_has_the_import_rules_the_linters_and_the_docs() -> None:
    dry = subprocess.run(["make", "-n", "check"], cwd=CHECKOUT, capture_output=True, text=True, check=True).stdout
    for tool in (
        "ruff check",
        "ruff format",
        "basedpyright",
        "lint-imports",
        "compose-lint",
        "hadolint",
        "zizmor",
        "structure",
    ):
        assert tool in dry, f"make check does not run {tool}"
