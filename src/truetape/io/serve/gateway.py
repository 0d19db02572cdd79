"""The downstream WebSocket server, with plain GET on the same port: moves bytes, holds clients to RFC 6455, and decides nothing else.

Next door: `core.serve.rfc6455` has the rules; `hall.py` gives clients their turns; a `Host` (the app's) admits and answers.
"""

from __future__ import annotations

import asyncio
import ssl
import traceback
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Protocol

from msgspec import Struct
from picows import (
    WSFrame,
    WSListener,
    WSMsgType,
    WSTransport,
    WSUpgradeRequest,
    WSUpgradeResponse,
    WSUpgradeResponseWithListener,
)  # fmt: skip

from truetape.core.serve.rfc6455 import (
    BINARY,
    CLOSE,
    NO_CODE,
    PING,
    TEXT,
    Assembler,
    Breach,
    close_payload,
    closing,
    control,
    head,
)
from truetape.io.obs import log
from truetape.io.serve.client import Pipe
from truetape.io.serve.door import Doors, Later, serve

OPCODES = {kind: kind.value for kind in WSMsgType}
PONG_BYTES = 64 * 1024
"""Where so much waits already, a ping goes without its pong."""
CLOSE_S = 2.0
"""How long a client has to answer a close frame."""
NO_HEADERS: Any = MappingProxyType({})
INTERNAL = (1011, "a mistake of the gateway's, which its log tells")
TARGET_MAX = 8192
"""Bytes of a request's target."""
AFTER_CLOSE_MAX = 2000
"""Frames that are read and thrown away while a client has not answered a close frame: then it is a flood."""


class Request(Struct, frozen=True):
    """What came before the upgrade: the path, its query, and the headers in small letters."""

    path: str
    query: str
    headers: Mapping[str, str]


