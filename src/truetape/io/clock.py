"""The only reader of time in the program: int ns since the epoch, which never go back.

The wall clock is read once at start; from then on the monotonic clock counts. What the wall clock does afterwards is a gauge (`drift_ns`),
never a jump of our time.
"""

from __future__ import annotations

import time
from collections.abc import Callable

_ANCHOR = time.time_ns() - time.monotonic_ns()


def _make() -> Callable[[], int]:
    monotonic, anchor = time.monotonic_ns, _ANCHOR

    def now() -> int:
        return monotonic() + anchor

    return now


now: Callable[[], int] = _make()
"""Our clock: ns since the epoch."""


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
