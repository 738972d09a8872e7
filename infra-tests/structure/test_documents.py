"""What the documents name exists, and what exists is named: commands, links, error codes, settings."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from targets.instance import CHECKOUT

DOCUMENTS = sorted([*CHECKOUT.glob("*.md"), *(CHECKOUT / "docs").rglob("*.md")])
SOURCES = sorted([*CHECKOUT.glob("services/*/src/**/*.py"), *CHECKOUT.glob("scripts/*.py")])
CODE = re.compile(r"(?:[\"']|error )([A-Z]{2,}-\d{3})(?:[\"']|:)")


def relative(path: Path) -> str:
    return str(path.relative_to(CHECKOUT))


def shell_lines(document: Path) -> Iterator[str]:
    """The commands in a document's shell blocks, without prompts, comments and continuations."""
    for block in re.findall(
        r"^```(?:bash|sh|console|shell)\n(.*?)^```", document.read_text(), re.MULTILINE | re.DOTALL
    ):
        for line in block.replace("\\\n", " ").splitlines():
            yield re.sub(r"\s+#.*", "", line.removeprefix("$ ")).strip()


@pytest.mark.parametrize("document", DOCUMENTS, ids=relative)
def test_every_make_target_that_is_named_exists(document: Path) -> None:
    makefile = (CHECKOUT / "Makefile").read_text()
    # in the text only what stands in code marks: "make sure" is English
    named = set(re.findall(r"`make ([a-z][a-z-]*)", document.read_text()))
    named |= {word for line in shell_lines(document) for word in re.findall(r"^(?:\w+=\S+ )*make ([a-z][a-z-]*)", line)}
    assert {name for name in named if not re.search(rf"^{name}:", makefile, re.MULTILINE)} == set()


@pytest.mark.parametrize("document", DOCUMENTS, ids=relative)
def test_every_switchyard_command_that_is_named_exists(document: Path) -> None:
    from switchyard.cli import cli

    text = "\n".join([*re.findall(r"`([^`\n]+)`", document.read_text()), *shell_lines(document)])
    for words in re.findall(r"(?:^|/|\s)switchyard ((?:[a-z][a-z-]* ?)+)", text):
        command: click.Command = cli
        for word in words.split():
            if not isinstance(command, click.Group):
                break
            found = command.get_command(click.Context(command), word)
            assert found is not None, f"`switchyard {words}`: there is no {word!r}"
            command = found


@pytest.mark.parametrize("document", DOCUMENTS, ids=relative)
def test_every_link_to_a_file_leads_somewhere(document: Path) -> None:
    links = re.findall(r"\]\((?!https?:|mailto:|#)([^)\s#]+)", document.read_text())
    assert [link for link in links if not (document.parent / link).exists()] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=relative)
def test_every_script_that_is_named_exists(document: Path) -> None:
    named = re.findall(
        r"\b((?:scripts|benchmarks|services|infra-tests|requirements)/[\w./-]+\.(?:py|sh|txt|in|toml))",
        document.read_text(),
    )
    assert [name for name in named if not (CHECKOUT / name).exists()] == []


def codes_in_sources() -> set[str]:
    return {code for source in SOURCES for code in CODE.findall(source.read_text())}


def codes_in_documents() -> list[str]:
    pages = (CHECKOUT / "docs" / "troubleshooting").glob("*.md")
    return [code for page in pages for code in re.findall(r"^## ([A-Z]+-\d{3}): \S", page.read_text(), re.MULTILINE)]


def test_every_error_code_has_one_section_and_every_section_a_code() -> None:
    documented = codes_in_documents()
    assert sorted(documented) == sorted(set(documented)), "a code has two sections"
    assert codes_in_sources() - set(documented) == set(), "raised, and not explained in docs/troubleshooting/"
    assert set(documented) - codes_in_sources() == set(), "explained, and raised nowhere"


def test_every_section_says_what_to_do() -> None:
    short: list[str] = []
    for page in (CHECKOUT / "docs" / "troubleshooting").glob("*.md"):
        for section in re.split(r"^## ", page.read_text(), flags=re.MULTILINE)[1:]:
            title, _, body = section.partition("\n")
            if len(body.split()) < 8:
                short.append(title)
    assert short == []


def test_the_configuration_page_is_what_the_settings_say() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tradedb.config.document", "--check", "docs/configuration.md"],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def commands(command: click.Command, name: str) -> Iterator[tuple[str, click.Command]]:
    """Every command that can be typed, with its words."""
    if not isinstance(command, click.Group):
        yield name, command
        return
    context = click.Context(command)
    for word in command.list_commands(context):
        found = command.get_command(context, word)
        assert found is not None
        yield from commands(found, f"{name} {word}")


def test_every_command_has_help_that_shows_an_example() -> None:
    from switchyard.cli import cli

    silent = [
        name
        for name, command in commands(cli, "switchyard")
        if not command.help or not re.search(rf"\b{name}\b", f"{command.help} {command.epilog or ''}")
    ]
    assert silent == [], "help without a line that can be typed"


def test_every_option_has_help() -> None:
    from switchyard.cli import cli

    silent = [
        f"{name} {option.opts[0]}"
        for name, command in commands(cli, "switchyard")
        for option in command.params
        if isinstance(option, click.Option) and not option.help
    ]
    assert silent == []


def test_every_test_that_testing_md_names_exists() -> None:
    named = re.findall(r"`([\w/.-]+\.py)::(test_\w+)`", (CHECKOUT / "docs" / "testing.md").read_text())
    assert len(named) > 20
    absent = [
        f"{file}::{name}"
        for file, name in named
        if not (CHECKOUT / file).exists()
        or not re.search(rf"^def {name}\(", (CHECKOUT / file).read_text(), re.MULTILINE)
    ]
    assert absent == []
