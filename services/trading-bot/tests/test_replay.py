"""Candles out of files: CSV and Parquet say the same, mistakes name their place, the clock decides the row."""

from __future__ import annotations

import sys
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as arrow
import pytest
from pyarrow import parquet
from tradedb.errors import SwitchyardError
from trading_bot.feeds.files import candle_file, interval_of, read_rows
from trading_bot.feeds.opening import open_feed
from trading_bot.feeds.replay import ReplayFeed
from trading_bot.feeds.screen import Refusal, Screen
from trading_bot.settings import BotSettings

NOON = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)
ROWS = [
    ("2026-01-01T12:00:00Z", "100.10", "101", "99.5", "100.5", "1.25"),
    ("2026-01-01T12:01:00+00:00", "100.5", "102", "100", "101.00", "0"),
    ("2026-01-01 12:02:00", "101.00", "101.5", "100", "100.25", "3"),
]


def csv_file(folder: Path, *rows: tuple[str, ...], header: str = "time,open,high,low,close,volume") -> Path:
    file = folder / "candles.csv"
    file.write_text("\n".join([header, *(",".join(row) for row in rows)]) + "\n")
    return file


def test_the_sample_that_ships_is_sound_and_says_that_it_is_synthetic() -> None:
    path = candle_file(Path("sample"))
    assert "synthetic" in path.name
    assert all(line.endswith(("synthetic", "source")) for line in path.read_text().splitlines())
    assert interval_of(path) == 300
    said: list[Refusal] = []
    feed = ReplayFeed(Path("sample"), symbol="BTCUSDT", interval_s=2)
    candles = Screen(feed, said.append).history(576, NOON)
    assert (len(candles), said) == (576, [])
    assert {candle.venue for candle in candles} == {"PAPER-REPLAY"}


def test_rows_come_as_they_are_written(tmp_path: Path) -> None:
    path = csv_file(tmp_path, *ROWS)
    rows = list(read_rows(path))
    assert [row.open_time for row in rows] == [NOON + timedelta(minutes=n) for n in range(3)]
    assert tuple(map(str, rows[0][1:])) == ("100.10", "101", "99.5", "100.5", "1.25")
    assert interval_of(path) == 60


@pytest.mark.parametrize("factor", [1, 1_000, 1_000_000, 1_000_000_000])
def test_times_may_be_numbers_of_any_unit(tmp_path: Path, factor: int) -> None:
    rows = [(str(int(NOON.timestamp()) * factor), "1", "1", "1", "1")]
    path = csv_file(tmp_path, *rows, header="Timestamp,Close,Low,High,Open")
    (row,) = read_rows(path)
    assert row.open_time == NOON
    assert row.volume == 0


def parquet_file(folder: Path, **columns: Any) -> Path:
    file = folder / "candles.parquet"
    parquet.write_table(arrow.table(columns), file)
    return file


@pytest.mark.parametrize(
    "times",
    [
        [NOON + timedelta(minutes=n) for n in range(3)],
        [(NOON + timedelta(minutes=n)).replace(tzinfo=None) for n in range(3)],
        [int((NOON + timedelta(minutes=n)).timestamp() * 1_000) for n in range(3)],
        [(NOON + timedelta(minutes=n)).isoformat() for n in range(3)],
    ],
)
def test_parquet_says_the_same_as_csv(tmp_path: Path, times: list[Any]) -> None:
    values = {
        name: [float(row[at]) for row in ROWS]
        for at, name in enumerate(["open", "high", "low", "close", "volume"], start=1)
    }
    path = parquet_file(tmp_path, symbol=["x"] * 3, timestamp=times, **values)
    assert list(read_rows(path)) == list(read_rows(csv_file(tmp_path, *ROWS)))
    decimals = {name: [Decimal(str(value)) for value in column] for name, column in values.items()}
    assert list(read_rows(parquet_file(tmp_path, time=times, **decimals))) == list(read_rows(path))


