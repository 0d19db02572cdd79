"""Spans for an OpenTelemetry collector, by OTLP over HTTP, from a thread of their own: nobody waits for the collector.

The only file that knows opentelemetry. It uses a provider of its own, never the program's global one. Next door: `app/tracing.py` says what is
a span.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Literal, TypeAlias
from urllib.parse import urlsplit

from msgspec import Struct
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.trace import Link, SpanKind, Status, StatusCode, set_span_in_context
from opentelemetry.trace import Span as Native

from truetape.io.obs import log

Attributes: TypeAlias = Mapping[str, str | int | float | bool]
PATH = "/v1/traces"
TEXT_MAX = 300
"""Characters of an attribute."""
EVERY_MS = 1000
BATCH = 64
"""Spans of one request: to encode them took the interpreter's lock for 0.9 ms."""
WAITING_MAX = 2048
"""Spans that may wait; beyond, the oldest go."""
REACH_S = 1.0
CLOSE_S = 1.5
"""How long the last spans have at the end."""
HINT = "nothing else is disturbed; see docs/tracing.md"
_LIBRARY = (
    "opentelemetry.exporter.otlp.proto.http.trace_exporter",
    "opentelemetry.exporter.otlp.proto.http",
    "opentelemetry.sdk._shared_internal",
    "opentelemetry.sdk.trace.export",
    "opentelemetry.attributes",
    "urllib3.connectionpool",
)
"""Who logs each failed try."""


class How(Struct, frozen=True):
    """Where spans go. `endpoint` as OTEL_EXPORTER_OTLP_ENDPOINT, which is asked where it is empty; `secret` becomes a bearer token."""

    endpoint: str = ""
    secret: Callable[[], str] | None = None
    ca_file: str = ""
    service: str = "truetape"
    version: str = ""
    within_s: float = 5.0


class Counts(Struct):
    """`spans` ended; `delivered` to the collector; `refused` in requests that failed. What is in none of the two waits, or was too much."""

    spans: int = 0
    delivered: int = 0
    refused: int = 0


class Span:
    """One span. Times are ns since the epoch. Texts are cleaned of secrets before the library sees them."""

    __slots__ = ("_tracer", "native")

    def __init__(self, tracer: Tracer, native: Native) -> None:
        self._tracer = tracer
        self.native = native

    def event(self, name: str, at: int, attributes: Attributes | None = None) -> None:
        """Something happened in it."""
        self.native.add_event(name, self._tracer.clean(attributes or {}), at)

    def put(self, attributes: Attributes) -> None:
        """More about it."""
        self.native.set_attributes(self._tracer.clean(attributes))

    def end(self, at: int, error: str = "") -> None:
        """It is over; with an `error`, it failed."""
        if error:
            self.native.set_status(Status(StatusCode.ERROR, self._tracer.text(error)))
        with _Quiet():
            self.native.end(at)
        with self._tracer.lock:  # the tape's thread ends some
            self._tracer.counts.spans += 1


class Tracer:
    """Makes spans and has them sent. Call it from any thread."""

    def __init__(self, how: How, redact: Callable[[str], str]) -> None:
        self.counts = Counts()
        self.lock = threading.Lock()
        self.endpoint, address = where(how.endpoint)
        self._redact = redact
        headers = {"Authorization": f"Bearer {how.secret()}"} if how.secret is not None else None
        inner = OTLPSpanExporter(
            endpoint=address, certificate_file=how.ca_file or None, headers=headers, timeout=how.within_s
        )  # type: ignore[call-overload,unused-ignore]  # the timeout was an int once
        self._exporter = _Exporter(inner, self)
        self._processor = BatchSpanProcessor(
            self._exporter, max_queue_size=WAITING_MAX, schedule_delay_millis=EVERY_MS, max_export_batch_size=BATCH
        )
        about = Resource.create({"service.name": how.service, "service.version": how.version})
        self._provider = TracerProvider(resource=about, shutdown_on_exit=False)
        self._provider.add_span_processor(self._processor)
        self._tracer = self._provider.get_tracer("truetape", how.version)

    def start(
        self, name: str, at: int, attributes: Attributes, *, kind: Literal["client", "internal"] = "internal",
        parent: Span | None = None, links: Sequence[Span] = (),
    ) -> Span:  # fmt: skip
        """Begin one. What `links` names came before it."""
        return Span(
            self,
            self._tracer.start_span(
                name,
                context=set_span_in_context(parent.native) if parent is not None else None,
                kind=SpanKind.CLIENT if kind == "client" else SpanKind.INTERNAL,
                attributes=self.clean(attributes),
                links=[Link(before.native.get_span_context()) for before in links],
                start_time=at,
            ),
        )

    def close(self, told: Callable[[], None]) -> None:
        """Have the last spans sent by a thread, which calls `told` when that is done or was given up. Nobody need wait for it."""

        def end() -> None:
            hurry = threading.Timer(CLOSE_S, self._exporter.hurry)  # a collector that is away is tried again and again
            hurry.daemon = True
            hurry.start()
            try:
                with _Quiet():
                    self._provider.shutdown()
            finally:
                hurry.cancel()
                told()

        threading.Thread(target=end, name="truetape-trace-end", daemon=True).start()

    def probe(self) -> str:
        """Why the collector would take nothing, asked with a request without spans; empty where it takes it. It blocks, `within_s` at most."""
        return self._exporter.probe()

    @property
    def trouble(self) -> str:
        """Why nothing is delivered; empty where it is, or nothing was tried."""
        return self._exporter.trouble

    def text(self, value: str) -> str:
        """As it may be shown."""
        return self._redact(value)[:TEXT_MAX].encode("utf-8", "replace").decode("utf-8")

    def clean(self, attributes: Attributes) -> dict[str, str | int | float | bool]:
        """As they may be shown."""
        return {key: self.text(value) if isinstance(value, str) else value for key, value in attributes.items()}


