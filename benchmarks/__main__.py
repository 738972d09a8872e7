"""Run every benchmark, one after the other: `make bench`. Arguments go to stack.py."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).parent

if __name__ == "__main__":
    codes: list[int] = []
    for script, arguments in (
        ("stack.py", sys.argv[1:]),
        ("durable_write.py", []),
        ("spool_append.py", []),
        ("sqlite_to_postgres.py", []),
        ("dashboard_pages.py", []),
    ):
        print(f"\n{script}", flush=True)
        codes.append(subprocess.run([sys.executable, FOLDER / script, *arguments], check=False).returncode)
    sys.exit(max(codes))
