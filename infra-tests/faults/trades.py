"""The writer that trades: the decision on the disk, committed, sent; what the venue did on the disk, then in the books.

Venue, spool, ledger and lease are the bot's own. Prices come from a table that every run has.
"""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, func, select
from tradedb.models import Fill, OrderIntent
from trading_bot import ledger
from trading_bot.books import Account
from trading_bot.feeds.candles import Candle
from trading_bot.ids import intent_id
from trading_bot.ledger import Curve, SessionTerms
from trading_bot.orders import Intent, VenueFill
from trading_bot.spool import Spool, SpoolFull
from trading_bot.venue.paper import PaperVenue

from faults.work import FIRST_SIGNAL, Config, Writer

SYMBOL = "BTCUSDT"


class Trades(Writer):
    """Buys and sells in turn; its state is the database's and the venue's, asked again after every doubt."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        name = config.account or config.name
        state = Path(config.history).parent / f"state-{name}"
        state.mkdir(exist_ok=True)
        state.chmod(0o777)
        self.terms = SessionTerms(name, {}, SYMBOL, "1s", f"PAPER-{name}", Decimal(10_000))
        self.venue = PaperVenue(
            self.terms.venue, state / "venue.db", fee_rate=Decimal("0.0004"), slippage_rate=Decimal("0.0001")
        )
        self.spool = Spool(Path(config.spool) if config.spool else state / f"spool-{config.name}")
        self.spool.open()
        self.account: Account | None = None
        self.curve: Curve | None = None
        self.working: dict[str, Intent] = {}
        self.cursor = 0

    def forget(self) -> None:
        super().forget()
        self.account = self.curve = None

    def candle(self) -> Candle:
        """The market at the moment that the writer has come to."""
        at = FIRST_SIGNAL + timedelta(seconds=self.n)
        number = int(at.timestamp())
        price = Decimal(100) + Decimal(number * 37 % 1013) / 100
        return Candle(
            self.terms.venue, SYMBOL, number, at - timedelta(seconds=1), at, price, price, price, price, Decimal(1)
        )

    def step(self) -> None:
        if self.account is None or self.curve is None:
            self.recover()
            return
        self.n += 1
        candle = self.candle()
        self.venue.see(candle)
        self.collect()
        for intent in list(self.working.values()):
            self.follow(intent)
        account = self.account
        if account is None or self.working:
            return
        self.gate("decided")
        intent = self.decide(account, candle)
        number = self.spooled("intent", intent.intent_id, asdict(intent))
        if number is None and intent.leg == "ENTRY":
            self.stopping.wait(0.1)
            return
        self.gate("intent")
        status = self.write(
            "intent",
            intent.intent_id,
            lambda conn: ledger.place_intent(conn, self.lease, account, intent),
            quantity=intent.quantity,
            side=intent.side,
            leg=intent.leg,
        )
        self.settled(number)
        if status == "PENDING":
            self.working[intent.intent_id] = intent
            self.follow(intent)
            self.collect()

    def spooled(self, kind: str, key: str, fact: dict[str, Any]) -> int | None:
        """Put a fact on the disk; None where that has no room."""
        try:
            return self.spool.append(kind, key, {name: str(value) for name, value in fact.items()})
        except SpoolFull:
            self.record.mark("spool full")
            return None

    def settled(self, number: int | None) -> None:
        """Say that the database has it."""
        if number is not None:
            self.spool.acknowledge([number], "the server")

    def recover(self) -> None:
        """Record what the venue did, follow what was decided, then take the account as its fills make it."""

        def work(conn: Connection) -> tuple[int, ledger.Cursor, list[Intent], datetime | None, Account, Curve]:
            session = ledger.open_session(conn, self.lease, self.terms)
            decided = select(func.max(OrderIntent.signal_time)).where(OrderIntent.session_id == session.id)
            filled = select(func.max(Fill.filled_at)).where(Fill.venue == self.terms.venue)
            times = [at for at in (conn.execute(decided).scalar(), conn.execute(filled).scalar()) if at is not None]
            account = ledger.load_account(conn, session.id)
            return (
                session.id,
                ledger.newest_fill(conn, self.terms.venue),
                ledger.pending_intents(conn, self.terms.venue),
                max(times, default=None),
                account,
                ledger.load_curve(conn, account),
            )

        found = self.call("load", "state", lambda: self.transact(work, "state"))
        self.session_id, newest, pending, at, self.account, self.curve = found
        self.cursor = newest.sequence
        self.working = {intent.intent_id: intent for intent in pending}
        if at is not None:
            self.n = max(self.n, int((at - FIRST_SIGNAL).total_seconds()))
        # what an earlier process put down: the database has it by now, or gets it from the venue below
        self.spool.acknowledge([entry.number for entry in self.spool.unacknowledged()], "the server")
        for intent in pending:
            self.follow(intent)  # before its fills are recorded, which end it: an order comes before them
        self.collect()

    def follow(self, intent: Intent) -> None:
        """Send a decision that the venue does not have, and write down how it stands there."""
        report = self.venue.find(intent.intent_id)
        if report is None:
            self.gate("unsent")
            report = self.venue.submit(intent)
            self.gate("sent")
        self.call(
            "order",
            intent.intent_id,
            lambda: self.transact(lambda conn: ledger.record_order(conn, self.lease, intent, report), "order"),
        )
        if report.over and report.filled_quantity == self._recorded(intent):
            self.working.pop(intent.intent_id, None)

    def _recorded(self, intent: Intent) -> Decimal:
        return self.manager.read(lambda conn: ledger.filled_quantity(conn, intent.intent_id), name="filled")

    def decide(self, account: Account, candle: Candle) -> Intent:
        """Return the next decision: what is held is sold, else something is bought."""
        name = self.config.account or self.config.name
        position = account.position
        leg = "EXIT" if position else "ENTRY"
        return Intent(
            intent_id=intent_id(
                venue=self.terms.venue,
                strategy=name,
                symbol=SYMBOL,
                signal_time=candle.close_time,
                leg=leg,
                n=self.config.variant,
            ),
            session_id=self.session_id,
            strategy_name=name,
            venue=self.terms.venue,
            symbol=SYMBOL,
            side="SELL" if position else "BUY",
            leg=leg,
            quantity=position.quantity if position else Decimal(self.n % 7 + 1) / 1000,
            reference_price=candle.close,
            signal_time=candle.close_time,
            reason="in turn",
            entry_intent_id=position.intent_id if position else None,
        )

    def collect(self) -> None:
        """Take the venue's new fills into the spool and then, one by one, into the books."""
        while fills := self.venue.fills(self.cursor):
            for fill in fills:
                self.gate("filled")
                number = self.spooled("fill", fill.venue_trade_id, asdict(fill))
                self.gate("fill")
                self.keep(fill)
                self.gate("recorded")
                self.settled(number)
                self.cursor = fill.sequence

    def keep(self, fill: VenueFill) -> None:
        """Record one fill with everything that follows from it."""
        account, curve = self.account, self.curve
        if account is None or curve is None:
            raise ledger.StateMoved("the account has to be loaded first")

        def work(conn: Connection) -> ledger.Recorded:
            done = ledger.record_fill(conn, self.lease, account, curve, fill, timeframe="1s")
            self.gate("inside")
            return done

        done = self.write(
            "fill",
            fill.venue_trade_id,
            work,
            intent_id=fill.intent_id,
            price=fill.price,
            quantity=fill.quantity,
            fee=fill.fee,
        )
        if done.outcome == "recorded":
            self.account, self.curve = done.account, done.curve
        else:
            self.record.mark(done.outcome)
            raise ledger.StateMoved(f"fill {fill.venue_trade_id} was {done.outcome}")
