"""What the paper venue did, from its own file, against what the database holds."""

from __future__ import annotations

import sqlite3
from collections import Counter
from contextlib import closing
from decimal import Decimal
from pathlib import Path

from faults.final import Final


def differences(path: Path, final: Final) -> list[str]:
    """Return a sentence for each fill that is at one of the two only, is there twice, or is another one there."""
    if not path.exists():
        return ["the venue's file is not there: the venue forgot what it did"]
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as conn:
        conn.row_factory = sqlite3.Row
        made = {row["venue_trade_id"]: row for row in conn.execute("SELECT * FROM fills")}
    there = {row["venue_trade_id"]: row for row in final.fills}
    found = [f"the venue's fill {key} is not in the database" for key in made.keys() - there.keys()]
    found += [f"fill {key} is in the database, and the venue never made it" for key in there.keys() - made.keys()]
    counted = Counter(row["venue_trade_id"] for row in final.fills)
    found += [f"the venue's fill {key} is in the database {n} times" for key, n in counted.items() if n > 1]
    for key in made.keys() & there.keys():
        ours, theirs = there[key], made[key]
        same = all(Decimal(theirs[name]) == ours[name] for name in ("price", "quantity", "fee"))
        if not same or theirs["client_order_id"] != ours["intent_id"]:
            found.append(f"the venue's fill {key} is another one in the database")
    return found
