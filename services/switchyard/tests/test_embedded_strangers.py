"""The embedded target among other users of the machine: the one that runs Postgres, and those who share /tmp."""

from __future__ import annotations

import os
import socket
import tempfile
from pathlib import Path

import pytest
from switchyard.checkout import Checkout
from switchyard.targets.embedded.account import Account
from switchyard.targets.embedded.postgres import SETTINGS, Server
from switchyard.targets.embedded.supervise import Supervisor


# only root lends Postgres another user
@pytest.mark.parametrize("as_other_user", [False, True] if os.geteuid() == 0 else [False])
def test_a_link_in_the_data_folder_does_not_lead_root_elsewhere(tmp_path: Path, as_other_user: bool) -> None:
    """The user that runs Postgres owns the folder; as root we would give that user any file of the machine."""
    account = Account("nobody", 65534, 65534) if as_other_user else None
    other = tmp_path / "other"
    other.write_text("somebody else's")
    data = tmp_path / "data"
    data.mkdir()
    (data / "switchyard.conf").symlink_to(other)
    Server(tmp_path, data, account, tmp_path / "note").refresh_settings()
    assert (other.read_text(), other.stat().st_uid) == ("somebody else's", os.geteuid())
    written = data / "switchyard.conf"
    assert not written.is_symlink()
    assert (written.read_text(), written.stat().st_mode & 0o777) == (SETTINGS, 0o600)
    assert written.stat().st_uid == (65534 if as_other_user else os.geteuid())
    assert [path.name for path in data.iterdir()] == ["switchyard.conf"]


def test_a_socket_that_somebody_else_made_is_not_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a long path the control socket is in /tmp, where its name can be taken first."""
    with tempfile.TemporaryDirectory(prefix="sy-") as short:
        monkeypatch.setattr(tempfile, "tempdir", short)
        home = tmp_path / ("long" * 25)
        supervisor = Supervisor(Checkout(tmp_path, home, tmp_path / ".env"))
        supervisor.socket.parent.mkdir(mode=0o700)
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(str(supervisor.socket))
            listening.listen()
            assert supervisor.answers()
            if os.geteuid() == 0:
                os.chown(supervisor.socket.parent, 65534, 65534)
                assert not supervisor.answers()
