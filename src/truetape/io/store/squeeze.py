"""The compressed form of a closed segment: a file that `zstd -d` understands, cut so that damage stays where it is.

    file  = pair ...
    pair  = a skippable frame (32 bytes: where this piece belongs, how long it is, its check) + one zstd frame of at most 1 MiB

A damaged pair costs one piece: the next is found by its index, and what is missing reads as zeros, in which `scan` finds
no block. `archive` writes pairs one at a time, between batches; `window` reads them.
"""

from __future__ import annotations

import struct
from typing import BinaryIO, NamedTuple

from zstandard import ZstdCompressor, ZstdDecompressor, ZstdError, get_frame_parameters

from truetape.io.store.segment import CRC, crc

PIECE = 1 << 20
_SKIPPABLE = struct.pack("<II", 0x184D2A5E, 24)
_INDEX = struct.Struct("<8sQIII")
_PAIR = _INDEX.size + CRC.size
_LEVEL = 1
_REST = 512
"""So many zeros stand for a lost end, whose length no one knows."""


class _Index(NamedTuple):
    """What stands before a piece: its offset in the plain segment, its length there, its length and crc here."""

    skippable: bytes
    offset: int
    length: int
    packed: int
    crc: int


def squeeze(piece: bytes, offset: int) -> bytes:
    """One pair, for the piece of a segment that starts at `offset`."""
    packed = ZstdCompressor(level=_LEVEL).compress(piece)
    index = _INDEX.pack(_SKIPPABLE, offset, len(piece), len(packed), crc(packed))
    return index + CRC.pack(crc(index)) + packed


class Squeezed:
    """A compressed segment, read piece by piece."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._offset = 0
        self._unpack = ZstdDecompressor()

    def pull(self) -> bytes:
        """The next bytes of the plain segment, zeros where they are lost; empty at the end."""
        at = self._file.tell()
        start = self._file.read(_PAIR)
        if not start:
            return b""
        index = _parse(start)
        if index is None or index.offset < self._offset:
            return self._resume(at + 1)
        if index.offset > self._offset:
            self._file.seek(at)
            return self._lost(index.offset)
        piece = self._piece(index, self._file.read(index.packed))
        if piece is None:
            self._file.seek(at + _PAIR)
            piece = bytes(index.length)
        self._offset += index.length
        return piece

    def _piece(self, index: _Index, packed: bytes) -> bytes | None:
        """The plain bytes, or None where they are damaged. Nothing is unpacked before its crc and its size are known to hold."""
        if len(packed) != index.packed or crc(packed) != index.crc:
            return None
        try:
            fits = get_frame_parameters(packed).content_size == index.length
            return self._unpack.decompress(packed) if fits else None
        except ZstdError:
            return None

    def _resume(self, at: int) -> bytes:
        """Looks for the next index that belongs behind what was read; the hole before it becomes zeros."""
        self._file.seek(at)
        rest = self._file.read()
        found = rest.find(_SKIPPABLE)
        while found >= 0:
            index = _parse(rest[found : found + _PAIR])
            if index is not None and index.offset >= self._offset:
                self._file.seek(at + found)
                return self._lost(index.offset) or self.pull()
            found = rest.find(_SKIPPABLE, found + 1)
        self._offset += _REST
        return bytes(_REST)

    def _lost(self, until: int) -> bytes:
        """Zeros up to `until`, a piece at a time."""
        length = min(PIECE, until - self._offset)
        self._offset += length
        return bytes(length)


def _parse(data: bytes) -> _Index | None:
    """The index at the start of `data`, or None where there is none."""
    if len(data) < _PAIR or CRC.unpack_from(data, _INDEX.size)[0] != crc(data[: _INDEX.size]):
        return None
    index = _Index._make(_INDEX.unpack_from(data))
    return index if index.skippable == _SKIPPABLE and index.length <= PIECE else None
