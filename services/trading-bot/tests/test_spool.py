"""The spool: what is appended is there, in order, until it was acknowledged long enough ago; and never too much."""

from __future__ import annotations

import json
import os
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from tradedb.errors import SwitchyardError
from trading_bot.cli import main
from trading_bot.service import fact_spool
from trading_bot.settings import BotSettings
from trading_bot.spool import Spool, SpoolBusy, SpoolCorrupt, SpoolFull
from trading_bot.spool.inspect import inspect, spool_folders

KIB = 1024
SERVER, OTHER_SERVER = "7301/1/2026-01-01", "7301/2/2026-01-02"


class Clocks:
    """The wall clock and the one that nobody sets, in the test's hand."""

    def __init__(self) -> None:
        self.wall = datetime(2026, 1, 1, tzinfo=UTC)
        self.seconds = 1_000.0

    def pass_s(self, seconds: float) -> None:
        self.wall += timedelta(seconds=seconds)
        self.seconds += seconds


@pytest.fixture
def clocks() -> Clocks:
    return Clocks()


@pytest.fixture
def make(tmp_path: Path, clocks: Clocks) -> Any:
    """Return a function that makes a spool, always of the same folder; all are closed at the end."""
    made: list[Spool] = []

    def make(**changes: Any) -> Spool:
        made.append(Spool(tmp_path / "spool", now=lambda: clocks.wall, monotonic=lambda: clocks.seconds, **changes))
        return made[-1]

    yield make
    for spool in made:
        spool.close()


def fill(spool: Spool, n: int, size: int = 0) -> int:
    return spool.append("fill", f"SIMULATED/{n}", {"n": n, "pad": "x" * size})


def numbers(spool: Spool) -> list[int]:
    return [entry.body["n"] for entry in spool.unacknowledged()]


def test_entries_come_back_in_order_as_they_were_until_they_are_acknowledged(make: Any, clocks: Clocks) -> None:
    spool = make()
    assert spool.open().entries == 0
    body = {"price": "60006.00", "note": "täglich\n\0", "deep": {"list": [1, None, True]}}
    assert spool.append("intent", "a", body) == 1
    clocks.pass_s(60)
    assert fill(spool, 2) == 2
    first, second = spool.unacknowledged()
    assert (first.number, first.kind, first.key, first.body) == (1, "intent", "a", body)
    assert first.appended_at == datetime(2026, 1, 1, tzinfo=UTC)
    assert second.appended_at - first.appended_at == timedelta(seconds=60)
    assert spool.state().oldest_unacknowledged_s == 60

    spool.acknowledge([1, 99], SERVER)  # 99 was never given out
    spool.acknowledge([1], OTHER_SERVER)  # known already: nothing is written
    assert [entry.number for entry in spool.unacknowledged()] == [2]
    assert [(entry.number, entry.acknowledged) for entry in spool.retained()] == [(1, True), (2, False)]
    spool.close()

    again = make()
    opened = again.open()
    assert (opened.torn_bytes, opened.entries, opened.unacknowledged, opened.identity) == (0, 2, 1, SERVER)
    assert [entry.body for entry in again.retained()] == [body, {"n": 2, "pad": ""}]
    assert fill(again, 3) == 4  # 3 was the acknowledgement
    assert [entry.number for entry in again.unacknowledged()] == [2, 4]


def test_what_is_no_json_is_refused_and_nothing_is_written(make: Any) -> None:
    spool = make()
    spool.open()
    with pytest.raises(TypeError):
        spool.append("fill", "a", {"at": datetime(2026, 1, 1, tzinfo=UTC)})
    with pytest.raises(ValueError, match="Out of range float"):
        spool.append("fill", "a", {"price": float("nan")})
    assert (spool.state().entries, fill(spool, 1)) == (0, 1)


