"""Finds the blocks of one segment, names what is damaged, and tells a torn tail from damage.

A block is returned only if its head's check, its journal and its crc hold; whether it is in its place (its `first`, its
`previous`) is for `reader` to judge, who knows what came before. After damage the next block is where the damaged one's head
says, if that head is sound, else wherever the next sound head of this journal stands.

A torn tail is what a crash leaves of a write that was never acknowledged: behind a whole block, the last of the last segment is
cut short by the end of the file, or a 512-byte sector of it was never written and is all zeros. Anything else is damage.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from truetape.io.store.segment import (
    FORMAT,
    HEAD,
    HEADER,
    MARK,
    PREAMBLE,
    Head,
    Preamble,
    Segment,
    holds,
    parse_head,
    parse_preamble,
)
from truetape.io.store.window import Window, look

SECTOR = 512
_ZEROS_MIN = 16


class Block(NamedTuple):
    """A whole block at `offset`."""

    offset: int
    head: Head
    payload: bytes


class Damage(NamedTuple):
    """What cannot be read at `offset`. `records` is how many it held, -1 unknown; `last` that the block before it is whole and
    none follows; `cut` that the file ends inside it."""

    offset: int
    why: str
    records: int = -1
    last: bool = False
    cut: bool = False


def scan(window: Window, number: int, journal: int | None) -> Iterator[Preamble | Block | Damage]:
    """Everything that segment `number` holds, in order. `journal` is the id of the journal where it is known."""
    data = window.take(0, PREAMBLE.size)
    preamble = parse_preamble(data)
    if preamble is not None:
        yield preamble
        why = _foreign(preamble, number, journal)
        if why:
            yield Damage(0, why)
        else:
            yield from blocks(window, preamble.journal)
    elif data:
        yield from _headless(window, data, journal)


def identify(found: Sequence[Segment]) -> int | None:
    """The id of a journal: that of its first segment which can tell."""
    for segment in found:
        try:
            with look(segment) as window:
                preamble = parse_preamble(window.take(0, PREAMBLE.size))
        except OSError:
            continue  # whoever reads its records will name it
        if preamble is not None and preamble.format == FORMAT:
            return preamble.journal
    return None


def _foreign(preamble: Preamble, number: int, journal: int | None) -> str:
    """Why a sound segment must not be read here; empty where it may."""
    if preamble.format != FORMAT:
        return f"expected format {FORMAT}, found {preamble.format}: written by a newer truetape"
    if preamble.segment != number:
        return f"expected segment {number}, found segment {preamble.segment}: the file was renamed"
    if journal is not None and preamble.journal != journal:
        return f"expected journal {journal:016x}, found {preamble.journal:016x}: the file belongs to another journal"
    return ""


def _headless(window: Window, data: bytes, journal: int | None) -> Iterator[Block | Damage]:
    """A segment whose preamble is lost: its header block, or else the journal's other segments, say which blocks are its own."""
    if len(data) < PREAMBLE.size:
        yield Damage(0, f"the preamble is cut to {len(data)} bytes", last=True, cut=True)
        return
    why = "the preamble does not match its check"
    identity = _identity(window) or journal
    if identity is None:
        unknown = _next(window, PREAMBLE.size, None) is None
        yield Damage(0, why + ", and which journal it belongs to cannot be told", last=unknown)
        return
    found = blocks(window, identity)
    first = next(found, None)
    if first is None or (isinstance(first, Damage) and first.last):
        yield Damage(0, why, last=True)
        return
    yield Damage(0, why, records=0)
    yield first
    yield from found


def _identity(window: Window) -> int | None:
    """The journal's id as the header block of a segment tells it."""
    data = window.take(PREAMBLE.size, HEAD.size)
    head = parse_head(data)
    if head is None or head.kind != HEADER:
        return None
    return head.journal if holds(head, data, window.take(PREAMBLE.size + HEAD.size, head.length)) else None


def blocks(window: Window, journal: int) -> Iterator[Block | Damage]:
    """The blocks of a segment behind its preamble, and the damage between them, in the order of the file."""
    at: int | None = PREAMBLE.size
    whole = True
    while at is not None:
        window.forget(at)
        data = window.take(at, HEAD.size)
        if not data:
            return
        head = _head(data, journal)
        if head is None:
            cut, records = len(data) < HEAD.size, -1
            behind = None if cut else _next(window, at + 1, journal)
            why = f"is cut to {len(data)} bytes" if cut else "does not match its check"
            why = f"the head of a block {why}"
        else:
            payload = window.take(at + HEAD.size, head.length)
            end = at + HEAD.size + head.length
            if len(payload) == head.length and holds(head, data, payload):
                yield Block(at, head, payload)
                at, whole = end, True
                continue
            behind = _behind(window, at, end, journal)
            cut, records = len(payload) < head.length, head.records
            why = (
                f"a block is cut from {head.length} to {len(payload)} bytes"
                if cut
                else "a block does not match its crc"
            )
        yield Damage(at, why, records, last=whole and behind is None, cut=cut)
        at, whole = behind, False


def torn(segment: Segment, damage: Damage) -> bool:
    """Whether damage in the last segment of a journal is the tail of a write that never ended."""
    if segment.compressed or not damage.last:
        return False
    if damage.cut:
        return True
    with open(segment.path, "rb") as file:
        file.seek(damage.offset)
        piece = file.read(SECTOR - damage.offset % SECTOR)
        if piece.count(0) == len(piece):
            return True  # however short: a block never begins with a zero
        while piece := file.read(SECTOR):
            if len(piece) >= _ZEROS_MIN and piece.count(0) == len(piece):
                return True
    return False


def _head(data: bytes, journal: int | None) -> Head | None:
    """The head in `data` if it belongs to this journal (None: any)."""
    head = parse_head(data)
    return head if head is not None and journal in (None, head.journal) else None


def _behind(window: Window, at: int, end: int, journal: int) -> int | None:
    """Where the block after a damaged one with a sound head stands: at its end, else wherever the next one is found."""
    data = window.take(end, HEAD.size)
    if _head(data, journal) is not None:
        return end
    return _next(window, at + HEAD.size, journal)


def _next(window: Window, at: int, journal: int | None) -> int | None:
    """The next offset from `at` on with a sound head of this journal."""
    found = window.find(MARK, at)
    while found is not None:
        if _head(window.take(found, HEAD.size), journal) is not None:
            return found
        found = window.find(MARK, found + 1)
    return None
