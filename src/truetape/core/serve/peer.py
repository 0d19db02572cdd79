"""What one downstream client may do: authenticate, subscribe within its entitlements, ping; or be sent away with a reason.

    new --token in the header, or none needed--> ready          new --authenticate--> ready          any --breach, expiry, silence--> ended

A machine: inputs return messages for the client, the last of which may be a `Bye`. What it cannot know (symbols, routing) is its `Desk`'s.
Next door: `box.py` holds what waits for the client; `io.serve` moves the bytes.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Literal, Protocol

import msgspec
from msgspec import Struct

from truetape.core.serve.box import ClientBox
from truetape.core.serve.claims import EVERYONE, Claims
from truetape.core.serve.frames import Encoding
from truetape.core.serve.meter import Bucket
from truetape.model import wire

SECOND = 1_000_000_000
ERRORS_MAX = 10
"""Messages that could not be read before the client is sent away."""
HAVE_MAX = 50_000
"""Offsets that a client may announce before it subscribes."""

_NAME = re.compile(r"[A-Za-z0-9*^][A-Za-z0-9*:/._^=+@#&-]*")
"""What a name may be made of, before it goes to a venue, into a log or onto a page."""

Decoder = Callable[[bytes], wire.ToGateway]
_DECODERS: dict[Encoding, Decoder] = {
    "json": msgspec.json.Decoder(wire.ToGateway).decode,
    "msgpack": msgspec.msgpack.Decoder(wire.ToGateway).decode,
}


class _Asked(Struct):
    """What is left to read of a message that is wrong otherwise."""

    id: wire.Number


_ID_DECODERS: dict[Encoding, Callable[[bytes], _Asked]] = {
    "json": msgspec.json.Decoder(_Asked).decode,
    "msgpack": msgspec.msgpack.Decoder(_Asked).decode,
}


class Rules(Struct, frozen=True, kw_only=True):
    """What every client of a server is held to."""

    version: str
    epoch: str
    tokens: bool
    authenticate_within_s: float = 5.0
    idle_s: float = 300.0
    message_bytes: int = 64 * 1024
    messages_per_s: float = 20.0
    burst: int = 100
    subscriptions: int = 100
    history: int = 300


class Refused(Exception):
    """A subscription that cannot be: `reason` names why for a program, the text for a person."""

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(text)
        self.reason = reason


class Desk(Protocol):
    """Who makes and ends subscriptions, and knows tokens."""

    def subscribe(self, peer: Peer, asked: wire.Subscribe, now: int) -> ClientBox:
        """A box that is filled from now on. Raises Refused."""

    def unsubscribe(self, peer: Peer, box: ClientBox, reason: str) -> None:
        """End it."""

    def admit(self, peer: Peer, token: str, now: int) -> Claims:
        """What a token grants this client. Raises Refused with the name of a closing: bad_token, expired, revoked, policy."""


class Peer:
    """One client. `boxes` has its subscriptions by the ids that it gave them; `ended` is how it ended, once it has."""

    __slots__ = (
        "_bucket", "_decode", "_errors", "_had", "boxes", "claims", "desk", "encoding", "ended", "last_rx", "opened_at", "received", "rules",
    )  # fmt: skip

    def __init__(self, desk: Desk, rules: Rules, encoding: Encoding, now: int, claims: Claims | None = None) -> None:
        self.desk = desk
        self.rules = rules
        self.encoding: Encoding = encoding
        self.claims = claims if claims is not None else (None if rules.tokens else EVERYONE)
        self.boxes: dict[int, ClientBox] = {}
        self.ended: wire.Bye | None = None
        self.opened_at = now
        self.last_rx = now
        self.received = 0
        self._decode = _DECODERS[encoding]
        self._bucket = Bucket(rules.messages_per_s, rules.burst, now)
        self._errors = 0
        self._had: dict[int, wire.Resume] = {}

    def hello(self, now: int) -> list[wire.ToClient]:
        """The first message."""
        r = self.rules
        bounds = wire.Bounds(r.message_bytes, r.messages_per_s, r.subscriptions, r.idle_s, r.history)
        need: Literal["required", "none"] = "required" if r.tokens and self.claims is None else "none"
        return [wire.Hello(wire.PROTOCOL, r.version, r.epoch, now, need, r.authenticate_within_s, bounds)]

    def heard(self, now: int) -> list[wire.ToClient]:
        """A ping or pong of the transport came; they count as messages."""
        if self.ended is not None:
            return []
        self.last_rx = now
        return [] if self._bucket.take(now) else self._flooded(now)

    def _flooded(self, now: int) -> list[wire.ToClient]:
        return self.end("policy", f"more than {self.rules.messages_per_s:g} messages a second", now)

    def message(self, data: bytes, now: int) -> list[wire.ToClient]:
        """One whole message of the client."""
        if self.ended is not None:
            return []
        self.last_rx = now
        self.received += 1
        if not self._bucket.take(now):
            return self._flooded(now)
        try:
            asked = self._decode(data)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, ValueError) as error:
            self._errors += 1
            if self._errors >= ERRORS_MAX:
                return self.end("bad_message", f"{ERRORS_MAX} messages that are none; the last: {error}", now)
            why = f"expected authenticate, have, subscribe, unsubscribe or ping: {error}"
            return [wire.Error("bad_message", why, self._id_of(data))]
        if self.claims is None and not isinstance(asked, wire.Authenticate):
            return self.end("no_token", "expected authenticate first", now)
        match asked:
            case wire.Ping():
                return [wire.Pong(asked.ts, now)]
            case wire.Authenticate():
                return self._authenticate(asked, now)
            case wire.Have():
                return self._have(asked)
            case wire.Subscribe():
                return self._subscribe(asked, now)
            case wire.Unsubscribe():
                return self._unsubscribe(asked)

    def _id_of(self, data: bytes) -> int:
        """The id of a message that could not be followed, so that a client knows which; -1 where none can be read."""
        try:
            return _ID_DECODERS[self.encoding](data).id
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, ValueError):
            return -1

    def _authenticate(self, asked: wire.Authenticate, now: int) -> list[wire.ToClient]:
        if not self.rules.tokens:
            return [self._granted(EVERYONE)]
        try:
            claims = self.desk.admit(self, asked.token, now)
        except Refused as error:
            return self.end(error.reason, str(error), now)
        if self.claims is not None and claims.name != self.claims.name:
            return self.end("bad_token", "expected a token of the same name for a renewal", now)
        self.claims = claims
        return [self._granted(claims)]

    @staticmethod
    def _granted(claims: Claims) -> wire.Authenticated:
        return wire.Authenticated(claims.name, claims.role, list(claims.allow), claims.expires)

    def _have(self, asked: wire.Have) -> list[wire.ToClient]:
        count = sum(len(part.offsets) + len(part.whole) for part in (*self._had.values(), asked.resume))
        if count > HAVE_MAX or len(self._had) > self.rules.subscriptions:
            return [wire.Error("too_many", f"expected at most {HAVE_MAX} offsets before a subscribe", asked.id)]
        self._had[asked.id] = joined(self._had.get(asked.id), asked.resume)
        return []

    def _subscribe(self, asked: wire.Subscribe, now: int) -> list[wire.ToClient]:
        if (had := self._had.pop(asked.id, None)) is not None and asked.resume is not None:
            asked = msgspec.structs.replace(asked, resume=joined(had, asked.resume))
        for name in asked.symbols:
            if not _NAME.fullmatch(name) or ".." in name:
                return [wire.Error("unknown", f"expected venue:SYMBOL, venue:* or *, found {name[:64]!r}", asked.id)]
        if asked.id in self.boxes:
            return [
                wire.Error("bad_request", f"expected an id that is free, found {asked.id}, which is in use", asked.id)
            ]
        if len(self.boxes) >= self.rules.subscriptions:
            return [wire.Error("too_many", f"expected at most {self.rules.subscriptions} subscriptions", asked.id)]
        try:
            box = self.boxes[asked.id] = self.desk.subscribe(self, asked, now)
        except Refused as error:
            return [wire.Error(error.reason, str(error), asked.id)]
        return [wire.Subscribed(asked.id, topics_of(box))]

    def _unsubscribe(self, asked: wire.Unsubscribe) -> list[wire.ToClient]:
        box = self.boxes.pop(asked.id, None)
        if box is None:
            return [wire.Error("bad_request", f"expected the id of a subscription, found {asked.id}", asked.id)]
        self.desk.unsubscribe(self, box, "unsubscribed")
        return [wire.Unsubscribed(asked.id)]

    def dropped(self, id_: int, reason: str) -> list[wire.ToClient]:
        """A box was closed from inside: its mode is `disconnect`, or memory was short."""
        box = self.boxes.pop(id_, None)
        if box is not None:
            self.desk.unsubscribe(self, box, reason)
        return [wire.Unsubscribed(id_, reason)]

    def end(self, reason: str, text: str, now: int, retry_after_s: float = -1.0) -> list[wire.ToClient]:
        """Say goodbye; whoever moves the bytes closes with its code."""
        if self.ended is None:
            row = wire.CLOSINGS[reason]
            self.ended = wire.Bye(row.code, row.reason, text or row.text, retry_after_s)
            return [self.ended]
        return []

    def gone(self, reason: str = "the client left") -> None:
        """The connection is no more: let go of everything."""
        if self.ended is None:
            self.ended = wire.Bye(1006, "gone", reason)
        for box in self.boxes.values():
            self.desk.unsubscribe(self, box, reason)
        self.boxes.clear()

    @property
    def deadline(self) -> int | None:
        """When `tick` is next due, ns."""
        if self.ended is not None:
            return None
        if self.claims is None:
            return self.opened_at + round(self.rules.authenticate_within_s * SECOND)
        times = []
        if self.claims.expires:
            times.append(self.claims.expires)
        if self.rules.idle_s:
            times.append(self.last_rx + round(self.rules.idle_s * SECOND))
        return min(times, default=None)

    def tick(self, now: int) -> list[wire.ToClient]:
        """Whose time is up?"""
        due = self.deadline
        if due is None or now < due:
            return []
        if self.claims is None:
            return self.end("no_token", f"no token within {self.rules.authenticate_within_s:g} s", now)
        if self.claims.expires and now >= self.claims.expires:
            return self.end("expired", f"the token of {self.claims.name} has expired", now)
        return self.end("idle", f"nothing was heard for {self.rules.idle_s:g} s", now)


def joined(one: wire.Resume | None, other: wire.Resume) -> wire.Resume:
    """Two parts of what a client has; of another epoch the first is worth nothing."""
    if one is None or one.epoch != other.epoch:
        return other
    return wire.Resume(other.epoch, {**one.offsets, **other.offsets}, [*one.whole, *other.whole])


def topics_of(box: ClientBox) -> list[wire.TopicAt]:
    """Where a new box stands in each of its topics."""
    return [wire.TopicAt(":".join(key), box.start[key], box.recovered.get(key)) for key in box.topics]
