"""What must hold at every step, whatever the weather: judged from outside, by what the network delivered and the market did.

Every rule has a bound in time where it needs one: that a thing is noticed at some time proves nothing. Next door: `driver.py` calls these
eyes; `oracle.py` knows the truth; `reader.py` has the consumers' rules.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable

from msgspec import Struct

from truetape.core.feed.cadence import default
from truetape.core.feed.health import Stream
from truetape.core.route.link import Link
from truetape.core.route.pump import Pump
from truetape.core.weather.clock import MS, SECOND, Clock
from truetape.core.weather.network import Wire
from truetape.core.weather.oracle import Oracle, Pair, Tag
from truetape.core.weather.reader import Violation
from truetape.model.effect import Effect, Fetch, Open, Ping, Send
from truetape.model.event import Gap

SLACK = SECOND // 2
"""What the issue allows beyond a threshold: half a second."""
HEALTH = SECOND // 4
TICKS_PER_S = 60
DIALS_PER_10_S = 12
FULL_EVERY = 8
"""Of so many messages of one book, one is compared to its full depth; all are to ten levels."""
SEEING = ("LIVE", "QUIET", "STALE")
MEASURED = ("book", "trade")


class Seen(Struct, gc=False):
    """What arrived of one subscription on the present connection."""

    last: int = 0
    count: int = 0
    longest: int = 0
    version: int = 0
    places: dict[int, int] = {}  # by connection: of two lines, each has its own
    versions: dict[int, int] = {}
    spoiled: bool = (
        False  # something was lost that no number shows: only what a checksum covers can be held to the truth
    )


def shared(link: Link) -> str:
    """The name of a connection without its second line's letter and its successor's mark."""
    name = link.source.rstrip("~")
    return name[:-1] if link.feed.lines > 1 and name.endswith("b") else name


class Watch:
    """The rules for one gateway. Two lines, and a connection with its successor, are one to whoever is told: they share what was seen."""

    def __init__(self, clock: Clock, pump: Pump, oracle: Callable[[Link], Oracle]) -> None:
        self.clock = clock
        self.pump = pump
        self.oracle = oracle
        self.compared = 0
        self._heard: dict[str, int] = {}
        self._seen: dict[str, dict[Pair, Seen]] = defaultdict(dict)
        self._gaps: dict[tuple[str, str, str], Gap] = {}
        self._blind: dict[tuple[str, str, str], int] = {}  # since when, for those whose second Gap is still to come
        self._seeing: list[tuple[Stream, int]] = []
        self._stands: dict[str, int] = {}
        self._dialing: dict[str, bool] = {}
        self._not_before: dict[tuple[str, str], int] = {}
        self._flights: dict[tuple[str, str], None] = {}
        self._ticks: deque[int] = deque()
        self._past: dict[tuple[str, str], deque[int]] = {}

    def fail(self, text: str) -> None:
        """Raise Violation."""
        raise Violation(text)

    # -- effects --------------------------------------------------------------------------------------------------------

    def effect(self, effect: Effect, now: int) -> None:
        """Nothing is asked too often, too early, or twice at a time."""
        source = effect.source
        limits = self.pump.links[source].dialect.limits
        match effect:
            case Open():
                if self._dialing.get(source):
                    self.fail(f"{source}: a second dial while the first is under way, or its connection stands")
                self._dialing[source] = True
                self._early(source, "open", now)
                self._often(source, "dials", now, 10 * SECOND, DIALS_PER_10_S)
            case Fetch():
                # of two lines, an answer to the one may ask anew while the other's request is on its way
                if (source, effect.ref) in self._flights and self.pump.links[source].pair is None:
                    self.fail(f"{source}: a second request for {effect.ref} while the first is in flight")
                self._flights[source, effect.ref] = None
                self._early(source, "fetch", now)
                if limits.fetches_per_s:
                    self._often(source, "fetches", now, 10 * SECOND, int(limits.fetches_per_s * 11))
            case Send() | Ping():
                if limits.messages_per_s:
                    beats = 2 if limits.ping_every_s else 1  # pings are never held back
                    self._often(source, "messages", now, SECOND, max(1, int(limits.messages_per_s)) + beats)

    def _early(self, source: str, what: str, now: int) -> None:
        before = self._not_before.get((source, what), 0)
        if now < before:
            self.fail(f"{source}: {what} {(before - now) / SECOND:.3f} s before the venue's own time")

    def _often(self, source: str, what: str, now: int, span: int, most: int) -> None:
        past = self._past.setdefault((source, what), deque())
        past.append(now)
        while past[0] <= now - span:
            past.popleft()
        if len(past) > most:
            self.fail(f"{source}: expected {most} {what} in {span / SECOND:g} s at most, found {len(past)}")

    # -- inputs ---------------------------------------------------------------------------------------------------------

    def ticked(self, now: int) -> None:
        """No storm of timers."""
        ticks = self._ticks
        ticks.append(now)
        while ticks[0] <= now - SECOND:
            ticks.popleft()
        if len(ticks) > TICKS_PER_S:
            self.fail(f"{len(ticks)} ticks in a second")

    def heard(self, source: str, now: int) -> None:
        """Bytes or a pong came."""
        self._heard[source] = now

    def opened(self, wire: Wire, now: int) -> None:
        """What arrived before belongs to another connection."""
        self._heard[wire.source] = now
        link = self.pump.links[wire.source]
        if link.pair is None:
            self._seen[shared(link)] = {}
        self._stands[wire.source] = wire.number

    def losing(self, source: str, now: int) -> None:
        """Who was seeing?"""
        link = self.pump.links[source]
        seen = self._seen[shared(link)]
        if link.pair is None:  # else the other line may go on
            self._seeing = [
                (stream, seen[pair].last)
                for pair, stream in link.streams.items()
                if stream.state in SEEING and pair in seen
            ]

    def lost(self, source: str, reason: str, now: int, retry_after_s: float) -> None:
        """Whoever was seeing is blind from the last message that arrived, and was told so."""
        self._dialing[source] = False
        self._stands.pop(source, None)
        self._flights = {key: None for key in self._flights if key[0] != source}
        if retry_after_s >= 0:
            self._not_before[source, "open"] = now + round(retry_after_s * SECOND)
        for stream, last in self._seeing:
            key = (stream.venue, stream.symbol, stream.channel)
            gap = self._gaps.get(key)
            if gap is None or gap.from_ts > last or gap.to_ts < last:
                self.fail(f"{key}: the connection was lost after a message at {last}, and no Gap begins there: {gap}")
            if stream.state in SEEING:
                self.fail(f"{key}: {stream.state} without a connection")
            assert gap is not None, "looked at above"
            if self._blind.get(key) is None:
                self._blind[key] = gap.from_ts
        self._seeing = []

    def gap(self, gap: Gap) -> None:
        """A Gap was published."""
        key = (gap.venue, gap.symbol, gap.channel)
        if self._blind.get(key) == gap.from_ts:
            del self._blind[key]
        if gap.to_ts < gap.from_ts:
            self.fail(f"a Gap that ends before it begins: {gap}")
        self._gaps[key] = gap

    def fetched(self, source: str, ref: str, status: int, now: int, retry_after_s: float) -> None:
        """A snapshot came, or none."""
        self._flights.pop((source, ref), None)
        if retry_after_s >= 0:
            self._not_before[source, "fetch"] = now + round(retry_after_s * SECOND)
        seen = self._seen[shared(self.pump.links[source])].get(("book", ref.partition(":")[2]))
        if status == 200 and seen is not None:
            seen.last = now  # a message like any other

    def framed(self, wire: Wire, data: bytes, now: int) -> None:
        """A message was judged: is what it leads to true?"""
        source = wire.source
        if self._stands.get(source) != wire.number:
            self.fail(f"{source}: bytes of connection {wire.number} were judged, {self._stands.get(source)} stands")
        link = self.pump.links[source]
        told = self.oracle(link).told.get(wire.number)
        tag = told.tags.get(data) if told is not None else None
        rows = self._seen[shared(link)]
        if tag is None:
            self._changed(link.leader, rows, now)
            return
        pair = (tag.channel, tag.raw)
        seen = rows.get(pair)
        if seen is None:
            seen = rows[pair] = Seen()
        if seen.last:
            seen.longest = max(seen.longest, now - seen.last)
        seen.last = now
        seen.count += 1
        number, place = wire.number, seen.places.get(wire.number, 0)
        if tag.whole and link.pair is None:
            seen.spoiled, seen.version = False, tag.version
        elif tag.place != place + 1:
            seen.spoiled = True
        seen.places[number] = max(place, tag.place)
        seen.versions[number] = tag.version if tag.whole else max(seen.versions.get(number, 0), tag.version)
        seen.version = max(seen.version, tag.version)
        if tag.channel == "book":
            stream = link.leader.books.get(tag.raw)
            if stream is not None and stream.state == "LIVE":
                (self._true if link.pair is None else self._one_of)(link.leader, stream, seen, tag)

    @staticmethod
    def _changed(link: Link, rows: dict[Pair, Seen], now: int) -> None:
        """A message that a fault has changed may still have been one: whose it was taken for spoke now."""
        for pair, stream in link.streams.items():
            if stream.last == now:
                rows.setdefault(pair, Seen()).last = now

    def _one_of(self, link: Link, stream: Stream, seen: Seen, tag: Tag) -> None:
        """Of two lines, a LIVE book is the venue's as one of them told it; by its number, where it has one."""
        sync, oracle = stream.sync, self.oracle(link)
        assert sync is not None, "cannot happen because it is a book"
        if stream.last < self.clock.now:
            return  # held back: the other line had said it, or its time lies behind. How long that may go on, freshness says
        versions = [tag.version, *seen.versions.values()]
        if sync.rule.numbers != "none":
            version = oracle.version(stream.raw, sync.seq)
            if version < 0:
                self.fail(f"{stream.venue} {stream.raw}: LIVE at {sync.seq}, where no change of the venue's ends")
            versions = [version]
        self.compared += 1
        ours = (sync.book.bids(10), sync.book.asks(10))
        if not any(ours == oracle.book(stream.raw, version, 10) for version in versions):
            self.fail(f"{stream.venue} {stream.raw}: LIVE at {sync.seq} on two lines, and the book is not the venue's")

    def _true(self, link: Link, stream: Stream, seen: Seen, tag: Tag) -> None:
        """A LIVE book is the venue's at that number."""
        sync = stream.sync
        assert sync is not None, "cannot happen because it is a book"
        rule = link.dialect.rule
        depth = 10 if seen.count % FULL_EVERY or rule.snapshot == "whole" else sync.depth
        oracle, version = self.oracle(link), seen.version
        if rule.numbers != "none":
            number = oracle.number(stream.raw, version)
            if sync.seq != number:
                self.fail(f"{stream.venue} {stream.raw}: LIVE at {sync.seq}, the venue told of {number}")
        elif rule.snapshot == "whole":
            version = tag.version
        elif seen.spoiled:
            depth = rule.checksum_depth
        self.compared += 1
        ours = (sync.book.bids(depth), sync.book.asks(depth))
        if ours != oracle.book(stream.raw, version, depth):
            # two messages that changed places, of which the older wholly covers the younger: its checksum holds, until the next message
            if seen.spoiled and tag.version < version and ours == oracle.book(stream.raw, tag.version, depth):
                return
            self.fail(
                f"{stream.venue} {stream.raw}: LIVE at {sync.seq}, and the book is not the venue's (change {version})"
            )

    # -- by the clock ---------------------------------------------------------------------------------------------------

    def inspect(self) -> None:
        """Called a few times a second."""
        now = self.clock.now
        for link in self.pump.links.values():
            session = link.session
            assert session is not None, "cannot happen because nothing is observed here"
            if session.state == "OPEN":
                self._alive(link, now)
            for pair, stream in link.streams.items():
                if stream.state != "LIVE":
                    continue
                key = (stream.venue, stream.symbol, stream.channel)
                if not any(line.session is not None and line.session.state == "OPEN" for line in link.lines):
                    self.fail(f"{key}: LIVE while its connection is {session.state}")
                if key in self._blind:
                    self.fail(f"{key}: LIVE again, and no second Gap said from where to where it was blind")
                if pair[0] in MEASURED:
                    self._fresh(stream, self._seen[shared(link)].get(pair), now, link.pair is not None)

    def _alive(self, link: Link, now: int) -> None:
        session = link.session
        assert session is not None, "asked before"
        bound = round((session.timing.ping_every_s + session.timing.pong_within_s) * SECOND) + SLACK
        silent = now - self._heard.get(link.source, now)
        if silent > bound + HEALTH and session.timing.ping_every_s:
            self.fail(
                f"{link.source}: OPEN although nothing came for {silent / SECOND:.2f} s, the bound is {bound / SECOND:g} s"
            )

    def _fresh(self, stream: Stream, seen: Seen | None, now: int, merged: bool) -> None:
        """Never LIVE beyond the bound: of two lines, since something of either was passed on."""
        if seen is None:
            self.fail(
                f"{stream.venue} {stream.symbol} {stream.channel}: LIVE, and nothing ever came on this connection"
            )
            return
        bound = max(3 * SECOND, 5 * seen.longest * 9 // 8)
        if not stream.known:
            bound = max(bound, default(stream.channel))
        else:
            bound = max(bound, stream.longest, 5 * stream.longest * 9 // 8)
        silent = now - (max(stream.last, stream.awaited) if merged else seen.last)
        if silent > bound + SLACK + 10 * MS:
            text = f"nothing for {silent / SECOND:.2f} s, the bound is {bound / SECOND:.2f} s"
            self.fail(f"{stream.venue} {stream.symbol} {stream.channel}: LIVE although {text}")
