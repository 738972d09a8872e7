"""The writer that is the bot: ``trading_bot``'s own loop, desk, intake, recovery, spool and venue, over fast candles.

It records what the bot is told: a decision and a fill are attempted before the spool has them, and acknowledged when
the bot tells the spool that the server took them. Its calls to the database are recorded as the bot makes them.
"""

from __future__ import annotations

import os
import secrets
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, TypeVar, cast

from sqlalchemy import Connection
from tradedb.errors import SwitchyardError
from tradedb.manager import DatabaseManager, OutcomeUnknown
from trading_bot.bot import Bot
from trading_bot.feeds.candles import Candle
from trading_bot.feeds.simulated import SimulatedFeed
from trading_bot.lease import LeadershipLost
from trading_bot.ledger import SessionTerms, StateMoved
from trading_bot.orders import Intent, OrderReport, VenueFill
from trading_bot.settings import BotSettings
from trading_bot.spool import SpoolFull
from trading_bot.spooled import Decided, FactSpool, Noted
from trading_bot.status import Status
from trading_bot.strategies import Decision
from trading_bot.venue.paper import PaperVenue

from faults.record import Recorder
from faults.work import Config, Writer

T = TypeVar("T")
CANDLE_S = 0.125  # a power of two: its multiples are exact
HOLD = "hold"  # while a gate of that name is closed, the strategy holds what it has

_Fact = tuple[str, str, dict[str, Any]]


class RealBot(Writer):
    """Runs a ``Bot`` as its service does, with an end that is asked for from outside."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        name = config.account or config.name
        state = Path(config.history).parent / f"state-{name}"
        state.mkdir(exist_ok=True)
        state.chmod(0o777)
        settings = BotSettings.model_construct(
            bot_fee_rate=Decimal("0.00001"),  # so that a thousand round trips are not a day's loss
            bot_slippage_rate=Decimal("0.00001"),
            bot_daily_loss_limit_percent=Decimal(0),
            bot_lease_ttl_s=config.ttl_s,
            bot_lease_renew_s=config.renew_s,
            bot_lease_margin_s=config.margin_s,
        )
        rates = {"fee_rate": settings.bot_fee_rate, "slippage_rate": settings.bot_slippage_rate}
        self.bot = Bot(
            settings=settings,
            manager=cast("Any", _Manager(self.manager, self.record)),
            feed=cast("Any", _FastFeed(f"PAPER-{name}")),  # its candles are no whole seconds
            strategy=_EveryOther(self, name),
            venue=_Venue(self, f"PAPER-{name}", state / "venue.db", rates),
            spool=_Spool(self, Path(config.spool) if config.spool else state / "spool"),
            status=_Status(self.record),
            holder=f"{config.name}/{secrets.token_hex(4)}",
        )
        self.lease = self.bot._lease

    def run(self) -> None:
        self.record.mark("started", pid=os.getpid())
        threading.Thread(target=self._stop, daemon=True).start()
        self.bot.run()
        pool = self.manager.pool_status()
        self.record.mark(
            "pool", in_use=pool.checked_out, open=pool.checked_in + pool.checked_out, most=self.most_connections
        )
        self.manager.dispose()
        self.record.mark("ended")

    def _stop(self) -> None:
        self.stopping.wait()
        self.bot.stop()


class _FastFeed(SimulatedFeed):
    """The simulated market with candles of a part of a second."""

    def __init__(self, venue: str) -> None:
        super().__init__(seed=7, symbol="BTCUSDT", interval_s=1)
        self.venue = venue
        self.interval_s = CANDLE_S  # pyright: ignore[reportAttributeAccessIssue]

    def latest_closed(self, now: datetime) -> int:
        return int(now.timestamp() / CANDLE_S) - 1


class _EveryOther:
    """Holds for a candle, then holds nothing for one: parts of orders get into each other's way."""

    warmup = 1

    def __init__(self, writer: RealBot, name: str) -> None:
        self.name = name
        self._writer = writer

    def decide(self, candles: Sequence[Candle]) -> Decision:
        writer = self._writer
        if writer.config.leak_mb:
            writer.leaked.append(os.urandom(writer.config.leak_mb * 1024 * 1024))
        hold = bool(writer.config.gates) and Path(writer.config.gates, HOLD).exists()
        return Decision("LONG" if hold or candles[-1].index % 2 else "FLAT", "every other")

    def config(self) -> dict[str, Any]:
        return {"padding": "-" * 4096}  # a decision is larger than a page of a disk: a full one has no room for it


