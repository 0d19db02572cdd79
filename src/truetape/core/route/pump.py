"""The one path: every record of the journal enters here, and market events, states and effects come out.

    Record -> Session -> dialect.decode -> Stream (health) -> BookSync -> Router (topics) and Digest

The pump is the deterministic function of the design: same configuration and same records, same events and same digest. It never
awaits and never reads a clock; drivers call one method for each record and apply the effects that it returns. `feeds` are resolved by
the app; where there are none, `observe` admits connections of a capture, which is watched and not conversed with.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import msgspec

from truetape.core.book.tape import Flow
from truetape.core.feed import refusal
from truetape.core.feed.circuit import Circuits
from truetape.core.feed.pace import WAIT_MAX_S
from truetape.core.feed.plan import Feed, connections
from truetape.core.feed.venue import Rejected
from truetape.core.route import credential, jumps
from truetape.core.route.digest import Digest
from truetape.core.route.judge import Judge
from truetape.core.route.link import Link
from truetape.core.route.orders import Orders
from truetape.core.route.pair import Pair
from truetape.core.route.rollover import Rollover
from truetape.core.route.roster import FeedOf, no_feeds
from truetape.core.route.router import Router
from truetape.core.route.watch import Watch
from truetape.model.effect import Doubt, Effect
from truetape.model.event import Counted, Gap, Status

SECOND = 1_000_000_000
HEALTH_EVERY = SECOND // 4
UNREADABLE = (msgspec.MsgspecError, ValueError, LookupError, TypeError, ArithmeticError, RecursionError)
"""What garbage from outside may raise in a dialect (UnicodeDecodeError is a ValueError). Anything else is a bug, and is let through."""

NO_EFFECTS: list[Effect] = []


class Pump:
    """Feeds in, events out. Each input returns effects; events go to the router; `digest` remembers them all."""

    def __init__(
        self,
        feeds: Sequence[Feed] = (),
        *,
        router: Router | None = None,
        seed: int = 0,
        now: int = 0,
        flow: bool = False,
        feed_of: FeedOf = no_feeds,
    ) -> None:
        self.router = router if router is not None else Router()
        self.digest = Digest()
        self.links: dict[str, Link] = {}
        self.circuits: dict[str, Circuits] = {}  # of each feed
        self.pairs: list[Pair] = []
        self.seed = seed
        self._effects: list[Effect] = []
        self.next_health = 0
        self.refused = 0  # commands that could not be followed
        self.judge = Judge(self.router, self.digest, self._effects, flow)
        self.judge.links = self.links
        self.watch = Watch(self.judge)
        self.orders = Orders(self.links, self.pairs, self.circuits, feeds, self.judge, self._effects, seed, feed_of)
        self.rollover = Rollover(self.links, self.pairs, self.judge, self.orders.like, seed)
        for feed in feeds:
            for source, endpoint in connections(feed):
                self.orders.lay(source, feed, endpoint, now)

    def observe(self, source: str, feed: Feed, url: str) -> None:
        """Admit a connection of a capture: no session, no timers, no effects."""
        self.links[source] = Link(source, feed, url, None, self.judge.handlers)

    # -- inputs: one for each kind of record ----------------------------------------------------------------------------

    @property
    def feeds(self) -> list[Feed]:
        """Those that run now."""
        return list(self.orders.feeds.values())

    @property
    def gaps(self) -> deque[Gap]:
        """Gaps found so far, and each once more when it ended."""
        return self.judge.gaps

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
        link.desk.clear()
        if link.pair is not None:
            link.pair.opened(link, now)
        for stream in link.streams.values():
            if stream.state != "CLOSED":
                stream.renew(now)
        if link.session is not None:
            self.next_health = self.next_health or now + HEALTH_EVERY
            self._effects += link.session.opened(now)
            self.judge.tell(Status(link.label, source, link.url, now, "", "OPEN", "connected", since=now))
        return self._drain()

    def frame(self, source: str, data: bytes, now: int) -> list[Effect]:
        """One whole message came in on a connection."""
        link = self.links[source]
        session = link.session
        link.counts.frames += 1
        if session is not None:
            session.last_rx = now
        try:
            decoded = link.decode(data, now)
        except UNREADABLE as error:
            self.judge.garbage(link, error, now)
            if session is not None:
                self._effects.append(Doubt(source))
            return self._drain()
        if session is not None and session.garbage:
            session.garbage = 0
        handlers = link.handlers
        for item in decoded:
            handlers[item.__class__](link, item, now)
        link.unsampled -= 1
        if link.unsampled < 0:
            self.judge.sample(link, data, decoded, now)
        return self._drain() if self._effects else NO_EFFECTS

    def fetched(
        self, source: str, ref: str, status: int, body: bytes, now: int, retry_after_s: float = -1.0
    ) -> list[Effect]:
        """An HTTP answer: a snapshot for a book of this connection."""
        link = self.links[source].leader
        raw = ref.partition(":")[2]
        stream = link.streams.get(("book", raw))
        if status != 200:
            link.desk.failed(raw, now, retry_after_s)
            if retry_after_s > 0:  # it was said to the key or the address, not to this connection
                for other, _ in credential.peers(self.links, link):
                    other.desk.hold(now + round(min(retry_after_s, WAIT_MAX_S) * SECOND))
            return self._drain()
        if (stream is None or stream.sync is None) and link.session is not None:
            return self._drain()  # unsubscribed meanwhile; in a capture the snapshot may come before the first change
        try:
            book = link.dialect.decode_snapshot(raw, body, now)
        except UNREADABLE:
            link.counts.errors += 1
            link.desk.failed(raw, now)
            return self._drain()
        link.desk.returned(raw)
        self.judge.book(link, book, now)
        return self._drain()

    def lost(
        self, source: str, reason: str, now: int, code: int = 0, retry_after_s: float = -1.0, said: str = ""
    ) -> list[Effect]:
        """A connection ended, or could not be made."""
        link = self.links[source]
        if link.parked:
            self.judge.tell(Status(link.label, source, link.url, now, "", "CLOSED", reason, since=now))
            return self._drain()
        answer: Rejected | None = None
        least_s = -1.0
        if (session := link.session) is not None:
            answer = refusal.read(link.dialect, code, said)
            least_s = refusal.wait_s(answer, retry_after_s, reason)
            session.lost(reason, now, least_s=least_s, answer=answer)
            self.judge.tell(Status(link.label, source, link.url, now, "", session.state, session.reason, since=now))
        if link.pair is not None:
            link.pair.lost(link, reason, now)
        if answer is not None:
            self.judge.share(link, answer, now + round(min(max(0.0, least_s), WAIT_MAX_S) * SECOND), now)
        link.desk.clear()
        stopped = link.session is not None and link.session.state == "STOPPED"
        for stream in link.streams.values():
            self.judge.blind(stream, f"connection lost: {reason}", now)
            if stream.sync is not None:
                stream.sync.lost("connection lost")
            if stopped and link.session is not None and stream.state != "CLOSED":
                self.judge.tell(stream.enter("CLOSED", link.session.reason, now))
            elif stream.state not in ("SYNCING", "CLOSED"):
                self.judge.tell(stream.enter("SYNCING", f"connection lost: {reason}", now))
        return self._drain()

    def sampled(self, source: str, name: str, value: float, now: int) -> list[Effect]:
        """A measurement; names that are not here judge nothing.

        `pong`: a round trip, ns (-1 where the pong does not say of which ping); `unsent`: bytes that wait for a socket; `slept`, `stepped`: for
        how long the machine was suspended, by how much the wall clock was set, ns.
        """
        link = self.links.get(source)
        session = link.session if link is not None else None
        if name == "pong" and session is not None:
            session.ponged(int(value), now)
        elif name == "unsent" and session is not None:
            self._effects += session.unsent(int(value), now)
        elif name == "slept":
            jumps.slept(self.judge, self.links.values(), int(value), now)
        elif name == "stepped":
            jumps.stepped(self.judge, int(value), now)
        return self._drain()

    def hole(self, now: int, why: str) -> list[Effect]:
        """Records are missing here: no book may be believed before its next snapshot or a checkpoint, and something else may be gone."""
        for link in self.links.values():
            for stream in link.streams.values():
                if stream.sync is None:
                    self.judge.doubt(link, stream, f"hole in the journal: {why}", now)
                elif stream.state != "CLOSED":
                    self.judge.blind(stream, f"hole in the journal: {why}", now)
                    stream.sync.fail("RESYNC", "hole in the journal")
                    self.judge.tell(stream.enter("RESYNC", "hole in the journal", now))
        return self._drain()

    @property
    def deadline(self) -> int | None:
        """When `tick` is next due, ns."""
        due = [self.next_health] if self.next_health else []
        due += [at for pair in self.pairs if (at := pair.deadline) is not None]
        for link in self.links.values():
            if link.session is not None:
                if (at := link.session.deadline) is not None:
                    due.append(at)
                if link.session.state == "OPEN" and link.leads and (at := link.desk.deadline) is not None:
                    due.append(at)
        return min(due, default=None)

    def tick(self, now: int) -> list[Effect]:
        """Time passed: do what is due."""
        check = now >= self.next_health
        if check:
            self.next_health = now + HEALTH_EVERY
        for link in self.links.values():
            link.delay.fold()
            session = link.session
            if session is None:
                continue
            if (at := session.deadline) is not None and now >= at:
                self._effects += session.tick(now)
            if link.extra is not None and not link.leader.streams:
                self.orders.dismiss(session)
            if session.state == "OPEN" and link.leads:
                if check:
                    self.watch.check(link, session, now)
                self.judge.ask_snapshots(link, session, now)
        for pair in self.pairs:
            pair.tick(now)
        if check:
            self.rollover.tick(now)
        return self._drain()

    def command(self, body: bytes, now: int) -> list[Effect]:
        """An operator's or consumer's order: subscribe to more, or to less, on a connection that stands or on one more; a feed comes or goes.

        One that cannot be followed is counted in `refused`, and changes nothing.
        """
        try:
            self.orders.follow(body, now)
        except UNREADABLE:
            self.refused += 1
        return self._drain()

    def ended(self, why: str, now: int) -> list[Gap]:
        """What each stream that was seeing would be blind to from here until `now`, for whoever knows that this pump went no further."""
        return [
            Gap(s.venue, s.symbol, s.raw, now, s.channel, s.last, now, why, s.sync.seq if s.sync is not None else -1)
            for link in self.links.values()
            for s in link.streams.values()
            if s.state in ("LIVE", "QUIET", "STALE")
        ]

    def forget(self) -> None:
        """Begin the digest, the gaps and the sums of trades anew, keeping books and states: what came before only led up to here."""
        self.digest.reset()
        self.judge.gaps.clear()
        for link in self.links.values():
            link.counts = Counted()
            for stream in link.streams.values():
                if stream.flow is not None:
                    stream.flow = Flow()

    def _drain(self) -> list[Effect]:
        if not self._effects:
            return NO_EFFECTS
        effects = self._effects[:]
        self._effects.clear()
        return effects
