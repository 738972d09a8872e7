"""The paper venue: each order once, the same fills for the same orders, and a memory of its own."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tradedb.errors import SwitchyardError
from trading_bot.feeds.candles import Candle
from trading_bot.ids import paper_order_id, paper_trade_id
from trading_bot.orders import Intent, Side, quote_currency
from trading_bot.sizing import FEE_STEP, QUANTITY_STEP, price_step
from trading_bot.venue import Venue, VenueUnreachable
from trading_bot.venue.paper import PaperVenue
from trading_bot.venue.pricing import price_after_slippage, split
from trading_bot.venue.store import Store

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
HERE = Path(__file__).parent
FEE, SLIPPAGE = Decimal("0.0004"), Decimal("0.0001")
QUANTITIES = st.decimals(min_value="0.000001", max_value="1000", places=6)
IN_ONE, IN_TWO, IN_THREE = (
    next(name for name in map(str, range(100)) if len(split(name, Decimal(1))) == parts) for parts in (1, 2, 3)
)

Make = Callable[..., PaperVenue]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    """Return a function that makes a venue, on the same file each time; all are closed at the end."""
    made: list[PaperVenue] = []

    def make(name: str = "SIMULATED", path: Path | None = tmp_path / "venue.db", **changes: object) -> PaperVenue:
        rates = {"fee_rate": FEE, "slippage_rate": SLIPPAGE}
        made.append(PaperVenue(name, path, **{**rates, **changes}))  # pyright: ignore[reportArgumentType]
        return made[-1]

    yield make
    for venue in made:
        venue.close()


def an_intent(name: str, side: Side = "BUY", price: str = "60000.00", quantity: str = "0.083333") -> Intent:
    return Intent(
        intent_id=name, session_id=1, strategy_name="S", venue="SIMULATED", symbol="BTCUSDT", side=side,
        leg="ENTRY" if side == "BUY" else "EXIT", quantity=Decimal(quantity), reference_price=Decimal(price),
        signal_time=NOON, reason="r",
    )  # fmt: skip


def a_candle(n: int, close: str = "60000.00", symbol: str = "BTCUSDT") -> Candle:
    """The n-th candle after the one that was decided on."""
    price = Decimal(close)
    closes = NOON + timedelta(seconds=2 * n)
    return Candle("SIMULATED", symbol, n, closes - timedelta(seconds=2), closes, price, price, price, price, Decimal(1))


def test_it_is_a_venue(make: Make) -> None:
    venue: Venue = make()
    assert venue.name == "SIMULATED"


def test_a_known_order_in_one_part(make: Make) -> None:
    venue = make()
    report = venue.submit(an_intent(IN_ONE))
    assert (report.venue, report.client_order_id) == ("SIMULATED", IN_ONE)
    assert report.venue_order_id == paper_order_id(IN_ONE)
    assert (report.status, report.over, report.filled_quantity) == ("FILLED", True, Decimal("0.083333"))
    assert report.accepted_at == report.updated_at == NOON
    [fill] = venue.fills(0)
    assert (str(fill.price), str(fill.fee), fill.fee_currency) == ("60006.00", "2.00019200", "USDT")
    assert (fill.venue_trade_id, fill.intent_id, fill.sequence) == (paper_trade_id(IN_ONE), IN_ONE, 1)
    assert (fill.filled_at, fill.quantity, fill.side) == (NOON, Decimal("0.083333"), "BUY")
    venue.submit(an_intent(f"{IN_ONE} ", "SELL"))
    assert str(venue.fills(1)[0].price) == "59994.00"


def test_the_rest_of_an_order_is_filled_by_later_candles_one_part_each(make: Make) -> None:
    venue = make()
    parts = split(IN_THREE, Decimal("0.083333"))
    assert venue.submit(an_intent(IN_THREE)).status == "PARTIALLY_FILLED"
    assert [order.client_order_id for order in venue.open_orders()] == [IN_THREE]
    venue.see(a_candle(-1))  # a bot that looks at the past
    venue.see(a_candle(0))  # the candle that it was decided on
    venue.see(a_candle(1, symbol="ETHUSDT"))
    assert len(venue.fills(0)) == 1
    venue.see(a_candle(1, "61000.00"))
    venue.see(a_candle(1, "61000.00"))  # another bot on the same venue shows it too
    report = venue.find(IN_THREE)
    assert report is not None
    assert (report.status, report.filled_quantity) == ("PARTIALLY_FILLED", parts[0] + parts[1])
    assert report.updated_at == NOON + timedelta(seconds=2)
    venue.see(a_candle(5, "62000.00"))  # what lies between was never shown
    venue.see(a_candle(6))
    fills = venue.fills(0)
    assert [fill.quantity for fill in fills] == parts
    assert [str(fill.price) for fill in fills] == ["60006.00", "61006.10", "62006.20"]
    assert [fill.filled_at for fill in fills] == [NOON, NOON + timedelta(seconds=2), NOON + timedelta(seconds=10)]
    assert [fill.venue_trade_id for fill in fills] == [paper_trade_id(IN_THREE, n) for n in range(3)]
    assert [fill.sequence for fill in fills] == [1, 2, 3]
    assert venue.open_orders() == []


def test_asked_again_it_acts_no_more_and_an_id_stands_for_one_order(make: Make) -> None:
    venue = make()
    intent = an_intent(IN_TWO)
    first = venue.submit(intent)
    assert venue.submit(intent) == first == venue.find(IN_TWO)
    assert venue.submit(replace(intent, session_id=2, reason="again", signal_time=NOON + timedelta(hours=1))) == first
    assert len(venue.fills(0)) == 1
    for other in (an_intent(IN_TWO, "SELL"), an_intent(IN_TWO, quantity="0.1"), an_intent(IN_TWO, price="60000.01")):
        with pytest.raises(SwitchyardError, match=f"BOT-041: .* another order under the id {IN_TWO}"):
            venue.submit(other)
    assert venue.find(IN_TWO) == first
    assert venue.find("never") is None


def test_what_is_cancelled_is_filled_no_further_and_keeps_what_it_has(make: Make) -> None:
    venue = make()
    before = venue.submit(an_intent(IN_THREE))
    venue.see(a_candle(1))
    cancelled = venue.cancel(IN_THREE)
    assert (cancelled.status, cancelled.over) == ("CANCELLED", True)
    assert before.filled_quantity < cancelled.filled_quantity < cancelled.quantity
    assert cancelled.updated_at == NOON + timedelta(seconds=2)
    venue.see(a_candle(2))
    assert venue.cancel(IN_THREE) == cancelled == venue.find(IN_THREE)
    assert len(venue.fills(0)) == 2
    assert venue.submit(an_intent(IN_THREE)) == cancelled
    filled = venue.submit(an_intent(IN_ONE))
    assert venue.cancel(IN_ONE) == filled
    with pytest.raises(SwitchyardError, match="BOT-042: the venue SIMULATED has no order never"):
        venue.cancel("never")


def test_a_decision_that_is_given_up_is_refused_when_it_comes_after_all(make: Make) -> None:
    venue = make()
    late = an_intent(IN_THREE)
    voided = venue.void(late)
    assert (voided.status, voided.over, voided.filled_quantity) == ("CANCELLED", True, 0)
    assert venue.submit(late) == voided == venue.void(late)
    venue.see(a_candle(1))
    assert (venue.fills(0), venue.open_orders()) == ([], [])
    venue.submit(an_intent(IN_TWO))
    assert venue.void(an_intent(IN_TWO)).status == "CANCELLED"
    assert len(venue.fills(0)) == 1
    filled = venue.submit(an_intent(IN_ONE))
    assert venue.void(an_intent(IN_ONE)) == filled


@pytest.mark.parametrize(("price", "quantity"), [("60000", "0"), ("60000", "-1"), ("0", "1"), ("60000", "0.0000001")])
def test_nonsense_is_rejected_and_remembered(make: Make, price: str, quantity: str) -> None:
    venue = make()
    report = venue.submit(an_intent("x", price=price, quantity=quantity))
    assert (report.status, report.over, report.filled_quantity) == ("REJECTED", True, 0)
    assert venue.find("x") == report
    assert (venue.fills(0), venue.open_orders()) == ([], [])


def test_a_restarted_bot_finds_everything_again_and_the_rest_is_filled_then(make: Make) -> None:
    first = make()
    reports = [first.submit(an_intent(name)) for name in (IN_THREE, IN_ONE, IN_TWO)]
    fills = first.fills(0)
    first.close()
    again = make()
    assert [again.find(name) for name in (IN_THREE, IN_ONE, IN_TWO)] == reports
    assert again.fills(0) == fills
    assert [order.client_order_id for order in again.open_orders()] == [IN_THREE, IN_TWO]
    again.see(a_candle(1))
    again.see(a_candle(2))
    assert again.open_orders() == []
    assert len(again.fills(0)) == 6
    assert [fill.sequence for fill in again.fills(2, limit=2)] == [3, 4]
    assert again.fills(6) == []


def test_venues_in_one_file_know_nothing_of_each_other(make: Make) -> None:
    one, other = make("SIMULATED"), make("PAPER-REPLAY")
    one.submit(an_intent(IN_TWO))
    other.submit(replace(an_intent(IN_TWO), quantity=Decimal(1)))
    assert one.fills(0)[0].quantity < Decimal("0.083333")
    assert (one.fills(0)[0].sequence, other.fills(0)[0].sequence) == (1, 1)
    one.see(a_candle(1))
    assert (one.open_orders(), len(other.open_orders())) == ([], 1)


def test_without_a_file_it_is_in_memory_and_in_one_part_if_wanted(make: Make, tmp_path: Path) -> None:
    venue = make(path=None, partial_fills=False)
    assert venue.submit(an_intent(IN_THREE)).status == "FILLED"
    assert make(path=None).find(IN_THREE) is None
    assert list(tmp_path.iterdir()) == []


def test_an_order_that_was_begun_in_parts_ends_in_one_where_parts_are_switched_off(make: Make) -> None:
    make().submit(an_intent(IN_THREE))
    venue = make(partial_fills=False)
    venue.see(a_candle(1))
    assert venue.open_orders() == []
    assert sum(fill.quantity for fill in venue.fills(0)) == Decimal("0.083333")


@given(
    name=st.text(max_size=20), quantity=QUANTITIES, side=st.sampled_from(["BUY", "SELL"]),
    price=st.sampled_from([2, 4, 8]).flatmap(lambda places: st.decimals("0.01", "1000000", places=places)),
    fee_rate=st.decimals(min_value="0", max_value="0.1", places=6),
    slippage=st.decimals(min_value="0", max_value="0.1", places=6),
)  # fmt: skip
def test_any_order_is_filled_exactly_and_never_better_than_the_market(
    name: str, quantity: Decimal, side: Side, price: Decimal, fee_rate: Decimal, slippage: Decimal
) -> None:
    intent = replace(an_intent(name, side), quantity=quantity, reference_price=price)
    runs = []
    for _ in range(2):
        venue = PaperVenue("SIMULATED", None, fee_rate=fee_rate, slippage_rate=slippage)
        venue.submit(intent)
        for n in range(1, 4):
            venue.see(a_candle(n, str(price)))
        runs.append(venue.fills(0))
        assert venue.open_orders() == []
        venue.close()
    fills, again = runs
    assert fills == again
    assert 1 <= len(fills) <= 3
    assert sum(fill.quantity for fill in fills) == quantity
    for fill in fills:
        assert fill.quantity > 0
        assert fill.price > 0
        assert fill.price >= price if side == "BUY" else fill.price <= price
        assert fill.fee >= fill.price * fill.quantity * fee_rate
        for value, step in ((fill.price, price_step(price)), (fill.quantity, QUANTITY_STEP), (fill.fee, FEE_STEP)):
            assert value == value.quantize(step)


@given(name=st.text(max_size=40), quantity=QUANTITIES)
def test_parts_are_whole_steps_and_together_everything(name: str, quantity: Decimal) -> None:
    parts = split(name, quantity)
    assert parts == split(name, quantity)
    assert sum(parts) == quantity
    assert all(part > 0 and part == part.quantize(QUANTITY_STEP) for part in parts)


def test_orders_come_in_one_two_and_three_parts() -> None:
    counts = [len(split(f"intent {n}", Decimal(1))) for n in range(300)]
    assert all(60 < counts.count(parts) < 140 for parts in (1, 2, 3))


def test_a_seller_never_gets_nothing() -> None:
    least = Decimal("0.00000001")
    assert price_after_slippage(least, "SELL", Decimal("0.1")) == least


@pytest.mark.parametrize(
    ("symbol", "currency"),
    [("BTCUSDT", "USDT"), ("ETHBTC", "BTC"), ("BTCEUR", "EUR"), ("ABC", "quote"), ("USD", "quote")],
)
def test_the_currency_of_a_symbol(symbol: str, currency: str) -> None:
    assert quote_currency(symbol) == currency


def test_its_file_is_durable_at_each_commit_and_nobody_elses(make: Make, tmp_path: Path) -> None:
    venue = make(path=tmp_path / "new" / "venue.db")
    venue.submit(an_intent(IN_ONE))
    file = tmp_path / "new" / "venue.db"
    assert {path.stat().st_mode & 0o777 for path in file.parent.iterdir()} == {0o600}
    assert file.parent.stat().st_mode & 0o777 == 0o700
    settings = {name: venue._store.rows(f"PRAGMA {name}")[0][0] for name in ("journal_mode", "synchronous")}
    assert settings == {"journal_mode": "wal", "synchronous": 2}


def test_a_file_that_cannot_be_used_stops_the_bot(make: Make, tmp_path: Path) -> None:
    for name, content in {"a folder": None, "garbage": b"no database " * 400}.items():
        path = tmp_path / name
        path.mkdir() if content is None else path.write_bytes(content)
        with pytest.raises(SwitchyardError, match="BOT-043") as caught:
            make(path=path)
        assert caught.value.exit_code == 78
    newer = tmp_path / "newer"
    with sqlite3.connect(newer) as conn:
        conn.execute("PRAGMA user_version = 2")
    conn.close()
    with pytest.raises(SwitchyardError, match="it is of version 2, and this bot knows 1"):
        make(path=newer)


def test_a_file_that_is_damaged_later_is_said_and_not_guessed_at(make: Make, tmp_path: Path) -> None:
    venue = make()
    for n in range(300):
        venue.submit(an_intent(f"{n}"))
    venue.close()
    file = tmp_path / "venue.db"
    content = bytearray(file.read_bytes())
    content[4096:] = b"\xa5" * (len(content) - 4096)
    file.write_bytes(content)
    with pytest.raises(SwitchyardError, match="BOT-043"):
        make().fills(0)


def test_a_file_that_another_process_keeps_is_not_reached_and_nothing_is_done_twice(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trading_bot.venue.store.BUSY_S", 0.2)
    venue = make()
    other = sqlite3.connect(tmp_path / "venue.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(VenueUnreachable, match=r"BOT-040.*locked"):
        venue.submit(an_intent(IN_ONE))
    assert venue.find(IN_ONE) is None  # reading goes on
    other.execute("ROLLBACK")
    other.close()
    assert venue.submit(an_intent(IN_ONE)).status == "FILLED"
    assert len(venue.fills(0)) == 1


def test_a_transaction_that_fails_leaves_nothing(tmp_path: Path) -> None:
    store = Store(tmp_path / "venue.db")
    with pytest.raises(sqlite3.IntegrityError), store.transaction() as conn:
        _ = [conn.execute(sql) for sql in ("CREATE TABLE new (n)", "INSERT INTO orders (number) VALUES (NULL)")]
    assert store.rows("SELECT name FROM sqlite_master WHERE name = 'new'") == []
    with store.transaction() as conn:  # the one before is over
        assert conn.in_transaction
    store.close()


def test_a_full_disk_is_said_and_when_there_is_room_again_it_goes_on(tmp_path: Path) -> None:
    folder = tmp_path / "disk"
    folder.mkdir()
    apart = ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "--map-root-user", "--mount"]
    mount = [*apart, "sh", "-ec", 'mount -t tmpfs -o size=8m tmpfs "$0"; exec "$@"', str(folder)]
    done = subprocess.run(
        [*mount, sys.executable, str(HERE / "venue_full_disk.py"), str(folder)],
        capture_output=True, text=True, timeout=150, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_killed_before_and_after_each_statement_it_knows_each_order_once(quick_folder: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(HERE / "venue_killed.py"), str(quick_folder)],
        capture_output=True, text=True, timeout=150, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 60


def test_several_processes_on_one_file_give_each_order_once(tmp_path: Path) -> None:
    """All begin at once, also with making the file; one is killed and begins again."""
    file = tmp_path / "venue.db"
    code = (
        f"import sys; sys.path.insert(0, {str(HERE)!r})\n"
        "from pathlib import Path; from venue_killed import trade, venue_at\n"
        "venue = venue_at(Path(sys.argv[1]))\n"
        "print('begun', flush=True)\n"
        "trade(venue, 40)\n"
    )
    command = [sys.executable, "-c", code, str(file)]
    traders = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(4)]
    assert traders[0].stdout is not None
    assert traders[0].stdout.readline() == "begun\n"
    traders[0].kill()
    traders.append(subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True))
    for number, trader in enumerate(traders):
        _, said = trader.communicate(timeout=150)
        assert trader.returncode == 0 or number == 0, said  # the first may have come to its end before
    sys.path.insert(0, str(HERE))
    from venue_killed import check, venue_at

    venue = venue_at(file)
    check(venue, 40)
    venue.close()
