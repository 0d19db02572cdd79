"""One bot that speaks a venue's protocol, between its socket and the room. Next door: `native.py` admits it.

It answers our protocol pings or is gone; it reads, or is cut at the byte limit; what it asks is answered as its pipe has room.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from truetape.app.wants import Asked
from truetape.core.feed.counterpart import Pair
from truetape.core.serve.claims import Claims
from truetape.core.serve.meter import Bucket
from truetape.io.clock import now as clock
from truetape.io.serve.gateway import Socket

if TYPE_CHECKING:
    from truetape.app.native import Natives, Speaker

SECOND = 1_000_000_000
PING_EVERY = 20 * SECOND
SILENT_MAX = 65 * SECOND
"""Three pings without an answer: nobody is there."""


class NativeVisit:
    """One bot, between its socket and the room (see io.serve.gateway.Session)."""

    subprotocol = ""

    def __init__(self, natives: Natives, speaker: Speaker, target: str, claims: Claims) -> None:
        limits = natives.service.how.limits
        self.natives = natives
        self.speaker = speaker
        self.target = target
        self.claims = claims
        self.bytes_max = limits.message_bytes
        self.fragments_max = limits.fragments
        self.number = 0
        self.address = ""
        self.opened_at = self.heard_at = self.pinged_at = clock()
        self.asked: dict[Pair, None] = {}  # not settled yet (see native_adds.py)
        self.held: dict[Pair, Asked] = {}
        self.messages_in = self.messages_out = self.bytes_out = 0
        self._high = limits.buffer_bytes
        self._write_ns = round(limits.write_s * SECOND)
        self._bucket = Bucket(limits.messages_per_s, max(1, 5 * limits.messages_per_s), self.opened_at)
        self._socket: Socket | None = None
        self._stuck = (0, 0)  # (bytes that wait, since when they do not become fewer)

    def opened(self, socket: Socket, address: str) -> None:
        """The handshake is done."""
        self.address = address
        if why := self.natives.enter(self, address):
            socket.close(1008, why)
            return
        self._socket = socket
        socket.watermarks(self._high // 2)
        now = clock()
        room = self.speaker.room
        listed = self.natives.may(self.speaker, self.claims)
        self.natives.do(self.speaker, room.opened(self.number, self.target, listed, now))

    def message(self, data: bytes, kind: str) -> None:
        """One whole message came."""
        self.heard_at = now = clock()
        if self._socket is None:
            return
        self.messages_in += 1
        if not self._bucket.take(now):
            self.hang(1008, "too many messages")
            return
        self.natives.do(self.speaker, self.speaker.room.received(self.number, data, now))
        self.speaker.wake()  # what was published before it asked is told before it is answered

    def heard(self) -> None:
        """A control frame came; it counts as a message."""
        self.heard_at = now = clock()
        if self._socket is not None and not self._bucket.take(now):
            self.hang(1008, "too many messages")

    def drained(self) -> None:
        """The pipe has room again."""
        self.natives.proceed(self.speaker, self.number)

    def gone(self) -> None:
        """The socket is no more."""
        if self._socket is not None:
            self._socket = None
            self.natives.left(self)

    @property
    def buffered(self) -> int:
        """Bytes that lie here for it: what its socket did not take, and the beginning of a message of its."""
        return self._socket.waiting() + self._socket.unfinished() if self._socket is not None else 0

    def roomy(self) -> bool:
        """Whether its pipe has room for an answer."""
        return self._socket is not None and self._socket.waiting() <= self._high // 2

    def say(self, frames: list[bytes]) -> None:
        """Write these; a bot that does not read is cut."""
        if self._socket is None:
            return
        if self._socket.waiting() > self._high:
            self.cut()
            return
        wire = self._socket.frame(frames)
        self.messages_out += len(frames)
        self.bytes_out += len(wire)
        self._socket.write(wire)

    def hang(self, code: int, text: str) -> None:
        """End it in order."""
        self.speaker.room.gone(self.number)
        if self._socket is not None:
            self._socket.close(code, text)

    def abort(self) -> None:
        """End it at once."""
        if self._socket is not None:
            self._socket.abort()

    def cut(self) -> None:
        """It does not read: end it at once."""
        self.natives.cut += 1
        self.abort()

    def beat(self, now: int) -> None:
        """Is it there, does it read, may it still?"""
        if self._socket is None:
            return
        claims = self.claims
        if claims.id and claims.id in self.natives.service.revoked.ids:
            self.hang(1008, f"the token of {claims.name} was revoked")
        elif claims.expires and now >= claims.expires:
            self.hang(1008, f"the token of {claims.name} expired")
        elif now - self.heard_at > SILENT_MAX:
            self.hang(1008, "no answer to pings")
        elif now - max(self.pinged_at, self.opened_at) >= PING_EVERY:
            self.pinged_at = now
            self._socket.ping()
        waiting = self._socket.waiting()
        if not waiting or waiting < self._stuck[0]:
            self._stuck = (waiting, now)
        elif now - self._stuck[1] >= self._write_ns:
            self.cut()
        else:
            self._stuck = (waiting, self._stuck[1])

    def row(self, now: int) -> dict[str, Any]:
        """As the list of clients shows it."""
        bot = self.speaker.room.bots.get(self.number)
        return {
            "number": self.number, "name": self.claims.name, "role": self.claims.role, "address": self.address,
            "encoding": f"native-{self.speaker.venue}", "connected_s": round((now - self.opened_at) / SECOND, 3),
            "silent_s": round((now - self.heard_at) / SECOND, 3), "messages_in": self.messages_in, "messages_out": self.messages_out,
            "bytes_out": self.bytes_out, "buffered_bytes": self._socket.waiting() if self._socket is not None else 0, "blocked": False,
            "subscriptions": [], "symbols": len(bot.told) if bot is not None else 0,
        }  # fmt: skip
