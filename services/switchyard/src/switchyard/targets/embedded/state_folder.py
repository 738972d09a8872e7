"""Where the bot keeps what it must not forget: its spool and its paper venue. ``down`` leaves it, ``reset`` not."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from switchyard.checkout import read_json
from switchyard.targets.embedded import postgres

if TYPE_CHECKING:
    from switchyard.checkout import Checkout
    from switchyard.targets.embedded.account import Account

NAME = "trading-bot"
MODE = 0o700


def place(checkout: Checkout) -> Path:
    """Return where it is: in the instance's folder, or beside Postgres's data where others cannot enter that."""
    outside = read_json(postgres.note_file(checkout)).get("outside")
    return (Path(outside).parent if outside else checkout.home) / NAME


def make(checkout: Checkout, account: Account | None) -> None:
    """Make it, entered by nobody but the account that the bot runs as (None: you); what is in it becomes that one's.

    Raises: OSError.
    """
    folder = place(checkout)
    folder.mkdir(mode=MODE, exist_ok=True)
    folder.chmod(MODE)
    if account is not None and folder.stat().st_uid != account.uid:
        for path in [*folder.rglob("*"), folder]:  # the folder last: until then root alone may change what is in it
            os.chown(path, account.uid, account.gid, follow_symlinks=False)
