"""What DatabaseManager adds to a durable write: one trade, one transaction, one fsync.

    .venv/bin/python benchmarks/durable_write.py [--writes 3000] [--json]

Both ways write the same row to the same throw-away server (`fsync` on), one connection each, in turns, so that whatever
the disk and the machine do hits both: a bare psycopg2 `execute` + `commit`, and `DatabaseManager.transaction` (pool
checkout, liveness check, deadline, SQLAlchemy Core, commit). The order within a turn alternates. Latencies are of the
whole call, as the bot waits for it. The goal is a p99 ratio of at most 1.3.
"""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import sys
import time
from collections.abc import Callable
from datetime import datetime
from decimal import Decimal
from typing import Any

import psycopg2
from sqlalchemy import Connection, insert
from tradedb.manager import DatabaseManager
from tradedb.models import Trade
from tradedb.testing import migrated_database, throwaway_server

GOAL = 1.3
WHEN = datetime(2026, 1, 1, 12, 0, 0)  # noqa: DTZ001  the original tables have no zone
ROW: dict[str, Any] = {
    "symbol": "BTCUSDT", "side": "LONG", "source": "PAPER", "entry_price": Decimal("64123.45"),
    "exit_price": Decimal("64321.54"), "size": Decimal("0.1"), "quantity": Decimal("0.0015"), "entry_time": WHEN,
    "exit_time": WHEN, "pnl": Decimal("0.29713500"), "pnl_percent": 0.3089, "commission": Decimal("0.00964"),
    "exit_reason": "cross", "strategy_name": "ma_cross", "exchange": "SIMULATED", "timeframe": "1m",
}  # fmt: skip
SQL = f"INSERT INTO trades ({', '.join(ROW)}, order_id) VALUES ({', '.join(['%s'] * (len(ROW) + 1))})"
STATEMENT = insert(Trade)


def percentile(values: list[float], share: float) -> float:
    """Return the value that `share` of the sorted values do not exceed, in milliseconds."""
    return sorted(values)[min(len(values) - 1, int(len(values) * share))] * 1000


def measure(writes: int, warm_up: int) -> dict[str, Any]:
    """Return both ways' latencies in milliseconds, and their ratios."""
    with throwaway_server(durable=True) as server, migrated_database(server) as database:
        raw = psycopg2.connect(database.url_text("trading_bot"))
        manager = DatabaseManager(database.url("trading_bot"), service="benchmark")

        def raw_write(key: str) -> None:
            with raw.cursor() as cursor:
                cursor.execute(SQL, (*ROW.values(), key))
            raw.commit()

        def managed_write(key: str) -> None:
            def work(connection: Connection) -> None:
                connection.execute(STATEMENT, {**ROW, "order_id": key})

            manager.transaction(work, name="record trade")

        ways: dict[str, Callable[[str], None]] = {"raw": raw_write, "manager": managed_write}
        took: dict[str, list[float]] = {name: [] for name in ways}
        gc.collect()
        for turn in range(-warm_up, writes):
            for name in list(ways) if turn % 2 else list(reversed(ways)):
                started = time.perf_counter()
                ways[name](f"{name}-{turn}")
                if turn >= 0:
                    took[name].append(time.perf_counter() - started)
        raw.close()
        manager.dispose()
        stored = database.execute("SELECT count(*), count(DISTINCT order_id) FROM trades")[0]
        if stored != (2 * (writes + warm_up),) * 2:
            sys.exit(f"expected {2 * (writes + warm_up)} trades, found {stored}")
        version = database.execute("SELECT current_setting('server_version'), current_setting('fsync')")[0]
    result: dict[str, Any] = {"schema_version": 1, "writes": writes, "server_version": version[0], "fsync": version[1]}
    for name, values in took.items():
        result[name] = {
            "p50_ms": round(percentile(values, 0.5), 3),
            "p99_ms": round(percentile(values, 0.99), 3),
            "mean_ms": round(statistics.fmean(values) * 1000, 3),
        }
    result["p50_ratio"] = round(result["manager"]["p50_ms"] / result["raw"]["p50_ms"], 3)
    result["p99_ratio"] = round(result["manager"]["p99_ms"] / result["raw"]["p99_ms"], 3)
    result["goal_p99_ratio"] = GOAL
    return result


def main() -> None:
    """Print the figures; exit 1 when the goal is missed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--writes", type=int, default=3000, help="of each way (default 3000)")
    parser.add_argument("--warm-up", type=int, default=200, help="of each way, not counted (default 200)")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    arguments = parser.parse_args()
    result = measure(arguments.writes, arguments.warm_up)
    if arguments.json:
        print(json.dumps(result))
    else:
        print(f"{result['writes']} durable writes each, PostgreSQL {result['server_version']}, fsync {result['fsync']}")
        for name in ("raw", "manager"):
            figures = result[name]
            print(f"  {name:<8} p50 {figures['p50_ms']:7.3f} ms   p99 {figures['p99_ms']:7.3f} ms")
        print(f"  ratio    p50 {result['p50_ratio']:7.3f}      p99 {result['p99_ratio']:7.3f}   (goal {GOAL})")
    sys.exit(0 if result["p99_ratio"] <= GOAL else 1)


if __name__ == "__main__":
    main()
