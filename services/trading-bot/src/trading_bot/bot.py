"""The loop: lead or stand by, look at the newest candles, decide, record.

``desk`` has what a leader trades with, ``recovery`` makes it, ``trader`` decides. While the database is away, facts go
to the spool and positions are closed. Nothing is ever sent to the venue again under another id.
"""

from __future__ import annotations

import json
import logging
import random
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime

from sqlalchemy import URL, Connection
from tradedb import revisions
from tradedb.errors import SwitchyardError
from tradedb.manager import DatabaseManager

from trading_bot import decisions, ledger
from trading_bot.desk import Desk
from trading_bot.diary import Diary
from trading_bot.feeds import Feed
from trading_bot.halts import Halts
from trading_bot.identity import server_identity
from trading_bot.kit import CALL_DEADLINE_S, Kit
from trading_bot.lease import LeadershipLost, Lease
from trading_bot.market import Market
from trading_bot.recovery import recover
from trading_bot.risk import RiskLimits
from trading_bot.settings import BotSettings
from trading_bot.spool import Opened
from trading_bot.spooled import FactSpool
from trading_bot.status import Status
from trading_bot.strategies import Strategy
from trading_bot.trader import Trader
from trading_bot.upkeep import Upkeep
from trading_bot.venue import Venue

STANDBY_POLL_S = 1.0
FIRST_BACKOFF_S, LAST_BACKOFF_S = 0.5, 5.0
FRESH_CANDLES = 2  # how old a decision may be that the venue has not heard of

log = logging.getLogger(__name__)


