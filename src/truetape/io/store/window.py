"""A moving view of one segment's plain bytes, compressed or not, that never holds more than a block and a piece of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import BinaryIO

from truetape.io.store.segment import Segment
from truetape.io.store.squeeze import Squeezed

_PULL = 1 << 20


class Window:
    """Bytes by offset. Offsets may go back, but not below the last `forget`."""

    def __init__(self, file: BinaryIO, compressed: bool) -> None:
        self._file = file
        self._pull: Callable[[], bytes] = Squeezed(file).pull if compressed else lambda: file.read(_PULL)
        self._held = bytearray()
        self._base = 0

    def take(self, at: int, length: int) -> bytes:
        """The bytes from `at`; fewer where the segment ends before."""
        start = at - self._base
        assert start >= 0, "the scanner goes back only to what it has not yet forgotten"
        while len(self._held) < start + length and self._more():
            pass
        return bytes(memoryview(self._held)[start : start + length])

    def find(self, mark: bytes, at: int) -> int | None:
        """The next offset from `at` on where `mark` stands. Forgets what was searched in vain."""
        while True:
            found = self._held.find(mark, at - self._base)
            if found >= 0:
                return self._base + found
            at = max(at, self._base + len(self._held) - len(mark) + 1)
            self.forget(at)
            if not self._more():
                return None

    def forget(self, below: int) -> None:
        """Nothing below this offset will be asked for again."""
        spare = min(below - self._base, len(self._held))
        if spare >= _PULL:
            del self._held[:spare]
            self._base += spare

    def __enter__(self) -> Window:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def _more(self) -> bool:
        piece = self._pull()
        self._held += piece
        return bool(piece)


def look(segment: Segment) -> Window:
    """A view of a segment from its start. OSError is the caller's."""
    try:
        file = open(segment.path, "rb")  # noqa: SIM115 - the window closes it
    except FileNotFoundError:
        if segment.compressed:
            raise
        return Window(open(segment.path + ".zst", "rb"), True)  # it was compressed since the directory was listed
    return Window(file, segment.compressed)
