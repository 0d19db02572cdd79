"""The only reader of time in the program: int ns since the epoch, which never go back.

The wall clock is read once at start; from then on the monotonic clock counts. What the wall clock does afterwards is a gauge (`drift_ns`),
never a jump of our time. Only a suspended machine moves it, forward by what the monotonic clock missed: `KEEPER` finds that (on
Linux, where CLOCK_BOOTTIME counts sleep), and tells every driver, which records it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeAlias

from truetape.core.clocks import Clocks, Jump, Slept

BRACKET = 1_000_000
"""Readings that lie further apart than this, ns, were not taken at one moment: they are taken again."""
Readings: TypeAlias = tuple[int, int, int | None]
_ANCHOR = time.time_ns() - time.monotonic_ns()
_BOOT: int | None = getattr(time, "CLOCK_BOOTTIME", None)


def _make() -> tuple[Callable[[], int], Callable[[int], None]]:
    monotonic, anchor = time.monotonic_ns, _ANCHOR

    def now() -> int:
        return monotonic() + anchor

    def advance(ns: int) -> None:
        nonlocal anchor
        anchor += ns

    return now, advance


now: Callable[[], int]
"""Our clock: ns since the epoch."""
now, _advance = _make()


def awake() -> int:
    """As `now`, without the time that the machine slept since the start: for how late something comes to what was due."""
    return time.monotonic_ns() + _ANCHOR


def readings() -> Readings:
    """The wall clock, the monotonic one and the one that counts sleep (None where there is none), ns, of one moment."""
    for _ in range(4):
        before = time.monotonic_ns()
        wall = time.time_ns()
        boot = time.clock_gettime_ns(_BOOT) if _BOOT is not None else None
        if time.monotonic_ns() - before < BRACKET:
            break
    return wall, before, boot


class Keeper:
    """Watches the clocks, and moves ours after a sleep. Whoever runs a pump listens."""

    def __init__(self, read: Callable[[], Readings] = readings, advance: Callable[[int], None] = _advance) -> None:
        self.clocks = Clocks(*read())
        self.listeners: list[Callable[[Jump], None]] = []
        self._read = read
        self._advance = advance

    def look(self) -> None:
        """Tell what happened since the last look; our clock counts a sleep before anybody hears of it. It takes about 2 µs."""
        for jump in self.clocks.look(*self._read()):
            if isinstance(jump, Slept):
                self._advance(jump.ns)
            for heard in list(self.listeners):
                heard(jump)


KEEPER = Keeper()
"""The program's own."""


def drift_ns() -> int:
    """How far the wall clock has moved against ours since start; positive when it ran ahead or was set forward."""
    return time.time_ns() - now()


def cpu_s() -> float:
    """Processor seconds used by this process, user and system."""
    return time.process_time()


def pause(seconds: float) -> None:
    """Wait, in a program that has no event loop (a replay that keeps the recorded pace)."""
    time.sleep(max(0.0, seconds))


def wall_ns() -> int:
    """The wall clock as it is now, for comparing stamps with other programs; nothing is ever timed by it."""
    return time.time_ns()
