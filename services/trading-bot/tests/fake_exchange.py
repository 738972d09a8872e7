"""A local HTTP server that answers as an exchange does, so that ccxt's own code for it reads real-shaped answers."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

OHLC = tuple[int, str, str, str, str, str]  # seconds, open, high, low, close, volume


@dataclass
class FakeExchange:
    """What the server says, and what it was asked. ``trouble`` replaces every answer: (status, content)."""

    url: str
    rows: list[OHLC] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    trouble: tuple[int, Any] | None = None

    def count(self, what: str) -> int:
        return sum(what in path for path in self.asked)

    def answer(self, path: str) -> Any:
        url = urlsplit(path)
        query = {key: values[0] for key, values in parse_qs(url.query).items()}
        match url.path:
            case "/0/public/AssetPairs":
                return {
                    "error": [],
                    "result": {"XXBTZUSD": _kraken_pair("XBT", "XXBT"), "XETHZUSD": _kraken_pair("ETH", "XETH")},
                }
            case "/0/public/Assets":
                return {"error": [], "result": {"XXBT": _kraken_asset("XBT"), "ZUSD": _kraken_asset("USD")}}
            case "/0/public/OHLC":
                since = int(query.get("since", 0))
                rows = [[*row[:5], row[4], row[5], 7] for row in self.rows if row[0] > since][-720:]
                return {"error": [], "result": {query["pair"]: rows, "last": rows[-1][0] if rows else since}}
            case "/api/v3/exchangeInfo":
                return {"timezone": "UTC", "serverTime": 0, "rateLimits": [], "symbols": [_binance_symbol()]}
            case "/api/v3/klines":
                start, limit = int(query.get("startTime", 0)), int(query.get("limit", 500))
                rows = [row for row in self.rows if row[0] * 1_000 >= start][:limit]
                return [
                    [t * 1_000, o, h, lo, c, v, t * 1_000 + 59_999, "1.0", 7, "0.5", "0.5", "0"]
                    for t, o, h, lo, c, v in rows
                ]
        raise AssertionError(f"nobody asks an exchange for {path}")


def _kraken_pair(base: str, base_id: str) -> dict[str, Any]:
    return {
        "altname": f"{base}USD", "wsname": f"{base}/USD", "aclass_base": "currency", "base": base_id,
        "aclass_quote": "currency", "quote": "ZUSD", "lot": "unit", "cost_decimals": 5, "pair_decimals": 1,
        "lot_decimals": 8, "lot_multiplier": 1, "leverage_buy": [2, 3], "leverage_sell": [2, 3],
        "fees": [[0, 0.4], [10000, 0.35]], "fees_maker": [[0, 0.25], [10000, 0.2]], "fee_volume_currency": "ZUSD",
        "margin_call": 80, "margin_stop": 40, "ordermin": "0.00005", "costmin": "0.5", "tick_size": "0.1",
        "status": "online",
    }  # fmt: skip


def _kraken_asset(altname: str) -> dict[str, Any]:
    return {"aclass": "currency", "altname": altname, "decimals": 10, "display_decimals": 5, "status": "enabled"}


def _binance_symbol() -> dict[str, Any]:
    return {
        "symbol": "BTCUSDT", "status": "TRADING", "baseAsset": "BTC", "baseAssetPrecision": 8, "quoteAsset": "USDT",
        "quotePrecision": 8, "quoteAssetPrecision": 8, "orderTypes": ["LIMIT", "MARKET"], "icebergAllowed": True,
        "isSpotTradingAllowed": True, "isMarginTradingAllowed": True, "permissions": ["SPOT"],
        "filters": [
            {"filterType": "PRICE_FILTER", "minPrice": "0.01", "maxPrice": "1000000.00", "tickSize": "0.01"},
            {"filterType": "LOT_SIZE", "minQty": "0.00001", "maxQty": "9000.0", "stepSize": "0.00001"},
        ],
    }  # fmt: skip


@contextmanager
def fake_exchange() -> Iterator[FakeExchange]:
    """Yield an exchange that listens on a free port of this machine."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            exchange.asked.append(self.path)
            status, content = exchange.trouble or (200, exchange.answer(self.path))
            body = content.encode() if isinstance(content, str) else json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Type", "text/html" if isinstance(content, str) else "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    exchange = FakeExchange(url=f"http://127.0.0.1:{server.server_address[1]}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield exchange
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
