"""An exchange's public prices, through ccxt: no key, no orders. Orders on these prices are paper all the same.

``import ccxt`` loads a hundred exchanges, 68 MB of them; the one that is wanted is a module of its own and takes 32 MB.
Nothing of ccxt is loaded before a feed of this kind is made.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from decimal import Decimal, InvalidOperation
from difflib import get_close_matches
from importlib import import_module
from importlib.util import find_spec, module_from_spec
from pkgutil import iter_modules
from typing import Any, TypeVar

from tradedb.errors import EXIT_CONFIG, EXIT_UNREACHABLE, SwitchyardError

from trading_bot.feeds.candles import Candle, latest_closed, open_time
from trading_bot.feeds.simulated import CATCH_UP_CANDLES

T = TypeVar("T")

REQUEST_TIMEOUT_S = 4.0  # the loop waits for it, and must renew its lease in between
PAGE_CANDLES = 500
SILENT_CANDLES = 10  # due one after the other and none of them published: that is no quiet market
_NAN = Decimal("NaN")
_NOT_EXCHANGES = {"abstract", "async_support", "base", "pro", "static_dependencies", "test", "prediction", "protobuf"}


class ExchangeFeed:
    """Candles of one spot market, as its exchange publishes them.

    Args:
        exchange: ccxt's name for it, like ``kraken``.
        symbol: base and quote in one word, like ``BTCUSDT``.
        interval_s: length of a candle in seconds; one that the exchange has.
        url: scheme and host that stand in for the exchange's own.

    Raises: SwitchyardError BOT-021, there is no such exchange or it has no such candles. Nothing is sent yet.
    """

    name = "ccxt"
    simulated = False

    def __init__(self, exchange: str, *, symbol: str, interval_s: int, url: str | None = None) -> None:
        self.venue = f"PAPER-{exchange.upper()}"
        self.symbol = symbol
        self.interval_s = interval_s
        self.exchange = exchange
        self._ccxt = _exchange_class(exchange)(
            {"enableRateLimit": True, "timeout": int(REQUEST_TIMEOUT_S * 1_000), "options": {"defaultType": "spot"}}
        )
        self._ccxt.number = str  # prices as they were sent, never as binary floats
        self._errors = import_module("ccxt.base.errors")
        if url is not None:
            self._ccxt.urls["api"] = _at(url.rstrip("/"), self._ccxt.urls["api"])
        wanted = self._ccxt.options.get("fetchMarkets")
        if isinstance(wanted, dict) and "types" in wanted:
            wanted["types"] = ["spot"]  # not its thousands of futures and options
        self._timeframe = self._timeframe_of(interval_s)
        self._market: str | None = None
        self._given: int | None = None  # the newest candle that poll gave
        self._heard: int | None = None  # the same, or the one before the first that was asked for
        self._ask_again_at: datetime | None = None
        self._failure: SwitchyardError | None = None

    def history(self, count: int, now: datetime) -> list[Candle]:
        """Return the last ``count`` candles closed at ``now``, oldest first; fewer where the exchange has fewer."""
        newest = latest_closed(now, self.interval_s)
        return list(self._pages(newest - count + 1, newest))[-count:]

    def poll(self, now: datetime) -> list[Candle]:
        """Return the candles that closed since the last call; the newest one at the first call.

        The exchange is asked only when a candle is due, and again in a while when it did not have it yet. Until then a
        failure stays one: nobody takes the pause for an answer.
        """
        newest = latest_closed(now, self.interval_s)
        if self._given is not None and newest <= self._given:
            return []
        if self._ask_again_at is not None and now < self._ask_again_at:
            if self._failure is not None:
                raise self._failure.with_traceback(None)
            return []
        self._heard = newest - 1 if self._heard is None else self._heard
        first = newest if self._given is None else max(self._given + 1, newest - CATCH_UP_CANDLES + 1)
        self._ask_again_at = now + timedelta(seconds=min(max(self.interval_s / 12, 1), 10))
        try:
            candles = [candle for candle in self._fetch(first, newest - first + 1) if first <= candle.index <= newest]
            if not candles and newest - self._heard >= SILENT_CANDLES:
                raise self._silent(open_time(self._heard + 1, self.interval_s))
        except SwitchyardError as error:
            self._failure = error
            raise
        self._failure = None
        if candles:
            self._given = self._heard = max(candle.index for candle in candles)
            self._ask_again_at = None
        return candles

    def between(self, start: datetime, end: datetime) -> Iterator[Candle]:
        """Yield the candles that open from ``start`` on and close until ``end``, as far as the exchange has them."""
        first = -(-int(start.timestamp()) // self.interval_s)
        yield from self._pages(first, latest_closed(end, self.interval_s))

    def close(self) -> None:
        """Close the connections."""
        session = getattr(self._ccxt, "session", None)
        if session is not None:
            session.close()

    # --- asking -------------------------------------------------------------------------------------------------------

    def _pages(self, first: int, last: int) -> Iterator[Candle]:
        """Yield candles ``first`` to ``last``, one request for each page."""
        while first <= last:
            page = [c for c in self._fetch(first, min(PAGE_CANDLES, last - first + 1)) if c.index >= first]
            yield from (candle for candle in page if candle.index <= last)
            if not page:
                return
            first = max(candle.index for candle in page) + 1

    def _fetch(self, first: int, count: int) -> list[Candle]:
        """Return what the exchange says about the candles from ``first`` on: at least ``count``, where it has them."""
        since_ms = first * self.interval_s * 1_000
        market = self._market_name()
        rows = self._ask(lambda: self._ccxt.fetch_ohlcv(market, self._timeframe, since=since_ms, limit=count))
        if not rows:
            self._ask(self._said_so)
        return [self._candle(row) for row in rows if row and row[0] is not None]

    def _said_so(self) -> None:
        """See that an empty answer was one: of a web page, like that of a café's network, ccxt makes no candles either.

        Raises: ValueError, what came was no JSON.
        """
        answer = self._ccxt.last_http_response
        if self._ccxt.parse_json(answer) is None:
            raise ValueError(f"what answered is no exchange: {answer}")

    def _candle(self, row: list[Any]) -> Candle:
        time_ms = int(row[0])
        index = time_ms // 1_000 // self.interval_s
        opens = open_time(0, 1) + timedelta(milliseconds=time_ms)
        opened, high, low, close, volume = (_number(value) for value in (*row[1:6], *[None] * (6 - len(row))))
        return Candle(
            venue=self.venue,
            symbol=self.symbol,
            index=index,
            open_time=opens,
            close_time=opens + timedelta(seconds=self.interval_s),
            open=opened,
            high=high,
            low=low,
            close=close,
            volume=volume,
        )

    def _market_name(self) -> str:
        """Return ccxt's name for the market; the exchange's list of them is read once."""
        if self._market is None:
            markets: dict[str, Any] = self._ask(self._ccxt.load_markets)
            spot = [market for market in markets.values() if market.get("spot") and market.get("active") is not False]
            found = [market for market in spot if f"{market['base']}{market['quote']}" == self.symbol]
            if not found:
                names = sorted(f"{market['base']}{market['quote']}" for market in spot)
                near = get_close_matches(self.symbol, names, n=3, cutoff=0.5) or names[:3]
                raise _misset(
                    f"{self.exchange} has no spot market {self.symbol}",
                    f"Of its {len(names)}, the nearest are: {', '.join(near)}.",
                    "set BOT_SYMBOL (or --symbol) to base and quote in one word, like BTCUSDT",
                )
            self._ccxt.set_markets(found[:1])  # the others are megabytes that nobody asks for again
            self._market = str(found[0]["symbol"])
        return self._market

    def _timeframe_of(self, interval_s: int) -> str:
        known = {int(self._ccxt.parse_timeframe(name)): name for name in self._ccxt.timeframes or {}}
        if not self._ccxt.has.get("fetchOHLCV") or interval_s not in known:
            lengths = ", ".join(str(seconds) for seconds in sorted(known)) or "none"
            raise _misset(
                f"{self.exchange} has no candles of {interval_s} s",
                f"Those that it has are, in seconds: {lengths}.",
                "set BOT_CANDLE_INTERVAL_S (or --interval-s) to one of them",
            )
        return known[interval_s]

    def _ask(self, request: Callable[[], T]) -> T:
        """Send a request; give its failure a name."""
        errors = self._errors
        try:
            return request()
        except (errors.OperationFailed, errors.ExchangeClosedByUser) as error:
            raise self._unreachable(error) from error
        except errors.BaseError as error:
            raise _misset(
                f"{self.exchange} refuses to give candles of {self.symbol}",
                f"{type(error).__name__}: {_short(error)}",
                "see what the exchange says; another one is a matter of BOT_EXCHANGE",
            ) from error
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
            # ccxt takes answers apart without looking: one of a wrong shape ends anywhere in it
            raise self._unreachable(error) from error

    def _silent(self, since: datetime) -> SwitchyardError:
        return SwitchyardError(
            "BOT-020",
            f"{self.exchange} has published no candle of {self.symbol} since {since.isoformat()}",
            why="It answers, and has nothing new: the market may be halted, or nobody trades there.",
            fix="see the market on the exchange's own pages; the bot asks again by itself",
            exit_code=EXIT_UNREACHABLE,
        )

    def _unreachable(self, error: Exception) -> SwitchyardError:
        return SwitchyardError(
            "BOT-020",
            f"{self.exchange} gives no candles of {self.symbol}: {type(error).__name__}",
            why=_short(error),
            fix="nothing, when it is passing: the bot asks again by itself. Else look at the exchange's status page, "
            "and at the network",
            exit_code=EXIT_UNREACHABLE,
        )


def exchange_names() -> list[str]:
    """Return the exchanges that the installed ccxt knows."""
    spec = find_spec("ccxt")
    paths = spec.submodule_search_locations if spec else None
    return sorted(module.name for module in iter_modules(paths) if module.name not in _NOT_EXCHANGES)


def _exchange_class(name: str) -> Callable[[dict[str, Any]], Any]:
    """Return the class of one exchange, without loading the others."""
    if name not in exchange_names():
        near = get_close_matches(name, exchange_names(), n=3, cutoff=0.5)
        raise _misset(
            f"ccxt knows no exchange {name!r}",
            f"It knows {len(exchange_names())}" + (f", among them {', '.join(near)}." if near else "."),
            "set BOT_EXCHANGE (or --exchange) to ccxt's name for it, like kraken or binance",
        )
    if "ccxt" in sys.modules:
        return getattr(import_module(f"ccxt.{name}"), name)
    spec = find_spec("ccxt")
    if spec is None:
        raise ModuleNotFoundError("ccxt")
    # The package's own __init__ is what loads the other exchanges. A bare package stands in for it while the one module
    # is loaded, and is taken away again: who says `import ccxt` later gets the real one.
    sys.modules["ccxt"] = module_from_spec(spec)
    try:
        return getattr(import_module(f"ccxt.{name}"), name)
    finally:
        del sys.modules["ccxt"]


def _at(url: str, urls: Any) -> Any:
    """Return an exchange's addresses with another scheme and host."""
    if isinstance(urls, dict):
        return {key: _at(url, value) for key, value in urls.items()}
    return re.sub(r"^https?://[^/]+", url, urls) if isinstance(urls, str) else urls


def _number(value: Any) -> Decimal:
    """A value as it was sent; NaN for one that is missing or no number, which the screen refuses."""
    try:
        return Decimal(str(value))
    except InvalidOperation:
        return _NAN


def _short(error: Exception) -> str:
    """An error's words in one line: some exchanges answer with a whole page."""
    text = " ".join(str(error).split())
    return f"{text[:200]}…" if len(text) > 200 else text or "It gave no reason."


def _misset(what: str, why: str, fix: str) -> SwitchyardError:
    return SwitchyardError("BOT-021", what, why=why, fix=fix, exit_code=EXIT_CONFIG)