class Bot:
    """One trading bot.

    Args:
        settings: its settings.
        manager: the shared database.
        feed: where candles come from.
        strategy: what to hold.
        venue: carries intents out.
        spool: keeps facts until the database has them.
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
        venue: Venue,
        spool: FactSpool,
        status: Status,
        holder: str,
        local_file: URL | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._manager = manager
        self._spool = spool
        self._status = status
        self._local_file = local_file
        self._now = now
        self._interval_s = feed.interval_s
        self._diary = Diary()
        self._halts = Halts(self._diary, status)
        self._market = Market(feed, window=decisions.window(strategy), diary=self._diary, halts=self._halts)
        self._lease = Lease(
            manager,
            holder=holder,
            ttl_s=settings.bot_lease_ttl_s,
            renew_s=settings.bot_lease_renew_s,
            margin_s=settings.bot_lease_margin_s,
        )
        self._kit = Kit(
            manager=manager,
            lease=self._lease,
            venue=venue,
            spool=spool,
            diary=self._diary,
            halts=self._halts,
            terms=ledger.SessionTerms(
                strategy_name=strategy.name,
                strategy_config=json.loads(json.dumps(strategy.config())),  # as it is read back
                symbol=feed.symbol,
                timeframe=f"{feed.interval_s}s",
                venue=venue.name,
                initial_balance=settings.bot_initial_balance,
            ),
            fresh_s=FRESH_CANDLES * feed.interval_s,
        )
        limits = RiskLimits.from_settings(settings)
        self._trader = Trader(self._kit, strategy, limits, self._market, now)
        self._upkeep = Upkeep(self._kit, limits, self._market, status, interval_s=settings.bot_snapshot_interval_s)
        self._stop = threading.Event()
        self._schema_seen = False
        self._opened: Opened | None = None  # what opening the spool found, until it has been said
        self._desk: Desk | None = None
        self._doubtful = True  # the desk may differ from the database: ask before trusting it
        self._trouble_since: float | None = None
        self._failures = 0

    def stop(self) -> None:
        """Let ``run`` finish the transaction it is in, release the lease and return."""
        self._stop.set()

    def run(self) -> None:
        """Trade until ``stop``. A lost database, a lost lease and even a defect end a pass, never the loop."""
        self._diary.tell(
            "ENGINE_START", "info", f"trading-bot started as {self._lease.holder}, venue {self._kit.venue.name}"
        )
        while not self._stop.is_set():
            self._stop.wait(self._guarded_pass())
        self._shut_down()

    def _guarded_pass(self) -> float:
        """Run one pass; return the seconds until the next one."""
        try:
            wait_s = self.step()
        except LeadershipLost as lost:
            # its event waits until this bot leads again: one that does not lead writes nothing
            log.warning("leadership_lost", extra={"epoch": self._lease.epoch, "why": str(lost)})
            self._diary.tell("LEADERSHIP", "warning", f"{self._lease.holder} no longer leads: {lost}")
            self._stand_down()
            wait_s = STANDBY_POLL_S
        except ledger.StateMoved as moved:
            log.warning("asking_again", extra={"why": str(moved)})
            self._doubtful = True
            wait_s = self._backoff()
        except SwitchyardError as error:
            wait_s = self._wait_out(error)
        except Exception as error:
            # a defect: no heartbeat, so that /healthz turns 503 when it stays
            log.exception("loop_error", extra={"code": "BOT-002"})
            what = f"unexpected {type(error).__name__} in the loop"
            self._diary.tell("ERROR", "error", what, error_code="BOT-002")
            self._schema_seen = False
            self._doubtful = True
            self._status.set(role="waiting", reason=f"{what}; see the log")
            return self._backoff()
        self._status.beat()
        return wait_s

    def step(self) -> float:
        """Do what is due now; return the seconds until something is due again.

        Raises: LeadershipLost, StateMoved, SwitchyardError (the database is away, or the books do not add up).
        """
        candles = self._market.poll(self._now())
        self._trader.notice(candles)
        if candles:
            self._status.set(last_candle=candles[-1].close_time)
        if self._desk is not None:
            self._desk.intake.see(candles)
        self._prepare()
        if self._lease.epoch is None and not self._lead():
            return STANDBY_POLL_S
        if self._lease.renewal_due_in() <= 0 or not self._lease.may_decide():
            self._lease.renew()
            self._notice_another_server()
        desk = self._trusted_desk()
        self._say_trouble_is_over()
        self._trader.settle(desk)
        self._upkeep.watch_limits(desk)  # a new day, or the fills of this candle
        self._trader.trade(desk)
        self._upkeep.keep(desk)
        self._write_events()
        return self._until_next()

    # --- leading ------------------------------------------------------------------------------------------------------

    def _prepare(self) -> None:
        """See that the spool is open and the schema is the one we know; only a local file is ours to migrate."""
        if not self._spool.is_open:
            self._opened = self._spool.open()
        if not self._schema_seen:
            if self._local_file is not None:
                from tradedb import migrate  # only a local file is ours to migrate

                migrate.upgrade(self._local_file)
            revision = self._manager.read(
                revisions.current_revision, name="schema-revision", deadline_s=CALL_DEADLINE_S, retry=False
            )
            if problem := revisions.revision_problem(revision):
                raise problem
            self._schema_seen = True

    def _lead(self) -> bool:
        """Try to become the leader; return whether it worked."""
        leader = self._lease.acquire()
        if leader is not None:
            if self._status.get().role != "standby" or self._status.get().leader != leader:
                log.info("standby", extra={"leader": leader})
                self._diary.tell("LEADERSHIP", "info", f"{self._lease.holder} stands by: {leader} leads")
            self._status.set(role="standby", reason=None, epoch=None, leader=leader)
            self._failures = 0
            self._trouble_since = None
            return False
        self._doubtful = True
        log.info("leading", extra={"epoch": self._lease.epoch})
        self._diary.tell("LEADERSHIP", "info", f"{self._lease.holder} leads with epoch {self._lease.epoch}")
        return True

    def _notice_another_server(self) -> None:
        """Distrust the desk where another server answers than the one that it was made from.

        A restart, a failover or a restore that is over between two calls breaks none of them: the pool connects anew.
        """
        if self._desk is not None and self._kit.read(server_identity, "server-identity") != self._desk.identity:
            log.warning("another_server", extra={"before": self._desk.identity})
            self._doubtful = True

    def _stand_down(self) -> None:
        """Stop believing to lead. What the venue did meanwhile, the new leader learns from the venue."""
        self._lease.forget()
        self._desk = None
        self._doubtful = True
        self._status.set(role="standby", reason=None, epoch=None, leader=None)

    def _trusted_desk(self) -> Desk:
        """Return the desk; a new one, from what database, spool and venue know, where the old one may be wrong."""
        if self._desk is None or self._doubtful:
            self._desk = recover(self._kit, self._now(), self._opened, self._trader.undecided)
            self._doubtful = False
            self._opened = None
        self._status.set(
            role="leader",
            reason=None,
            epoch=self._lease.epoch,
            leader=self._lease.holder,
            session_id=self._desk.session.id,
        )
        return self._desk

    def _write_events(self, *, release: bool = False) -> None:
        """Write the events that wait; with ``release``, let the next bot lead in the same transaction.

        Raises: LeadershipLost, SwitchyardError.
        """
        if not self._diary.waiting() and not release:
            return

        def work(conn: Connection) -> int:
            self._lease.require(conn)
            count = self._diary.write(conn)
            if release:
                self._lease.release(conn)
            return count

        deadline_s = CALL_DEADLINE_S / 2 if release else CALL_DEADLINE_S
        self._diary.written(self._kit.transaction(work, "events-write", deadline_s=deadline_s))

    def _until_next(self) -> float:
        return max(0.01, min(self._until_next_candle(), self._lease.renewal_due_in(), self._upkeep.due_in()))

    # --- trouble ------------------------------------------------------------------------------------------------------

    def _wait_out(self, error: SwitchyardError) -> float:
        """Say what is in the way, and come back soon: at the next candle, when a position may be held."""
        if self._trouble_since is not None and self._desk is not None:
            self._trader.trade_without_database(self._desk)
        elif self._trouble_since is None:
            self._trouble_since = time.monotonic()
            self._diary.tell("ERROR", "error", error.what, error_code=error.code)
        log.warning("waiting", extra={"code": error.code, "what": error.what, "why": error.why})
        self._schema_seen = False
        self._doubtful = True
        self._status.set(role="waiting", reason=f"{error.code}: {error.what}")
        if self._spool.is_open:
            self._upkeep.watch_spool()
        wait_s = self._backoff()
        return min(wait_s, max(0.1, self._until_next_candle())) if self._desk is not None else wait_s

    def _until_next_candle(self) -> float:
        now = self._now().timestamp()
        return (now // self._interval_s + 1) * self._interval_s - now

    def _backoff(self) -> float:
        self._failures += 1
        return min(LAST_BACKOFF_S, FIRST_BACKOFF_S * 2 ** min(self._failures - 1, 10)) * random.uniform(0.7, 1.0)  # noqa: S311

    def _say_trouble_is_over(self) -> None:
        self._failures = 0
        if self._trouble_since is not None:
            away_s = time.monotonic() - self._trouble_since
            self._trouble_since = None
            log.info("resumed", extra={"waited_s": round(away_s, 1)})
            self._diary.tell("RECOVERY", "info", f"trading goes on after {away_s:.1f} s of waiting")

    def _shut_down(self) -> None:
        """Record what the venue did until now, write the last events, and let the next bot lead at once."""
        self._status.set(role="stopping", reason="stopping")
        if self._lease.epoch is not None:
            self._diary.tell("ENGINE_STOP", "info", f"trading-bot stopped: {self._lease.holder} gives up the lease")
            try:
                if self._desk is not None and not self._doubtful:
                    self._desk.intake.collect()
                    self._desk.intake.record()
                self._write_events(release=True)
            except (SwitchyardError, LeadershipLost, ledger.StateMoved) as error:
                log.warning("lease_not_released", extra={"why": str(error)})
            else:
                log.info("lease_released", extra={"epoch": self._lease.epoch})
        self._market.close()
        self._kit.venue.close()
        self._spool.close()
