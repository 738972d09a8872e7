"""Keeping accounts: the equity curve, the limits, and a word now and then that all is well."""

from __future__ import annotations

import time

from trading_bot.desk import Desk
from trading_bot.kit import Kit
from trading_bot.market import Market
from trading_bot.risk import RiskLimits, halted
from trading_bot.status import Status

STEADY_EVENT_S = 900.0


class Upkeep:
    """What a leader does between its decisions.

    Args:
        kit: what the leader works with.
        limits: what may be lost.
        market: the newest candles.
        status: shows how full the spool is.
        interval_s: seconds between two points of the equity curve.
    """

    def __init__(self, kit: Kit, limits: RiskLimits, market: Market, status: Status, *, interval_s: float) -> None:
        self._kit = kit
        self._limits = limits
        self._market = market
        self._status = status
        self._interval_s = interval_s
        self._snapshot_at = 0.0
        self._steady_event_at = time.monotonic() + STEADY_EVENT_S

    def due_in(self) -> float:
        """Return the seconds until the next point of the equity curve."""
        return self._snapshot_at - time.monotonic()

    def keep(self, desk: Desk) -> None:
        """Write what is due: a point of the equity curve, and the state of things.

        Raises: LeadershipLost, StateMoved, SwitchyardError.
        """
        self.watch_limits(desk)
        newest = self._market.newest
        if newest is not None and time.monotonic() >= self._snapshot_at:
            desk.snapshot(newest.close)
            desk.intake.look_for_quarantine()
            self._kit.spool.prune()
            self._snapshot_at = time.monotonic() + self._interval_s
        if time.monotonic() >= self._steady_event_at:
            self._say_all_is_well(desk)

    def watch_limits(self, desk: Desk) -> None:
        """Halt entries where the day's losses or the spool's state ask for it."""
        account = desk.books().account
        day_start = desk.books().curve.first_balance_of_day()
        loss = halted(self._limits, day_pnl=account.balance - day_start, day_start_balance=day_start)
        self._kit.halts.set("daily loss", loss)
        self.watch_spool()

    def watch_spool(self) -> None:
        """Show how full the spool is, and halt entries where it has no room for them."""
        state = self._kit.spool.state()
        self._status.set(spool=state)
        reason = f"the spool takes no entries: {state.reason}" if state.close_only or state.full else None
        self._kit.halts.set("spool", reason, severity="error")

    def _say_all_is_well(self, desk: Desk) -> None:
        account, state = desk.books().account, self._kit.spool.state()
        self._kit.diary.tell(
            "HEARTBEAT",
            "info",
            f"leading with epoch {self._kit.lease.epoch}: {account.trades} trades, balance {account.balance:f}",
            session_id=desk.session.id,
            details={
                "balance": str(account.balance),
                "trades": account.trades,
                "holding": str(account.position.quantity if account.position else 0),
                "fills_recorded": desk.intake.fills,
                "candles_refused": self._market.refused,
                "spool_entries": state.entries,
                "spool_unacknowledged": state.unacknowledged,
                "halted": list(self._kit.halts.reasons),
            },
        )
        self._steady_event_at = time.monotonic() + STEADY_EVENT_S
