"""What a bot does before it trades: on taking the lead, and after each outage.

Three know what happened: the venue, the spool and the database. In this order the database is brought up to date, and
what was found is said in one event.
"""

from __future__ import annotations

import heapq
import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from itertools import islice

from sqlalchemy import Connection
from tradedb.errors import SwitchyardError

from trading_bot import ledger
from trading_bot.desk import Desk
from trading_bot.feeds.candles import Candle
from trading_bot.identity import server_identity
from trading_bot.kit import RECOVERY_DEADLINE_S, Kit
from trading_bot.orders import Intent, VenueFill
from trading_bot.spool import Opened
from trading_bot.spooled import Decided, FactSpool, Noted

_AT_ONCE = 500  # facts that are looked up in one query

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Found:
    """What a recovery found and did. ``torn_bytes`` were cut off the spool's end: a write that never was durable."""

    torn_bytes: int = 0
    spools_left_behind: int = 0
    spool_replayed: int = 0
    spool_known: int = 0
    venue_fills_added: int = 0
    intents_resubmitted: int = 0
    intents_cancelled: int = 0
    quarantined: int = 0
    books_caught_up: int = 0
    other_server: bool = False
    books: str = "balanced"

    def sentence(self) -> str:
        """Return what is worth a sentence, for the event's message."""
        said = [
            f"{value} {name.replace('_', ' ')}"
            for name, value in asdict(self).items()
            if isinstance(value, int) and not isinstance(value, bool) and value
        ]
        return f"reconciled venue, spool and database: {', '.join(said) or 'nothing was missing'}; the books balance"


def recover(kit: Kit, now: datetime, opened: Opened | None, candles: Sequence[Candle]) -> Desk:
    """Bring the database up to date and return the desk to trade from.

    Args:
        kit: what the leader works with; its spool is open.
        now: the time, aware UTC.
        opened: what opening the spool found, when this process has just done that; None later.
        candles: what a paper venue may not have seen yet.

    Raises: LeadershipLost, StateMoved, SwitchyardError (the database is away; BOT-003 or BOT-007, the books do not add
        up). Whatever was written until then is whole, and the next call finds it.
    """
    found = Found(torn_bytes=opened.torn_bytes if opened else 0)
    with kit.spool.left_behind(lambda error: _say_unreadable(kit, error)) as others:
        return _recover(kit, now, candles, [*others, kit.spool], found)


def _recover(kit: Kit, now: datetime, candles: Sequence[Candle], spools: list[FactSpool], found: Found) -> Desk:
    identity = kit.read(server_identity, "server-identity")
    found.spools_left_behind = sum(1 for spool in spools[:-1] if spool.state().unacknowledged)
    found.books_caught_up = _open_old_books(kit)
    found.other_server = any(_of_another(spool, identity) for spool in spools)
    restored: list[Intent] = []
    for entries in _entries(kit, spools, identity):
        restored += _restore_decisions(kit, [noted for _, noted in entries], found)
    _write_orders(kit)
    session = _open_session(kit)  # after the decisions, which may have brought back its account
    newest = kit.read(lambda conn: ledger.newest_fill(conn, kit.venue.name), "venue-cursor")
    desk = Desk(
        kit,
        session,
        identity=identity,
        cursor=_trusted(kit, newest),
        exit_reason=kit.read(lambda conn: ledger.last_exit_reason(conn, session.id), "exit-reason"),
    )
    replayed: dict[int, list[int]] = {}
    for entries in _entries(kit, spools, identity):
        _replay_fills(desk, [noted for _, noted in entries], found)
        for place, noted in entries:
            replayed.setdefault(place, []).append(noted.number)
    # not before all is done: half a replay for another server must be begun again
    for place, numbers in replayed.items():
        spools[place].acknowledge(numbers, identity)
    desk.intake.see(candles)
    _ask_venue(desk, now, restored, found)
    account = desk.books().account
    kit.read(lambda conn: ledger.require_balance(conn, account), "books-check")
    found.quarantined = desk.intake.look_for_quarantine()
    _end_others(desk)
    log.info(
        "recovered",
        extra={
            **asdict(found),
            "session_id": session.id,
            "balance": account.balance,
            "trades": account.trades,
            "holding": account.position.quantity if account.position else 0,
        },
    )
    kit.diary.tell("RECOVERY", "info", found.sentence(), session_id=session.id, details=asdict(found))
    return desk


