"""The same messages on a Unix socket, for programs of this machine: no handshake, no masking, half the cost of a WebSocket.

    client: one line, `truetape.v1.json` or `truetape.v1.msgpack`        then both: 4 bytes of length (big endian), message; and so on

Only the gateway's own user can open it (mode 0600), so no token is asked for. Next door: `gateway.py` is the door for everybody else.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import cast

from truetape.io.serve.control import bound, free
from truetape.io.serve.gateway import Session

LINE_MAX = 64
LINE_S = 5.0


class Side(asyncio.Protocol):
    """One local client, a `Pipe`. `admit` makes its session of the sub-protocol that it names, None where that is unknown."""

    def __init__(self, admit: Callable[[str], Session | None]) -> None:
        self._admit = admit
        self._session: Session | None = None
        self._transport: asyncio.Transport | None = None
        self._buffer = bytearray()
        self._late: asyncio.TimerHandle | None = None

    # -- what the loop tells --------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client stands at the door."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is one in all but name
        self._late = asyncio.get_running_loop().call_later(LINE_S, self.abort)

    def data_received(self, data: bytes) -> None:
        """Bytes came."""
        self._buffer += data
        if self._session is None and not self._greeted():
            return
        while self._session is not None and self._transport is not None and len(self._buffer) >= 4:
            size = int.from_bytes(self._buffer[:4], "big")
            if size > self._session.bytes_max:
                self.abort()
                return
            if len(self._buffer) < 4 + size:
                return
            message = bytes(self._buffer[4 : 4 + size])
            del self._buffer[: 4 + size]
            self._session.message(message, "text" if self._session.subprotocol.endswith(".json") else "binary")

    def _greeted(self) -> bool:
        line, newline, _ = bytes(self._buffer[: LINE_MAX + 1]).partition(b"\n")
        if not newline:
            if len(self._buffer) > LINE_MAX:
                self.abort()
            return False
        session = self._admit(line.decode("ascii", "replace").strip())
        if session is None or self._transport is None:
            self.abort()
            return False
        del self._buffer[: len(line) + 1]
        if self._late is not None:
            self._late.cancel()
        self._session = session
        session.opened(self, "unix")
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        """The client went."""
        self._transport = None
        if self._late is not None:
            self._late.cancel()
        if self._session is not None:
            session, self._session = self._session, None
            session.gone()

    def resume_writing(self) -> None:
        """The transport's buffer is low again."""
        if self._session is not None:
            self._session.drained()

    # -- a pipe ---------------------------------------------------------------------------------------------------------

    def frame(self, messages: Sequence[bytes]) -> bytes:
        """See `client.Pipe`."""
        return b"".join([part for data in messages for part in (len(data).to_bytes(4, "big"), data)])

    def write(self, wire: bytes) -> None:
        """See `client.Pipe`."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(wire)

    def waiting(self) -> int:
        """See `client.Pipe`."""
        return 0 if self._transport is None else self._transport.get_write_buffer_size()

    def unfinished(self) -> int:
        """See `client.Pipe`."""
        return len(self._buffer)

    def watermarks(self, high: int) -> None:
        """See `gateway.Guest`."""
        if self._transport is not None:
            self._transport.set_write_buffer_limits(high, high // 4)

    def ping(self) -> None:
        """Nobody needs to ask: a process on this machine that ends takes its socket along."""

    def close(self, code: int, text: str) -> None:
        """The Bye was written; the socket ends behind it."""
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """Drop it."""
        if self._transport is not None:
            self._transport.abort()


class Sidecar:
    """Listens at a path. Raises `control.Taken` where that cannot be."""

    def __init__(self, path: Path, admit: Callable[[str], Session | None]) -> None:
        self.path = path
        self._admit = admit
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Listen."""
        free(self.path, "serve socket")
        loop = asyncio.get_running_loop()
        self._server = await loop.create_unix_server(lambda: Side(self._admit), sock=bound(self.path))

    def close(self) -> None:
        """Stop listening, and remove the socket."""
        if self._server is not None:
            self._server.close()
            self._server = None
            with suppress(FileNotFoundError):
                os.unlink(self.path)
