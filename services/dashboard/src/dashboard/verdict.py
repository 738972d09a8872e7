"""One sentence of a page: what is, and whether it is as it should be."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Level = Literal["ok", "warn", "fail", "info"]
WORDS = {"ok": "OK", "warn": "Warning", "fail": "Failing", "info": "Note"}


@dataclass(frozen=True)
class Verdict:
    """One sentence. ``more`` is what to do, or why, in a second one."""

    level: Level
    sentence: str
    more: str = ""

    @property
    def word(self) -> str:
        """Return the level as a word, for whoever does not see its colour and shape."""
        return WORDS[self.level]
