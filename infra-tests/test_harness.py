"""The tests' own promises: a target that is not there ends the run, and nothing that was started stays."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from targets.instance import CHECKOUT, clean_environment
from watch import until

ONE_TEST = "infra-tests/test_wiring.py::test_status_is_the_promised_object"


def run_pytest(*args: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *args]
    environment = clean_environment() | (env or {})
    return subprocess.run(
        words, cwd=CHECKOUT, env=environment, capture_output=True, text=True, timeout=120, check=False
    )


@pytest.mark.targets("embedded")
def test_an_unknown_target_is_a_usage_error_that_lists_the_choices() -> None:
    done = run_pytest("--target=moon", ONE_TEST)
    assert done.returncode == 4
    assert "--target=moon: not a target; choose from embedded, compose, railway" in done.stderr


@pytest.mark.targets("embedded")
def test_an_unknown_target_in_a_mark_is_a_usage_error(tmp_path: Path) -> None:
    wrong = tmp_path / "test_wrong.py"
    wrong.write_text("import pytest\n\n@pytest.mark.targets('moon')\ndef test_it():\n    pass\n")
    done = run_pytest(
        "-c",
        str(CHECKOUT / "pyproject.toml"),
        "--confcutdir",
        "/",
        "infra-tests/structure/test_makefile.py",
        str(wrong),
    )
    assert done.returncode == 4, done.stdout + done.stderr
    assert "targets(moon): not a target" in done.stderr


@pytest.mark.targets("embedded")
def test_railway_ends_the_run_with_one_sentence() -> None:
    done = run_pytest("--target=railway", ONE_TEST)
    assert done.returncode == 69, done.stdout + done.stderr
    assert "it comes with the deployment to Railway" in done.stdout
    assert "skipped" not in done.stdout


@pytest.mark.targets("embedded")
def test_a_target_that_does_not_start_ends_the_run(tmp_path: Path) -> None:
    done = run_pytest(ONE_TEST, env={"SWITCHYARD_PG_BIN": str(tmp_path)})
    assert done.returncode == 69, done.stdout + done.stderr
    assert "target embedded: " in done.stdout
    assert "PG-001" in done.stdout
    assert "skipped" not in done.stdout
    assert "passed" not in done.stdout


@pytest.mark.targets("embedded")
def test_unit_tests_start_no_target() -> None:
    done = run_pytest("infra-tests/structure/test_faults_checker.py", env={"SWITCHYARD_PG_BIN": "/nowhere"})
    assert done.returncode == 0, done.stdout + done.stderr
    assert "target:" not in done.stdout


@pytest.mark.targets("embedded")
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_leaves_nothing(tmp_path: Path, how: signal.Signals) -> None:
    slow = tmp_path / "test_slow.py"
    slow.write_text(
        "import time\n\ndef test_it(target):\n    print('started in', target.instance.folder)\n    time.sleep(600)\n"
    )
    words = [
        "-s",
        "-c",
        str(CHECKOUT / "pyproject.toml"),
        "--confcutdir",
        "/",
        "infra-tests/structure/test_faults_checker.py",
        str(slow),
    ]
    process = subprocess.Popen(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *words],
        cwd=CHECKOUT,
        env=clean_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    folder = None
    said = ""
    for line in process.stdout:
        said += line
        if found := re.search(r"started in (\S+)", line):
            folder = Path(found[1])
            break
    assert folder is not None, said
    assert folder.exists()
    process.send_signal(how)
    rest, _ = process.communicate(timeout=120)
    assert process.returncode == 2, said + rest
    assert not folder.exists()
    until(lambda: not processes_of(folder), 60, "no process is left")


def processes_of(folder: Path) -> list[str]:
    found: list[str] = []
    for process in psutil.process_iter():
        try:
            if process.pid != os.getpid() and str(folder) in " ".join(process.cmdline()):
                found.append(" ".join(process.cmdline()))
        except psutil.Error:
            continue
    return found
