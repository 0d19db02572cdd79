"""Virtual time: a heap of (when, number, action). What is due at the same instant happens in the order in which it was asked for."""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush
from typing import TypeAlias

SECOND = 1_000_000_000
MS = 1_000_000
Action: TypeAlias = Callable[[], None]


class Clock:
    """Time that passes only when something happens. `events` counts what has happened."""

    __slots__ = ("_count", "_heap", "events", "now")

    def __init__(self, now: int) -> None:
        self.now = now
        self.events = 0
        self._heap: list[tuple[int, int, Action]] = []
        self._count = 0

    def at(self, when: int, action: Action) -> None:
        """Do it then; what is already past is done next."""
        self._count += 1
        heappush(self._heap, (max(when, self.now), self._count, action))

    def after(self, ns: int, action: Action) -> None:
        """Do it so much later."""
        self.at(self.now + ns, action)

    def every(self, ns: int, action: Action) -> None:
        """Do it again and again, first so much later."""

        def again() -> None:
            action()
            self.at(self.now + ns, again)

        self.at(self.now + ns, again)

    def run(self, until: int) -> None:
        """Let time pass up to and including `until`."""
        heap = self._heap
        while heap and heap[0][0] <= until:
            self.now, _, action = heappop(heap)
            self.events += 1
            action()
        self.now = until
