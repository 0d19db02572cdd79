"""Orders to a running pump: subscribe to more or to less, on connections that stand or on one more; and how a connection comes to be.

An order is a record like any input, so that replay follows it at the same point. A connection that was opened while running is hung up once
nothing is wanted of it, and may be opened again. Who decides which connection carries what: `core.feed.plan` at start, `app.wants` later.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Literal

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from truetape.core.feed.circuit import Circuits
from truetape.core.feed.hours import Hours, Table
from truetape.core.feed.plan import Feed
from truetape.core.feed.second import second_line
from truetape.core.feed.session import Session
from truetape.core.feed.venue import Dialect, Endpoint, Want
from truetape.core.route.judge import Judge
from truetape.core.route.link import Link
from truetape.core.route.pair import Pair
from truetape.core.route.roster import ROSTER_VERBS, FeedOf, Roster
from truetape.model.effect import Effect

UNWANTED = "nothing is wanted of it any more"


class Order(Struct, frozen=True, forbid_unknown_fields=True):
    """A command's body, as JSON in the journal. `open` makes a connection of that name, for the feed of that name."""

    do: Literal["want", "unwant", "open", "retry"]
    source: str
    wants: list[Want] = []
    feed: str = ""


class Told(Struct, frozen=True, tag_field="do", tag="hours", forbid_unknown_fields=True):
    """A command's body that tells when a market trades."""

    table: Table


class _Verb(Struct):
    do: str = ""


_VERBS = msgspec.json.Decoder(_Verb)
_TOLD = msgspec.json.Decoder(Told)
_ORDERS = msgspec.json.Decoder(Order)


