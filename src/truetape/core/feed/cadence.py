"""How often something speaks, learned from its intervals, and the silence after which it is at fault (CONTRACTS.md, Health).

    threshold = max(3 s, 5 x the p99.9 interval, the longest interval seen), once 30 intervals were seen; a default before

`Stream` (health.py) learns its own cadence. A `Pool` learns that of the streams of one channel that have none yet: a symbol that trades
once an hour proves nothing by its silence, but a hundred of them do.
"""

from __future__ import annotations

from typing import TypeAlias

from truetape.core.feed.delay import Histogram

SECOND = 1_000_000_000
STALE_MIN = 3 * SECOND
SAMPLES_MIN = 30
FINE = 1 << 27
"""Intervals under 134 ms only count: five times any of them lies below the least threshold of 3 s."""

DEFAULT_STALE_S = {"book": 30.0, "quote": 30.0, "trade": 86_400.0, "ticker": 120.0, "bar": 180.0}
"""Before enough intervals were seen. Quiet pairs of the venues in our captures pause up to 9 s between book messages. Nobody owes anybody a
trade: at one an hour, 600 s would be a false alarm at five intervals of six, and 8 h at one of 3,000."""

BURSTY = ("trade",)
"""Channels that speak in bursts: prints within 134 ms of each other are one moment. What is counted is moments: each pause, and each 134 ms
of speech."""
SEEN_MIN = 2 * SECOND
SEEN_TIMES = 20
"""A bursty stream without 30 pauses is known once it was seen for 2 s and for 20 times its longest pause: it hardly pauses at all."""

UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}


def default(channel: str) -> int:
    """The threshold of a channel before its cadence is known, ns; bars of long intervals have three of them."""
    kind, _, interval = channel.partition(".")
    seconds = DEFAULT_STALE_S[kind]
    if kind == "bar" and interval[:-1].isdecimal() and interval[-1:] in UNITS:
        seconds = max(seconds, 3.0 * int(interval[:-1]) * UNITS[interval[-1]])
    return round(seconds * SECOND)


def learned(intervals: int, slow: Histogram | None, longest: int) -> int:
    """The threshold, ns, of so many intervals, of which those that were not FINE stand in `slow`."""
    known = STALE_MIN
    if slow is not None:
        beyond = slow.total / intervals  # the share of intervals that were not fast
        p999 = (slow.percentile(max(0.0, 1 - 0.001 / beyond)) or 0) if beyond > 0.001 else 0
        known = max(STALE_MIN, 5 * p999, longest)
    return known


PoolState: TypeAlias = tuple[list[str], int, int, int, dict[int, int], int, bool]
"""For a checkpoint: members, last, intervals, longest, the histogram's buckets and total, mute."""


class Pool:
    """The streams of one channel and market on one connection that have no cadence of their own yet, heard as one.

    Whoever joins or leaves changes how often they speak together, so it is learned anew.
    """

    __slots__ = ("intervals", "last", "longest", "members", "mute", "slow")

    def __init__(self) -> None:
        self.members: list[str] = []
        self.last = 0
        self.intervals = 0
        self.longest = 0
        self.slow = Histogram()
        self.mute = False

    def heard(self, members: list[str], newest: int, since: int) -> bool:
        """These belong to it now, the newest of what they said came then; intervals from before `since` do not count. True when it spoke."""
        if members != self.members:
            self.members = members
            self.intervals = self.longest = 0
            self.slow = Histogram()
        if newest <= self.last:
            return False
        interval = newest - self.last
        if self.last >= since and not self.mute:
            self.intervals += 1
            self.slow.add(interval)
            self.longest = max(self.longest, interval)
        self.last = newest
        return True

    @property
    def threshold(self) -> int:
        """How long all of them may be silent, ns; 0 while that is not known."""
        known = self.intervals >= SAMPLES_MIN and len(self.members) > 1
        return learned(self.intervals, self.slow, self.longest) if known else 0

    def save(self) -> PoolState:
        """For a checkpoint."""
        return self.members, self.last, self.intervals, self.longest, self.slow.buckets, self.slow.total, self.mute

    @classmethod
    def load(cls, saved: PoolState) -> Pool:
        """From a checkpoint."""
        pool = cls()
        pool.members, pool.last, pool.intervals, pool.longest = saved[0], saved[1], saved[2], saved[3]
        pool.slow.buckets, pool.slow.total, pool.slow.largest, pool.mute = saved[4], saved[5], saved[3], saved[6]
        return pool
