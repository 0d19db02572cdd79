"""What a message said, judged: health, books, gaps, and the effects that keep a subscription true.

Next door: `pump.py` brings what each connection's dialect decoded; `answers.py` takes what is no data; `link.py` holds the streams; `router.py`
and `digest.py` receive what is published. Everything here is called by the pump and returns through `effects`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

from truetape.core.book.sync import BookSync
from truetape.core.book.tape import Flow
from truetape.core.feed.cadence import FINE
from truetape.core.feed.health import SPELLS_MAX, Stream
from truetape.core.feed.hours import Hours, market_of
from truetape.core.feed.session import Session
from truetape.core.feed.venue import Damaged, Rejected, Want
from truetape.core.route import credential
from truetape.core.route.answers import Answers
from truetape.core.route.digest import CHUNK, Digest
from truetape.core.route.link import SAMPLE_EVERY, Handlers, Link, picture
from truetape.core.route.router import Router
from truetape.core.route.tally import GapTally
from truetape.model.effect import Effect, Fetch
from truetape.model.event import KINDS, Bar, Book, Gap, Market, Quote, Status, Ticker, Trade

GAPS_MAX = 100_000
"""Gaps kept for a report; older ones are forgotten, for a gateway runs for months."""


class Judge:
    """Turns decoded messages into published events and changes of state."""

    def __init__(self, router: Router, digest: Digest, effects: list[Effect], flow: bool) -> None:
        self.router = router
        self.digest = digest
        self.effects = effects
        self.flow = flow
        self.links: Mapping[str, Link] = {}  # the pump's
        self.gaps: deque[Gap] = deque(maxlen=GAPS_MAX)
        self.tally = GapTally()
        self._chunk = digest.chunk
        self.hours: dict[str, Hours] = {}  # by market
        self.handlers: Handlers = {
            Trade: self._data, Quote: self._data, Ticker: self._data, Bar: self._data, Book: self.book,
            **Answers(self).handlers(),
        }  # fmt: skip

    def connect(self, link: Link, stream: Stream) -> None:
        """Give a stream its topics, and its market's hours."""
        if market := market_of(link.feed.market, link.feed.dialect, stream.raw):
            stream.hours = self.hours.setdefault(market, Hours(market))
        kind = stream.channel.partition(".")[0]
        topic = self.router.topic(kind, link.label, stream.symbol)
        stream.topic = topic
        if self.flow and kind == "trade":
            stream.flow = Flow()
        if (sync := stream.sync) is not None:
            delta = self.router.topic("book_delta", link.label, stream.symbol)
            stream.topic_delta = delta
            topic.state = delta.state = lambda depth: whole(stream, sync, depth)

    def _data(self, link: Link, event: Any, now: int) -> None:
        """A trade, quote, ticker or bar."""
        cls = event.__class__
        channel = (
            "trade"
            if cls is Trade
            else "quote"
            if cls is Quote
            else "ticker"
            if cls is Ticker
            else f"bar.{event.interval}"
        )
        stream = link.streams.get((channel, event.raw))
        if stream is None:
            if link.session is not None:
                link.counts.ignored += 1
                return
            stream = link.add(Want(channel, event.raw, event.symbol), now)
            self.connect(link, stream)
        stream.touch(now)
        if stream.state != "LIVE":
            self._flows(link, stream, now)
        if ts := event.ts:
            stream.last_ts = ts
            link.delay.note(now - ts)
        if stream.flow is not None:
            stream.flow.add(event)
        self._publish(stream.topic, event)

    def book(self, link: Link, event: Book, now: int) -> None:
        """A whole book or a change of one."""
        stream = link.books.get(event.raw)
        if stream is None:
            if link.session is not None:
                link.counts.ignored += 1
                return
            stream = link.add(Want("book", event.raw, event.symbol), now)
            self.connect(link, stream)
        interval = now - stream.last  # as Stream.touch does, without the call
        if interval > FINE and stream.last:
            stream.learn(interval)
        stream.last = now
        stream.count += 1
        if ts := event.ts:
            stream.last_ts = ts
            link.delay.note(now - ts)
        sync: BookSync = stream.sync  # type: ignore[assignment]  # streams under `books` have one
        published = sync.feed(event)
        if sync.state != stream.state or sync.jumped:
            self._judge(link, stream, sync, now, now - interval)
        if sync.wants_snapshot and link.session is not None:
            if event.snapshot:
                link.desk.returned(stream.raw)  # it came, and did not fit
            self._want_snapshot(link, stream, sync, now)
        if not published:
            return
        chunk = self._chunk
        chunk += published
        if len(chunk) >= CHUNK:
            self.digest.fold()
        if stream.topic_delta.puts:
            for book in published:
                self.router.publish(stream.topic_delta, book)
        topic = stream.topic
        if topic.puts:
            last, depth = published[-1], topic.depth
            if not last.snapshot or not sync.live or (depth and (len(last.bids) > depth or len(last.asks) > depth)):
                state = whole(stream, sync, depth)
                if state is None:
                    return
                last = state
            self.router.publish(topic, last)

    def _publish(self, topic: Any, event: Market) -> None:
        chunk = self._chunk
        chunk.append(event)
        if len(chunk) >= CHUNK:
            self.digest.fold()
        if topic.puts:
            self.router.publish(topic, event)

    def tell(self, event: Status | Gap) -> None:
        """Notices reach every consumer of the symbol; gaps are market events too, statuses are the operator's."""
        if event.__class__ is Gap:
            self._chunk.append(event)
            if len(self._chunk) >= CHUNK:
                self.digest.fold()
        self.router.notify(event)

    def _flows(self, link: Link, stream: Stream, now: int) -> None:
        """First data, or data again after silence."""
        if stream.cause == "late":
            return  # until it comes in time
        stream.acked = True
        if link.session is not None:
            link.session.flowing(stream.channel, stream.raw)
        self.seeing(stream, now, recovered=False)
        self.tell(stream.enter("LIVE", "", now))
        self._learn(link, stream)

    def taken(self, link: Link, stream: Stream, sync: BookSync, now: int) -> None:
        """Another book took the place of this stream's: its state is told."""
        self._judge(link, stream, sync, now, stream.last)

    def _judge(self, link: Link, stream: Stream, sync: BookSync, now: int, good: int) -> None:
        """The book's state changed: say so. `good` is when its last good message came."""
        if stream.cause == "late" and sync.state == "LIVE" and not sync.jumped:
            return
        if sync.state in ("GAP", "SUSPECT"):
            if link.pair is not None and link.pair.standbys.rescued(stream, now):
                return
            self.blind(stream, sync.reason, now, sync.from_seq, sync.to_seq, good)
        if sync.jumped:
            self.blind(stream, sync.jumped, now, sync.from_seq, sync.to_seq, good)
            sync.jumped = ""
        sync.from_seq = sync.to_seq = -1  # told; the next gap has its own
        if sync.state == "LIVE":
            self._learn(link, stream)
            link.desk.answered(stream.raw)
            stream.acked = True
            if link.session is not None:
                link.session.flowing("book", stream.raw)
            self.seeing(stream, now, recovered=True)
        self.tell(stream.enter(sync.state, sync.reason, now))

    def blind(
        self, stream: Stream, reason: str, now: int, from_seq: int = -1, to_seq: int = -1, good: int = -1
    ) -> None:
        """A stream that was seeing is blind from its last good message (`good`, else its last) on; said once, until it sees again."""
        from_ts = good if good >= 0 else stream.last
        if stream.blind is not None or not from_ts or stream.state not in ("LIVE", "QUIET", "STALE"):
            return
        if from_seq < 0 and stream.sync is not None:
            from_seq = stream.sync.seq
        stream.blind = (from_ts, from_seq, reason)
        self.tally.add(stream.venue, stream.channel, reason)
        self._gap(stream, now, from_ts, reason, from_seq, to_seq, recovered=False)

    def _gap(
        self,
        stream: Stream,
        now: int,
        from_ts: int,
        reason: str,
        from_seq: int = -1,
        to_seq: int = -1,
        *,
        recovered: bool,
        healed: str = "",
    ) -> None:
        venue, symbol, raw, channel = stream.venue, stream.symbol, stream.raw, stream.channel
        gap = Gap(venue, symbol, raw, now, channel, from_ts, now, reason, from_seq, to_seq, recovered, healed)
        self.gaps.append(gap)
        self.tell(gap)

    def seeing(self, stream: Stream, now: int, *, recovered: bool) -> None:
        """A stream that was blind sees again: where the blindness ended, and what healed it."""
        if stream.spells >= SPELLS_MAX and stream.state == "STALE":
            stream.unlearn()
        if stream.blind is None:
            return
        from_ts, from_seq, reason = stream.blind
        stream.blind = None
        seq = stream.sync.seq if stream.sync is not None else -1
        went_on = stream.state == "STALE" and reason == "stale"  # it was late, and nothing is missing
        way = stream.sync.rule.snapshot if stream.sync is not None and recovered else ""
        healed = "" if not way or (went_on and way != "whole") else "rest" if way == "rest" else "snapshot"
        self._gap(stream, now, from_ts, reason, from_seq, seq, recovered=recovered, healed=healed)

    def share(self, link: Link, answer: Rejected, until: int, now: int) -> None:
        """What one connection was told may concern all that use its credential."""
        self.effects += credential.share(
            self.links, link, answer, until, lambda other, why: self.close(other, why, now)
        )

    def close(self, link: Link, why: str, now: int) -> None:
        """All streams of a connection end: a person must act."""
        for stream in link.streams.values():
            self.blind(stream, why, now)
            if stream.sync is not None:
                stream.sync.lost(why)
            if stream.state != "CLOSED":
                self.tell(stream.enter("CLOSED", why, now))

    def doubt(self, link: Link, stream: Stream, reason: str, now: int) -> None:
        """Something of this stream was lost: a book is asked for anew; what else is gone stays gone, and is said."""
        sync = stream.sync
        if sync is None:
            if stream.state == "LIVE" and stream.blind is None:
                self.tally.add(stream.venue, stream.channel, reason)
                self._gap(stream, now, stream.last, reason, recovered=False)
            return
        if sync.live and sync.rule.snapshot != "whole":
            sync.fail("GAP", reason)
            self._judge(link, stream, sync, now, stream.last)
            if link.session is not None and sync.wants_snapshot:
                self._want_snapshot(link, stream, sync, now)

    @staticmethod
    def _learn(link: Link, stream: Stream) -> None:
        """The first frame of each channel is read again, for drift to be measured against."""
        if not link.drift.knows(stream.channel):
            link.unsampled = 0

    def sample(self, link: Link, data: bytes, decoded: Sequence[Any], now: int) -> None:
        """Read this frame again, generically: new keys are quarantined, and a number that changed its type puts its streams in doubt."""
        if any(item.__class__ is Damaged for item in decoded):
            return  # garbage is no drift: the next frame will do
        link.unsampled = SAMPLE_EVERY
        channels = [
            f"bar.{item.interval}" if type(item) is Bar else KINDS[type(item)]
            for item in decoded
            if type(item) in KINDS
        ]
        for channel in dict.fromkeys(channels):
            known = link.drift.knows(channel)
            why = link.drift.seen(channel, data)
            if why is not None and known:  # a first frame has nothing to differ from but itself
                self._suspect(link, channel, why if why.startswith("drift") else f"drift: {why}", now)

    def _suspect(self, link: Link, channel: str, why: str, now: int) -> None:
        for stream in [stream for stream in link.streams.values() if stream.channel == channel]:
            if stream.sync is not None and stream.sync.live:
                stream.sync.fail("SUSPECT", why)
                self._judge(link, stream, stream.sync, now, stream.last)
                if link.session is not None and stream.sync.wants_snapshot:
                    self._want_snapshot(link, stream, stream.sync, now)
            elif stream.sync is None and stream.state == "LIVE":
                self.blind(stream, why, now)
                self.tell(stream.enter("SUSPECT", why, now))

    def garbage(self, link: Link, error: Exception, now: int) -> None:
        """A whole frame was unreadable. Books that no number or checksum guards may have lost a change in it."""
        link.counts.errors += 1
        if link.pair is not None and not link.pair.alone[link.line]:
            link.pair.standbys.doubt(link, "an unreadable frame may have been a change", now)
            streams = []  # of the others the other line has the frame
        else:
            streams = link.leader.book_streams()
        for stream in streams:
            if stream.sync is not None and stream.sync.evidence == "none":
                self.doubt(link.leader, stream, "an unreadable frame may have been a change", now)
        if link.session is not None:
            self.effects += link.session.undecodable(now)

    # -- snapshots -------------------------------------------------------------------------------------------------------

    def _want_snapshot(self, link: Link, stream: Stream, sync: BookSync, now: int) -> None:
        link.desk.ask(stream.raw, now, sync.failures)
        if link.session is not None:
            self.ask_snapshots(link, link.session, now)

    def ask_snapshots(self, link: Link, session: Session, now: int) -> None:
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
                self.effects.append(Fetch(link.source, f"depth:{raw}", url))
            stream.sync.asked()
            if stream.sync.state != stream.state and stream.state not in ("STALE", "QUIET"):
                self.tell(stream.enter(stream.sync.state, stream.sync.reason, now))
        if anew:
            self.effects += session.resubscribe(anew, now)


def whole(stream: Stream, sync: BookSync, depth: int) -> Book | None:
    """The whole book as an event, None when it cannot be read."""
    return picture(stream, sync, depth) if stream.readable else None
