"""Run every benchmark, one after the other: `make bench`. Arguments go to stack.py.

The pages are measured with few trades: ten million take minutes to make and 18 GB of disk, so they are asked for by
themselves (`dashboard_pages.py --trades 10000000`).
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).parent
FEW_TRADES = 200_000

if __name__ == "__main__":
    codes: list[int] = []
    for script, arguments in (
        ("stack.py", sys.argv[1:]),
        ("durable_write.py", []),
        ("spool_append.py", []),
        ("sqlite_to_postgres.py", []),
        ("dashboard_pages.py", ["--trades", str(FEW_TRADES)]),
    ):
        print(f"\n{script}", flush=True)
        codes.append(subprocess.run([sys.executable, FOLDER / script, *arguments], check=False).returncode)
    sys.exit(max(codes))
