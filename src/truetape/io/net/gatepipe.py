"""How whole messages travel between a client and a gateway: over a WebSocket, or with four bytes of length on a Unix socket.

Next door: `uplink.py` makes one for each connection and hears what comes; `io.serve` has the gateway's ends.
"""

from __future__ import annotations

import asyncio
import ssl
from typing import Protocol, cast

from msgspec import Struct
from picows import WSFrame, WSListener, WSMsgType, WSTransport

from truetape.core.serve.rfc6455 import CLOSE, PING, Assembler, Breach, Kind, close_payload, closing, control
from truetape.io.amends import retrieve
from truetape.io.net.dial import Dialing, Failed, breach_of, dial
from truetape.model.wire import JSON

MESSAGE_MAX = 64 * 1024 * 1024
"""Bytes of one message of a gateway: 256 whole books of 1,000 levels are ten million."""
FRAGMENTS_MAX = 65_536
LOST = 1006
CLOSE_S = 2.0
"""How long what is unsent may hold a socket that was closed."""
OPCODES = {kind: kind.value for kind in WSMsgType}


class Where(Struct, frozen=True):
    """A gateway: `url` for a WebSocket, or the `path` of its Unix socket."""

    url: str = ""
    path: str = ""
    context: ssl.SSLContext | None = None
    dial_s: float = 5.0
    handshake_s: float = 5.0

    @property
    def name(self) -> str:
        """As a person is told."""
        return self.url or f"unix:{self.path}"


class Host(Protocol):
    """Who is told what comes, and the one end of it."""

    def message(self, data: bytes) -> None:
        """One whole message."""

    def heard(self) -> None:
        """A control frame."""

    def lost(self, code: int, why: str) -> None:
        """The connection ended; told once."""


class GatePipe(Protocol):
    """What carries messages to the gateway."""

    def send(self, message: bytes) -> None:
        """One whole message."""

    def close(self) -> None:
        """End it in order; nothing is told of it."""

    def abort(self) -> None:
        """End it at once."""


async def reach(where: Where, subprotocol: str, host: Host) -> GatePipe:
    """A connection. Raises `dial.Failed`."""
    if where.path:
        return await _unix(where, subprotocol, host)
    web = Web(host, text=subprotocol == JSON)
    await dial(web, where.url, Dialing(
        handshake_s=where.handshake_s, dial_s=where.dial_s, ssl_context=where.context, message_max=MESSAGE_MAX,
        headers={"Sec-WebSocket-Protocol": subprotocol},
    ))  # fmt: skip
    return web


async def _unix(where: Where, subprotocol: str, host: Host) -> Side:
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(where.dial_s):
            _, side = await loop.create_unix_connection(lambda: Side(host, subprotocol), where.path)
    except TimeoutError:
        raise Failed(f"dial_failed: {where.name}: not connected within {where.dial_s:g} s") from None
    except OSError as error:
        raise Failed(f"dial_failed: {where.name}: {error.strerror or error}") from None
    return side


class Web(WSListener):
    """A WebSocket to a gateway."""

    def __init__(self, host: Host, *, text: bool) -> None:
        self._host: Host | None = host
        self._kind = WSMsgType.TEXT if text else WSMsgType.BINARY
        self._assembler = Assembler(MESSAGE_MAX, FRAGMENTS_MAX)
        self.transport: WSTransport | None = None
        self._closing = False
        self._end = (LOST, "the connection broke without a close frame")

    def on_ws_connected(self, transport: WSTransport) -> None:
        """The handshake is done."""
        self.transport = transport

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        """One frame, perhaps a part of a message."""
        if self._closing or self._host is None:
            return
        opcode = OPCODES[frame.msg_type]
        reserved = frame.rsv1 or frame.rsv2 or frame.rsv3
        payload = frame.get_payload_as_bytes()
        try:
            if opcode >= CLOSE:
                control(opcode, frame.fin, reserved, payload)
                if opcode == CLOSE:
                    self._end = closing(payload)
                    self._bye(transport, close_payload(self._end[0], ""))
                    return
                if opcode == PING:
                    transport.send_pong(payload)
                self._host.heard()
            elif (whole := self._assembler.frame(opcode, frame.fin, reserved, payload)) is not None:
                self.message(*whole)
        except Breach as breach:
            self._end = (LOST, f"the gateway broke the protocol: {breach}")
            self._bye(transport, close_payload(breach.code, str(breach)))

    def message(self, kind: Kind, data: bytes) -> None:
        """One whole message. Raises Breach."""
        if (kind == "text") != (self._kind is WSMsgType.TEXT):
            raise Breach(1003, "expected messages of the kind that was agreed")
        assert self._host is not None, "who has gone hears nothing"
        self._host.message(data)

    def _bye(self, transport: WSTransport, payload: bytes) -> None:
        """A close frame, after which nothing is heard any more; the socket does not outlive `CLOSE_S`, whatever is unsent."""
        self._closing = True
        transport.send(WSMsgType.CLOSE, payload)
        transport.disconnect()
        asyncio.get_running_loop().call_later(CLOSE_S, transport.disconnect, False)

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        """The socket is gone."""
        self.transport = None
        host, self._host = self._host, None
        if not self._closing and (breach := breach_of(transport)) is not None:
            self._end = (LOST, f"the gateway broke the protocol: {breach[0]}")
        if host is not None:
            host.lost(*self._end)
        asyncio.get_running_loop().call_soon(lambda: retrieve(transport.wait_disconnected()))

    def send(self, message: bytes) -> None:
        """See GatePipe."""
        if self.transport is not None:
            self.transport.send(self._kind, message)

    def close(self) -> None:
        """See GatePipe."""
        self._host = None
        if self.transport is not None:
            self._bye(self.transport, close_payload(1000, ""))

    def abort(self) -> None:
        """See GatePipe."""
        self._host = None
        if self.transport is not None:
            self.transport.underlying_transport.abort()


class Side(asyncio.Protocol):
    """The Unix socket of a gateway of this machine."""

    def __init__(self, host: Host, subprotocol: str) -> None:
        self._host: Host | None = host
        self._greeting = subprotocol.encode() + b"\n"
        self._transport: asyncio.Transport | None = None
        self._buffer = bytearray()
        self._end = (LOST, "the connection broke")

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Say which encoding is to be spoken."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is one in all but name
        self._transport.write(self._greeting)

    def data_received(self, data: bytes) -> None:
        """Bytes came: perhaps several messages, perhaps a part of one."""
        buffer = self._buffer
        buffer += data
        at = 0
        while len(buffer) - at >= 4 and self._host is not None:
            size = int.from_bytes(buffer[at : at + 4], "big")
            if size > MESSAGE_MAX:
                self._end = (LOST, f"expected a message of at most {MESSAGE_MAX} bytes, found {size}")
                assert self._transport is not None, "bytes come from a transport"
                self._transport.abort()
                return
            if len(buffer) - at - 4 < size:
                break
            self._host.message(bytes(memoryview(buffer)[at + 4 : at + 4 + size]))
            at += 4 + size
        del buffer[:at]

    def connection_lost(self, exc: Exception | None) -> None:
        """The socket is gone."""
        self._transport = None
        host, self._host = self._host, None
        if host is not None:
            host.lost(*self._end)

    def send(self, message: bytes) -> None:
        """See GatePipe."""
        if self._transport is not None:
            self._transport.write(len(message).to_bytes(4, "big") + message)

    def close(self) -> None:
        """See GatePipe."""
        self._host = None
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """See GatePipe."""
        self._host = None
        if self._transport is not None:
            self._transport.abort()