def test_a_cell_that_is_empty_or_no_finite_number_is_left_to_the_screen(tmp_path: Path) -> None:
    first, second, third = ROWS
    path = csv_file(tmp_path, first, (*second[:4], "", second[5]), (*third[:2], "inf", *third[3:]))
    said: list[Refusal] = []
    feed = ReplayFeed(path, symbol="BTCUSDT", interval_s=60)
    assert len(Screen(feed, said.append).history(3, NOON)) == 1
    assert [refusal.reason for refusal in said] == ["absurd", "absurd"]
    empty = parquet_file(tmp_path, time=[NOON], open=[None], high=[1.0], low=[1.0], close=[1.0])
    assert next(read_rows(empty)).open.is_nan()


@pytest.mark.parametrize(
    ("header", "row", "said"),
    [
        ("time,open,high,low,close", ("soon", "1", "1", "1", "1"), "line 2: 'soon' is no time"),
        ("time,open,high,low,close", ("2026-01-01", "1", "1", "one", "1"), "line 2: 'one' is no number"),
        ("time,open,high,low,close", ("2026-01-01", "1", "1"), "line 2: a cell is missing"),
        ("time,open,high,last", ("2026-01-01", "1", "1", "1"), "it has no column low, close"),
        ("when,open,high,low,close", ("2026-01-01", "1", "1", "1", "1"), "it has no column a time (open_time"),
    ],
)
def test_a_file_that_cannot_be_understood_names_the_place(
    tmp_path: Path, header: str, row: tuple[str, ...], said: str
) -> None:
    path = csv_file(tmp_path, row, header=header)
    with pytest.raises(SwitchyardError) as caught:
        ReplayFeed(path, symbol="BTCUSDT", interval_s=60)
    assert (caught.value.code, caught.value.exit_code) == ("BOT-026", 78)
    assert f"{path}: {said}" in caught.value.what


def test_files_that_are_not_there_or_empty_or_of_another_kind_are_named(tmp_path: Path) -> None:
    (tmp_path / "text.parquet").write_text("time,open")
    (tmp_path / "bytes.csv").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "empty.csv").write_text("")
    for name in ("none.csv", "none.parquet", "text.parquet", "bytes.csv", "empty.csv", "."):
        with pytest.raises(SwitchyardError) as caught:
            ReplayFeed(tmp_path / name, symbol="BTCUSDT", interval_s=60)
        assert caught.value.code == "BOT-026", name
        assert str(tmp_path) in caught.value.what
    with pytest.raises(SwitchyardError, match="it has no rows"):
        ReplayFeed(csv_file(tmp_path), symbol="BTCUSDT", interval_s=60)
    with pytest.raises(SwitchyardError, match="the length of its candles cannot be told"):
        interval_of(csv_file(tmp_path, ROWS[0]))


def test_parquet_without_pyarrow_names_the_command_that_installs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)  # what an import finds where it is not installed
    with pytest.raises(SwitchyardError) as caught:
        next(read_rows(tmp_path / "candles.parquet"))
    assert caught.value.code == "BOT-025"
    assert f"{sys.executable}" in caught.value.fix
    assert "install" in caught.value.fix


def test_the_clock_alone_decides_the_row_over_and_over(tmp_path: Path) -> None:
    path = csv_file(tmp_path, *ROWS)
    settings = BotSettings(bot_feed="replay", bot_replay_file=path, bot_candle_interval_s=5)
    one, restarted = open_feed(settings), open_feed(settings)
    first = one.poll(NOON)
    assert [candle.close_time for candle in first] == [NOON]
    later = one.poll(NOON + timedelta(seconds=31))
    assert len(later) == 6
    assert one.poll(NOON + timedelta(seconds=31)) == []
    closes = [str(candle.close) for candle in first + later]
    assert sorted(set(closes)) == ["100.25", "100.5", "101.00"]
    assert closes[:4] == closes[3:]
    assert restarted.history(7, NOON + timedelta(seconds=31)) == first + later
    assert [candle.close_time - candle.open_time for candle in later] == [timedelta(seconds=5)] * 6
