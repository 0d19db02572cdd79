"""One connection as the pump sees it: its session, its dialect, the streams that it carries, and their counters.

Next door: `pump.py` feeds it; `core.feed.session` drives it; `core.feed.health` judges its streams.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Any, TypeAlias

from msgspec import Struct

from truetape.core.book.sync import BookSync
from truetape.core.book.whole import make
from truetape.core.feed.cadence import Pool, PoolState
from truetape.core.feed.delay import Histogram
from truetape.core.feed.desk import SnapshotDesk
from truetape.core.feed.drift import Drift, wire
from truetape.core.feed.health import Stream
from truetape.core.feed.plan import Feed
from truetape.core.feed.session import Session
from truetape.core.feed.venue import Dialect, Want
from truetape.model.event import Book, Counted

if TYPE_CHECKING:
    from truetape.core.route.pair import Pair

Handlers: TypeAlias = "dict[type, Callable[[Link, Any, int], None]]"
"""Who judges what a message said, by its class."""

SAMPLE_EVERY = 1024
"""One frame in so many is read again, generically, for what a typed decode does not see; and the first of each channel."""

_wire = cache(wire)


class VigilState(Struct, array_like=True):
    """What is remembered of a connection's silences, for a checkpoint."""

    hangs: int = 0
    hung_at: int = 0
    pools: dict[str, PoolState] = {}
    hear_at: int = 0


class Vigil:
    """What `watch.py` remembers of a connection: how often and when it was hung up for its silence, and the pools by channel and market."""

    __slots__ = ("hangs", "hear_at", "hung_at", "pools")

    def __init__(self, saved: VigilState | None = None) -> None:
        kept = saved if saved is not None else VigilState()
        self.hangs = kept.hangs
        self.hung_at = kept.hung_at
        self.hear_at = kept.hear_at
        self.pools = {key: Pool.load(row) for key, row in kept.pools.items()}

    def save(self) -> VigilState:
        """For a checkpoint."""
        return VigilState(
            self.hangs, self.hung_at, {key: pool.save() for key, pool in self.pools.items()}, self.hear_at
        )


class _Deaf(dict[type, Callable[["Link", Any, int], None]]):
    """Handlers of a connection that was given up."""

    def __missing__(self, kind: type) -> Callable[[Link, Any, int], None]:
        return lambda link, event, now: None


class Link:
    """The pump's room for one connection. `session` is None where a capture is only observed."""

    __slots__ = (
        "books", "counts", "decode", "delay", "desk", "dialect", "drift", "extra", "feed", "fresh", "handlers", "heir", "label",
        "leaving", "line", "pair", "parked", "session", "source", "streams", "unsampled", "url", "vigil",
    )  # fmt: skip

    def __init__(self, source: str, feed: Feed, url: str, session: Session | None, handlers: Handlers) -> None:
        self.source = source
        self.handlers = handlers
        self.pair: Pair | None = None  # where another connection carries the same: `line` 0 or 1 of the two
        self.line = 0
        self.parked = False  # it was replaced for its age; `heir` carries what it did
        self.heir: Link | None = None
        self.leaving = 0  # when the venue announced that it will cut it
        self.feed = feed
        self.label = feed.label
        self.url = url
        self.session = session
        self.extra: Want | None = (
            None  # what it was opened for while running; it is hung up once nothing is wanted of it
        )
        self.counts = Counted()
        self.delay = Histogram()
        self.drift = Drift(_wire(feed.dialect))
        self.vigil = Vigil()
        self.unsampled = 0  # frames until the next that is read again for drift
        self.desk = SnapshotDesk(feed.dialect.limits.fetches_per_s)
        self.streams: dict[tuple[str, str], Stream] = {}
        self.books: dict[
            str, Stream
        ] = {}  # those of `streams` that are books, by raw symbol: the hot path's shorter way
        self.fresh: Callable[[], Dialect] = lambda: feed.dialect(feed.label, feed.names, url)
        self.dialect: Dialect
        self.renew()

    def renew(self) -> None:
        """A connection opened: what the dialect remembered of the last one is void."""
        self.dialect = self.fresh()
        self.leaving = 0
        self.decode = self.dialect.decode
        if self.session is not None:
            self.session.dialect = self.dialect

    @property
    def leads(self) -> bool:
        """Whether the streams that it carries are kept here."""
        return not self.parked and (self.pair is None or self.pair.leader is self)

    @property
    def leader(self) -> Link:
        """Where the streams are kept."""
        if self.heir is not None:
            return self.heir.leader
        return self if self.pair is None else self.pair.leader

    @property
    def lines(self) -> list[Link]:
        """All connections that carry the same."""
        return [self] if self.pair is None else [link for link in self.pair.links if not link.parked]

    def park(self, heir: Link | None) -> None:
        """It is not used any more: whatever still comes from it is not heard."""
        self.parked, self.heir = True, heir
        self.handlers = _Deaf()
        self.streams, self.books = {}, {}

    def add(self, want: Want, now: int) -> Stream:
        """Make room for one subscription."""
        sync = make(self.dialect.rule, want.depth) if want.channel == "book" else None
        return self.put(Stream(self.label, self.source, want, sync, now))

    def put(self, stream: Stream) -> Stream:
        """Carry this stream."""
        self.streams[stream.channel, stream.raw] = stream
        if stream.sync is not None:
            self.books[stream.raw] = stream
        return stream

    def drop(self, want: Want) -> Stream | None:
        """Forget one subscription; returns it, None if there was none."""
        if want.channel == "book":
            self.books.pop(want.raw, None)
        return self.streams.pop((want.channel, want.raw), None)

    def book_streams(self) -> list[Stream]:
        """The streams that are books."""
        return list(self.books.values())


def picture(stream: Stream, sync: BookSync, depth: int) -> Book:
    """The whole book as an event, whatever it is worth."""
    book = sync.book
    return Book(
        stream.venue, stream.symbol, stream.raw, stream.last_ts, stream.last, book.bids(depth), book.asks(depth), True, -1, sync.seq,
        depth=sync.trusted_depth,
    )  # fmt: skip
