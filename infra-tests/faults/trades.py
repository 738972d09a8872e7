"""The writer that trades: decide, commit the decision, act, record the fill, with the bot's own ledger."""

from __future__ import annotations

from decimal import Decimal

from sqlalchemy import Connection
from trading_bot import ledger
from trading_bot.books import Account
from trading_bot.broker import PaperBroker
from trading_bot.feed import SIMULATED
from trading_bot.ids import intent_id
from trading_bot.ledger import Curve
from trading_bot.orders import Intent

from faults.work import Config, Writer

BROKER = PaperBroker(fee_rate=Decimal("0.0004"), slippage_rate=Decimal("0.0001"))


class Trades(Writer):
    """Buys and sells in turn; its state is the database's, asked again after every doubt."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.account: Account | None = None
        self.curve: Curve | None = None

    def forget(self) -> None:
        super().forget()
        self.account = self.curve = None

    def step(self) -> None:
        if self.account is None or self.curve is None:
            self.recover()
            return
        account = self.account
        self.gate("decided")
        intent = self.decide(account)
        self.gate("intent")
        status = self.write(
            "intent",
            intent.intent_id,
            lambda conn: ledger.place_intent(conn, self.lease, account, intent),
            quantity=intent.quantity,
            side=intent.side,
            leg=intent.leg,
        )
        self.n += 1
        if status == "PENDING":
            self.carry_out(intent, account, self.curve)

    def recover(self) -> None:
        """Carry out what was decided and not done, then take the account as its fills make it."""
        if not self.session_id:
            self.open_session()
        pending = self.call(
            "load", "pending", lambda: self.manager.read(lambda c: ledger.pending_intents(c, SIMULATED), name="pending")
        )
        session_id = self.session_id
        for intent in pending:
            if intent.session_id == session_id:
                account, curve = self.load(session_id)
                self.carry_out(intent, account, curve)
        self.account, self.curve = self.load(session_id)
        self.session_id = session_id

    def load(self, session_id: int) -> tuple[Account, Curve]:
        """Return the account and its curve."""

        def work(conn: Connection) -> tuple[Account, Curve]:
            account = ledger.load_account(conn, session_id)
            return account, ledger.load_curve(conn, account)

        return self.call("load", "account", lambda: self.manager.read(work, name="account"))

    def decide(self, account: Account) -> Intent:
        """Return the next decision: the same one when the same account decides again."""
        name = self.config.account or self.config.name
        leg = "EXIT" if account.position else "ENTRY"
        return Intent(
            intent_id=intent_id(strategy=name, symbol="BTCUSDT", signal_time=self.signal_time(), leg=leg),
            session_id=account.session_id,
            strategy_name=name,
            venue=SIMULATED,
            symbol="BTCUSDT",
            side="SELL" if account.position else "BUY",
            leg=leg,
            quantity=account.position.quantity if account.position else Decimal(self.n % 7 + 1) / 1000,
            reference_price=Decimal(100) + Decimal(self.n * 37 % 1013) / 100,
            signal_time=self.signal_time(),
            reason="in turn",
        )

    def carry_out(self, intent: Intent, account: Account, curve: Curve) -> None:
        """Act on a committed decision and record what came of it."""
        self.gate("sent")
        fill = BROKER.execute(intent)
        self.gate("fill")
        done = self.write(
            "fill",
            fill.venue_trade_id,
            lambda conn: ledger.record_fill(conn, self.lease, account, curve, fill, timeframe="1s"),
            intent_id=fill.intent_id,
            price=fill.price,
            quantity=fill.quantity,
            fee=fill.fee,
        )
        self.gate("recorded")
        if done.outcome == "recorded":
            self.account, self.curve = done.account, done.curve
        else:
            self.forget()
