"""The one path: every record of the journal enters here, and market events, states and effects come out.

    Record -> Session -> dialect.decode -> Stream (health) -> BookSync -> Router (topics) and Digest

The pump is the deterministic function of the design: same configuration and same records, same events and same digest. It never
awaits and never reads a clock; drivers call one method for each record and apply the effects that it returns. `feeds` are resolved by
the app; where there are none, `observe` admits connections of a capture, which is watched and not conversed with.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random
from typing import Any

import msgspec

from truetape.core.book.sync import BookSync
from truetape.core.book.tape import Flow
from truetape.core.feed.health import Stream
from truetape.core.feed.plan import Feed, connections
from truetape.core.feed.session import Session
from truetape.core.feed.venue import Accepted, Alive, Broken, Damaged, Ignored, Leaving, Rejected, Want
from truetape.core.route.digest import CHUNK, Digest
from truetape.core.route.link import Link
from truetape.core.route.router import Router
from truetape.model.effect import Effect, Fetch
from truetape.model.event import Bar, Book, Gap, Market, Quote, Status, Ticker, Trade

SECOND = 1_000_000_000
HEALTH_EVERY = SECOND // 4
UNREADABLE = (msgspec.MsgspecError, ValueError, LookupError, TypeError, ArithmeticError, RecursionError)
"""What garbage from outside may raise in a dialect (UnicodeDecodeError is a ValueError). Anything else is a bug, and is let through."""

NO_EFFECTS: list[Effect] = []


class Pump:
    """Feeds in, events out. Each input returns effects; events go to the router; `digest` remembers them all."""

    def __init__(self, feeds: Sequence[Feed] = (), *, router: Router | None = None, seed: int = 0, now: int = 0, flow: bool = False) -> None:
        self.router = router if router is not None else Router()
        self.digest = Digest()
        self.links: dict[str, Link] = {}
        self.gaps: list[Gap] = []
        self.seed = seed
        self.flow = flow
        self._effects: list[Effect] = []
        self._next_health = 0
        self._chunk = self.digest.chunk
        self._handlers: dict[type, Callable[[Link, Any, int], None]] = {
            Trade: self._data, Quote: self._data, Ticker: self._data, Bar: self._data, Book: self._book, Accepted: self._accepted,
            Rejected: self._rejected, Alive: self._alive, Ignored: self._ignored, Damaged: self._damaged, Broken: self._broken,
            Leaving: self._leaving,
        }  # fmt: skip
        for feed in feeds:
            for source, endpoint in connections(feed):
                self._add(source, feed, endpoint.url, endpoint.wants, now)

    def _add(self, source: str, feed: Feed, url: str, wants: Sequence[Want], now: int) -> Link:
        dialect = feed.dialect(feed.label, feed.names, url)
        session = Session(source, dialect, url, wants, feed.timing, Random(f"{self.seed}:{source}"))
        link = self.links[source] = Link(source, feed, url, session)
        for want in wants:
            self._connect(link, link.add(want, now))
        return link

    def observe(self, source: str, feed: Feed, url: str) -> None:
        """Admit a connection of a capture: no session, no timers, no effects."""
        self.links[source] = Link(source, feed, url, None)

    def _connect(self, link: Link, stream: Stream) -> None:
        """Give a stream its topics."""
        kind = stream.channel.partition(".")[0]
        topic = self.router.topic(kind, link.label, stream.symbol)
        stream.topic = topic
        if self.flow and kind == "trade":
            stream.flow = Flow()
        if (sync := stream.sync) is not None:
            delta = self.router.topic("book_delta", link.label, stream.symbol)
            stream.topic_delta = delta
            topic.state = delta.state = lambda depth: self._state(stream, sync, depth)

    @staticmethod
    def _state(stream: Stream, sync: BookSync, depth: int) -> Book | None:
        """The whole book as an event, None when it is not LIVE."""
        if not sync.live or stream.state != "LIVE":
            return None
        book = sync.book
        last = stream.last
        return Book(
            stream.venue, stream.symbol, stream.raw, stream.last_ts, last, book.bids(depth), book.asks(depth), True, -1, sync.seq,
            depth=sync.trusted_depth,
        )  # fmt: skip

    # -- inputs: one for each kind of record ----------------------------------------------------------------------------

    def start(self, now: int) -> list[Effect]:
        """Dial everything."""
        for link in self.links.values():
            if link.session is not None:
                self._effects += link.session.start(now)
        return self._drain()

    def opened(self, source: str, now: int) -> list[Effect]:
        """A connection stands."""
        link = self.links[source]
        link.renew()
        for stream in link.streams.values():
            stream.last = 0
            stream.acked = False
            stream.since = now
        if link.session is not None:
            self._effects += link.session.opened(now)
            self._tell(Status(link.label, source, link.url, now, "", "OPEN", "connected", since=now))
        return self._drain()

    def frame(self, source: str, data: bytes, now: int) -> list[Effect]:
        """One whole message came in on a connection."""
        link = self.links[source]
        session = link.session
        counts = link.counts
        counts.frames += 1
        counts.bytes += len(data)
        if session is not None:
            session.last_rx = now
        try:
            decoded = link.decode(data, now)
        except UNREADABLE as error:
            self._garbage(link, error, now)
            return self._drain()
        if session is not None and session.garbage:
            session.garbage = 0
        handlers = self._handlers
        for item in decoded:
            handlers[item.__class__](link, item, now)
        return self._drain() if self._effects else NO_EFFECTS

    def fetched(self, source: str, ref: str, status: int, body: bytes, now: int, retry_after_s: float = -1.0) -> list[Effect]:
        """An HTTP answer: a snapshot for a book of this connection."""
        link = self.links[source]
        raw = ref.partition(":")[2]
        stream = link.streams.get(("book", raw))
        if (stream is None or stream.sync is None) and link.session is not None:
            return self._drain()  # unsubscribed meanwhile; in a capture the snapshot may come before the first change
        if status != 200:
            link.desk.failed(raw, now, retry_after_s)
            return self._drain()
        try:
            book = link.dialect.decode_snapshot(raw, body, now)
        except UNREADABLE:
            link.counts.errors += 1
            link.desk.failed(raw, now)
            return self._drain()
        link.desk.returned(raw)
        self._book(link, book, now)
        return self._drain()

    def lost(self, source: str, reason: str, now: int, code: int = 0, retry_after_s: float = -1.0) -> list[Effect]:
        """A connection ended, or could not be made."""
        link = self.links[source]
        link.desk.clear()
        if link.session is not None:
            link.session.lost(reason, now, code=code, retry_after_s=retry_after_s)
            reason = link.session.reason
            self._tell(Status(link.label, source, link.url, now, "", link.session.state, reason, since=now))
        for stream in link.streams.values():
            self._blind(stream, f"connection lost: {reason}", now)
            if stream.sync is not None:
                stream.sync.lost("connection lost")
            if stream.state != "SYNCING":
                self._tell(stream.enter("SYNCING", f"connection lost: {reason}", now))
        return self._drain()

    def ponged(self, source: str, rtt_ns: int, now: int) -> list[Effect]:
        """A pong answered our protocol ping."""
        link = self.links[source]
        if link.session is not None:
            link.session.last_rx = now
            link.session.ponged(rtt_ns)
        return self._drain()

    def hole(self, now: int, why: str) -> list[Effect]:
        """Records are missing here: no book may be believed before its next snapshot or a checkpoint."""
        for link in self.links.values():
            for stream in link.book_streams():
                assert stream.sync is not None, "book streams have a sync"
                self._blind(stream, f"hole in the journal: {why}", now)
                stream.sync.fail("RESYNC", "hole in the journal")
                self._tell(stream.enter("RESYNC", "hole in the journal", now))
        return self._drain()

    @property
    def deadline(self) -> int | None:
        """When `tick` is next due, ns."""
        due = [self._next_health] if self._next_health else []
        for link in self.links.values():
            if link.session is not None and (at := link.session.deadline) is not None:
                due.append(at)
            if (at := link.desk.deadline) is not None:
                due.append(at)
        return min(due, default=None)

    def tick(self, now: int) -> list[Effect]:
        """Time passed: do what is due."""
        check = now >= self._next_health
        if check:
            self._next_health = now + HEALTH_EVERY
        for link in self.links.values():
            session = link.session
            if session is None:
                continue
            if (at := session.deadline) is not None and now >= at:
                self._effects += session.tick(now)
            if session.state == "OPEN":
                if check:
                    self._check(link, session, now)
                self._ask_snapshots(link, session, now)
        return self._drain()

    def want(self, source: str, wants: Sequence[Want], now: int) -> list[Effect]:
        """Subscribe to more on a connection while it runs."""
        link = self.links[source]
        for want in wants:
            if (want.channel, want.raw) not in link.streams:
                self._connect(link, link.add(want, now))
        if link.session is not None:
            self._effects += link.session.want(wants, now)
        return self._drain()

    def unwant(self, source: str, wants: Sequence[Want], now: int) -> list[Effect]:
        """Unsubscribe on a connection while it runs."""
        link = self.links[source]
        for want in wants:
            stream = link.streams.pop((want.channel, want.raw), None)
            if stream is not None:
                link.desk.answered(want.raw)
                if stream.sync is not None:
                    stream.sync.fail("CLOSED", "unsubscribed")
                self._tell(stream.enter("CLOSED", "unsubscribed", now))
        if link.session is not None:
            self._effects += link.session.unwant(wants, now)
        return self._drain()

    # -- what a message said --------------------------------------------------------------------------------------------

    def _data(self, link: Link, event: Any, now: int) -> None:
        """A trade, quote, ticker or bar."""
        cls = event.__class__
        channel = "trade" if cls is Trade else "quote" if cls is Quote else "ticker" if cls is Ticker else f"bar.{event.interval}"
        stream = link.streams.get((channel, event.raw))
        if stream is None:
            if link.session is not None:
                link.counts.ignored += 1
                return
            stream = link.add(Want(channel, event.raw, event.symbol), now)
            self._connect(link, stream)
        stream.touch(now)
        if stream.state != "LIVE":
            self._flows(link, stream, now)
        if event.ts:
            link.delay.add(now - event.ts)
        if stream.flow is not None:
            stream.flow.add(event)
        self._publish(stream.topic, event)

    def _book(self, link: Link, event: Book, now: int) -> None:
        """A whole book or a change of one."""
        stream = link.streams.get(("book", event.raw))
        if stream is None:
            if link.session is not None:
                link.counts.ignored += 1
                return
            stream = link.add(Want("book", event.raw, event.symbol), now)
            self._connect(link, stream)
        sync = stream.sync
        assert sync is not None, "book streams have a sync"
        stream.touch(now)
        if event.ts:
            stream.last_ts = event.ts
            link.delay.add(now - event.ts)
        published = sync.feed(event)
        if sync.state != stream.state:
            self._judge(link, stream, sync, now)
        if published:
            topic, delta, chunk = stream.topic, stream.topic_delta, self._chunk
            for book in published:
                chunk.append(book)
                if len(chunk) >= CHUNK:
                    self.digest.fold()
                self.router.publish(delta, book)
            if topic.puts and (state := self._state(stream, sync, topic.depth)) is not None:
                self.router.publish(topic, state)
        elif sync.wants_snapshot and link.session is not None:
            self._want_snapshot(link, stream, sync, now)

    def _publish(self, topic: Any, event: Market) -> None:
        chunk = self._chunk
        chunk.append(event)
        if len(chunk) >= CHUNK:
            self.digest.fold()
        self.router.publish(topic, event)

    def _tell(self, event: Status | Gap) -> None:
        """Notices reach every consumer of the symbol; gaps are market events too, statuses are the operator's."""
        if event.__class__ is Gap:
            self._chunk.append(event)
            if len(self._chunk) >= CHUNK:
                self.digest.fold()
        self.router.notify(event)

    def _flows(self, link: Link, stream: Stream, now: int) -> None:
        """First data, or data again after silence."""
        stream.acked = True
        if link.session is not None:
            link.session.flowing(stream.channel, stream.raw)
        self._seeing(stream, now, recovered=False)
        self._tell(stream.enter("LIVE", "", now))

    def _judge(self, link: Link, stream: Stream, sync: BookSync, now: int) -> None:
        """The book's state changed: say so, and ask for a snapshot where one is needed."""
        if sync.state in ("GAP", "SUSPECT"):
            self._blind(stream, sync.reason, now, sync.from_seq, sync.to_seq)
        if sync.state == "LIVE":
            link.desk.answered(stream.raw)
            stream.acked = True
            if link.session is not None:
                link.session.flowing("book", stream.raw)
            self._seeing(stream, now, recovered=True)
        self._tell(stream.enter(sync.state, sync.reason, now))

    def _blind(self, stream: Stream, reason: str, now: int, from_seq: int = -1, to_seq: int = -1) -> None:
        """A stream that was seeing is blind from here; said once, until it sees again."""
        if stream.blind is not None or stream.state not in ("LIVE", "QUIET", "STALE"):
            return
        seq = stream.sync.seq if stream.sync is not None else -1
        stream.blind = (stream.last, from_seq if from_seq >= 0 else seq, reason)
        gap = Gap(stream.venue, stream.symbol, stream.raw, now, stream.channel, stream.last, now, reason, stream.blind[1], to_seq)
        self.gaps.append(gap)
        self._tell(gap)

    def _seeing(self, stream: Stream, now: int, *, recovered: bool) -> None:
        """A stream that was blind sees again: where the blindness ended, and whether a snapshot healed it."""
        if stream.blind is None:
            return
        from_ts, from_seq, reason = stream.blind
        stream.blind = None
        seq = stream.sync.seq if stream.sync is not None else -1
        gap = Gap(stream.venue, stream.symbol, stream.raw, now, stream.channel, from_ts, now, reason, from_seq, seq, recovered)
        self.gaps.append(gap)
        self._tell(gap)

    def _accepted(self, link: Link, event: Accepted, now: int) -> None:
        for channel, raw in event.pairs:
            for stream in link.streams.values() if not raw else filter(None, [link.streams.get((channel, raw))]):
                stream.acked = True
        if link.session is not None:
            link.session.accepted(event)

    def _rejected(self, link: Link, event: Rejected, now: int) -> None:
        if link.session is None:
            return
        self._effects += link.session.rejected(event, now)
        for pair in event.pairs:
            stream = link.streams.get(pair)
            if stream is not None:
                self._tell(stream.enter("CLOSED", f"{event.reason}: {event.text}", now))
        if not event.pairs:
            self._tell(Status(link.label, link.source, link.url, now, "", "REJECTED", f"{event.reason}: {event.text}", since=now))

    def _alive(self, link: Link, event: Alive, now: int) -> None:
        if link.session is not None:
            link.session.alive(event.ts, event.pong, now)

    def _ignored(self, link: Link, event: Ignored, now: int) -> None:
        link.counts.ignored += 1

    def _leaving(self, link: Link, event: Leaving, now: int) -> None:
        self._tell(Status(link.label, link.source, link.url, now, "", "LEAVING", event.text, since=now))

    def _damaged(self, link: Link, event: Damaged, now: int) -> None:
        """Part of a frame was unreadable: whichever book it may have been for is in doubt."""
        link.counts.damaged += 1
        for stream in link.book_streams():
            if event.channel in ("", "book") and event.raw in ("", stream.raw):
                self._doubt(link, stream, f"damaged: {event.why}", now)

    def _broken(self, link: Link, event: Broken, now: int) -> None:
        """The connection's counter jumped: every book on it is in doubt."""
        for stream in link.book_streams():
            assert stream.sync is not None, "book streams have a sync"
            if stream.sync.live:
                stream.sync.counts.sequence_gaps += 1
                stream.sync.from_seq, stream.sync.to_seq = event.expected - 1, event.found
                self._doubt(link, stream, f"expected frame {event.expected}, found {event.found}", now)

    def _doubt(self, link: Link, stream: Stream, reason: str, now: int) -> None:
        sync = stream.sync
        assert sync is not None, "book streams have a sync"
        if sync.live and sync.rule.snapshot != "whole":
            sync.fail("GAP", reason)
            self._judge(link, stream, sync, now)
            if link.session is not None:
                self._want_snapshot(link, stream, sync, now)

    def _garbage(self, link: Link, error: Exception, now: int) -> None:
        """A whole frame was unreadable. Books that no number or checksum guards may have lost a change in it."""
        link.counts.errors += 1
        for stream in link.book_streams():
            if stream.sync is not None and stream.sync.evidence == "none":
                self._doubt(link, stream, "an unreadable frame may have been a change", now)
        if link.session is not None:
            self._effects += link.session.undecodable()

    # -- snapshots and silence ------------------------------------------------------------------------------------------

    def _want_snapshot(self, link: Link, stream: Stream, sync: BookSync, now: int) -> None:
        link.desk.ask(stream.raw, now)
        if link.session is not None:
            self._ask_snapshots(link, link.session, now)

    def _ask_snapshots(self, link: Link, session: Session, now: int) -> None:
        """Turn what the desk has due into effects: fetch it, or subscribe anew for it."""
        anew: list[Want] = []
        for raw in link.desk.due(now):
            stream = link.streams.get(("book", raw))
            if stream is None or stream.sync is None:
                link.desk.answered(raw)
                continue
            url = link.dialect.snapshot_url(stream.want, link.feed.rest_url)
            if url is None:
                anew.append(stream.want)
            else:
                self._effects.append(Fetch(link.source, f"depth:{raw}", url))
            stream.sync.asked()
            if stream.sync.state != stream.state and stream.state != "STALE":
                self._tell(stream.enter(stream.sync.state, stream.sync.reason, now))
        if anew:
            self._effects += session.resubscribe(anew, now)

    def _check(self, link: Link, session: Session, now: int) -> None:
        """Whose silence has lasted too long?"""
        for stream in link.streams.values():
            if stream.check(now, session.opened_at):
                self._blind(stream, "stale", now)
                why = f"nothing for {(now - max(stream.last, session.opened_at)) / SECOND:.1f} s"
                self._tell(stream.enter("STALE", why if stream.acked else f"{why}, and never acknowledged", now))

    def _drain(self) -> list[Effect]:
        if not self._effects:
            return NO_EFFECTS
        effects, self._effects = self._effects, []
        return effects