def _open_old_books(kit: Kit) -> int:
    """Write the ledger's lines of sessions from before there was a ledger; return how many sessions."""
    sessions = kit.read(ledger.sessions_without_books, "books-look")
    for session_id in sessions:
        done: int | None = 0
        while done is not None:
            _keep_lead(kit)
            done = kit.transaction(
                lambda conn, session_id=session_id, done=done: ledger.catch_up(
                    conn, kit.lease, session_id, after=done or 0
                ),
                "books-open",
                idempotent=True,
                deadline_s=RECOVERY_DEADLINE_S,
            )
    return len(sessions)


def _keep_lead(kit: Kit) -> None:
    """A long recovery must not outlast the lease."""
    if kit.lease.renewal_due_in() <= 0:
        kit.lease.renew()


def _open_session(kit: Kit) -> ledger.Session:
    def work(conn: Connection) -> ledger.Session:
        session = ledger.open_session(conn, kit.lease, kit.terms)
        if session.new:
            ledger.write_event(
                conn,
                event_type="SESSION_START",
                severity="info",
                message=f"new paper trading session on {session.terms.venue} {session.terms.symbol}",
                session_id=session.id,
            )
        if session.changed is not None:
            ledger.write_event(
                conn,
                event_type="SESSION_CHANGE",
                severity="info",
                message=f"session {session.id} is traded with other settings from now on: {session.changed}",
                session_id=session.id,
            )
        return session

    return kit.transaction(work, "session-open")


def _trusted(kit: Kit, newest: ledger.Cursor) -> int:
    """Return from where on the venue is asked for its fills.

    A venue that lost its state numbers its fills anew, and then the database's newest number means nothing: everything
    is asked for, and what is recorded already is known.
    """
    if newest.sequence == 0:
        return 0
    there = kit.venue.fills(newest.sequence - 1, 1)
    if there and (there[0].sequence, there[0].venue_trade_id) == (newest.sequence, newest.venue_trade_id):
        return newest.sequence
    log.warning("venue_numbers_anew", extra={"venue": kit.venue.name, "newest_recorded": newest.sequence})
    return 0


# --- the spool --------------------------------------------------------------------------------------------------------


def _entries(kit: Kit, spools: list[FactSpool], identity: str) -> Iterator[list[tuple[int, Noted]]]:
    """Give what is to be replayed, each with the place of its spool in the list, some at a time.

    Of a spool that another server acknowledged, that is everything, else what nobody did; of several, by their times.
    """
    each = [_placed(place, spool, identity) for place, spool in enumerate(spools)]
    entries = heapq.merge(*each, key=lambda found: found[1].at)
    while some := list(islice(entries, _AT_ONCE)):
        _keep_lead(kit)
        yield some


def _placed(place: int, spool: FactSpool, identity: str) -> Iterator[tuple[int, Noted]]:
    for noted in spool.retained() if _of_another(spool, identity) else spool.unacknowledged():
        yield place, noted


def _of_another(spool: FactSpool, identity: str) -> bool:
    """Whether another server, or another time of this one, has what is in a spool."""
    return spool.acknowledged_by not in (None, identity)


def _say_unreadable(kit: Kit, error: SwitchyardError) -> None:
    """What stands in such a spool alone is not replayed: somebody has to look. What the venue knows is asked there."""
    log.critical("spool_left_behind_unreadable", extra={"code": error.code, "what": error.what, "fix": error.fix})
    kit.diary.tell("ALERT", "critical", f"a spool that another bot left: {error.what}", error_code=error.code)


