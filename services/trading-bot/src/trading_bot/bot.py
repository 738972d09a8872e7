"""The loop: lead or stand by, look at the newest candle, decide, record.

What it keeps in memory (account, equity curve) is a copy of the database. Whenever the two may differ (start,
take-over, a lost database, a COMMIT whose answer never came) it throws the copy away and asks: pending intents are
carried to their end under their own ids and the account is derived again. Nothing is ever sent again under another
id.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, TypeVar

from sqlalchemy import URL, Connection
from tradedb import migrate
from tradedb.errors import SwitchyardError
from tradedb.manager import DatabaseManager

from trading_bot import ledger
from trading_bot.books import Account
from trading_bot.broker import Broker
from trading_bot.feed import Candle, Feed
from trading_bot.ids import intent_id
from trading_bot.lease import LeadershipLost, Lease
from trading_bot.orders import Intent, Leg
from trading_bot.settings import BotSettings
from trading_bot.sizing import entry_quantity
from trading_bot.sql import wall_clock
from trading_bot.status import Status
from trading_bot.strategies import Strategy

T = TypeVar("T")

STANDBY_POLL_S = 1.0
CALL_DEADLINE_S = 5.0  # of one transaction with its retries: short, so that SIGTERM is never kept waiting
RECOVERY_DEADLINE_S = 12.0
FIRST_BACKOFF_S, LAST_BACKOFF_S = 0.5, 5.0
EVENTS_KEPT = 100

log = logging.getLogger(__name__)


class Bot:
    """One trading bot.

    Args:
        settings: its settings.
        manager: the shared database.
        feed: where candles come from.
        strategy: what to hold.
        broker: carries intents out.
        status: told what the loop is doing.
        holder: a name that no other process ever has.
        local_file: the SQLite file, where there is one: it is this bot's to make and to migrate.
        now: the time, aware UTC; tests set it.
    """

    def __init__(
        self,
        *,
        settings: BotSettings,
        manager: DatabaseManager,
        feed: Feed,
        strategy: Strategy,
        broker: Broker,
        status: Status,
        holder: str,
        local_file: URL | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._settings = settings
        self._manager = manager
        self._feed = feed
        self._strategy = strategy
        self._broker = broker
        self._status = status
        self._local_file = local_file
        self._now = now
        self._lease = Lease(
            manager,
            holder=holder,
            ttl_s=settings.bot_lease_ttl_s,
            renew_s=settings.bot_lease_renew_s,
            margin_s=settings.bot_lease_margin_s,
        )
        self._stop = threading.Event()
        self._events: deque[dict[str, Any]] = deque(maxlen=EVENTS_KEPT)
        self._schema_seen = False
        self._trouble_since: float | None = None
        self._failures = 0
        self._account: Account | None = None
        self._curve: ledger.Curve | None = None
        self._last_index: int | None = None
        self._snapshot_at = 0.0
        self._timeframe = f"{feed.interval_s}s"

    def stop(self) -> None:
        """Let ``run`` finish the transaction it is in, release the lease and return."""
        self._stop.set()

    def run(self) -> None:
        """Trade until ``stop``. A lost database, a lost lease and even a defect end a pass, never the loop."""
        self._tell("ENGINE_START", "info", f"trading-bot started as {self._lease.holder}, market {self._feed.venue}")
        while not self._stop.is_set():
            self._stop.wait(self._guarded_pass())
        self._shut_down()

    def _guarded_pass(self) -> float:
        """Run one pass; return the seconds until the next one."""
        try:
            wait_s = self.step()
        except LeadershipLost as lost:
            # said in the log only: a bot that no longer leads writes nothing
            log.warning("leadership_lost", extra={"epoch": self._lease.epoch, "why": str(lost)})
            self._lease.forget()
            self._forget_state()
            self._status.set(role="standby", reason=None, epoch=None)
            wait_s = STANDBY_POLL_S
        except ledger.StateMoved as moved:
            log.warning("asking_again", extra={"why": str(moved)})
            self._forget_state()
            wait_s = self._backoff()
        except SwitchyardError as error:
            wait_s = self._wait_out(error)
        except Exception as error:
            # a defect: no heartbeat, so that /healthz turns 503 when it stays
            log.exception("loop_error", extra={"code": "BOT-002"})
            self._tell("ERROR", "error", f"unexpected {type(error).__name__} in the loop", error_code="BOT-002")
            self._schema_seen = False
            self._forget_state()
            self._status.set(role="waiting", reason=f"unexpected {type(error).__name__} in the loop; see the log")
            return self._backoff()
        self._status.beat()
        return wait_s

    def step(self) -> float:
        """Do what is due now; return the seconds until something is due again.

        Raises: LeadershipLost, StateMoved, SwitchyardError (the database is away, or the books do not add up).
        """
        if not self._schema_seen:
            self._see_schema()
        if self._lease.epoch is None and not self._lead():
            return STANDBY_POLL_S
        if self._lease.renewal_due_in() <= 0 or not self._lease.may_decide():
            self._lease.renew()
        account, curve = self._state()
        self._recovered()
        index = self._feed.latest_closed(self._now())
        if index != self._last_index:
            candle = self._feed.candle(index)
            self._on_candle(candle, account, curve)
            self._last_index = index
            self._status.set(last_candle=candle.close_time)
        if time.monotonic() >= self._snapshot_at:
            self._snapshot(self._feed.candle(index))
        return self._until_next()

    # --- getting there ------------------------------------------------------------------------------------------------

    def _see_schema(self) -> None:
        """See that the schema is the one this code knows. Only a local SQLite file is ours to migrate."""
        if self._local_file is not None:
            migrate.upgrade(self._local_file)
        revision = self._manager.read(
            migrate.current_revision, name="schema-revision", deadline_s=CALL_DEADLINE_S, retry=False
        )
        if problem := migrate.revision_problem(revision):
            raise problem
        self._schema_seen = True

    def _lead(self) -> bool:
        """Try to become the leader; return whether it worked."""
        leader = self._lease.acquire()
        if leader is not None:
            if self._status.get().role != "standby":
                log.info("standby", extra={"leader": leader})
            self._status.set(role="standby", reason=None, epoch=None, leader=leader)
            self._failures = 0
            self._trouble_since = None
            return False
        self._forget_state()
        log.info("leading", extra={"epoch": self._lease.epoch})
        self._tell("LEADERSHIP", "info", f"{self._lease.holder} leads with epoch {self._lease.epoch}")
        return True

    def _state(self) -> tuple[Account, ledger.Curve]:
        """Return the account and its curve; ask the database when the copy in memory was thrown away."""
        if self._account is None or self._curve is None:
            session_id = self._open_session()
            self._finish_pending()
            account, curve = self._load(session_id)
            self._end_others(session_id)
            self._account, self._curve = account, curve
            log.info(
                "account_loaded",
                extra={
                    "session_id": session_id,
                    "balance": account.balance,
                    "trades": account.trades,
                    "holding": account.position.quantity if account.position else 0,
                },
            )
        self._status.set(
            role="leader",
            reason=None,
            epoch=self._lease.epoch,
            leader=self._lease.holder,
            session_id=self._account.session_id,
        )
        return self._account, self._curve

    def _open_session(self) -> int:
        terms = ledger.SessionTerms(
            strategy_name=self._strategy.name,
            strategy_config=self._strategy.config(),
            symbol=self._feed.symbol,
            timeframe=self._timeframe,
            venue=self._feed.venue,
            initial_balance=self._settings.bot_initial_balance,
        )

        def work(conn: Connection) -> int:
            session = ledger.open_session(conn, self._lease, terms)
            if session.new:
                ledger.write_event(
                    conn,
                    event_type="SESSION_START",
                    severity="info",
                    message=f"new paper trading session on {self._feed.venue} {self._feed.symbol}",
                    session_id=session.id,
                )
            return session.id

        return self._transaction(work, "session-open")

    def _finish_pending(self) -> None:
        """Carry every committed intent to its end, whatever bot decided it."""
        for intent in self._manager.read(
            lambda conn: ledger.pending_intents(conn, self._broker.venue),
            name="intents-pending",
            deadline_s=RECOVERY_DEADLINE_S,
        ):
            account, curve = self._load(intent.session_id)
            self._execute(intent, account, curve)
            self._tell(
                "RECOVERY",
                "warning",
                f"intent {intent.intent_id} ({intent.leg} {intent.quantity} {intent.symbol}) was pending: carried out",
                session_id=intent.session_id,
            )

    def _end_others(self, session_id: int) -> None:
        """End our accounts of another strategy or symbol, unless they hold something."""
        for other in self._manager.read(
            lambda conn: ledger.other_active_sessions(conn, session_id),
            name="sessions-other",
            deadline_s=CALL_DEADLINE_S,
        ):
            account, _ = self._load(other)
            ended = self._transaction(
                lambda conn, account=account: ledger.end_session(conn, self._lease, account), "session-end"
            )
            said = "ended" if ended else "left open, because it holds a position"
            self._tell(
                "SESSION_END" if ended else "ALERT",
                "info" if ended else "warning",
                f"session {other} is of another strategy or symbol: {said}",
                session_id=other,
            )

    def _load(self, session_id: int) -> tuple[Account, ledger.Curve]:
        def work(conn: Connection) -> tuple[Account, ledger.Curve]:
            account = ledger.load_account(conn, session_id)
            return account, ledger.load_curve(conn, account)

        return self._manager.read(work, name="account-load", deadline_s=RECOVERY_DEADLINE_S)

    def _forget_state(self) -> None:
        self._account = self._curve = None

    # --- trading ------------------------------------------------------------------------------------------------------

    def _on_candle(self, candle: Candle, account: Account, curve: ledger.Curve) -> None:
        """Decide on a new candle and carry the decision out."""
        seen = [self._feed.candle(i) for i in range(candle.index - self._strategy.warmup + 1, candle.index + 1)]
        decision = self._strategy.decide(seen)
        if decision.target == "LONG" and account.position is None:
            quantity = entry_quantity(
                balance=account.balance, price=candle.close, fraction=self._settings.bot_position_fraction
            )
            if quantity > 0:
                self._order("ENTRY", quantity, candle, decision.reason, account, curve)
        elif decision.target == "FLAT" and account.position is not None:
            self._order("EXIT", account.position.quantity, candle, decision.reason, account, curve)

    def _order(
        self, leg: Leg, quantity: Decimal, candle: Candle, reason: str, account: Account, curve: ledger.Curve
    ) -> None:
        """Commit the intent, then act on it."""
        if not self._lease.may_decide():
            return  # the next pass renews first, and a newer candle may be there by then
        intent = Intent(
            intent_id=intent_id(
                strategy=self._strategy.name, symbol=candle.symbol, signal_time=candle.close_time, leg=leg
            ),
            session_id=account.session_id,
            strategy_name=self._strategy.name,
            venue=self._broker.venue,
            symbol=candle.symbol,
            side="BUY" if leg == "ENTRY" else "SELL",
            leg=leg,
            quantity=quantity,
            reference_price=candle.close,
            signal_time=candle.close_time,
            reason=reason,
        )
        status = self._transaction(
            lambda conn: ledger.place_intent(conn, self._lease, account, intent), "intent-place", idempotent=True
        )
        if status == "PENDING":
            self._account, self._curve = self._execute(intent, account, curve)

    def _execute(
        self, intent: Intent, account: Account, curve: ledger.Curve
    ) -> tuple[Account | None, ledger.Curve | None]:
        """Act on a committed intent and record what came of it; (None, None) when it was recorded before."""
        fill = self._broker.execute(intent)
        recorded = self._transaction(
            lambda conn: ledger.record_fill(conn, self._lease, account, curve, fill, timeframe=self._timeframe),
            "fill-record",
            idempotent=True,
        )
        if recorded.outcome != "recorded":
            return None, None
        after, curve = recorded.account, recorded.curve
        log.info(
            "fill",
            extra={
                "side": fill.side,
                "quantity": fill.quantity,
                "symbol": fill.symbol,
                "price": fill.price,
                "venue": fill.venue,
                "balance": after.balance,
                "intent_id": intent.intent_id,
            },
        )
        return after, curve

    def _snapshot(self, candle: Candle) -> None:
        account, curve = self._account, self._curve
        if account is None or curve is None:
            return  # thrown away within this pass; the next one asks
        self._curve = self._transaction(
            lambda conn: ledger.record_snapshot(conn, self._lease, account, curve, candle.close), "snapshot"
        )
        self._snapshot_at = time.monotonic() + self._settings.bot_snapshot_interval_s

    def _until_next(self) -> float:
        now = self._now().timestamp()
        next_candle = (self._feed.latest_closed(self._now()) + 2) * self._feed.interval_s - now
        return max(0.01, min(next_candle, self._lease.renewal_due_in(), self._snapshot_at - time.monotonic()))

    # --- trouble ------------------------------------------------------------------------------------------------------

    def _transaction(self, work: Callable[[Connection], T], name: str, *, idempotent: bool = False) -> T:
        return self._manager.transaction(work, name=name, deadline_s=CALL_DEADLINE_S, idempotent=idempotent)

    def _wait_out(self, error: SwitchyardError) -> float:
        """Say why nothing goes on, and come back soon."""
        if self._trouble_since is None:
            self._trouble_since = time.monotonic()
            self._tell("ERROR", "error", error.what, error_code=error.code)
        log.warning("waiting", extra={"code": error.code, "what": error.what, "why": error.why})
        self._schema_seen = False
        self._forget_state()
        self._status.set(role="waiting", reason=f"{error.code}: {error.what}")
        return self._backoff()

    def _backoff(self) -> float:
        self._failures += 1
        return min(LAST_BACKOFF_S, FIRST_BACKOFF_S * 2 ** min(self._failures - 1, 10)) * random.uniform(0.7, 1.0)  # noqa: S311

    def _recovered(self) -> None:
        """Say that trouble is over, and write down what could not be written while it lasted."""
        self._failures = 0
        if self._trouble_since is not None:
            away_s = time.monotonic() - self._trouble_since
            self._trouble_since = None
            log.info("resumed", extra={"waited_s": round(away_s, 1)})
            self._tell("RECOVERY", "info", f"trading goes on after {away_s:.1f} s of waiting")
        self._write_events()

    def _tell(self, event_type: str, severity: str, message: str, **more: Any) -> None:
        """Remember an event for people; it is written with the next pass in which this bot leads."""
        self._events.append(
            {"event_type": event_type, "severity": severity, "message": message, "timestamp": wall_clock(), **more}
        )

    def _write_events(self) -> None:
        if not self._events:
            return
        waiting = list(self._events)

        def work(conn: Connection) -> None:
            self._lease.require(conn)
            for event in waiting:
                ledger.write_event(conn, **event)

        self._transaction(work, "events-write")
        self._events.clear()

    def _shut_down(self) -> None:
        """Write the last events and let the next bot lead at once."""
        self._status.set(role="stopping", reason="stopping")
        if self._lease.epoch is None:
            return
        self._tell("ENGINE_STOP", "info", f"trading-bot stopped: {self._lease.holder} gives up the lease")
        waiting = list(self._events)

        def work(conn: Connection) -> None:
            self._lease.require(conn)
            for event in waiting:
                ledger.write_event(conn, **event)
            self._lease.release(conn)

        try:
            self._manager.transaction(work, name="lease-release", deadline_s=CALL_DEADLINE_S / 2)
        except (SwitchyardError, LeadershipLost) as error:
            log.warning("lease_not_released", extra={"why": str(error)})
        else:
            log.info("lease_released", extra={"epoch": self._lease.epoch})
