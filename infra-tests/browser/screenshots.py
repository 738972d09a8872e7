"""Pictures of each page for the documents: `make screenshots`. A real stack, its bot trading, a history copied in.

The history is the real file where there is one, else its twin. The pictures have at most 128 colours, which these
pages do not miss, so that all of them together stay small.
"""

from __future__ import annotations

import io
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the folder that pytest has on its path

from browser.visits import NARROW, WIDE, chromium, first_trade, log_in, visit
from history import source_file
from PIL import Image
from playwright.sync_api import Page
from targets import Target, attach
from targets.instance import CHECKOUT, Instance
from watch import ready, until

FOLDER = CHECKOUT / "docs" / "pictures"
MOST_BYTES = 1_500_000
TALLEST = 1400
COLOURS = 128
CLOSED = "SELECT count(*) FROM trades WHERE exchange = 'SIMULATED'"
LONGEST = "SELECT session_id FROM trades WHERE session_id IS NOT NULL GROUP BY 1 ORDER BY count(*) DESC, 1 LIMIT 1"
TRADES = 12
"""So many closed trades make a curve worth looking at: a minute of the simulated market at a candle a second."""


def main() -> int:
    """Take them all; 0 if they are there and not too large."""
    with tempfile.TemporaryDirectory(prefix="switchyard-pictures-") as folder:
        instance = Instance.create("embedded", BOT_CANDLE_INTERVAL_S="1")
        try:
            say("starting a stack")
            instance.up("--source", f"bot={source_file(Path(folder))}")
            target = attach(instance)
            ready(target)
            say(f"waiting for {TRADES} trades")
            until(lambda: (target.value(CLOSED) or 0) >= TRADES, 600, "the bot has closed trades")
            taken = take(target)
        finally:
            instance.destroy()
    total = sum(file.stat().st_size for file in taken)
    say(f"{len(taken)} pictures in {FOLDER.relative_to(CHECKOUT)}, {total:,} bytes")
    return 0 if total <= MOST_BYTES else 1


def take(target: Target) -> list[Path]:
    """Visit each page and keep its picture: wide and light, a copied session dark, the overview narrow."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    found: list[Path] = []
    with chromium() as browser:
        with visit(browser, target.dashboard_url, WIDE) as (context, _):
            page = context.new_page()
            page.goto("/login")
            found.append(keep(page, "login", tallest=640))
            log_in(page, target.instance)
            for name in ("trades", "strategies", "events", "database"):
                page.goto(f"/{name}")
                found.append(keep(page, name))
            page.goto("/")
            found.append(keep(page, "overview", tallest=1260))
            page.goto(first_trade(page))
            found.append(keep(page, "trade"))
        with visit(browser, target.dashboard_url, WIDE, dark=True) as (context, _):
            page = context.new_page()
            log_in(page, target.instance)
            page.goto(f"/?session={target.value(LONGEST)}")
            found.append(keep(page, "history-dark", tallest=1100))
        with visit(browser, target.dashboard_url, NARROW) as (context, _):
            page = context.new_page()
            log_in(page, target.instance)
            found.append(keep(page, "overview-narrow"))
    return found


def keep(page: Page, name: str, *, tallest: int = TALLEST) -> Path:
    """Write one picture with few colours, and return its file."""
    page.wait_for_timeout(500)
    with Image.open(io.BytesIO(page.screenshot(full_page=True, animations="disabled"))) as whole:
        shown = whole.convert("RGB").crop((0, 0, whole.width, min(whole.height, tallest)))
    file = FOLDER / f"{name}.png"
    shown.quantize(COLOURS, dither=Image.Dither.NONE).save(file, optimize=True)
    say(f"{file.name}  {shown.width} x {shown.height}  {file.stat().st_size:,} bytes")
    return file


def say(line: str) -> None:
    sys.stderr.write(f"{line}\n")


if __name__ == "__main__":
    sys.exit(main())
