"""A writer in its own process: ``python -m faults.work CONFIG``. It uses the bot's own code and records what it did.

Three kinds. "bot" is the bot: its loop and all that it works with, over fast candles (``faults.real_bot``). "trades"
decides, acts and records through ``trading_bot.ledger``, as the bot does, as fast as the database lets it. "rows"
commits one decision after another under a key of its own, fenced by the lease in the same statement, and acts on none:
as many transactions a second as there can be.
"""

from __future__ import annotations

import json
import os
import secrets
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Connection, func, literal, select
from tradedb.config.settings import DatabaseSettings
from tradedb.errors import SwitchyardError
from tradedb.logs import configure_logging
from tradedb.manager import DatabaseManager, DatabaseUnavailable, OutcomeUnknown
from tradedb.models import BotLease, OrderIntent
from trading_bot import lease as lease_module
from trading_bot import ledger
from trading_bot.lease import LeadershipLost, Lease
from trading_bot.ledger import StateMoved
from trading_bot.sql import db_clock, insert_into

from faults import mutants
from faults.record import BARE_ROW, Recorder

T = TypeVar("T")
FIRST_SIGNAL = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Config:
    """What a writer is to do.

    Args:
        name: of the writer; its session is of the strategy of that name.
        kind: "rows", "trades" or "bot".
        url: the database's.
        history: the file that it records into.
        account: the strategy whose account it trades; the writer's own name without it. Two bots share one.
        lease: the name of its lease row: writers that share it take turns.
        ttl_s, renew_s, margin_s: of the lease.
        deadline_s: of each call; what ends it takes a moment too, and 12 s is the promise.
        retry: False tries a write once, so that its duration is that of one attempt.
        pause_s: between two operations.
        batch: rows in one transaction, each under a key of its own.
        most: stop after so many writes.
        variant: two writers of one account never decide the same when they differ in it.
        same_holder: a name for several writers that are one holder of the lease, as two threads of one bot would be.
        settings: of the pool, over the defaults.
        stop_itself: where the process stops itself (SIGSTOP) each third time it passes: "intent", "fill", "inside".
        leak_mb: memory that each step takes and never gives back.
        spool: the folder of the spool; without it, beside the history.
        gates: a folder. At a step whose name is a file there the writer waits until the file is gone.
    """

    name: str
    kind: str
    url: str
    history: str
    account: str = ""
    lease: str = ""
    ttl_s: float = 15.0
    renew_s: float = 5.0
    margin_s: float = 3.0
    deadline_s: float = 10.0
    retry: bool = True
    pause_s: float = 0.0
    batch: int = 1
    most: int = 0
    variant: int = 0
    same_holder: str = ""
    settings: dict[str, Any] = field(default_factory=dict)
    stop_itself: str = ""
    leak_mb: int = 0
    spool: str = ""
    gates: str = ""

    def write(self, path: Path) -> Path:
        """Write it where a process can read it, and return that place."""
        path.write_text(json.dumps(asdict(self)))
        path.chmod(0o644)
        return path


