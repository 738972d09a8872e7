"""scripts/bootstrap.py: why a machine cannot make .venv is said, a half-made one is repaired, a warm run is quick."""

from __future__ import annotations

import ast
import fcntl
import importlib.util
import json
import runpy
import sys
import threading
import time
from pathlib import Path
from types import ModuleType

import pytest

SCRIPTS = Path(__file__).resolve().parents[3] / "scripts"


@pytest.fixture
def setup(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ModuleType:
    """setup_environment.py on a checkout of the test's own, with real locks and no network phase."""
    spec = importlib.util.spec_from_file_location("setup_environment_under_test", SCRIPTS / "setup_environment.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    (tmp_path / "requirements").mkdir()
    for kind in module.KINDS:
        (tmp_path / "requirements" / f"{kind}.txt").write_text("click==8.5.1 --hash=sha256:00\n")
    for package in module.PACKAGES:
        (tmp_path / "services" / package).mkdir(parents=True)
        (tmp_path / "services" / package / "pyproject.toml").write_text("[project]\n")
    for name, path in {
        "ROOT": tmp_path,
        "VENV": tmp_path / ".venv",
        "STAMP": tmp_path / ".venv" / "switchyard-setup.json",
        "HOME": tmp_path / ".switchyard",
        "LOG": tmp_path / ".switchyard" / "setup.log",
    }.items():
        monkeypatch.setattr(module, name, path)
    return module


@pytest.fixture
def phases(setup: ModuleType, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The commands that would have run; making an environment makes just its folder, and it counts as sound."""
    done: list[str] = []

    def run(what: str, command: list[str], count: int = 0) -> None:
        done.append(what)
        (setup.VENV / "bin").mkdir(parents=True, exist_ok=True)
        (setup.VENV / "bin" / "switchyard").touch()

    monkeypatch.setattr(setup, "run", run)
    return done


@pytest.mark.parametrize("version", [(3, 10, 13), (3, 6, 15), (2, 7, 18)])
def test_a_python_that_is_too_old(
    version: tuple[int, int, int], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "version_info", version)
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(SCRIPTS / "bootstrap.py"), run_name="__main__")
    assert ended.value.code == 78
    first, second, third = capsys.readouterr().err.splitlines()
    found = ".".join(map(str, version))
    assert first == f"error SETUP-001: Python 3.11 or newer is needed, found {found} ({sys.executable})"
    assert second.endswith("Nothing was changed.")
    assert "make setup PYTHON=python3.13" in third


def test_the_door_is_written_so_that_old_pythons_can_read_it() -> None:
    tree = ast.parse((SCRIPTS / "bootstrap.py").read_text(), feature_version=(3, 7))
    modern = (ast.JoinedStr, ast.AnnAssign, ast.NamedExpr, ast.Match, ast.AsyncFunctionDef)
    assert [node for node in ast.walk(tree) if isinstance(node, modern)] == []
    assert [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef)] == [], "annotations are not Python 2"
    assert (SCRIPTS / "bootstrap.py").read_text().isascii(), "Python 2 wants ASCII"


@pytest.mark.parametrize("part", ["venv", "ensurepip"])
def test_a_python_without_venv(
    setup: ModuleType, part: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == part else real(name))
    assert setup.main(["run"]) == 78
    said = capsys.readouterr().err
    assert said.startswith(f"error SETUP-002: this Python ({sys.executable}) has no {part}, so it cannot make .venv")
    assert f"apt install python{sys.version_info[0]}.{sys.version_info[1]}-venv" in said
    assert not setup.VENV.exists()


def test_no_permission_in_the_folder(
    setup: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")  # works for root too, whom no mode keeps out
    monkeypatch.setattr(setup, "HOME", tmp_path / "file" / ".switchyard")
    assert setup.main(["run"]) == 78
    said = capsys.readouterr().err
    assert f"error SETUP-003: cannot write in {tmp_path}: Not a directory" in said
    assert "Nothing was changed." in said


def test_a_wrong_word(setup: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    assert setup.main(["everything"]) == 2
    assert "usage:" in capsys.readouterr().err


def test_the_second_run_does_nothing(setup: ModuleType, phases: list[str]) -> None:
    assert setup.main(["run"]) == 0
    assert phases == ["an empty environment", "1 packages from requirements/run.txt", "our own packages"]
    assert setup.main(["run"]) == 0
    assert len(phases) == 3


@pytest.mark.parametrize("changed", ["requirements/run.txt", "services/tradedb/pyproject.toml"])
def test_a_changed_lock_or_package_is_installed(
    setup: ModuleType, phases: list[str], changed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert setup.main(["run"]) == 0
    monkeypatch.setattr(setup, "is_sound", lambda: True)
    with (setup.ROOT / changed).open("a") as handle:
        handle.write("# changed\n")
    assert setup.main(["run"]) == 0
    assert phases[3:] == ["1 packages from requirements/run.txt", "our own packages"]


def test_dev_holds_what_run_needs(setup: ModuleType, phases: list[str]) -> None:
    assert setup.main(["dev"]) == 0
    assert setup.main(["run"]) == 0
    assert len(phases) == 3


def test_run_does_not_take_the_tools_away(
    setup: ModuleType, phases: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert setup.main(["dev"]) == 0
    (setup.VENV / "bin" / "pytest").touch()
    monkeypatch.setattr(setup, "is_sound", lambda: True)
    (setup.ROOT / "services" / "dashboard" / "pyproject.toml").write_text("[project]\nname = 'x'\n")
    assert setup.main(["run"]) == 0
    assert phases[3] == "1 packages from requirements/dev.txt"
    assert set(json.loads(setup.STAMP.read_text())) == {"run", "dev"}


@pytest.mark.parametrize("content", ["nothing", "a python that does not run", "no python"])
def test_a_half_made_environment_is_made_anew(
    setup: ModuleType, phases: list[str], content: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (setup.VENV / "bin").mkdir(parents=True)
    (setup.VENV / "rest").write_text("of the one before")
    if content != "no python":
        python = setup.VENV / "bin" / "python"
        python.write_text("" if content == "nothing" else "#!/bin/sh\nexit 1\n")
        python.chmod(0o755)
    assert setup.main(["run"]) == 0
    assert "is incomplete or of another Python: making it anew" in capsys.readouterr().err
    assert not (setup.VENV / "rest").exists()
    assert phases[0] == "an empty environment"


def test_a_sound_environment_is_recognised(setup: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(setup, "VENV", Path(sys.prefix))
    assert setup.is_sound()


def test_a_second_one_waits_and_then_finds_it_done(
    setup: ModuleType, phases: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    setup.HOME.mkdir()
    with (setup.HOME / "setup.lock").open("a+") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        waiting = threading.Thread(target=setup.main, args=(["run"],))
        waiting.start()
        said, deadline = "", time.monotonic() + 60
        while "another set-up of this checkout runs; waiting for it" not in said:
            assert time.monotonic() < deadline, said
            time.sleep(0.02)
            said += capsys.readouterr().err
        assert waiting.is_alive()
        (setup.VENV / "bin").mkdir(parents=True)
        (setup.VENV / "bin" / "switchyard").touch()
        setup.write_stamp("run")  # the first one is done
    waiting.join(60)
    assert not waiting.is_alive()
    assert phases == []


def test_a_set_up_that_never_ends(
    setup: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(setup, "LOCK_TIMEOUT_S", 0.3)
    setup.HOME.mkdir()
    with (setup.HOME / "setup.lock").open("a+") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert setup.main(["run"]) == 1
    assert "error SETUP-005: another set-up of this checkout has not ended" in capsys.readouterr().err


FAILURES = [
    ("SETUP-004", 69, "ERROR: Could not find a version: Temporary failure in name resolution", "check the network"),
    ("SETUP-004", 1, "ERROR: No space left on device", "correct that"),
    ("SETUP-006", 1, "ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE.", "run it again"),
]


@pytest.mark.parametrize(("code", "exit_code", "line", "fix"), FAILURES)
def test_a_phase_that_fails(
    setup: ModuleType, code: str, exit_code: int, line: str, fix: str, capsys: pytest.CaptureFixture[str]
) -> None:
    setup.HOME.mkdir()
    program = f"import sys; print('Collecting click'); print({line!r}); sys.exit(1)"
    with pytest.raises(setup.SetupError) as caught:
        setup.run("1 packages", [sys.executable, "-c", program])
    assert str(caught.value).startswith(f"error {code}: 1 packages")
    assert f"  Fix: {fix}" in str(caught.value)
    assert caught.value.exit_code == exit_code
    assert line in setup.LOG.read_text()


def test_a_long_phase_gives_signs_of_life(setup: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    setup.HOME.mkdir()
    monkeypatch.setattr(setup, "SIGN_OF_LIFE_S", 0.05)
    said: list[str] = []

    def say(text: str) -> None:
        said.append(text)
        if "1 of 60, now click==8.5.1" in text:
            (tmp_path / "heard").touch()

    monkeypatch.setattr(setup, "say", say)
    program = (  # lasts until somebody has said how far it is
        "import pathlib, sys, time; print('Collecting click==8.5.1 (from -r x)', flush=True); end = time.time() + 60\n"
        "while not pathlib.Path(sys.argv[1]).exists() and time.time() < end: time.sleep(0.02)"
    )
    setup.run("60 packages", [sys.executable, "-c", program, str(tmp_path / "heard")], count=60)
    assert [line for line in said if line.startswith("  … 60 packages: 1 of 60, now click==8.5.1 (")]
    assert said[-1].startswith("  60 packages (")