class _Manager:
    """The bot's manager; each call is recorded, with how it ended."""

    def __init__(self, inner: DatabaseManager, record: Recorder) -> None:
        self._inner = inner
        self._recorder = record

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def transaction(self, work: Callable[[Connection], T], *, name: str, **options: Any) -> T:
        return self._recorded(name, lambda: self._inner.transaction(work, name=name, **options))

    def read(self, work: Callable[[Connection], T], *, name: str, **options: Any) -> T:
        return self._recorded(name, lambda: self._inner.read(work, name=name, **options))

    def _recorded(self, name: str, call: Callable[[], T]) -> T:
        with self._recorder.op("call", name) as end:
            try:
                return call()
            except OutcomeUnknown as error:
                end |= {"outcome": "unknown", "error": error.code}
                raise
            except SwitchyardError as error:
                end |= {"outcome": "fail", "error": error.code}
                raise
            except (LeadershipLost, StateMoved) as error:
                end |= {"outcome": "fail", "error": type(error).__name__}
                raise


class _Spool(FactSpool):
    """The bot's spool; what goes in was attempted, what it is told that the server has is acknowledged."""

    def __init__(self, writer: RealBot, folder: Path) -> None:
        super().__init__(folder)
        self._writer = writer
        self._facts: dict[int, _Fact] = {}
        self._told: set[tuple[str, str]] = set()

    def add_intent(self, intent: Intent, terms: SessionTerms) -> int:
        fact = _described(intent)
        self._attempted(fact)
        self._writer.gate("decided")
        try:
            number = super().add_intent(intent, terms)
        except SpoolFull:
            self._writer.record.mark("spool full", leg=intent.leg)
            raise
        self._facts[number] = fact
        self._writer.gate("intent")
        return number

    def add_fill(self, fill: VenueFill) -> int:
        fact = _described(fill)
        self._attempted(fact)
        self._writer.gate("filled")
        number = super().add_fill(fill)
        self._facts[number] = fact
        self._writer.gate("fill")
        return number

    def unacknowledged(self) -> list[Noted]:
        return list(self._remembered(super().unacknowledged()))

    def retained(self) -> Iterator[Noted]:
        return self._remembered(super().retained())

    def acknowledge(self, numbers: Iterable[int], identity: str) -> None:
        numbers = list(numbers)
        self._writer.gate("recorded")
        super().acknowledge(numbers, identity)
        for number in numbers:
            kind, key, body = self._facts.pop(number)
            if (kind, key) not in self._told:
                self._told.add((kind, key))
                with self._writer.record.op(kind, key, **body):
                    pass

    def _attempted(self, fact: _Fact) -> None:
        kind, key, body = fact
        with self._writer.record.op(kind, key, **body) as end:
            end |= {"outcome": "unknown", "error": "not acknowledged yet"}

    def _remembered(self, entries: Iterable[Noted]) -> Iterator[Noted]:
        for entry in entries:
            fact = entry.fact
            self._facts[entry.number] = _described(fact.intent if isinstance(fact, Decided) else fact)
            yield entry


def _described(fact: Intent | VenueFill) -> _Fact:
    """The kind, the key, and the values that must be in the database, of a decision or a fill."""
    names = ("quantity", "side", "leg", "reference_price", "reason")
    if isinstance(fact, VenueFill):
        names = ("intent_id", "side", "price", "quantity", "fee")
    kind, key = ("fill", fact.venue_trade_id) if isinstance(fact, VenueFill) else ("intent", fact.intent_id)
    return kind, key, {name: getattr(fact, name) for name in names}


class _Venue(PaperVenue):
    """The bot's venue, with a gate on either side of each order."""

    def __init__(self, writer: RealBot, name: str, path: Path, rates: dict[str, Any]) -> None:
        super().__init__(name, path, **rates)
        self._writer = writer

    def submit(self, intent: Intent) -> OrderReport:
        self._writer.gate("unsent")
        report = super().submit(intent)
        self._writer.gate("sent")
        return report


class _Status(Status):
    """Tells the experiment how the bot stands, when that changes."""

    def __init__(self, record: Recorder) -> None:
        super().__init__()
        self._record = record

    def set(self, **changes: object) -> None:
        before = self.get()
        super().set(**changes)
        now = self.get()
        if now.role == "leader" and (before.role != "leader" or before.epoch != now.epoch):
            self._record.mark("leading", epoch=now.epoch)
        elif now.role == "standby" and now.leader and now.leader != before.leader:
            self._record.mark("standing by", leader=now.leader)
        elif now.role == "standby" and before.role == "leader":
            self._record.mark("leadership lost")
        elif now.role == "waiting" and now.reason != before.reason:
            self._record.mark("waiting", what=now.reason)
        if now.halted != before.halted:
            self._record.mark("halted", why=list(now.halted))
