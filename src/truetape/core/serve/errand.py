"""What a client's machine asks of whoever drives it. Next door: `reader.py` returns these, `io.net.uplink` does them."""

from __future__ import annotations

from typing import TypeAlias

from msgspec import Struct

from truetape.model.event import Market
from truetape.model.wire import ToGateway


class Dial(Struct, frozen=True):
    """Make a connection, with the token as it is now; then `opened`, or `failed`."""


class Say(Struct, frozen=True):
    """Send this."""

    message: ToGateway


class Give(Struct, frozen=True):
    """Hand these to the consumer."""

    events: list[Market]


class Stand(Struct, frozen=True):
    """A subscription stands with these topics: keys (kind, venue, symbol)."""

    topics: list[tuple[str, str, str]]


class Renew(Struct, frozen=True):
    """Read the token anew and call `renewed`."""


class Drop(Struct, frozen=True):
    """Hang up, if there is anything to hang up; nothing more is heard of that connection."""


class Ended(Struct, frozen=True):
    """It is over: `code` as the gateway closed (0 where it did not), `reason` for a program, `text` for a person."""

    code: int
    reason: str
    text: str


Effect: TypeAlias = Dial | Say | Give | Stand | Renew | Drop | Ended
