"""Outages, recoveries and halts: what three memories (venue, spool, database) know is brought together."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from bot_harness import START, Clock, EveryOther, check_books, expire_lease, facts, kill, make_bot, make_venue
from sqlalchemy import URL, Connection, select
from tradedb.errors import SwitchyardError
from tradedb.failures import DatabaseUnavailable
from tradedb.manager import DatabaseManager
from tradedb.models import Fill, OrderIntent, QuarantinedFact, SystemEvent
from tradedb.testing import migrated_database, throwaway_server
from trading_bot import ledger
from trading_bot.bot import Bot
from trading_bot.diary import KEPT, Diary
from trading_bot.feeds import SIMULATED
from trading_bot.feeds.candles import Candle
from trading_bot.feeds.simulated import SimulatedFeed
from trading_bot.orders import Intent
from trading_bot.spool import Spool, SpoolFull
from trading_bot.spooled import Decided, FactSpool
from trading_bot.status import Status
from trading_bot.strategies import Decision

BEGIN = START + timedelta(seconds=114)


class Away:
    """A manager whose database can be taken away."""

    def __init__(self, inner: DatabaseManager) -> None:
        self.inner = inner
        self.away = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def transaction(self, *args: Any, **options: Any) -> Any:
        self._refuse()
        return self.inner.transaction(*args, **options)

    def read(self, *args: Any, **options: Any) -> Any:
        self._refuse()
        return self.inner.read(*args, **options)

    def _refuse(self) -> None:
        if self.away:
            raise DatabaseUnavailable("DB-001", "nothing listens", why="test", fix="")


class Told:
    """Holds what it is told to hold."""

    name = "Told"
    warmup = 1

    def __init__(self) -> None:
        self.target: Any = "LONG"

    def decide(self, candles: Any) -> Decision:
        return Decision(self.target, "told so")

    def config(self) -> dict[str, Any]:
        return {}


@pytest.fixture
def database(manager: DatabaseManager) -> Away:
    return Away(manager)


@pytest.fixture
def bots(tmp_path: Path) -> Iterator[Callable[..., Bot]]:
    """Return a function that makes bots, which are let go of at the end."""
    made: list[Bot] = []

    def make(manager: Any, clock: Clock, folder: Path = tmp_path, **options: Any) -> Bot:
        bot = make_bot(manager, clock, folder, **options)
        bot._backoff = lambda: 0.0
        made.append(bot)
        return bot

    yield make
    for bot in made:
        kill(bot)


def passes(bot: Bot, clock: Clock, count: int) -> None:
    """One pass for each of ``count`` candles, whatever happens in it."""
    for _ in range(count):
        bot._guarded_pass()
        clock.next_candle()


def events(manager: Any, *types: str) -> list[Any]:
    query = select(SystemEvent.__table__).order_by(SystemEvent.id)
    rows = manager.read(lambda conn: conn.execute(query).all(), name="events")
    return [row for row in rows if not types or row.event_type in types]


def recoveries(manager: Any) -> list[Any]:
    return [row.details for row in events(manager, "RECOVERY") if row.details]


def late_fills(manager: Any) -> list[bool]:
    query = select(Fill.late).order_by(Fill.venue_sequence)
    return manager.read(lambda conn: conn.execute(query).scalars().all(), name="late")


# --- while the database is away ---------------------------------------------------------------------------------------


def test_facts_of_an_outage_wait_in_the_spool_and_are_recorded_once_it_is_over(
    database: Away, bots: Callable[..., Bot]
) -> None:
    clock, status = Clock(at=BEGIN), Status()
    strategy = Told()
    bot = bots(database, clock, status=status, strategy=strategy)
    passes(bot, clock, 1)
    assert bot._desk is not None
    while not bot._desk.working:  # until an order is filled in part
        strategy.target = "FLAT" if bot._desk.account().position else "LONG"
        passes(bot, clock, 1)
    before = len(facts(database)["fills"])
    database.away = True
    passes(bot, clock, 6)
    now = status.get()
    assert (now.role, now.reason) == ("waiting", "DB-001: nothing listens")
    assert now.spool is not None
    assert now.spool.unacknowledged >= 1
    database.away = False
    passes(bot, clock, 2)
    assert status.get().role == "leader"
    assert status.get().spool.unacknowledged == 0  # type: ignore[union-attr]
    assert len(facts(database)["fills"]) > before
    assert {row[-1] for row in facts(database)["intents"]} == {"FILLED"}
    assert late_fills(database)[-1] is True
    check_books(database)
    recovery = recoveries(database)[-1]
    assert recovery["spool_replayed"] == len(facts(database)["fills"]) - before
    assert (recovery["venue_fills_added"], recovery["books"]) == (0, "balanced")
    said = [row.message for row in events(database)]
    assert "nothing listens" in said
    assert any(message.startswith("trading goes on after") for message in said)


def test_without_a_database_a_position_is_closed_and_nothing_is_opened(
    database: Away, bots: Callable[..., Bot]
) -> None:
    clock, strategy = Clock(at=BEGIN), Told()
    bot = bots(database, clock, strategy=strategy, bot_partial_fills=False)
    passes(bot, clock, 2)
    assert [row[1] for row in facts(database)["positions"]] == ["OPEN"]
    database.away = True
    strategy.target = "FLAT"
    passes(bot, clock, 3)
    venue = bot._kit.venue
    assert [fill.side for fill in venue.fills(0)] == ["BUY", "SELL"]
    strategy.target = "LONG"
    passes(bot, clock, 3)
    assert len(venue.fills(0)) == 2, "an entry needs its decision committed"
    strategy.target = "FLAT"
    database.away = False
    passes(bot, clock, 2)
    found = facts(database)
    assert [row[1] for row in found["positions"]] == ["CLOSED"]
    assert len(found["trades"]) == 1
    # the first exit was decided when the database had just gone, and never sent
    assert sorted(row[-1] for row in found["intents"]) == ["CANCELLED", "FILLED", "FILLED"]
    assert late_fills(database) == [False, True]
    check_books(database)
    query = select(OrderIntent.__table__).where(OrderIntent.leg == "EXIT", OrderIntent.status == "FILLED")
    exit_ = database.read(lambda conn: conn.execute(query).one(), name="exit")
    assert exit_.entry_intent_id == found["positions"][0][0]


def test_a_lease_that_may_be_over_closes_nothing(database: Away, bots: Callable[..., Bot]) -> None:
    clock, strategy = Clock(at=BEGIN), Told()
    bot = bots(database, clock, strategy=strategy, bot_partial_fills=False)
    passes(bot, clock, 2)
    database.away = True
    strategy.target = "FLAT"
    bot._lease._asked_at -= 12.01  # 15 s TTL, 3 s margin
    passes(bot, clock, 4)
    assert [fill.side for fill in bot._kit.venue.fills(0)] == ["BUY"]


def test_a_new_leader_goes_on_after_an_exit_that_only_the_venue_knows(
    database: Away, bots: Callable[..., Bot], tmp_path: Path
) -> None:
    clock, strategy = Clock(at=BEGIN), Told()
    first = bots(database, clock, strategy=strategy, bot_partial_fills=False)
    passes(first, clock, 2)
    database.away = True
    strategy.target = "FLAT"
    passes(first, clock, 3)  # sold; the decision is in its own spool only
    database.away = False
    expire_lease(database.inner)
    other = bots(database, clock, holder="two", strategy=strategy, spool=FactSpool(tmp_path / "other" / "spool"))
    passes(other, clock, 1)
    found = facts(database)
    assert [row[1] for row in found["positions"]] == ["CLOSED"]
    assert any("found at the venue only" in row.message for row in events(database, "ALERT"))
    assert facts(database)["sessions"][0][1] == 1
    # the first one leads again: what it has in its spool is known
    expire_lease(database.inner)
    passes(first, clock, 3)
    assert first._status.get().role == "leader"
    assert facts(database)["trades"] == found["trades"]
    assert recoveries(database)[-1]["spool_known"] >= 2
    check_books(database)


# --- memories that were lost ------------------------------------------------------------------------------------------


def test_a_database_put_back_to_the_past_gets_everything_again(
    new_url: Callable[[str], URL], bots: Callable[..., Bot], tmp_path: Path
) -> None:
    url = new_url("sqlite")
    file = Path(url.database or "")
    manager = DatabaseManager(url, service="trading-bot")
    clock = Clock(at=BEGIN)
    bot = bots(manager, clock, strategy=EveryOther())
    passes(bot, clock, 5)
    manager.dispose()
    past = tmp_path / "past.db"
    shutil.copy(file, past)
    passes(bot, clock, 8)
    expected = facts(manager)
    kill(bot)
    manager.dispose()
    for name in ("-wal", "-shm"):
        file.with_name(file.name + name).unlink(missing_ok=True)
    past.replace(file)
    expire_lease(manager)
    clock.at -= timedelta(seconds=2)  # the candle that the last pass looked at
    passes(bots(manager, clock, holder="two", strategy=EveryOther()), clock, 1)
    found = facts(manager)
    for name in ("fills", "trades", "positions", "sessions", "ledger"):
        assert found[name] == expected[name], name
    recovery = recoveries(manager)[-1]
    assert recovery["other_server"] is True
    assert recovery["spool_replayed"] > 0
    assert recovery["spool_known"] > 0
    check_books(manager)
    manager.dispose()


def test_a_new_database_gets_what_the_spool_still_has(new_url: Callable[[str], URL], bots: Callable[..., Bot]) -> None:
    manager = DatabaseManager(new_url("sqlite"), service="trading-bot")
    clock = Clock(at=BEGIN)
    bot = bots(manager, clock, strategy=EveryOther())
    passes(bot, clock, 6)
    expected = facts(manager)
    kill(bot)
    manager.dispose()
    other = DatabaseManager(new_url("sqlite"), service="trading-bot")
    clock.at -= timedelta(seconds=2)
    passes(bots(other, clock, holder="two", strategy=EveryOther()), clock, 1)
    assert facts(other) == expected
    check_books(other)
    other.dispose()


def test_a_venue_that_lost_its_memory_is_asked_from_the_beginning(
    database: Away, bots: Callable[..., Bot], tmp_path: Path
) -> None:
    clock = Clock(at=BEGIN)
    bot = bots(database, clock, strategy=EveryOther())
    passes(bot, clock, 6)
    before = len(facts(database)["fills"])
    kill(bot)
    for file in tmp_path.glob("venue.db*"):
        file.unlink()
    expire_lease(database.inner)
    clock.at += timedelta(seconds=20)
    passes(bots(database, clock, holder="two", strategy=EveryOther()), clock, 6)
    assert len(facts(database)["fills"]) > before + 2
    check_books(database)
    assert database.read(lambda conn: conn.execute(select(QuarantinedFact.id)).all(), name="q") == []


@pytest.mark.parametrize(("late_s", "ends"), [(2, "FILLED"), (20, "CANCELLED")])
def test_a_decision_that_never_reached_the_venue_is_sent_while_fresh_and_ended_when_not(
    database: Away, bots: Callable[..., Bot], tmp_path: Path, late_s: int, ends: str
) -> None:
    clock = Clock(at=BEGIN)
    bot = bots(database, clock, strategy=Told(), bot_partial_fills=False)
    bot._kit.venue.submit = lambda intent: (_ for _ in ()).throw(RuntimeError("killed here"))
    passes(bot, clock, 1)
    (intent,) = facts(database)["intents"]
    assert intent[-1] == "PENDING"
    kill(bot)
    expire_lease(database.inner)
    clock.at = BEGIN + timedelta(seconds=late_s)
    strategy = Told()
    strategy.target = "FLAT"
    passes(bots(database, clock, holder="two", strategy=strategy, bot_partial_fills=False), clock, 1)
    assert (*intent[:-1], ends) in facts(database)["intents"]
    counts = recoveries(database)[-1]
    assert (counts["intents_resubmitted"], counts["intents_cancelled"]) == ((1, 0) if ends == "FILLED" else (0, 1))
    if ends == "CANCELLED":  # the process that was only asleep wakes up, and sends it after all
        row = database.read(lambda conn: conn.execute(select(OrderIntent.__table__)).one(), name="i")
        woken = make_venue(tmp_path)
        asleep = Intent(**{name: getattr(row, name) for name in Intent.__dataclass_fields__})
        assert woken.submit(asleep).status == "CANCELLED"
        assert woken.fills(0) == []
        woken.close()
    check_books(database)


def test_an_order_that_was_filled_and_never_written_down_is(
    database: Away, bots: Callable[..., Bot], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock(at=BEGIN)
    bot = bots(database, clock, strategy=Told(), bot_partial_fills=False)
    with monkeypatch.context() as killed:
        killed.setattr(ledger, "record_order", lambda *_, **__: (_ for _ in ()).throw(RuntimeError("killed here")))
        passes(bot, clock, 1)
    assert facts(database)["orders"] == []
    kill(bot)
    expire_lease(database.inner)
    passes(bots(database, clock, holder="two", strategy=Told(), bot_partial_fills=False), clock, 1)
    [(_, _, status)] = facts(database)["orders"]
    assert status == "FILLED"
    check_books(database)


# --- what halts entries -----------------------------------------------------------------------------------------------


def test_a_contradicting_fact_halts_entries_until_somebody_has_looked(
    manager: DatabaseManager, bots: Callable[..., Bot], request: pytest.FixtureRequest
) -> None:
    clock, strategy, status = Clock(at=BEGIN), Told(), Status()
    bot = bots(manager, clock, strategy=strategy, status=status, bot_partial_fills=False)
    passes(bot, clock, 2)
    (fill,) = bot._kit.venue.fills(0)
    assert bot._desk is not None
    assert bot._desk.intake.absorb(replace(fill, price=fill.price + 1)) == "quarantined"
    assert "1 contradicting fact(s)" in status.get().halted[0]
    strategy.target = "FLAT"
    passes(bot, clock, 1)  # exits go on
    strategy.target = "LONG"
    passes(bot, clock, 3)
    assert [row[1] for row in facts(manager)["positions"]] == ["CLOSED"]
    assert len(facts(manager)["intents"]) == 2
    resolve(manager, request)
    bot._upkeep._snapshot_at = 0
    passes(bot, clock, 2)
    assert status.get().halted == ()
    assert len(facts(manager)["intents"]) == 3
    alerts = [(row.event_type, row.error_code, row.severity) for row in events(manager, "ALERT")]
    assert ("ALERT", "BOT-005", "critical") in alerts
    check_books(manager)


def resolve(manager: DatabaseManager, request: pytest.FixtureRequest) -> None:
    """As the admin: the bot may not."""
    sql = "UPDATE quarantined_facts SET resolved_at = '2026-01-01 00:00:00.000000+00:00', resolution = 'looked'"
    if manager.dialect == "postgresql":
        request.getfixturevalue("bot_database").execute(sql)
    else:
        manager.transaction(lambda conn: conn.exec_driver_sql(sql), name="resolve")


def test_a_full_spool_halts_entries_and_drops_nothing(database: Away, bots: Callable[..., Bot], tmp_path: Path) -> None:
    clock, strategy, status = Clock(at=BEGIN), Told(), Status()
    spool = FactSpool(tmp_path / "spool", lambda folder: Spool(folder, limit_bytes=200))
    bot = bots(database, clock, strategy=strategy, status=status, spool=spool)
    while not (bot._desk and bot._desk.working and facts(database)["fills"]):
        passes(bot, clock, 1)
    before = len(facts(database)["fills"])
    database.away = True
    passes(bot, clock, 5)
    (halted,) = status.get().halted
    assert "spool" in halted
    assert bot._kit.venue.fills(0)[-1].sequence > before
    database.away = False
    passes(bot, clock, 3)
    assert len(facts(database)["fills"]) == len(bot._kit.venue.fills(0))
    assert status.get().halted == ()
    check_books(database)
    assert any("entries are halted" in row.message for row in events(database, "ALERT"))


@pytest.mark.parametrize("away", [False, True])
def test_an_exit_goes_through_a_full_spool(
    database: Away, bots: Callable[..., Bot], monkeypatch: pytest.MonkeyPatch, away: bool
) -> None:
    clock, strategy, status = Clock(at=BEGIN), Told(), Status()
    bot = bots(database, clock, strategy=strategy, status=status, bot_partial_fills=False)
    passes(bot, clock, 2)
    before = len(facts(database)["fills"])

    def full(*_: Any) -> int:
        raise SpoolFull("BOT-034", "no space left on device", why="test", fix="")

    for act in ("add_intent", "add_fill"):
        monkeypatch.setattr(bot._spool, act, full)
    database.away = away
    if away:
        passes(bot, clock, 1)  # which notices that it is away
    strategy.target = "FLAT"
    passes(bot, clock, 2)
    assert [fill.side for fill in bot._kit.venue.fills(0)] == ["BUY", "SELL"]
    monkeypatch.undo()
    database.away = False
    passes(bot, clock, 1)
    assert len(facts(database)["trades"]) == 1
    assert len(facts(database)["fills"]) == before + 1
    alerts = [row.message for row in events(database, "ALERT") if row.error_code == "BOT-033"]
    assert len([text for text in alerts if "the spool had no room" in text]) == away
    check_books(database)


class Odd(SimulatedFeed):
    """A market whose candles are sometimes impossible, or not to be had."""

    def __init__(self) -> None:
        super().__init__(seed=7, symbol="BTCUSDT", interval_s=2)
        self.away = False

    def poll(self, now: Any) -> list[Candle]:
        if self.away:
            raise SwitchyardError("BOT-020", "the exchange does not answer", why="test", fix="")
        given = super().poll(now)
        return [replace(candle, close=Decimal("NaN")) if candle.index % 3 == 0 else candle for candle in given]


def test_refused_candles_and_a_feed_that_is_away_are_said_and_the_loop_goes_on(
    manager: DatabaseManager, bots: Callable[..., Bot]
) -> None:
    clock, status, feed = Clock(at=BEGIN), Status(), Odd()
    bot = bots(manager, clock, status=status, feed=feed, strategy=EveryOther())
    passes(bot, clock, 12)
    check_books(manager)
    told = [row for row in events(manager, "ALERT") if row.error_code == "BOT-022"]
    reasons = [row.details["reason"] for row in told]
    assert sorted(set(reasons)) == sorted(reasons), "once a minute for each reason"
    assert "absurd" in reasons
    assert bot._market.refused >= 4
    feed.away = True
    passes(bot, clock, 2)
    assert status.get().role == "leader"
    assert status.get().halted == ("BOT-020: the exchange does not answer",)
    feed.away = False
    passes(bot, clock, 2)
    assert status.get().halted == ()


# --- what is said -----------------------------------------------------------------------------------------------------


def test_steady_state_is_said_now_and_then(manager: DatabaseManager, bots: Callable[..., Bot]) -> None:
    clock = Clock(at=BEGIN)
    bot = bots(manager, clock, strategy=EveryOther())
    passes(bot, clock, 3)
    bot._upkeep._steady_event_at = 0
    passes(bot, clock, 1)
    (steady,) = events(manager, "HEARTBEAT")
    assert steady.details["fills_recorded"] == len(facts(manager)["fills"])
    assert steady.details["spool_unacknowledged"] == 0
    assert steady.session_id is not None


def test_a_bot_that_does_not_lead_writes_its_events_when_it_does(
    manager: DatabaseManager, bots: Callable[..., Bot]
) -> None:
    clock = Clock(at=BEGIN)
    first, second = bots(manager, clock, holder="first"), bots(manager, clock, holder="second")
    passes(first, clock, 1)
    passes(second, clock, 3)
    before = len(events(manager))
    passes(second, clock, 2)
    assert len(events(manager)) == before
    first._shut_down()
    passes(second, clock, 1)
    said = [row.message for row in events(manager)]
    assert said.count("second stands by: first leads") == 1
    assert said[-2] == "second leads with epoch 2"


def test_events_that_are_too_many_are_counted(manager: DatabaseManager) -> None:
    diary = Diary()
    for n in range(KEPT + 3):
        diary.tell("ERROR", "error", f"event {n}")
    diary.written(manager.transaction(diary.write, name="write"))
    assert diary.waiting() == 0
    messages = [row.message for row in events(manager)]
    assert (len(messages), messages[0]) == (KEPT + 1, "event 3")
    assert messages[-1].startswith("3 events from before")


# --- the spool in the bot's terms -------------------------------------------------------------------------------------


def test_what_is_put_into_the_spool_comes_out_of_it_the_same(
    manager: DatabaseManager, bots: Callable[..., Bot], tmp_path: Path
) -> None:
    clock = Clock(at=BEGIN)
    bot = bots(manager, clock, strategy=EveryOther())
    passes(bot, clock, 4)
    fills = bot._kit.venue.fills(0)
    kill(bot)
    spool = FactSpool(tmp_path / "spool")
    spool.open()
    noted = [entry.fact for entry in spool.retained()]
    assert [fact for fact in noted if not isinstance(fact, Decided)] == fills
    decided = [fact for fact in noted if isinstance(fact, Decided)]

    def stored(conn: Connection) -> list[Any]:
        return list(conn.execute(select(OrderIntent.intent_id, OrderIntent.quantity, OrderIntent.signal_time)))

    rows = manager.read(stored, name="stored")
    assert sorted((d.intent.intent_id, d.intent.quantity, d.intent.signal_time) for d in decided) == sorted(
        tuple(row) for row in rows
    )
    assert {(d.terms.venue, d.terms.initial_balance) for d in decided} == {(SIMULATED, Decimal(10_000))}
    second = FactSpool(tmp_path / "spool")
    assert second.open().entries == 0  # the first folder is in use: this one is its own
    assert (tmp_path / "spool-2").is_dir()
    second.close()
    spool.close()


def test_a_server_that_was_put_back_between_two_calls_is_noticed(bots: Callable[..., Bot], tmp_path: Path) -> None:
    """Nothing fails: the pool connects to the server that is there now, which has forgotten what it acknowledged."""
    with throwaway_server() as server, migrated_database(server) as database:
        manager = DatabaseManager(database.url("trading_bot"), service="trading-bot")
        clock = Clock(at=BEGIN)
        bot = bots(manager, clock, strategy=EveryOther(), bot_lease_renew_s=0.2, bot_partial_fills=False)
        passes(bot, clock, 2)
        before = facts(manager)
        server.stop()
        server.start()
        database.execute(  # as a restore to the past would leave it
            "SET session_replication_role = replica; DELETE FROM ledger_entries WHERE venue_trade_id IS NOT NULL;"
            " DELETE FROM fills; DELETE FROM venue_orders; DELETE FROM order_intents; DELETE FROM trades;"
            " DELETE FROM positions; DELETE FROM account_history; UPDATE trading_sessions SET total_trades = 0"
        )
        assert facts(manager)["fills"] == []
        time.sleep(0.3)  # until the lease is to be renewed
        bot._guarded_pass()
        assert set(facts(manager)["fills"]) >= set(before["fills"])
        assert recoveries(manager)[-1]["other_server"] is True
        check_books(manager)
        manager.dispose()


def test_what_a_dead_bot_left_in_a_spool_of_its_own_is_taken_over(
    database: Away, bots: Callable[..., Bot], tmp_path: Path
) -> None:
    """The decision to sell, taken while the database was away, stands in the second spool only; so does the venue's."""
    clock, strategy = Clock(at=BEGIN), Told()
    first = FactSpool(tmp_path / "spool")
    first.open()  # somebody else's, who has nothing in it
    bot = bots(database, clock, strategy=strategy, bot_partial_fills=False)
    passes(bot, clock, 2)
    database.away = True
    strategy.target = "FLAT"
    passes(bot, clock, 2)
    kill(bot)
    first.close()
    assert (tmp_path / "spool-2").is_dir()
    damaged = tmp_path / "spool-3"
    damaged.mkdir()
    (damaged / "000000000001.jsonl").write_bytes(b"no record\n" * 5)
    database.away = False
    expire_lease(database.inner)
    two = bots(database, clock, holder="two", strategy=strategy, bot_partial_fills=False)
    passes(two, clock, 1)
    assert len(facts(database)["trades"]) == 1
    reasons = database.read(lambda conn: list(conn.execute(select(OrderIntent.reason)).scalars()), name="reasons")
    assert "found at the venue" not in reasons, "its own words, from its own spool"
    assert recoveries(database)[-1]["spools_left_behind"] == 1
    (alert,) = [row for row in events(database, "ALERT") if row.error_code == "BOT-030"]
    assert "spool-3" in alert.message
    taken = FactSpool(tmp_path / "spool-2")
    assert taken.open().unacknowledged == 0, "and let go of again"
    taken.close()
    check_books(database)


def test_an_exit_that_was_decided_twice_around_an_outage_is_sent_once(database: Away, bots: Callable[..., Bot]) -> None:
    clock, strategy = Clock(at=BEGIN), Told()
    bot = bots(database, clock, strategy=strategy, bot_partial_fills=False)
    passes(bot, clock, 2)
    strategy.target = "FLAT"
    database.away = True
    passes(bot, clock, 2)  # decided for the database that had just gone; then again, and sent, without it
    database.away = False
    passes(bot, clock, 1)  # both are fresh now
    assert [fill.side for fill in bot._kit.venue.fills(0)] == ["BUY", "SELL"]
    assert len(facts(database)["trades"]) == 1
    assert database.read(lambda conn: conn.execute(select(QuarantinedFact.id)).all(), name="q") == []
    check_books(database)
