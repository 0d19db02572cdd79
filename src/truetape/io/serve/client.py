"""One downstream client as the server drives it: takes from its boxes what its pipe can carry, in one write for each turn of the loop.

    woken ─► turn ─► take from boxes ─► one write          pipe full ─► blocked: boxes fill, and their modes judge ─► pipe drained ─► turn

The bytes that wait in the transport count: beyond `high` nothing more is taken. A client whose pipe does not move for `write_s` is cut. Next
door: `gateway.py` (WebSocket) and `sidecar.py` (Unix socket) are pipes; `core.serve.peer` decides.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from truetape.core.serve.box import ClientBox
from truetape.core.serve.frames import Frames, encode
from truetape.core.serve.peer import Peer
from truetape.io.clock import now as clock
from truetape.model.wire import Bye, ToClient

BATCH = 256
"""Events of one data message, at most."""
TURN_BYTES = 128 * 1024
"""What one client is given in one turn; others shall not wait for it."""


class Pipe(Protocol):
    """What carries whole messages to a client."""

    def frame(self, messages: Sequence[bytes]) -> bytes:
        """These messages as they go over the wire, one after another."""

    @property
    def write(self) -> Callable[[bytes], object]:
        """Hand over what `frame` made."""

    def waiting(self) -> int:
        """Bytes handed over that the system did not take yet."""

    def unfinished(self) -> int:
        """Bytes of a message that the client began and did not end yet."""

    def close(self, code: int, text: str) -> None:
        """End it in order."""

    def abort(self) -> None:
        """End it at once."""


class Client:
    """A pipe and its peer. `number` tells it from others in status and logs; `seat` is whose token's connection it counts as, once one came."""

    __slots__ = (
        "address", "blocked_since", "boxes", "boxes_dirty", "bytes_out", "frames", "high", "messages_out", "number", "peer", "pipe", "seat",
        "seen_waiting", "stuck_at", "write_ns",
    )  # fmt: skip

    def __init__(
        self, number: int, pipe: Pipe, peer: Peer, frames: Frames, address: str, *, high: int, write_ns: int
    ) -> None:
        self.number = number
        self.pipe = pipe
        self.peer = peer
        self.frames = frames
        self.address = address
        self.high = high
        self.write_ns = write_ns
        self.boxes = peer.boxes
        self.boxes_dirty: dict[int, None] = {}
        self.blocked_since = 0
        self.seen_waiting = 0
        self.stuck_at = 0
        self.seat = ""
        self.bytes_out = 0
        self.messages_out = 0

    def say(self, messages: Sequence[ToClient]) -> None:
        """Tell these at once; a Bye closes behind it."""
        if not messages:
            return
        encoding = self.peer.encoding
        self._write([encode(message, encoding) for message in messages])
        last = messages[-1]
        if isinstance(last, Bye):
            self.apart()
            self.pipe.close(last.code, f"{last.reason}: {last.text}")

    def apart(self) -> None:
        """Sing along no more."""
        for box in self.boxes.values():
            if box.chorus is not None:
                box.chorus.part(box)

    def turn(self, now: int) -> bool:
        """Take what the boxes have and write it; True when more waits and the pipe has room: another turn, after the others."""
        if self.blocked_since or self.peer.ended is not None:
            return False
        out: list[bytes] = []
        size = 0
        more = False
        peer = self.peer
        for id_ in list(self.boxes_dirty):
            box = peer.boxes.get(id_)
            if box is None:
                del self.boxes_dirty[id_]
                continue
            got, took, rest = self.read(box, id_, TURN_BYTES - size, now)
            out += got
            size += took
            if rest:
                more = True
                continue
            if box.closed_reason is not None:
                out += [encode(message, peer.encoding) for message in peer.dropped(id_, box.closed_reason)]
            del self.boxes_dirty[id_]
        if out:
            self._write(out)
        return False if self.full() else more

    def read(self, box: ClientBox, id_: int, room: int, now: int) -> tuple[list[bytes], int, bool]:
        """Data messages of what a box has, about `room` bytes of them; how many bytes it is, and whether there is more."""
        out: list[bytes] = []
        size = 0
        encoding = self.peer.encoding
        while size < room:
            events = box.take(BATCH, now)
            if not events:
                return out, size, False
            data = self.frames.data(id_, box, events, encoding)
            out.append(data)
            size += len(data)
            if box.drained and box.closed_reason is None:
                box.rest()
                return out, size, False
        return out, size, True

    @property
    def buffered(self) -> int:
        """Bytes that lie here for it: what its pipe did not take, and the beginning of a message of its."""
        return self.pipe.waiting() + self.pipe.unfinished()

    def cut(self, why: str, now: int) -> None:
        """End it at once; what waits for it is lost, and told when it comes back."""
        self.say(self.peer.end("too_slow", why, now))
        self.pipe.abort()

    def full(self) -> bool:
        """Whether the pipe is: then boxes fill, until it has room."""
        waiting = self.pipe.waiting()
        if waiting <= self.high:
            return False
        self.blocked_since = self.stuck_at = clock()
        self.seen_waiting = waiting
        return True

    def _write(self, messages: list[bytes]) -> None:
        self.messages_out += len(messages)
        wire = self.pipe.frame(messages)
        self.bytes_out += len(wire)
        self.pipe.write(wire)

    def drained(self) -> None:
        """The pipe has room again."""
        self.blocked_since = 0

    def watch(self, now: int) -> bool:
        """On the server's beat: False when the pipe has not moved for too long."""
        if not self.blocked_since:
            return True
        waiting = self.pipe.waiting()
        if waiting < self.seen_waiting:
            self.blocked_since = now
        self.seen_waiting = waiting
        return now - self.blocked_since < self.write_ns
