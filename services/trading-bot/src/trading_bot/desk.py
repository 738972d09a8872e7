"""The leader's desk: its account and its orders at the venue.

What it keeps in memory is a copy of the database. Whenever the two may differ (start, take-over, a lost database, a
COMMIT whose answer never came) the desk is thrown away and ``recovery`` makes a new one.
"""

from __future__ import annotations

import logging
from datetime import datetime
from decimal import Decimal

from trading_bot import ledger
from trading_bot.accounts import Accounts, Books
from trading_bot.books import Account, DoesNotFit
from trading_bot.decisions import Order, Standing, as_intent
from trading_bot.feeds.candles import Candle
from trading_bot.intake import Intake
from trading_bot.kit import CALL_DEADLINE_S, Kit
from trading_bot.orders import Intent, OrderReport
from trading_bot.risk import closed_by_risk
from trading_bot.spool import SpoolFull

log = logging.getLogger(__name__)


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
        self._accounts = Accounts(kit)
        self.intake = Intake(kit, session, self._accounts, identity=identity, cursor=cursor)
        self.identity = identity
        self._exit_reason = exit_reason
        self._reported: set[str] = set()  # orders that have their row
        self.left_open: list[ledger.Session] = []  # accounts of other strategies on our market that hold something

    @property
    def working(self) -> dict[str, Intent]:
        """Return the decisions that are not over, by id, oldest first."""
        return self.intake.working

    # --- the account --------------------------------------------------------------------------------------------------

    def books(self, session_id: int | None = None) -> Books:
        """Return an account as the database has it; the one that is traded, where none is named.

        Raises: SwitchyardError: the database is away; BOT-003, its fills do not add up.
        """
        return self._accounts.of(self.session.id if session_id is None else session_id)

    def account(self) -> Account:
        """Return the account that is traded, with what has happened since the database heard of it."""
        account = self.books().account
        for waiting in self.intake.waiting:
            try:
                account, _ = account.apply(waiting.fill)
            except DoesNotFit:  # of another account, or it will be quarantined: it is not ours to sell
                log.warning("fill_does_not_fit", extra={"venue_trade_id": waiting.fill.venue_trade_id})
        return account

    def standing(self, halt: str | None) -> Standing:
        """Return where the account stands, for ``judge``; ``halt`` is what is in the way of entries."""
        account = self.account()
        return Standing(
            account=account,
            day_start_balance=self.books().curve.first_balance_of_day(),
            closed_by_risk=closed_by_risk(self._exit_reason),
            resting=next((intent.leg for intent in self._of_account(self.session.id)), None),
            halt=halt,
        )

    # --- decisions and orders -----------------------------------------------------------------------------------------

    def place(self, intent: Intent) -> None:
        """Commit a decision, act on it, and record what comes of it at once."""
        number = self._spool_decision(intent)
        if number is None and intent.leg == "ENTRY":
            return
        kit, account = self.kit, self.books(intent.session_id).account
        status = kit.transaction(
            lambda conn: ledger.place_intent(conn, kit.lease, account, intent), "intent-place", idempotent=True
        )
        if number is not None:
            kit.spool.acknowledge([number], self.identity)
        if status == "PENDING":
            self._begin(intent)
            self._submit(intent)
            self.intake.collect()
            self.intake.record()

    def exit_without_database(self, intent: Intent) -> None:
        """Close the position while the database is away.

        The decision is on the disk before the venue hears of it. Where the disk has no room for it, it is given all the
        same: the venue keeps its order, under the decision's own id, and ``recovery`` finds it there.
        """
        if self._spool_decision(intent) is None:
            self.kit.diary.tell(
                "ALERT",
                "error",
                f"exit {intent.intent_id} of {intent.quantity:f} {intent.symbol} was given: the spool had no room",
                error_code="BOT-033",
                session_id=intent.session_id,
            )
        self._begin(intent)
        with self.kit.asking_venue():
            self.kit.venue.submit(intent)
        self.intake.collect(database=False)

    def _begin(self, intent: Intent) -> None:
        self.working[intent.intent_id] = intent
        if intent.leg == "EXIT" and intent.session_id == self.session.id:
            self._exit_reason = intent.reason

    def follow(self, now: datetime) -> tuple[int, int]:
        """Carry every decision that is not over to its end; return how many were sent (again), and how many given up.

        What the venue never heard of is sent under its own id while it is fresh and still makes sense, and given up
        when not. To be called with everything recorded that the venue had.
        """
        unheard: list[Intent] = []
        for intent in list(self.working.values()):
            with self.kit.asking_venue():
                report = self.kit.venue.find(intent.intent_id)
                if report is None:
                    unheard.append(intent)
                else:
                    self._follow_order(intent, report)
        sent = given_up = 0
        for intent in unheard:
            with self.kit.asking_venue():
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
        others = (other.intent_id for other in self._of_account(intent.session_id) if other is not intent)
        if any(other in self._reported for other in others):
            return False  # another order of the account is being filled
        position = self._accounts.of(intent.session_id).account.position
        if intent.leg == "ENTRY":
            return position is None
        return position is not None and (position.intent_id, position.quantity) == (
            intent.entry_intent_id,
            intent.quantity,
        )

    def cancel_entries(self) -> None:
        """Take back what the account's entries have not bought yet."""
        for intent in self._of_account(self.session.id):
            if intent.leg == "ENTRY":
                with self.kit.asking_venue():
                    self.kit.venue.void(intent)

    def cancel_foreign_entries(self) -> None:
        """Take back what the entries of other accounts have not bought yet: nobody looks at their market any more."""
        for intent in self.working.values():
            if intent.leg == "EXIT" or intent.session_id == self.session.id:
                continue
            with self.kit.asking_venue():
                self.kit.venue.void(intent)
                self.kit.diary.tell(
                    "RECOVERY",
                    "warning",
                    f"entry {intent.intent_id} ({intent.quantity:f} {intent.symbol}) is of another account: what it has"
                    " not bought is cancelled",
                    session_id=intent.session_id,
                )

    def _of_account(self, session_id: int) -> list[Intent]:
        """Return the decisions of one account that are not over, oldest first."""
        return [intent for intent in self.working.values() if intent.session_id == session_id]

    def sell_what_was_left(self, candle: Candle) -> None:
        """Close what accounts of other strategies hold on our market, and end those that hold nothing any more.

        Raises: LeadershipLost, StateMoved, SwitchyardError.
        """
        for other in list(self.left_open):
            position = self.books(other.id).account.position
            if self._of_account(other.id):
                continue  # on its way out
            if position is None:
                if self.end_account(other):
                    self.left_open.remove(other)
                continue
            self.place(
                as_intent(
                    Order("EXIT", position.quantity, "its strategy is configured no longer"),
                    strategy=other.terms.strategy_name,
                    account=self.books(other.id).account,
                    candle=candle,
                    venue=self.kit.venue.name,
                )
            )

    def end_account(self, other: ledger.Session) -> bool:
        """End an account that is no longer traded, and say so; False, and nothing done, while it holds something."""
        kit, account = self.kit, self.books(other.id).account
        ended = kit.transaction(
            lambda conn: ledger.end_session(conn, kit.lease, account), "session-end", deadline_s=CALL_DEADLINE_S
        )
        if ended:
            said = f"session {other.id} is of another strategy, symbol or venue: ended"
            kit.diary.tell("SESSION_END", "info", said, session_id=other.id)
        return ended

    def snapshot(self, price: Decimal) -> None:
        """Write a point of the equity curve.

        Raises: LeadershipLost, StateMoved, SwitchyardError.
        """
        books, kit = self.books(), self.kit
        curve = kit.transaction(
            lambda conn: ledger.record_snapshot(conn, kit.lease, books.account, books.curve, price), "snapshot"
        )
        self._accounts.moved(books.account, curve)

    def _spool_decision(self, intent: Intent) -> int | None:
        """Put a decision on the disk; None where that has no room, which halts entries."""
        try:
            account = next((other for other in self.left_open if other.id == intent.session_id), self.session)
            return self.kit.spool.add_intent(intent, account.terms)
        except SpoolFull as full:
            self.kit.halts.set("spool", full.what, severity="error", error_code=full.code)
            return None

    def _submit(self, intent: Intent) -> None:
        """Give the venue an order under the decision's own id; without an answer, ``follow`` asks what came of it."""
        with self.kit.asking_venue():
            self._follow_order(intent, self.kit.venue.submit(intent))

    def _follow_order(self, intent: Intent, report: OrderReport) -> None:
        """Write what the venue says about an order, where that is news."""
        kit, key = self.kit, intent.intent_id
        if key in self._reported and not report.over:
            return
        # a fill in quarantine never arrives: then the venue's word is enough for the order to be over
        complete = self.intake.quarantined and not self.intake.waiting
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