class Answer(Struct, frozen=True):
    """An answer to a plain GET, or a refusal of an upgrade."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = {}


MISTAKE = Answer(
    500, b"a mistake of the gateway's, which its log tells\n", {"Content-Type": "text/plain; charset=utf-8"}
)


class Session(Protocol):
    """Who speaks with one client over its socket."""

    subprotocol: str
    bytes_max: int
    fragments_max: int

    def opened(self, socket: Socket, address: str) -> None:
        """The handshake is done."""

    def message(self, data: bytes, kind: str) -> None:
        """One whole message came."""

    def heard(self) -> None:
        """A control frame came."""

    def drained(self) -> None:
        """The pipe has room again."""

    def gone(self) -> None:
        """The socket is no more."""


class Socket(Pipe, Protocol):
    """A `Pipe` whose amount in flight can be bounded, and whose other end can be asked whether it is there."""

    def ping(self) -> None:
        """A protocol ping, where the pipe has such."""

    def watermarks(self, high: int) -> None:
        """From which amount on the pipe counts as full, and when it is told to have room again."""


class Host(Protocol):
    """Who decides."""

    def get(self, request: Request) -> Answer | asyncio.Future[Answer]:
        """A plain GET, answered now or within `door.HANDSHAKE_S`."""

    def upgrade(self, request: Request) -> Answer | Session:
        """A handshake: a session, or why not."""


class Guest(WSListener):
    """One client's socket, a `Pipe`."""

    __slots__ = (
        "_assembler", "_closing", "_doors", "_opcode", "_session", "_surplus", "_transport", "waiting", "write",
    )  # fmt: skip

    def __init__(self, session: Session, doors: Doors) -> None:
        self._session = session
        self._doors = doors
        self._assembler = Assembler(session.bytes_max, session.fragments_max)
        self._transport: WSTransport | None = None
        self._closing = False
        self._surplus = 0
        self._opcode = BINARY if session.subprotocol.endswith(".msgpack") else TEXT
        self.write: Callable[[bytes], object] = (
            _nowhere  # the transport's own while it takes something: see `client.Pipe`
        )
        self.waiting: Callable[[], int] = _nothing

    # -- what picows tells ----------------------------------------------------------------------------------------------

    def on_ws_connected(self, transport: WSTransport) -> None:
        """The handshake is done."""
        self._transport = transport
        transport.request.headers = transport.response.headers = (
            NO_HEADERS  # kept as long as the client, and a token in them
        )
        self._doors.passed(transport.underlying_transport)
        self.write = transport.underlying_transport.write
        self.waiting = transport.underlying_transport.get_write_buffer_size
        peer = transport.underlying_transport.get_extra_info("peername") or ("?",)
        try:
            self._session.opened(self, str(peer[0]))
        except Exception as error:  # noqa: BLE001  as below
            _bug("a client's beginning", error)
            self.close(*INTERNAL)

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        """One frame, perhaps a part of a message."""
        if self._transport is None:
            return
        if self._closing:
            self._surplus += 1
            if self._surplus > AFTER_CLOSE_MAX:
                self.abort()
                return
        opcode = OPCODES[frame.msg_type]
        reserved = frame.rsv1 or frame.rsv2 or frame.rsv3
        payload = frame.get_payload_as_bytes()
        try:
            if opcode >= CLOSE:
                control(opcode, frame.fin, reserved, payload)
                self._control(opcode, payload)
            elif not self._closing:
                whole = self._assembler.frame(opcode, frame.fin, reserved, payload)
                if whole is not None:
                    self._session.message(whole[1], whole[0])
        except Breach as breach:
            self.close(breach.code, str(breach))
            if opcode == CLOSE:
                transport.disconnect()  # its close came already, however wrong
        except Exception as error:  # noqa: BLE001  picows would swallow it and leave the client in a state that nobody knows
            _bug("a client's message", error)
            self.close(*INTERNAL)

    def _control(self, opcode: int, payload: bytes) -> None:
        assert self._transport is not None, "frames come from a transport"
        if opcode == PING:
            if not self._closing and self.waiting() < PONG_BYTES:  # who does not read its answers gets no more of them
                self._transport.send_pong(payload)
            self._session.heard()
        elif opcode == CLOSE:
            code, _ = closing(payload)
            if not self._closing:
                self._shut()
                self._transport.send(WSMsgType.CLOSE, close_payload(code, ""))
            self._transport.disconnect()
        else:
            self._session.heard()

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        """The socket is gone."""
        self._transport = None
        self.write, self.waiting = _nowhere, _nothing
        try:
            self._session.gone()
        except Exception as error:  # noqa: BLE001  as above
            _bug("a client's end", error)

    def resume_writing(self) -> None:
        """The transport's buffer is low again."""
        self._session.drained()

    # -- a pipe ---------------------------------------------------------------------------------------------------------

    def frame(self, messages: Sequence[bytes]) -> bytes:
        """See `client.Pipe`. JSON goes as text, MessagePack as binary."""
        opcode = self._opcode
        return b"".join([part for message in messages for part in (head(len(message), opcode), message)])

    def unfinished(self) -> int:
        """See `client.Pipe`."""
        return self._assembler.size

    def watermarks(self, high: int) -> None:
        """From which amount on the pipe counts as full, and when it is told to have room again."""
        if self._transport is not None:
            self._transport.underlying_transport.set_write_buffer_limits(high, high // 4)

    def close(self, code: int, text: str) -> None:
        """A close frame; the socket ends when the client answers, or after `CLOSE_S`."""
        if self._transport is None or self._closing:
            return
        self._shut()
        self._transport.send(WSMsgType.CLOSE, close_payload(code if code != NO_CODE else 1000, text))
        asyncio.get_running_loop().call_later(CLOSE_S, self.abort)

    def _shut(self) -> None:
        """Nothing follows a close frame."""
        self._closing = True
        self.write = _nowhere

    def ping(self) -> None:
        """A protocol ping."""
        if self._transport is not None and not self._closing:
            self._transport.send_ping()

    def abort(self) -> None:
        """Drop it."""
        if self._transport is not None:
            self._transport.underlying_transport.abort()


def _nowhere(_wire: bytes) -> None:
    """The socket is gone."""


def _nothing() -> int:
    """And nothing waits in it."""
    return 0


async def listen(
    host: Host, doors: Doors, address: str, port: int, tls: ssl.SSLContext | None, frame_max: int
) -> asyncio.Server:
    """Serve; port 0 takes a free one. Raises OSError."""

    def visitor(asked: WSUpgradeRequest) -> WSUpgradeResponseWithListener:
        try:
            return admitted(asked)
        except Exception as error:  # noqa: BLE001  picows would send the error's text to a stranger
            _bug("handshake", error)
            return _plain(MISTAKE)

    def admitted(asked: WSUpgradeRequest) -> WSUpgradeResponseWithListener:
        if len(asked.path) > TARGET_MAX:
            return _plain(Answer(414, f"expected a target of at most {TARGET_MAX} bytes\n".encode()))
        target = asked.path.decode("utf-8", "replace")
        path, _, query = target.partition("?")
        headers = {key.lower(): value for key, value in asked.headers.items()}
        request = Request(path, query, headers)
        if "websocket" not in headers.get("upgrade", "").lower():
            answer = host.get(request)
            if isinstance(answer, Answer):
                return _plain(answer)
            raise Later(answer, lambda answer: bytes(_plain(answer).response.to_bytes()))
        found = host.upgrade(request)
        if isinstance(found, Answer):
            return _plain(found)
        named = found.subprotocol and headers.get("sec-websocket-protocol")
        extra = {"Sec-WebSocket-Protocol": found.subprotocol} if named else {}
        response = WSUpgradeResponse.create_101_response(extra)
        return WSUpgradeResponseWithListener(response, Guest(found, doors))

    return await serve(visitor, doors, address, port, tls, frame_max=frame_max)


def _bug(where: str, error: Exception) -> None:
    """One client's trouble and nobody else's. The error's own words may be the client's, and a secret: its kind and its place will do."""
    frames = traceback.extract_tb(error.__traceback__)
    at = f"{frames[-1].filename}:{frames[-1].lineno} in {frames[-1].name}" if frames else ""
    log.warning("bug", message=f"in {where}", error=type(error).__name__, at=at)


def _plain(answer: Answer) -> WSUpgradeResponseWithListener:
    headers = {
        "Connection": "close",
        "Cache-Control": "no-store",
        "X-Content-Type-Options": "nosniff",
        **answer.headers,
    }
    if answer.status < 400:
        response = WSUpgradeResponse.create_ok_response(answer.body, headers)
    else:
        response = WSUpgradeResponse.create_error_response(answer.status, answer.body, headers)
    return WSUpgradeResponseWithListener(response, None)
