"""What a sink asks of a message bus. Next door: `sink.py` drives it, `nats.py` and `redis.py` are such."""

from __future__ import annotations

from typing import Protocol

Row = tuple[str, bytes]


class BusError(Exception):
    """The server refused or cannot be used: what was expected, what it said."""


class Bus(Protocol):
    """A connection to a server. Any call may raise anything that the library, the socket or the server come up with."""

    size_max: int  # bytes of one message
    confirmed: int  # rows that the server has, of those written since `open`, in order

    async def open(self) -> None:
        """Connect, or raise."""

    async def write(self, rows: list[Row]) -> None:
        """Hand over (subject, payload); they may wait in buffers."""

    async def confirm(self) -> None:
        """Return when the server has all that was written; asks whether it is there where that is nothing."""

    async def close(self) -> None:
        """Let go, whatever state it is in; never hangs."""
