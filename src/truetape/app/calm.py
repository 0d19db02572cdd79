"""The garbage collector kept out of the hot path while gateways run, and given back as it was when the last one ends.

The hot path makes no cycles, but whatever lives is looked through: the levels of a thousand books are 22,000 tuples, new every 30 ms, and each
look at the young costs 3 to 5 ms. So what lives at a beat is frozen (a list is hung elsewhere: it costs nothing), and only where many
containers stay for three beats are the young looked at. What was frozen and became garbage in cycles is found when the process has been
idle for seconds, or when memory is short. Every pause is timed, whoever asked for it.

Next door: `pulse.py` calls `beat`; `status.py` shows `pauses`.
"""

from __future__ import annotations

import gc
from typing import Any

from truetape.io.clock import now as clock

_WHILE_RUNNING = (50_000, 1_000_000, 1_000_000)
"""Of the young generation alone, and only where so many new containers stay within one beat. What survives is many times as much where
consumers lag, and is looked through when there is time."""
GATHERED, GATHERED_BEATS = 1_000, 3
"""Containers that stayed, so many beats in a row: more are looked at, for who makes so many may make cycles. What is merely on its way to its
consumer is gone at the next beat."""
IDLE = 0.1
"""Share of the processor that was used since the last beat: below, there is time to look at everything."""
IDLE_BEATS = 20
"""So many idle beats in a row (5 s) before that."""
REST = 1000
"""After a full collection, so many times as long nothing of the kind, and ten minutes at least."""
TEN_MINUTES = 600_000_000_000

_running = 0
_before = (0, 0, 0)


class Pauses:
    """How long collections held everything up. One for the process: there is one collector."""

    __slots__ = ("_began", "collections", "longest_ns", "total_ns")

    def __init__(self) -> None:
        self._began = 0
        self.longest_ns = self.total_ns = 0
        self.collections = [0, 0, 0]

    def __call__(self, phase: str, info: dict[str, Any]) -> None:
        """gc: a collection begins or ends."""
        if phase == "start":
            self._began = clock()
        elif self._began:
            pause = clock() - self._began
            self.total_ns += pause
            self.longest_ns = max(self.longest_ns, pause)
            self.collections[info["generation"]] += 1

    def begin(self) -> None:
        """Count anew."""
        self.__init__()  # type: ignore[misc]  # the same counters, from nothing


pauses = Pauses()


class Calm:
    """Collections at quiet moments, decided at each beat from the share of the processor that was used since the last."""

    __slots__ = ("_gathered", "_idle", "_next")

    def __init__(self) -> None:
        self._idle = 0
        self._gathered = 0
        self._next = 0

    def beat(self, share: float) -> None:
        """Use a quiet moment."""
        self._idle = self._idle + 1 if share < IDLE else 0
        if self._idle >= IDLE_BEATS and (began := clock()) >= self._next:
            self._idle = 0
            collect()
            ended = clock()
            self._next = ended + max(TEN_MINUTES, REST * (ended - began))
        elif gc.get_count()[0] <= GATHERED:
            self._gathered = 0
            gc.freeze()
        else:
            self._gathered += 1
            if self._gathered >= GATHERED_BEATS:
                self._gathered = 0
                gc.collect(0)


def collect() -> None:
    """Everything. As long as all that lives is large: never while the market waits, but once a minute where memory is short."""
    gc.unfreeze()
    gc.collect()
    gc.freeze()


def begin() -> None:
    """What lives now is not looked at again."""
    global _running, _before
    if not _running:
        _before = gc.get_threshold()
        gc.set_threshold(*_WHILE_RUNNING)
    _running += 1
    gc.collect()
    gc.freeze()
    if _running == 1:
        pauses.begin()
        gc.callbacks.append(pauses)


def end() -> None:
    """Undoes `begin`, with the last gateway that ends."""
    global _running
    _running -= 1
    if not _running:
        gc.callbacks.remove(pauses)
        gc.set_threshold(*_before)
        gc.unfreeze()
