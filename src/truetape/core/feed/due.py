"""When each thing of a session is next due, and a session as a checkpoint keeps it.

Next door: `session.py`, which sets and obeys these times.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

from msgspec import Struct

from truetape.core.feed.acks import AcksState
from truetape.core.feed.pace import PaceState
from truetape.core.feed.venue import Want
from truetape.core.feed.watch import WatchState

State: TypeAlias = Literal["IDLE", "DIALING", "OPEN", "WAITING", "STOPPED"]


class Due(Struct):
    """When each thing is next due, ns; 0 never."""

    dial: int = 0  # waiting: dial; dialing or hung up: the driver never answered
    healthy: int = 0  # open: old enough to vouch for its address


class SessionState(Struct, array_like=True):
    """One session, for a checkpoint."""

    state: State
    reason: str
    attempts: int
    reconnects: int
    opened_at: int
    last_rx: int
    garbage: int
    draws: int
    watch: WatchState
    due: Due
    wants: list[Want]
    acks: AcksState
    outbox: list[bytes]
    pace: PaceState
    place: int = 0
