"""A program of the owner's in the place of ours: how .env's line is read, and what counts as its code."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from switchyard.checkout import Checkout
from switchyard.targets.compose.client import Compose
from switchyard.targets.embedded import environment
from tradedb.errors import SwitchyardError


def test_without_a_line_it_is_our_program() -> None:
    for values in ({}, {"TRADING_BOT_COMMAND": ""}):
        words = environment.command("trading-bot", values)
        assert words == ["trading-bot", "run"]
        assert environment.own_command("trading-bot", values) is None
        assert (
            environment.program("trading-bot", words, {"PATH": "/nowhere"})
            == Path(sys.executable).parent / "trading-bot"
        )


def test_words_are_read_without_a_shell(tmp_path: Path) -> None:
    program = tmp_path / "my program"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    values = {"TRADING_BOT_COMMAND": f"'{program}' --name ; rm x", "DASHBOARD_COMMAND": "python /x.py"}
    words = environment.command("trading-bot", values)
    assert words == [str(program), "--name", ";", "rm", "x"]
    assert environment.program("trading-bot", words, {"PATH": "/nowhere"}) == program
    venv = str(Path(sys.executable).parent)
    found = environment.program("dashboard", environment.command("dashboard", values), {"PATH": venv})
    assert found == Path(venv) / "python"


@pytest.mark.parametrize("command", ["'/opt/bot", "no-such-program-anywhere", "/no/such/program"])
def test_what_cannot_be_started_is_said_with_the_name_of_its_line(command: str) -> None:
    values = {"TRADING_BOT_COMMAND": command}
    with pytest.raises(SwitchyardError) as caught:
        environment.program("trading-bot", environment.command("trading-bot", values), {"PATH": os.defpath})
    assert caught.value.code == "STACK-037"
    assert "TRADING_BOT_COMMAND cannot be started" in caught.value.what


def test_another_command_or_script_is_another_fingerprint(tmp_path: Path) -> None:
    script = tmp_path / "bot.py"
    script.write_text("1")
    words = ["python", str(script)]

    def seen(words: list[str]) -> str:
        return environment.fingerprint("trading-bot", Checkout.find(), {"PORT": "1"}, words)

    first = seen(words)
    assert first == seen(words)
    assert first != seen([*words, "--more"])
    assert seen(environment.COMMANDS["trading-bot"]) == environment.fingerprint(
        "trading-bot", Checkout.find(), {"PORT": "1"}
    )
    script.write_text("22")
    assert first != seen(words)


def test_an_own_compose_file_comes_after_ours_and_is_named_for_what_it_changes(tmp_path: Path) -> None:
    own = tmp_path / "my-stack.yml"
    own.write_text("services:\n  trading-bot:  # mine\n    image: my-bot:1.0\n")
    values = {"COMPOSE_PROJECT_NAME": "p", "COMPOSE_FILE": f"docker-compose.yml:{own}"}
    compose = Compose(Checkout.find(), values)
    words = compose.command("ps")
    given = [words[i + 1] for i, word in enumerate(words) if word == "--file"]
    assert given == [str(Checkout.find().root / "docker-compose.yml"), str(own)]
    assert (compose.own("trading-bot"), compose.own("dashboard")) == (str(own), None)
    ours = Compose(Checkout.find(), {"COMPOSE_PROJECT_NAME": "p", "COMPOSE_FILE": ""})
    assert ours.files == [Checkout.find().root / "docker-compose.yml"]
    assert ours.own("trading-bot") is None
