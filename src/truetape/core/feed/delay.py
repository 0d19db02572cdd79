"""A histogram of delays in ns: exact counts in buckets an eighth of a power of two wide, negative ones counted apart.

A delay below zero is a clock that runs behind the venue's, not an error: it is counted and shown, never hidden or clipped.
"""

from __future__ import annotations

from collections import Counter, deque
from itertools import repeat
from operator import rshift

STEP = 13
"""Noted durations are counted in steps of 2^13 ns."""
NOTED_MAX = 1 << 16
"""Durations kept until the next `fold`; beyond, the oldest go uncounted (where nothing folds, as in a capture that is watched)."""


class Histogram:
    """Counts of durations; percentiles are the upper edge of a bucket (at most 12.5 % above the true value)."""

    __slots__ = ("buckets", "largest", "negative", "note", "pending", "total")

    def __init__(self) -> None:
        self.buckets: dict[int, int] = {}
        self.pending: deque[int] = deque(maxlen=NOTED_MAX)
        self.note = self.pending.append  # for the hot path: counted at the next `fold`, as 8 µs steps
        self.negative = 0
        self.total = 0
        self.largest = 0

    def fold(self) -> None:
        """Count what was noted: equal ones together, for in a busy quarter of a second most are."""
        pending = self.pending
        if pending:
            largest = max(self.largest, *pending)
            for step, times in Counter(map(rshift, pending, repeat(STEP))).items():
                self.add((step << STEP) + (1 << (STEP - 1)) if step >= 0 else -1, times)
            self.largest = largest  # not the middle of its step
            pending.clear()

    def add(self, ns: int, times: int = 1) -> None:
        """Count one duration, or several equal ones."""
        self.total += times
        if ns > self.largest:
            self.largest = ns
        if ns < 8:
            if ns < 0:
                self.negative += times
                return
            index = ns
        else:
            bits = ns.bit_length()
            index = (bits << 3) + ((ns >> (bits - 4)) & 7)
        try:
            self.buckets[index] += times
        except KeyError:
            self.buckets[index] = times

    @staticmethod
    def edge(index: int) -> int:
        """The upper edge of a bucket in ns."""
        bits, eighth = index >> 3, index & 7
        return index + 1 if bits < 4 and index < 8 else ((8 + eighth + 1) << bits) >> 4

    def percentile(self, share: float) -> int | None:
        """The value in ns that this share (0..1) of the counted durations does not exceed; None when nothing was counted."""
        self.fold()
        if not self.total:
            return None
        rank = share * self.total - self.negative
        if rank <= 0:
            return 0
        seen = 0
        for index in sorted(self.buckets):
            seen += self.buckets[index]
            if seen >= rank:
                return min(self.edge(index), self.largest)
        return self.largest
