"""Fill the disk under a paper venue, make room again, and see that each order is there once: FOLDER is a small disk."""

from __future__ import annotations

import sys
from pathlib import Path

from spool_full_disk import fill_up
from trading_bot.venue import VenueUnreachable
from venue_killed import check, trade, venue_at


def main() -> None:
    """Every assertion holds, or the exit code is 1."""
    folder = Path(sys.argv[1])
    venue = venue_at(folder / "venue.db")
    trade(venue, 5)
    fill_up(folder / "ballast")
    refused = None
    try:
        trade(venue, 200)
    except VenueUnreachable as error:
        refused = error
    assert refused is not None
    assert refused.code == "BOT-040", refused
    assert "full" in refused.what, refused
    assert venue.find("order 4") is not None, "what it knew it knows"
    (folder / "ballast").unlink()
    trade(venue, 200)
    check(venue, 200)
    venue.close()


if __name__ == "__main__":
    main()
