"""What a spool refuses, as types that the loop tells apart."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tradedb.errors import SwitchyardError


class SpoolBusy(SwitchyardError):
    """Another process has the folder."""


class SpoolFull(SwitchyardError):
    """The entry was not written: the spool is at its limit, or the disk takes no more. What is in it stays as it is."""


class SpoolCorrupt(SwitchyardError):
    """Something in the folder is not what was written there.

    ``file`` and ``offset`` (bytes from its beginning; None: the file as a whole) say where, ``finding`` what is there.
    """

    def __init__(self, code: str, what: str, *, file: Path, offset: int | None, finding: str, **rest: Any) -> None:
        super().__init__(code, what, **rest)
        self.file = file
        self.offset = offset
        self.finding = finding
