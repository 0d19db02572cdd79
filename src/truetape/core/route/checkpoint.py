"""The pump's state at the start of a segment: all that later events, gaps and the digest depend on.

`save` is called between two records; `load` puts a fresh pump of the same configuration there. Timers, outboxes and the snapshots that
are asked for are part of it: what they send changes what a dialect remembers, and with it what later frames are taken for.
"""

from __future__ import annotations

import msgspec
from msgspec import Struct

from truetape.core.feed.health import StreamState
from truetape.core.feed.session import SessionState
from truetape.core.route.pump import Pump


class LinkState(Struct, array_like=True):
    """One connection."""

    source: str
    session: SessionState | None
    memory: bytes
    streams: list[StreamState]


class PumpState(Struct, array_like=True):
    """Everything."""

    digest: bytes
    by_kind: dict[str, int]
    next_health: int
    links: list[LinkState]


_ENCODE = msgspec.msgpack.Encoder().encode
_DECODE = msgspec.msgpack.Decoder(PumpState).decode


def save(pump: Pump) -> bytes:
    """The pump's state as bytes. Folds the digest's open chunk: a segment begins here, and replay folds at the same place."""
    pump.digest.fold()
    links = []
    for link in pump.links.values():
        streams = [stream.save() for stream in link.streams.values()]
        session = link.session
        links.append(
            LinkState(
                link.source, session.save() if session is not None else None, _ENCODE(getattr(link.dialect, "memory", None)), streams
            )
        )  # fmt: skip
    return _ENCODE(PumpState(pump.digest.link, pump.digest.by_kind, pump.next_health, links))


def digest_of(state: bytes) -> bytes:
    """The digest's link in a saved state."""
    return _DECODE(state).digest


def load(pump: Pump, state: bytes) -> None:
    """Put a fresh pump of the same configuration into a saved state. Raises msgspec.DecodeError on bytes that are none."""
    saved = _DECODE(state)
    pump.digest.link, pump.digest.by_kind = saved.digest, saved.by_kind
    pump.digest.chunk.clear()
    pump.next_health = saved.next_health
    for kept in saved.links:
        link = pump.links.get(kept.source)
        if link is None:
            continue
        link.renew()
        memory = getattr(link.dialect, "memory", None)
        if memory is not None:
            setattr(link.dialect, "memory", msgspec.msgpack.decode(kept.memory, type=type(memory)))  # noqa: B010
        if link.session is not None and kept.session is not None:
            link.session.load(kept.session)
        wanted = {(row.want.channel, row.want.raw) for row in kept.streams}
        for gone in [stream.want for key, stream in link.streams.items() if key not in wanted]:
            link.drop(gone)
        for row in kept.streams:
            key = (row.want.channel, row.want.raw)
            stream = link.streams.get(key)
            if stream is None:
                stream = link.add(row.want, row.since)
                pump.judge.connect(link, stream)
            stream.load(row)
