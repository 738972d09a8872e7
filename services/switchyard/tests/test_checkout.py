"""The instance: where its files are, what it remembers, and that two commands never work on it at once."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NoReturn

import pytest
from switchyard.checkout import Checkout, read_json
from tradedb.errors import SwitchyardError

HOLD = """
import sys
from pathlib import Path
from switchyard.checkout import Checkout
root = Path(sys.argv[1])
with Checkout(root=root, home=root / ".switchyard", env_file=root / ".env").lock("up"):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_two_checkouts_have_different_names(tmp_path: Path) -> None:
    one, two = (Checkout(root=tmp_path / n, home=tmp_path / n / ".switchyard", env_file=tmp_path / n) for n in "ab")
    assert one.instance_id != two.instance_id
    assert len(one.instance_id) == 8


def test_another_home_is_another_instance(checkout: Checkout, tmp_path: Path) -> None:
    other = Checkout(root=checkout.root, home=tmp_path / "elsewhere", env_file=checkout.env_file)
    assert other.instance_id != checkout.instance_id


def test_the_variables_name_home_and_env_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SWITCHYARD_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("SWITCHYARD_ENV_FILE", str(tmp_path / "env"))
    found = Checkout.find()
    assert (found.home, found.env_file) == (tmp_path / "home", tmp_path / "env")


def test_the_target_is_remembered_and_forgotten(checkout: Checkout) -> None:
    checkout.make_home()
    assert checkout.state().target is None
    checkout.remember(target="embedded")
    assert checkout.state().target == "embedded"
    checkout.remember(target=None)
    assert checkout.state().target is None
    assert stat.S_IMODE(checkout.state_file.stat().st_mode) == 0o600


def test_a_home_that_cannot_be_written(checkout: Checkout, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    broken = Checkout(root=checkout.root, home=tmp_path / "file" / "home", env_file=checkout.env_file)
    with pytest.raises(SwitchyardError) as caught:
        broken.make_home()
    assert caught.value.code == "STACK-005"
    assert caught.value.exit_code == 78
    assert caught.value.what == f"cannot write in {tmp_path}/file/home: Not a directory"
    assert "Nothing was changed." in caught.value.why


@pytest.mark.parametrize("content", ["{", "[]", ""])
def test_a_state_file_that_something_else_wrote(tmp_path: Path, content: str) -> None:
    path = tmp_path / "state.json"
    path.write_text(content)
    with pytest.raises(SwitchyardError, match="STACK-007") as caught:
        read_json(path)
    assert f"rm {path}" in caught.value.fix
    assert caught.value.exit_code == 78


def test_a_second_command_hears_who_holds_the_lock_and_since_when(checkout: Checkout) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(checkout.root)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(SwitchyardError) as caught, checkout.lock("down"):
            pass
        assert caught.value.code == "STACK-006"
        assert caught.value.exit_code == 1
        assert f"switchyard up (pid {holder.pid}, user " in caught.value.what
        assert ", since 20" in caught.value.what
        holder.kill()
    with checkout.lock("down"):  # the kernel freed it with its holder
        pass


def test_the_lock_is_not_inherited_by_what_is_started_under_it(checkout: Checkout) -> None:
    with checkout.lock("up"):
        child = subprocess.Popen(["sleep", "30"])
    try:
        fd = os.open(checkout.home / "up.lock", os.O_RDWR)
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.close(fd)
    finally:
        child.kill()
        child.wait()


def test_a_full_disk_is_said_and_the_lock_holds_without_its_note(
    checkout: Checkout, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkout.make_home()
    checkout.remember(target="embedded")

    def full(*_: object, **__: object) -> NoReturn:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    with (
        checkout.lock("up"),
        pytest.raises(SwitchyardError) as second,
        checkout.lock("down"),
    ):
        pass
    assert second.value.code == "STACK-006"
    monkeypatch.setattr(tempfile, "mkstemp", full)
    checkout.remember(target="embedded")  # nothing new, so nothing to write
    with pytest.raises(SwitchyardError) as caught:
        checkout.remember(target="compose")
    assert caught.value.code == "STACK-005"
    assert "No space left" in caught.value.what
    assert "df -h" in caught.value.fix
    assert checkout.state().target == "embedded"
