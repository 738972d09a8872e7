"""What the database holds when all is over: the bot's rows, read in one statement and so at one moment."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

Row = dict[str, Any]
Fetch = Callable[[str], list[Row]]
"""Returns the rows of a SELECT: numbers exact (int or Decimal), times as text."""


@dataclass(frozen=True)
class Final:
    """The bot's rows, never those of a copied history.

    Args:
        intents: order_intents, in the order of their creation.
        fills: in the order of their recording, each with the session of its intent.
        orders: venue_orders.
        positions, trades, accounts, sessions: rows of sessions that have intents, by id.
        entries: ledger_entries, in the order of their writing.
        quarantined: quarantined_facts.
        leases: bot_lease.
    """

    intents: list[Row] = field(default_factory=list)
    fills: list[Row] = field(default_factory=list)
    orders: list[Row] = field(default_factory=list)
    positions: list[Row] = field(default_factory=list)
    trades: list[Row] = field(default_factory=list)
    accounts: list[Row] = field(default_factory=list)
    sessions: list[Row] = field(default_factory=list)
    entries: list[Row] = field(default_factory=list)
    quarantined: list[Row] = field(default_factory=list)
    leases: list[Row] = field(default_factory=list)


_OURS = "session_id IN (SELECT DISTINCT session_id FROM order_intents)"
_QUERIES = {
    "intents": "SELECT * FROM order_intents ORDER BY created_at, intent_id",
    # the order is that of the ledger's numbers, where there are any: a clock may step back
    "fills": "SELECT f.*, i.session_id, i.leg FROM fills f JOIN order_intents i USING (intent_id) LEFT JOIN"
    " (SELECT session_id, venue, venue_trade_id, min(entry_id) AS entry FROM ledger_entries GROUP BY 1, 2, 3) e"
    " ON (e.session_id, e.venue, e.venue_trade_id) = (i.session_id, f.venue, f.venue_trade_id)"
    " ORDER BY e.entry, f.recorded_at, f.filled_at",
    "orders": "SELECT * FROM venue_orders ORDER BY client_order_id",
    "positions": f"SELECT * FROM positions WHERE {_OURS} ORDER BY id",
    "trades": f"SELECT * FROM trades WHERE {_OURS} ORDER BY id",
    "accounts": f"SELECT * FROM account_history WHERE {_OURS} ORDER BY id",
    "sessions": f"SELECT * FROM trading_sessions WHERE id {_OURS.removeprefix('session_id')} ORDER BY id",
    "entries": f"SELECT * FROM ledger_entries WHERE {_OURS} ORDER BY entry_id",
    "quarantined": "SELECT * FROM quarantined_facts ORDER BY id",
    "leases": "SELECT * FROM bot_lease ORDER BY name",
}


def read_final(fetch: Fetch) -> Final:
    """Return the bot's rows."""
    parts = [f"(SELECT coalesce(json_agg(r), '[]') FROM ({query}) r) AS {name}" for name, query in _QUERIES.items()]
    [row] = fetch(f"SELECT {', '.join(parts)}")
    return Final(**row)
