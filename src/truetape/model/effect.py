"""What a machine asks the world to do. Drivers apply effects; on a replay they are only counted."""

from __future__ import annotations

from typing import TypeAlias

from msgspec import Struct


class Open(Struct, frozen=True, gc=False):
    """Dial `url`. `{secret}` in it is a placeholder that the driver fills just before dialing."""

    source: str
    url: str


class Send(Struct, frozen=True, gc=False):
    """Write one text message. `{secret}` in it is filled by the driver after the bytes were recorded."""

    source: str
    data: bytes


class Ping(Struct, frozen=True, gc=False):
    """Write a protocol ping; its pong comes back as `Sampled(name="pong")` with the round trip in ns.

    Where bytes waited for the socket before it, that comes back at once, as `Sampled(name="unsent")`.
    """

    source: str


class Close(Struct, frozen=True, gc=False):
    """End a connection. `abort` drops it at once, without a close handshake: the peer is believed dead or wrong.

    `final`: in whatever state it is, nothing more is to be heard of it, nor of fetches for it: no `Lost` follows, and its name is free.
    """

    source: str
    reason: str
    abort: bool = False
    final: bool = False


class Doubt(Struct, frozen=True, gc=False):
    """The last message could not be read: hang up if it broke the WebSocket protocol, as text that is no UTF-8 does."""

    source: str


class Fetch(Struct, frozen=True, gc=False):
    """GET `url`; the answer comes back as `Fetched` with the same `ref`."""

    source: str
    ref: str
    url: str


Effect: TypeAlias = Open | Send | Ping | Close | Doubt | Fetch