class Orders:
    """Makes and changes what the links carry; `effects` is the pump's own list."""

    def __init__(
        self,
        links: dict[str, Link],
        pairs: list[Pair],
        circuits: dict[str, Circuits],
        feeds: Sequence[Feed],
        judge: Judge,
        effects: list[Effect],
        seed: int,
        feed_of: FeedOf,
    ) -> None:
        self.links = links
        self.pairs = pairs
        self.circuits = circuits
        self.feeds = {feed.name: feed for feed in feeds}
        self.seed = seed
        self.judge = judge
        self.effects = effects
        self.roster = Roster(self, feed_of)

    def lay(self, source: str, feed: Feed, endpoint: Endpoint, now: int, extra: Want | None = None) -> Link:
        """A new connection with as many lines as the feed has, not dialed yet. `extra`: what it is opened for while running."""
        link = self._add(source, feed, endpoint, now, extra)
        if feed.lines > 1:
            name, homes = second_line(feed, source)
            second = self._link(name, feed, homes, endpoint, extra)
            self.pairs.append(Pair(self.judge, link, second))
        return link

    def _add(self, source: str, feed: Feed, endpoint: Endpoint, now: int, extra: Want | None) -> Link:
        link = self._link(source, feed, (feed.url, *feed.alternates), endpoint, extra, endpoint.url)
        for want in endpoint.wants:
            self.judge.connect(link, link.add(want, now))
        return link

    def _link(
        self, source: str, feed: Feed, homes: tuple[str, ...], endpoint: Endpoint, extra: Want | None, url: str = ""
    ) -> Link:
        """A connection that carries these, without streams of its own. `homes` are the addresses that it may be made to, the best first."""
        by_url = feed.by_url and extra is None
        found = [feed.dialect.endpoints(_alike(endpoint, extra), base, by_url)[0].url for base in homes[bool(url) :]]
        first, *others = [url, *found] if url else found
        key = feed.name if homes[0] == feed.url else f"{feed.name} {homes[0]}"
        circuits = self.circuits.setdefault(key, Circuits(homes))
        luck = Random(f"{self.seed}:{source}")
        dialect = feed.dialect(feed.label, feed.names, first)
        session = Session(source, dialect, first, endpoint.wants, feed.timing, luck, others, circuits)
        link = self.links[source] = Link(source, feed, first, session, self.judge.handlers)
        link.extra = extra
        return link

    def like(self, source: str, old: Link) -> Link:
        """A connection that carries what another does, without streams of its own. What was counted under its name goes on."""
        known = self.links.get(source)
        wants = old.session.wants if old.session is not None else []
        homes = (old.feed.url, *old.feed.alternates)
        link = self._link(source, old.feed, homes, Endpoint(old.url, wants), old.extra, old.url)
        if known is not None:
            link.counts, link.delay = known.counts, known.delay
        return link

    def follow(self, body: bytes, now: int) -> None:
        """Do what a command says. Raises what garbage may raise, before anything was changed."""
        verb = _VERBS.decode(body).do
        if verb in ROSTER_VERBS:
            self.roster.follow(body, now)
            return
        if verb == "hours":
            table = _TOLD.decode(body).table
            self.judge.hours.setdefault(table.market, Hours(table.market)).told(table)
            return
        order = _ORDERS.decode(body)
        if order.do == "open":
            self._open(order, now)
            return
        link = self.links[order.source].leader
        if order.do == "want":
            _check(link.fresh(), order.wants)
            self._want(link, order.wants, now)
        elif order.do == "retry":
            self._retry(link, now)
        else:
            self._unwant(link, order.wants, now)

    def _open(self, order: Order, now: int) -> None:
        if not order.wants:
            raise ValueError("expected wants for a new connection, found none")
        feed = self.feeds[order.feed]
        endpoint = feed.dialect.endpoints(order.wants, feed.url, False)[0]
        _check(feed.dialect(feed.label, feed.names, endpoint.url), order.wants)
        link = self.links.get(order.source)
        if link is None:
            link = self.lay(order.source, feed, Endpoint(endpoint.url, []), now, order.wants[0])
        elif link.feed is not feed or link.url != endpoint.url or not unused(link):
            raise ValueError(f"expected the name of a new connection, found {order.source!r}, which there is")
        self._want(link.leader, order.wants, now)
        for line in link.lines:
            if line.session is not None:
                self.effects += line.session.start(now)

    def _want(self, link: Link, wants: list[Want], now: int) -> None:
        wants = self._named(link, wants)
        for want in wants:
            link.feed.names[want.raw] = want.symbol
            stream = link.streams.get((want.channel, want.raw))
            if stream is None:
                self.judge.connect(link, link.add(want, now))
            elif stream.state == "CLOSED":  # it was refused before
                stream.last = 0
                self.judge.tell(stream.enter("SYNCING", "waiting for the first data", now))
        for line in link.lines:
            if line.session is not None:
                self.effects += line.session.want(wants, now)

    def _retry(self, link: Link, now: int) -> None:
        """What was stopped is tried again, with all that it was to carry."""
        if link.session is None or link.session.state != "STOPPED":
            return
        for want in link.session.wants:
            stream = link.streams.get((want.channel, want.raw))
            if stream is not None and stream.state == "CLOSED":
                self.judge.tell(stream.enter("SYNCING", "tried again", now))
        self.effects += link.session.retry(now)

    def _named(self, link: Link, wants: list[Want]) -> list[Want]:
        """One spelling of the venue's has one name in a feed: that of whoever subscribed first."""
        siblings = [other for other in self.links.values() if other.feed is link.feed]
        names = {stream.raw: stream.symbol for other in siblings for stream in other.streams.values()}
        return [replace(want, symbol=names.setdefault(want.raw, want.symbol)) for want in wants]

    def _unwant(self, link: Link, wants: list[Want], now: int) -> None:
        for want in wants:
            stream = link.drop(want)
            if link.pair is not None:
                link.pair.forget((want.channel, want.raw))
            if stream is not None:
                if stream.sync is not None:
                    link.desk.answered(want.raw)
                    stream.sync.fail("CLOSED", "unsubscribed")
                self.judge.tell(stream.enter("CLOSED", "unsubscribed", now))
        for line in link.lines:
            if line.session is not None:
                self.effects += line.session.unwant(wants, now)

    def dismiss(self, session: Session) -> None:
        """Hang up where nothing is wanted any more; what is being dialed is waited for, for its socket could not be told from the next."""
        if session.state in ("OPEN", "WAITING"):
            self.effects += session.stop(UNWANTED)


def _alike(endpoint: Endpoint, extra: Want | None) -> list[Want]:
    """What tells where it goes: what it carries, or was opened for."""
    return endpoint.wants if extra is None else [extra]


def unused(link: Link) -> bool:
    """Whether this connection was opened while running and has been hung up since, so that its name is free again."""
    return link.extra is not None and not link.leader.streams and stopped(link)


def stopped(link: Link) -> bool:
    """Whether none of its lines will be dialed again by itself."""
    return all(line.session is not None and line.session.state == "STOPPED" for line in link.lines)


def _check(dialect: Dialect, wants: list[Want]) -> None:
    """Raise where the venue's dialect has no words for these: tried on a dialect that nobody needs."""
    if not all(want.raw and want.symbol and want.channel.partition(".")[0] in dialect.channels for want in wants):
        raise ValueError("expected wants with a symbol, of channels that the venue has")
    dialect.subscribe(wants)
