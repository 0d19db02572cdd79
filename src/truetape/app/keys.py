"""Credentials that a venue refused: when the value behind a reference has changed, what was stopped is tried again.

    dial --reads the reference--> remembered by its hash        venue refuses --> stopped --another value--> the order `retry`

Values are compared by hash, and never kept. Next door: `secrets.py` reads; `core.route.credential` stopped the connections.
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256

import msgspec

from truetape.app.secrets import Secret, SecretError
from truetape.core.route.orders import Order
from truetape.core.route.pump import Pump

EVERY = 4
"""A reference is read again on one beat in so many: about once a second, and only while something is stopped."""


class Keys:
    """The references of one gateway."""

    def __init__(self) -> None:
        self._used: dict[str, bytes] = {}
        self._beats = 0

    def reader(self, reference: str) -> Callable[[], str]:
        """What a dial asks for the value; it raises SecretError."""
        secret = Secret(reference)

        def read() -> str:
            value = secret.reveal()
            self._used[reference] = _print(value)
            return value

        return read

    def look(self, pump: Pump, command: Callable[[bytes], None]) -> None:
        """On each beat: is there another value for what was refused?"""
        self._beats += 1
        if self._beats % EVERY:
            return
        stopped = [
            link
            for link in pump.links.values()
            if link.feed.credential and link.session is not None and link.session.state == "STOPPED"
        ]
        changed = {link.feed.credential: False for link in stopped}
        for reference in changed:
            changed[reference] = self._changed(reference)
        for link in stopped:
            if changed[link.feed.credential]:
                command(order(link.source))

    def _changed(self, reference: str) -> bool:
        try:
            return _print(Secret(reference).reveal()) != self._used.get(reference)
        except SecretError:
            return False  # being replaced: the next look finds it


def order(source: str) -> bytes:
    """The order that tries a stopped connection again."""
    return msgspec.json.encode(Order("retry", source))


def _print(value: str) -> bytes:
    return sha256(value.encode()).digest()
