"""The thread that writes the tape: encode, check, write, fdatasync, acknowledge; one batch, one write.

    loop thread                 this thread
    put(Batch) ───────────────► write + fdatasync ─► flushed          (a failure ends the segment: `failure` is set)
    put(Begin) ───────────────► new segment: header, Hole if records are missing ─► orders, failure cleared
    put(Event) ───────────────► set: everything before it was dealt with
    put(None)  ───────────────► end

Orders are kept in order by one queue. While `failure` is set, batches are thrown away: only a `Begin`, which carries a fresh
checkpoint, starts the tape again. `flushed + 1` is always the next number on the tape, so a `Begin` knows by its own `next`
how many records are missing. Between two orders one piece of a closed segment is compressed.
The attributes below are written here and only read by the loop thread; each is one number or one frozen struct.
"""

from __future__ import annotations

import errno
import os
from collections import deque
from collections.abc import Callable
from queue import Empty, SimpleQueue
from threading import Event, Thread
from typing import Literal, NamedTuple, TypeAlias

from msgspec import Struct

from truetape.io.store.archive import Archive
from truetape.io.store.place import SOURCE
from truetape.io.store.recover import Recovered
from truetape.io.store.segment import FORMAT, REPAIRED, plain_name, sync_directory
from truetape.io.store.tape import Entry, Tape
from truetape.model.record import HOLE, Header

BACKOFF_FIRST_S, BACKOFF_MAX_S = 0.25, 5.0
_FULL = frozenset((errno.ENOSPC, errno.EDQUOT, errno.EFBIG))
_PAUSE_S = 0.003
"""Between two pieces of compression when nothing else is to do: half the time for others."""
_MERGE = 4 << 20
"""Batches that waited for a slow disk are written together, up to this many bytes: one fdatasync for all of them. No more, for
while they are encoded (1.3 ms) the loop waits for the interpreter's lock."""
_SYNCS = 512


class Batch(NamedTuple):
    """Records to write; the first has number `first`. `size` is what they count for in the backlog."""

    records: list[Entry]
    first: int
    size: int


class Begin(NamedTuple):
    """Start a new segment. `next` is the number of the next record, `state` the pump's checkpoint at that point, `why` what
    to say of records that were dropped before it."""

    next: int
    now: int
    state: bytes
    why: str


Order: TypeAlias = Batch | Begin | Event | None


class Failure(Struct, frozen=True):
    """Why nothing is written now, and when (by the clock) a `Begin` may be tried."""

    state: Literal["failing", "full"]
    reason: str
    retry_at: int


class Origin(Struct, frozen=True, kw_only=True):
    """Who writes: what each segment's header says beside numbers and state."""

    version: str
    venues: list[str] = []
    config: bytes = b""
    seed: int = 0


class Commit(NamedTuple):
    """A batch that is durable: when it was taken up and when it was done, ns, what of that the disk took, and what it was."""

    began: int
    ended: int
    sync_ns: int
    first: int
    records: int
    size: int


