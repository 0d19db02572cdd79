"""A book and its judgement as a checkpoint keeps them: `save` and `load` are the way back to the very same outputs.

Next door: `sync.py` keeps the book; `core.feed.health` saves it with its stream.
"""

from __future__ import annotations

from collections import deque

from msgspec import Struct

from truetape.core.book.sync import BookCounts, BookSync
from truetape.core.book.whole import WholeSync
from truetape.model.event import Book


class BookState(Struct):
    """A book and its judgement, for a checkpoint."""

    bids: list[tuple[float, float]]
    asks: list[tuple[float, float]]
    marks: tuple[list[str], list[str]]
    state: str
    reason: str
    evidence: str
    live: bool
    seq: int
    from_seq: int
    to_seq: int
    verified: int
    depth: int
    wants_snapshot: bool
    bad: int
    buffer: list[Book]
    pending: Book | None
    counts: BookCounts
    behind: int = -2
    old: int = 0
    twice: bool = False
    ts: int = 0
    held: int = -1


def save(sync: BookSync) -> BookState:
    """All that a book's later outputs depend on."""
    return BookState(
        sync.book.bids(), sync.book.asks(), sync.book.marks(), sync.state, sync.reason, sync.evidence, sync.live, sync.seq,
        sync.from_seq, sync.to_seq, sync.verified, sync.depth, sync.wants_snapshot, sync._bad, list(sync._buffer), sync._pending,
        sync.counts, sync._behind, sync._old, isinstance(sync, WholeSync) and sync._twice, sync.ts, sync.held,
    )  # fmt: skip


def load(sync: BookSync, saved: BookState) -> None:
    """Put a book back as it was saved."""
    if isinstance(sync, WholeSync):
        sync.book.take(saved.bids, saved.asks)
        sync._twice = saved.twice
    else:
        marks = saved.marks if saved.marks[0] or saved.marks[1] else None
        sync.book.replace(saved.bids, saved.asks, marks)
    sync.state, sync.reason, sync.evidence, sync.live = saved.state, saved.reason, saved.evidence, saved.live
    sync.seq, sync.from_seq, sync.to_seq, sync.verified = saved.seq, saved.from_seq, saved.to_seq, saved.verified
    sync.depth, sync.wants_snapshot, sync._bad = saved.depth, saved.wants_snapshot, saved.bad
    sync._buffer, sync._pending, sync.counts = deque(saved.buffer), saved.pending, saved.counts
    sync._behind, sync._old, sync.ts, sync.held = saved.behind, saved.old, saved.ts, saved.held
