"""Small journals made block by block, and what reading them may and may not give."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from truetape.io.store.reader import read, verify
from truetape.io.store.segment import FORMAT, packed_name, plain_name
from truetape.io.store.squeeze import squeeze
from truetape.io.store.tape import Entry, Tape
from truetape.model.record import FRAME, TICK, Frame, Header, Hole, Record, Tick

JOURNAL = 0x1234_5678_9ABC_DEF0


def entry(number: int) -> Entry:
    """What record `number` is in these journals: small, so that every bit can be tried."""
    return (TICK, "pump", number) if number % 5 == 4 else (FRAME, "a-1", number, b"%d" % (number * number))


def record(number: int) -> Record:
    """The same, as a reader gives it."""
    return Tick("pump", number) if number % 5 == 4 else Frame("a-1", number, b"%d" % (number * number))


def make(directory: Path, plan: Sequence[Sequence[int]], packed: Sequence[int] = (), journal: int = JOURNAL) -> int:
    """A journal with these numbers of records in the blocks of its segments; returns how many records there are."""
    directory.mkdir(parents=True, exist_ok=True)
    number = 0
    for at, blocks in enumerate(plan):
        tape = Tape(str(directory), at, journal, lambda: 0)
        header = Header(format=FORMAT, version="test", segment=at, first=number, now=number, state=b"%d" % number)
        tape.begin(0, header, None)
        for count in blocks:
            tape.write([entry(n) for n in range(number, number + count)], number)
            number += count
        tape.close()
        if at in packed:
            plain = directory / plain_name(at)
            (directory / packed_name(at)).write_bytes(squeeze(plain.read_bytes(), 0))
            plain.unlink()
    return number


def split(data: bytes) -> list[bytes]:
    """The preamble and the blocks of a plain segment."""
    parts, at = [data[:32]], 32
    while at < len(data):
        end = at + 40 + int.from_bytes(data[at + 4 : at + 8], "little")
        parts.append(data[at:end])
        at = end
    return parts


def contents(directory: Path) -> tuple[list[Record], list[Hole]]:
    """The records that reading gives, and the holes between them."""
    records: list[Record] = []
    holes = []
    for part in read(directory):
        if isinstance(part, Hole):
            holes.append(part)
        elif not isinstance(part, Header):
            records.append(part)
    return records, holes


def honest(directory: Path, written: int) -> list[Hole]:
    """Asserts the promise: nothing wrong, nothing out of order, and whatever is missing is named, or was the torn tail."""
    records, holes = contents(directory)
    numbers = [one.now for one in records]
    assert records == [record(number) for number in numbers]
    assert numbers == sorted(set(numbers))
    missing = written - len(numbers)
    found = verify(directory)
    assert len(found.holes) == len(holes)
    assert found.records == len(records)
    if missing and not holes:
        assert numbers == list(range(len(numbers))), "what is missing without a hole is the tail"
    if holes and all(hole.records >= 0 for hole in holes) and not found.repaired_tail:
        assert sum(hole.records for hole in holes) == missing
    return holes
