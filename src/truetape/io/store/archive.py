"""What becomes of closed segments: compressed one piece at a time, and deleted, oldest first, when they take too much room.

Lives in the writer's thread. Trouble here never harms the tape: a segment that could not be compressed stays plain, and is
tried again when the next one is closed.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Generator

from truetape.io.store.segment import Segment, packed_name, plain_name, sync_directory
from truetape.io.store.squeeze import PIECE, squeeze

TEMPORARY = ".tmp"
_SYNC_EVERY = 8
"""Pieces between two fdatasync of the compressed file, so that none of them takes long."""


class Archive:
    """The closed segments of a journal: `bytes` on disk. `trouble` says what went wrong last, empty where nothing did."""

    def __init__(self, directory: str, retain_bytes: int, closed: list[Segment]) -> None:
        self._directory = directory
        self._retain_bytes = retain_bytes
        self._sizes = {segment.number: segment.bytes for segment in closed}
        self.bytes = sum(self._sizes.values())
        self._waiting = deque((segment.number, segment.bytes) for segment in closed if not segment.compressed)
        self._deferred: list[tuple[int, int]] = []
        self._job: Generator[None] | None = None
        self._number = -1
        self.trouble = ""

    @property
    def pending(self) -> bool:
        """There is something for `step` to do."""
        return self._job is not None or bool(self._waiting)

    def closed(self, number: int, length: int) -> None:
        """A segment was closed; only its first `length` bytes are to be trusted."""
        self._sizes[number] = length
        self.bytes += length
        self._waiting.extend(self._deferred)
        self._waiting.append((number, length))
        self._deferred.clear()

    def step(self) -> None:
        """Compresses one piece: a few milliseconds."""
        if self._job is None:
            if not self._waiting:
                return
            self._number, length = self._waiting.popleft()
            self._job = self._compress(self._number, length)
        try:
            next(self._job, None)
        except Exception as error:  # noqa: BLE001 - whatever it is, the segment stays plain and the tape goes on
            self.trouble = f"{plain_name(self._number)} was not compressed: {error}"
            self._deferred.append((self._number, self._sizes.get(self._number, 0)))
            self._job = None

    def retain(self, opened: int) -> None:
        """Deletes the oldest closed segments until they and the open one's `opened` bytes fit into `retain_bytes`."""
        while self._retain_bytes and self._sizes and self.bytes + opened > self._retain_bytes:
            number = min(self._sizes)
            if self._job is not None and number == self._number:
                self.stop()
            for waiting in (self._waiting, self._deferred):
                for job in [job for job in waiting if job[0] == number]:
                    waiting.remove(job)
            try:
                for name in (plain_name(number), packed_name(number)):
                    self._unlink(name)
            except OSError as error:
                self.trouble = f"{plain_name(number)} was not deleted: {error}"
                return
            self.bytes -= self._sizes.pop(number)

    def stop(self) -> None:
        """Gives up what `step` is at; the next writer begins it again."""
        if self._job is not None:
            self._job.close()
            self._job = None

    def _compress(self, number: int, length: int) -> Generator[None]:
        """Beside the plain segment, then in its place: at any moment at least one of the two is whole and durable."""
        packed = os.path.join(self._directory, packed_name(number))
        try:
            with (
                open(os.path.join(self._directory, plain_name(number)), "rb") as source,
                open(packed + TEMPORARY, "wb") as target,
            ):
                for offset in range(0, length, PIECE):
                    target.write(squeeze(source.read(min(PIECE, length - offset)), offset))
                    if offset // PIECE % _SYNC_EVERY == _SYNC_EVERY - 1:
                        target.flush()
                        os.fdatasync(target.fileno())
                    yield
                target.flush()
                os.fsync(target.fileno())
                size = target.tell()
            os.rename(packed + TEMPORARY, packed)
        except BaseException:
            self._unlink(packed_name(number) + TEMPORARY)
            raise
        sync_directory(self._directory)
        self._unlink(plain_name(number))
        self.bytes += size - self._sizes[number]
        self._sizes[number] = size
        self._job = None

    def _unlink(self, name: str) -> None:
        try:
            os.unlink(os.path.join(self._directory, name))
        except FileNotFoundError:
            pass
