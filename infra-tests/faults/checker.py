"""What was attempted against what the database holds. One pure function finds what is broken, with no tolerance.

I1  what was acknowledged is there, as it was sent
I2  each key is there once, and each decision was taken once
I3  nothing is there that nobody attempted, or that its writer was told had not happened; no fact contradicts another
I4  start + profits - fees = balance, after each fill; the signed fills are the position; the session's totals follow
    from them; the ledger's books balance; to the last digit
I5  the epochs of the writer only rise
I6  no call lasts longer than 12 s; writes go on within 15 s of the end of a fault, without a new process; no
    connection stays taken
I7  nobody ever sees a closed position without its trade
I8  a fill and everything that follows from it are there together, or not at all
"""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from itertools import groupby, pairwise, zip_longest

from faults.final import Final, Row
from faults.record import BARE_ROW, WRITES, History, Op

LONGEST_CALL_S = 12.0
RESUMED_WITHIN_S = 15.0
_ZERO = Decimal(0)
_OPEN_ORDER = {False: "ACCEPTED", True: "PARTIALLY_FILLED"}  # of which nothing, or something, is filled


@dataclass(frozen=True)
class Violation:
    """One broken promise.

    Args:
        invariant: "I1" to "I8".
        what: a sentence that names the row or the call.
    """

    invariant: str
    what: str

    def __str__(self) -> str:
        return f"{self.invariant}: {self.what}"


def check(history: History, final: Final) -> list[Violation]:
    """Return every promise that is broken; [] when all are kept."""
    found: list[Violation] = []
    for invariant, find in _INVARIANTS:
        found += [Violation(invariant, what) for what in find(history, final)]
    return found


# --- I1, I2, I3: what is there against what was attempted -------------------------------------------------------------


def _lost(history: History, final: Final) -> Iterator[str]:
    there = _written(final)
    for op in history.acknowledged():
        row = there.get((op.kind, op.key))
        if row is None:
            yield f"{op.kind} {op.key} of {op.writer} was acknowledged and is not there"
        elif wrong := [name for name, value in op.body.items() if name in row and not _same(row[name], value)]:
            yield f"{op.kind} {op.key} of {op.writer} is there with another {', '.join(wrong)}"


def _doubled(_: History, final: Final) -> Iterator[str]:
    for what, rows, key in (
        ("intent", final.intents, ("intent_id",)),
        ("fill", final.fills, ("venue", "venue_trade_id")),
        ("venue order", final.orders, ("venue", "client_order_id")),
        ("trade", final.trades, ("order_id",)),
        ("position", final.positions, ("order_id",)),
        ("ledger entry", final.entries, ("session_id", "venue", "venue_trade_id", "account", "currency")),
    ):
        for values, n in Counter(tuple(row[name] for name in key) for row in rows).items():
            if n > 1:
                yield f"{what} {' '.join(map(str, values))} is there {n} times"
    filled = _filled(final)
    for intent in final.intents:
        if filled[intent["intent_id"]] > intent["quantity"]:
            yield (
                f"intent {intent['intent_id']} wanted {intent['quantity']}, its fills are {filled[intent['intent_id']]}"
            )
    for session, intents in _by_session(final.intents).items():
        carried_out = [row for row in intents if row["status"] in ("PENDING", "FILLED") or filled[row["intent_id"]]]
        for before, after in pairwise(carried_out):
            if before["leg"] == after["leg"] and before["status"] != "CANCELLED":
                yield (
                    f"session {session} decided {before['leg']} twice in a row:"
                    f" {before['intent_id']} and {after['intent_id']}"
                )


def _unattempted(history: History, final: Final) -> Iterator[str]:
    ended: dict[tuple[str, str], set[str]] = defaultdict(set)
    for op in history.ops:
        if op.kind in WRITES:
            ended[op.kind, op.key].add(op.outcome)
    there = _written(final)
    for key, outcomes in ended.items():
        if outcomes == {"fail"} and key in there:
            yield f"{key[0]} {key[1]} is there, and its writer was told that nothing had been changed"
    if history.complete:
        for kind, key in there.keys() - ended.keys():
            if kind == "filled":
                continue  # another name of what is looked at as a fill
            yield f"{kind} {key} is there, and nobody attempted it"
    decided_for = {row["intent_id"]: row["venue"] for row in final.intents}
    for fill in final.fills:
        venue = decided_for.get(fill["intent_id"])
        if venue is None:
            yield f"fill {fill['venue_trade_id']} belongs to no intent"
        elif fill["venue"] != venue:
            yield f"fill {fill['venue_trade_id']} is of {fill['venue']}, its intent was for {venue}"
    for order in final.orders:
        if order["venue"] != decided_for.get(order["client_order_id"]):
            yield f"order {order['client_order_id']} of {order['venue']} belongs to no intent for that venue"
    for fact in final.quarantined:
        yield f"{fact['kind']} {fact['venue_trade_id']} is in quarantine, and nobody made two that differ"


