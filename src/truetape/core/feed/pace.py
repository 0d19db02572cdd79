"""When the next message may leave: never more in any second than the venue allows, and none while it asked us to wait.

Next door: `session.py` asks before it sends anything, and tells of each message that left.
"""

from __future__ import annotations

from collections import deque
from typing import TypeAlias

SECOND = 1_000_000_000
WAIT_MAX_S = 86_400.0
"""A venue's own time is obeyed up to a day: what asks for more is a mistake, or no number at all."""
PaceState: TypeAlias = tuple[list[int], int, int]
"""For a checkpoint: when the last messages left, how many of the last were pings, and not before."""


class Pace:
    """Counts the last messages of one connection. `per_s` 0: no limit; below 1: one in `1 / per_s` seconds."""

    __slots__ = ("_pings", "_sent", "_span", "held")

    def __init__(self, per_s: float) -> None:
        most = max(1, int(per_s))
        self._span = round(most / per_s * SECOND) if per_s > 0 else 0
        self._sent: deque[int] = deque(maxlen=most)  # when the last messages left
        self._pings = 0  # how many of them in a row, up to now, were pings
        self.held = 0  # nothing leaves before

    @property
    def free_at(self) -> int:
        """From when on a message may leave, ns."""
        full = self._span and len(self._sent) == self._sent.maxlen
        return max(self.held, self._sent[0] + self._span if full else 0)

    def left(self, now: int) -> None:
        """A message left."""
        self._sent.append(now)
        self._pings = 0

    def pinged(self, now: int) -> None:
        """A ping left: a message too, but never held back. One place is kept from pings, or they could use up a small limit."""
        if self._pings + 1 < (self._sent.maxlen or 0):
            self._pings += 1
        elif self._pings:
            del self._sent[-self._pings]  # the oldest of them gives its place
        else:
            return
        self._sent.append(now)

    def hold(self, until: int) -> None:
        """The venue asked for a pause."""
        self.held = max(self.held, until)

    def renew(self) -> None:
        """A new connection counts from nothing; a pause was meant for us, and lasts."""
        self._sent.clear()
        self._pings = 0

    def save(self) -> PaceState:
        """For a checkpoint."""
        return list(self._sent), self._pings, self.held

    def load(self, saved: PaceState) -> None:
        """Put back what `save` gave."""
        self._sent.extend(saved[0])
        self._pings, self.held = saved[1:]
