"""F5, F6, F7, F8, F9: what lies between a bot and its server is cut, slow, or hangs up."""

from __future__ import annotations

import re
import threading
import time
from typing import Any

import pytest
from tradedb.testing_proxy import tcp_proxy
from watch import until

from faults.bench import Bench
from faults.checker import longest_call
from faults.places.embedded import EmbeddedPlace
from faults.places.network import NetworkPlace
from faults.plugin import NewBench, Tier

TTL_S = 6.0
pytestmark = [pytest.mark.targets("embedded"), pytest.mark.needs("network")]


def _writer(bench: Bench, place: NetworkPlace, kind: str, where: str, **more: Any) -> str:
    name = f"{kind}-{where}"
    bench.start(kind, name, where=where, url=place.url_through(bench.database, where), **more)
    return name


@pytest.mark.fault("F5", "no-tcp-user-timeout")
def test_a_commit_into_a_partition_ends_with_its_segment(new_bench: NewBench, network: NetworkPlace) -> None:
    """Data in flight is not acknowledged any more: tcp_user_timeout (6 s) ends it, long before the deadline (10 s)."""
    bench = new_bench(network)
    writers = [_writer(bench, network, kind, "a", retry=False) for kind in ("rows", "trades")]
    for name in writers:
        bench.wait_written(20, name)
    with bench.fault("partition"), network.cables["a"].cut():
        time.sleep(14)
    bench.wait_written(50, *writers)
    history, _ = bench.finish()
    took, op = longest_call(history)
    assert took < 9.5, f"the longest call lasted {took:.1f} s: {op}"
    assert took > 4, "nothing was in flight when the network was cut"


@pytest.mark.fault("F6", "no-bound")
def test_waiting_for_an_answer_ends_in_a_partition(new_bench: NewBench, network: NetworkPlace) -> None:
    """Everything sent was acknowledged and the server is at work: only keepalives and the deadline notice."""
    bench = new_bench(network)
    name = _writer(bench, network, "rows", "a", retry=False)
    bench.wait_written(20, name)
    locked = threading.Event()

    def hold() -> None:
        locked.set()
        bench.database.execute("BEGIN; LOCK TABLE order_intents; SELECT pg_sleep(3); COMMIT")

    holder = threading.Thread(target=hold)
    holder.start()
    locked.wait()
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'trading_bot' AND wait_event_type = 'Lock'"
    until(lambda: bench.database.value(waiting), 20, "the writer waits for the lock", every_s=0.05)
    time.sleep(0.5)  # its last segment is acknowledged
    with bench.fault("partition"), network.cables["a"].cut():
        time.sleep(15)
        holder.join()
    bench.wait_written(50, name)
    bench.finish()


@pytest.mark.fault("F7", "no-epoch-test")
def test_the_bot_on_the_wrong_side_of_a_partition_is_replaced(new_bench: NewBench, network: NetworkPlace) -> None:
    """The other one leads within TTL + 5 s; the first decides nothing after the end of its lease, and returns."""
    bench = new_bench(network)
    lease: dict[str, Any] = {
        "account": "shared",
        "lease": "shared",
        "ttl_s": TTL_S,
        "renew_s": 2.0,
        "margin_s": 1.0,
        "pause_s": 0.02,
    }
    first = _writer(bench, network, "rows", "a", **lease)
    bench.wait_written(20, first)
    second = _writer(bench, network, "rows", "b", **lease)
    bench.wait_mark(second, "standing by")
    with network.cables["a"].cut():
        began = time.monotonic()
        bench.wait_mark(second, "leading", timeout_s=30)
        took = time.monotonic() - began
        bench.wait_written(3, second)  # while the first may still repeat what was under way
    bench.note(taken_over_s=round(took, 1))
    bench.wait_written(20, second)
    history, _ = bench.finish()
    assert took < TTL_S + 5
    ours = [op for op in history.ops if op.writer == first and op.kind == "row"]
    late = [op for op in ours if began + TTL_S < op.began < began + took]
    assert late == [], "the first bot decided after its lease was over"


@pytest.mark.full
@pytest.mark.fault("F8", "leaked-connections")
@pytest.mark.timeout(240)
def test_a_slow_line_is_slow_and_not_a_storm(new_bench: NewBench, network: NetworkPlace) -> None:
    """64 kbit/s: writes go on; nobody opens a second connection for what is under way already."""
    bench = new_bench(network)
    writers = [_writer(bench, network, kind, "a") for kind in ("rows", "trades")]
    for name in writers:
        bench.wait_written(20, name)
    most = 0
    with bench.fault("64 kbit/s"), network.cables["a"].slow("64kbit"):
        until_at = time.monotonic() + 30
        while time.monotonic() < until_at:
            most = max(most, len(bench.database.backends()))
            time.sleep(0.5)
        bench.wait_written(5, *writers)
    bench.note(connections=most)
    bench.finish()
    assert most <= 2 * len(writers)


@pytest.mark.full
@pytest.mark.fault("F8", "leaked-connections")
@pytest.mark.timeout(240)
def test_a_line_with_latency_is_slow_and_not_a_storm(new_bench: NewBench, loopback: EmbeddedPlace) -> None:
    """200 ms and 2 s from question to answer: a call that needs too many of them ends within its deadline."""
    bench = new_bench(loopback)
    writers = ("rows-1", "trades-1")
    with tcp_proxy(loopback.server.port) as proxy:
        url = re.sub(r":\d+/", f":{proxy.port}/", bench.database.url)
        for name in writers:
            bench.start(name.partition("-")[0], name, url=url)
            bench.wait_written(20, name)
        most = 0
        for seconds in (0.2, 2.0):
            with bench.fault(f"{seconds} s there and back"):
                proxy.delay_s = seconds / 2
                until_at = time.monotonic() + 15
                while time.monotonic() < until_at:
                    most = max(most, len(bench.database.backends()))
                    time.sleep(0.5)
                proxy.delay_s = 0.0
            for name in writers:
                bench.wait_written(20, name)
        history, _ = bench.finish()
    lasted = sorted(op.ended - op.began for op in history.ops if op.ended and op.kind != "observe")
    bench.note(connections=most, p99_s=round(lasted[len(lasted) * 99 // 100], 2))
    assert most <= 2 * len(writers)


@pytest.mark.full
@pytest.mark.fault("F9", "lost-connection-is-final")
@pytest.mark.timeout(240)
def test_resets_every_two_seconds(new_bench: NewBench, network: NetworkPlace, tier: Tier) -> None:
    bench = new_bench(network)
    writers = [_writer(bench, network, kind, "a") for kind in ("rows", "trades")]
    for name in writers:
        bench.wait_written(20, name)
    with bench.fault("resets"):
        for _ in range(tier.pick(5, 30)):
            with network.cables["a"].reset():
                time.sleep(0.1)
            time.sleep(1.9)
    for name in writers:
        bench.wait_written(20, name)
    history, _ = bench.finish()
    bench.nobody_was_sent_away(history)
