"""Where the second line of a connection goes, and how it is called.

Next door: `plan.py` lays out the first lines; `core.route.pair` makes one feed of both.
"""

from __future__ import annotations

from truetape.core.feed.plan import Feed, connections
from truetape.core.feed.venue import Endpoint


def second_line(feed: Feed, source: str) -> tuple[str, tuple[str, ...]]:
    """The other line of a connection: `<name>b`, and the addresses that it may be made to, first one that is not the first line's."""
    homes = [*feed.line_urls, *feed.alternates, feed.url]
    first = next((home for home in homes if home != feed.url), feed.url)
    return f"{source}b", (first, *dict.fromkeys(home for home in (feed.url, *feed.alternates) if home != first))


def lines(feed: Feed) -> list[tuple[str, Endpoint]]:
    """Every connection that the feed opens, the second line after its first, each with its address and what it carries. Raises Impossible."""
    rows = []
    for name, first in connections(feed):
        rows.append((name, first))
        if feed.lines > 1:
            called, homes = second_line(feed, name)
            url = feed.dialect.endpoints(first.wants, homes[0], feed.by_url)[0].url
            rows.append((called, Endpoint(url, first.wants)))
    return rows
