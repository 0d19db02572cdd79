"""To whom the data port is open: its certificate, and the refusal to listen beyond this machine without what protects it."""

from __future__ import annotations

import ssl
from typing import Literal

from truetape.app.config import ConfigError
from truetape.app.config_serve import ServeConfig

LOOPBACK = ("127.0.0.1", "::1", "localhost")


def certificate(how: ServeConfig) -> ssl.SSLContext | None:
    """The server's; None where it has none. Raises ConfigError."""
    if how.tls is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(how.tls.cert_file, how.tls.key_file)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(
            f"serve.tls: expected a certificate and its key in PEM ({how.tls.cert_file}, {how.tls.key_file}): {error}"
        ) from None
    return context


def refuse_exposure(how: ServeConfig, *, tokens: bool) -> None:
    """Whoever listens beyond this machine has TLS and tokens, or says in words which of them is missing on purpose."""
    missing = [what for what, there in (("no TLS", how.tls is not None), ("no tokens", tokens)) if not there]
    words: Literal["", "no TLS", "no tokens", "no TLS and no tokens"] = " and ".join(missing)  # type: ignore[assignment]
    if how.host in LOOPBACK or not missing or how.accept_risk == words:
        return
    raise ConfigError(
        f"serve.host: {how.host} can be reached from other machines, and there is {words}: add what is missing, listen on 127.0.0.1, or write "
        f'accept_risk = "{words}" in [serve]'
    )
