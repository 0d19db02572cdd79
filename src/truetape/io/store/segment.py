"""The bytes of a segment file: its name, its preamble, its blocks and the checks that chain them (docs/journal.md).

    segment  = preamble, header block, records block ...
    block    = 40 bytes of head + payload (msgpack)

Every head carries the CRC32C of the block before it, so that a block that was swapped, dropped or repeated is noticed, a
check of its own, so that its length can be trusted before its payload is read, and the journal's random id, so that bytes
which a venue sent can never pass for a block. `writer` builds these, `scan` reads them; nothing here touches a file but
`segments`, which lists a directory, and `sync_directory`.
"""

from __future__ import annotations

import os
import re
import struct
from typing import NamedTuple, TypeAlias

from crc32c import crc32c

FORMAT = 1
MAGIC = b"truetape"
REPAIRED = 1
"""Preamble flag: the segment before this one had a torn tail, which was cut off when the journal was opened."""

MARK = b"\xf7TT"
"""What every block begins with. 0xF7 occurs in no valid UTF-8, so no text frame holds it."""
HEADER, RECORDS = MARK + b"H", MARK + b"R"
PAYLOAD_MAX = 1 << 30

PREAMBLE = struct.Struct("<8sIIQII")
_PREAMBLE_BODY = struct.Struct("<8sIIQI")
HEAD = struct.Struct("<4sIQQIIII")
_HEAD_BODY = struct.Struct("<4sIQQII")
CRC = struct.Struct("<I")
_NAME = re.compile(r"(\d{8,})\.tape(\.zst)?")

Bytes: TypeAlias = bytes | bytearray | memoryview
crc = crc32c
"""CRC32C of some bytes, continued from a second argument."""


class JournalError(Exception):
    """A journal cannot be opened: what was expected, what was found, where, and what to do."""


class Preamble(NamedTuple):
    """The first 32 bytes of a segment. `crc` covers the rest of it and is where the chain of blocks starts."""

    magic: bytes
    format: int
    flags: int
    journal: int
    segment: int
    crc: int


class Head(NamedTuple):
    """The head of a block, its own check already verified.

    `first` is the number of its first record, `records` how many it holds, `previous` the `crc` of the block before it (of the
    preamble, for the first). `crc` covers the head up to `previous` and the payload.
    """

    kind: bytes
    length: int
    journal: int
    first: int
    records: int
    previous: int
    crc: int


class Segment(NamedTuple):
    """A segment file. Where the plain and the compressed form both exist (a crash between the two), it is the plain one."""

    number: int
    path: str
    compressed: bool
    bytes: int

    @property
    def file(self) -> str:
        """Its name in the directory."""
        return os.path.basename(self.path)


LOOKS = 4
"""How often a directory is listed where segments seem to be missing."""


def plain_name(number: int) -> str:
    """The name of a segment that is open, or closed and not yet compressed."""
    return f"{number:08d}.tape"


def packed_name(number: int) -> str:
    """The name of a compressed segment."""
    return f"{number:08d}.tape.zst"


def segments(directory: str | os.PathLike[str]) -> list[Segment]:
    """The segments of a journal, oldest first. Raises `JournalError` where there is none."""
    path = os.fspath(directory)
    try:
        found = listed(path)
    except FileNotFoundError:
        raise JournalError(
            f"journal {path}: expected a directory of segments, found nothing; check [journal] dir"
        ) from None
    except NotADirectoryError:
        raise JournalError(
            f"journal {path}: expected a directory of segments, found a file; name the directory"
        ) from None
    except OSError as error:
        raise JournalError(f"journal {path}: expected a readable directory, found: {error.strerror}") from error
    if not found:
        raise JournalError(
            f"journal {path}: expected segment files such as {plain_name(0)}, found none; "
            "name the directory that a gateway with a [journal] table wrote"
        )
    return found


def listed(directory: str) -> list[Segment]:
    """Like `segments`, but an empty directory is an empty list, and OSError is the caller's.

    While a writer is at work a segment changes its name when it is compressed: seen under the old name it may be gone, under the new one not
    there yet. So where one vanished, or is missing between others, it is looked for again; what is missing then is missing.
    """
    for _ in range(LOOKS):
        found, vanished = _look(directory)
        numbers = sorted(found)
        if not vanished and (not numbers or numbers[-1] - numbers[0] == len(numbers) - 1):
            break
    return [found[number] for number in numbers]


def _look(directory: str) -> tuple[dict[int, Segment], bool]:
    """Segments by number, and whether one went while we looked."""
    found: dict[int, Segment] = {}
    vanished = False
    with os.scandir(directory) as entries:
        for entry in entries:
            match = _NAME.fullmatch(entry.name)
            if match is None or not entry.is_file():
                continue
            number, compressed = int(match[1]), match[2] is not None
            if not compressed or number not in found:
                try:
                    size = entry.stat().st_size
                except FileNotFoundError:
                    vanished = True
                    continue
                found[number] = Segment(number, entry.path, compressed, size)
    return found, vanished


def sync_directory(directory: str) -> None:
    """Makes names that were added, removed or changed in a directory durable."""
    held = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(held)
    finally:
        os.close(held)


def pack_preamble(journal: int, segment: int, flags: int) -> bytes:
    """The first bytes of a segment."""
    body = _PREAMBLE_BODY.pack(MAGIC, FORMAT, flags, journal, segment)
    return body + CRC.pack(crc(body))


def parse_preamble(data: Bytes) -> Preamble | None:
    """The preamble, or None where its check does not hold."""
    if len(data) < PREAMBLE.size:
        return None
    preamble = Preamble._make(PREAMBLE.unpack_from(data))
    body = memoryview(data)[: _PREAMBLE_BODY.size]
    return preamble if preamble.magic == MAGIC and crc(body) == preamble.crc else None


def seal(block: bytearray, kind: bytes, journal: int, first: int, records: int, previous: int) -> int:
    """Writes the head into the first 40 bytes of `block`, whose payload is already behind them; returns the block's crc."""
    _HEAD_BODY.pack_into(block, 0, kind, len(block) - HEAD.size, journal, first, records, previous)
    with memoryview(block) as view:
        whole = crc(view[HEAD.size :], crc(view[: _HEAD_BODY.size]))
        CRC.pack_into(block, _HEAD_BODY.size, whole)
        CRC.pack_into(block, _HEAD_BODY.size + CRC.size, crc(view[: _HEAD_BODY.size + CRC.size]))
    return whole


def parse_head(data: Bytes) -> Head | None:
    """The head of a block, or None where these bytes are not one."""
    if len(data) < HEAD.size or data[: len(MARK)] != MARK:
        return None
    *fields, check = HEAD.unpack_from(data)
    if crc(memoryview(data)[: HEAD.size - CRC.size]) != check:
        return None
    head = Head._make(fields)
    return head if head.kind in (HEADER, RECORDS) else None


def holds(head: Head, head_bytes: Bytes, payload: Bytes) -> bool:
    """Whether the payload is the one that the head was made for."""
    return crc(payload, crc(memoryview(head_bytes)[: _HEAD_BODY.size])) == head.crc
