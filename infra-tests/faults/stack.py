"""The checker over a whole stack, whose bot tells in its log what it has recorded."""

from __future__ import annotations

from collections.abc import Iterable

from targets import Target

from faults.checker import Violation, check
from faults.final import read_final
from faults.record import History, Op


def broken_promises(target: Target, acknowledged: Iterable[str] = ()) -> list[Violation]:
    """Return every promise that the target's database breaks, while the bot goes on; [] when all are kept.

    Args:
        acknowledged: the intents whose fill the bot reported as recorded.
    """
    said = tuple(Op("trading-bot", "filled", key, 0, 0, "ok") for key in sorted(set(acknowledged)))
    return check(History(said, complete=False), read_final(target.sql))
