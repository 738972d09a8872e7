"""A bad candle is refused and reported, whatever is wrong with it; a good one always comes through, once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from trading_bot.feeds.candles import Candle
from trading_bot.feeds.screen import Refusal, Screen
from trading_bot.feeds.simulated import SimulatedFeed

MARKET = SimulatedFeed(seed=3, symbol="BTCUSDT", interval_s=60)
NOON = datetime(2026, 1, 1, 12, 0, 0, tzinfo=UTC)
FIRST = MARKET.latest_closed(NOON)


class Scripted:
    """A feed that says what the test wants."""

    name, venue, symbol, interval_s, simulated = "scripted", "TEST", "BTCUSDT", 60, True

    def __init__(self) -> None:
        self.next: list[Candle] = []
        self.past: list[Candle] = []
        self.closed = False

    def history(self, count: int, now: datetime) -> list[Candle]:
        return self.past[-count:]

    def poll(self, now: datetime) -> list[Candle]:
        given, self.next = self.next, []
        return given

    def close(self) -> None:
        self.closed = True


class Bench:
    """A screen before a scripted feed, and what it said."""

    def __init__(self) -> None:
        self.feed = Scripted()
        self.said: list[Refusal] = []
        self.screen = Screen(self.feed, self.said.append)
        assert len(self.poll(sound(0), minute=0)) == 1

    def poll(self, *candles: Candle, minute: float) -> list[int]:
        """Return the numbers of the candles that came through, asked ``minute`` minutes after the first closed."""
        self.feed.next = list(candles)
        return [candle.index - FIRST for candle in self.screen.poll(NOON + timedelta(minutes=minute, seconds=1))]

    @property
    def reasons(self) -> list[str]:
        return [refusal.reason for refusal in self.said]


def sound(n: int) -> Candle:
    return MARKET.candle(FIRST + n)


def priced(n: int, **values: str) -> Candle:
    return replace(sound(n), **{name: Decimal(value) for name, value in values.items()})


def times(n: int, factor: str) -> Candle:
    """A candle whose prices are off by a factor."""
    c, f = sound(n), Decimal(factor)
    return replace(c, open=c.open * f, high=c.high * f, low=c.low * f, close=c.close * f)


BAD: dict[str, tuple[str, Callable[[], Candle]]] = {
    "zero": ("absurd", lambda: priced(1, low="0")),
    "all zero": ("absurd", lambda: priced(1, open="0", high="0", low="0", close="0")),
    "negative": ("absurd", lambda: priced(1, low="-5")),
    "NaN": ("absurd", lambda: priced(1, close="NaN")),
    "signalling NaN": ("absurd", lambda: priced(1, open="sNaN")),
    "infinite": ("absurd", lambda: priced(1, high="Infinity")),
    "volume NaN": ("absurd", lambda: priced(1, volume="NaN")),
    "volume negative": ("absurd", lambda: priced(1, volume="-1")),
    "high below low": ("absurd", lambda: replace(sound(1), high=sound(1).low, low=sound(1).high)),
    "close above high": ("absurd", lambda: replace(sound(1), close=sound(1).high + 1)),
    "open below low": ("absurd", lambda: replace(sound(1), open=sound(1).low - 1)),
    "x1000": ("jump", lambda: times(1, "1000")),
    "x100": ("jump", lambda: times(1, "100")),
    "a thousandth": ("jump", lambda: times(1, "0.001")),
    "one wick x1000": ("jump", lambda: replace(sound(1), high=sound(1).high * 1_000)),
    "half a minute off": (
        "misaligned",
        lambda: replace(sound(1), open_time=sound(1).open_time + timedelta(seconds=30)),
    ),
    "too long": ("misaligned", lambda: replace(sound(1), close_time=sound(1).close_time + timedelta(seconds=60))),
    "still open": ("not_closed", lambda: sound(2)),
    "repeated": ("repeated", lambda: sound(0)),
    "repeated, with other values": ("repeated", lambda: priced(0, volume="1")),
    "older than the last": ("out_of_order", lambda: sound(-1)),
}


@pytest.mark.parametrize("what", BAD)
def test_a_bad_candle_is_refused_with_its_reason_and_the_next_good_one_comes_through(what: str) -> None:
    reason, make = BAD[what]
    bench = Bench()
    assert bench.poll(make(), minute=1) == []
    (refusal,) = bench.said
    assert (refusal.reason, refusal.refused) == (reason, True)
    assert refusal.detail
    details = refusal.details()
    assert details["reason"] == reason
    assert details["close"] == str(make().close)
    assert bench.poll(sound(2), minute=2) == [2]
    assert bench.reasons == [reason, "gap"]


def test_within_one_answer_too_each_candle_is_looked_at_by_itself() -> None:
    bench = Bench()
    mixed = [sound(1), times(2, "1000"), sound(1), sound(3), sound(2), sound(4)]
    assert bench.poll(*mixed, minute=4) == [1, 3, 4]
    assert bench.reasons == ["jump", "repeated", "gap", "out_of_order"]
    assert bench.said[2].detail == "1 candle is missing before it"


def test_late_is_what_was_due_at_an_earlier_look_and_not_what_closed_while_nobody_looked() -> None:
    bench = Bench()
    assert bench.poll(minute=1) == []  # due, and not there
    assert bench.poll(sound(1), minute=1.5) == [1]  # a venue needs a moment
    assert bench.poll(minute=3.9) == []
    assert bench.poll(sound(2), sound(3), sound(4), minute=5.1) == [3, 4]
    assert bench.reasons == ["late", "gap"]
    assert bench.poll(*[sound(n) for n in range(5, 60)], minute=60) == list(range(5, 60))  # the process was stopped


def test_the_first_candle_may_not_be_of_long_ago() -> None:
    feed, said = Scripted(), []
    feed.next = [sound(0)]
    assert Screen(feed, said.append).poll(NOON + timedelta(minutes=10)) == []
    assert [refusal.reason for refusal in said] == ["late"]


def test_history_is_looked_at_as_well_and_one_wrong_price_does_not_condemn_the_others() -> None:
    feed, said = Scripted(), []
    screen = Screen(feed, said.append)
    feed.past = [times(-9, "1000"), *[sound(n) for n in range(-8, 0)], priced(-4, low="0"), sound(-2), sound(0)]
    now = NOON + timedelta(seconds=1)
    assert [candle.index - FIRST for candle in screen.history(100, now)] == list(range(-8, 1))
    assert [refusal.reason for refusal in said] == ["absurd", "repeated", "jump"]
    # what history gave is what the first candle is measured by, and is not given yet itself
    feed.next = [times(0, "1000")]
    assert screen.poll(now) == []
    feed.next = [sound(0)]
    assert screen.poll(now) == [sound(0)]


def test_a_market_that_did_move_tenfold_is_believed_after_a_restart() -> None:
    feed, said = Scripted(), []
    feed.past = [sound(n) for n in range(-3, 0)] + [times(n, "0.01") for n in range(4)]
    screen = Screen(feed, said.append)
    later = NOON + timedelta(minutes=4, seconds=1)
    assert len(screen.history(7, later)) == 4
    feed.next = [times(4, "0.01")]
    assert len(screen.poll(later)) == 1


@given(seed=st.integers(0, 2**32), interval_s=st.sampled_from([1, 2, 60, 3_600]), polls=st.lists(st.integers(0, 20)))
def test_a_sound_market_comes_through_whole_whenever_it_is_asked(seed: int, interval_s: int, polls: list[int]) -> None:
    said: list[Refusal] = []
    screen = Screen(SimulatedFeed(seed=seed, symbol="BTCUSDT", interval_s=interval_s), said.append)
    now, given_ = NOON, []
    for step in polls:
        now += timedelta(seconds=step * interval_s / 3)
        given_ += [candle.index for candle in screen.poll(now)]
    assert said == []
    assert given_ == list(range(given_[0], given_[-1] + 1)) if given_ else True


def test_it_is_a_feed_itself() -> None:
    feed = Scripted()
    screen = Screen(feed, lambda _: None)
    assert (screen.name, screen.venue, screen.symbol, screen.interval_s) == ("scripted", "TEST", "BTCUSDT", 60)
    assert screen.simulated
    screen.close()
    assert feed.closed
