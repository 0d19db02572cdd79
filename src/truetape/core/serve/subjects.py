"""Where on a bus an event goes: `truetape.<kind>.<venue>.<symbol>`, safe for NATS and Redis alike.

A notice goes where the data go that it speaks of, in order with them: who reads the trades of one symbol reads what is missing among them.
A notice about a connection or the process goes to `truetape.status.<venue>.<name>`. Next door: `frames.py` encodes what is sent there.
"""

from __future__ import annotations

from collections.abc import Container
from urllib.parse import quote

from truetape.core.route.mailbox import Key
from truetape.model.event import NOTICES, Gap, Lagged, Status

SAFE = "/:@+$=,"
EMPTY = "_"


def token(text: str) -> str:
    """One part of a subject. What a bus forbids or reads as a pattern (dots, stars, blanks, controls, …) is percent-encoded as in URLs."""
    return quote(text, safe=SAFE).replace(".", "%2E").replace("~", "%7E") if text else EMPTY


def subject(prefix: str, kind: str, venue: str, symbol: str) -> str:
    """Its whole name; an empty part is an underscore."""
    return f"{prefix}.{kind}.{token(venue)}.{token(symbol)}"


def place(event: Gap | Lagged | Status, topics: Container[Key]) -> Key:
    """The topic that a notice belongs to: of its channel where this box has that, else `status`."""
    if isinstance(event, Lagged):
        return (event.topic, event.venue, event.symbol)
    channel = event.channel.partition(".")[0]
    for kind in (channel, "book_delta") if channel == "book" else (channel,):
        if (kind, event.venue, event.symbol) in topics:
            return (kind, event.venue, event.symbol)
    return (NOTICES, event.venue, event.symbol)
