"""As whom things run that root starts: Postgres refuses to be root, and a hole in a service must not be root's."""

from __future__ import annotations

import os
import pwd
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tradedb.errors import EXIT_CONFIG, SwitchyardError


@dataclass(frozen=True)
class Account:
    """A user of this machine, by name and numbers."""

    name: str
    uid: int
    gid: int

    @classmethod
    def named(cls, name: str) -> Account:
        """Return the user of that name; KeyError if there is none."""
        entry = pwd.getpwnam(name)
        return cls(entry.pw_name, entry.pw_uid, entry.pw_gid)

    def as_user(self) -> dict[str, Any]:
        """Return the arguments that make subprocess run something as this user, from a folder that anyone can enter."""
        return {"user": self.uid, "group": self.gid, "extra_groups": [], "cwd": "/"}

    def reaches(self, path: Path) -> bool:
        """Return whether this user may enter the folder, or run the program, at `path`. Tried, so that ACLs count."""
        return subprocess.run(["test", "-x", str(path)], check=False, **self.as_user()).returncode == 0


def for_postgres() -> Account | None:
    """Return whom Postgres must run as; None where it can simply be you.

    As root: whoever called sudo, else the user ``postgres``, else ``nobody``.

    Raises: SwitchyardError: PG-008, this machine has none of them.
    """
    if os.geteuid() != 0:
        return None
    for name in (os.environ.get("SUDO_USER", ""), "postgres", "nobody"):
        try:
            account = Account.named(name)
        except KeyError:
            continue
        if account.uid != 0:
            return account
    raise SwitchyardError(
        "PG-008",
        "you are root, and this machine has no user to run Postgres as: neither postgres nor nobody exists",
        why="Postgres refuses to run as root. Nothing was changed.",
        fix="run make up as an ordinary user, or: useradd --system postgres",
        exit_code=EXIT_CONFIG,
    )


def for_services(*needed: Path) -> Account | None:
    """Return whom the services run as when root starts them; None where that is you.

    It is ``nobody``, not Postgres's user, so that a hole in a service does not reach the data folder. Where nobody
    cannot reach what the services are made of (a Python under /root), they stay root's.

    Args:
        needed: programs and folders without which a service cannot run.
    """
    if os.geteuid() != 0:
        return None
    try:
        account = Account.named("nobody")
    except KeyError:
        return None
    return account if all(account.reaches(path) for path in needed) else None
