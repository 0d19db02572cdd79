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
from typing import Any, cast

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
READ_BYTES = 2048
"""picows' buffer for one client, at first: clients say little."""
Visitor = Callable[[Any], Any]


class Doors:
    """Who waits, by transport: its address, and since when (ns); `crowd` counts them by address."""

    def __init__(self, per_address: int, answer_s: float = ANSWER_S) -> None:
        self.waiting: dict[asyncio.BaseTransport, tuple[str, int]] = {}
        self.turned_away = 0
        self._answer_ns = round(answer_s * 1e9)
        self.crowd = Crowd(per_address)
        self._sweep: asyncio.TimerHandle | None = None

    def came(self, transport: Any) -> bool:
        """A socket was accepted; False where it has to go."""
        peer = transport.get_extra_info("peername") or ("?",)
        address = str(peer[0])
        if not self.crowd.enter(address):
            self.turned_away += 1
            return False
        self.waiting[transport] = (address, clock())
        if self._sweep is None:
            self._sweep = asyncio.get_running_loop().call_later(SWEEP_S, self._look)
        return True

    def passed(self, transport: asyncio.BaseTransport) -> None:
        """It became a WebSocket, or went."""
        if (found := self.waiting.pop(transport, None)) is not None:
            self.crowd.leave(found[0])

    def _look(self) -> None:
        """Only those at the front can be late: they stand in the order in which they came."""
        now = clock()
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
        if not self.doors.came(transport):
            asyncio.get_running_loop().call_soon(
                transport.abort
            )  # not now: aiofastnet would begin to read from what is closed

    def connection_lost(self, exc: Exception | None) -> None:
        self.doors.passed(self.stands)
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
    accept_patiently(server)
    await server.start_serving()
    for one in server.sockets:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BYTES)
    return cast("asyncio.Server", server)


def room() -> int:
    """How many clients the open-files limit has room for: a quarter of it, at most 128, is kept for the venues, the tape, and whoever is at
    the door. Asked at the start, when what the gateway itself needs is open."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    own = len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").exists() else 32
    return max(1, soft - own - min(RESERVE, soft // 4)) if soft != resource.RLIM_INFINITY else 1 << 30
