"""Which connection of a running feed carries one more subscription: by the rule and within the limits that laid out the feed.

Nothing that runs is moved. A subscription goes where its symbol is already, else to the connection that `core.feed.spread` picks among
those with room, else to a connection that is opened for it, where venue, plan and config allow one more. Next door: `wants.py` holds who
wants what, and gives the orders.
"""

from __future__ import annotations

from collections.abc import Iterable

from truetape.app.config import ConfigError
from truetape.core.feed.plan import Feed, address, allowed, plan_of, stem, subscription
from truetape.core.feed.spread import UNIT, Item, Room, bound, pick, put
from truetape.core.feed.venue import Want
from truetape.core.route.link import Link
from truetape.core.route.orders import stopped, unused


class _Place:
    """One connection as it will be once what was placed is asked for."""

    def __init__(self, source: str, link: Link | None) -> None:
        self.source = source
        self.link = link  # None: it is to be opened
        self.held: dict[tuple[str, str], None] = {}  # what the venue counts, each once
        self.raws: dict[str, None] = {}

    def hold(self, feed: Feed, want: Want) -> None:
        self.held[subscription(feed.dialect, want)] = None
        self.raws[want.raw] = None

    def fits(self, feed: Feed, want: Want, most: int) -> bool:
        return not most or len({**self.held, subscription(feed.dialect, want): None}) <= most


class Places:
    """The rooms of one feed now; what is placed is counted in, so that a whole list can be tried before anything is asked for."""

    def __init__(self, feed: Feed, links: Iterable[Link]) -> None:
        self.feed = feed
        self._limits = allowed(feed)
        self._homes: dict[tuple[str, str], _Place] = {}
        self._places: dict[str, _Place] = {}
        self._stopped = ""
        for link in links:
            if link.feed is not feed or link.line or unused(link):
                continue
            place = self._places[link.source] = _Place(link.source, link)
            for pair, stream in link.leader.streams.items():
                self._homes[pair] = place
                if stream.state != "CLOSED":
                    place.hold(feed, stream.want)
            if link.session is not None and stopped(link):
                self._stopped = self._stopped or f"{link.source} has stopped: {link.session.reason}"

    def place(self, want: Want) -> tuple[str, bool]:
        """The name of the connection, and whether it must be opened. Raises ConfigError where there can be none."""
        home = self._homes.get((want.channel, want.raw))
        opens = False
        if home is None:
            home, opens = self._find(want)
            self._homes[want.channel, want.raw] = home
        home.hold(self.feed, want)
        return home.source, opens

    def _find(self, want: Want) -> tuple[_Place, bool]:
        self._refuse(want)
        feed, limits = self.feed, self._limits
        url = address(feed, want)
        fitting = [place for place in self._places.values() if place.link is None or _takes(place.link, url)]
        name = stem(feed, url)
        fitting = [place for place in fitting if place.source.rpartition("-")[0] == name]
        for place in fitting:
            if want.raw in place.raws and place.fits(feed, want, limits.subscriptions):
                return place, False
        rooms = {_number(place.source): place for place in fitting}
        free = [Room(number, len(p.raws), len(p.held), len(p.raws) * UNIT) for number, p in rooms.items()]
        even = bound(sum(room.symbols for room in free) + 1, len(free)) * UNIT
        room = pick(Item(want.raw, 1), free, limits.symbols, limits.subscriptions, even)
        if room is not None:
            put(Item(want.raw, 1), room)
            return rooms[room.number], False
        return self._more(want, name), True

    def _more(self, want: Want, name: str) -> _Place:
        """A connection to open."""
        limits = self._limits
        if self._stopped:
            raise ConfigError(f"{self._named(want)}: {self._stopped}")
        if limits.connections and len(self._places) >= limits.connections:
            each = f"{limits.subscriptions:,} subscriptions, " if limits.subscriptions else ""
            raise ConfigError(
                f"{self._named(want)}: all connections are full ({each}{limits.symbols:,} symbols on each), and"
                f" {limits.sources['connections']} allows no more than {limits.connections}; unsubscribe something, or name it in the"
                " feed's configuration in another's place"
            )
        number = 1
        while f"{name}-{number}" in self._places:
            number += 1
        place = self._places[f"{name}-{number}"] = _Place(f"{name}-{number}", None)
        return place

    def _refuse(self, want: Want) -> None:
        """What the plan or the whole feed's limit does not allow on any connection."""
        plan, limits = plan_of(self.feed), self._limits
        if plan is not None and plan.channels and want.channel.partition(".")[0] not in plan.channels:
            raise ConfigError(
                f"{self._named(want)}: plan {self.feed.plan} has no {want.channel}, but {', '.join(plan.channels)}"
            )
        held = {pair for place in self._places.values() for pair in place.held}
        if limits.total and len(held | {subscription(self.feed.dialect, want)}) > limits.total:
            raise ConfigError(
                f"{self._named(want)}: {limits.sources['total']} allows {limits.total:,} subscriptions, and so many there are"
            )

    def _named(self, want: Want) -> str:
        return f"{self.feed.label}:{want.symbol} {want.channel}"


def _takes(link: Link, url: str) -> bool:
    """Whether it stands at this address, lives, and listens to commands (streams that are named in a URL are all it carries)."""
    return link.url == url and not stopped(link)


def _number(source: str) -> int:
    return int(source.rpartition("-")[2])
