"""What a simulated venue wants done with its connections, by whoever holds them. Next door: `venue.py` returns these."""

from __future__ import annotations

from typing import TypeAlias

from msgspec import Struct


class Say(Struct, frozen=True, gc=False):
    """Write these messages to a client, in this order; a `Piecemeal` one in fragments."""

    client: int
    frames: list[bytes]


class Hang(Struct, frozen=True, gc=False):
    """End a connection with a close frame; what was said before still leaves."""

    client: int
    code: int
    text: str = ""


class Cut(Struct, frozen=True, gc=False):
    """Break a connection without a word: the client sees 1006."""

    client: int


class Freeze(Struct, frozen=True, gc=False):
    """Neither read nor write on a connection any more, or again: half open."""

    client: int
    frozen: bool


class Beat(Struct, frozen=True, gc=False):
    """Send a protocol ping."""

    client: int


class Drip(Struct, frozen=True, gc=False):
    """Let a connection have so many bytes a second; 0: all, beginning with what waited."""

    client: int
    bytes_per_s: int


class Swap(Struct, frozen=True, gc=False):
    """Show another certificate from the next handshake on: one that is trusted as the first was, or not."""

    trusted: bool


Act: TypeAlias = Say | Hang | Cut | Freeze | Beat | Drip | Swap
"""To be done in the order given."""