class Writer:
    """The writing end of a journal, driven by `journal.Journal` alone. `wrote`, if there is one, hears of each batch, in this thread."""

    def __init__(
        self, directory: str, origin: Origin, found: Recovered, archive: Archive, clock: Callable[[], int],
        wrote: Callable[[Commit], None] | None = None,
    ) -> None:  # fmt: skip
        self._directory = directory
        self._origin = origin
        self._clock = clock
        self.archive = archive
        self._wrote = wrote
        self._journal = int.from_bytes(os.urandom(8), "little") if found.journal is None else found.journal
        self._flags = REPAIRED if found.repaired else 0
        self._tape: Tape | None = None
        self._begun = -(1 << 62)
        self._backoff_s = BACKOFF_FIRST_S
        self._queue: SimpleQueue[Order] = SimpleQueue()
        self._ahead: deque[Order] = deque()
        self._thread = Thread(target=self._run, name="truetape-journal", daemon=True)
        self.flushed = found.next - 1
        self.segment = found.segment
        self.bytes = 0
        self.head = 0  # what the open segment began with: preamble, header and state
        self.done_bytes = 0
        self.orders = 0
        self.holes = 0
        self.missing = 0
        self.failure: Failure | None = None
        self.busy_since = 0
        self.syncs_ms: deque[float] = deque([0.0], maxlen=_SYNCS)

    def start(self) -> None:
        """Starts the thread."""
        self._thread.start()

    def put(self, order: Order) -> None:
        """Hands over an order. Never blocks."""
        self._queue.put(order)

    def join(self, timeout_s: float) -> bool:
        """Whether the thread ended in time. It does so after a None."""
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while (order := self._take()) is not None:
            self._obey(order)
            if self.failure is None:
                self.archive.step()
        self.archive.stop()
        if self._tape is not None:
            self._tape.close()

    def _take(self) -> Order:
        """The next order, None to end. Batches that wait are taken as one. Compresses while there is nothing to take."""
        while not self._ahead:
            try:
                idle = self.failure is None and self.archive.pending  # a disk in trouble is not rearranged
                self._ahead.append(self._queue.get(timeout=_PAUSE_S if idle else None))
            except Empty:
                self.archive.step()
        order = self._ahead.popleft()
        while isinstance(order, Batch) and order.size < _MERGE and not self._queue.empty():
            after = self._queue.get()
            if not isinstance(after, Batch):
                self._ahead.append(after)
                break
            order = Batch(order.records + after.records, order.first, order.size + after.size)
        return order

    def _obey(self, order: Batch | Begin | Event) -> None:
        self.busy_since = self._clock()
        number = self.segment + isinstance(order, Begin)
        try:
            match order:
                case Batch():
                    if self.failure is None:
                        self._write(order)
                case Begin():
                    self._begin(order)
                case Event():
                    pass
        except OSError as error:
            state: Literal["failing", "full"] = "full" if error.errno in _FULL else "failing"
            self._fail(number, state, f"{error.strerror} (errno {error.errno})")
        except Exception as error:  # noqa: BLE001 - a bug: the journal's owner is told as of a bad disk and decides; live data flow on
            self._fail(number, "failing", f"{type(error).__name__}: {error}")
        self.busy_since = 0
        match order:
            case Batch():
                self.done_bytes += order.size
            case Begin():
                self.orders += 1
            case Event():
                order.set()

    def _write(self, batch: Batch) -> None:
        tape = self._tape
        assert tape is not None, "without a failure there is an open segment"
        assert batch.first == self.flushed + 1, "whatever was dropped before this batch was followed by a Begin"
        spoiled, length = tape.spoiled, tape.length
        tape.write(batch.records, batch.first)
        self.syncs_ms.append(tape.sync_ns / 1e6)
        self.bytes = tape.length
        self.flushed += len(batch.records)
        self._count(tape.spoiled - spoiled)
        if self._wrote is not None:
            size, records = tape.length - length, len(batch.records)
            self._wrote(Commit(self.busy_since, self._clock(), tape.sync_ns, batch.first, records, size))
        self.archive.retain(tape.length)

    def _begin(self, order: Begin) -> None:
        """Opens a segment in the place of the one before, which is closed only when the new one is durable."""
        missing = order.next - self.flushed - 1
        first = order.next - bool(missing)  # the Hole takes the number of the last record that is missing
        tape = self._create(self.segment + 1)
        try:
            why = order.why if self.failure is None else self.failure.reason
            hole = (HOLE, SOURCE, order.now, why, missing) if missing else None
            tape.begin(self._flags, self._header(order, tape.number, first), hole)
            sync_directory(self._directory)
        except BaseException:
            self._discard(tape)
            raise
        self._close()
        self._tape, self._begun = tape, self._clock()
        self.syncs_ms.append(tape.sync_ns / 1e6)
        self.segment, self.bytes, self.flushed = tape.number, tape.length, order.next - 1
        self.head = tape.length
        self._count(missing)
        self._flags = 0
        self.failure = None
        self.archive.retain(tape.length)

    def _count(self, missing: int) -> None:
        self.holes += bool(missing)
        self.missing += missing

    def _header(self, order: Begin, number: int, first: int) -> Header:
        origin = self._origin
        return Header(
            format=FORMAT,
            version=origin.version,
            segment=number,
            first=first,
            now=order.now,
            seed=origin.seed,
            config=origin.config,
            venues=origin.venues,
            state=order.state,
        )

    def _create(self, number: int) -> Tape:
        try:
            return Tape(self._directory, number, self._journal, self._clock)
        except FileExistsError:
            self.segment = number  # the next try takes the number behind it
            raise

    def _fail(self, number: int, state: Literal["failing", "full"], why: str) -> None:
        """Ends the segment: what is not acknowledged is cut off, and a Begin may be tried after a while."""
        now = self._clock()
        again = self.failure is not None or now - self._begun < BACKOFF_MAX_S * 1e9
        self._backoff_s = min(BACKOFF_MAX_S, self._backoff_s * 2) if again else BACKOFF_FIRST_S
        path = os.path.join(self._directory, plain_name(number))
        tape = self._tape
        if tape is not None:
            try:
                tape.cut()
            except OSError:
                pass  # the reader judges by checks and numbers, and the Hole that follows says what is missing
            self._close()
        self.failure = Failure(state, f"{path}: {why}", now + round(self._backoff_s * 1e9))

    def _close(self) -> None:
        tape, self._tape = self._tape, None
        if tape is not None:
            self.archive.closed(tape.number, tape.length)
            try:
                tape.close()
            except OSError:
                pass  # everything acknowledged was synced before

    def _discard(self, tape: Tape) -> None:
        try:
            tape.discard()
        except OSError:
            self.segment = tape.number  # it stays, without a record
