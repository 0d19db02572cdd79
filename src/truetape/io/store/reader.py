"""Reads the tape: every record in order, every damage by name, never a wrong record. It writes nothing.

`walk` is the one path: `scan` finds the blocks of each segment, `place` judges whether they are in their place.
`read`, `read_batches` and `verify` are views of it. Two kinds of missing records look alike to a caller:
a `Hole` that the writer recorded (a full disk, a backlog that overflowed), and damage, which becomes a `Hole` here.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from itertools import islice
from typing import TypeAlias

from msgspec import Struct

from truetape.io.store.place import HEADERS, SOURCE, Batch, Flaw, Part, Place
from truetape.io.store.scan import Block, identify, scan
from truetape.io.store.segment import HEADER, REPAIRED, JournalError, Preamble, segments
from truetape.io.store.window import look
from truetape.model.record import Header, Hole, Record

__all__ = [
    "Batch",
    "Flaw",
    "Found",
    "JournalError",
    "Verified",
    "read",
    "read_batches",
    "segment_at",
    "segments",
    "verify",
    "walk",
]

Directory: TypeAlias = str | os.PathLike[str]


class Found(Struct, frozen=True):
    """A hole in the tape, recorded or found: in which file, at which byte of the plain segment, and why."""

    file: str
    offset: int
    why: str


class Verified(Struct, frozen=True):
    """What a journal holds. `first_t` and `last_t` are the clock of its first and last record, None where it has none.

    `repaired_tail`: a torn tail was cut off when the journal was opened, or will be. That is a warning: what is torn was
    never acknowledged. `holes` counts both what the writer recorded and what was found damaged.
    """

    segments: int
    records: int
    first_t: int | None
    last_t: int | None
    repaired_tail: bool
    holes: list[Found]

    @property
    def sound(self) -> bool:
        """No record is missing."""
        return not self.holes


def read(directory: Directory, *, start: int | None = None) -> Iterator[Header | Record]:
    """Every record of a journal in order, each segment's `Header` before its records, and a `Hole` for each damage.

    What is missing before a segment comes before its `Header`: the checkpoint in it was taken after what is missing.
    `start` is the number of the segment to begin with. Raises `JournalError` where there is no journal.
    """
    for header, records in read_batches(directory, start=start):
        if header is not None:
            yield header
        yield from records


def read_batches(directory: Directory, *, start: int | None = None) -> Iterator[tuple[Header | None, list[Record]]]:
    """What `read` yields, a block at a time: a segment's header with no records, or records without a header."""
    now = 0
    for part in walk(directory, start=start):
        match part:
            case Header():
                now = part.now
                yield part, []
            case Batch():
                if part.records:
                    now = part.records[-1].now
                    yield None, part.records
            case Flaw(torn=False):
                yield None, [Hole(SOURCE, now, f"{part.file} at byte {part.offset}: {part.why}", part.records)]
            case Flaw() | Preamble():
                pass


def segment_at(directory: Directory, now: int) -> int:
    """The number of the segment to begin with in order to have every record from time `now` on: the last that began by then."""
    found = segments(directory)
    for segment in reversed(found):
        with look(segment) as window:
            for part in islice(scan(window, segment.number, None), 3):
                if isinstance(part, Block) and part.head.kind == HEADER and HEADERS.decode(part.payload).now <= now:
                    return segment.number
    return found[0].number


def verify(directory: Directory, progress: Callable[[int, int], None] | None = None) -> Verified:
    """Reads a whole journal and says what it holds. `progress` is told bytes read and bytes in all, after each segment.

    Raises `JournalError` where there is no journal. Beside a writer at work, its last write may look like a torn tail.
    """
    records, repaired, holes = 0, False, list[Found]()
    first: int | None = None
    last: int | None = None
    count = len(segments(directory))
    for part in walk(directory, progress=progress):
        match part:
            case Batch():
                if part.records:
                    records += len(part.records)
                    first = part.records[0].now if first is None else first
                    last = part.records[-1].now
                holes += [
                    Found(part.segment.file, part.offset, f"recorded: {record.records} records missing: {record.why}")
                    for record in part.records
                    if type(record) is Hole
                ]
            case Flaw(torn=True):
                repaired = True
            case Flaw():
                holes.append(Found(part.file, part.offset, f"{part.why}: {_missing(part.records)}"))
            case Preamble():
                repaired = repaired or bool(part.flags & REPAIRED)
            case Header():
                pass
    return Verified(count, records, first, last, repaired, holes)


def walk(
    directory: Directory, *, start: int | None = None, progress: Callable[[int, int], None] | None = None
) -> Iterator[Part]:
    """Everything in a journal in order, with its place: what `read` and `verify` are made from."""
    found = [segment for segment in segments(directory) if start is None or segment.number >= start]
    if not found:
        raise JournalError(
            f"journal {os.fspath(directory)}: expected segment {start} or later, found none; see its files"
        )
    place = Place(identify(found))
    done, total = 0, sum(segment.bytes for segment in found)
    for segment in found:
        yield from place.read(segment, segment is found[-1])
        done += segment.bytes
        if progress is not None:
            progress(done, total)
    yield from place.end()


def _missing(records: int) -> str:
    return "records missing, unknown how many" if records < 0 else f"{records} records missing"