class Writer:
    """What every kind has: a database, a lease, a record, an end."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.record = Recorder(Path(config.history), config.name)
        # one call at a time needs one connection; the second is for a keeper of the lease
        settings = {"pool_size": 1, "max_overflow": 1, "database_allow_plaintext": True, **config.settings}
        self.manager = DatabaseManager(
            config.url, service="trading-bot", settings=DatabaseSettings.model_construct(**settings)
        )
        self.most_connections = settings["pool_size"] + settings["max_overflow"]
        lease_module.LEASE_NAME = config.lease or config.name  # pyright: ignore[reportAttributeAccessIssue]
        self.lease = Lease(
            self.manager,
            holder=config.same_holder or f"{config.name}/{secrets.token_hex(4)}",
            ttl_s=config.ttl_s,
            renew_s=config.renew_s,
            margin_s=config.margin_s,
        )
        self.stopping = threading.Event()
        self.passed = 0
        self.standing_by = False
        self.leaked: list[bytes] = []
        self.written = 0
        self.session_id = 0
        self.n = 0

    def run(self) -> None:
        """Work until told to stop; trouble with the database is waited out, as the bot does."""
        self.record.mark("started", pid=os.getpid())
        while not self.stopping.is_set() and not (self.config.most and self.written >= self.config.most):
            try:
                if self.lead():
                    self.step()
                    if self.config.leak_mb:
                        self.leaked.append(os.urandom(self.config.leak_mb * 1024 * 1024))
                    self.stopping.wait(self.config.pause_s)
                else:
                    self.stopping.wait(min(1.0, self.config.ttl_s / 10))
            except LeadershipLost:
                self.record.mark("leadership lost", epoch=self.lease.epoch)
                self.lease.forget()
                self.forget()
            except StateMoved as moved:
                self.record.mark("asking again", why=str(moved))
                self.forget()
            except DatabaseUnavailable as error:
                self.record.mark("waiting", code=error.code, what=error.what)
                self.forget()
                self.stopping.wait(0.1)
        pool = self.manager.pool_status()
        self.record.mark(
            "pool", in_use=pool.checked_out, open=pool.checked_in + pool.checked_out, most=self.most_connections
        )
        if self.lease.epoch is not None:
            with suppress(SwitchyardError, LeadershipLost):
                self.manager.transaction(self.lease.release, name="release", deadline_s=5)
                self.record.mark("released", epoch=self.lease.epoch)
        self.manager.dispose()
        self.record.mark("ended")

    def lead(self) -> bool:
        """Hold the lease: take it, or renew it when that is due; False while another one has it."""
        if self.lease.epoch is None:
            leader = self.call("lease", "acquire", self.lease.acquire)
            if leader is not None:
                if not self.standing_by:
                    self.record.mark("standing by", leader=leader)
                self.standing_by = True
                return False
            self.standing_by = False
            self.record.mark("leading", epoch=self.lease.epoch)
            self.forget()
        if self.lease.renewal_due_in() <= 0 or not self.lease.may_decide():
            self.call("lease", "renew", self.lease.renew)
        return True

    def call(self, kind: str, key: str, do: Callable[[], T], **body: Any) -> T:
        """Do something with the database, and record how it ended."""
        with self.record.op(kind, key, **body) as end:
            try:
                return do()
            except OutcomeUnknown as error:
                end |= {"outcome": "unknown", "error": error.code}
                raise
            except SwitchyardError as error:  # says that nothing was changed
                end |= {"outcome": "fail", "error": error.code}
                raise

    def transact(self, work: Callable[[Connection], T], name: str) -> T:
        """Run a transaction that may be repeated, within the deadline and with the tries that were asked for."""
        config = self.config
        return self.manager.transaction(
            work, name=name, deadline_s=config.deadline_s, retry=config.retry, idempotent=True
        )

    def write(self, kind: str, key: str, work: Callable[[Connection], T], **body: Any) -> T:
        """Run a transaction that may be repeated, and record how it ended."""
        tries = 0

        def counted(conn: Connection) -> T:
            nonlocal tries
            tries += 1
            return work(conn)

        with self.record.op(kind, key, **body) as end:
            try:
                done = self.transact(counted, kind)
            except OutcomeUnknown as error:
                end |= {"outcome": "unknown", "error": error.code}
                raise
            except (LeadershipLost, StateMoved) as error:
                # refused: but an earlier try may have lost only its answer
                end |= {"outcome": "unknown" if tries > 1 else "fail", "error": type(error).__name__}
                raise
            except DatabaseUnavailable as error:  # says that nothing was changed
                end |= {"outcome": "fail", "error": error.code}
                raise
            self.written += 1
            end["body"]["tries"] = tries
            return done

    def gate(self, step: str) -> None:
        """Stop here when told to: the whole process, or until a file is gone."""
        self.passed += self.config.stop_itself == step
        if self.config.stop_itself == step and self.passed % 3 == 0:
            self.record.mark("pausing", step=step, epoch=self.lease.epoch)
            os.kill(os.getpid(), signal.SIGSTOP)
        if self.config.gates:
            closed = Path(self.config.gates, step)
            if closed.exists():
                self.record.mark("at gate", step=step)
                while closed.exists():
                    time.sleep(0.01)

    def open_session(self) -> None:
        """Find the account, and how far it has come."""

        def work(conn: Connection) -> tuple[int, int]:
            terms = ledger.SessionTerms(
                self.config.account or self.config.name, {}, "BTCUSDT", "1s", "PAPER-FAULTS", Decimal(10_000)
            )
            session = ledger.open_session(conn, self.lease, terms)
            done = select(func.count()).where(OrderIntent.session_id == session.id)
            return session.id, conn.execute(done).scalar_one()

        self.session_id, self.n = self.call("load", "session", lambda: self.transact(work, "session"))

    def step(self) -> None:
        """Write once."""
        raise NotImplementedError

    def forget(self) -> None:
        """Throw away what is believed of the database."""
        self.session_id = 0


class Rows(Writer):
    """Decisions only: one INSERT each, fenced by the lease, harmless when repeated."""

    def step(self) -> None:
        if not self.session_id:
            self.open_session()
        # a key that nobody used before, also where the last one failed: what was said to have failed must not be there
        self.n += 1
        key = f"{self.config.name}-{self.lease.epoch}-{os.getpid()}-{self.n}-{time.monotonic_ns()}"
        values = {
            "intent_id": key,
            "session_id": self.session_id,
            "strategy_name": self.config.name,
            "venue": "PAPER-FAULTS",
            "symbol": "BTCUSDT",
            "side": "BUY",
            "leg": "ENTRY",
            "quantity": Decimal(self.n) / 1000,
            "reference_price": Decimal(100),
            "signal_time": FIRST_SIGNAL,
            "reason": BARE_ROW,
            "status": "CANCELLED",
        }
        self.gate("intent")
        batch = self.config.batch

        def work(conn: Connection) -> None:
            for n in range(batch):
                self.insert(conn, {**values, "intent_id": f"{key}-{n}"})
            self.gate("inside")

        self.write("row", key, work, batch=batch, quantity=values["quantity"])

    def insert(self, conn: Connection, values: dict[str, Any]) -> None:
        """Put a row in while this process leads."""
        table = OrderIntent.__table__
        columns = [literal(value, table.c[name].type).label(name) for name, value in values.items()]
        now = db_clock(conn)
        fenced = self.lease.held(conn, *columns, BotLease.epoch, now.label("created_at"), now.label("updated_at"))
        written = conn.execute(
            insert_into(conn, OrderIntent)
            .from_select([*values, "lease_epoch", "created_at", "updated_at"], fenced)
            .on_conflict_do_nothing(index_elements=[OrderIntent.intent_id])
        )
        if written.rowcount == 0:
            self.lease.require(conn)


def main() -> None:
    """Run the writer that the file named on the command line describes."""
    # a thread hears them: a handler would set the event while this thread may hold its lock, and wait for ever
    ends = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, ends)
    config = Config(**json.loads(Path(sys.argv[1]).read_text()))
    mutants.apply_in_writer()
    configure_logging("faults")
    from faults.real_bot import RealBot  # they need this module
    from faults.trades import Trades

    writer = {"rows": Rows, "trades": Trades, "bot": RealBot}[config.kind](config)
    threading.Thread(target=lambda: (signal.sigwait(ends), writer.stopping.set()), daemon=True).start()
    writer.run()


if __name__ == "__main__":
    main()
