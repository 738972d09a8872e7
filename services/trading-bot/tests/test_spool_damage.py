"""Whatever happens to the bytes of a spool: a torn end is cut, anything else stops the bot, and nothing is made up."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from trading_bot.spool import Opened, Spool, SpoolCorrupt, segments
from trading_bot.spool.frames import HEAD_BYTES, frame

KEYS = [f"{n}" * (1 + n * 7 % 40) for n in range(12)]
EXAMPLES = settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="module")
def content() -> bytes:
    """The only file of a spool with entries 1 to 6, their acknowledgement, and entries 8 to 13."""
    with tempfile.TemporaryDirectory() as folder:
        spool = Spool(Path(folder, "spool"))
        spool.open()
        for key in KEYS[:6]:
            spool.append("fill", key, {"key": key, "pad": "ä" * len(key)})
        spool.acknowledge([1, 2, 3, 5], "server")
        for key in KEYS[6:]:
            spool.append("fill", key, {"key": key})
        spool.close()
        return Path(folder, "spool", "000000000001.jsonl").read_bytes()


@pytest.fixture(scope="module")
def starts(content: bytes) -> list[int]:
    """Where each record begins, and the end."""
    found, at = [0], 0
    for line in content.splitlines(keepends=True):
        at += len(line)
        found.append(at)
    return found


@contextmanager
def spool_of(content: bytes) -> Iterator[tuple[Spool, Path]]:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "000000000001.jsonl")
        file.write_bytes(content)
        spool = Spool(Path(folder))
        try:
            yield spool, file
        finally:
            spool.close()


def opened(content: bytes) -> tuple[Opened, list[str]]:
    """Open a spool of these bytes, read it, write to it, and read it once more."""
    with spool_of(content) as (spool, file):
        found = spool.open()
        keys = [entry.key for entry in spool.retained()]
        assert file.read_bytes() == content[: len(content) - found.torn_bytes]
        spool.append("fill", "new", {})
        spool.close()
        again = spool.open()
        assert (again.torn_bytes, again.entries) == (0, found.entries + 1)
        assert [entry.key for entry in spool.retained()] == [*keys, "new"]
        return found, keys


def test_the_whole_file(content: bytes) -> None:
    found, keys = opened(content)
    assert (found.torn_bytes, found.entries, found.unacknowledged, found.identity) == (0, 12, 8, "server")
    assert keys == KEYS


@EXAMPLES
@given(data=st.data())
def test_cut_anywhere_it_has_every_record_that_was_whole(
    data: st.DataObject, content: bytes, starts: list[int]
) -> None:
    at = data.draw(st.integers(0, len(content)))
    whole = max(start for start in starts if start <= at)
    found, keys = opened(content[:at])
    assert found.torn_bytes == at - whole
    records = starts.index(whole)
    assert keys == KEYS[: records if records <= 6 else records - 1]


@EXAMPLES
@given(data=st.data())
def test_a_changed_byte_anywhere_stops_it_at_that_record_and_changes_nothing(
    data: st.DataObject, content: bytes, starts: list[int]
) -> None:
    at = data.draw(st.integers(0, len(content) - 1))
    value = data.draw(st.integers(0, 255).filter(lambda value: value != content[at]))
    changed = content[:at] + bytes([value]) + content[at + 1 :]
    with spool_of(changed) as (spool, file):
        with pytest.raises(SpoolCorrupt) as caught:
            spool.open()
        assert caught.value.code == "BOT-030"
        assert caught.value.offset == max(start for start in starts if start <= at)
        assert f"{file} at byte {caught.value.offset}" in caught.value.what
        assert "trading-bot spool verify" in caught.value.fix
        assert file.read_bytes() == changed
        with pytest.raises(SpoolCorrupt):  # it does not hold the lock
            spool.open()


@EXAMPLES
@given(data=st.data())
def test_bytes_taken_out_put_in_or_behind_are_never_taken_for_records(
    data: st.DataObject, content: bytes, starts: list[int]
) -> None:
    at = data.draw(st.integers(0, len(content)))
    gone = data.draw(st.integers(0, 40))
    new = data.draw(st.binary(max_size=80))
    changed = content[:at] + new + content[at + gone :]
    whole = [start for start in starts if changed[:start] == content[:start]][-1]
    with spool_of(changed) as (spool, file):
        try:
            found = spool.open()
        except SpoolCorrupt as error:
            damage = error
        else:  # what is left is a beginning of what was written
            keys = [entry.key for entry in spool.retained()]
            assert keys == KEYS[: len(keys)]
            assert file.read_bytes() == content[: len(changed) - found.torn_bytes]
            return
        assert damage.offset is not None
        assert damage.offset >= whole
        assert file.read_bytes() == changed


@EXAMPLES
@given(data=st.data(), length=st.integers(0, 9_000), before=st.integers(0, 5_000))
def test_the_zeros_of_a_power_loss_are_a_torn_end(
    data: st.DataObject, content: bytes, length: int, before: int
) -> None:
    """The file has its new size, and from its old end or a border of a sector on, the data had not arrived."""
    old = content + an_entry(14, before)
    new = an_entry(15, length)
    borders = [len(old), *range((len(old) // 512 + 1) * 512, len(old) + len(new) - 8, 512)]
    arrived = data.draw(st.sampled_from(borders)) - len(old)
    found, keys = opened(old + new[:arrived] + bytes(len(new) - arrived))
    assert found.torn_bytes == len(new)
    assert keys == [*KEYS, "14"]


def an_entry(number: int, size: int) -> bytes:
    return frame(
        segments.payload_of_entry(number, datetime(2026, 1, 1, tzinfo=UTC), "fill", f"{number}", {"": "x" * size})
    )


def test_zeros_anywhere_else_are_damage(content: bytes, starts: list[int]) -> None:
    for start, end in itertools.pairwise(starts):
        zeroed = content[:start] + bytes(end - start) + content[end:]
        with spool_of(zeroed) as (spool, _):
            if end == len(content):
                assert spool.open().torn_bytes == end - start
            else:
                with pytest.raises(SpoolCorrupt):
                    spool.open()
        in_head = content[:start] + content[start : start + 10] + bytes(HEAD_BYTES - 10) + content[start + HEAD_BYTES :]
        with spool_of(in_head) as (spool, _), pytest.raises(SpoolCorrupt):
            spool.open()


def test_a_record_that_no_spool_wrote_is_damage_although_its_checksum_fits(content: bytes) -> None:
    for payload in (b"[]", b"{}", b'{"n":14}', b'{"n":14,"at":"soon","kind":"fill","key":"k","body":{}}', b"\xff"):
        with spool_of(content + frame(payload)) as (spool, _):
            with pytest.raises(SpoolCorrupt, match="that no spool wrote") as caught:
                spool.open()
            assert caught.value.offset == len(content)
