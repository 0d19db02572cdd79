"""When each thing of a session is next due, and a session as a checkpoint keeps it.

Next door: `session.py`, which sets and obeys these times.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

from msgspec import Struct

from truetape.core.feed.acks import AcksState
from truetape.core.feed.pace import PaceState
from truetape.core.feed.venue import Want

State: TypeAlias = Literal["IDLE", "DIALING", "OPEN", "WAITING", "STOPPED"]


class Due(Struct):
    """When each thing is next due, ns; 0 never."""

    dial: int = 0  # waiting: dial; dialing or hung up: the driver never answered
    ping: int = 0
    app_ping: int = 0
    pong: int = 0
    patience: int = 0  # no link is judged before


class SessionState(Struct, array_like=True):
    """One session, for a checkpoint."""

    state: State
    reason: str
    attempts: int
    reconnects: int
    opened_at: int
    last_rx: int
    rtt_ns: int
    offset_ns: int | None
    garbage: int
    draws: int
    pinged: int
    due: Due
    wants: list[Want]
    acks: AcksState
    outbox: list[bytes]
    pace: PaceState
