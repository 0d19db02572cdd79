"""What the journal holds: every input of the pump, in the order in which it was judged, and what was sent to the venues.

Records are arrays on the wire, their first element the kind's number, so that a batch of them is written and read by one
call. `source` names the connection (`kraken-1`) or feed; `now` is our clock in ns. Nothing here ever holds a secret: URLs are
kept without their query's secrets, and a secret in an outgoing frame is still a placeholder when it is recorded.
"""

from __future__ import annotations

from typing import TypeAlias

from msgspec import Struct

FRAME, OPENED, SENT, FETCHED, LOST, TICK, SAMPLED, COMMAND, HOLE = range(9)


class Frame(Struct, frozen=True, gc=False, array_like=True, tag=FRAME):
    """Bytes as received: one whole WebSocket message."""

    source: str
    now: int
    data: bytes


class Opened(Struct, frozen=True, gc=False, array_like=True, tag=OPENED):
    """A connection was established to `url` (shown without secrets)."""

    source: str
    now: int
    url: str


class Sent(Struct, frozen=True, gc=False, array_like=True, tag=SENT):
    """Bytes that we sent on a connection. Not an input: kept as evidence."""

    source: str
    now: int
    data: bytes


class Fetched(Struct, frozen=True, gc=False, array_like=True, tag=FETCHED):
    """An HTTP answer: `status` 0 where none came. `ref` is what the request was for, as the effect `Fetch` named it.

    `retry_after_s` is the venue's own time until the next request, -1 where it gave none (and in tapes older than the field).
    """

    source: str
    now: int
    ref: str
    status: int
    body: bytes
    retry_after_s: float = -1.0


class Lost(Struct, frozen=True, gc=False, array_like=True, tag=LOST):
    """A connection ended, or could not be made. `code` is the close code or HTTP status, 0 where there was none.

    `said` is the text of the close frame, or what the HTTP answer held (tapes older than the field have none).
    """

    source: str
    now: int
    reason: str
    code: int = 0
    retry_after_s: float = -1.0
    said: str = ""


class Tick(Struct, frozen=True, gc=False, array_like=True, tag=TICK):
    """Time passed: timers that were due fired here."""

    source: str
    now: int


class Sampled(Struct, frozen=True, gc=False, array_like=True, tag=SAMPLED):
    """A measurement that judgement may use: see `Pump.sampled`. Others are kept as evidence: resident memory (`rss`, bytes), loop lag."""

    source: str
    now: int
    name: str
    value: float


class Command(Struct, frozen=True, gc=False, array_like=True, tag=COMMAND):
    """An order to the pump, as JSON: subscribe, unsubscribe, instruments, toggles."""

    source: str
    now: int
    body: bytes


class Hole(Struct, frozen=True, gc=False, array_like=True, tag=HOLE):
    """Records are missing here: this many (-1 unknown), and why."""

    source: str
    now: int
    why: str
    records: int = -1


Record: TypeAlias = Frame | Opened | Sent | Fetched | Lost | Tick | Sampled | Command | Hole

NAMES = ("frame", "opened", "sent", "fetched", "lost", "tick", "sampled", "command", "hole")


class Header(Struct, frozen=True, omit_defaults=True):
    """What opens a segment: who wrote it, from which configuration, and the pump's state at that point.

    `first` is the number of the segment's first record (records are counted from 0 over the life of a journal).
    `state` is the pump's checkpoint, opaque here; empty in the first segment, where nothing has happened yet.
    """

    format: int
    version: str
    segment: int
    first: int
    now: int
    seed: int = 0
    config: bytes = b""
    venues: list[str] = []
    state: bytes = b""
