"""The garbage collector kept out of the hot path while gateways run, and given back as it was when the last one ends.

What lives at the start is frozen, and automatic collections come late: the hot path makes no cycles. The young generations are looked
through by hand at the beats, when little has gathered; the old one when the process has been idle for seconds, or memory is short.
Every pause is timed, whoever asked for it.

Next door: `pulse.py` calls `beat`; `status.py` shows `pauses`.
"""

from __future__ import annotations

import gc
from typing import Any

from truetape.io.clock import now as clock

_WHILE_RUNNING = (20_000, 1_000_000, 1_000_000)
"""Of the young generation alone, and only where a burst leaves so many new containers within one beat (2 ms). What survives is many times as
much where consumers lag, and is looked through when there is time."""
QUIET, IDLE = 0.5, 0.1
"""Shares of the processor that were used since the last beat: below, there is time for a young collection; for an old one."""
IDLE_BEATS = 20
"""So many idle beats in a row (5 s) before the old generation is looked through."""
REST = 1000
"""After a full collection, so many times as long nothing of the kind, and a minute at least."""
MINUTE = 60_000_000_000
YOUNG, GATHERED = 500, 2_000
"""Fewer new containers are not worth a look; so many are looked through at a busy beat too, before they are more: the pause is as long as they
are many, 0.1 ms for each thousand."""

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

    __slots__ = ("_idle", "_next")

    def __init__(self) -> None:
        self._idle = 0
        self._next = 0

    def beat(self, share: float) -> None:
        """Use a quiet moment."""
        self._idle = self._idle + 1 if share < IDLE else 0
        if self._idle >= IDLE_BEATS and (began := clock()) >= self._next:
            self._idle = 0
            collect()
            if not self._next:
                gc.freeze()  # what was made while everything was subscribed stays too
            ended = clock()
            self._next = ended + max(MINUTE, REST * (ended - began))
        elif gc.get_count()[0] > (YOUNG if share < QUIET else GATHERED):
            gc.collect(0)


def collect() -> None:
    """Everything that was not frozen at the start. As long as all that lives is large: never while the market waits, but once a minute
    where memory is short."""
    gc.collect()


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
