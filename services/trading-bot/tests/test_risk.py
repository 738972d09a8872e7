"""Risk is arithmetic: sizes never exceed their limits, stops fire exactly at their price, a bad day ends entries."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from trading_bot.books import Account
from trading_bot.decisions import NOTHING, Order, Standing, Verdict, as_intent, judge, window
from trading_bot.feeds.candles import Candle
from trading_bot.feeds.simulated import SimulatedFeed
from trading_bot.orders import Side, VenueFill
from trading_bot.risk import RiskLimits, check_entry, check_position, closed_by_risk, halted
from trading_bot.settings import BotSettings
from trading_bot.sizing import MIN_NOTIONAL, QUANTITY_STEP, price_step
from trading_bot.strategies import Decision, Target
from trading_bot.venue.pricing import price_after_slippage

LIMITS = RiskLimits(
    position_fraction=Decimal("0.5"),
    max_exposure_percent=Decimal(90),
    stop_loss_percent=Decimal(2),
    take_profit_percent=Decimal(4),
    daily_loss_limit_percent=Decimal(5),
)
FEED = SimulatedFeed(seed=1, symbol="BTCUSDT", interval_s=60)


def a_candle(low: str = "99", high: str = "101", close: str = "100", *, n: int = 0) -> Candle:
    prices = {"open": Decimal(100), "low": Decimal(low), "high": Decimal(high), "close": Decimal(close)}
    return replace(FEED.candle(30_000_000 + n), **prices)


@given(
    fraction=st.decimals(min_value="0.01", max_value="0.9", places=2),
    exposure_percent=st.decimals(min_value="1", max_value="100", places=1),
    price=st.decimals(min_value="0.01", max_value="1000000", places=2),
    balance=st.decimals(min_value="-1000", max_value="1000000", places=8),
    held=st.decimals(min_value="0", max_value="1000000", places=8),
)
def test_an_entry_stays_within_its_share_and_the_maximum_exposure(
    fraction: Decimal, exposure_percent: Decimal, price: Decimal, balance: Decimal, held: Decimal
) -> None:
    limits = replace(LIMITS, position_fraction=fraction, max_exposure_percent=exposure_percent)
    entry = check_entry(limits, price=price, balance=balance, exposure=held)
    assert entry.quantity == entry.quantity.quantize(QUANTITY_STEP)
    if entry.refusal is None:
        assert MIN_NOTIONAL <= entry.quantity * price <= balance * fraction
        assert held + entry.quantity * price <= balance * exposure_percent / 100
    else:
        assert entry.quantity == 0


def test_an_entry_that_is_refused_says_why() -> None:
    price = Decimal(100)
    assert check_entry(LIMITS, price=price, balance=Decimal(1_000)).quantity == Decimal(5)
    assert check_entry(LIMITS, price=price, balance=Decimal(1_000), exposure=Decimal(600)).quantity == Decimal(3)
    full = check_entry(LIMITS, price=price, balance=Decimal(1_000), exposure=Decimal(895))
    assert (full.quantity, full.refusal) == (0, "maximum exposure of 90% is reached: 895.00 is held")
    assert check_entry(LIMITS, price=price, balance=Decimal(15)).refusal == ("a balance of 15 allows no order worth 10")
    assert check_entry(LIMITS, price=price, balance=Decimal(1_000), halt="no").refusal == "no"


@pytest.mark.parametrize(
    ("low", "high", "reason"),
    [
        ("98.01", "103.99", None),
        ("98", "103.99", "stop loss 2%: low 98 at or below 98.00"),
        ("98.01", "104", "take profit 4%: high 104 at or above 104.00"),
        ("90", "110", "stop loss 2%: low 90 at or below 98.00"),  # which came first is unknown: the loss counts
    ],
)
def test_stops_fire_exactly_at_their_price(low: str, high: str, reason: str | None) -> None:
    found = check_position(LIMITS, a_candle(low, high), entry_price=Decimal(100))
    assert found == reason
    assert closed_by_risk(found) == (reason is not None)


def test_zero_switches_a_limit_off() -> None:
    off = replace(
        LIMITS, stop_loss_percent=Decimal(0), take_profit_percent=Decimal(0), daily_loss_limit_percent=Decimal(0)
    )
    assert check_position(off, a_candle("1", "1000"), entry_price=Decimal(100)) is None
    assert halted(off, day_pnl=Decimal(-999), day_start_balance=Decimal(1_000)) is None


@pytest.mark.parametrize(("lost", "stops"), [("49.99999999", False), ("50", True), ("999", True), ("-70", False)])
def test_a_bad_day_ends_entries_and_says_so(lost: str, stops: bool) -> None:
    said = halted(LIMITS, day_pnl=-Decimal(lost), day_start_balance=Decimal(1_000))
    assert (said is not None) == stops
    if said:
        assert said == f"daily loss limit 5%: {lost}.00 lost today, 50.00 allowed; no entries until 00:00 UTC"


class Says:
    """A strategy that says what the test wants, one target for each candle by its number."""

    name = "Says"
    warmup = 2

    def __init__(self, *targets: Target) -> None:
        self.targets = targets

    def decide(self, candles: Sequence[Candle]) -> Decision:
        return Decision(self.targets[candles[-1].index - 30_000_000], "as told " + 200 * "x")

    def config(self) -> dict[str, Any]:
        return {}


REASON = ("as told " + 200 * "x")[:100]


def a_fill(side: Side, quantity: str, filled_at: datetime, *, price: str = "100", fee: str = "0") -> VenueFill:
    return VenueFill(
        venue="SIMULATED", venue_trade_id=f"{side}{filled_at}", intent_id="entry" if side == "BUY" else "exit",
        symbol="BTCUSDT", side=side, price=Decimal(price), quantity=Decimal(quantity), fee=Decimal(fee),
        fee_currency="USDT", filled_at=filled_at,
    )  # fmt: skip


def flat(**changes: Any) -> Standing:
    account = Account(session_id=1, initial_balance=Decimal(1_000))
    return replace(Standing(account=account, day_start_balance=Decimal(1_000)), **changes)


def holding(*, since: datetime | None = None, **changes: Any) -> Standing:
    account, _ = flat().account.apply(a_fill("BUY", "5", since or a_candle().open_time))
    return flat(account=account, **changes)


def test_a_signal_becomes_an_order_of_the_right_size_and_its_reason_fits_the_row() -> None:
    strategy = Says("FLAT", "FLAT", "LONG", "FLAT")
    seen = [a_candle(n=n) for n in range(4)]
    assert judge(strategy, LIMITS, seen[:3], flat()) == Verdict(Order("ENTRY", Decimal(5), REASON))
    assert judge(strategy, LIMITS, seen[:3], holding()) == NOTHING
    assert judge(strategy, LIMITS, seen[:2], flat()) == NOTHING
    assert judge(strategy, LIMITS, seen, flat()) == NOTHING
    assert judge(strategy, LIMITS, seen, holding()) == Verdict(Order("EXIT", Decimal(5), REASON))


def test_an_order_becomes_an_intent_that_names_what_it_closes() -> None:
    candle, strategy = a_candle(n=3), Says()
    bought = as_intent(
        Order("ENTRY", Decimal(5), "r"), strategy=strategy.name, account=flat().account, candle=candle, venue="V"
    )
    sold = as_intent(
        Order("EXIT", Decimal(5), "r"), strategy=strategy.name, account=holding().account, candle=candle, venue="V"
    )
    assert (bought.side, bought.entry_intent_id) == ("BUY", None)
    assert (sold.side, sold.entry_intent_id) == ("SELL", "entry")
    assert bought.intent_id != sold.intent_id
    assert (sold.reference_price, sold.signal_time, sold.venue) == (candle.close, candle.close_time, "V")


def test_while_an_order_is_being_filled_nothing_is_ordered_twice() -> None:
    buys, sells = Says("LONG", "LONG", "LONG"), Says("FLAT", "FLAT", "FLAT")
    seen = [a_candle(n=n) for n in range(3)]
    assert judge(buys, LIMITS, seen, flat(resting="ENTRY")) == NOTHING
    assert judge(buys, LIMITS, seen, holding(resting="ENTRY")) == NOTHING
    assert judge(sells, LIMITS, seen, holding(resting="EXIT")) == NOTHING
    # the market turned before the entry was filled: the rest is taken back, and what is held is sold
    assert judge(sells, LIMITS, seen, flat(resting="ENTRY")) == Verdict(cancel=True)
    assert judge(sells, LIMITS, seen, holding(resting="ENTRY")) == Verdict(
        Order("EXIT", Decimal(5), REASON), cancel=True
    )
    crash = [*seen[:2], a_candle("50", n=2)]
    stopped = judge(buys, LIMITS, crash, holding(resting="ENTRY"))
    assert stopped.cancel
    assert stopped.order is not None
    assert closed_by_risk(stopped.order.reason)


def test_the_strategy_is_not_asked_before_its_warm_up_but_the_stop_holds_from_the_first_candle() -> None:
    strategy = Says("LONG")
    assert window(strategy) == 3
    assert judge(strategy, LIMITS, [a_candle()], flat()) == NOTHING
    order = judge(strategy, LIMITS, [a_candle("97")], holding()).order
    assert order is not None
    assert closed_by_risk(order.reason)


def test_the_candle_in_which_it_was_bought_does_not_count_against_the_position() -> None:
    candle = a_candle("90", n=1)
    within = holding(since=candle.open_time + timedelta(seconds=1))
    assert judge(Says("LONG", "LONG"), LIMITS, [a_candle(), candle], within) == NOTHING
    assert judge(Says("LONG", "LONG"), LIMITS, [a_candle(), candle], holding()).order is not None


def test_risk_goes_before_strategy_and_its_exit_waits_for_a_fresh_signal() -> None:
    keeps_on = Says("FLAT", "LONG", "LONG", "LONG")
    seen = [a_candle(n=0), a_candle(n=1), a_candle("97", n=2), a_candle(n=3)]
    stopped = judge(keeps_on, LIMITS, seen[:3], holding()).order
    assert stopped is not None
    assert stopped.reason.startswith("stop loss")
    after = flat(closed_by_risk=True)
    assert judge(keeps_on, LIMITS, seen, after) == Verdict(
        refusal="risk closed the last position: waiting for a fresh signal"
    )
    assert judge(keeps_on, LIMITS, seen, flat()).order is not None
    fresh = Says("LONG", "LONG", "FLAT", "LONG")
    assert judge(fresh, LIMITS, seen, after).order is not None
    # one candle less than the window does not show whether the signal is fresh
    assert judge(fresh, LIMITS, seen[2:], after).order is None


def test_entries_halt_on_a_bad_day_exits_do_not() -> None:
    buys, sells = Says("LONG", "LONG", "LONG"), Says("FLAT", "FLAT", "FLAT")
    seen = [a_candle(n=n) for n in range(3)]
    poorer, _ = holding().account.apply(a_fill("SELL", "5", a_candle(n=1).close_time, price="90", fee="10"))
    assert judge(buys, LIMITS, seen, flat(account=poorer)).refusal == (
        "daily loss limit 5%: 60.00 lost today, 50.00 allowed; no entries until 00:00 UTC"
    )
    assert judge(buys, LIMITS, seen, flat(account=poorer, day_start_balance=Decimal(940))).order is not None
    assert judge(buys, LIMITS, seen, flat(halt="the spool is full")).refusal == "the spool is full"
    assert judge(sells, LIMITS, seen, holding(day_start_balance=Decimal(2_000), halt="x")).order is not None


def test_limits_come_from_the_settings() -> None:
    limits = RiskLimits.from_settings(BotSettings(bot_stop_loss_percent=Decimal(1)))
    assert limits.stop_loss_percent == 1
    assert replace(limits, stop_loss_percent=Decimal(2)) == LIMITS


@pytest.mark.parametrize(
    ("price", "step"),
    [("98000.1", "0.01"), ("100", "0.01"), ("99.99", "0.0001"), ("0.0712", "0.000001"), ("0.00001234", "0.00000001")],
)
def test_cheap_things_have_finer_prices(price: str, step: str) -> None:
    assert price_step(Decimal(price)) == Decimal(step)
    assert price_after_slippage(Decimal(price), "BUY", Decimal(0)) == Decimal(price)
    paid = price_after_slippage(Decimal(price), "BUY", Decimal("0.0001"))
    assert Decimal(price) * Decimal("1.0001") <= paid <= Decimal(price) * Decimal("1.001")


def test_a_price_finer_than_fills_can_be_is_refused() -> None:
    entry = check_entry(LIMITS, price=Decimal("0.0000000001"), balance=Decimal(10_000))
    assert entry.quantity == 0
    assert "too fine" in str(entry.refusal)
    assert check_entry(LIMITS, price=Decimal("0.000001"), balance=Decimal(10_000)).quantity > 0
