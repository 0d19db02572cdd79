"""Snapshot and changes in the venue's order, or an honest gap: what may be applied to a book, and how far it can be believed.

    SYNCING --snapshot (bridged)--> LIVE --gap, bad checksum, crossed, damage--> GAP --resync asked--> RESYNC --snapshot--> LIVE
    LIVE or any --lost--> SYNCING          three bad checksums in a row --> SUSPECT until a checksum holds

`feed` takes each Book that the dialect decoded and returns what may be published, in order. Books that are not LIVE publish
nothing. Next door: the venue's `Rule` (`core.feed.venue`) says how its messages are numbered; `book.py` holds the levels; the
pump publishes, fetches and resubscribes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from msgspec import Struct

from truetape.core.book.book import OrderBook
from truetape.core.feed.venue import Rule
from truetape.model.event import Book

BUFFER_MAX = 5_000
"""Changes kept while a snapshot is on its way; beyond, the oldest go and the snapshot is fetched again."""

UNASKED_MAX = 256
"""Changes kept before a snapshot is asked for: it will be newer than all but the last of them."""

SUSPECT_AFTER = 3
"""Checksums that fail in a row before the stream itself is in doubt."""

RESTART_AFTER = 20
"""Old numbers in a row, with nothing new between them, are no repetition but a count that began anew."""

STRAGGLERS_MAX = 8
"""Changes that come after a fetched snapshot and lie before it, until another is fetched to compare."""

NOTHING: tuple[Book, ...] = ()


class BookCounts(Struct):
    """Plain counters of one book, kept for its life."""

    snapshots: int = 0
    updates: int = 0
    duplicates: int = 0
    checksums_ok: int = 0
    checksums_failed: int = 0
    sequence_gaps: int = 0
    resyncs: int = 0
    buffer_overflows: int = 0


class BookSync:
    """Keeps one book by its venue's rule. Read `state`, `reason`, `evidence`; `wants_snapshot` says that one must be asked for."""

    # fmt: off
    __slots__ = (
        "_bad", "_behind", "_buffer", "_checksum", "_numbers", "_old", "_pending", "book", "counts", "depth", "evidence", "from_seq",
        "held", "jumped", "live", "reason", "rule", "seq", "state", "to_seq", "ts", "verified", "wants_snapshot",
    )
    # fmt: on

    def __init__(self, rule: Rule, depth: int = 0) -> None:
        self.rule = rule
        self._numbers = rule.numbers
        self._checksum = rule.checksum
        self.depth = depth  # what the venue maintains; 0 all or not known yet
        self.book = OrderBook()
        self.counts = BookCounts()
        self.live = False
        self.state = "SYNCING"
        self.reason = "waiting for the first snapshot"
        self.evidence = "none"
        self.seq = -1
        self.from_seq = -1
        self.to_seq = -1
        self.ts = 0  # the venue's time of the last numbered change
        self.verified = 0  # recv of the last message that a number or checksum proved
        self.wants_snapshot = rule.snapshot == "rest"
        self.jumped = ""  # why a numbered whole book left a gap that it heals itself; whoever tells of it empties this
        self._bad = 0
        self._old = 0  # changes in a row whose numbers lie behind
        self.held = -1  # the number of the last change that was kept for a snapshot
        self._behind = -2  # the last old number among whole books
        self._buffer: deque[Book] = deque()
        self._pending: Book | None = None  # a fetched snapshot that no change has bridged yet

    @property
    def failures(self) -> int:
        """Checksums that failed with no change between them that held."""
        return self._bad

    def feed(self, event: Book) -> Sequence[Book]:
        """Judge one book message; returns what may be published. Afterwards read `state`."""
        if event.snapshot:
            return self._snapshot(event)
        if not self.live:
            return self._hold(event)
        if self._numbers != "none" and not self._in_order(event):
            return NOTHING
        return (event,) if self._apply(event) else NOTHING

    def _in_order(self, event: Book) -> bool:
        """True when this change follows the last; otherwise it was a duplicate, or a gap was declared."""
        seq, last = event.seq, self.seq
        if self._numbers == "range":
            if event.first == last + 1 or event.first <= last < seq:
                return True
        elif self._numbers == "chain":
            if event.prev == last:
                return True
        elif seq == last + 1:
            return True
        unnumbered = seq < 0 and event.first < 0 and event.prev < 0
        if unnumbered and last < 0:
            return True  # a book that nothing numbers: nothing can be proved, and nothing is missing for certain
        anew = (
            seq < last and 0 < self.ts < event.ts
        )  # what is repeated, or late, is no younger than what came before it
        if seq <= last and event.prev < last and self._old < RESTART_AFTER and not (unnumbered or anew):
            self._old += 1
            self.counts.duplicates += 1
            return False
        self.from_seq, self.to_seq = last, event.first if event.first >= 0 else seq
        self.counts.sequence_gaps += 1
        self.fail("GAP", f"expected {self._expected()}, found {self._found(event)}")
        return False

    def _expected(self) -> str:
        return f"prev {self.seq}" if self._numbers == "chain" else f"seq {self.seq + 1}"

    def _found(self, event: Book) -> str:
        if event.seq < 0 and event.first < 0 and event.prev < 0:
            return "no number"
        return (
            f"prev {event.prev}"
            if self._numbers == "chain"
            else f"seq {event.first if event.first >= 0 else event.seq}"
        )

    def _apply(self, event: Book) -> bool:
        """Apply one change to a LIVE book and prove it; False when the proof failed."""
        book, last = self.book, self.seq
        self._old = 0
        book.apply(event.bids, event.asks)
        self.counts.updates += 1
        if event.seq >= 0:
            self.seq = event.seq
            self.ts = event.ts
            self.verified = event.recv
        elif self.rule.counter:
            self.verified = event.recv  # whoever counts the frames would have said so
        if event.marks is not None:
            book.mark(event.bids, event.asks, event.marks, self.rule.checksum_depth)
        if self.rule.truncate and self.depth:
            book.truncate(self.depth)
        if event.checksum is not None and not self._holds(event):
            self.from_seq, self.to_seq = last, event.seq
            return False
        if book.crossed:
            self.from_seq, self.to_seq = last, event.seq
            self.fail("GAP", "crossed: the best bid is not below the best ask")
            return False
        return True

    def _holds(self, event: Book) -> bool:
        """Compare the venue's checksum with ours."""
        if self._checksum is None:
            return True
        ours = self.book.checksum(self._checksum, self.rule.checksum_depth)
        if ours == event.checksum:
            self.counts.checksums_ok += 1
            if not event.snapshot or self.rule.snapshot == "whole":
                self._bad = 0  # a snapshot that holds says nothing of the changes that follow it
            self.verified = event.recv
            self.evidence = "checksum"
            return True
        self.counts.checksums_failed += 1
        self._bad += 1
        state = "SUSPECT" if self._bad >= SUSPECT_AFTER else "GAP"
        self.fail(state, f"checksum: expected {event.checksum}, found {ours}")
        return False

    def _snapshot(self, event: Book) -> Sequence[Book]:
        """A whole book: take it, or keep it until a change bridges it."""
        if event.depth > 0:
            self.depth = event.depth
        if self.rule.snapshot == "rest":
            if self.live:
                return NOTHING  # an unasked answer cannot be placed between changes that were already applied
            if self._pending is None or event.seq < self._pending.seq:
                self._pending = (
                    event  # of two the older is bridged earlier; of a new count it is the only one that can be
                )
            published = self._bridge()
            if not self.live:
                self._old, self.wants_snapshot = 0, self._pending is None
            return published
        return self._take(event)

    def _take(self, event: Book) -> Sequence[Book]:
        if self.live and self._numbers != "none" and event.seq >= 0 and not self._news(event):
            return NOTHING
        self.book.replace(event.bids, event.asks, event.marks)
        self.counts.snapshots += 1
        self.seq, self.ts = event.seq, 0
        numbered = (event.seq >= 0 and self._numbers != "none") or self.rule.counter
        if numbered:
            self.verified = event.recv
        # what proved the book before proves nothing of this one: a venue may have stopped sending numbers or checksums
        self.evidence = "sequence" if numbered else "none"
        if self.rule.truncate and self.depth:
            self.book.truncate(self.depth)
        if event.checksum is not None and not self._holds(event):
            return NOTHING
        if self.book.crossed:
            self.fail("GAP", "crossed: the snapshot's best bid is not below its best ask")
            return NOTHING
        self._live()
        return (event,)

    def _news(self, event: Book) -> bool:
        """Whether a whole book may replace a LIVE one. Where every message is whole, one that jumped heals the gap it shows: `jumped`."""
        if self.rule.snapshot != "whole":
            if (
                event.seq == self.seq
            ):  # the same state again (Bybit repeats its level-1 book): not news, and not a fault
                self.counts.duplicates += 1
                return False
            if event.prev != self.seq and not (self._numbers == "step" and event.seq == self.seq + 1):
                # nobody asked for it (a venue that counts anew sends one): what came just before it may be lost
                self.from_seq, self.to_seq = self.seq, event.seq
                self.counts.sequence_gaps += 1
                self.jumped = f"expected {self._expected()}, found a whole book with seq {event.seq}"
            return True
        if self._in_order(event):
            return True
        if self.live:  # an old number: late or repeated, unless a second one follows it, when the venue counts anew
            anew, self._behind = event.seq == self._behind + 1, event.seq
            if not anew:
                return False
            self.from_seq, self.to_seq = self.seq, event.seq
            self.counts.sequence_gaps += 1
            self.fail("GAP", f"expected {self._expected()}, found {self._found(event)}: the venue counts anew")
        self._behind = -2
        self.jumped = self.reason
        return True

    def _live(self) -> None:
        if self.state != "SYNCING" and not self.live:
            self.counts.resyncs += 1
        self.live = True
        self.state = "LIVE"
        self.reason = ""
        self.wants_snapshot = False

    def _hold(self, event: Book) -> Sequence[Book]:
        """A change that came while the book is not LIVE: kept where a fetched snapshot will want it, else it belongs to nothing."""
        if self.rule.snapshot != "rest":
            return NOTHING
        if event.seq < self.held:  # the count began anew, or two changed places: what is there leads nowhere
            self._buffer.clear()
            self._pending = None
            self.wants_snapshot = True
        self.held = event.seq
        if self.wants_snapshot:  # its turn to be asked for is to come: the snapshot will hold all but the last of these
            if len(self._buffer) >= UNASKED_MAX:
                self._buffer.popleft()
        elif len(self._buffer) >= BUFFER_MAX:
            self._buffer.popleft()
            self.counts.buffer_overflows += 1
        self._buffer.append(event)
        return self._bridge() if self._pending is not None else NOTHING

    def _bridge(self) -> Sequence[Book]:
        """Join the fetched snapshot L to the buffered changes: drop what it holds already, then demand one that spans it."""
        snapshot = self._pending
        assert snapshot is not None, "bridge is called with a fetched snapshot only"
        last, buffer = snapshot.seq, self._buffer
        # Binance's own steps: spot drops u <= L and bridges U <= L + 1 <= u; futures drop u < L and bridge U <= L <= u
        oldest = last if self.rule.overlap else last + 1
        while buffer and buffer[0].seq < oldest:
            buffer.popleft()
            self.counts.duplicates += 1
            self._old += 1
        if not buffer:
            self.reason = f"waiting for the change that bridges snapshot {last}"
            # a stream that is far behind, or one that counts anew since: another snapshot will tell
            self.wants_snapshot = self._old >= STRAGGLERS_MAX
            return NOTHING
        # futures numbers are shared between symbols, so that U may lie beyond L although nothing of this symbol is missing: prev tells
        if buffer[0].first > oldest and not 0 <= buffer[0].prev <= last:
            self._pending = None
            self.wants_snapshot = True
            self.reason = f"snapshot {last} is older than the first change {buffer[0].first}: another is needed"
            return NOTHING
        return self._join(snapshot)

    def _join(self, snapshot: Book) -> Sequence[Book]:
        buffer = list(self._buffer)
        self._buffer.clear()
        self._pending = None
        self.book.replace(snapshot.bids, snapshot.asks)
        self.counts.snapshots += 1
        self.evidence = "sequence"
        published = [snapshot]
        self.seq, self.ts = snapshot.seq, 0
        self._live()
        bridge = buffer[0]
        if self._apply(bridge):
            published.append(bridge)
        for event in buffer[1:]:
            if not self.live:
                self._buffer.append(event)
            elif self._in_order(event) and self._apply(event):
                published.append(event)
        return published

    def fail(self, state: str, reason: str) -> None:
        """The book can no longer be believed: ask for a new snapshot. Its last levels stay, for who asks for them knowingly."""
        self.live = False
        self.state = state
        self.reason = reason
        self.wants_snapshot = True
        self._pending = None
        self._buffer.clear()

    @property
    def waiting(self) -> int:
        """Changes that wait for a snapshot."""
        return len(self._buffer)

    def asked(self) -> None:
        """A new snapshot was asked for (fetched or resubscribed)."""
        self.wants_snapshot = False
        if self.state == "GAP":
            self.state = "RESYNC"

    def lost(self, reason: str) -> None:
        """The connection went: all that was known is of the past."""
        self.fail("SYNCING", reason)
        self.wants_snapshot = self.rule.snapshot == "rest"
        self.seq = self.held = -1

    @property
    def trusted_depth(self) -> int:
        """How many levels the venue maintains; 0 means all of them."""
        return self.depth or self.rule.trusted_depth
