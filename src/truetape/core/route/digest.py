"""A running fingerprint of every market event that leaves the pump, in order: equal for a live run and its replay.

Events are encoded (MessagePack of the event structs) in chunks of 64 and chained: digest = SHA-256(digest before + chunk). Chunks are
counted from the first event on, however they came; a checkpoint carries the link and the chunk that is not full yet.
"""

from __future__ import annotations

from collections import Counter
from hashlib import sha256

from msgspec.msgpack import Encoder

from truetape.model.event import KINDS, Market

CHUNK = 64


class Digest:
    """Append events to `chunk`, and call `fold` where it holds `CHUNK` of them or more; `value` tells the digest so far."""

    __slots__ = ("_encode", "by_kind", "chunk", "link")

    def __init__(self) -> None:
        self.chunk: list[Market] = []
        self.link = bytes(32)
        self.by_kind: dict[str, int] = {}
        self._encode = Encoder().encode

    def fold(self) -> None:
        """Take full chunks into the chain."""
        chunk, by_kind = self.chunk, self.by_kind
        while len(chunk) >= CHUNK:
            part = chunk[:CHUNK]
            del chunk[:CHUNK]
            self.link = sha256(self.link + self._encode(part)).digest()
            for kind, times in Counter(map(type, part)).items():
                by_kind[KINDS[kind]] = by_kind.get(KINDS[kind], 0) + times

    def reset(self) -> None:
        """Begin anew."""
        self.chunk.clear()
        self.link = bytes(32)
        self.by_kind.clear()

    def value(self) -> str:
        """The digest over all events so far, hex. Reading it does not change it."""
        return sha256(self.link + self._encode(self.chunk)).hexdigest() if self.chunk else self.link.hex()

    def counts(self) -> dict[str, int]:
        """Events so far by kind."""
        counts = dict(self.by_kind)
        for event in self.chunk:
            kind = KINDS[event.__class__]
            counts[kind] = counts.get(kind, 0) + 1
        return counts
