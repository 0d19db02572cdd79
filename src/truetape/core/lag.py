"""The event loop's lateness, judged: one process has one thread for the market, and this is where its ceiling shows.

    ok ──a beat came `threshold` late──► lagging ──no beat over half of it for 5 s──► ok

Next door: `app/pulse.py` measures; what is said reaches every consumer as a `Status` without venue and symbol.
"""

from __future__ import annotations

from collections import deque
from typing import Literal

SECOND = 1_000_000_000
CLEAR_AFTER = 5 * SECOND
KEPT = 40


class LagWatch:
    """Takes how late each beat came, ns."""

    __slots__ = ("_bad", "_kept", "longest", "since", "state", "threshold", "times")

    def __init__(self, threshold: int) -> None:
        self.threshold = threshold
        self.state: Literal["ok", "lagging"] = "ok"
        self.since = 0
        self.longest = 0  # since the start
        self.times = 0  # how often it began to lag
        self._bad = 0
        self._kept: deque[int] = deque([0], maxlen=KEPT)

    @property
    def recent(self) -> int:
        """The longest of the last 40 beats, ns."""
        return max(self._kept)

    def beat(self, late: int, now: int) -> str:
        """One beat. Returns what changed and why, for a notice; empty where nothing did."""
        late = max(0, late)
        self._kept.append(late)
        self.longest = max(self.longest, late)
        if late >= self.threshold // 2:
            self._bad = now
        if self.state == "ok":
            if late < self.threshold:
                return ""
            self.state, self.since = "lagging", now
            self.times += 1
            return f"loop_lag: the event loop came {late / 1e6:.0f} ms late to what was due"
        if now - self._bad < CLEAR_AFTER:
            return ""
        lasted = (now - self.since) / SECOND
        self.state, self.since = "ok", now
        return f"loop_lag: over after {lasted:.1f} s"
