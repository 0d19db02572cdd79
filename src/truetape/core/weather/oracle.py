"""What is true: the venue's book after every change, and which change each message told of.

The market is watched where it moves, and each client's counterpart where it words a change, so that every message has a `Tag`: its place
among what this client was told of this subscription, and the market's number that it leads to. Whatever a fault then does to messages
(drops, doubles, delays them), the tags that arrive say what was lost and what a true book looks like now.
Next door: `watch.py` compares.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, cast

from msgspec import Struct

from truetape.core.feed.counterpart import Answer, Change, Counterpart, Ladder, Listed, Native, Steps, Subscribed
from truetape.core.sim.market import FIRST_SEQ, Market, copy_of
from truetape.model.event import Level

Pair = tuple[str, str]
"""(channel, raw symbol)."""

WHOLE = (b'{"channel":"book","type":"snapshot"', b'{"cmd":"depth"')
"""How whole books begin that answer a subscribe."""


class Tag(Struct, frozen=True, gc=False):
    """One message: of which subscription, its place among those that this client was sent, and how many changes of the market it tells of."""

    channel: str
    raw: str
    place: int
    version: int
    whole: bool


class WatchedMarket(Market):
    """A market that remembers every change, so that its books can be had as they were after any of them."""

    def __init__(self, *args: Any, **named: Any) -> None:
        super().__init__(*args, **named)
        self.changes: dict[str, list[Change]] = {raw: [] for raw in self.listed}
        self.opening = {raw: (copy_of(row.bids), copy_of(row.asks)) for raw, row in self.listed.items()}

    def step(self, now: int, orders: int = 1) -> Change:
        """As `Market.step`."""
        change = super().step(now, orders)
        self.changes[change.raw].append(change)
        return change

    def calm(self) -> None:
        """From now on every symbol is equally busy."""
        self._weights = [float(i + 1) for i in range(len(self._weights))]


class Replica:
    """The true book of one symbol, after any of its changes."""

    def __init__(self, market: WatchedMarket, raw: str) -> None:
        self._changes = market.changes[raw]
        self._listed = market.listed[raw]
        self._opening = market.opening[raw]
        self._bids, self._asks = (copy_of(side) for side in self._opening)
        self._version = 0

    def at(self, version: int, depth: int) -> tuple[list[Level], list[Level]]:
        """Bids and asks after so many changes, `depth` of them (0 all)."""
        if version < self._version:
            self._bids, self._asks = (copy_of(side) for side in self._opening)
            self._version = 0
        while self._version < version:
            change = self._changes[self._version]
            _put(self._bids, change.bids)
            _put(self._asks, change.asks)
            self._version += 1
        instrument = self._listed.instrument
        ticks, lots = 10**instrument.price_decimals, 10**instrument.size_decimals
        bids, asks = self._bids.top(depth), self._asks.top(depth)
        return [(p / ticks, s / lots) for p, s in bids], [(p / ticks, s / lots) for p, s in asks]


def _put(side: Ladder, levels: list[Steps]) -> None:
    for price, size in levels:
        side.put(price, size)


class Told:
    """What one client was told: tags by the bytes of the message."""

    def __init__(self) -> None:
        self.tags: dict[bytes, Tag] = {}
        self.places: dict[Pair, int] = {}

    def tell(self, channel: str, raw: str, version: int, data: bytes, whole: bool = False) -> None:
        """One message was worded."""
        place = self.places[channel, raw] = self.places.get((channel, raw), 0) + 1
        self.tags[data] = Tag(channel, raw, place, version, whole)


class Witness:
    """Stands in a counterpart's place before one client, and remembers what it words."""

    def __init__(self, inner: Counterpart, changes: Mapping[str, list[Change]], told: Told) -> None:
        self._inner = inner
        self._changes = changes
        self._told = told

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def received(self, data: bytes, now: int) -> list[Answer]:
        """Whole books that answer a subscribe are tagged too."""
        answers = self._inner.received(data, now)
        raw = ""
        for answer in answers:
            if isinstance(answer, Subscribed):
                raw = answer.raw
            elif isinstance(answer, bytes) and raw and answer.startswith(WHOLE):
                self._told.tell("book", raw, len(self._changes[raw]), answer, whole=True)
        return answers

    def encode(self, change: Change, now: int) -> list[Native]:
        """Books and trades are tagged."""
        frames = self._inner.encode(change, now)
        for channel, data in frames:
            if channel in ("book", "trade"):
                self._told.tell(channel, change.raw, len(self._changes[change.raw]), data)
        return frames


class Oracle:
    """One venue's truth. `told` has what each client was told, by its number."""

    def __init__(self, market: WatchedMarket) -> None:
        self.market = market
        self.told: dict[int, Told] = {}
        self._replicas: dict[str, Replica] = {}
        self._listening = 0

    @contextmanager
    def listening(self, client: int) -> Iterator[None]:
        """Whatever is worded inside is for this client."""
        self._listening = client
        yield
        self._listening = 0

    def kind(self, inner: type[Counterpart]) -> type[Counterpart]:
        """The counterpart that a venue is to use in place of `inner`."""
        return cast("type[Counterpart]", Kind(inner, self._witness))

    def _witness(self, inner: Counterpart) -> Witness:
        told = self.told[self._listening] = Told()
        return Witness(inner, self.market.changes, told)

    def book(self, raw: str, version: int, depth: int) -> tuple[list[Level], list[Level]]:
        """The true book after so many changes."""
        replica = self._replicas.get(raw)
        if replica is None:
            replica = self._replicas[raw] = Replica(self.market, raw)
        return replica.at(version, depth)

    def version(self, raw: str, number: int) -> int:
        """After how many changes the venue's own number was this, the latest; -1 never."""
        changes = self.market.changes[raw]
        found = (at + 1 for at in reversed(range(len(changes))) if changes[at].seq == number)
        return next(found, 0 if number == FIRST_SEQ else -1)

    def number(self, raw: str, version: int) -> int:
        """The venue's own number after so many changes."""
        return self.market.changes[raw][version - 1].seq if version else FIRST_SEQ


class Kind:
    """A class of counterparts, whose instances are watched."""

    def __init__(self, inner: type[Counterpart], witness: Callable[[Counterpart], Witness]) -> None:
        self._inner = inner
        self._witness = witness

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def __call__(self, listed: Mapping[str, Listed], key: str = "") -> Witness:
        return self._witness(self._inner(listed, key))
