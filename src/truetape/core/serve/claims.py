"""Who a client is and what it may read: claims of a token, and patterns that entitle. Signatures are io's.

A pattern is `venue:SYMBOL/channel`; each part may be `*`, and what is left out is `*`: `*`, `kraken`, `kraken:BTC-USD`, `*:BTC-USD/trade`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Literal, TypeAlias

from msgspec import Struct

from truetape.core.route.router import Pattern
from truetape.model.event import NOTICES

Role: TypeAlias = Literal["reader", "trader", "ops", "admin"]
ROLES: tuple[Role, ...] = ("reader", "trader", "ops", "admin")
_PATTERN = re.compile(
    r"(?P<venue>\*|[A-Za-z0-9_.-]+)(?::(?P<symbol>\*|[A-Za-z0-9_.\-/=]+?))?(?:/(?P<channel>\*|[a-z_]+(?:\.\w+)?))?"
)


class BadPattern(ValueError):
    """A pattern that says nothing: names what was expected."""


class Claims(Struct, frozen=True):
    """What a token grants. `expires` ns, 0 for never; `id` is what revocation names, `key` the id of the key that signed it."""

    name: str
    role: Role = "reader"
    allow: tuple[str, ...] = ("*",)
    expires: int = 0
    id: str = ""
    key: str = ""

    @property
    def operates(self) -> bool:
        """Whether it may see how the gateway and its other clients are."""
        return self.role in ("ops", "admin")


EVERYONE = Claims("anonymous", "admin")
"""Where no token is asked for: a gateway on the loopback is its user's own."""


def covers_all(claims: Claims) -> bool:
    """Whether nothing has to be looked up: it may read everything."""
    return "*" in claims.allow


@lru_cache(maxsize=4096)
def parse(pattern: str) -> Pattern:
    """(channel, venue, symbol) of one pattern. Raises BadPattern."""
    found = _PATTERN.fullmatch(pattern)
    if found is None:
        raise BadPattern(
            f"expected a pattern such as *, kraken, kraken:BTC-USD or *:BTC-USD/trade, found {pattern[:80]!r}"
        )
    return found["channel"] or "*", found["venue"], found["symbol"] or "*"


def allows(allow: Iterable[str], wanted: Pattern) -> bool:
    """Whether one of the patterns covers all that is wanted: a star is covered by a star only. `book_delta` is the book; notices come
    with any channel."""
    channel, venue, symbol = wanted
    channel = "book" if channel == "book_delta" else channel
    for pattern in allow:
        c, v, s = parse(pattern)
        covered = channel == NOTICES or c.partition(".")[0] in ("*", channel.partition(".")[0])
        if covered and v in ("*", venue) and s in ("*", symbol):
            return True
    return False
