"""What a gateway traces: each venue connection on its way up, each outage until it is over, and samples of its batches.

    dial ── tcp ── handshake ── authenticated ── subscribed ── first data ── ready        span `truetape.connect`, ended at ready
    lost ── [connect, connect …] ── ready                                                 span `truetape.reconnect` around them

The driver tells of steps (`seen`) and of nothing else: what follows a handshake is looked up, 50 times a second for as long as a connection is
on its way up, in what the pump knows anyway. So no message pays for it. Next door: `io/obs/trace.py` sends the spans.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from random import Random
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import truetape
from truetape.app import secrets, tls
from truetape.app.config import ConfigError
from truetape.app.config_trace import TraceConfig
from truetape.core.route.orders import UNWANTED
from truetape.io.clock import now as clock
from truetape.io.obs import log

if TYPE_CHECKING:
    from truetape.app.live import Gateway
    from truetape.core.feed.session import Session
    from truetape.core.route.link import Link
    from truetape.io.obs.trace import Attributes, Span, Tracer
    from truetape.io.serve.hall import Hall, Turn
    from truetape.io.store.writer import Commit

MS = 1_000_000
SECOND = 1_000_000_000
LOOK_S = 0.02
REST_S = 0.25
"""Between two looks while nothing but an outage stands."""
READY_WITHIN = 60 * SECOND
"""A connection that is not ready by then is told as it is: a span that does not end is not seen."""
CLOSE_S = 2.0
"""At the end the last spans are waited for so long."""
WELL = ("LIVE", "QUIET")


def make_tracer(row: TraceConfig) -> Tracer:
    """The table's tracer. Raises ConfigError: no library for it, a secret or a certificate that cannot be read."""
    secret = secrets.Secret(row.secret) if row.secret else None
    try:
        if secret is not None:
            secret.reveal()
    except secrets.SecretError as error:
        raise ConfigError(f"trace: {error}") from None
    try:
        from truetape.io.obs.trace import How, Tracer
    except ModuleNotFoundError as error:
        if not (error.name or "").startswith("opentelemetry"):
            raise
        raise ConfigError("trace: spans need an extra: pip install 'truetape[traces]', or leave [trace] out") from None
    if row.ca_file:
        try:
            tls.context(row.ca_file)
        except ConfigError as error:
            raise ConfigError(f"trace: {error}") from None
    reveal = secret.reveal if secret is not None else None
    how = How(
        endpoint=row.endpoint, secret=reveal, ca_file=row.ca_file, service=row.service, version=truetape.__version__,
        within_s=row.within_s,
    )  # fmt: skip
    return Tracer(how, secrets.redact)


class Rise:
    """A connection on its way up."""

    __slots__ = ("began", "credential", "data", "opened", "span", "subscribed")

    def __init__(self, span: Span, began: int) -> None:
        self.span = span
        self.began = began
        self.opened = 0
        self.credential = False  # it is known to be accepted once the venue gives something
        self.subscribed = False
        self.data = False


class Outage:
    """What lies between the loss of a connection and the next that is ready."""

    __slots__ = ("attempts", "span")

    def __init__(self, span: Span) -> None:
        self.span = span
        self.attempts = 0


