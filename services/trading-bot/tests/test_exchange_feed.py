"""The exchange's candles, read by ccxt's own code from a server that answers as Kraken and as Binance do."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from fake_exchange import OHLC, FakeExchange, fake_exchange
from tradedb.errors import SwitchyardError
from trading_bot.feeds.exchange import ExchangeFeed, exchange_names
from trading_bot.feeds.opening import open_feed
from trading_bot.feeds.screen import Refusal, Screen
from trading_bot.settings import BotSettings

NOON = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)
NOON_S = int(NOON.timestamp())


def row(minute: int, close: str = "87000.1", **changes: str) -> OHLC:
    """A candle that opens ``minute`` minutes after noon."""
    values = {"open": "87000.0", "high": "87001.0", "low": "86999.9", "close": close, "volume": "1.28681415", **changes}
    return (NOON_S + 60 * minute, *values.values())  # pyright: ignore[reportReturnType]


def at(minute: int, second: int = 1) -> datetime:
    return NOON + timedelta(minutes=minute, seconds=second)


@pytest.fixture
def exchange() -> Iterator[FakeExchange]:
    with fake_exchange() as running:
        running.rows = [row(minute) for minute in range(-10, 1)]  # the one of 12:00 is still open
        yield running


@pytest.fixture
def feed(exchange: FakeExchange) -> Iterator[ExchangeFeed]:
    settings = BotSettings(
        bot_feed="ccxt", bot_exchange="kraken", bot_exchange_url=exchange.url, bot_symbol="BTCUSD",
        bot_candle_interval_s=60,
    )  # fmt: skip
    feed = open_feed(settings)
    assert isinstance(feed, ExchangeFeed)
    feed._ccxt.enableRateLimit = False  # the server is ours
    yield feed
    feed.close()


def test_history_is_what_was_sent_to_the_last_digit_without_the_candle_that_is_still_open(
    feed: ExchangeFeed, exchange: FakeExchange
) -> None:
    candles = feed.history(5, at(0))
    assert [candle.open_time for candle in candles] == [NOON + timedelta(minutes=m) for m in range(-5, 0)]
    last = candles[-1]
    assert (last.venue, last.symbol, last.index) == ("PAPER-KRAKEN", "BTCUSD", NOON_S // 60 - 1)
    assert last.close_time == NOON
    values = (last.open, last.high, last.low, last.close, last.volume)
    assert tuple(map(str, values)) == ("87000.0", "87001.0", "86999.9", "87000.1", "1.28681415")
    assert not feed.simulated
    assert len(feed.history(500, at(0))) == 10  # no more are there
    assert exchange.count("AssetPairs") == 1
    assert list(feed._ccxt.markets) == ["BTC/USD"]  # the list of markets is not kept


def test_poll_gives_each_candle_once_and_asks_only_when_one_is_due(feed: ExchangeFeed, exchange: FakeExchange) -> None:
    assert [candle.close_time for candle in feed.poll(at(0))] == [NOON]
    asked = exchange.count("OHLC")
    assert feed.poll(at(0, 30)) == []
    assert exchange.count("OHLC") == asked
    exchange.rows += [row(1), row(2), row(3), row(4)]
    assert [candle.open_time for candle in feed.poll(at(3))] == [NOON, NOON + timedelta(minutes=1), at(2, 0)]
    assert feed.poll(at(3, 2)) == []


def test_a_candle_that_is_not_published_yet_is_asked_for_again_but_not_all_the_time(
    feed: ExchangeFeed, exchange: FakeExchange
) -> None:
    feed.poll(at(0))
    asked = exchange.count("OHLC")
    del exchange.rows[-1]
    assert [feed.poll(at(1, second)) for second in (0, 1, 2, 3, 4)] == [[]] * 5
    assert exchange.count("OHLC") == asked + 1
    exchange.rows += [row(0)]
    assert len(feed.poll(at(1, 5))) == 1


def test_an_exchange_that_answers_and_says_nothing_is_not_taken_for_a_quiet_market(
    feed: ExchangeFeed, exchange: FakeExchange
) -> None:
    feed.poll(at(0))
    exchange.rows = exchange.rows[:-1]
    assert [feed.poll(at(minute)) for minute in range(1, 10)] == [[]] * 9
    with pytest.raises(SwitchyardError) as caught:
        feed.poll(at(10))
    assert caught.value.code == "BOT-020"
    assert caught.value.what == "kraken has published no candle of BTCUSD since 2026-01-01T12:00:00+00:00"
    exchange.rows += [row(10)]
    assert len(feed.poll(at(11))) == 1


def test_pages_of_a_long_past_join_without_a_seam(feed: ExchangeFeed, exchange: FakeExchange) -> None:
    exchange.rows = [row(minute) for minute in range(-700, 1)]
    candles = list(feed.between(at(-700, 0), at(0)))
    assert [candle.index for candle in candles] == list(range(NOON_S // 60 - 700, NOON_S // 60))
    assert exchange.count("OHLC") == 2


@pytest.mark.parametrize(
    ("trouble", "code", "said"),
    [
        ((503, "<html>down for maintenance</html>"), "BOT-020", "kraken gives no candles of BTCUSD"),
        ((200, "<html>welcome to the café's network</html>"), "BOT-020", "what answered is no exchange: <html>welcome"),
        ((200, {"error": 17, "result": {}}), "BOT-020", "kraken gives no candles of BTCUSD"),
        ((200, {"error": ["EAPI:Rate limit exceeded"]}), "BOT-020", "DDoSProtection"),
        ((200, {"error": ["EService:Unavailable"]}), "BOT-020", "ExchangeNotAvailable"),
        ((200, {"error": ["EGeneral:Permission denied"]}), "BOT-021", "kraken refuses to give candles of BTCUSD"),
        ((200, {"error": ["EQuery:Unknown asset pair"]}), "BOT-021", "kraken refuses to give candles of BTCUSD"),
    ],
)
def test_trouble_has_a_name_and_is_over_when_it_is_over(
    feed: ExchangeFeed, exchange: FakeExchange, trouble: tuple[int, Any], code: str, said: str
) -> None:
    feed.history(1, at(-1))
    exchange.trouble = trouble
    with pytest.raises(SwitchyardError) as caught:
        feed.poll(at(0))
    assert (caught.value.code, caught.value.exit_code) == (code, 69 if code == "BOT-020" else 78)
    assert said in f"{caught.value.what} {caught.value.why}"
    assert len(caught.value.why) < 300
    asked = len(exchange.asked)
    for second in (2, 3, 4):  # a pause between two requests is no answer
        with pytest.raises(SwitchyardError, match=code):
            feed.poll(at(0, second))
    assert len(exchange.asked) == asked
    exchange.trouble = None
    assert [candle.close_time for candle in feed.poll(at(0, 30))] == [NOON]


def test_an_exchange_that_is_away_is_unreachable_not_a_defect() -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{nobody.getsockname()[1]}"
        feed = ExchangeFeed("kraken", symbol="BTCUSD", interval_s=60, url=url)
        with pytest.raises(SwitchyardError) as caught:
            feed.poll(at(0))
        feed.close()
    assert caught.value.code == "BOT-020"


def test_what_an_exchange_gets_wrong_is_refused_by_the_screen(feed: ExchangeFeed, exchange: FakeExchange) -> None:
    said: list[Refusal] = []
    screen = Screen(feed, said.append)
    assert len(screen.poll(at(0))) == 1
    exchange.rows += [row(1, low="0"), row(2, "87000100", high="87000100"), row(3, volume=""), row(4), row(5)]
    assert [candle.open_time for candle in screen.poll(at(5))] == [NOON, at(4, 0)]
    assert [(refusal.reason, refusal.candle.open_time) for refusal in said] == [
        ("absurd", at(1, 0)),
        ("jump", at(2, 0)),
        ("absurd", at(3, 0)),
        ("gap", at(4, 0)),
    ]


def test_another_exchange_is_another_name() -> None:
    with fake_exchange() as binance:
        binance.rows = [row(minute, "87000.12") for minute in range(-3, 1)]
        feed = ExchangeFeed("binance", symbol="BTCUSDT", interval_s=60, url=f"{binance.url}/")
        feed._ccxt.enableRateLimit = False
        candles = feed.poll(at(0)) + feed.history(3, at(0))
        feed.close()
        assert [(candle.venue, str(candle.close)) for candle in candles] == [("PAPER-BINANCE", "87000.12")] * 4
        # only the spot market was asked for, not the futures and options
        assert {path.split("?")[0] for path in binance.asked} == {"/api/v3/exchangeInfo", "/api/v3/klines"}


@pytest.mark.parametrize(
    ("exchange_name", "interval_s", "said"),
    [
        ("krakn", 60, "ccxt knows no exchange 'krakn'"),
        ("base", 60, "ccxt knows no exchange 'base'"),
        ("kraken", 2, "kraken has no candles of 2 s"),
    ],
)
def test_what_there_is_not_is_refused_at_the_start(exchange_name: str, interval_s: int, said: str) -> None:
    with pytest.raises(SwitchyardError) as caught:
        ExchangeFeed(exchange_name, symbol="BTCUSD", interval_s=interval_s)
    assert (caught.value.code, caught.value.what, caught.value.exit_code) == ("BOT-021", said, 78)
    assert "kraken" in caught.value.why or "60, 300" in caught.value.why or "It knows" in caught.value.why


def test_a_market_there_is_not_names_the_nearest(exchange: FakeExchange) -> None:
    feed = ExchangeFeed("kraken", symbol="BTCUSDT", interval_s=60, url=exchange.url)
    feed._ccxt.enableRateLimit = False
    with pytest.raises(SwitchyardError) as caught:
        feed.history(1, at(0))
    feed.close()
    assert caught.value.what == "kraken has no spot market BTCUSDT"
    assert "BTCUSD" in caught.value.why


LOADED = """
import json, sys
import trading_bot.service
from trading_bot.feeds.opening import open_feed
from trading_bot.settings import BotSettings

def loaded():
    return sorted(name for name in sys.modules if name.split(".")[0] in ("ccxt", "requests", "pyarrow", "pygal"))

open_feed(BotSettings())
at_rest = loaded()
open_feed(BotSettings(bot_feed="ccxt", bot_candle_interval_s=60)).close()
print(json.dumps([at_rest, loaded()]))
"""


def test_the_bot_loads_no_exchange_that_it_does_not_use() -> None:
    said = subprocess.run(
        [sys.executable, "-c", LOADED], capture_output=True, text=True, timeout=120, check=True
    ).stdout
    at_rest, with_kraken = json.loads(said)
    assert at_rest == []
    assert "ccxt.kraken" in with_kraken
    assert not [name for name in with_kraken if name.startswith("ccxt.") and name.split(".")[1] in OTHERS]
    # what stood in for the package is gone: whoever imports ccxt later gets the real one
    assert "ccxt" not in with_kraken


OTHERS = {*exchange_names()} - {"kraken"}
