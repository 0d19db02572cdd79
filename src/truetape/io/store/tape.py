"""The open segment: whatever is put on it is durable when the call returns, or the call raises and the segment has ended.

One file, written in one place, only at its end. `length` and `chain` are those of what is acknowledged; nothing beyond them
is ever to be trusted. `writer` decides when a tape begins and ends.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from typing import TypeAlias

import msgspec

from truetape.io.store.place import SOURCE
from truetape.io.store.segment import CRC, HEAD, HEADER, PAYLOAD_MAX, RECORDS, pack_preamble, plain_name, seal
from truetape.model.record import HOLE, Header

Entry: TypeAlias = tuple[object, ...]
"""A record in its array form: `(kind, source, now, ...)`, as `model.record` has it."""

_KEEP = 16 << 20
"""A larger buffer is given back."""
_NOT_ENCODED = (TypeError, ValueError, OverflowError, RecursionError)


class Tape:
    """An open segment. Every method may raise OSError; then `cut` and `close` it, or `discard` it if nothing was written."""

    def __init__(self, directory: str, number: int, journal: int, clock: Callable[[], int]) -> None:
        """Creates the file. FileExistsError: the number is taken, and the file not ours to touch."""
        self.number = number
        self.length = 0
        self.chain = 0
        self.spoiled = 0
        self.sync_ns = 0
        self._path = os.path.join(directory, plain_name(number))
        self._journal = journal
        self._clock = clock
        self._buffer = bytearray(HEAD.size)
        self._encode = msgspec.msgpack.Encoder().encode_into
        self._held = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o640)

    def begin(self, flags: int, header: Header, hole: Entry | None) -> None:
        """What every segment begins with, in one write; `hole` where records are missing before it."""
        data = bytearray(pack_preamble(self._journal, self.number, flags))
        chain = CRC.unpack_from(data, len(data) - CRC.size)[0]
        self._encode(header, self._buffer, HEAD.size)
        chain = seal(self._buffer, HEADER, self._journal, header.first, 0, chain)
        data += self._buffer
        if hole is not None:
            self._encode([hole], self._buffer, HEAD.size)
            chain = seal(self._buffer, RECORDS, self._journal, header.first, 1, chain)
            data += self._buffer
        self._append(data, chain)

    def write(self, records: list[Entry], first: int) -> None:
        """One block, one write, one fdatasync. A record that cannot be encoded becomes a Hole, counted in `spoiled`."""
        try:
            self._encode(records, self._buffer, HEAD.size)
        except _NOT_ENCODED:
            self._encode([self._checked(record) for record in records], self._buffer, HEAD.size)
        chain = seal(self._buffer, RECORDS, self._journal, first, len(records), self.chain)
        self._append(self._buffer, chain)
        if len(self._buffer) > _KEEP:
            self._buffer = bytearray(HEAD.size)

    def cut(self) -> None:
        """Cuts off what is not acknowledged."""
        os.ftruncate(self._held, self.length)
        os.fdatasync(self._held)

    def close(self) -> None:
        """Everything acknowledged is durable already."""
        os.close(self._held)

    def discard(self) -> None:
        """Takes back a segment that could not be begun: nothing in it was ever acknowledged."""
        os.close(self._held)
        os.unlink(self._path)

    def _append(self, data: bytearray, chain: int) -> None:
        began = self._clock()
        with memoryview(data) as view:
            done = 0
            while done < len(view):
                wrote = os.write(self._held, view[done:])
                if wrote == 0:
                    raise OSError(errno.EIO, f"expected to write {len(view) - done} bytes, wrote none")
                done += wrote
        length = self.length + len(data)
        found = os.fstat(self._held).st_size
        if found != length:
            raise OSError(errno.EIO, f"expected to have written up to byte {length}, found the end at {found}")
        os.fdatasync(self._held)
        self.length, self.chain = length, chain
        self.sync_ns = self._clock() - began

    def _checked(self, record: Entry) -> Entry:
        """The record, or a Hole in its place."""
        try:
            size = len(msgspec.msgpack.encode(record))
            if size <= PAYLOAD_MAX:
                return record
            why = f"a record of {size} bytes is larger than {PAYLOAD_MAX}"
        except _NOT_ENCODED as error:
            why = f"a record could not be encoded: {error}"
        self.spoiled += 1
        return (HOLE, SOURCE, self._clock(), why, 1)
