"""What plain GETs of the data port answer: is it alive, is it ready, how is it, and who is connected. Read-only. Next door: `serve.py`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

import msgspec

from truetape.app import webpage
from truetape.app.secrets import redact
from truetape.app.status import status
from truetape.io.clock import now as clock
from truetape.io.serve.gateway import Answer, Request

if TYPE_CHECKING:
    from truetape.app.serve import Service

SECOND = 1_000_000_000
TEXT = {"Content-Type": "text/plain; charset=utf-8"}
AS_JSON = {"Content-Type": "application/json"}
OPERATORS = ("/status", "/clients", "/metrics")
"""Where tokens are asked for, only roles ops and admin read these."""


class Pages:
    """Answers by path."""

    def __init__(self, service: Service) -> None:
        self.service = service
        from truetape.app.metrics import (
            exposition,
        )  # it brings prometheus_client along, which a gateway that is not served need not have

        self._exposition = exposition(service.gateway)
        self.by_path: dict[str, Callable[[Request], Answer]] = {
            "/livez": lambda _request: Answer(200, b"live\n", TEXT),
            "/readyz": self.readyz,
            "/status": self.status,
            "/clients": self.clients_page,
            "/metrics": self.metrics,
            "/v1/stream": lambda _request: Answer(
                426, b"expected a WebSocket handshake\n", {**TEXT, "Upgrade": "websocket"}
            ),
            **dict.fromkeys(webpage.files(), self.page),
        }

    def page(self, request: Request) -> Answer:
        """The page for a browser, and its files."""
        return webpage.serve(request, tls=self.service.how.tls is not None)

    def readyz(self, _request: Request) -> Answer:
        """Ready: not draining, no book waits to become whole, and where there are books one can be used."""
        waiting = self.service.waiting_for()
        if waiting is None:
            return Answer(200, b"ready\n", TEXT)
        return Answer(503, f"{waiting}\n".encode(), TEXT)

    def metrics(self, _request: Request) -> Answer:
        """For Prometheus; docs/metrics.md has the names."""
        return Answer(200, self._exposition.text(), {"Content-Type": self._exposition.content_type})

    def status(self, request: Request) -> Answer:
        """What `truetape status` shows. `?subscriptions=no` leaves those out, which the stream's channel `status` tells as they change;
        `?delays=yes` adds each connection's histogram as [upper edge in ms, count]."""
        asked = dict(parse_qsl(request.query))
        gateway = self.service.gateway
        tree = status(gateway, subscriptions=asked.get("subscriptions") != "no")
        if asked.get("delays") == "yes":
            tree["delays"] = {link.source: link.delay.rows() for link in gateway.pump.links.values()}
        return Answer(200, redact(msgspec.json.encode(tree).decode()).encode(), AS_JSON)

    def clients_page(self, _request: Request) -> Answer:
        return Answer(200, msgspec.json.encode(self.clients()), AS_JSON)

    def clients(self) -> list[dict[str, Any]]:
        """Every client with its subscriptions and their ledgers."""
        now = clock()
        rows = []
        for client in self.service.hall.clients:
            peer = client.peer
            rows.append({
                "number": client.number, "name": peer.claims.name if peer.claims is not None else None,
                "role": peer.claims.role if peer.claims is not None else None, "address": client.address, "encoding": peer.encoding,
                "connected_s": round((now - peer.opened_at) / SECOND, 3), "silent_s": round((now - peer.last_rx) / SECOND, 3),
                "messages_in": peer.received, "messages_out": client.messages_out, "bytes_out": client.bytes_out,
                "buffered_bytes": client.pipe.waiting(), "blocked": bool(client.blocked_since),
                "subscriptions": [
                    {"id": id_, "mode": box.mode.name, "topics": len(box.topics), **msgspec.to_builtins(box.ledger())}
                    for id_, box in peer.boxes.items()
                ],
            })  # fmt: skip
        return rows + self.service.natives.rows()
