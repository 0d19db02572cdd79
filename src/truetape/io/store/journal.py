"""The tape's writing end as the event loop sees it: append, commit, never wait.

    ok ──write or fdatasync fails──► failing | full ──a new segment could be begun──► ok
    ok ──backlog full──► failing ──backlog half empty──► ok                    any ──close──► closed

What is appended is numbered, and handed to the writer's thread by `commit`. While the writer fails or lags too far behind,
batches are dropped here and nobody waits; their numbers stay reserved. When it is well again, the next `commit` takes a fresh
checkpoint and begins a new segment, whose first record is a `Hole` that says how many are missing. A checkpoint is only ever
taken inside `commit`, hence between two inputs. `writer` does the work, `reader` reads it back.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from threading import Event
from typing import Literal

from msgspec import Struct

from truetape.io.store.archive import Archive
from truetape.io.store.recover import lock, recover
from truetape.io.store.segment import JournalError
from truetape.io.store.tape import Entry
from truetape.io.store.writer import Batch, Begin, Commit, Origin, Writer

__all__ = ["Entry", "Journal", "JournalError", "JournalStatus", "Origin"]

_HAND_OVER = 1 << 20
"""So many bytes are handed over without waiting for the next commit."""
_SLOW_NS = 1_000_000_000


class JournalStatus(Struct, frozen=True):
    """How the tape is. `state` `failing` and `full` (no space) mean that records are being lost; `reason` says why.

    `flushed_record` is the last number that is durable or accounted for by a Hole, -1 none; `missing` how many records this
    writer's Holes stand for; `backlog_bytes` what waits for the writer; `bytes` the length of the open segment number
    `segment`; `sync_ms_last` and `sync_ms_p99` how long a write with its fdatasync took (of the last 512), `busy_ms` how long
    the present one has taken; `retry_in_s` when a new segment is tried after a failure; `archive_bytes` what closed segments
    take on disk, `archive_trouble` what went wrong there.
    """

    state: Literal["ok", "failing", "full", "closed"]
    reason: str
    flushed_record: int
    next_record: int
    backlog_bytes: int
    holes: int
    missing: int
    segment: int
    bytes: int
    sync_ms_last: float
    sync_ms_p99: float
    busy_ms: float
    retry_in_s: float
    archive_bytes: int
    archive_trouble: str
    repaired_tail: bool


class Journal:
    """The tape, for one writer. Call it from one thread; only construction raises (`JournalError`).

    `checkpoint` gives the pump's state as it is after every record appended so far. It is not asked for the first segment,
    which has an empty state: nothing has happened in this process yet. `clock` is our time in ns; the writer's thread calls
    it too. `flush_ms` is for whoever calls `commit`. `retain_bytes` 0 keeps everything. `wrote` hears of each batch, in the
    writer's thread, and must not raise.
    """

    __slots__ = (
        "_backlog_bytes",
        "_batch",
        "_begun",
        "_checkpoint",
        "_clock",
        "_closed",
        "_dropping",
        "_lock",
        "_numbered",
        "_orders",
        "_put_bytes",
        "_segment_bytes",
        "_size",
        "_writer",
        "flush_ms",
        "path",
        "repaired_tail",
    )

    def __init__(
        self,
        dir: str | os.PathLike[str],
        *,
        header: Origin,
        checkpoint: Callable[[], bytes],
        clock: Callable[[], int],
        flush_ms: int = 10,
        segment_bytes: int = 256 << 20,
        retain_bytes: int = 0,
        backlog_bytes: int = 64 << 20,
        wrote: Callable[[Commit], None] | None = None,
    ) -> None:
        self.path = os.fspath(dir)
        self.flush_ms = flush_ms
        self._checkpoint = checkpoint
        self._clock = clock
        self._segment_bytes = segment_bytes
        self._backlog_bytes = backlog_bytes
        self._lock = lock(self.path)
        try:
            found = recover(self.path)
        except JournalError:
            os.close(self._lock)
            raise
        self.repaired_tail = found.repaired
        archive = Archive(self.path, retain_bytes, found.closed)
        self._writer = Writer(self.path, header, found, archive, clock, wrote)
        self._batch: list[Entry] = []
        self._size = 0
        self._numbered = found.next
        self._put_bytes = 0
        self._orders = 1
        self._begun = found.next
        self._dropping = ""
        self._closed = False
        self._writer.start()
        self._writer.put(Begin(found.next, clock(), b"", ""))

    @property
    def flushed_record(self) -> int:
        """The number of the last record that is durable (or that a Hole accounts for), -1 none."""
        return self._writer.flushed

    @property
    def next_record(self) -> int:
        """The number that the next appended record gets."""
        return self._numbered + len(self._batch)

    @property
    def backlog_bytes(self) -> int:
        """What waits for the disk."""
        return self._put_bytes - self._writer.done_bytes + self._size

    def append(self, record: Entry, size: int) -> None:
        """Takes one record, in its array form; `size` is about what it takes in bytes. The hot path: a list append."""
        self._batch.append(record)
        self._size += size
        if self._size > _HAND_OVER:
            self._hand_over()

    def commit(self, now: int) -> None:
        """Hands what was appended to the writer. Every `flush_ms`, between two inputs: it may take a checkpoint."""
        self._hand_over()
        writer = self._writer
        if self._closed or writer.orders != self._orders:
            return  # a segment is being begun
        failure = writer.failure
        backlog = self._put_bytes - writer.done_bytes
        if failure is not None:
            if now >= failure.retry_at:
                self._begin(now, "")
        elif self._dropping:
            if backlog <= self._backlog_bytes // 2:
                self._begin(now, self._dropping)
        elif writer.bytes - writer.head + backlog >= self._segment_bytes and self._numbered > self._begun:
            self._begin(now, "")

    def status(self) -> JournalStatus:
        """How the tape is now."""
        writer = self._writer
        failure, busy = writer.failure, writer.busy_since
        now = self._clock()
        busy_ns = now - busy if busy else 0
        state: Literal["ok", "failing", "full", "closed"] = "ok"
        reason = ""
        if failure is not None:
            state, reason = failure.state, failure.reason
        elif self._dropping:
            state, reason = "failing", self._dropping
        elif busy_ns > _SLOW_NS:
            reason = f"{self.path}: the disk is slow: a write has taken {busy_ns / 1e9:.1f} s so far"
        syncs = sorted(writer.syncs_ms)
        return JournalStatus(
            state="closed" if self._closed else state,
            reason=reason,
            flushed_record=writer.flushed,
            next_record=self.next_record,
            backlog_bytes=self.backlog_bytes,
            holes=writer.holes,
            missing=writer.missing,
            segment=writer.segment,
            bytes=writer.bytes,
            sync_ms_last=writer.syncs_ms[-1],
            sync_ms_p99=syncs[int(len(syncs) * 0.99)],
            busy_ms=busy_ns / 1e6,
            retry_in_s=max(0, failure.retry_at - now) / 1e9 if failure is not None else 0.0,
            archive_bytes=writer.archive.bytes,
            archive_trouble=writer.archive.trouble,
            repaired_tail=self.repaired_tail,
        )

    def settle(self, timeout_s: float) -> bool:
        """Waits until what was committed is durable or has failed; whether that came in time. It blocks: never on the loop."""
        done = Event()
        self._writer.put(done)
        return done.wait(timeout_s)

    def close(self, timeout_s: float) -> bool:
        """Writes what is left and ends the thread; whether all of that is durable. The lock is ours until the thread ended."""
        if not self._closed:
            self._hand_over()
            losing = self._dropping or self._writer.failure is not None
            if losing and self._writer.orders == self._orders:
                self._begin(self._clock(), self._dropping)  # a last try to leave a Hole behind what is missing
            self._closed = True
            self._writer.put(None)
        ended = self._writer.join(timeout_s)
        if ended and self._lock >= 0:
            os.close(self._lock)
            self._lock = -1
        return ended and self._writer.failure is None and self._writer.flushed == self._numbered - 1

    def _hand_over(self) -> None:
        """Gives the batch to the writer, or drops it where the writer cannot take it. Its numbers are used up either way."""
        batch, size = self._batch, self._size
        if not batch:
            return
        first = self._numbered
        self._batch, self._size = [], 0
        self._numbered = first + len(batch)
        writer = self._writer
        if self._closed or self._dropping:
            return
        if writer.orders == self._orders and writer.failure is not None:
            return  # in this order: with no segment being begun, a failure does not go away by itself
        backlog = self._put_bytes - writer.done_bytes
        if backlog and backlog + size > self._backlog_bytes:
            self._dropping = f"{self.path}: the disk is too slow: over {self._backlog_bytes} bytes wait for it"
            return
        self._put_bytes += size
        writer.put(Batch(batch, first, size))

    def _begin(self, now: int, why: str) -> None:
        """Orders a new segment, with the pump's state as it is now."""
        state = self._checkpoint()
        self._dropping = ""
        self._begun = self._numbered
        self._orders += 1
        self._writer.put(Begin(self._numbered, now, state, why))
