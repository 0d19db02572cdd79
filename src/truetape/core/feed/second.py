"""Where the second line of a connection goes, and how it is called.

Next door: `plan.py` lays out the first lines; `core.route.pair` makes one feed of both.
"""

from __future__ import annotations

from truetape.core.feed.plan import Feed
from truetape.core.feed.venue import Endpoint


def second_line(feed: Feed, source: str, first: Endpoint) -> tuple[str, Endpoint]:
    """The other line of a connection: `<name>b`, to an address of its own where there is one, carrying the same."""
    home = next((url for url in feed.line_urls if url != feed.url), feed.url)
    urls = [endpoint.url for endpoint in feed.dialect.endpoints(first.wants, home, feed.by_url)]
    return f"{source}b", Endpoint(urls[0], first.wants)
