"""Which keys a server may show: pins of its certificate's public key, checked after the TLS handshake and before anything is sent.

    handshake done --the leaf's key is one of the pins--> go on        --it is not--> WrongPin, nothing was sent (report only: told, go on)

A pin is `sha256/` and the base64 of the SHA-256 of the certificate's SubjectPublicKeyInfo (RFC 7469, 2.4), so it outlives a renewal that
keeps the key. The usual checks (chain, name, time) come first and hold as well. The check sits in the context's SSLObject: asyncio,
uvloop and aiohttp all make one for each connection; aiofastnet speaks to OpenSSL by itself, and is not used with pins.
Next door: `dial.py` and `http.py` connect; `app/tls.py` makes contexts from a feed's configuration.
"""

from __future__ import annotations

import base64
import ssl
from collections.abc import Callable, Sequence
from hashlib import sha256
from typing import Any

DAY_S = 86_400


class WrongPin(ssl.SSLError):
    """The certificate's key is none of those expected. Says which were, which came, from where, and what to do."""

    def __str__(self) -> str:
        return str(self.args[-1])


class Pins:
    """The pins of one feed. `tell(found, text)` hears of a key that is not among them, whether it is refused or not."""

    def __init__(
        self, expected: Sequence[str], *, report_only: bool = False, tell: Callable[[str, str], None] = lambda *_: None
    ) -> None:
        self.expected = tuple(expected)
        self.report_only = report_only
        self.tell = tell
        self.found = ""
        """The pin of the last certificate that was seen; empty before the first."""

    @property
    def matched(self) -> bool | None:
        """Whether the last certificate's key was expected; None before the first."""
        return self.found in self.expected if self.found else None

    def check(self, certificate: bytes | None, host: str) -> None:
        """The server's certificate, DER. Raises WrongPin."""
        self.found = pin(certificate) if certificate else "no certificate"
        if self.found in self.expected:
            return
        text = (
            f"{host}: expected a certificate with one of the keys {', '.join(self.expected)}, found {self.found}; if the venue"
            " announced new keys put that in pins, else somebody is between you and the venue"
        )
        self.tell(self.found, text)
        if not self.report_only:
            raise WrongPin(1, text)


def guard(context: ssl.SSLContext, pins: Pins) -> ssl.SSLContext:
    """The same context, whose connections are checked against the pins as soon as their handshake is done."""

    class Checked(ssl.SSLObject):
        def do_handshake(self) -> None:
            super().do_handshake()
            pins.check(self.getpeercert(True), str(self.server_hostname))

    context.sslobject_class = Checked
    return context


def pin(certificate: bytes) -> str:
    """`sha256/<base64>` of the public key in a DER certificate. Raises ValueError on bytes that are none."""
    return "sha256/" + base64.b64encode(sha256(_key(certificate)).digest()).decode()


def days_left(tls: Any, now_s: float) -> float | None:
    """How many days the peer's certificate is still valid; None without TLS, or where it was not verified."""
    certificate = tls.getpeercert() if tls is not None else None
    if not certificate or "notAfter" not in certificate:
        return None
    return (ssl.cert_time_to_seconds(str(certificate["notAfter"])) - now_s) / DAY_S


def tls_version(transport: Any) -> str:
    """Of a picows transport: `TLSv1.3`, or empty without TLS."""
    found = transport.underlying_transport.get_extra_info("ssl_object") if transport is not None else None
    return str(found.version() or "") if found is not None else ""


def _key(certificate: bytes) -> bytes:
    """SubjectPublicKeyInfo, whole: Certificate -> TBSCertificate -> after version, serial, algorithm, issuer, validity, subject."""
    body, _ = _inside(certificate, 0)
    place, _ = _inside(certificate, body)
    if certificate[place] == 0xA0:  # [0] version, absent in X.509 v1
        place = _inside(certificate, place)[1]
    for _ in range(5):
        place = _inside(certificate, place)[1]
    return certificate[place : _inside(certificate, place)[1]]


def _inside(der: bytes, place: int) -> tuple[int, int]:
    """Where the value of the element at `place` begins and ends."""
    try:
        length, start = der[place + 1], place + 2
        if length & 0x80:
            count = length & 0x7F
            length, start = int.from_bytes(der[start : start + count], "big"), start + count
    except IndexError:
        raise ValueError("expected a certificate in DER, found too few bytes") from None
    if start + length > len(der):
        raise ValueError("expected a certificate in DER, found one that was cut short")
    return start, start + length
