"""Where the second line of a connection goes, and how it is called.

Next door: `plan.py` lays out the first lines; `core.route.pair` makes one feed of both.
"""

from __future__ import annotations

from truetape.core.feed.plan import Feed


def second_line(feed: Feed, source: str) -> tuple[str, tuple[str, ...]]:
    """The other line of a connection: `<name>b`, and the addresses that it may be made to, first one that is not the first line's."""
    homes = [*feed.line_urls, *feed.alternates, feed.url]
    first = next((home for home in homes if home != feed.url), feed.url)
    return f"{source}b", (first, *dict.fromkeys(home for home in (feed.url, *feed.alternates) if home != first))