def _written(final: Final) -> dict[tuple[str, str], Row]:
    """The rows that a writer names, by kind of operation and key."""
    there: dict[tuple[str, str], Row] = {}
    for row in final.intents:
        there["row" if row["reason"] == BARE_ROW else "intent", row["intent_id"]] = row
    for row in final.fills:
        there["fill", row["venue_trade_id"]] = row
        there["filled", row["intent_id"]] = row
    return there


def _same(there: object, sent: object) -> bool:
    """Whether a column holds what was sent as text; numbers are compared as numbers."""
    if isinstance(there, int | Decimal) and not isinstance(there, bool):
        return Decimal(str(sent)) == there
    return str(there) == str(sent)


# --- I4: the money ----------------------------------------------------------------------------------------------------


@dataclass
class _Money:
    """One session's money, derived from its fills alone: first in, first out."""

    pnl: Decimal = _ZERO
    fees: Decimal = _ZERO
    held: Decimal = _ZERO
    cost: Decimal = _ZERO
    oversold: bool = False
    closed: dict[str, Decimal] = field(default_factory=dict)  # the profit of each round trip, by what closed it
    earned: list[Decimal] = field(
        default_factory=lambda: [_ZERO]
    )  # profits less fees: before the first fill, after each


def _money(fills: Iterable[Row]) -> _Money:
    """Return a session's money."""
    money = _Money()
    lots: deque[tuple[Decimal, Decimal]] = deque()
    since = _ZERO
    for fill in fills:
        price, left = Decimal(fill["price"]), Decimal(fill["quantity"])
        money.fees += fill["fee"]
        if fill["side"] == "BUY":
            lots.append((left, price))
        else:
            while left and lots:
                quantity, paid = lots.popleft()
                taken = min(quantity, left)
                since += (price - paid) * taken
                left -= taken
                if quantity > taken:
                    lots.appendleft((quantity - taken, paid))
            money.oversold |= left > 0
            if not lots:
                money.closed[fill["intent_id"]] = since
                money.pnl += since
                since = _ZERO
        money.earned.append(money.pnl + since - money.fees)
    money.pnl += since
    money.held = sum((quantity for quantity, _ in lots), start=_ZERO)
    money.cost = sum((quantity * price for quantity, price in lots), start=_ZERO)
    return money


def _unbalanced(_: History, final: Final) -> Iterator[str]:
    fills, trades = _by_session(final.fills), _by_session(final.trades)
    accounts, positions = _by_session(final.accounts), _by_session(final.positions)
    entries = _by_session(final.entries)
    filled = _filled(final)
    for session in final.sessions:
        key = session["id"]
        money = _money(fills[key])
        if money.oversold:
            yield f"session {key}: more was sold than it held"
        yield from _wrong_curve(key, session["initial_balance"], money, accounts[key])
        yield from _wrong_totals(session, money)
        for trade in trades[key]:
            made = money.closed.get(trade["order_id"])
            if trade["pnl"] != made:
                yield f"trade {trade['id']} says pnl {trade['pnl']}, its fills say {made}"
        held = sum((p["quantity"] for p in positions[key] if p["status"] == "OPEN"), start=_ZERO)
        if money.held != held:
            yield f"session {key}: the fills hold {money.held}, the open positions {held}"
        for position in positions[key]:
            if position["status"] == "CLOSED" and position["quantity"] != filled[position["order_id"]]:
                bought = filled[position["order_id"]]
                yield f"position {position['id']} is CLOSED with {position['quantity']}, its fills bought {bought}"
        yield from _wrong_ledger(key, session["initial_balance"], money, fills[key], entries[key])


