"""TLS contexts for the dials: the system's certificates, or a CA file of your own."""

from __future__ import annotations

import ssl

from truetape.app.config import ConfigError


def context(ca_file: str) -> ssl.SSLContext:
    """A client context that trusts this CA file only. Raises ConfigError."""
    try:
        return ssl.create_default_context(cafile=ca_file)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(f"ca_file {ca_file}: expected certificates in PEM: {error}") from None
