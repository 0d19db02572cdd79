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

    __slots__ = ("buckets", "largest", "negative", "note", "pending", "smallest", "total")

    def __init__(self) -> None:
        self.buckets: dict[int, int] = {}
        self.pending: deque[int] = deque(maxlen=NOTED_MAX)
        self.note = self.pending.append  # for the hot path: counted at the next `fold`, as 8 µs steps
        self.negative = 0
        self.total = 0
        self.largest = 0
        self.smallest = (
            0  # of the negative ones: how far the sender's clock runs ahead at the least; 0 where there is none
        )

    def fold(self) -> None:
        """Count what was noted: equal ones together, for in a busy quarter of a second most are."""
        pending = self.pending
        if pending:
            largest, smallest = max(self.largest, *pending), min(self.smallest, *pending)
            for step, times in Counter(map(rshift, pending, repeat(STEP))).items():
                self.add((step << STEP) + (1 << (STEP - 1)) if step >= 0 else -1, times)
            self.largest, self.smallest = largest, smallest  # not the middle of their steps
            pending.clear()

    def add(self, ns: int, times: int = 1) -> None:
        """Count one duration, or several equal ones."""
        self.total += times
        if ns > self.largest:
            self.largest = ns
        if ns < 8:
            if ns < 0:
                self.negative += times
                self.smallest = min(self.smallest, ns)
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

    def rows(self) -> list[tuple[float, int]]:
        """(upper edge in ms, count) of each bucket that has any, ascending; negative durations are not among them."""
        self.fold()
        return [(self.edge(index) / 1e6, self.buckets[index]) for index in sorted(self.buckets)]

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


SAMPLE_EVERY = 16
"""One read of a socket in so many is measured, and one batch that a consumer takes."""


class Stages:
    """Where the time goes within this process, ns, sampled: with the network's share (`Link.delay`) the whole way of an event.

    `decode`: from the last message of a read to its end in the mailboxes, judgement and routing included. `queue`: from the receipt of the
    oldest event of a batch until its consumer takes it. `delivery`: until that consumer comes back for more: its own work.
    """

    __slots__ = ("decode", "delivery", "queue")

    def __init__(self) -> None:
        self.decode = Histogram()
        self.queue = Histogram()
        self.delivery = Histogram()


def explain(delay: Histogram, offset_ns: int | None) -> str:
    """Why events seem to come before they were sent; empty where none does. `offset_ns`: how far pings say that the venue's clock is ahead."""
    delay.fold()
    if not delay.negative:
        return ""
    ahead = (
        f"at least {-delay.smallest / 1e6:.1f} ms" if offset_ns is None else f"{offset_ns / 1e6:.1f} ms by its pings"
    )
    if offset_ns is not None and -delay.smallest > offset_ns + MARGIN:
        ahead += f", and once {-delay.smallest / 1e6:.1f} ms by its events"
    return f"{delay.negative} of {delay.total} events were stamped later than they came: the venue's clock is ahead of ours, {ahead}"


MARGIN = 1_000_000
"""Offsets from pings are true to half a round trip; what differs less is not worth a word."""
