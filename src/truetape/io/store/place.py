"""Judges whether the blocks of a journal are in their place, and how many records are missing where they are not.

Records are numbered over the life of a journal and every block names the block before it, so a place is two numbers: the record
that must come next and the crc it must follow. `reader` walks the segments; this room is given one after the other.

    in place            -> its records
    behind its place    -> a `Flaw` (so many records missing), then its records; no flaw where a recorded `Hole` accounts for them
    before its place    -> a `Flaw`: repeated or out of order, never returned

What is missing before a segment comes before its header, be it recorded or found: the header's checkpoint was taken after it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, TypeAlias

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


Part: TypeAlias = Preamble | Header | Batch | Flaw
"""What a journal is read as."""


class Place:
    """Where the reading of a journal stands."""

    def __init__(self, journal: int | None) -> None:
        self._journal = journal
        self._segment = -1  # number of the last segment that was read to its end
        self._next: int | None = None  # number of the record that must come next, None where no one knows
        self._chain: int | None = None  # crc that the next block must follow, None where it is lost
        self._fresh = True  # no records block of this segment was in its place yet
        self._headed = False  # its header block was
        self._flaws: list[Flaw] = []  # named as soon as the next block tells how many records are missing
        self._header: tuple[Header, Segment] | None = None  # waits for the next block: is it a Hole?

    def read(self, segment: Segment, final: bool) -> Iterator[Part]:
        """What one segment adds. `final`: it is the last, where a torn tail is no damage."""
        if segment.number == 0:
            self._next = 0
        self._chain, self._fresh, self._headed, at = None, True, False, 0
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
        yield from self._release()
        self._segment = segment.number

    def end(self) -> Iterator[Part]:
        """What is known to be missing when there are no more segments."""
        yield from self._flaws

    def _judge(self, segment: Segment, part: Preamble | Block | Damage, final: bool) -> Iterator[Part]:
        match part:
            case Preamble():
                self._chain = part.crc
                yield part
            case Damage():
                yield from self._release()
                if final and torn(segment, part):
                    yield Flaw(segment.file, part.offset, part.why, 0, True)
                else:
                    self._flaws.append(Flaw(segment.file, part.offset, part.why, part.records))
                    self._chain = None
            case Block():
                if part.head.kind == HEADER:
                    yield from self._begin(segment, part)
                else:
                    yield from self._records(segment, part)

    def _begin(self, segment: Segment, block: Block) -> Iterator[Part]:
        """A header block: it waits for what follows."""
        head = block.head
        if self._headed or not self._fresh or (self._chain is not None and head.previous != self._chain):
            yield Flaw(segment.file, block.offset, "a header block that is not the first: skipped", 0)
            return
        try:
            self._header = HEADERS.decode(block.payload), segment
        except msgspec.MsgspecError as error:
            yield Flaw(segment.file, block.offset, f"the header does not decode: {error}", 0)
        self._headed, self._chain = True, head.crc

    def _release(self) -> Iterator[Part]:
        """The header that waited, behind what is missing before it."""
        if self._header is None:
            return
        (header, segment), self._header = self._header, None
        gap = 0 if self._next is None else header.first - self._next
        yield from self._missing(segment, 0, gap if gap > 0 else -1)
        self._next = max(header.first, self._next or 0)
        yield header

    def _records(self, segment: Segment, block: Block) -> Iterator[Part]:
        head, records = block.head, _decode(block)
        recorded = records[0] if self._header is not None and len(records) == 1 else None
        if not isinstance(recorded, Hole):
            yield from self._release()
        gap = -1 if self._next is None else head.first - self._next
        if self._next is not None and gap < 0:
            why = f"records {head.first} to {head.first + head.records - 1} are repeated or out of order: skipped"
            yield Flaw(segment.file, block.offset, why, 0)
        else:
            if isinstance(recorded, Hole):
                gap -= min(
                    max(0, gap), recorded.records - 1
                )  # it stands in the place of the last record that it counts
            if gap > 0 or self._flaws:
                yield from self._missing(segment, block.offset, gap)
            elif self._chain is not None and head.previous != self._chain:
                yield Flaw(segment.file, block.offset, "the block before it is not the one that was written", 0)
            yield Batch(segment, block.offset, head.first, records)
            self._next, self._chain, self._fresh = head.first + head.records, head.crc, False
        yield from self._release()

    def _missing(self, segment: Segment, offset: int, gap: int) -> Iterator[Flaw]:
        """Names the damage before this place; where `gap` is known (not -1), the counts add up to it."""
        flaws, self._flaws = self._flaws, []
        for flaw in flaws:
            if gap >= 0:
                count = gap if flaw.records < 0 else min(gap, flaw.records)
                gap -= count
                flaw = flaw._replace(records=count)
            yield flaw
        if gap > 0:
            vanished = self._fresh and 0 <= self._segment < segment.number - 1
            file = plain_name(self._segment + 1) if vanished else segment.file
            yield Flaw(file, 0 if vanished else offset, "records are missing before this place", gap)


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
