"""Which subscriptions were asked for and are not confirmed yet: how often, and by when they must be.

    asked --its message left--> awaited --confirmed, or data came--> gone        awaited --too late--> asked again by the session

Next door: `session.py`, which asks again or hangs up.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeAlias

Pair: TypeAlias = tuple[str, str]
"""(channel, raw symbol)."""
AcksState: TypeAlias = tuple[int, list[tuple[str, str, int, int]]]
"""For a checkpoint: the deadline; channel, raw, times and by of each."""


class Acks:
    """Confirmations that are still to come. `within` 0: they may take for ever."""

    __slots__ = ("_within", "deadline", "pairs")

    def __init__(self, within: int) -> None:
        self._within = within
        self.pairs: dict[Pair, tuple[int, int]] = {}  # -> times asked, to be confirmed by (0: its message has not left)
        self.deadline = 0  # never later than the first that is due; 0 where none is

    def asked(self, pairs: Iterable[Pair]) -> None:
        """These were put in a message."""
        for pair in pairs:
            self.pairs[pair] = (self.pairs.get(pair, (0, 0))[0] + 1, 0)

    def left(self, now: int) -> None:
        """All messages have left: the time of those that waited for it begins."""
        if self._within:
            for pair, (times, by) in self.pairs.items():
                if not by:
                    self.pairs[pair] = (times, now + self._within)
            self._look()

    def confirmed(self, channel: str, raw: str) -> None:
        """One, or where `raw` is empty all of a channel, or where that is empty too, all."""
        if raw:
            self.pairs.pop((channel, raw), None)
        else:
            self.pairs = {pair: kept for pair, kept in self.pairs.items() if channel and pair[0] != channel}
        if not self.pairs:
            self.deadline = 0

    def hold(self, until: int) -> None:
        """The venue asked for a pause: what is awaited has so much longer."""
        self.pairs = {pair: (times, by and max(by, until + self._within)) for pair, (times, by) in self.pairs.items()}
        self._look()

    def late(self, now: int) -> dict[Pair, int]:
        """Those whose time is up, with how often they were asked for. They are awaited no longer unless they are asked for again."""
        found = {pair: times for pair, (times, by) in self.pairs.items() if by and by <= now}
        for pair, times in found.items():
            self.pairs[pair] = (times, 0)
        self._look()
        return found

    def clear(self) -> None:
        """The connection went."""
        self.pairs.clear()
        self.deadline = 0

    def save(self) -> AcksState:
        """For a checkpoint."""
        return self.deadline, [(*pair, times, by) for pair, (times, by) in self.pairs.items()]

    def load(self, saved: AcksState) -> None:
        """Put back what `save` gave."""
        self.deadline = saved[0]
        self.pairs = {(channel, raw): (times, by) for channel, raw, times, by in saved[1]}

    def _look(self) -> None:
        self.deadline = min([by for _, by in self.pairs.values() if by], default=0)
