"""Judges whether the blocks of a journal are in their place, and how many records are missing where they are not.

Records are numbered over the life of a journal and every block names the block before it, so a place is two numbers: the record
that must come next and the crc it must follow. `reader` walks the segments; this room is given one after the other.

    in place            -> its records
    behind its place    -> a `Flaw` (so many records missing), then its records; no flaw where a recorded `Hole` accounts for them
    before its place    -> a `Flaw`: repeated or out of order, never returned
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import msgspec

from truetape.io.store.scan import Block, Damage, scan, torn
from truetape.io.store.segment import HEADER, Preamble, Segment, plain_name
from truetape.io.store.window import look
from truetape.model.record import Header, Hole, Record

SOURCE = "journal"
"""The `source` of every Hole."""

_records = msgspec.msgpack.Decoder(list[Record])
_raws = msgspec.msgpack.Decoder(list[msgspec.Raw])
_record: msgspec.msgpack.Decoder[Record] = msgspec.msgpack.Decoder(Record)
HEADERS = msgspec.msgpack.Decoder(Header)


class Batch(NamedTuple):
    """The records of one block: the first has number `first`, the others follow. `offset` is within the plain segment."""

    segment: Segment
    offset: int
    first: int
    records: list[Record]


class Flaw(NamedTuple):
    """Damage, named. `records` is how many are missing because of it, -1 unknown. `torn`: the tail of the last segment,
    never acknowledged, which the next writer cuts off; nothing is missing."""

    file: str
    offset: int
    why: str
    records: int = -1
    torn: bool = False


class Place:
    """Where the reading of a journal stands."""

    def __init__(self, journal: int | None) -> None:
        self._journal = journal
        self._segment = -1  # number of the last segment that was read to its end
        self._next: int | None = None  # number of the record that must come next, None where no one knows
        self._begins = 0  # number of the first record, as the last header says
        self._chain: int | None = None  # crc that the next block must follow, None where it is lost
        self._fresh = True  # no block of this segment was in its place yet
        self._flaws: list[Flaw] = []  # named as soon as the next block tells how many records are missing

    def read(self, segment: Segment, final: bool) -> Iterator[Preamble | Header | Batch | Flaw]:
        """What one segment adds. `final`: it is the last, where a torn tail is no damage."""
        if segment.number == 0:
            self._next = 0
        self._chain, self._fresh, at = None, True, 0
        try:
            with look(segment) as window:
                for part in scan(window, segment.number, self._journal):
                    at = at if isinstance(part, Preamble) else part.offset
                    yield from self._judge(segment, part, final)
        except FileNotFoundError:
            if self._next is not None:  # else retention took the oldest just before we came to it
                self._flaws.append(Flaw(segment.file, 0, "the file vanished while the journal was read"))
        except OSError as error:
            self._flaws.append(Flaw(segment.file, at, f"cannot be read beyond this place: {error.strerror}"))
        self._segment = segment.number

    def end(self) -> Iterator[Flaw]:
        """What is known to be missing when there are no more segments."""
        gap = -1 if self._next is None or self._begins <= self._next else self._begins - self._next
        yield from self._missing(plain_name(self._segment), 0, gap)

    def _judge(
        self, segment: Segment, part: Preamble | Block | Damage, final: bool
    ) -> Iterator[Preamble | Header | Batch | Flaw]:
        match part:
            case Preamble():
                self._chain = part.crc
                yield part
            case Damage():
                if final and torn(segment, part):
                    yield Flaw(segment.file, part.offset, part.why, 0, True)
                else:
                    self._flaws.append(Flaw(segment.file, part.offset, part.why, part.records))
                    self._chain = None
            case Block():
                if part.head.kind == HEADER:
                    yield from self._header(segment, part)
                else:
                    yield from self._records(segment, part)

    def _header(self, segment: Segment, block: Block) -> Iterator[Header | Flaw]:
        head = block.head
        if not self._fresh or (self._chain is not None and head.previous != self._chain):
            yield Flaw(segment.file, block.offset, "a header block that is not the first: skipped", 0)
            return
        try:
            yield HEADERS.decode(block.payload)
        except msgspec.MsgspecError as error:
            yield Flaw(segment.file, block.offset, f"the header does not decode: {error}", 0)
        self._next = head.first if self._next is None else self._next
        self._begins, self._chain = head.first, head.crc

    def _records(self, segment: Segment, block: Block) -> Iterator[Batch | Flaw]:
        head = block.head
        gap = -1 if self._next is None else head.first - self._next
        if self._next is not None and gap < 0:
            why = f"records {head.first} to {head.first + head.records - 1} are repeated or out of order: skipped"
            yield Flaw(segment.file, block.offset, why, 0)
            return
        records = _decode(block)
        if gap > 0 and records and isinstance(records[0], Hole):
            gap -= min(
                gap, max(0, records[0].records - 1)
            )  # a Hole stands in the place of the last record that it counts
        if gap > 0 or self._flaws:
            vanished = self._fresh and 0 <= self._segment < segment.number - 1
            yield from self._missing(
                *((plain_name(self._segment + 1), 0) if vanished else (segment.file, block.offset)), gap
            )
        elif self._chain is not None and head.previous != self._chain:
            yield Flaw(segment.file, block.offset, "the block before it is not the one that was written", 0)
        yield Batch(segment, block.offset, head.first, records)
        self._next, self._chain, self._fresh = head.first + head.records, head.crc, False

    def _missing(self, file: str, offset: int, gap: int) -> Iterator[Flaw]:
        """Names the damage before this place; where `gap` is known, the counts add up to it."""
        flaws, self._flaws = self._flaws, []
        for flaw in flaws:
            if gap >= 0:
                count = gap if flaw.records < 0 else min(gap, flaw.records)
                gap -= count
                flaw = flaw._replace(records=count)
            yield flaw
        if gap > 0:
            yield Flaw(file, offset, "records are missing before this place", gap)


def _decode(block: Block) -> list[Record]:
    """The records of a sound block. One that does not decode (a newer kind, a bug) becomes a Hole in its place."""
    try:
        records = _records.decode(block.payload)
    except msgspec.MsgspecError:
        records = [_decode_one(raw, block.head.first + i) for i, raw in enumerate(_raws.decode(block.payload))]
    assert len(records) == block.head.records, "a block whose crc holds has as many records as its head says"
    return records


def _decode_one(raw: msgspec.Raw, number: int) -> Record:
    try:
        return _record.decode(raw)
    except msgspec.MsgspecError as error:
        return Hole(SOURCE, 0, f"record {number} does not decode: {error}", 1)
