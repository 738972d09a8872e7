"""What the loop is given of a feed that begins badly, stays bad, or stops answering in the middle."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from tradedb.errors import SwitchyardError
from trading_bot.diary import Diary
from trading_bot.feeds.candles import Candle
from trading_bot.feeds.simulated import SimulatedFeed
from trading_bot.halts import Halts
from trading_bot.market import DISTRUSTED_AFTER, SILENT_CANDLES, Market
from trading_bot.status import Status

NOON = datetime(2026, 1, 1, 12, 0, 1, tzinfo=UTC)
WINDOW = 9


class Crooked(SimulatedFeed):
    """A market whose candles are changed on their way, and whose past is not always to be had."""

    def __init__(self, change: Callable[[Candle], Candle] = lambda candle: candle) -> None:
        super().__init__(seed=7, symbol="BTCUSDT", interval_s=60)
        self.change = change
        self.past_away = False

    def history(self, count: int, now: datetime) -> list[Candle]:
        if self.past_away:
            raise SwitchyardError("BOT-020", "the exchange does not answer", why="test", fix="")
        return super().history(count, now)

    def poll(self, now: datetime) -> list[Candle]:
        return [self.change(candle) for candle in super().poll(now)]


class Desk:
    """A market, and the clock that it is asked by."""

    def __init__(self, feed: Crooked) -> None:
        self.feed, self.status, self.minute = feed, Status(), 0
        diary = Diary()
        self.seconds = 0.0
        self.market = Market(
            feed, window=WINDOW, diary=diary, halts=Halts(diary, self.status), monotonic=lambda: self.seconds
        )

    def poll(self, times: int = 1) -> list[Candle]:
        given = []
        for _ in range(times):
            given += self.market.poll(NOON + timedelta(minutes=self.minute))
            self.minute += 1
        return given


def times(candle: Candle, factor: int) -> Candle:
    prices = {name: getattr(candle, name) * Decimal(factor) for name in ("open", "high", "low", "close")}
    return replace(candle, **prices)


def test_a_first_candle_that_is_a_thousand_times_too_high_is_refused_and_the_next_is_not() -> None:
    feed = Crooked(lambda candle: times(candle, 1000))
    desk = Desk(feed)
    assert desk.poll() == []
    feed.change = lambda candle: candle
    (sound,) = desk.poll()
    assert sound == SimulatedFeed(seed=7, symbol="BTCUSDT", interval_s=60).candle(sound.index)
    assert [candle.index for candle in desk.market.window] == list(range(sound.index - WINDOW + 1, sound.index + 1))
    assert max(candle.close for candle in desk.market.window) < 10 * sound.close
    assert desk.market.refused == 1
    assert len(desk.poll(20)) == 20


def test_a_feed_of_which_everything_is_refused_opens_nothing_until_it_is_sound_again() -> None:
    feed = Crooked()
    desk = Desk(feed)
    desk.poll(3)
    feed.change = lambda candle: times(candle, 1000)
    assert desk.poll(DISTRUSTED_AFTER - 1) == []
    assert desk.status.get().halted == ()
    assert desk.poll(1) == []
    (why,) = desk.status.get().halted
    assert why.startswith("BOT-022: the feed")
    feed.change = lambda candle: candle
    assert len(desk.poll(1)) == 1
    assert desk.status.get().halted == ()


def test_candles_that_came_while_the_past_was_away_are_given_when_it_is_back() -> None:
    feed = Crooked()
    desk = Desk(feed)
    desk.poll(2)
    desk.minute += 3  # a gap: the last of these comes with candles missing before it
    feed.poll(NOON + timedelta(minutes=desk.minute - 1))
    feed.past_away = True
    assert desk.poll(1) == []
    assert desk.status.get().halted == ("BOT-020: the exchange does not answer",)
    feed.past_away = False
    given = desk.poll(1)
    assert len(given) == 2
    assert desk.status.get().halted == ()
    indexes = [candle.index for candle in desk.market.window]
    assert indexes == list(range(indexes[0], indexes[0] + WINDOW)), "unbroken"


def test_a_clock_that_was_put_back_is_said_until_it_has_caught_up() -> None:
    desk = Desk(Crooked())
    assert len(desk.poll(3)) == 3
    desk.minute -= 120
    desk.seconds = SILENT_CANDLES * 60
    assert desk.poll(1) == []
    assert desk.status.get().halted == ()
    desk.seconds += 1
    assert desk.poll(1) == []
    (why,) = desk.status.get().halted
    assert why.startswith("BOT-020: no candle for more than 180 s")
    assert "clock was put back" in why
    desk.minute += 120
    assert desk.poll(1)
    assert desk.status.get().halted == ()
