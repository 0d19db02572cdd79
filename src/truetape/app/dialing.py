"""How the connections of each feed are made, from its table."""

from __future__ import annotations

from collections.abc import Iterable

from truetape.app import tls
from truetape.app.config import FeedConfig
from truetape.app.keys import Keys
from truetape.io.net.driver import Dialing


def dialing(feed: FeedConfig, keys: Keys) -> Dialing:
    """Its secret, certificates, pins, proxy and timings. Raises ConfigError."""
    secret = keys.reader(feed.secret) if feed.secret else None
    context, pins = tls.of_feed(feed)
    timing = {
        name: value for name in ("handshake_s", "dial_s", "close_s") if (value := getattr(feed, name)) is not None
    }
    return Dialing(
        secret=secret,
        proxy=feed.proxy or None,
        ssl_context=context,
        pins=pins,
        **timing,
    )


class Dialings(dict[str, Dialing]):
    """By the feeds' names; and the keys that their dials read."""

    def __init__(self, feeds: Iterable[FeedConfig]) -> None:
        self.keys_read = Keys()
        super().__init__({feed.name: self.make(feed) for feed in feeds})

    def make(self, feed: FeedConfig) -> Dialing:
        """How this one would be dialed. Raises ConfigError."""
        return dialing(feed, self.keys_read)
