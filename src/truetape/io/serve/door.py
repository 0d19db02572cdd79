"""Sockets between `accept` and the handshake: bounded in number and time, for nobody has said yet who they are.

picows parses the handshake; whoever dawdles over it, or over reading the answer to a GET, is dropped here. Next door: `gateway.py`, whose
guests have passed.
"""

from __future__ import annotations

import asyncio
import os
import resource
import socket
import ssl
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias, cast

import aiofastnet
from picows import WSAutoPingStrategy
from picows.picows import WSProtocol  # type: ignore[attr-defined]  # its stub leaves it out

from truetape.core.serve.meter import Crowd
from truetape.io.amends import Ear, accept_patiently
from truetape.io.clock import now as clock

HANDSHAKE_S = 5.0
ANSWER_S = 10.0
"""How long a socket may live that never becomes a WebSocket: long enough to read the largest answer to a GET."""
SWEEP_S = 1.0
RECEIVE_BYTES = 128 * 1024
"""What the system holds of a client's bytes; picows doubles its own buffer to what one read brings, and never shrinks it."""
RESERVE = 128
SPARE = 16
"""Files that the gateway itself may need at once, beside two for each of its connections: segments of the tape, fetches, buses."""
ENOUGH = 1 << 30
READ_BYTES = 2048
"""picows' buffer for one client, at first: clients say little."""
Visitor = Callable[[Any], Any]
Place: TypeAlias = tuple[Any, ...]
"""A client's address and port."""
NOWHERE: Place = ("?",)


class Doors:
    """Who waits, by transport: its address, and since when (ns); `crowd` counts them by address, `most` bounds all that are open.

    A socket is counted from `accept` on, for a TLS handshake may last. Of few files no address takes more than half.
    """

    def __init__(self, per_address: int, answer_s: float = ANSWER_S) -> None:
        self.waiting: dict[asyncio.BaseTransport, tuple[str, int]] = {}
        self.turned_away = 0
        self.most = ENOUGH
        self.open = 0
        self._arriving: dict[Place, socket.socket] = {}
        self._answer_ns = round(answer_s * 1e9)
        self.crowd = Crowd(per_address)
        self._sweep: asyncio.TimerHandle | None = None

    def bound(self, most: int, per_address: int) -> None:
        """So many may be open, and so many of one address may wait (0: no limit), from now on; who is in stays."""
        self.most = most
        half = max(1, most // 2)
        self.crowd.most = min(per_address or half, half)

    def arrives(self, one: socket.socket, place: Place) -> bool:
        """A socket of this address and port was accepted; False where it has to go."""
        if self.open + len(self._arriving) >= self.most or not self.crowd.enter(str(place[0])):
            self.turned_away += 1
            return False
        self._arriving[place] = one
        return True

    def arrived(self, place: Place) -> None:
        """It came to the door, or will in the next turn of the loop; one that is closed never will."""
        if (one := self._arriving.get(place)) is not None and one.fileno() < 0:
            del self._arriving[place]
            self.crowd.leave(str(place[0]))

    def came(self, transport: Any) -> None:
        """It can be spoken with."""
        place = transport.get_extra_info("peername") or NOWHERE
        address = str(place[0])
        if self._arriving.pop(place, None) is None:  # not seen before
            self.crowd.enter(address)
        self.open += 1
        self.waiting[transport] = (address, clock())
        if self._sweep is None:
            self._sweep = asyncio.get_running_loop().call_later(SWEEP_S, self._look)

    def gone(self, transport: asyncio.BaseTransport) -> None:
        """It is closed."""
        self.open -= 1
        self.passed(transport)

    def passed(self, transport: asyncio.BaseTransport) -> None:
        """It became a WebSocket."""
        if (found := self.waiting.pop(transport, None)) is not None:
            self.crowd.leave(found[0])

    def _look(self) -> None:
        """Only those at the front can be late: they stand in the order in which they came."""
        now = clock()
        for place in list(self._arriving):
            self.arrived(place)
        self._sweep = asyncio.get_running_loop().call_later(SWEEP_S, self._look) if self.waiting else None
        for transport, (_, since) in list(self.waiting.items()):
            if now - since < self._answer_ns:
                break
            self.passed(transport)
            transport.abort()  # type: ignore[attr-defined]  # every transport of a socket has it

    def close(self) -> None:
        """Nobody waits any more."""
        if self._sweep is not None:
            self._sweep.cancel()
        for transport in list(self.waiting):
            transport.abort()  # type: ignore[attr-defined]  # as above


class Later(BaseException):
    """Raised by a visitor instead of an answer: it comes when `answer` is done, and `wire` makes bytes of it.

    picows takes any `Exception` for an error of ours and answers 500 at once; this passes through it.
    """

    def __init__(self, answer: asyncio.Future[Any], wire: Callable[[Any], bytes]) -> None:
        super().__init__()
        self.answer = answer
        self.wire = wire


class _Door(WSProtocol):  # type: ignore[misc]  # its stub leaves it out
    """picows' protocol, its beginning and end told to the doors."""

    __slots__ = ("__weakref__", "doors", "later", "stands")
    doors: Doors
    later: Later | None

    def buffer_updated(self, nbytes: int) -> None:
        try:
            super().buffer_updated(nbytes)
        except Later as later:
            self.later = later
            later.answer.add_done_callback(self._answered)

    def _answered(self, answer: asyncio.Future[Any]) -> None:
        if self.later is not None and not answer.cancelled():
            self.stands.write(self.later.wire(answer.result()))
            self.stands.close()

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self.stands = transport
        self.doors.came(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self.doors.gone(self.stands)
        if self.later is not None:
            later, self.later = self.later, None
            later.answer.cancel()
        super().connection_lost(exc)


async def serve(
    visitor: Visitor, doors: Doors, address: str, port: int, tls: ssl.SSLContext | None, *, frame_max: int
) -> asyncio.Server:
    """Listen. Raises OSError."""

    def made() -> _Door:
        ear = Ear()
        door = _Door(
            None, None, False, visitor, ear, True, HANDSHAKE_S, False, 20, 20, WSAutoPingStrategy.PING_WHEN_IDLE, False, frame_max, None,
            READ_BYTES,
        )  # fmt: skip
        door.doors, door.later = doors, None
        ear.of(door)
        return door

    options: dict[str, Any] = {"ssl": tls, "ssl_handshake_timeout": HANDSHAKE_S} if tls is not None else {}
    create = partial(aiofastnet.create_server, asyncio.get_running_loop())
    server: Any = await create(made, host=address, port=port, start_serving=False, **options)
    accept_patiently(server, doors)
    await server.start_serving()
    for one in server.sockets:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BYTES)
    return cast("asyncio.Server", server)


class Files:
    """How many sockets at the door the open-files limit has room for. Made at the start, when what the gateway itself needs is open but for its
    connections: `room` keeps two for each (a new one is dialed before the old one is closed) and some to spare, and at least a quarter of
    the limit or 128."""

    def __init__(self) -> None:
        self._soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        self._own = len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").exists() else 32

    def room(self, links: int) -> int:
        """So many, beside this number of connections to venues."""
        if self._soft == resource.RLIM_INFINITY:
            return ENOUGH
        kept = max(min(RESERVE, self._soft // 4), 2 * links + SPARE)
        return max(2, self._soft - self._own - kept)
