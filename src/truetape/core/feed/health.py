"""The state of one subscription: what it carries, when it last spoke, and how long its silence may last before it is a fault.

    SYNCING --first data (a book: its snapshot)--> LIVE <--data-- STALE --silence--> ...
    a book takes its states from `BookSync`; any stream is STALE after max(3 s, 5 x its learned p99.9 interval), never below the
    longest interval seen; before 30 intervals a default per channel holds (CONTRACTS.md, Health of a subscription).

One `Stream` for each (connection, channel, symbol). The pump touches it for each event; `check` is called on the pump's ticks.
"""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from truetape.core.book.state import BookState
from truetape.core.book.state import load as load_book
from truetape.core.book.state import save as save_book
from truetape.core.book.sync import BookSync
from truetape.core.book.tape import Flow
from truetape.core.feed.delay import Histogram
from truetape.core.feed.venue import Want
from truetape.model.event import Status

SECOND = 1_000_000_000
STALE_MIN = 3 * SECOND
SAMPLES_MIN = 30
FINE = 1 << 27
"""Intervals under 134 ms only count: five times any of them lies below the least threshold of 3 s."""

DEFAULT_STALE_S = {"book": 30.0, "quote": 30.0, "trade": 600.0, "ticker": 120.0, "bar": 180.0}
"""Before enough intervals were seen: quiet pairs of the venues in our captures pause up to 9 s between book messages."""


class StreamState(Struct, array_like=True):
    """One subscription, for a checkpoint."""

    want: Want
    state: str
    reason: str
    evidence: str
    since: int
    last: int
    last_ts: int
    count: int
    longest: int
    slow: dict[int, int]
    slow_total: int
    blind: tuple[int, int, str] | None
    acked: bool
    book: BookState | None


class Stream:
    """One subscription's health, and its book where it is one."""

    __slots__ = (
        "_learned", "acked", "blind", "channel", "count", "evidence", "flow", "last", "last_ts", "longest", "raw", "reason",
        "since", "slow", "source", "state", "symbol", "sync", "topic", "topic_delta", "venue", "want",
    )  # fmt: skip

    def __init__(self, venue: str, source: str, want: Want, sync: BookSync | None, now: int) -> None:
        self.venue = venue
        self.source = source
        self.want = want
        self.channel = want.channel
        self.raw = want.raw
        self.symbol = want.symbol
        self.sync = sync
        self.topic: Any = None  # the router's; the pump gives them
        self.topic_delta: Any = None
        self.flow: Flow | None = None  # trade sums, kept where a report will want them
        self.acked = False
        self.state = "SYNCING"
        self.reason = "waiting for the first data"
        self.evidence = "none"
        self.since = now
        self.last = 0
        self.last_ts = 0
        self.count = 0
        self.longest = 0
        self.slow: Histogram | None = None
        self._learned = (
            0,
            round(DEFAULT_STALE_S[want.channel.partition(".")[0]] * SECOND),
        )  # (at which count, threshold)
        self.blind: tuple[int, int, str] | None = (
            None  # (receive time, number, reason) of the last good message before a gap
        )

    def touch(self, now: int) -> None:
        """Data came: count it, and learn the interval."""
        interval = now - self.last
        if interval > FINE and self.last:
            self.learn(interval)
        self.last = now
        self.count += 1

    def learn(self, interval: int) -> None:
        """An interval that was not short: what the threshold is made from. Call it before the message is counted."""
        if self.slow is None:
            self.slow = Histogram()
        self.slow.add(interval)
        if interval > self.longest:
            self.longest = interval

    @property
    def threshold(self) -> int:
        """How long its silence may last, ns; a pure function of the intervals seen, computed once for each count."""
        count, known = self._learned
        intervals = self.count - 1
        if count == self.count or intervals < SAMPLES_MIN:
            return known
        known = STALE_MIN
        if self.slow is not None:
            beyond = self.slow.total / intervals  # the share of intervals that were not fast
            p999 = (self.slow.percentile(max(0.0, 1 - 0.001 / beyond)) or 0) if beyond > 0.001 else 0
            known = max(STALE_MIN, 5 * p999, self.longest)
        self._learned = (self.count, known)
        return known

    def check(self, now: int) -> bool:
        """True when silence has just become a fault: of a living stream, or of one that waits for its first data, or its snapshot."""
        if self.state not in ("SYNCING", "LIVE", "QUIET"):
            return False
        silent = now - max(self.last, self.since)
        return silent > STALE_MIN and silent > self.threshold

    def enter(self, state: str, reason: str, now: int) -> Status:
        """Change state; returns the Status that says so."""
        self.state = state
        self.reason = reason
        self.since = now
        if self.sync is not None:
            self.evidence = self.sync.evidence
        return self.status(now)

    def status(self, now: int) -> Status:
        """The present state as an event."""
        return Status(
            self.venue, self.symbol, self.raw, now, self.channel, self.state, self.reason, self.evidence, self.since,
            self.threshold / SECOND, self.count,
        )  # fmt: skip

    def save(self) -> StreamState:
        """All that later states and gaps depend on."""
        slow = self.slow
        return StreamState(
            self.want, self.state, self.reason, self.evidence, self.since, self.last, self.last_ts, self.count, self.longest,
            slow.buckets if slow else {}, slow.total if slow else 0, self.blind, self.acked,
            save_book(self.sync) if self.sync is not None else None,
        )  # fmt: skip

    def load(self, saved: StreamState) -> None:
        """Put back what was saved."""
        self.state, self.reason, self.evidence, self.since = saved.state, saved.reason, saved.evidence, saved.since
        self.last, self.last_ts, self.count, self.longest = saved.last, saved.last_ts, saved.count, saved.longest
        self.blind, self.acked = saved.blind, saved.acked
        if saved.slow_total:
            self.slow = Histogram()
            self.slow.buckets, self.slow.total, self.slow.largest = saved.slow, saved.slow_total, saved.longest
        if self.sync is not None and saved.book is not None:
            load_book(self.sync, saved.book)
