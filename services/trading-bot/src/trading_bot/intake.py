"""The way of a fact: from the venue to the spool, from there to the database."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from sqlalchemy import Connection

from trading_bot import ledger
from trading_bot.accounts import Accounts, Books
from trading_bot.books import DoesNotFit
from trading_bot.feeds.candles import Candle
from trading_bot.kit import Kit
from trading_bot.orders import Intent, VenueFill
from trading_bot.spool import SpoolFull

log = logging.getLogger(__name__)

Outcome = Literal["recorded", "known", "quarantined"]


@dataclass(frozen=True, slots=True)
class Waiting:
    """A fill that the database has not confirmed, and its number in the spool; None where that had no room."""

    fill: VenueFill
    number: int | None


class Intake:
    """Takes the venue's fills in, each once.

    Args:
        kit: what the leader works with.
        session: the account that is traded.
        accounts: every account that a fill may be of.
        identity: of the server that confirms what is recorded.
        cursor: up to where the venue's fills are known, by the venue's own order.
    """

    def __init__(self, kit: Kit, session: ledger.Session, accounts: Accounts, *, identity: str, cursor: int) -> None:
        self._kit = kit
        self._session = session
        self._accounts = accounts
        self._identity = identity
        self.cursor = cursor
        self.working: dict[str, Intent] = {}  # decisions that are not over
        self.waiting: deque[Waiting] = deque()
        self.fills = 0  # recorded here, for people
        self.quarantined = False

    def see(self, candles: Sequence[Candle]) -> None:
        """Let a paper venue's market move on."""
        with self._kit.asking_venue():
            for candle in candles:
                self._kit.venue.see(candle)

    def collect(self, *, database: bool = True) -> None:
        """Take the venue's new fills into the spool.

        Args:
            database: it is there to take them. If it is not, what the spool has no room for stays at the venue.
        """
        with self._kit.asking_venue():
            while fills := self._kit.venue.fills(self.cursor):
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
                self._kit.spool.acknowledge([first.number], self._identity)
            self.waiting.popleft()

    def absorb(self, fill: VenueFill, *, replayed: bool = False) -> Outcome:
        """Record one fill: in its account, or in quarantine where it fits none; return what came of it.

        Args:
            fill: what the venue says.
            replayed: it comes from the spool.

        Raises: LeadershipLost, StateMoved, SwitchyardError; nothing is written.
        """
        try:
            session_id = self._session_of(fill)
        except (ledger.UnknownIntent, DoesNotFit) as unfit:
            return self._quarantine(fill, unfit.what)
        books = self._accounts.of(session_id)
        try:
            done = self._recorded(fill, books, replayed=replayed)
        except DoesNotFit as unfit:
            return self._quarantine(fill, unfit.what)
        if done.outcome == "recorded":
            self._accounts.moved(done.account, done.curve)
            self._recorded_one(fill, done)
        else:
            self._accounts.forget(session_id)  # somebody wrote it, perhaps this process, unheard: look again
        if done.outcome == "quarantined":
            self.look_for_quarantine()
        return done.outcome

    def _recorded(self, fill: VenueFill, books: Books, *, replayed: bool) -> ledger.Recorded:
        kit = self._kit
        return kit.transaction(
            lambda conn: ledger.record_fill(
                conn,
                kit.lease,
                books.account,
                books.curve,
                fill,
                timeframe=self._session.terms.timeframe,
                replayed=replayed,
            ),
            "fill-record",
            idempotent=True,
        )

    def _recorded_one(self, fill: VenueFill, done: ledger.Recorded) -> None:
        self.fills += 1
        if done.intent_over:
            self.working.pop(fill.intent_id, None)
        elif fill.intent_id not in self.working:  # an order that was taken for over, or never sent, is not
            intent = self._kit.read(lambda conn: ledger.load_intent(conn, fill.intent_id), "intent-load")
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

    def look_for_quarantine(self) -> int:
        """Halt entries while there are contradicting facts that nobody has looked at; return how many."""
        count = self._kit.read(ledger.open_quarantine, "quarantine-look")
        self.quarantined = count > 0
        reason = f"{count} contradicting fact(s) in quarantined_facts wait for somebody to look" if count else None
        self._kit.halts.set("quarantine", reason, severity="critical", error_code="BOT-005")
        return count

    def _spooled(self, fill: VenueFill) -> int | None:
        try:
            return self._kit.spool.add_fill(fill)
        except SpoolFull as full:
            self._kit.halts.set("spool", full.what, severity="error", error_code=full.code)
            return None

    def _session_of(self, fill: VenueFill) -> int:
        """Return the session that the fill's intent belongs to; one that only the venue knows becomes ours.

        Raises: UnknownIntent, it can be nobody's here. DoesNotFit, it would be ours, and sells what is not held.
        """
        known = self.working.get(fill.intent_id)
        if known is not None:
            return known.session_id
        session_id = self._kit.read(lambda conn: ledger.session_of_intent(conn, fill.intent_id), "intent-session")
        return self._adopt(fill) if session_id is None else session_id

    def _adopt(self, fill: VenueFill) -> int:
        """Write down the decision behind a fill that the venue has and the database does not.

        That is how a new leader goes on after a leader that sold during an outage, and how a database that was put
        back to the past gets the order again.
        """
        report = self._kit.venue.find(fill.intent_id)
        terms = self._session.terms
        if report is None or (fill.venue, fill.symbol) != (terms.venue, terms.symbol):
            raise ledger.UnknownIntent(f"no decision for its order {fill.intent_id} is known")
        position = self._accounts.of(self._session.id).account.position
        intent = Intent(
            intent_id=fill.intent_id,
            session_id=self._session.id,
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
        self._accounts.of(self._session.id).account.post(fill)  # what does not fit is not adopted
        kit = self._kit

        def work(conn: Connection) -> str:
            status = ledger.restore_intent(conn, kit.lease, intent)
            ledger.record_order(conn, kit.lease, intent, report)
            return status

        status = kit.transaction(work, "intent-adopt", idempotent=True)
        if status == "PENDING":
            self.working[intent.intent_id] = intent
        kit.diary.tell(
            "ALERT",
            "warning",
            f"order {intent.intent_id} ({intent.side} {intent.quantity:f} {intent.symbol}) was found at the venue only",
            session_id=self._session.id,
        )
        return self._session.id

    def _quarantine(self, fill: VenueFill, why: str) -> Outcome:
        kit = self._kit
        kit.transaction(
            lambda conn: ledger.quarantine_fill(conn, kit.lease, fill, None, why=why),
            "fill-quarantine",
            idempotent=True,
        )
        log.critical("fill_quarantined", extra={"code": "BOT-005", "venue_trade_id": fill.venue_trade_id, "why": why})
        self.look_for_quarantine()
        return "quarantined"