class Tracing:
    """A gateway's spans. `seen` hears the driver's steps; at the end, `end` and then `sent`."""

    def __init__(self, gateway: Gateway, row: TraceConfig) -> None:
        self.tracer = make_tracer(row)
        self._share = row.batches
        self._gateway = gateway
        self._luck = Random()
        self._rises: dict[str, Rise] = {}
        self._outages: dict[str, Outage] = {}
        self._last: dict[str, Span] = {}  # of each connection: its latest attempt
        self._lost_at: dict[str, int] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False
        self._sent = asyncio.Event()
        self._until = 0

    def report(self) -> dict[str, Any]:
        """For the status."""
        counts = self.tracer.counts
        return {
            "endpoint": self.tracer.endpoint, "spans": counts.spans, "delivered": counts.delivered, "refused": counts.refused,
            "last_error": self.tracer.trouble,
        }  # fmt: skip

    def end(self) -> None:
        """End what is open, and begin to send the last spans."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        now = clock()
        rises, outages = self._rises.values(), self._outages.values()
        for span in (*(rise.span for rise in rises), *(outage.span for outage in outages)):
            _end(span, "ended", now)
        self._rises.clear()
        self._outages.clear()
        loop = asyncio.get_running_loop()
        self._until = now + round(CLOSE_S * SECOND)

        def told() -> None:
            with suppress(RuntimeError):  # nobody waited so long: the loop is closed
                loop.call_soon_threadsafe(self._sent.set)

        self.tracer.close(told)

    async def sent(self) -> None:
        """Until the last spans are with the collector, or `CLOSE_S` after `end`, which a start that failed did not come to."""
        if not self._closed:
            self.end()
        with suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, (self._until - clock()) / SECOND)):
                await self._sent.wait()

    # -- samples of batches ---------------------------------------------------------------------------------------------

    def _chosen(self) -> bool:
        return not self._closed and self._luck.random() < self._share

    def committed(self, commit: Commit) -> None:
        """A group commit of the tape; told in the tape's own thread."""
        if not self._chosen():
            return
        about = {
            "truetape.records": commit.records, "truetape.bytes": commit.size, "truetape.first_record": commit.first,
            "truetape.sync_ms": commit.sync_ns / MS,
        }  # fmt: skip
        self._sample("truetape.commit", commit.began, commit.ended, about)

    def watch(self, hall: Hall) -> None:
        """Sample the turns in which downstream clients are written to; where none are to be, nothing is asked at a turn."""
        if self._share:
            hall.sample(self._chosen, self._turned)

    def _turned(self, turn: Turn) -> None:
        about = {"truetape.clients": turn.clients, "truetape.messages": turn.messages, "truetape.bytes": turn.size}
        self._sample("truetape.turn", turn.began, turn.ended, about)

    def _sample(self, name: str, began: int, ended: int, about: Attributes) -> None:
        try:
            self.tracer.start(name, began, about).end(ended)
        except Exception as error:  # noqa: BLE001  neither the tape nor the clients may end by it
            log.warning("bug in tracing", error=f"{type(error).__name__}: {error}")

    # -- steps of a connection ------------------------------------------------------------------------------------------

    def seen(self, step: str, source: str, now: int, **more: str) -> None:
        """A step that the driver took. A mistake in here must not end the feed: it is said, and the spans of this connection are given up."""
        if self._closed:
            return
        try:
            link = self._gateway.pump.links.get(source)
            if link is not None and link.session is not None:
                self._step(step, link, link.session, now, more)
        except Exception as error:  # noqa: BLE001  see above
            log.warning("bug in tracing", error=f"{type(error).__name__}: {error}")
            self._rises.pop(source, None)
            self._outages.pop(source, None)

    def _step(self, step: str, link: Link, session: Session, now: int, more: dict[str, str]) -> None:
        rise = self._rises.get(link.source)
        match step:
            case "dial":
                if rise is not None:  # the driver never answered
                    _end(rise.span, "failed", now, session.reason)
                self._dialed(link, session, now)
            case "tcp":
                if rise is not None:
                    rise.span.event("tcp", now)
            case "open":
                if self._timer is not None:  # it may have been at rest, while there was only an outage
                    self._timer.cancel()
                    self._timer = None
                if rise is not None:
                    self._opened(rise, link, session, now, more)
            case "lost":
                self._lost(rise, link, session, now)
        self._wake()

    def _dialed(self, link: Link, session: Session, now: int) -> None:
        source = link.source
        outage, lost_at = self._outages.get(source), self._lost_at.pop(source, None)
        about = _about(link, session) | {"truetape.attempt": session.attempts}
        if lost_at is not None:
            about["truetape.wait_s"] = round((now - lost_at) / SECOND, 6)
        if outage is not None:
            outage.attempts += 1
        span = self.tracer.start(
            "truetape.connect", now, about, kind="client",
            parent=outage.span if outage is not None else None, links=self._before(link),
        )  # fmt: skip
        span.event("dial", now)
        self._rises[source] = Rise(span, now)
        self._last[source] = span

    def _before(self, link: Link) -> list[Span]:
        """The connection that this one follows: its own last, or for a successor the one that it is to replace."""
        succeeds = link.pair is not None and link.pair.successor is link and not link.pair.switched
        before = self._last.get(link.pair.other(link).source if link.pair is not None and succeeds else link.source)
        return [before] if before is not None else []

    def _opened(self, rise: Rise, link: Link, session: Session, now: int, more: dict[str, str]) -> None:
        rise.opened = now
        rise.span.event("handshake", now, {"tls.protocol.version": more["tls"]} if more.get("tls") else None)
        secret = self._gateway.dialing(link.feed.name).secret
        if "{secret}" in session.url:
            rise.span.event("authenticated", now)  # the venue saw the key and let us in
        else:
            rise.credential = secret is not None
        self._examine(rise, link, session, now)

    def _lost(self, rise: Rise | None, link: Link, session: Session, now: int) -> None:
        source = link.source
        stood = rise is None or rise.opened > 0
        self._rises.pop(source, None)
        why = session.reason
        if not link.parked:
            self._lost_at[source] = now
        if rise is not None:
            _end(rise.span, "lost" if rise.opened else "failed", now, why)
        outage = self._outages.get(source)
        if outage is not None:
            outage.span.event("lost again" if stood else "attempt failed", now, {"truetape.reason": _word(why)})
        elif stood and session.state in ("WAITING", "STOPPED") and not link.parked and not why.startswith(UNWANTED):
            about = _about(link, session) | {"truetape.reason": _word(why), "truetape.said": why}
            due = session.deadline
            if session.state == "WAITING" and due is not None:
                about["truetape.wait_s"] = round(max(0, due - now) / SECOND, 6)
            outage = self._outages[source] = Outage(
                self.tracer.start("truetape.reconnect", now, about, links=self._before(link))
            )
        if session.state in ("STOPPED", "IDLE"):
            self._over(source, "stopped", now, why)

    def _over(self, source: str, outcome: str, now: int, why: str = "") -> None:
        outage = self._outages.pop(source, None)
        if outage is not None:
            outage.span.put({"truetape.attempts": outage.attempts})
            _end(outage.span, outcome, now, why)

    # -- what nobody tells ----------------------------------------------------------------------------------------------

    def _wake(self) -> None:
        if self._timer is None and (self._rises or self._outages):
            self._timer = asyncio.get_running_loop().call_later(LOOK_S if self._rises else REST_S, self._look)

    def _look(self) -> None:
        self._timer = None
        now = clock()
        links = self._gateway.pump.links
        try:
            for source, rise in list(self._rises.items()):
                link = links.get(source)
                if link is None or link.session is None:  # its feed was removed
                    _end(self._rises.pop(source).span, "stopped", now)
                elif rise.opened:
                    self._examine(rise, link, link.session, now)
            for source in list(self._outages):
                session = links[source].session if source in links else None
                if session is None or session.state in ("STOPPED", "IDLE"):  # while it waited, by somebody's order
                    self._over(source, "stopped", now, session.reason if session is not None else "")
        except Exception as error:  # noqa: BLE001  a timer would die in silence
            log.warning("bug in tracing", error=f"{type(error).__name__}: {error}")
            self._rises.clear()
            self._outages.clear()
        self._wake()

    def _examine(self, rise: Rise, link: Link, session: Session, now: int) -> None:
        """How far it came. When streams became LIVE is known exactly, what was confirmed to a look."""
        span = rise.span
        streams = [stream for stream in link.streams.values() if stream.state != "CLOSED"]
        alive = [stream.since for stream in streams if stream.state in WELL and stream.since >= rise.opened]
        confirmed = session.state == "OPEN" and not session.unacknowledged
        books = [stream for stream in streams if stream.sync is not None]
        waiting = sum(stream.state not in WELL for stream in books)
        up = not waiting if books else bool(alive) if streams else confirmed
        at = now
        if up and streams:
            at = max(rise.opened, max([stream.since for stream in books]) if books else min(alive))
        if rise.credential and (alive or (confirmed and now > rise.opened)):
            rise.credential = False
            span.event("authenticated", min(alive, default=now))
        if confirmed and not rise.subscribed:
            rise.subscribed = True
            span.event("subscribed", at, {"truetape.subscriptions": len(session.wants)})
        if alive and not rise.data:
            rise.data = True
            span.event("first data", min(alive))
        if up:
            span.event("ready", at)
            self._done(rise, link, "ready", at)
        elif now - rise.began > READY_WITHIN:
            span.put({"truetape.books_waiting": waiting})
            self._done(rise, link, "not ready", now)

    def _done(self, rise: Rise, link: Link, outcome: str, at: int) -> None:
        del self._rises[link.source]
        _end(rise.span, outcome, at)
        self._over(link.source, outcome, at)


def _end(span: Span, outcome: str, at: int, why: str = "") -> None:
    span.put({"truetape.outcome": outcome} | ({"truetape.reason": _word(why), "truetape.said": why} if why else {}))
    span.end(at, why)


def _word(why: str) -> str:
    """A reason's name, of which there are few (docs/reasons.md)."""
    return why.partition(":")[0]


def _about(link: Link, session: Session) -> dict[str, str | int | float | bool]:
    parts = urlsplit(session.url)
    host = parts.netloc.rpartition("@")[2]
    return {
        "truetape.feed": link.feed.name, "truetape.venue": link.label, "truetape.connection": link.source,
        "truetape.endpoint": f"{parts.scheme}://{host}{parts.path}", "server.address": parts.hostname or "",
    }  # fmt: skip
