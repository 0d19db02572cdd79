"""Three clocks watched against each other: was the machine suspended, or was the wall clock set?

    boot - monotonic grew     the machine slept so long: the monotonic clock stood still meanwhile, and with it all our time
    wall - monotonic jumped   (beyond that) somebody set the wall clock: nothing of ours is timed by it

Both are told apart from a venue's silence: neither makes a link dead by itself. Next door: `io.clock` reads the clocks and moves
ours after a sleep; `route/jumps.py` tells connections and streams.
"""

from __future__ import annotations

from typing import TypeAlias

from msgspec import Struct

SECOND = 1_000_000_000
LEAST = SECOND // 10
"""A shorter jump is none: clocks are read one after another, and a busy machine may pause in between."""


class Slept(Struct, frozen=True):
    """The machine was suspended for so long, ns."""

    ns: int


class Stepped(Struct, frozen=True):
    """The wall clock was set, ns; positive forward."""

    ns: int


Jump: TypeAlias = Slept | Stepped


class Clocks:
    """Compares readings, each in ns: `wall` since the epoch, `monotonic`, `boot` (which counts sleep too; None where there is none)."""

    __slots__ = ("_anchor", "_asleep", "last_step", "sleeps", "slept", "steps")

    def __init__(self, wall: int, monotonic: int, boot: int | None) -> None:
        self._anchor = wall - monotonic
        self._asleep = boot - monotonic if boot is not None else 0
        self.slept = 0
        self.sleeps = 0
        self.steps = 0
        self.last_step = 0

    def look(self, wall: int, monotonic: int, boot: int | None) -> list[Jump]:
        """What happened since the last look. Slow drift is no step: each look starts from the last."""
        found: list[Jump] = []
        slept = boot - monotonic - self._asleep if boot is not None else 0
        if slept >= LEAST:
            self._asleep += slept
            self._anchor += slept
            self.slept += slept
            self.sleeps += 1
            found.append(Slept(slept))
        step = wall - monotonic - self._anchor
        self._anchor += step
        if abs(step) >= LEAST:
            self.steps += 1
            self.last_step = step
            found.append(Stepped(step))
        return found
