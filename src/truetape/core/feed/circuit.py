"""Which address of a feed to dial: one that fails again and again is left alone for a while, and the others are tried.

    CLOSED --FAILURES_MAX in a row--> OPEN --COOL_S over, one connection probes--> HALF_OPEN --it stays healthy--> CLOSED
                                       ^----------------------------------------- it fails ----'

One `Circuits` is shared by the connections of a feed. With a single address nothing is refused: there is nowhere else to go, and the waits
between dials are long enough; its state is only told. Connections that live on an alternate stay there until they end by themselves.
Next door: `session.py` asks before each dial, and tells what became of it.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

SECOND = 1_000_000_000
FAILURES_MAX = 5
"""In a row, of all connections of the feed together."""
COOL_S = 30.0


class Circuit(Struct, array_like=True):
    """One address. `until`: when an open circuit may be probed; `probe`: which connection does."""

    state: str = "CLOSED"
    failures: int = 0
    until: int = 0
    probe: str = ""


class Circuits:
    """The addresses of one feed, by their position: the first is preferred."""

    __slots__ = ("bases", "rows")

    def __init__(self, bases: Sequence[str]) -> None:
        self.bases = list(bases)
        self.rows = [Circuit() for _ in self.bases]

    def pick(self, source: str, now: int) -> int:
        """The position to dial now, -1 where all circuits are open (see `free_at`)."""
        if len(self.rows) == 1:
            return 0
        for place, row in enumerate(self.rows):
            if row.state == "CLOSED":
                return place
            if now >= row.until or (row.state == "HALF_OPEN" and row.probe == source):
                row.state, row.probe, row.until = "HALF_OPEN", source, now + round(COOL_S * SECOND)
                return place
        return -1

    @property
    def free_at(self) -> int:
        """When the next circuit may be probed, ns; a probe that is under way is waited for as long as a cool-down would last."""
        return min(row.until for row in self.rows)

    def failed(self, place: int, source: str, now: int) -> None:
        """A dial failed, or a connection ended before it was healthy."""
        row = self.rows[place]
        row.failures += 1
        if row.state == "HALF_OPEN" and row.probe != source:
            return  # dialed before it opened
        if row.state == "HALF_OPEN" or row.failures >= FAILURES_MAX:
            row.state, row.probe, row.until = "OPEN", "", now + round(COOL_S * SECOND)

    def clean(self, place: int) -> bool:
        """Nothing is held against this address."""
        return self.rows[place] == Circuit()

    def healthy(self, place: int) -> None:
        """A connection lasted."""
        self.rows[place] = Circuit()

    def left(self, source: str) -> None:
        """This connection dials no more: another may probe in its place."""
        for row in self.rows:
            if row.probe == source:
                row.state, row.probe = "OPEN", ""

    def save(self) -> list[Circuit]:
        """For a checkpoint."""
        return self.rows

    def load(self, saved: Sequence[Circuit]) -> None:
        """Put back what `save` gave, where the addresses are as many."""
        if len(saved) == len(self.rows):
            self.rows = list(saved)
