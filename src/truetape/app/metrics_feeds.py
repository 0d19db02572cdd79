"""The metrics of feeds: connections, messages, subscriptions, books. Next door: `metrics.py` has the others, and says how they are read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

from truetape.io.obs.metrics import Definition, Sample

if TYPE_CHECKING:
    from truetape.app.live import Gateway
    from truetape.core.route.link import Link

NS = 1_000_000_000
CONNECTIONS = ("IDLE", "DIALING", "OPEN", "WAITING", "STOPPED")
STATES = ("SYNCING", "LIVE", "QUIET", "STALE", "GAP", "RESYNC", "SUSPECT", "CLOSED")

DEFINITIONS: tuple[Definition, ...] = (
    Definition(
        "truetape_feed_connections", "gauge", "Connections to the venue, by state (OPEN is well).", ("feed", "venue", "state")
    ),
    Definition("truetape_feed_messages_total", "counter", "Messages that came.", ("feed", "venue")),
    Definition(
        "truetape_feed_messages_refused_total", "counter",
        "Messages, or parts of them, that told nothing: errors (did not decode), damaged (in part), ignored (channels that are not modelled).",
        ("feed", "venue", "reason"),
    ),
    Definition("truetape_feed_reconnects_total", "counter", "Connections that were made anew.", ("feed", "venue")),
    Definition("truetape_feed_rtt_seconds", "gauge", "The last round trip of a ping, the longest of all connections.", ("feed", "venue")),
    Definition("truetape_feed_certificate_days", "gauge", "How long the venue's certificate is valid still, the shortest.", ("feed", "venue")),
    Definition("truetape_feed_circuits_open", "gauge", "Addresses of the feed that are left alone after failures.", ("feed",)),
    Definition("truetape_feed_subscriptions", "gauge", "Subscriptions by state.", ("feed", "venue", "channel", "state")),
    Definition("truetape_feed_books", "gauge", "Order books by state.", ("feed", "venue", "state")),
    Definition("truetape_books_checksums_total", "counter", "Checksums compared, of present subscriptions.", ("feed", "venue", "result")),
    Definition("truetape_books_resyncs_total", "counter", "Books begun anew, of present subscriptions.", ("feed", "venue")),
)  # fmt: skip


def feeds(gateway: Gateway) -> Iterator[Sample]:
    """Summed over the connections of each feed."""
    by_feed: dict[tuple[str, str], list[Link]] = {}
    for link in gateway.pump.links.values():
        by_feed.setdefault((link.feed.name, link.label), []).append(link)
    days = gateway.driver.certificate_days
    for labels, links in by_feed.items():
        yield from _connections(labels, links)
        yield from _subscriptions(labels, links)
        valid = [days[link.source] for link in links if link.source in days]
        if valid:
            yield Sample("truetape_feed_certificate_days", labels, min(valid))
    for name, circuits in gateway.pump.circuits.items():
        yield Sample("truetape_feed_circuits_open", (name,), sum(row.state == "OPEN" for row in circuits.rows))


def _connections(labels: tuple[str, str], links: list[Link]) -> Iterator[Sample]:
    every = [link.session for link in links if link.session is not None]
    sessions = [link.session for link in links if link.session is not None and not link.parked]
    states = Counter[str](session.state for session in sessions)
    for state in CONNECTIONS:
        yield Sample("truetape_feed_connections", (*labels, state), states[state])
    yield Sample("truetape_feed_messages_total", labels, sum(link.counts.frames for link in links))
    for reason in ("errors", "damaged", "ignored"):
        count = sum(getattr(link.counts, reason) for link in links)
        yield Sample("truetape_feed_messages_refused_total", (*labels, reason), count)
    yield Sample("truetape_feed_reconnects_total", labels, sum(session.reconnects for session in every))
    trips = [session.watch.state.rtt_ns for session in sessions if session.watch.state.rtt_ns >= 0]
    if trips:
        yield Sample("truetape_feed_rtt_seconds", labels, max(trips) / NS)


def _subscriptions(labels: tuple[str, str], links: list[Link]) -> Iterator[Sample]:
    streams = [stream for link in links for stream in link.streams.values()]
    states = Counter((stream.channel.partition(".")[0], stream.state) for stream in streams)
    for channel in dict.fromkeys(channel for channel, _ in states):
        for state in STATES:
            yield Sample("truetape_feed_subscriptions", (*labels, channel, state), states[channel, state])
    books = Counter(stream.state for stream in streams if stream.sync is not None)
    for state in STATES:
        yield Sample("truetape_feed_books", (*labels, state), books[state])
    counts = [stream.sync.counts for stream in streams if stream.sync is not None]
    yield Sample("truetape_books_checksums_total", (*labels, "ok"), sum(row.checksums_ok for row in counts))
    yield Sample("truetape_books_checksums_total", (*labels, "failed"), sum(row.checksums_failed for row in counts))
    yield Sample("truetape_books_resyncs_total", labels, sum(row.resyncs for row in counts))
