"""Which feeds a pump runs: orders add, replace and remove them while it does, and a checkpoint knows which they are.

    order `feed` ─► laid out, told, dialed; of a name that there is: that one goes first, and what its streams are blind to goes over
    order `drop` ─► its streams are told (a Gap of what was seen, CLOSED), its connections end for good, and nothing of it stays

Nothing is heard of a connection after its feed went (`Close.final`), so that its name is free at once. Next door: `orders.py` makes the
connections, and decodes all other orders.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeAlias

import msgspec
from msgspec import Struct

from truetape.core.feed.plan import Feed, connections
from truetape.core.feed.second import second_line
from truetape.core.feed.venue import Endpoint
from truetape.core.route.link import Link
from truetape.model.effect import Close
from truetape.model.event import Status

if TYPE_CHECKING:
    from truetape.core.route.orders import Orders

REMOVED = "removed from the configuration"
CHANGED = "the configuration changed"
"""How the reasons of a `drop` and of a `feed` that replaces another begin."""
ROSTER_VERBS = ("feed", "drop")
FeedOf: TypeAlias = Callable[[bytes], Feed]
"""Reads a feed as an order has it: the app's, for only it knows the venues."""
_Blind = dict[tuple[str, str, str], tuple[int, int, str] | None]


class Fed(Struct, frozen=True, tag_field="do", tag="feed", forbid_unknown_fields=True):
    """A command's body: run this feed, in the place of the one of its name where there is one. `why` is said of that one's end."""

    feed: msgspec.Raw
    why: str = CHANGED


class Dropped(Struct, frozen=True, tag_field="do", tag="drop", forbid_unknown_fields=True):
    """A command's body: run the feed of this name no more."""

    feed: str
    why: str = REMOVED


class KeptFeed(Struct, array_like=True):
    """A feed that runs, for a checkpoint; `body` as it was ordered, empty where the journal's header has it."""

    name: str
    body: bytes = b""


_DECODE = msgspec.json.Decoder(Fed | Dropped).decode


def no_feeds(body: bytes) -> Feed:
    """Of pumps whose feeds are given for good."""
    raise ValueError(f"expected no order for a feed, found one of {len(body)} bytes")


class Roster:
    """Changes `orders.feeds`, and with it links, pairs, circuits and hours."""

    def __init__(self, orders: Orders, feed_of: FeedOf) -> None:
        self._orders = orders
        self._feed_of = feed_of
        self._bodies: dict[str, bytes] = {}
        self._changed = False

    def follow(self, body: bytes, now: int) -> None:
        """Do what a command says. Raises what garbage may raise, before anything was changed."""
        order = _DECODE(body)
        if isinstance(order, Dropped):
            feed = self._orders.feeds[order.feed]
            self._drop(feed, order.why, now)
            del self._orders.feeds[feed.name]
        else:
            self._feed(bytes(order.feed), order.why, now)
        self._bodies = {name: self._bodies[name] for name in self._orders.feeds if name in self._bodies}
        self._changed = True

    def _feed(self, body: bytes, why: str, now: int) -> None:
        orders = self._orders
        feed = self._feed_of(body)
        old = orders.feeds.get(feed.name)
        layout = connections(feed)
        for name in _names(feed, layout):
            if name in orders.links and orders.links[name].feed is not old:
                raise ValueError(f"expected names of new connections, found {name!r}, which there is")
        before = {source: link for source, link in orders.links.items() if link.feed is old}
        blind = self._drop(old, why, now) if old is not None else {}
        orders.feeds[feed.name] = feed
        self._bodies[feed.name] = body
        for source, endpoint in layout:
            link = orders.lay(source, feed, endpoint, now)
            for stream in link.streams.values():
                stream.blind = blind.get((stream.venue, stream.channel, stream.symbol))
                orders.judge.tell(stream.status(now))
        for source in _names(feed, layout):
            link = orders.links[source]
            if source in before:  # what is counted under a name never falls
                link.counts, link.delay = before[source].counts, before[source].delay
            if link.session is not None:
                orders.effects += link.session.start(now)

    def _drop(self, feed: Feed, why: str, now: int) -> _Blind:
        """End a feed in the sight of all; returns what its streams were blind to."""
        orders, blind = self._orders, _Blind()
        gone = [link for link in orders.links.values() if link.feed is feed]
        for link in gone:
            orders.judge.close(link, why, now)
            blind |= {(stream.venue, stream.channel, stream.symbol): stream.blind for stream in link.streams.values()}
        for link in gone:
            if not link.parked:
                orders.judge.tell(Status(link.label, link.source, link.url, now, "", "CLOSED", why, since=now))
            orders.effects.append(Close(link.source, why, final=True))
        self._forget(feed, gone)
        return blind

    def _forget(self, feed: Feed, gone: Sequence[Link]) -> None:
        """Nothing of it stays, its market's hours neither where nobody else goes by them."""
        orders = self._orders
        mine = [link.session.circuits for link in gone if link.session is not None]
        for name in [name for name, row in orders.circuits.items() if any(row is other for other in mine)]:
            del orders.circuits[name]
        orders.pairs[:] = [pair for pair in orders.pairs if pair.links[0].feed is not feed]
        for link in gone:
            del orders.links[link.source]
        hours = orders.judge.hours
        streams = [stream for link in orders.links.values() for stream in link.streams.values()]
        used = {stream.hours.market for stream in streams if stream.hours is not None}
        for market in [market for market in hours if market not in used]:
            del hours[market]

    # -- for a checkpoint -----------------------------------------------------------------------------------------------

    def save(self) -> list[KeptFeed]:
        """All that run; empty where they are still those of the journal's header."""
        return [KeptFeed(name, self._bodies.get(name, b"")) for name in self._orders.feeds] if self._changed else []

    def load(self, saved: Sequence[KeptFeed], now: int) -> None:
        """Have a fresh pump run these, without a word; their connections are put back afterwards."""
        if not saved:
            return
        orders, self._changed = self._orders, True
        standing = {row.name for row in saved if not row.body}
        for feed in list(orders.feeds.values()):
            if feed.name not in standing:
                self._forget(feed, [link for link in orders.links.values() if link.feed is feed])
                del orders.feeds[feed.name]
        for row in saved:
            feed = orders.feeds.pop(row.name) if not row.body else self._feed_of(row.body)
            orders.feeds[row.name] = feed
            if row.body:
                self._bodies[row.name] = row.body
                for source, endpoint in connections(feed):
                    orders.lay(source, feed, endpoint, now)


def _names(feed: Feed, layout: Sequence[tuple[str, Endpoint]]) -> list[str]:
    """Every connection's name, the second line's after its first."""
    rows = [(source, second_line(feed, source)[0]) if feed.lines > 1 else (source,) for source, _ in layout]
    return [name for row in rows for name in row]