class _Exporter(SpanExporter):
    """The library's exporter, whose failures are told once each way and not for each batch."""

    def __init__(self, inner: OTLPSpanExporter, tracer: Tracer) -> None:
        self.trouble = ""
        self._inner = inner
        self._tracer = tracer
        self._lost = 0

    def probe(self) -> str:
        """See `Tracer.probe`."""
        result, said = self._try(())
        return "" if result is SpanExportResult.SUCCESS else self._why(said)

    def _try(self, spans: Sequence[ReadableSpan]) -> tuple[SpanExportResult, str]:
        with _Quiet() as quiet:
            try:
                return self._inner.export(spans), quiet.said
            except Exception as error:  # noqa: BLE001  whatever it is, the thread goes on
                return SpanExportResult.FAILURE, f"{type(error).__name__}: {error}"

    def _why(self, said: str) -> str:
        return self._tracer.text(_cause(self._tracer.endpoint) or said or "no answer in time")

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        result, said = self._try(spans)
        counts = self._tracer.counts
        if result is SpanExportResult.SUCCESS:
            counts.delivered += len(spans)
            if self.trouble:
                log.info("traces are taken again", endpoint=self._tracer.endpoint, lost=self._lost)
            self.trouble, self._lost = "", 0
            return result
        counts.refused += len(spans)
        self._lost += len(spans)
        if not self.trouble:
            self.trouble = self._why(said)
            log.warning("traces are not taken", endpoint=self._tracer.endpoint, why=self.trouble, hint=HINT)
        return result

    def hurry(self) -> None:
        """Try nothing again."""
        with _Quiet():
            self._inner.shutdown()  # type: ignore[no-untyped-call]

    def shutdown(self) -> None:
        self.hurry()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return True


def _cause(endpoint: str) -> str:
    """Why nobody can be reached there, which the library does not say; empty where somebody can."""
    parts = urlsplit(endpoint)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        socket.create_connection((parts.hostname or "", port), REACH_S).close()
    except OSError as error:
        return f"{parts.hostname}:{port}: {error.strerror or error}"
    return ""


class _Quiet:
    """While a thread is in here, what the library logs is kept as `said` and goes no further; other users of the library are not touched."""

    _here = threading.local()
    _watched = False

    def __init__(self) -> None:
        self.said = ""
        self._outer: _Quiet | None = None

    def __enter__(self) -> _Quiet:
        if not _Quiet._watched:
            _Quiet._watched = True
            for name in _LIBRARY:
                logging.getLogger(name).addFilter(_Quiet._pass)
        self._outer = getattr(_Quiet._here, "now", None)
        _Quiet._here.now = self
        return self

    def __exit__(self, *_: object) -> None:
        _Quiet._here.now = self._outer

    @staticmethod
    def _pass(record: logging.LogRecord) -> bool:
        here: _Quiet | None = getattr(_Quiet._here, "now", None)
        if here is not None and record.levelno >= logging.WARNING:
            here.said = record.getMessage()
        return here is None


def where(endpoint: str) -> tuple[str, str]:
    """The collector as it may be shown, without user, password and query, and the address that is posted to.

    Empty: as OTEL_EXPORTER_OTLP_TRACES_ENDPOINT (the whole address) or OTEL_EXPORTER_OTLP_ENDPOINT says, else this machine's port 4318.
    """
    whole = "" if endpoint else os.environ.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "")
    base = endpoint or os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT", "") or "http://localhost:4318"
    address = whole or (base if base.endswith(PATH) else base.rstrip("/") + PATH)
    parts = urlsplit(address)
    host = parts.netloc.rpartition("@")[2]
    return f"{parts.scheme}://{host}{parts.path}", address
