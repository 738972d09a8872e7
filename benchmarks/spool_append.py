"""What the spool adds to a durable append: one fact, one record, one fdatasync.

    .venv/bin/python benchmarks/spool_append.py [--writes 3000] [--folder DIR] [--json]

Both ways put the same number of bytes at the end of a file of their own in the same folder, in turns, so that whatever
the disk and the machine do hits both: a bare `write` + `fdatasync`, and `Spool.append` (JSON, checksums, the index in
memory). The goal is a p50 ratio of at most 1.5. Then everything is acknowledged in groups of ten and read back, as
after an outage.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from durable_write import percentile
from trading_bot.spool import Spool

GOAL = 1.5
BODY = {
    "venue": "SIMULATED", "venue_trade_id": "paper-0dca1550334e6c288bd97d0086cd3dfa",
    "intent_id": "b1fb455904e1d7cb9c874305e4c6cee1", "symbol": "BTCUSDT", "side": "BUY", "price": "60452.87",
    "quantity": "0.048333", "fee": "1.16874743", "fee_currency": "USDT", "filled_at": "2026-01-01T12:00:00+00:00",
}  # fmt: skip
KEY = f"{BODY['venue']}/{BODY['venue_trade_id']}"


def measure(writes: int, warm_up: int, folder: Path) -> dict[str, Any]:
    """Return both ways' latencies in milliseconds, their ratio, and how fast a spool is read back."""
    spool = Spool(folder / "spool")
    spool.open()
    spool.append("fill", KEY, {**BODY, "sequence": 0})
    record = bytes(spool.state().disk_bytes)
    raw = os.open(folder / "raw", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def raw_append(_: int) -> None:
        os.write(raw, record)
        os.fdatasync(raw)

    def spool_append(number: int) -> None:
        spool.append("fill", KEY, {**BODY, "sequence": number})

    ways: dict[str, Callable[[int], None]] = {"raw": raw_append, "spool": spool_append}
    took: dict[str, list[float]] = {name: [] for name in ways}
    gc.collect()
    for turn in range(-warm_up, writes):
        for name in list(ways) if turn % 2 else list(reversed(ways)):
            started = time.perf_counter()
            ways[name](turn)
            if turn >= 0:
                took[name].append(time.perf_counter() - started)
    os.close(raw)
    spool.close()

    result: dict[str, Any] = {"schema_version": 1, "writes": writes, "record_bytes": len(record)}
    for name, values in took.items():
        result[name] = {"p50_ms": round(percentile(values, 0.5), 3), "p99_ms": round(percentile(values, 0.99), 3)}
    for share in ("p50", "p99"):
        result[f"{share}_ratio"] = round(result["spool"][f"{share}_ms"] / result["raw"][f"{share}_ms"], 3)
    result["goal_p50_ratio"] = GOAL

    started = time.perf_counter()
    opened = spool.open()
    waiting = [entry.number for entry in spool.unacknowledged()]
    result["entries_read_back_per_s"] = round(len(waiting) / (time.perf_counter() - started))
    if len(waiting) != 1 + warm_up + writes or opened.torn_bytes:
        sys.exit(f"expected {1 + warm_up + writes} entries, found {len(waiting)}")
    started = time.perf_counter()
    for at in range(0, len(waiting), 10):
        spool.acknowledge(waiting[at : at + 10], "server")
    result["entries_acknowledged_per_s"] = round(len(waiting) / (time.perf_counter() - started))
    spool.close()
    return result


def main() -> None:
    """Print the figures; exit 1 when the goal is missed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--writes", type=int, default=3000, help="of each way (default 3000)")
    parser.add_argument("--warm-up", type=int, default=200, help="of each way, not counted (default 200)")
    parser.add_argument("--folder", type=Path, help="on the disk to measure (default: the system's temporary folder)")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        result = measure(arguments.writes, arguments.warm_up, Path(folder))
    if arguments.json:
        print(json.dumps(result))
    else:
        print(f"{result['writes']} durable appends each, {result['record_bytes']} bytes a record")
        for name in ("raw", "spool"):
            print(f"  {name:<6} p50 {result[name]['p50_ms']:7.3f} ms   p99 {result[name]['p99_ms']:7.3f} ms")
        print(f"  ratio  p50 {result['p50_ratio']:7.3f}      p99 {result['p99_ratio']:7.3f}   (goal p50 {GOAL})")
        print(
            f"  read back {result['entries_read_back_per_s']:,}/s, acknowledged by tens "
            f"{result['entries_acknowledged_per_s']:,}/s"
        )
    sys.exit(0 if result["p50_ratio"] <= GOAL else 1)


if __name__ == "__main__":
    main()
