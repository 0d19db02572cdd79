"""From what is wanted of a feed to connections: which address carries which subscriptions.

Names are stable: a connection is `<feed>-<n>`, counted over the feed's addresses; wants are in the order of their symbols.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from msgspec import Struct

from truetape.core.feed.session import Timing
from truetape.core.feed.venue import Dialect, Endpoint, Limits, Want

CONNECTION_MAX = 500
"""Default ceiling of symbols on one connection: the founding stress test saw Python clients degrade beyond 600 to 700."""


class Feed(Struct, frozen=True):
    """One feed, resolved: a dialect and all that is wanted of it. `label` stands as `venue` on its events."""

    name: str
    label: str
    venue: str
    dialect: type[Dialect]
    url: str
    rest_url: str
    wants: tuple[Want, ...]
    names: dict[str, str]
    timing: Timing = Timing()
    by_url: bool = False
    per_connection: int = 0
    depth: int = 0


def split(wants: Sequence[Want], limits: Limits, per_connection: int) -> list[list[Want]]:
    """Cut wants into connections: no more symbols on one than `per_connection`, no more wants than the venue allows.

    Wants of one symbol that stand together stay together, unless the venue allows fewer wants on a connection than there are.
    """
    symbols_max = per_connection or CONNECTION_MAX
    wants_max = limits.wants_per_connection or len(wants)
    parts: list[list[Want]] = []
    symbols = symbols_max
    for _, group in groupby(wants, key=lambda want: want.raw):
        members = list(group)
        for start in range(0, len(members), wants_max):
            piece = members[start : start + wants_max]
            if symbols >= symbols_max or len(parts[-1]) + len(piece) > wants_max:
                parts.append([])
                symbols = 0
            parts[-1] += piece
            symbols += 1
    return parts


def connections(feed: Feed) -> list[tuple[str, Endpoint]]:
    """The connections that a feed needs, each with its name and what it carries."""
    by_symbol = sorted(
        feed.wants, key=lambda want: want.raw
    )  # keeps the channels of one symbol together, and is stable
    layout: list[tuple[str, Endpoint]] = []
    for endpoint in feed.dialect.endpoints(by_symbol, feed.url, feed.by_url):
        for part in split(endpoint.wants, feed.dialect.limits, feed.per_connection):
            url = feed.dialect.endpoints(part, feed.url, feed.by_url)[0].url
            layout.append((f"{feed.name}-{len(layout) + 1}", Endpoint(url, part)))
    return layout
