"""A bot killed between two steps leaves enough for the next one: real processes, real files, a real Postgres."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from tradedb.testing import ThrowawayDatabase

EVERY = 17  # of the points between steps; 1 takes minutes: python services/trading-bot/tests/bot_killed.py


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_killed_between_any_two_steps_it_loses_nothing_and_doubles_nothing(
    database: ThrowawayDatabase, quick_folder: Path
) -> None:
    done = subprocess.run(
        [
            sys.executable, str(Path(__file__).parent / "bot_killed.py"), database.url_text("trading_bot"),
            database.url_text(), str(quick_folder), "--every", str(EVERY),
        ],
        capture_output=True, text=True, timeout=380, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr[-5_000:]
    assert int(done.stdout.splitlines()[-1]) >= 5, "it died at a few points at least"
