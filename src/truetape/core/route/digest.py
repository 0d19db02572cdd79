"""A running fingerprint of every market event that leaves the pump, in order: equal for a live run and its replay.

Events are encoded (MessagePack of the event structs) in chunks of about 256 and chained: digest = SHA-256(digest before + chunk). A chunk
also ends where the journal starts a segment, so that the digest can be carried in a checkpoint; replay sees the same places.
"""

from __future__ import annotations

from hashlib import sha256

from msgspec.msgpack import Encoder

from truetape.model.event import KINDS, Market

CHUNK = 256


class Digest:
    """Call `add` for each event; `value` folds what is left and tells the digest so far."""

    __slots__ = ("_encode", "by_kind", "chunk", "link")

    def __init__(self) -> None:
        self.chunk: list[Market] = []
        self.link = bytes(32)
        self.by_kind: dict[str, int] = {}
        self._encode = Encoder().encode

    def fold(self) -> None:
        """Take the waiting chunk into the chain."""
        if not self.chunk:
            return
        self.link = sha256(self.link + self._encode(self.chunk)).digest()
        by_kind = self.by_kind
        for event in self.chunk:
            kind = KINDS[event.__class__]
            by_kind[kind] = by_kind.get(kind, 0) + 1
        self.chunk.clear()

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
