"""The leader's desk: its account, its orders at the venue, and the facts on their way from the venue to the database.

What it keeps in memory is a copy of the database. Whenever the two may differ (start, take-over, a lost database, a
COMMIT whose answer never came) the desk is thrown away and ``recovery`` makes a new one.
"""

from __future__ import annotations

import contextlib
import logging
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Literal

from sqlalchemy import Connection
from tradedb.errors import SwitchyardError

from trading_bot import ledger
from trading_bot.books import Account
from trading_bot.decisions import Standing
from trading_bot.feeds.candles import Candle
from trading_bot.kit import Kit
from trading_bot.orders import Intent, OrderReport, VenueFill
from trading_bot.risk import closed_by_risk
from trading_bot.spool import SpoolFull
from trading_bot.venue import VenueUnreachable

log = logging.getLogger(__name__)

Outcome = Literal["recorded", "known", "quarantined"]


@dataclass(frozen=True, slots=True)
class Books:
    """An account as the database has it, and its equity curve."""

    account: Account
    curve: ledger.Curve


@dataclass(frozen=True, slots=True)
class Waiting:
    """A fill that the database has not confirmed, and its number in the spool; None where that had no room."""

    fill: VenueFill
    number: int | None


class Desk:
    """What a leader trades with.

    Args:
        kit: what it works with.
        session: the account that it trades on.
        identity: of the server that confirms what it records.
        cursor: up to where the venue's fills are known, by the venue's own order.
        exit_reason: why the account's last position was closed; None when none was.
    """

    def __init__(
        self, kit: Kit, session: ledger.Session, *, identity: str, cursor: int, exit_reason: str | None
    ) -> None:
        self.kit = kit
        self.session = session
        self.identity = identity
        self.cursor = cursor
        self.working: dict[str, Intent] = {}  # decisions that are not over
        self.waiting: deque[Waiting] = deque()
        self.fills = 0  # recorded from this desk, for people
        self._exit_reason = exit_reason
        self._books: dict[int, Books] = {}
        self._reported: set[str] = set()  # orders that have their row
        self._quarantined = False

    # --- the account --------------------------------------------------------------------------------------------------

    def books(self, session_id: int | None = None) -> Books:
        """Return an account as the database has it; the one that is traded, where none is named.

        Raises: SwitchyardError: the database is away; BOT-003, its fills do not add up.
        """
        wanted = self.session.id if session_id is None else session_id
        if wanted not in self._books:

            def work(conn: Connection) -> Books:
                account = ledger.load_account(conn, wanted)
                return Books(account, ledger.load_curve(conn, account))

            self._books[wanted] = self.kit.read(work, "account-load")
        return self._books[wanted]

    def account(self) -> Account:
        """Return the account that is traded, with what has happened since the database heard of it."""
        account = self.books().account
        for waiting in self.waiting:
            try:
                account, _ = account.apply(waiting.fill)
            except SwitchyardError:  # of another account, or it will be quarantined: it is not ours to sell
                log.warning("fill_does_not_fit", extra={"venue_trade_id": waiting.fill.venue_trade_id})
        return account

    def standing(self, halt: str | None) -> Standing:
        """Return where the account stands, for ``judge``; ``halt`` is what is in the way of entries."""
        account = self.account()
        return Standing(
            account=account,
            day_start_balance=self.books().curve.first_balance_of_day(account.balance),
            closed_by_risk=closed_by_risk(self._exit_reason),
            resting=next((intent.leg for intent in self.working.values()), None),
            halt=halt,
        )

    # --- facts: venue -> spool -> database ----------------------------------------------------------------------------

    def see(self, candles: Sequence[Candle]) -> None:
        """Let a paper venue's market move on."""
        with self._asking_venue():
            for candle in candles:
                self.kit.venue.see(candle)

    def collect(self, *, database: bool = True) -> None:
        """Take the venue's new fills into the spool.

        Args:
            database: it is there to take them. If it is not, what the spool has no room for stays at the venue.
        """
        with self._asking_venue():
            while fills := self.kit.venue.fills(self.cursor):
                for fill in fills:
                    number = self._spooled(fill)
                    if number is None and not database:
                        return
                    self.waiting.append(Waiting(fill, number))
                    self.cursor = fill.sequence

    def record(self) -> None:
        """Write what waits to the database, oldest first, each fill with everything that follows from it.

        Raises: LeadershipLost, StateMoved, SwitchyardError; what is not written is still waiting.
        """
        while self.waiting:
            first = self.waiting[0]
            self.absorb(first.fill)
            if first.number is not None:
                self.kit.spool.acknowledge([first.number], self.identity)
            self.waiting.popleft()

    def absorb(self, fill: VenueFill, *, replayed: bool = False) -> Outcome:
        """Record one fill: in its account, or in quarantine where it fits none; return what came of it."""
        kit = self.kit
        try:
            session_id = self._session_of(fill)
            books = self.books(session_id)
            done = kit.transaction(
                lambda conn: ledger.record_fill(
                    conn,
                    kit.lease,
                    books.account,
                    books.curve,
                    fill,
                    timeframe=self.session.terms.timeframe,
                    replayed=replayed,
                ),
                "fill-record",
                idempotent=True,
            )
        except ledger.UnknownIntent as unknown:
            return self._quarantine(fill, str(unknown))
        except SwitchyardError as error:
            if error.code != "BOT-003":
                raise
            return self._quarantine(fill, error.what)
        if done.outcome == "recorded":
            self._books[session_id] = Books(done.account, done.curve)
            self.fills += 1
            if done.intent_over:
                self.working.pop(fill.intent_id, None)
            elif fill.intent_id not in self.working:  # an order that was taken for over, or never sent, is not
                intent = kit.read(lambda conn: ledger.load_intent(conn, fill.intent_id), "intent-load")
                self.working[fill.intent_id] = intent
            log.info(
                "fill",
                extra={
                    "side": fill.side,
                    "quantity": fill.quantity,
                    "symbol": fill.symbol,
                    "price": fill.price,
                    "venue": fill.venue,
                    "balance": done.account.balance,
                    "intent_id": fill.intent_id,
                    "venue_trade_id": fill.venue_trade_id,
                },
            )
        else:
            self._books.pop(session_id, None)  # somebody wrote it, perhaps this process, unheard: look again
        if done.outcome == "quarantined":
            self.look_for_quarantine()
        return done.outcome

    def look_for_quarantine(self) -> int:
        """Halt entries while there are contradicting facts that nobody has looked at; return how many."""
        count = self.kit.read(ledger.open_quarantine, "quarantine-look")
        self._quarantined = count > 0
        reason = f"{count} contradicting fact(s) in quarantined_facts wait for somebody to look" if count else None
        self.kit.halts.set("quarantine", reason, severity="critical", error_code="BOT-005")
        return count

    @contextlib.contextmanager
    def _asking_venue(self) -> Iterator[None]:
        """Go on without the venue's answer where it gives none; nothing is opened meanwhile."""
        try:
            yield
        except VenueUnreachable as error:
            log.warning("venue_unreachable", extra={"code": error.code, "what": error.what})
            self.kit.halts.set("venue", f"{error.code}: {error.what}", severity="error", error_code=error.code)
        else:
            self.kit.halts.set("venue", None)

    def _spooled(self, fill: VenueFill) -> int | None:
        try:
            return self.kit.spool.add_fill(fill)
        except SpoolFull as full:
            self.kit.halts.set("spool", full.what, severity="error", error_code=full.code)
            return None

    def _session_of(self, fill: VenueFill) -> int:
        """Return the session that the fill's intent belongs to; one that only the venue knows becomes ours.

        Raises: UnknownIntent, it can be nobody's here.
        """
        known = self.working.get(fill.intent_id)
        if known is not None:
            return known.session_id
        session_id = self.kit.read(lambda conn: ledger.session_of_intent(conn, fill.intent_id), "intent-session")
        return self._adopt(fill) if session_id is None else session_id

    def _adopt(self, fill: VenueFill) -> int:
        """Write down the decision behind a fill that the venue has and the database does not.

        That is how a new leader goes on after a leader that sold during an outage, and how a database that was put
        back to the past gets the order again.
        """
        report = self.kit.venue.find(fill.intent_id)
        terms = self.session.terms
        if report is None or (fill.venue, fill.symbol) != (terms.venue, terms.symbol):
            raise ledger.UnknownIntent(f"no decision for its order {fill.intent_id} is known")
        position = self.books().account.position
        intent = Intent(
            intent_id=fill.intent_id,
            session_id=self.session.id,
            strategy_name=terms.strategy_name,
            venue=fill.venue,
            symbol=fill.symbol,
            side=fill.side,
            leg="ENTRY" if fill.side == "BUY" else "EXIT",
            quantity=report.quantity,
            reference_price=fill.price,
            signal_time=report.accepted_at,
            reason="found at the venue",
            entry_intent_id=position.intent_id if position and fill.side == "SELL" else None,
        )
        self.books().account.post(fill)  # what does not fit is not adopted
        kit = self.kit
        status = kit.transaction(
            lambda conn: ledger.restore_intent(conn, kit.lease, intent), "intent-adopt", idempotent=True
        )
        if status == "PENDING":
            self.working[intent.intent_id] = intent
        kit.diary.tell(
            "ALERT",
            "warning",
            f"order {intent.intent_id} ({intent.side} {intent.quantity:f} {intent.symbol}) was found at the venue only",
            session_id=self.session.id,
        )
        return self.session.id

    def _quarantine(self, fill: VenueFill, why: str) -> Outcome:
        kit = self.kit
        kit.transaction(
            lambda conn: ledger.quarantine_fill(conn, kit.lease, fill, None, why=why),
            "fill-quarantine",
            idempotent=True,
        )
        log.critical("fill_quarantined", extra={"code": "BOT-005", "venue_trade_id": fill.venue_trade_id, "why": why})
        self.look_for_quarantine()
        return "quarantined"

    # --- decisions and orders -----------------------------------------------------------------------------------------

    def place(self, intent: Intent) -> None:
        """Commit a decision, act on it, and record what comes of it at once."""
        number = self._spool_decision(intent)
        if number is None and intent.leg == "ENTRY":
            return
        kit, account = self.kit, self.books().account
        status = kit.transaction(
            lambda conn: ledger.place_intent(conn, kit.lease, account, intent), "intent-place", idempotent=True
        )
        if number is not None:
            kit.spool.acknowledge([number], self.identity)
        if status == "PENDING":
            self._begin(intent)
            self._submit(intent)
            self.collect()
            self.record()

    def exit_without_database(self, intent: Intent) -> bool:
        """Close the position while the database is away; return whether the venue was told.

        The decision is on the disk before the venue hears of it; without room for it, nothing is done.
        """
        if self._spool_decision(intent) is None:
            return False
        self._begin(intent)
        with self._asking_venue():
            self.kit.venue.submit(intent)
        self.collect(database=False)
        return True

    def _begin(self, intent: Intent) -> None:
        self.working[intent.intent_id] = intent
        if intent.leg == "EXIT":
            self._exit_reason = intent.reason

    def follow(self, now: datetime) -> tuple[int, int]:
        """Carry every decision that is not over to its end; return how many were sent (again), and how many given up.

        What the venue never heard of is sent under its own id while it is fresh and still makes sense, and given up
        when not. To be called with everything recorded that the venue had.
        """
        unheard: list[Intent] = []
        for intent in list(self.working.values()):
            with self._asking_venue():
                report = self.kit.venue.find(intent.intent_id)
                if report is None:
                    unheard.append(intent)
                else:
                    self._follow_order(intent, report)
        sent = given_up = 0
        for intent in unheard:
            with self._asking_venue():
                if not self._makes_sense(intent, now):
                    self._follow_order(intent, self.kit.venue.void(intent))
                    self._say_given_up(intent)
                    given_up += 1
                elif self.kit.lease.may_decide():
                    self._submit(intent)
                    sent += 1
        return sent, given_up

    def _makes_sense(self, intent: Intent, now: datetime) -> bool:
        """Whether a decision that the venue never heard of may still be sent: the account is as it was decided on."""
        if (now - intent.signal_time).total_seconds() > self.kit.fresh_s:
            return False
        if any(other in self._reported for other in self.working if other != intent.intent_id):
            return False  # another order is being filled
        position = self.books(intent.session_id).account.position
        if intent.leg == "ENTRY":
            return position is None
        return position is not None and (position.intent_id, position.quantity) == (
            intent.entry_intent_id,
            intent.quantity,
        )

    def cancel_entries(self) -> None:
        """Take back what entries have not bought yet."""
        for intent in [intent for intent in self.working.values() if intent.leg == "ENTRY"]:
            with self._asking_venue():
                self.kit.venue.void(intent)

    def snapshot(self, price: Decimal) -> None:
        """Write a point of the equity curve.

        Raises: LeadershipLost, StateMoved, SwitchyardError.
        """
        books, kit = self.books(), self.kit
        curve = kit.transaction(
            lambda conn: ledger.record_snapshot(conn, kit.lease, books.account, books.curve, price), "snapshot"
        )
        self._books[self.session.id] = Books(books.account, curve)

    def _spool_decision(self, intent: Intent) -> int | None:
        """Put a decision on the disk; None where that has no room, which halts entries."""
        try:
            return self.kit.spool.add_intent(intent, self.session.terms)
        except SpoolFull as full:
            self.kit.halts.set("spool", full.what, severity="error", error_code=full.code)
            return None

    def _submit(self, intent: Intent) -> None:
        """Give the venue an order under the decision's own id; without an answer, ``follow`` asks what came of it."""
        with self._asking_venue():
            self._follow_order(intent, self.kit.venue.submit(intent))

    def _follow_order(self, intent: Intent, report: OrderReport) -> None:
        """Write what the venue says about an order, where that is news."""
        kit, key = self.kit, intent.intent_id
        if key in self._reported and not report.over:
            return
        # a fill in quarantine never arrives: then the venue's word is enough for the order to be over
        complete = self._quarantined and not self.waiting
        over = kit.transaction(
            lambda conn: ledger.record_order(conn, kit.lease, intent, report, complete=complete),
            "order-record",
            idempotent=True,
        )
        self._reported.add(key)
        if over:
            self.working.pop(key, None)

    def _say_given_up(self, intent: Intent) -> None:
        self.kit.diary.tell(
            "RECOVERY",
            "warning",
            f"intent {intent.intent_id} ({intent.leg} {intent.quantity:f} {intent.symbol}) never reached the venue, and"
            " the market or the account has moved on: cancelled",
            session_id=intent.session_id,
        )
