"""A small WebSocket server on the loopback, with plain GET on the same port. It moves bytes; a `Host` decides everything.

Fragments are joined, pings answered, frames of one turn written at once; a client that does not read is cut when `backlog_max`
bytes wait for it. Only GET without a body is possible. Next door: `driver.py` is the client's side; `app.sim` is a host.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
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

from truetape.core.feed.counterpart import Piecemeal, Reply
from truetape.core.sim.script import pieces

MESSAGE_MAX = 1 << 20
"""Bytes of one message from a client."""
DROP_S = 0.02
"""How often a slow connection gets its drop."""
TEXT, BINARY, CONTINUATION, PING, CLOSE = (
    WSMsgType.TEXT, WSMsgType.BINARY, WSMsgType.CONTINUATION, WSMsgType.PING, WSMsgType.CLOSE,
)  # fmt: skip
LOG = logging.getLogger("truetape.picows")
LOG.setLevel(logging.ERROR)


class Host(Protocol):
    """Who is told what clients do."""

    def http(self, path: str, query: dict[str, str]) -> Reply:
        """A plain GET."""

    def refused(self) -> Reply | None:
        """How a WebSocket handshake is refused; None where it is not."""

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
        self._drip = 0  # bytes a second; 0: as they come
        self._waiting = bytearray()

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
            self._waiting.clear()
            transport.send_close(frame.get_close_code())
            transport.disconnect()
        elif kind is PING:
            if self._drip:
                self._write(_message(frame.get_payload_as_bytes(), 0x8A))
            else:
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
        if len(frames) == 1 and not self._drip and type(frames[0]) is bytes:
            self.transport.send(TEXT, frames[0])
        else:
            self._write(b"".join([_message(frame) for frame in frames]))
        if pipe.get_write_buffer_size() + len(self._waiting) > self.backlog_max:
            self.cut = True
            self.abort()
            return False
        return True

    def _write(self, data: bytes) -> None:
        if self._drip:
            self._waiting += data
        elif self.transport is not None:
            self.transport.underlying_transport.write(data)

    def drip(self, bytes_per_s: int) -> None:
        """Give so many bytes a second from now on, cut anywhere; 0 gives what waits, and then everything at once."""
        started = not self._drip and bytes_per_s > 0
        self._drip = bytes_per_s
        if started:
            self._drop()
        elif not bytes_per_s and self._waiting:
            data, self._waiting = bytes(self._waiting), bytearray()
            self._write(data)

    def _drop(self) -> None:
        """One drop, and the next in a while."""
        if not self._drip or self.transport is None:
            return
        size = max(1, round(self._drip * DROP_S))
        if self._waiting and not self.frozen:
            self.transport.underlying_transport.write(bytes(self._waiting[:size]))
            del self._waiting[:size]
        asyncio.get_running_loop().call_later(DROP_S, self._drop)

    def ping(self) -> None:
        """Send a protocol ping."""
        if self.transport is not None and not self.frozen:
            self._write(_message(b"", 0x89))

    def close(self, code: int, text: str = "") -> None:
        """End it with a close frame."""
        if self.transport is not None:
            self.drip(0)
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


def _message(data: bytes, first: int = 0x81) -> bytes:
    """One unmasked message as it stands on the wire: a final text frame, a control frame, or fragments of about equal size."""
    if type(data) is not Piecemeal:
        return _head(first, len(data)) + data
    parts = pieces(data)
    heads = [0x01, *[0x00] * (len(parts) - 1)]
    heads[-1] |= 0x80
    return b"".join([_head(head, len(part)) + part for head, part in zip(heads, parts, strict=True)])


def _head(first: int, size: int) -> bytes:
    """The header of an unmasked frame."""
    if size < 126:
        return bytes((first, size))
    if size < 1 << 16:
        return bytes((first, 126)) + size.to_bytes(2, "big")
    return bytes((first, 127)) + size.to_bytes(8, "big")


async def serve(
    host: Host, address: str, port: int, *, backlog_max: int, tls: ssl.SSLContext | None = None
) -> asyncio.Server:
    """Listen; port 0 takes a free one. A request that asks for no upgrade is a plain GET."""

    def visitor(request: WSUpgradeRequest) -> WSListener | WSUpgradeResponseWithListener:
        target = request.path.decode("utf-8", "replace")
        if "websocket" in request.headers.get("upgrade", "").lower():
            if (refusal := host.refused()) is not None:
                return WSUpgradeResponseWithListener(_response(refusal), None)
            return Peer(host, target, backlog_max)
        path, _, query = target.partition("?")
        return WSUpgradeResponseWithListener(_response(host.http(path, dict(parse_qsl(query)))), None)

    return await ws_create_server(
        visitor,
        address,
        port,
        ssl=tls,
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
