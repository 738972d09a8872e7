"""The books: what the bot said it had done against what the database holds. One pure function finds what is broken.

I1 what was acknowledged is there; I2 each key is there once; I4 start + profits - fees = balance, to the last Decimal;
I5 the epochs of the writer only rise; I7 a closed position has its trade; I8 an intent is filled with its fill. (I3,
nothing is there that nobody attempted, holds for a fill by its foreign key to the intent.)
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from targets import Target

Row = dict[str, Any]


@dataclass(frozen=True)
class Books:
    """The bot's rows (never the copied history's), as they are in the database.

    Args:
        intents: order_intents in the order of their creation.
        fills: in the order of their recording.
        positions, trades, accounts, sessions: rows of sessions that have intents, by id.
    """

    intents: list[Row] = field(default_factory=list)
    fills: list[Row] = field(default_factory=list)
    positions: list[Row] = field(default_factory=list)
    trades: list[Row] = field(default_factory=list)
    accounts: list[Row] = field(default_factory=list)
    sessions: list[Row] = field(default_factory=list)


_OURS = "session_id IN (SELECT DISTINCT session_id FROM order_intents)"
_TABLES = {
    "intents": "SELECT * FROM order_intents ORDER BY created_at, intent_id",
    "fills": "SELECT f.*, i.session_id FROM fills f JOIN order_intents i USING (intent_id) ORDER BY f.recorded_at",
    "positions": f"SELECT * FROM positions WHERE {_OURS} ORDER BY id",
    "trades": f"SELECT * FROM trades WHERE {_OURS} ORDER BY id",
    "accounts": f"SELECT * FROM account_history WHERE {_OURS} ORDER BY id",
    "sessions": f"SELECT * FROM trading_sessions WHERE id {_OURS.removeprefix('session_id')} ORDER BY id",
}


def read_books(target: Target) -> Books:
    """Return the bot's rows from the target's database: one statement, so one moment, while the bot goes on."""
    parts = [f"(SELECT coalesce(json_agg(r), '[]') FROM ({query}) r) AS {name}" for name, query in _TABLES.items()]
    [row] = target.sql(f"SELECT {', '.join(parts)}")
    return Books(**row)


def broken_promises(books: Books, acknowledged: Iterable[str] = ()) -> list[str]:
    """Return one line for each promise that these books break; [] when they balance.

    Args:
        acknowledged: the intents whose fill the bot reported as recorded.
    """
    return [
        *_lost(books, acknowledged),
        *_doubled(books),
        *_unbalanced(books),
        *_two_writers(books),
        *_half_done(books),
    ]


def _lost(books: Books, acknowledged: Iterable[str]) -> list[str]:
    there = {fill["intent_id"] for fill in books.fills}
    return [f"I1: acknowledged and not there: {key}" for key in sorted(set(acknowledged) - there)]


def _doubled(books: Books) -> list[str]:
    found: list[str] = []
    for what, rows, key in (
        ("intent", books.intents, "intent_id"),
        ("trade", books.trades, "order_id"),
        ("position", books.positions, "order_id"),
    ):
        found += [
            f"I2: {what} {value} is there {n} times" for value, n in Counter(row[key] for row in rows).items() if n > 1
        ]
    per_intent = Counter(fill["intent_id"] for fill in books.fills)
    found += [f"I2: intent {key} has {n} fills" for key, n in per_intent.items() if n > 1]
    return found


def _unbalanced(books: Books) -> list[str]:
    found: list[str] = []
    for trade in books.trades:
        made = (trade["exit_price"] - trade["entry_price"]) * trade["quantity"]
        if trade["pnl"] != made:
            found.append(f"I4: trade {trade['id']} says pnl {trade['pnl']}, its prices say {made}")
    for session in books.sessions:
        own = {
            name: [row for row in rows if row["session_id"] == session["id"]]
            for name, rows in (
                ("trades", books.trades),
                ("fills", books.fills),
                ("accounts", books.accounts),
                ("positions", books.positions),
            )
        }
        pnl = sum((trade["pnl"] for trade in own["trades"]), start=Decimal(0))
        fees = sum((fill["fee"] for fill in own["fills"]), start=Decimal(0))
        balance = session["initial_balance"] + pnl - fees
        if own["accounts"] and own["accounts"][-1]["balance"] != balance:
            found.append(
                f"I4: session {session['id']}: the account says {own['accounts'][-1]['balance']}, the fills {balance}"
            )
        held = sum((fill["quantity"] * (1 if fill["side"] == "BUY" else -1) for fill in own["fills"]), start=Decimal(0))
        open_now = sum((p["quantity"] for p in own["positions"] if p["status"] == "OPEN"), start=Decimal(0))
        if held != open_now:
            found.append(f"I4: session {session['id']}: the fills hold {held}, the open positions {open_now}")
    return found


def _two_writers(books: Books) -> list[str]:
    found: list[str] = []
    highest = 0
    for intent in books.intents:
        if intent["lease_epoch"] < highest:
            found.append(
                f"I5: intent {intent['intent_id']} of epoch {intent['lease_epoch']} came after one of epoch {highest}"
            )
        highest = max(highest, intent["lease_epoch"])
    return found


def _half_done(books: Books) -> list[str]:
    closed_by = {trade["position_id"] for trade in books.trades}
    found = [
        f"I7: position {p['id']} is CLOSED and has no trade"
        for p in books.positions
        if p["status"] == "CLOSED" and p["id"] not in closed_by
    ]
    status = {position["id"]: position["status"] for position in books.positions}
    found += [
        f"I7: trade {t['id']} and its position is {status.get(t['position_id'])}"
        for t in books.trades
        if status.get(t["position_id"]) != "CLOSED"
    ]
    filled = {fill["intent_id"] for fill in books.fills}
    found += [
        f"I8: intent {i['intent_id']} is {i['status']}, its fill is {'there' if i['intent_id'] in filled else 'not'}"
        for i in books.intents
        if (i["status"] == "FILLED") != (i["intent_id"] in filled)
    ]
    return found
