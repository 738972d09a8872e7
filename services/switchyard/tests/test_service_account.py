"""Root lends the services another user where that user can reach what they are made of."""

from __future__ import annotations

import os
from pathlib import Path

from switchyard.targets.embedded import account


def test_services_of_root_run_as_nobody_where_nobody_can_reach_them(tmp_path: Path) -> None:
    hidden = tmp_path / "hidden"
    hidden.mkdir(mode=0o700)
    found = account.for_services(Path("/bin/sh"), Path("/usr/bin"))
    assert (found.name if found else None) == ("nobody" if os.geteuid() == 0 else None)
    assert account.for_services(Path("/bin/sh"), hidden) is None
