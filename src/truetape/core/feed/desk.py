"""Who gets a fresh snapshot, when: one request in flight for each book, at the venue's pace, patient where it fails.

    asked --due--> in flight --answered--> gone        in flight --failed, too late, or no fit--> asked again after a doubling wait

An answer that did not fit (a snapshot older than the changes) is asked for again at once the first time, and patiently from then on.
The same desk serves books that are fetched over REST and books that are resubscribed: the pump turns what is `due` into effects.
"""

from __future__ import annotations

from typing import TypeAlias

from truetape.core.feed.pace import WAIT_MAX_S

SECOND = 1_000_000_000
RETRY_FIRST_S = 1.0
RETRY_MAX_S = 60.0


DeskState: TypeAlias = tuple[int, dict[str, int], dict[str, int], dict[str, int]]
"""For a checkpoint: not before, asked, in flight, tries."""


class SnapshotDesk:
    """Paces requests for snapshots, by raw symbol: `per_s` in the long run, a second's worth of them at once after a pause."""

    def __init__(self, per_s: float, within_s: float = 10.0) -> None:
        self._step = round(SECOND / per_s) if per_s > 0 else 0
        self._within = round(within_s * SECOND)
        self._next = 0
        self._asked: dict[str, int] = {}  # raw -> not before
        self._flying: dict[str, int] = {}  # raw -> given up at
        self._tries: dict[str, int] = {}

    def ask(self, raw: str, now: int, failures: int = 0) -> None:
        """A book needs a snapshot; asking twice is asking once. `failures`: how often the last ones were of no use, though they came."""
        if raw not in self._flying and raw not in self._asked:
            tries = max(self._tries.get(raw, 0), failures - 1)
            self._asked[raw] = now if tries < 2 else now + _patience(tries - 1)

    def answered(self, raw: str) -> None:
        """The snapshot came, or the book is no longer wanted."""
        self._flying.pop(raw, None)
        self._asked.pop(raw, None)
        self._tries.pop(raw, None)

    def returned(self, raw: str) -> None:
        """An answer came but did not fit: another may be asked for, still counting tries."""
        self._flying.pop(raw, None)

    def failed(self, raw: str, now: int, retry_after_s: float = -1.0) -> None:
        """The request failed: try again later, at the venue's own time if it gave one. A late answer to a forgotten request is nothing."""
        if retry_after_s >= 0:
            self._next = max(self._next, now + round(min(retry_after_s, WAIT_MAX_S) * SECOND))
        if self._flying.pop(raw, None) is not None:
            self._asked[raw] = now + _patience(self._tries[raw]) if retry_after_s < 0 else self._next

    def hold(self, until: int) -> None:
        """The venue asked for a pause: nothing is fetched before."""
        self._next = max(self._next, until)

    def clear(self) -> None:
        """The connection went: nothing is in flight and nothing is asked for."""
        self._asked.clear()
        self._flying.clear()
        self._tries.clear()

    @property
    def waiting(self) -> int:
        """How many books wait for a snapshot, in flight or not."""
        return len(self._asked) + len(self._flying)

    @property
    def deadline(self) -> int | None:
        """When `due` may have something, ns."""
        due = [max(min(self._asked.values()), self._next)] if self._asked else []
        if self._flying:
            due.append(min(self._flying.values()))
        return min(due, default=None)

    def due(self, now: int) -> list[str]:
        """The symbols to ask for now."""
        if self._flying:
            for raw in [raw for raw, by in self._flying.items() if now >= by]:
                self.failed(raw, now)
        ready: list[str] = []
        if not self._asked or self._next > now:
            return ready
        for raw in [raw for raw, at in self._asked.items() if at <= now]:
            del self._asked[raw]
            tries = self._tries[raw] = self._tries.get(raw, 0) + 1
            self._flying[raw] = now + self._within * min(tries, 6)
            self._next = max(self._next, now - SECOND) + self._step
            ready.append(raw)
            if self._next > now:
                break
        return ready

    def save(self) -> DeskState:
        """For a checkpoint."""
        return self._next, self._asked, self._flying, self._tries

    def load(self, saved: DeskState) -> None:
        """Put back what `save` gave."""
        self._next, self._asked, self._flying, self._tries = saved


def _patience(tries: int) -> int:
    """How long to wait after so many tries, ns."""
    return round(min(RETRY_MAX_S, RETRY_FIRST_S * 2.0 ** min(tries - 1, 10)) * SECOND)
