"""What a person reads: progress that is never silent, tables, and errors in two forms."""

from __future__ import annotations

import io
import json
import re

import pytest
from switchyard import output
from switchyard.output import Progress
from tradedb.errors import SwitchyardError

ERROR = SwitchyardError("STACK-000", "what", why="why", fix="fix", exit_code=69)


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def test_a_step_ends_with_its_time() -> None:
    stream = io.StringIO()
    with Progress(stream).step("Postgres"):
        pass
    assert stream.getvalue() == "  done   Postgres (0.0 s)\n"


def test_a_failed_step_says_so() -> None:
    stream = io.StringIO()
    with pytest.raises(ValueError, match="x"), Progress(stream).step("Postgres"):
        raise ValueError("x")
    assert re.fullmatch(r"  FAILED Postgres \(\d+\.\d s\)\n", stream.getvalue())


def test_a_long_step_gives_signs_of_life_with_what_it_waits_for(monkeypatch: pytest.MonkeyPatch) -> None:
    import time

    monkeypatch.setattr(output, "FIRST_SIGN_OF_LIFE_S", 0.05)
    monkeypatch.setattr(output, "SIGN_OF_LIFE_S", 0.05)
    stream = io.StringIO()
    with Progress(stream).step("Postgres") as step:
        step.detail = "starting up"
        deadline = time.monotonic() + 60
        while "starting up" not in stream.getvalue() and time.monotonic() < deadline:
            time.sleep(0.01)
    assert re.search(r"^  … not yet: Postgres \(\d+ s so far; starting up\)\n", stream.getvalue(), re.MULTILINE)


@pytest.mark.parametrize("variable", ["NO_COLOR", "TERM"])
def test_colours_only_where_they_are_wanted(monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    assert output.styled("x", "1", Terminal()) == "\033[1mx\033[0m"
    assert output.styled("x", "1", io.StringIO()) == "x"
    monkeypatch.setenv(variable, "1" if variable == "NO_COLOR" else "dumb")
    assert output.styled("x", "1", Terminal()) == "x"


def test_a_table_is_aligned() -> None:
    assert (
        output.table(["A", "LONG"], [["wide cell", "x"], ["y", "z"]]) == "A          LONG\nwide cell  x\ny          z"
    )


def test_an_error_as_lines(capsys: pytest.CaptureFixture[str]) -> None:
    output.print_error(ERROR, as_json=False)
    shown = capsys.readouterr()
    assert (shown.out, shown.err) == ("", "error STACK-000: what\n  why\n  Fix: fix\n")


def test_an_error_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    output.print_error(ERROR, as_json=True)
    shown = json.loads(capsys.readouterr().out)
    assert shown == {"schema_version": 1, "error": ERROR.as_dict()}


HOSTILE = "trades\x1b]0;owned\x07\nCopied 5 rows\u202e\x9b31m"
HARMLESS = "trades\\x1b]0;owned\\x07\\nCopied 5 rows\\u202e\\x9b31m"


def test_names_from_elsewhere_do_not_steer_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    stream = Terminal()
    Progress(stream).note(HOSTILE)
    assert stream.getvalue() == f"  {HARMLESS}\n"
    assert output.table(["a"], [[HOSTILE]]) == f"a\n{HARMLESS}"
    output.print_error(SwitchyardError("STACK-000", HOSTILE, why=HOSTILE, fix=HOSTILE), as_json=False)
    shown = capsys.readouterr().err
    assert shown.count("\n") == 3
    assert "\x1b" not in shown
    assert output.printable("Grüße, 東京, 5 µs") == "Grüße, 東京, 5 µs"
