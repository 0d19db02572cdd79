"""One downstream client between its socket, whatever kind it is, and its peer. Next door: `serve.py` admits it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from truetape.core.serve.claims import Claims
from truetape.io.clock import now as clock
from truetape.io.serve.client import Client
from truetape.io.serve.gateway import Socket
from truetape.model.wire import CLOSINGS, JSON

if TYPE_CHECKING:
    from truetape.app.serve import Service


class Visit:
    """One WebSocket client, between its socket and its peer."""

    __slots__ = ("_client", "_socket", "bytes_max", "claims", "fragments_max", "service", "subprotocol")

    def __init__(self, service: Service, subprotocol: str, claims: Claims | None) -> None:
        self.service = service
        self.subprotocol = subprotocol
        self.claims = claims
        self.bytes_max = service.how.limits.message_bytes
        self.fragments_max = service.how.limits.fragments
        self._client: Client | None = None
        self._socket: Socket | None = None

    def opened(self, socket: Socket, address: str) -> None:
        """The handshake is done."""
        self._socket = socket
        socket.watermarks(self.service.how.limits.buffer_bytes)
        self._client = self.service.enter(self, socket, address)

    def message(self, data: bytes, kind: str) -> None:
        """One whole message came."""
        client = self._client
        if client is None or self._socket is None:
            return
        if (kind == "text") != (self.subprotocol == JSON):
            row = CLOSINGS["wrong_kind"]
            self._socket.close(row.code, row.text)
            return
        client.say(client.peer.message(data, clock()))

    def heard(self) -> None:
        """A control frame came."""
        if self._client is not None:
            self._client.say(self._client.peer.heard(clock()))

    def drained(self) -> None:
        """The pipe has room again."""
        if self._client is not None:
            self._client.drained()
            self.service.hall.ready(self._client)

    def gone(self) -> None:
        """The socket is no more."""
        if self._client is not None:
            client, self._client = self._client, None
            self.service.left(client)
