"""F3: the database did it, and its answer was lost."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from tradedb.testing_proxy import TcpProxy, tcp_proxy

from faults.bench import Bench
from faults.places.embedded import EmbeddedPlace
from faults.plugin import Tier


@pytest.fixture
def proxy(loopback: EmbeddedPlace) -> Iterator[TcpProxy]:
    """Between the writers and the server."""
    with tcp_proxy(loopback.server.port) as proxy:
        yield proxy


def _through(bench: Bench, proxy: TcpProxy) -> str:
    return re.sub(r":\d+/", f":{proxy.port}/", bench.database.url)


@pytest.mark.targets("embedded")
@pytest.mark.fault("F3", "no-on-conflict", "no-key")
def test_a_commit_whose_reply_is_lost_is_there_once(bench: Bench, proxy: TcpProxy, tier: Tier) -> None:
    """The writer repeats it under its own key: one row, and the writer knows it."""
    writers = ("trades-1", "rows-1")
    for name in writers:
        bench.start(name.partition("-")[0], name, url=_through(bench, proxy))
        bench.wait_written(10, name)
    lost = 0
    for _ in range(tier.pick(20, 300)):
        proxy.on_commit = "lose reply"
        bench.wait_written(4)
        lost += proxy.on_commit == "none"
    history, _ = bench.finish()
    repeated = sum(op.body.get("tries", 1) > 1 for op in history.acknowledged())
    bench.note(replies_lost=lost, repeated=repeated)
    unsure = sorted({f"{op.kind} {op.error}" for op in history.ops if op.outcome != "ok" and op.ended})
    assert unsure == [], f"not all ended well: {', '.join(unsure)}"
    assert lost
    assert repeated, "no lost reply fell on a write"


@pytest.mark.targets("embedded")
@pytest.mark.fault("F3", "unknown-is-failed")
def test_who_does_not_repeat_is_told_that_nobody_knows(bench: Bench, proxy: TcpProxy, tier: Tier) -> None:
    """Tried once, a write whose reply is lost is unknown, and Postgres' own record of the transaction settles it."""
    bench.start("rows", "rows-1", url=_through(bench, proxy), retry=False)
    bench.wait_written(10, "rows-1")
    for fault in ("lose reply", "swallow request") * tier.pick(3, 30):
        proxy.on_commit = fault
        bench.wait_written(3, "rows-1")
    history, final = bench.finish()
    unknown = history.unknown()
    assert unknown, "no reply was lost"
    there = {row["intent_id"] for row in final.intents}
    happened = sum(op.key in there for op in unknown)
    bench.note(happened=happened, did_not=len(unknown) - happened)
    assert 0 < happened < len(unknown), "both kinds of doubt were made"


@pytest.mark.targets("embedded")
@pytest.mark.fault("F3", "unknown-is-failed")
def test_a_lost_reply_and_then_no_server_is_not_said_to_have_failed(bench: Bench, proxy: TcpProxy) -> None:
    """The first try was carried out, all later ones reach nobody: it may not be reported as "nothing was changed"."""
    bench.start("rows", "rows-1", url=_through(bench, proxy), deadline_s=3.0)
    bench.wait_written(10, "rows-1")
    for _ in range(3):
        proxy.on_commit = "lose reply and refuse"
        bench.wait_mark("rows-1", "waiting", bench.marks("rows-1", "waiting") + 1)
        proxy.refusing = False
        bench.wait_written(5, "rows-1")
    history, _ = bench.finish()
    assert history.unknown()