def _wrong_curve(key: object, initial: Decimal, money: _Money, accounts: list[Row]) -> Iterator[str]:
    """The points of account_history: one after each fill at least, each with the balance that there was."""
    wanted = [initial + earned for earned, _ in groupby(money.earned)]
    seen = [balance for balance, _ in groupby(row["balance"] for row in accounts)]
    if seen[:1] != wanted[:1]:
        wanted = wanted[1:]  # nothing has to be written before the first fill
    for n, (there, balance) in enumerate(zip_longest(seen, wanted), 1):
        if there != balance:
            yield f"session {key}: point {n} of the account says {there}, the fills {balance}"
            return


def _wrong_totals(session: Row, money: _Money) -> Iterator[str]:
    """What the session's own row adds up."""
    for name, wanted in (("total_pnl", money.earned[-1]), ("total_trades", len(money.closed))):
        if session[name] != wanted:
            yield f"session {session['id']}: its {name} is {session[name]}, the fills make it {wanted}"


def _wrong_ledger(key: object, initial: Decimal, money: _Money, fills: list[Row], entries: list[Row]) -> Iterator[str]:
    """The double-entry books of one session against its fills."""
    of_fact: dict[tuple[object, str], Decimal] = defaultdict(Decimal)
    total: dict[str, Decimal] = defaultdict(Decimal)
    for entry in entries:
        of_fact[entry["venue_trade_id"], entry["currency"]] += entry["amount"]
        total[entry["account"]] += entry["amount"]
    for (fact, currency), amount in of_fact.items():
        if amount != 0:
            yield f"session {key}: the entries of {fact or 'the opening'} are out of balance by {amount} {currency}"
    posted = {fact for fact, _ in of_fact}
    for fill in fills:
        if fill["venue_trade_id"] not in posted:
            yield f"session {key}: fill {fill['venue_trade_id']} is not in the ledger"
    wanted = {
        "inventory": money.cost,
        "fees": money.fees,
        "pnl": -money.pnl,
        "equity": -initial,
        "cash": initial + money.pnl - money.fees - money.cost,
    }
    for account, amount in wanted.items():
        if total[account] != amount:
            yield f"session {key}: the ledger's {account} is {total[account]}, the fills make it {amount}"


# --- I5: one writer ---------------------------------------------------------------------------------------------------


def _two_writers(_: History, final: Final) -> Iterator[str]:
    for what, rows, key in (("intent", final.intents, "intent_id"), ("fill", final.fills, "venue_trade_id")):
        # where each writer has a lease and a session of its own, the order between sessions means nothing
        groups = [rows] if len(final.leases) <= 1 else _by_session(rows).values()
        for group in groups:
            highest = 0
            for row in group:
                if row["lease_epoch"] < highest:
                    yield f"{what} {row[key]} of epoch {row['lease_epoch']} came after one of epoch {highest}"
                highest = max(highest, row["lease_epoch"])
    decided = {row["intent_id"]: row["lease_epoch"] for row in final.intents}
    for fill in final.fills:
        if fill["lease_epoch"] < decided.get(fill["intent_id"], 0):
            yield f"fill {fill['venue_trade_id']} has an older epoch than its intent"


# --- I6: bounded ------------------------------------------------------------------------------------------------------


def longest_call(history: History) -> tuple[float, Op | None]:
    """Return the longest call in seconds, of processes that were left alone while they made it."""
    longest, which = 0.0, None
    for op in history.ops:
        took = (op.ended if op.ended is not None else history.ended) - op.began
        if took > longest and not _excused(history, op):
            longest, which = took, op
    return longest, which


def _excused(history: History, op: Op) -> bool:
    """Whether the operation's own process was stopped, or ended, from outside while it ran."""
    until = op.ended if op.ended is not None else history.ended
    return any(
        mark.name in ("paused", "killed") and mark.body.get("who") == op.writer and op.began <= mark.at <= until
        for mark in history.marks
    )


def resumed_after(history: History) -> list[tuple[float, float | None]]:
    """Return for each heal its time, and the seconds until the first acknowledged write that began after it."""
    found: list[tuple[float, float | None]] = []
    heals = history.named("heal")
    for heal in heals:
        first = min((op.ended for op in history.acknowledged() if op.ended and op.began >= heal.at), default=None)
        found.append((heal.at, None if first is None else first - heal.at))
    return found