def test_it_is_kept_for_a_day_after_the_acknowledgement_and_goes_file_by_file(make: Any, clocks: Clocks) -> None:
    spool = make(limit_bytes=64 * KIB, keep_bytes=10 * 1024 * KIB)
    spool.open()
    for n in range(1, 31):  # files of 64 KiB: three a file
        number = fill(spool, n, 20 * KIB)
        if n != 20:
            spool.acknowledge([number], SERVER)
    files = lambda: len(list(spool.folder.glob("*.jsonl")))  # noqa: E731
    assert (files(), spool.state().entries) == (10, 30)
    clocks.pass_s(86_399)
    assert spool.prune() == 0
    clocks.pass_s(1)
    assert spool.prune() == 18  # up to the file with the one that is not acknowledged
    assert [entry.body["n"] for entry in spool.retained()] == list(range(19, 31))
    spool.acknowledge([spool.unacknowledged()[0].number], SERVER)
    assert spool.prune() == 0  # it was acknowledged a moment ago
    clocks.pass_s(86_400)
    assert spool.prune() == 9
    assert files() == 1  # the newest stays: it knows the next number
    spool.close()
    again = make(limit_bytes=64 * KIB, keep_bytes=0)
    assert again.open().entries == 3
    before = max(entry.number for entry in again.retained())
    assert fill(again, 31) > before


def test_it_prunes_by_itself_and_is_bounded_also_when_a_day_has_too_much(
    make: Any, clocks: Clocks, caplog: pytest.LogCaptureFixture
) -> None:
    spool = make(limit_bytes=64 * KIB, keep_bytes=256 * KIB)
    spool.open()
    for n in range(200):
        spool.acknowledge([fill(spool, n, 8 * KIB)], SERVER)
        assert spool.state().disk_bytes <= (256 + 64 + 16) * KIB
        assert spool.state().disk_bytes == sum(file.stat().st_size for file in spool.folder.glob("*.jsonl"))
    assert [entry.body["n"] for entry in spool.retained()][-1] == 199
    assert {record.message for record in caplog.records} == {"spool_kept_for_less_long"}


def test_one_entry_that_nobody_ever_acknowledges_does_not_let_it_grow_for_ever(make: Any) -> None:
    spool = make(limit_bytes=64 * KIB, keep_bytes=128 * KIB)
    spool.open()
    fill(spool, 0)
    n = 1
    while not spool.state().full:
        spool.acknowledge([fill(spool, n, 8 * KIB)], SERVER)
        n += 1
    with pytest.raises(SpoolFull, match="the most that they may"):
        fill(spool, n)
    assert n < 50
    assert numbers(spool) == [0]


def test_close_only_at_three_quarters_full_at_the_limit_and_free_again_once_acknowledged(make: Any) -> None:
    spool = make(limit_bytes=64 * KIB)
    spool.open()
    seen: list[tuple[bool, bool]] = []
    while not seen or not seen[-1][1]:
        fill(spool, len(seen), KIB)
        state = spool.state()
        assert state.bytes <= 66 * KIB
        assert state.close_only == (state.bytes >= 48 * KIB)
        assert (state.reason is None) == (not state.close_only)
        seen.append((state.close_only, state.full))
    assert set(seen) == {(False, False), (True, False), (True, True)}
    with pytest.raises(SpoolFull) as caught:
        fill(spool, len(seen), KIB)
    assert caught.value.code == "BOT-033"
    assert f"the spool {spool.folder} is full" in caught.value.what
    written = numbers(spool)
    assert written == list(range(len(seen)))  # nothing dropped, and the refused one is not there
    size = spool.state().disk_bytes

    spool.acknowledge([entry.number for entry in spool.unacknowledged()], SERVER)  # also where it is full
    state = spool.state()
    assert (state.unacknowledged, state.bytes, state.close_only, state.full) == (0, 0, False, False)
    assert size < state.disk_bytes < size + 300  # one record for all of them
    fill(spool, 100)


