"""Deciding: what to do about the candles that nobody decided on yet, with a database and without one."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime

from tradedb.errors import SwitchyardError

from trading_bot import decisions
from trading_bot.desk import Desk
from trading_bot.feeds.candles import Candle
from trading_bot.kit import Kit
from trading_bot.market import Market
from trading_bot.orders import Intent
from trading_bot.risk import RiskLimits, check_position
from trading_bot.strategies import Strategy

UNDECIDED_CANDLES = 1_000

log = logging.getLogger(__name__)


class Trader:
    """Asks strategy and risk, and lets a desk act.

    Args:
        kit: what the leader works with.
        strategy: what to hold.
        limits: what may be lost.
        market: the newest candles.
        now: the time, aware UTC.
    """

    def __init__(
        self, kit: Kit, strategy: Strategy, limits: RiskLimits, market: Market, now: Callable[[], datetime]
    ) -> None:
        self._kit = kit
        self._strategy = strategy
        self._limits = limits
        self._market = market
        self._now = now
        self._undecided: deque[Candle] = deque(maxlen=UNDECIDED_CANDLES)
        self._refused = False  # the entry that the strategy wants, and somebody was told

    @property
    def undecided(self) -> list[Candle]:
        """Return the candles that nobody decided on, oldest first."""
        return list(self._undecided)

    def notice(self, candles: Sequence[Candle]) -> None:
        """Take candles that have just closed."""
        self._undecided.extend(candles)

    def settle(self, desk: Desk) -> None:
        """Record what the venue did, and carry what was decided on."""
        desk.intake.collect()
        desk.intake.record()
        desk.follow(self._now())

    def trade(self, desk: Desk) -> None:
        """Decide on the candles that nobody decided on yet, and act."""
        if not self._undecided or not self._kit.lease.may_decide():
            return  # the next pass renews first, and a newer candle may be there by then
        verdict = self._verdict(desk)
        if verdict.cancel:
            desk.cancel_entries()
            self.settle(desk)
        if verdict.order is not None and (intent := self._intent(desk, verdict.order)) is not None:
            desk.place(intent)
        desk.sell_what_was_left(self._undecided[-1])
        self._undecided.clear()

    def trade_without_database(self, desk: Desk) -> None:
        """Take the venue's facts into the spool, and close the position where that is due; open nothing.

        An entry needs its decision committed. An exit needs a lease that is provably still ours: by this process's own
        clock, without asking anybody.
        """
        try:
            desk.intake.collect(database=False)
            if not self._undecided or not self._kit.lease.may_decide():
                return
            verdict = self._verdict(desk)
            if verdict.order is None or verdict.order.leg != "EXIT":
                return
            if verdict.cancel:
                desk.cancel_entries()
                desk.intake.collect(database=False)
            intent = self._intent(desk, verdict.order)
            if intent is not None:
                desk.exit_without_database(intent)
                self._undecided.clear()
                log.warning("exit_without_database", extra={"intent_id": intent.intent_id, "reason": intent.reason})
        except SwitchyardError as error:  # the account was not at hand: it has to wait for the database
            log.warning("outage_pass", extra={"code": error.code, "what": error.what})

    def _verdict(self, desk: Desk) -> decisions.Verdict:
        """Judge the newest candle; of those before it that nobody judged, only a stop or a goal they touched counts."""
        halts = self._kit.halts
        standing = desk.standing(halts.why(but="strategy"))  # which is asked below
        held = standing.account.position
        if held is not None and standing.resting != "EXIT":
            for candle in list(self._undecided)[:-1]:
                reason = check_position(self._limits, candle, entry_price=held.entry_price)
                if reason is not None and candle.open_time >= held.opened_at:
                    order = decisions.Order("EXIT", held.quantity, reason)
                    return decisions.Verdict(order, cancel=standing.resting == "ENTRY")
        try:
            verdict = decisions.judge(self._strategy, self._limits, self._market.window, standing)
        except decisions.StrategyFault as fault:
            halts.set("strategy", f"{fault.code}: {fault.what}", severity="error", error_code=fault.code)
            return decisions.NOTHING
        halts.set("strategy", None)
        self._say_refusal(verdict, standing.halt)
        return verdict

    def _say_refusal(self, verdict: decisions.Verdict, halt: str | None) -> None:
        """Say once why an entry that the strategy goes on to want is not made, where no halt says so already."""
        if verdict.refusal is None or verdict.refusal == halt:
            self._refused = self._refused and verdict.refusal is not None
        elif not self._refused:
            self._refused = True
            log.info("entry_refused", extra={"why": verdict.refusal})
            self._kit.diary.tell("ALERT", "info", f"no entry: {verdict.refusal}")

    def _intent(self, desk: Desk, order: decisions.Order) -> Intent | None:
        """Return the order as a decision on the last candle; None for an exit of what is not held."""
        account = desk.account()
        if order.leg == "EXIT":  # an entry that was just cancelled may have been filled a little more
            if account.position is None:
                return None
            order = replace(order, quantity=account.position.quantity)
        return decisions.as_intent(
            order,
            strategy=self._strategy.name,
            account=account,
            candle=self._undecided[-1],
            venue=self._kit.venue.name,
        )