def _unbounded(history: History, _: Final) -> Iterator[str]:
    took, op = longest_call(history)
    if op is not None and took > LONGEST_CALL_S:
        yield f"{op.kind} {op.key} of {op.writer} lasted {took:.1f} s"
    for at, seconds in resumed_after(history):
        if seconds is None and history.ended - at > RESUMED_WITHIN_S:
            yield f"nothing was written in the {history.ended - at:.1f} s after a heal"
        elif seconds is not None and seconds > RESUMED_WITHIN_S:
            yield f"the first write came {seconds:.1f} s after the heal"
    ended_by_us = {mark.body.get("who") for mark in history.marks if mark.name in ("killed", "terminated")}
    starts = Counter(mark.writer for mark in history.named("started"))
    for writer, n in starts.items():
        if n > 1 and writer not in ended_by_us:
            yield f"{writer} was started {n} times: a fault should not end it"
    for mark in history.named("died"):
        yield f"{mark.body['who']} ended by itself with exit code {mark.body['code']}"
    for mark in history.named("pool"):
        if mark.body["in_use"] or mark.body["open"] > mark.body["most"]:
            yield f"{mark.writer} ended with {mark.body['in_use']} connections in use of {mark.body['open']} open"


# --- I7, I8: whole transactions ---------------------------------------------------------------------------------------


def _half_seen(history: History, final: Final) -> Iterator[str]:
    for op in history.ops:
        if op.kind == "observe" and op.outcome == "ok":
            for what, n in op.body.items():
                if n:
                    yield f"a reader saw {n} {what}"
    closed_by = {trade["position_id"] for trade in final.trades}
    for position in final.positions:
        if position["status"] == "CLOSED" and position["id"] not in closed_by:
            yield f"position {position['id']} is CLOSED and has no trade"
    status = {position["id"]: position["status"] for position in final.positions}
    for trade in final.trades:
        if status.get(trade["position_id"]) != "CLOSED":
            yield f"trade {trade['id']} is there and its position is {status.get(trade['position_id'])}"


def _half_done(_: History, final: Final) -> Iterator[str]:
    filled = _filled(final)
    for intent in final.intents:
        whole = filled[intent["intent_id"]] == intent["quantity"]
        if (intent["status"] == "FILLED") != whole:
            yield (
                f"intent {intent['intent_id']} is {intent['status']} and wants {intent['quantity']},"
                f" filled are {filled[intent['intent_id']]}"
            )
    followed = {
        "ENTRY": ("position", {position["order_id"] for position in final.positions}),
        "EXIT": ("trade", {trade["order_id"] for trade in final.trades}),
    }
    for intent in final.intents:
        what, keys = followed[intent["leg"]]
        if intent["status"] == "FILLED" and intent["intent_id"] not in keys:
            yield f"intent {intent['intent_id']} is FILLED without its {what}"
    yield from _wrong_orders(final, filled)


def _wrong_orders(final: Final, filled: dict[str, Decimal]) -> Iterator[str]:
    """What is written of the orders at the venue, against the fills and the decisions that they carry out."""
    orders = {order["client_order_id"]: order for order in final.orders}
    for intent in final.intents:
        key, done = intent["intent_id"], filled[intent["intent_id"]]
        order = orders.get(key)
        if order is None:
            if done:
                yield f"intent {key} has fills and no order"
            continue
        if (order["quantity"], order["filled_quantity"]) != (intent["quantity"], done):
            yield (
                f"order {key} says {order['filled_quantity']} of {order['quantity']},"
                f" filled are {done} of {intent['quantity']}"
            )
        fitting = _OPEN_ORDER[bool(done)] if intent["status"] == "PENDING" else intent["status"]
        if order["status"] != fitting:
            yield f"order {key} is {order['status']}, its intent {intent['status']} with {done} filled"


# --- helpers ----------------------------------------------------------------------------------------------------------


def _filled(final: Final) -> dict[str, Decimal]:
    """The quantity that was filled of each intent."""
    filled: dict[str, Decimal] = defaultdict(Decimal)
    for fill in final.fills:
        filled[fill["intent_id"]] += fill["quantity"]
    return filled


def _by_session(rows: list[Row]) -> dict[object, list[Row]]:
    grouped: dict[object, list[Row]] = defaultdict(list)
    for row in rows:
        grouped[row["session_id"]].append(row)
    return grouped


_INVARIANTS = (
    ("I1", _lost),
    ("I2", _doubled),
    ("I3", _unattempted),
    ("I4", _unbalanced),
    ("I5", _two_writers),
    ("I6", _unbounded),
    ("I7", _half_seen),
    ("I8", _half_done),
)
