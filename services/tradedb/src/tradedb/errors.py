"""The one base of every error that a person reads, and the exit codes they end in."""

from __future__ import annotations

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_UNREACHABLE = 69  # sysexits' EX_UNAVAILABLE: the target did not answer
EXIT_CONFIG = 78  # sysexits' EX_CONFIG


class SwitchyardError(Exception):
    """An error as a person gets it: a code, what happened, why, and the one command to run next.

    Args:
        code: stable and documented in docs/troubleshooting/, like ``DB-001``.
        what: what was expected and found, and where (file, table, key, variable).
        why: the cause, and whether anything was changed.
        fix: the next command, or the line to correct.
        exit_code: what the process ends with (see EXIT_* in this module).
    """

    def __init__(self, code: str, what: str, *, why: str, fix: str, exit_code: int = EXIT_FAILED) -> None:
        super().__init__(f"{code}: {what}")
        self.code = code
        self.what = what
        self.why = why
        self.fix = fix
        self.exit_code = exit_code

    def lines(self) -> list[str]:
        """Return the three lines that a terminal shows."""
        return [f"error {self.code}: {self.what}", f"  {self.why}", f"  Fix: {self.fix}"]

    def as_dict(self) -> dict[str, str | int]:
        """Return the same for ``--json``."""
        return {"code": self.code, "what": self.what, "why": self.why, "fix": self.fix, "exit_code": self.exit_code}
