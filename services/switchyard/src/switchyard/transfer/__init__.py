"""Copies SQLite files into Postgres: raw read, raw write, every value compared before the commit.

Knows nothing of any schema: it reads whatever tables a file has and fills the tables of the same names. The order of
work: `snapshot` (a consistent copy of a file in use) → `source` and `target` (what is there) → `plan` → `check` (would
the target keep every value?) → `write` (COPY) → `verify` (an independent reader) → `ledger` → commit. `engine.copy`
runs it.
"""

from switchyard.transfer.engine import copy
from switchyard.transfer.report import CopyReport

__all__ = ["CopyReport", "copy"]