def test_close_only_by_age_and_no_step_of_the_wall_clock_changes_it(make: Any, clocks: Clocks) -> None:
    spool = make()
    spool.open()
    fill(spool, 1)
    clocks.wall += timedelta(days=2)
    assert not spool.state().close_only
    clocks.wall -= timedelta(days=4)
    clocks.pass_s(899)
    assert not spool.state().close_only
    clocks.pass_s(1)
    assert spool.state().close_only
    assert spool.state().reason == "an entry waits for the database since 900 s"
    assert not spool.state().full
    fill(spool, 2)  # closing a position goes on
    spool.close()

    clocks.wall = datetime(2026, 1, 1, 0, 10, tzinfo=UTC)  # the process began anew ten minutes later
    again = make()
    again.open()
    assert again.state().oldest_unacknowledged_s == 600


def test_many_may_be_read_while_they_are_acknowledged(make: Any, clocks: Clocks) -> None:
    spool = make(limit_bytes=64 * KIB, keep_bytes=0, keep_acked_s=0)
    spool.open()
    for n in range(40):
        spool.acknowledge([fill(spool, n, KIB)], SERVER)
    for n in range(40, 60):
        fill(spool, n, KIB)
    seen = []
    for entry in spool.retained():
        spool.acknowledge([entry.number], SERVER)
        fill(spool, 1_000 + entry.body["n"])
        seen.append(entry.body["n"])
    assert seen[-20:] == list(range(40, 60))
    assert spool.prune() > 0


def test_one_process_a_folder_and_the_probes_may_ask_meanwhile(make: Any) -> None:
    spool, second = make(), make()
    spool.open()
    with pytest.raises(SpoolBusy) as caught:
        second.open()
    assert caught.value.code == "BOT-031"
    assert f"process {os.getpid()} on " in caught.value.what
    asked: list[int] = []
    stop = threading.Event()

    def probe() -> None:
        while not stop.is_set():
            asked.append(spool.state().unacknowledged)

    thread = threading.Thread(target=probe)
    thread.start()
    for n in range(50):
        fill(spool, n)
    stop.set()
    thread.join(30)
    assert asked == sorted(asked)
    spool.close()
    assert second.open().unacknowledged == 50
    with pytest.raises(RuntimeError, match="not open"):
        fill(spool, 51)
    with pytest.raises(RuntimeError, match="is open"):
        second.open()


def test_the_folder_is_nobody_elses_and_one_that_cannot_be_used_is_said(make: Any, tmp_path: Path) -> None:
    spool = make()
    spool.open()
    fill(spool, 1)
    assert spool.folder.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in spool.folder.iterdir()} == {0o600}
    (tmp_path / "file").write_text("")
    with pytest.raises(SwitchyardError) as caught:
        Spool(tmp_path / "file").open()
    assert (caught.value.code, caught.value.exit_code) == ("BOT-032", 78)
    with pytest.raises(SwitchyardError, match="BOT-032"):
        Spool(tmp_path / "file" / "spool").open()


def test_a_missing_file_and_one_that_is_not_in_its_place_are_damage(make: Any, tmp_path: Path) -> None:
    spool = make(limit_bytes=64 * KIB)
    spool.open()
    for n in range(5):
        fill(spool, n, 30 * KIB) if n < 2 else spool.acknowledge([n], SERVER) or fill(spool, n, 30 * KIB)
    spool.close()
    files = sorted(spool.folder.glob("*.jsonl"))
    assert len(files) == 3
    content = files[1].read_bytes()
    files[1].unlink()
    with pytest.raises(SpoolCorrupt, match="what is between is missing") as caught:
        make(limit_bytes=64 * KIB).open()
    assert (caught.value.code, caught.value.file, caught.value.offset) == ("BOT-030", files[2], None)
    files[1].write_bytes(files[0].read_bytes())
    with pytest.raises(SpoolCorrupt, match="record 1 stands where") as caught:
        make(limit_bytes=64 * KIB).open()
    assert caught.value.offset == 0
    files[1].write_bytes(content)
    assert make(limit_bytes=64 * KIB).open().entries == 5


def run(*arguments: str, state_dir: Path) -> Any:
    environment = {"BOT_STATE_DIR": str(state_dir)}
    return CliRunner().invoke(main, ["spool", *arguments], env=environment, catch_exceptions=False)


