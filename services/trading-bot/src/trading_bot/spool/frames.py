"""How a record lies in a file, so that a torn one can be told from a damaged one.

A record is one line that a person can read::

    SW1 <length of the JSON, hex> <its CRC-32, hex> <CRC-32 of the line so far, hex> <JSON>

A write that a crash cut short leaves the beginning of a record: its head is whole and says that more should follow, or
is not whole itself. A record that is there in its full length and does not agree with its sums was changed later. The
head has a sum of its own because a flipped digit in the length would otherwise make a whole record look like a torn
one, and a torn one is cut off.

A power loss can also leave the file in its new size, with zeros where the data had not yet arrived. Such zeros reach
to the end of the file, and begin where the record does or at a border of a disk sector; JSON has none.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import BinaryIO
from zlib import crc32

HEAD_BYTES = 31
_SECTOR_BYTES = 512
_LEAST_ZEROS = 8  # fewer than that is a damaged byte rather than a missing sector
_HEAD = re.compile(rb"SW1 ([0-9a-f]{8}) ([0-9a-f]{8}) ([0-9a-f]{8}) ")
_SHAPE = b"SW1 00000000 00000000 00000000 "  # 0: any hexadecimal digit


class BadFrame(Exception):
    """A record that is not whole. ``torn``: its write was cut short, and it was never said to be durable."""

    def __init__(self, offset: int, why: str, *, torn: bool) -> None:
        super().__init__(why)
        self.offset = offset
        self.why = why
        self.torn = torn


def frame(payload: bytes) -> bytes:
    """Return the record of ``payload``, which has no line end in it."""
    head = b"SW1 %08x %08x" % (len(payload), crc32(payload))
    return b"%b %08x %b\n" % (head, crc32(head), payload)


def frames(file: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """Give (offset of the record, payload) for each record from the beginning of the file.

    Raises: BadFrame, at the first record that is not whole.
    """
    offset = 0
    while head := file.read(HEAD_BYTES):
        if len(head) < HEAD_BYTES:
            torn = _begins_a_head(head) or _missing_sectors(offset, head, in_head=True)
            raise BadFrame(offset, f"{len(head)} bytes that are no whole record", torn=torn)
        match = _HEAD.fullmatch(head)
        if match is None or crc32(head[:21]) != int(match[3], 16):
            torn = _missing_sectors(offset, head + file.read(), in_head=True)
            raise BadFrame(offset, "the head of the record is damaged", torn=torn)
        length = int(match[1], 16)
        body = file.read(length + 1)
        if len(body) <= length:
            raise BadFrame(offset, f"the record ends after {len(body)} of {length + 1} bytes", torn=True)
        payload = body[:-1]
        if crc32(payload) != int(match[2], 16) or body[-1:] != b"\n":
            torn = not file.read(1) and _missing_sectors(offset, head + body, in_head=False)
            raise BadFrame(offset, "the record does not agree with its checksum", torn=torn)
        yield offset, payload
        offset += HEAD_BYTES + len(body)


def _begins_a_head(data: bytes) -> bool:
    """Whether a whole head could have begun like this."""
    return all(
        found in b"0123456789abcdef" if wanted == ord("0") else found == wanted
        for found, wanted in zip(data, _SHAPE, strict=False)
    )


def _missing_sectors(offset: int, data: bytes, *, in_head: bool) -> bool:
    """Whether ``data``, from ``offset`` to the end of the file, is one record that a power loss ended in zeros."""
    written = data.rstrip(b"\0")
    zeros_at = offset + len(written)
    if len(data) - len(written) < _LEAST_ZEROS or (written and zeros_at % _SECTOR_BYTES):
        return False
    return not in_head or (len(written) < HEAD_BYTES and _begins_a_head(written))
