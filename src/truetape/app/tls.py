"""TLS contexts for the dials: the system's certificates or a CA file of your own, and the pins that guard them."""

from __future__ import annotations

import ssl

from truetape.app.config import ConfigError, FeedConfig
from truetape.io.net.pins import Pins, guard
from truetape.io.obs import log


def context(ca_file: str) -> ssl.SSLContext:
    """A client context that trusts this CA file only, or the system's where none is named. Raises ConfigError."""
    try:
        return ssl.create_default_context(cafile=ca_file or None)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(f"ca_file {ca_file}: expected certificates in PEM: {error}") from None


def of_feed(feed: FeedConfig) -> tuple[ssl.SSLContext | None, Pins | None]:
    """A feed's context, None where the system's will do; and its pins, where it has some. Raises ConfigError."""
    if not feed.pins:
        return (context(feed.ca_file) if feed.ca_file else None), None
    said: dict[str, None] = {}

    def tell(found: str, text: str) -> None:
        if found not in said:  # once for each key, not for each dial
            said[found] = None
            log.warning("pin only reported" if feed.pins_report_only else "pin refused", feed=feed.name, why=text)

    pins = Pins(feed.pins, report_only=feed.pins_report_only, tell=tell)
    return guard(context(feed.ca_file), pins), pins