def test_the_operators_look(make: Any, tmp_path: Path) -> None:
    nothing = run("verify", state_dir=tmp_path)
    assert (nothing.exit_code, "the bot has not run with it yet" in nothing.stdout) == (0, True)
    spool = make()
    spool.open()
    spool.acknowledge([fill(spool, 1)], SERVER)
    for n in range(2, 6):
        fill(spool, n)
    spool.append("intent", "abc", {"side": "BUY"})
    before = {path: path.read_bytes() for path in spool.folder.iterdir()}

    found = run("verify", state_dir=tmp_path)
    assert found.exit_code == 0
    assert f"OK    {spool.folder}" in found.stdout
    assert f"in use by process {os.getpid()}" in found.stdout
    assert "5 not acknowledged (4 fill, 1 intent)" in found.stdout
    assert f"last acknowledged by database {SERVER}" in found.stdout
    shown = run("show", "--limit", "2", state_dir=tmp_path)
    assert 'fill     {"n": 2' in shown.stdout
    assert "and 3 more: --limit 5" in shown.stdout
    data = json.loads(run("show", "--json", state_dir=tmp_path).stdout)
    assert data["schema_version"] == 1
    assert [entry["key"] for entry in data["spools"][0]["shown"]] == [
        *(f"SIMULATED/{n}" for n in range(2, 6)), "abc",
    ]  # fmt: skip
    assert {path: path.read_bytes() for path in spool.folder.iterdir()} == before
    fill(spool, 6)  # the look took nothing from the bot
    spool.close()

    file = next(spool.folder.glob("*.jsonl"))
    content = file.read_bytes()
    file.write_bytes(content[:-5])
    torn = json.loads(run("verify", "--json", state_dir=tmp_path).stdout)["spools"][0]
    assert (torn["sound"], torn["held_by"], torn["unacknowledged"]) == (True, None, 5)
    last = content.rindex(b"\n", 0, -1) + 1
    assert torn["torn"] == {"file": str(file), "offset": last, "why": torn["torn"]["why"]}
    assert "the next start cuts it off" in run("verify", state_dir=tmp_path).stdout

    file.write_bytes(content.replace(b'"n":3,"pad"', b'"n":4,"pad"'))
    damaged = run("verify", state_dir=tmp_path)
    assert damaged.exit_code == 1
    place = inspect(spool.folder).damage
    assert place is not None
    assert content[place.offset or 0 :].startswith(b"SW1 ")
    assert f"DAMAGED: {file} at byte {place.offset}: the record does not agree with its checksum" in damaged.stdout
    assert run("show", "--json", state_dir=tmp_path).exit_code == 1
    assert run("verify", "--folder", str(spool.folder), state_dir=tmp_path / "other").exit_code == 1


def test_every_spool_of_a_state_folder_is_found(tmp_path: Path) -> None:
    for name in ("spool", "spool-2", "spool-3"):
        spool = Spool(tmp_path / name)
        spool.open()
        if name != "spool-3":
            fill(spool, 1)
        spool.close()
    (tmp_path / "venue.db").touch()
    assert [folder.name for folder in spool_folders(tmp_path)] == ["spool", "spool-2"]


@pytest.mark.parametrize(
    ("environment", "warned"),
    [
        ({}, False),
        ({"RAILWAY_ENVIRONMENT": "production"}, True),
        ({"RAILWAY_ENVIRONMENT": "production", "RAILWAY_VOLUME_MOUNT_PATH": "/other"}, True),
        ({"RAILWAY_ENVIRONMENT": "production", "RAILWAY_VOLUME_MOUNT_PATH": "/data"}, False),
    ],
)
def test_a_spool_that_the_next_deployment_deletes_is_said(
    environment: dict[str, str], warned: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for name in list(os.environ):
        if name.startswith("RAILWAY_"):
            monkeypatch.delenv(name)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    fact_spool(BotSettings(bot_state_dir=Path("/data")))
    assert [record.message for record in caplog.records] == ["state_folder_on_no_volume"] * warned
