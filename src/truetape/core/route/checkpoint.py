"""The pump's state at the start of a segment: all that later events, gaps and the digest depend on.

`save` is called between two records; `load` puts a fresh pump of the same configuration there. Timers, outboxes and the snapshots that
are asked for are part of it: what they send changes what a dialect remembers, and with it what later frames are taken for.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from msgspec import Struct

from truetape.core.feed.circuit import Circuit
from truetape.core.feed.desk import DeskState
from truetape.core.feed.due import SessionState
from truetape.core.feed.health import StreamState
from truetape.core.feed.hours import Hours, Table
from truetape.core.feed.venue import Endpoint, Want
from truetape.core.route import pair_state
from truetape.core.route.link import Link, Vigil, VigilState
from truetape.core.route.pair import Pair
from truetape.core.route.pair_state import PairState
from truetape.core.route.pump import Pump
from truetape.core.route.roster import KeptFeed
from truetape.model.event import Market


class LinkState(Struct, array_like=True):
    """One connection; its streams in the order in which they are told of things."""

    source: str
    session: SessionState | None
    memory: bytes
    desk: DeskState
    drift: bytes
    unsampled: int
    streams: list[StreamState]
    vigil: VigilState
    feed: str = ""
    url: str = ""
    extra: Want | None = None
    parked: bool = False
    heir: str = ""
    leaving: int = 0


class PumpState(Struct, array_like=True):
    """Everything. `chunk` holds the events that the digest's link does not cover yet."""

    digest: bytes
    chunk: list[Market]
    by_kind: dict[str, int]
    next_health: int
    links: list[LinkState]
    pairs: list[PairState] = []
    circuits: dict[str, list[Circuit]] = {}
    hours: list[Table] = []
    feeds: list[KeptFeed] = []


_ENCODE = msgspec.msgpack.Encoder().encode
_DECODE = msgspec.msgpack.Decoder(PumpState).decode


def save(pump: Pump) -> bytes:
    """The pump's state as bytes; the pump is not changed."""
    links = []
    for link in pump.links.values():
        session = link.session.save() if link.session is not None else None
        memory = _ENCODE(getattr(link.dialect, "memory", None))
        streams = [stream.save() for stream in link.streams.values()]
        links.append(
            LinkState(
                link.source,
                session,
                memory,
                link.desk.save(),
                _ENCODE(link.drift.memory),
                link.unsampled,
                streams,
                link.vigil.save(),
                link.feed.name,
                link.url,
                link.extra,
                link.parked,
                link.heir.source if link.heir is not None else "",
                link.leaving,
            )
        )
    digest = pump.digest
    return _ENCODE(
        PumpState(
            digest.link,
            digest.chunk,
            digest.by_kind,
            pump.next_health,
            links,
            [pair_state.save(pair) for pair in pump.pairs],
            {name: circuits.save() for name, circuits in pump.circuits.items()},
            [hours.table for hours in pump.judge.hours.values()],
            pump.orders.roster.save(),
        )
    )


def digest_of(state: bytes) -> bytes:
    """The digest's link in a saved state."""
    return _DECODE(state).digest


def load(pump: Pump, state: bytes) -> None:
    """Put a fresh pump of the same configuration into a saved state. Raises msgspec.DecodeError on bytes that are none."""
    saved = _DECODE(state)
    pump.digest.link, pump.digest.by_kind = saved.digest, saved.by_kind
    pump.digest.chunk[:] = saved.chunk  # the pump holds on to this very list
    pump.next_health = saved.next_health
    pump.orders.roster.load(saved.feeds, saved.next_health)
    for kept in saved.links:  # what was opened while running; a second line comes with its first
        feed = pump.orders.feeds.get(kept.feed)
        if kept.extra is not None and feed is not None and kept.source not in pump.links:
            pump.orders.lay(kept.source, feed, Endpoint(kept.url, []), saved.next_health, kept.extra)
    for name, rows in saved.circuits.items():
        if name in pump.circuits:
            pump.circuits[name].load(rows)
            pump.circuits[name] = pump.circuits.pop(name)  # in the order in which they came to be
    for table in saved.hours:
        pump.judge.hours.setdefault(table.market, Hours(table.market)).told(table)
    for kept in saved.links:
        pump.rollover.revive(kept.source, kept.source[:-1])  # it succeeded one of its name, for that one's age
    standing = {(pair.links[0].source, pair.links[1].source): pair for pair in pump.pairs}
    for row in saved.pairs:
        pair = standing.get(row.sources) or pump.rollover.restore(*row.sources)
        if pair is not None:
            pair_state.load(pair, row)
            standing[row.sources] = pair
    _order(
        pump,
        [kept.source for kept in saved.links],
        [standing[row.sources] for row in saved.pairs if row.sources in standing],
    )
    for kept in saved.links:
        link = pump.links.get(kept.source)
        if link is not None:
            _load(pump, link, kept)


def _order(pump: Pump, sources: Sequence[str], pairs: Sequence[Pair]) -> None:
    """What is due at the same time is done in the order in which connections and pairs came to be."""
    known = dict.fromkeys(sources)
    links = {source: pump.links[source] for source in known if source in pump.links}
    links |= {source: link for source, link in pump.links.items() if source not in known}
    pump.links.clear()
    pump.links.update(links)
    pump.pairs[:] = [*pairs, *(pair for pair in pump.pairs if pair not in pairs)]


def _load(pump: Pump, link: Link, kept: LinkState) -> None:
    link.renew()
    memory = getattr(link.dialect, "memory", None)
    if memory is not None:
        setattr(link.dialect, "memory", msgspec.msgpack.decode(kept.memory, type=type(memory)))  # noqa: B010
    if link.session is not None and kept.session is not None:
        link.session.load(kept.session)
    link.desk.load(kept.desk)
    link.drift.memory = msgspec.msgpack.decode(kept.drift, type=type(link.drift.memory))
    link.unsampled, link.leaving = kept.unsampled, kept.leaving
    link.vigil = Vigil(kept.vigil)
    configured = link.streams
    link.streams, link.books = {}, {}
    for row in kept.streams:
        link.feed.names[row.want.raw] = row.want.symbol  # as the command did that added it
        stream = configured.get((row.want.channel, row.want.raw))
        if stream is None or stream.want != row.want:
            stream = link.add(row.want, row.since)
            pump.judge.connect(link, stream)
        else:
            link.put(stream)
        stream.load(row)
    if kept.parked:
        link.park(pump.links.get(kept.heir))
