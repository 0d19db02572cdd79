"""From what a box gave to one data message: each event is encoded once for all clients, and one message once for all who read the same.

Next door: `box.py` gives the events; `model.wire` names the fields.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, TypeAlias

import msgspec
from msgspec import Raw, Struct

from truetape.core.route.mailbox import OUTSIDE, Key
from truetape.core.serve.box import ClientBox
from truetape.model.event import Book, Gap, Lagged, Market, Status
from truetape.model.wire import ToClient

Encoding: TypeAlias = Literal["json", "msgpack"]
CACHED_MAX = 4096
"""Encoded events kept within a turn."""
SIGNATURES_MAX = 4096


class _Data(Struct, frozen=True, tag_field="type", tag="data"):
    """`wire.Data`, its events encoded already."""

    id: int
    events: list[Raw]
    offsets: dict[str, int]


_ENCODERS: dict[Encoding, Callable[[Any], bytes]] = {
    "json": msgspec.json.Encoder().encode,
    "msgpack": msgspec.msgpack.Encoder().encode,
}


def encode(message: ToClient, encoding: Encoding) -> bytes:
    """Any other message."""
    return _ENCODERS[encoding](message)


def encode_event(event: Market, encoding: Encoding, redact: Callable[[str], str]) -> bytes:
    """One event as it stands in a message, or alone on a bus. `redact` cleans the reasons: a venue may repeat a key."""
    if event.__class__ is Book:
        if event.marks is not None:
            event = msgspec.structs.replace(event, marks=None)  # digits for a checksum: not for clients
    elif isinstance(event, Status | Gap):
        event = msgspec.structs.replace(event, reason=redact(event.reason))
    return _ENCODERS[encoding](event)


class Frames:
    """What one turn of the loop encodes. `turn` forgets it all; until then everything that is cached keeps its events alive.

    `redact` takes secrets out of reasons.
    """

    def __init__(self, redact: Callable[[str], str] = str) -> None:
        self.cuts: dict[tuple[int, int], tuple[Market, Market]] = {}
        self._events: dict[tuple[int, Encoding], tuple[Market, Raw]] = {}
        self._whole: dict[tuple[object, ...], tuple[list[Market], bytes]] = {}
        self._signatures: dict[tuple[object, ...], int] = {}
        self._numbers = 0
        self._redact = redact
        self.encoded = 0
        self.shared = 0

    def turn(self) -> None:
        """A new turn: what was cached is stale."""
        self._whole.clear()
        if len(self._events) > CACHED_MAX or len(self.cuts) > CACHED_MAX:
            self._events.clear()
            self.cuts.clear()

    @property
    def held(self) -> int:
        """Bytes that are kept encoded. The events themselves are their boxes'."""
        return sum(len(raw) for _, raw in self._events.values()) + sum(
            len(payload) for _, payload in self._whole.values()
        )

    def forget(self) -> tuple[int, int]:
        """Between two turns, where memory is short: keep nothing. Returns how many encoded events and bytes went."""
        count, size = len(self._events), self.held
        for kept in (self._events, self._whole, self.cuts):
            kept.clear()
        return count, size

    def signature(self, *like: object) -> int:
        """One number for all boxes that are alike: same patterns, mode, bound, depth, id, encoding and wire."""
        known = self._signatures.get(like)
        if known is None:
            if (
                len(self._signatures) >= SIGNATURES_MAX
            ):  # clients choose what is in them: older ones share no more with newer ones
                self._signatures.clear()
            self._numbers += 1
            known = self._signatures[like] = self._numbers
        return known

    @staticmethod
    def plain(events: list[Market]) -> bool:
        """Whether these are all data: notices that a box made for itself look alike from outside and are not."""
        return OUTSIDE.isdisjoint(map(type, events))

    def data(self, id_: int, box: ClientBox, events: list[Market], encoding: Encoding) -> bytes:
        """One data message of these events, which the box has just given."""
        drained = bool(box.signature) and box.drained and not box.lags and not box.broken and self.plain(events)
        key = (box.signature, encoding, id(events[0]), id(events[-1]), len(events), drained)
        known = self._whole.get(key) if drained else None
        if known is not None:
            self.shared += 1
            return known[1]
        body = _Data(id_, [self._event(event, encoding) for event in events], self._offsets(box, events))
        payload = _ENCODERS[encoding](body)
        if drained:
            self._whole[key] = (events, payload)
        return payload

    def _event(self, event: Market, encoding: Encoding) -> Raw:
        key = (id(event), encoding)
        known = self._events.get(key)
        if known is None:
            self.encoded += 1
            known = self._events[key] = (event, Raw(encode_event(event, encoding, self._redact)))
        return known[1]

    @staticmethod
    def _offsets(box: ClientBox, events: list[Market]) -> dict[str, int]:
        def keys() -> list[Key]:
            return list(dict.fromkeys(key for event in events if (key := _key(box, event)) is not None))

        return {":".join(key): offset for key, offset in box.at(keys).items()}


def _key(box: ClientBox, event: Market) -> Key | None:
    """The topic in which this brings the client on: what it was told to have lost, it will not ask for again."""
    if type(event) is Lagged:
        return (event.topic, event.venue, event.symbol)
    return None if type(event) in OUTSIDE else box.key(event)
