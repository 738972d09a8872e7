"""The simulated market. Whatever comes from it carries ``SIMULATED`` as its venue, and is shown with that word."""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal
from hashlib import blake2b

from trading_bot.feeds import SIMULATED
from trading_bot.feeds.candles import Candle, latest_closed, open_time

CATCH_UP_CANDLES = 1_000  # what poll gives at most, however long nobody asked

_CYCLE = 1 << 32  # one turn of a wave, in phase units
_HALF = _CYCLE >> 1
_PPM = 1_000_000

# What a price is made of. (period in candles, amplitude in millionths of the base price). The first carries the
# trades: its amplitude swells and fades with _SWELL, so that a trend follower wins for a while and then pays its fees
# for a while.
_CARRIER = (19, 2_000)
_WAVES = ((43, 900), (131, 1_600), (977, 6_000), (7_919, 15_000))
_SWELL = (389, 650)  # period in candles, depth in thousandths of the carrier's amplitude
_WOBBLE = (61, 90)  # period in candles, depth in thousandths of a turn: trades do not come by the metronome
_NOISE_PPM = 160
_WICK_PPM = 200
_BASE_PRICE_CENTS = {"BTCUSDT": 6_000_000, "ETHUSDT": 300_000}
_OTHER_BASE_PRICE_CENTS = 10_000


class SimulatedFeed:
    """A market that exists in arithmetic only: any candle, at any time, from the seed alone.

    Candle ``index`` is a pure function of (seed, symbol, index): a mean-reverting sum of waves with seeded phases and
    hashed noise, computed in integers, so it is the same on every machine and a restarted bot finds the market where
    the clock is.

    Args:
        seed: any integer; another seed is another market.
        symbol: like ``BTCUSDT``; part of what is hashed.
        interval_s: length of a candle in seconds, at least 1.
    """

    name = "simulated"
    venue = SIMULATED
    simulated = True

    def __init__(self, *, seed: int, symbol: str, interval_s: int) -> None:
        self.seed = seed
        self.symbol = symbol
        self.interval_s = interval_s
        self._base_cents = _BASE_PRICE_CENTS.get(symbol, _OTHER_BASE_PRICE_CENTS)
        periods = [_CARRIER[0], _SWELL[0], _WOBBLE[0], *(period for period, _ in _WAVES)]
        self._phases = {period: self._hash(f"phase:{period}") % _CYCLE for period in periods}
        self._given: int | None = None  # the newest candle that poll gave

    def history(self, count: int, now: datetime) -> list[Candle]:
        """Return the last ``count`` candles closed at ``now``, oldest first."""
        newest = self.latest_closed(now)
        return [self.candle(index) for index in range(newest - count + 1, newest + 1)]

    def poll(self, now: datetime) -> list[Candle]:
        """Return the candles that closed since the last call; the newest one at the first call."""
        newest = self.latest_closed(now)
        first = newest if self._given is None else max(self._given + 1, newest - CATCH_UP_CANDLES + 1)
        self._given = newest if self._given is None else max(self._given, newest)
        return [self.candle(index) for index in range(first, newest + 1)]

    def close(self) -> None:
        """Nothing is held."""

    def latest_closed(self, now: datetime) -> int:
        """Return the index of the newest candle that is complete at ``now`` (aware UTC)."""
        return latest_closed(now, self.interval_s)

    def candle(self, index: int) -> Candle:
        """Return candle ``index``; the same for ever."""
        opened, closed = self._close_cents(index - 1), self._close_cents(index)
        noise = self._hash(f"candle:{index}")
        up = self._base_cents * (noise % _WICK_PPM) // _PPM
        down = self._base_cents * ((noise >> 20) % _WICK_PPM) // _PPM
        opens = open_time(index, self.interval_s)
        return Candle(
            venue=self.venue,
            symbol=self.symbol,
            index=index,
            open_time=opens,
            close_time=opens + timedelta(seconds=self.interval_s),
            open=_money(opened),
            high=_money(max(opened, closed) + up),
            low=_money(min(opened, closed) - down),
            close=_money(closed),
            volume=Decimal(100 + (noise >> 40) % 4_900).scaleb(-3),
        )

    def _close_cents(self, index: int) -> int:
        """Closing price in cents."""
        wobble = _wave(index * (_CYCLE // _WOBBLE[0]) + self._phases[_WOBBLE[0]]) * _WOBBLE[1] // 1_000
        carrier = _wave(index * (_CYCLE // _CARRIER[0]) + self._phases[_CARRIER[0]] + wobble)
        swell = 1_000 + _wave(index * (_CYCLE // _SWELL[0]) + self._phases[_SWELL[0]]) * _SWELL[1] // _HALF
        ppm = carrier * _CARRIER[1] // _HALF * swell // 1_000
        for period, amplitude in _WAVES:
            ppm += _wave(index * (_CYCLE // period) + self._phases[period]) * amplitude // _HALF
        ppm += self._hash(f"noise:{index}") % (2 * _NOISE_PPM + 1) - _NOISE_PPM
        return self._base_cents + self._base_cents * ppm // _PPM

    def _hash(self, what: str) -> int:
        digest = blake2b(f"{self.seed}:{self.symbol}:{what}".encode(), digest_size=8).digest()
        return int.from_bytes(digest, "big")


def _wave(phase: int) -> int:
    """A sine drawn with two parabolas, in integers: ``phase`` in turns of _CYCLE, result within ±_HALF."""
    x = phase % _CYCLE - _HALF
    return 4 * x * (_HALF - abs(x)) // _HALF


def _money(cents: int) -> Decimal:
    return Decimal(cents).scaleb(-2)
