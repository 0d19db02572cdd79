"""A small WebSocket server on the loopback, with plain GET on the same port. It moves bytes; a `Host` decides everything.

Fragments are joined, pings answered, frames of one turn written at once; a client that does not read is cut when `backlog_max`
bytes wait for it. Only GET without a body is possible. Next door: `driver.py` is the client's side; `app.sim` is a host.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from itertools import count
from typing import Protocol
from urllib.parse import parse_qsl

from picows import (
    WSCloseCode,
    WSFrame,
    WSListener,
    WSMsgType,
    WSTransport,
    WSUpgradeRequest,
    WSUpgradeResponse,
    WSUpgradeResponseWithListener,
    ws_create_server,
)

from truetape.core.feed.counterpart import Reply

MESSAGE_MAX = 1 << 20
"""Bytes of one message from a client."""
TEXT, BINARY, CONTINUATION, PING, CLOSE = (
    WSMsgType.TEXT, WSMsgType.BINARY, WSMsgType.CONTINUATION, WSMsgType.PING, WSMsgType.CLOSE,
)  # fmt: skip
LOG = logging.getLogger("truetape.picows")
LOG.setLevel(logging.ERROR)


class Host(Protocol):
    """Who is told what clients do."""

    def http(self, path: str, query: dict[str, str]) -> Reply:
        """A plain GET."""

    def opened(self, peer: Peer, target: str) -> None:
        """A client stands before `target` (path and query)."""

    def received(self, peer: Peer, data: bytes) -> None:
        """A client sent one message."""

    def gone(self, peer: Peer) -> None:
        """A client left, or was cut."""


class Peer(WSListener):
    """One connected client. `number` is its own for as long as the process lives."""

    numbers = count(1)

    def __init__(self, host: Host, target: str, backlog_max: int) -> None:
        self.number = next(self.numbers)
        self.host = host
        self.target = target
        self.backlog_max = backlog_max
        self.transport: WSTransport | None = None
        self.frozen = False
        self.cut = False  # given up because it did not read
        self._parts: list[bytes] = []
        self._size = 0

    def on_ws_connected(self, transport: WSTransport) -> None:
        """picows: the handshake is done."""
        self.transport = transport
        self.host.opened(self, self.target)

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        """picows: one frame, perhaps a part of a message."""
        kind = frame.msg_type
        if self.transport is None:
            return  # it was broken off: what had already come is nobody's
        if kind is CLOSE:
            transport.send_close(frame.get_close_code())
            transport.disconnect()
        elif kind is PING:
            transport.send_pong(frame.get_payload_as_bytes())
        elif kind in (TEXT, BINARY, CONTINUATION):
            self._parts.append(frame.get_payload_as_bytes())
            self._size += frame.payload_size
            if self._size > MESSAGE_MAX:
                transport.send_close(WSCloseCode.MESSAGE_TOO_BIG)
                transport.disconnect()
            elif frame.fin:
                data = b"".join(self._parts)
                self._parts.clear()
                self._size = 0
                self.host.received(self, data)

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        """picows: the socket is gone."""
        self.transport = None
        self.host.gone(self)

    def send(self, frames: Sequence[bytes]) -> bool:
        """Write messages, all at once; False where the client was cut because it does not read."""
        if self.transport is None or self.frozen or not frames:
            return True
        pipe = self.transport.underlying_transport
        if len(frames) == 1:
            self.transport.send(TEXT, frames[0])
        else:
            pipe.write(b"".join([part for frame in frames for part in (_head(len(frame)), frame)]))
        if pipe.get_write_buffer_size() > self.backlog_max:
            self.cut = True
            self.abort()
            return False
        return True

    def ping(self) -> None:
        """Send a protocol ping."""
        if self.transport is not None and not self.frozen:
            self.transport.send_ping(b"")

    def close(self, code: int, text: str = "") -> None:
        """End it with a close frame."""
        if self.transport is not None:
            self.transport.send_close(WSCloseCode(code), text.encode())
            self.transport.disconnect()

    def abort(self) -> None:
        """Break it without a word: the client sees 1006."""
        if self.transport is not None:
            self.transport.underlying_transport.abort()
            self.transport = None

    def freeze(self, frozen: bool) -> None:
        """Neither read nor write any more, or again: half open."""
        if self.transport is not None:
            self.frozen = frozen
            pipe = self.transport.underlying_transport
            (pipe.pause_reading if frozen else pipe.resume_reading)()


def _head(size: int) -> bytes:
    """The header of an unmasked, final text frame."""
    if size < 126:
        return bytes((0x81, size))
    return b"\x81\x7e" + size.to_bytes(2, "big") if size < 1 << 16 else b"\x81\x7f" + size.to_bytes(8, "big")


async def serve(host: Host, address: str, port: int, *, backlog_max: int) -> asyncio.Server:
    """Listen; port 0 takes a free one. A request that asks for no upgrade is a plain GET."""

    def visitor(request: WSUpgradeRequest) -> WSListener | WSUpgradeResponseWithListener:
        target = request.path.decode("utf-8", "replace")
        if "websocket" in request.headers.get("upgrade", "").lower():
            return Peer(host, target, backlog_max)
        path, _, query = target.partition("?")
        return WSUpgradeResponseWithListener(_response(host.http(path, dict(parse_qsl(query)))), None)

    return await ws_create_server(
        visitor,
        address,
        port,
        enable_auto_pong=False,
        max_frame_size=MESSAGE_MAX,
        websocket_handshake_timeout=10,
        logger_name=LOG,
    )


def _response(reply: Reply) -> WSUpgradeResponse:
    if reply.status < 400:
        response = WSUpgradeResponse.create_ok_response(reply.body, reply.headers)
    else:
        response = WSUpgradeResponse.create_error_response(reply.status, reply.body, reply.headers)
    assert isinstance(response, WSUpgradeResponse), "picows makes its own responses"
    return response


def port_of(server: asyncio.Server) -> int:
    """The port that a server got."""
    number = server.sockets[0].getsockname()[1]
    assert isinstance(number, int), "a TCP socket's name ends with its port"
    return number
