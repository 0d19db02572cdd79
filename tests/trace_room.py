"""A real OTLP/HTTP collector for tests, as small as can be: it decodes what comes with opentelemetry's own schema, and keeps the spans."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.trace.v1.trace_pb2 import Span

WITHIN_S = 20.0


class Collector:
    """Listens from `with` to its end, or from `start` to `stop`, always on the same port."""

    def __init__(self) -> None:
        self.spans: list[Span] = []
        self.resources: list[dict[str, Any]] = []
        self.bodies: list[bytes] = []
        self.requests: list[tuple[str, dict[str, str]]] = []
        self.answer = 200
        self._port = 0
        self._server: ThreadingHTTPServer | None = None
        self._thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def start(self) -> Self:
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                headers = {name.lower(): value for name, value in self.headers.items()}
                collector._take(self.path, headers, body)
                said = f"no entry for {headers.get('authorization')}"  # a collector that repeats what it was shown
                self.send_response(collector.answer, said if collector.answer != 200 else None)
                self.send_header("Content-Type", "application/x-protobuf")
                reply = ExportTraceServiceResponse().SerializeToString()
                self.send_header("Content-Length", str(len(reply)))
                self.end_headers()
                self.wfile.write(reply)

            def log_message(self, *_: Any) -> None:
                """Nothing on stderr."""

        self._server = ThreadingHTTPServer(("127.0.0.1", self._port), Handler)
        self._port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()
        return self

    def stop(self) -> None:
        assert self._server is not None and self._thread is not None
        self._server.shutdown()
        self._thread.join(WITHIN_S)
        self._server.server_close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _take(self, path: str, headers: dict[str, str], body: bytes) -> None:
        request = ExportTraceServiceRequest.FromString(body)
        self.bodies.append(body)
        self.requests.append((path, headers))
        if self.answer == 200:
            for group in request.resource_spans:
                self.resources.append(values(group.resource.attributes))
                self.spans += [span for scope in group.scope_spans for span in scope.spans]

    def named(self, name: str, **attributes: Any) -> list[Span]:
        """In the order of their beginning. Attributes without their `truetape.`."""
        found = [
            span
            for span in self.spans
            if span.name == f"truetape.{name}"
            and all(about(span).get(f"truetape.{key}") == value for key, value in attributes.items())
        ]
        return sorted(found, key=lambda span: span.start_time_unix_nano)

    async def until(self, claim: Callable[[], Any], what: str) -> None:
        try:
            async with asyncio.timeout(WITHIN_S):
                while not claim():
                    await asyncio.sleep(0.02)
        except TimeoutError:
            pytest.fail(f"not within {WITHIN_S} s: {what}; there are {Counter(span.name for span in self.spans)}")


def values(rows: Any) -> dict[str, Any]:
    """Attributes as plain values."""
    return {row.key: getattr(row.value, row.value.WhichOneof("value")) for row in rows}


def about(span: Span) -> dict[str, Any]:
    return values(span.attributes)


def events(span: Span) -> list[str]:
    """Names in the order of their times."""
    return [event.name for event in sorted(span.events, key=lambda event: event.time_unix_nano)]


def at(span: Span, name: str) -> int:
    (found,) = [event.time_unix_nano for event in span.events if event.name == name]
    return int(found)
