"""Market data: what a feed is, and the simulated one.

Everything that comes from here carries :data:`SIMULATED` as its venue, and whoever shows it shows that word.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from hashlib import blake2b
from typing import Protocol

SIMULATED = "SIMULATED"

_CYCLE = 1 << 32  # one turn of a wave, in phase units
_HALF = _CYCLE >> 1
_PPM = 1_000_000

# What a price is made of. (period in candles, amplitude in millionths of the base price). The first carries the
# trades: its amplitude swells and fades with _SWELL, so that a trend follower wins for a while and then pays its fees
# for a while.
_CARRIER = (17, 1_900)
_WAVES = ((43, 900), (131, 1_600), (977, 6_000), (7_919, 15_000))
_SWELL = (389, 650)  # period in candles, depth in thousandths of the carrier's amplitude
_WOBBLE = (61, 90)  # period in candles, depth in thousandths of a turn: trades do not come by the metronome
_NOISE_PPM = 160
_WICK_PPM = 200
_BASE_PRICE_CENTS = {"BTCUSDT": 6_000_000, "ETHUSDT": 300_000}
_OTHER_BASE_PRICE_CENTS = 10_000


@dataclass(frozen=True, slots=True)
class Candle:
    """What one interval traded at, in quote currency. ``index`` counts intervals since 1970-01-01 UTC."""

    venue: str
    symbol: str
    index: int
    open_time: datetime
    close_time: datetime
    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal
    volume: Decimal


class Feed(Protocol):
    """Where candles come from."""

    venue: str
    symbol: str
    interval_s: int

    def latest_closed(self, now: datetime) -> int:
        """Return the index of the newest candle that is complete at ``now`` (aware UTC)."""
        ...

    def candle(self, index: int) -> Candle:
        """Return the candle with that index."""
        ...


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

    venue = SIMULATED

    def __init__(self, *, seed: int, symbol: str, interval_s: int) -> None:
        self.seed = seed
        self.symbol = symbol
        self.interval_s = interval_s
        self._base_cents = _BASE_PRICE_CENTS.get(symbol, _OTHER_BASE_PRICE_CENTS)
        periods = [_CARRIER[0], _SWELL[0], _WOBBLE[0], *(period for period, _ in _WAVES)]
        self._phases = {period: self._hash(f"phase:{period}") % _CYCLE for period in periods}

    def latest_closed(self, now: datetime) -> int:
        """Return the index of the newest candle that is complete at ``now`` (aware UTC)."""
        return int(now.timestamp()) // self.interval_s - 1

    def candle(self, index: int) -> Candle:
        """Return candle ``index``; the same for ever."""
        opened, closed = self._close_cents(index - 1), self._close_cents(index)
        noise = self._hash(f"candle:{index}")
        up = self._base_cents * (noise % _WICK_PPM) // _PPM
        down = self._base_cents * ((noise >> 20) % _WICK_PPM) // _PPM
        open_time = datetime.fromtimestamp(index * self.interval_s, UTC)
        return Candle(
            venue=self.venue,
            symbol=self.symbol,
            index=index,
            open_time=open_time,
            close_time=open_time + timedelta(seconds=self.interval_s),
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