def _restore_decisions(kit: Kit, entries: list[Noted], found: Found) -> list[Intent]:
    """Write down decisions that the database never got, or lost, in their accounts, which may be lost too."""
    decided = [entry.fact for entry in entries if isinstance(entry.fact, Decided)]
    ids = [fact.intent.intent_id for fact in decided]
    known = kit.read(lambda conn: ledger.known_intents(conn, ids), "replay-look")
    restored = [
        kit.transaction(lambda conn, fact=fact: _restore(conn, kit, fact), "intent-restore", idempotent=True)
        for fact in decided
        if fact.intent.intent_id not in known
    ]
    found.spool_known += len(known)
    found.spool_replayed += len(restored)
    return restored


def _restore(conn: Connection, kit: Kit, decided: Decided) -> Intent:
    session = ledger.open_session(conn, kit.lease, decided.terms)
    intent = replace(decided.intent, session_id=session.id)
    ledger.restore_intent(conn, kit.lease, intent)
    return intent


def _write_orders(kit: Kit) -> None:
    """Write down the orders that the venue has of decisions that are not over: their fills, once recorded, end them."""
    for intent in kit.read(lambda conn: ledger.pending_intents(conn, kit.venue.name), "intents-pending"):
        with kit.asking_venue():
            report = kit.venue.find(intent.intent_id)
        if report is not None:
            kit.transaction(
                lambda conn, intent=intent, report=report: ledger.record_order(conn, kit.lease, intent, report),
                "order-record",
                idempotent=True,
            )


def _replay_fills(desk: Desk, entries: list[Noted], found: Found) -> None:
    """Give the database the fills that it has not got, in their order."""
    fills = [entry.fact for entry in entries if isinstance(entry.fact, VenueFill)]
    stored = _recorded(desk.kit, fills)
    for fill in fills:
        there = stored.get((fill.venue, fill.venue_trade_id))
        known = there is not None and not ledger.contradictions(there, fill)
        known = known or desk.intake.absorb(fill, replayed=True) == "known"
        found.spool_known += known
        found.spool_replayed += not known


def _recorded(kit: Kit, fills: Iterable[VenueFill]) -> dict[tuple[str, str], VenueFill]:
    """Return what the database has under the ids of these fills."""
    by_venue: dict[str, list[str]] = {}
    for fill in fills:
        by_venue.setdefault(fill.venue, []).append(fill.venue_trade_id)
    there: dict[tuple[str, str], VenueFill] = {}
    for venue, ids in by_venue.items():
        stored = kit.read(lambda conn, venue=venue, ids=ids: ledger.fills_by_id(conn, venue, ids), "replay-look")
        there |= {(venue, key): fill for key, fill in stored.items()}
    return there


# --- the venue --------------------------------------------------------------------------------------------------------


def _ask_venue(desk: Desk, now: datetime, restored: list[Intent], found: Found) -> None:
    """Record what the venue did, and carry what was decided to its end."""
    before = desk.intake.fills
    desk.intake.collect()
    desk.intake.record()
    found.venue_fills_added = desk.intake.fills - before
    pending = desk.kit.read(lambda conn: ledger.pending_intents(conn, desk.kit.venue.name), "intents-pending")
    desk.intake.working = {
        intent.intent_id: intent for intent in [*restored, *pending]
    }  # restored: their orders lack a row
    desk.cancel_foreign_entries()
    found.intents_resubmitted, found.intents_cancelled = desk.follow(now)
    desk.intake.collect()
    desk.intake.record()


def _end_others(desk: Desk) -> None:
    """End our accounts of another strategy, symbol or venue; what one of them holds is sold first, where it can be."""
    kit, ours = desk.kit, desk.session.terms
    for other in kit.read(lambda conn: ledger.other_active_sessions(conn, desk.session.id), "sessions-other"):
        if desk.end_account(other):
            continue
        named = f"session {other.id} ({other.terms.strategy_name} on {other.terms.venue} {other.terms.symbol})"
        if (other.terms.venue, other.terms.symbol) == (ours.venue, ours.symbol):
            desk.left_open.append(other)
            said = "its strategy is configured no longer: what it holds is sold at the next candle"
        else:
            said = "it holds a position, and nobody reads its prices any more: set its symbol and feed back to sell it"
        kit.diary.tell("ALERT", "warning", f"{named}: {said}", session_id=other.id)
