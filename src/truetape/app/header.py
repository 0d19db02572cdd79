"""What a journal's header keeps of the configuration: the feeds as they were resolved and laid out, enough to build the pump again, nothing
secret. The layout is kept, not made anew: a tape must not change its meaning when the rule of spreading does."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from msgspec import Struct

from truetape.app.dialects import Names, dialect
from truetape.core.feed.plan import Feed, Part
from truetape.core.feed.session import Timing
from truetape.core.feed.venue import Want


class KeptFeed(Struct, frozen=True):
    """One feed in a header."""

    name: str
    label: str
    venue: str
    url: str
    rest_url: str
    wants: tuple[Want, ...]
    names: dict[str, str]
    timing: Timing
    by_url: bool
    per_connection: int
    depth: int
    plan: str = ""
    connections: int = 0
    subscriptions_max: int = 0
    parts: tuple[Part, ...] = ()
    lines: int = 1
    line_urls: tuple[str, ...] = ()
    credential: str = ""
    alternates: tuple[str, ...] = ()
    market: str = ""


def encode_feeds(feeds: Sequence[Feed]) -> bytes:
    """Feeds -> JSON."""
    return msgspec.json.encode([_kept(feed) for feed in feeds])


def encode_feed(feed: Feed) -> bytes:
    """One feed -> JSON, for an order that adds it to a running pump."""
    return msgspec.json.encode(_kept(feed))


def _kept(feed: Feed) -> KeptFeed:
    return KeptFeed(
        feed.name, feed.label, feed.venue, feed.url, feed.rest_url, feed.wants, dict(feed.names), feed.timing, feed.by_url,
        feed.per_connection, feed.depth, feed.plan, feed.connections, feed.subscriptions_max, feed.parts, feed.lines, feed.line_urls,
        feed.credential, feed.alternates, feed.market,
    )  # fmt: skip


def decode_feeds(config: bytes) -> list[Feed]:
    """JSON -> feeds, with the dialects of the modules that the journal was recorded with. Raises UnknownVenue, msgspec.DecodeError."""
    return [_feed(row) for row in msgspec.json.decode(config, type=list[KeptFeed])]


def decode_feed(body: bytes) -> Feed:
    """JSON -> the feed that `encode_feed` wrote. Raises UnknownVenue, msgspec.DecodeError."""
    return _feed(msgspec.json.decode(body, type=KeptFeed))


def _feed(row: KeptFeed) -> Feed:
    kind = dialect(row.venue)
    names = Names(kind, row.url, row.names)
    return Feed(
        row.name, row.label, row.venue, kind, row.url, row.rest_url, row.wants, names, row.timing, row.by_url,
        row.per_connection, row.depth, row.plan, row.connections, row.subscriptions_max, row.parts, row.lines, row.line_urls,
        row.credential, row.alternates, market=row.market,
    )  # fmt: skip
