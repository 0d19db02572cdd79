"""How the connections of a feed are made, from its table."""

from __future__ import annotations

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
