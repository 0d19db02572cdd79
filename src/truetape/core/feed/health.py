"""The state of one subscription: what it carries, when it last spoke, and how long its silence may last before it is a fault.

    SYNCING --first data (a book: its snapshot)--> LIVE <--data-- QUIET, STALE      a book takes its other states from `BookSync`
    LIVE --silent for 60 s and longer than ever before--> QUIET --silent beyond the threshold--> STALE
    LIVE, QUIET --its messages come late (`late.py`)--> STALE --in time again--> LIVE
    any of them --market closed, silent for 60 s--> QUIET      market open again: silence counts from there

The threshold is learned (`cadence.py`). One `Stream` for each (connection, channel, symbol). The pump touches it for each event;
`core.route.watch` asks for a `verdict` on the pump's ticks.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple, TypeAlias

from msgspec import Struct

from truetape.core.book.state import BookState
from truetape.core.book.state import load as load_book
from truetape.core.book.state import save as save_book
from truetape.core.book.sync import BookSync
from truetape.core.book.tape import Flow
from truetape.core.feed.cadence import (
    BURSTY,
    FINE,
    SAMPLES_MIN,
    SECOND,
    SEEN_MIN,
    SEEN_TIMES,
    STALE_MIN,
    default,
    learned,
)
from truetape.core.feed.delay import Histogram
from truetape.core.feed.hours import Hours
from truetape.core.feed.late import Late
from truetape.core.feed.venue import Want
from truetape.model.event import Status

QUIET_MIN = 60 * SECOND
"""Nobody is told that something is quiet before: a stream changes between LIVE and QUIET no more than once a minute."""
GRACE = 30 * SECOND
"""After a market has opened, before silence counts: auctions end late."""
UNCONFIRMED_ASKS = 3
"""A subscription that was asked for so often, and neither confirmed nor followed by data, is a fault whatever its cadence may be."""
SPELLS_MAX = 3
"""Spells of staleness in a row, each of which ended by itself: its cadence is not what was learned, and is learned anew."""


Cause: TypeAlias = Literal["", "silence", "pool", "late", "cadence", "closed", "opened", "unknown"]
"""Why QUIET or STALE: its own silence, that of its channel, lateness; within its cadence, market closed or just open, or hours unknown."""


class Verdict(NamedTuple):
    """Where silence brings a stream."""

    state: str
    reason: str
    cause: Cause


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
    awaited: int = 0
    asks: int = 0
    ask_at: int = 0
    spells: int = 0
    cause: Cause = ""
    unlearned: int = 0
    late: Late | None = None
    began: int = 0
    paused: int = 0


class Stream:
    """One subscription's health, and its book where it is one."""

    __slots__ = (
        "_bursty", "_learned", "acked", "ask_at", "asks", "awaited", "began", "blind", "cause", "channel", "count", "evidence",
        "flow", "hours", "last", "last_ts", "late", "longest", "look_at", "paused", "raw", "reason", "since", "slow", "source",
        "spells", "state", "symbol", "sync", "topic", "topic_delta", "unlearned", "venue", "want",
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
        self._learned = (0, default(want.channel))  # (at which count, threshold)
        self.unlearned = 0  # messages before what is learned now
        self.began = 0  # since when it is learned from
        self.paused = 0  # the sum of `slow`
        self._bursty = want.channel in BURSTY
        self.blind: tuple[int, int, str] | None = (
            None  # (receive time, number, reason) of the last good message before a gap
        )
        self.look_at = 0  # before this, no verdict can change anything; 0 where that is not known
        self.hours: Hours | None = None  # its market's; None: always open
        self.awaited = now  # since when something may be expected of it
        self.asks = 0  # how often it was asked for again since it last flowed
        self.ask_at = 0  # when next; 0 never
        self.spells = 0  # of staleness in a row that nobody had to end
        self.cause: Cause = ""  # of QUIET and STALE
        self.late: Late | None = None  # how late its messages come, once one was stamped

    def touch(self, now: int) -> None:
        """Data came: count it, and learn the interval."""
        interval = now - self.last
        if interval > FINE and self.last:
            self.learn(interval)
        self.last = now
        self.count += 1

    def learn(self, interval: int) -> None:
        """An interval that was not short: what the threshold is made from. Call it before the message is counted.

        What ended a spell of staleness is no example of how it speaks, nor is the time in which its market was closed.
        """
        if self.state == "STALE" or (self.hours is not None and not self.hours.within(self.last, self.last + interval)):
            return
        if self.slow is None:
            self.slow = Histogram()
        self.slow.add(interval)
        self.paused += interval
        if interval > self.longest:
            self.longest = interval

    @property
    def known(self) -> bool:
        """Whether its own cadence is known."""
        if self.count - 1 - self.unlearned < SAMPLES_MIN:
            return False
        if not self._bursty or (self.slow is not None and self.slow.total >= SAMPLES_MIN):
            return True
        return self.began > 0 and self.last - self.began >= max(SEEN_MIN, SEEN_TIMES * self.longest)

    @property
    def threshold(self) -> int:
        """How long its silence may last, ns; a pure function of the intervals seen, computed once for each count."""
        count, known = self._learned
        if self._bursty:
            if not self.known:
                return default(self.channel)
            if count == self.count:
                return known
            pauses = self.slow.total if self.slow is not None else 0
            intervals = pauses + max(0, self.last - self.began - self.paused) // FINE
        elif count == self.count or not self.known:
            return known
        else:
            intervals = self.count - 1 - self.unlearned
        known = learned(intervals, self.slow, self.longest)
        self._learned = (self.count, known)
        return known

    def unlearn(self) -> None:
        """What was learned does not hold any more."""
        self.unlearned = max(0, self.count - 1)
        self.began, self.paused = self.last, 0
        self.slow, self.longest, self.spells = None, 0, 0
        self._learned = (self.count, default(self.channel))

    def renew(self, now: int) -> None:
        """Its connection was opened: everything is expected from now on."""
        self.last = 0
        self.acked = False
        self.since = self.awaited = now
        self.look_at = 0

    def verdict(self, now: int, asked: int = 0) -> Verdict | None:
        """Where silence brings it now; None: it stays as it is. `asked`: how often it was asked for without an answer."""
        silent = now - max(self.last, self.awaited)
        state = self.state
        if silent <= STALE_MIN or state not in ("SYNCING", "LIVE", "QUIET", "STALE"):
            self.look_at = now - silent + STALE_MIN
            return None
        limit = self.threshold
        ways = (STALE_MIN + SECOND if asked else limit, max(QUIET_MIN, self.longest) if state == "LIVE" else limit)
        soon = SECOND if self.hours is not None else STALE_MIN  # whatever comes from now on may be silent for so long
        self.look_at = min(now - silent + min(ways), now + soon)
        hours, sure = self.hours, True
        if hours is not None and (sure := hours.known(now)):
            opened = hours.opened(now)
            if not opened:
                waits = self.cause == "closed" or (state == "LIVE" and silent <= QUIET_MIN)
                return None if waits else Verdict("QUIET", hours.closed(now), "closed")
            silent = min(silent, max(0, now - opened - GRACE))
            if self.cause == "closed":
                return Verdict("QUIET", f"market {hours.market} has opened, and nothing came yet", "opened")
        if state == "STALE":
            return None
        why = f"nothing for {silent / SECOND:.1f} s"
        if asked >= UNCONFIRMED_ASKS and not self.last:
            return Verdict("STALE", f"{why}, and never acknowledged, though asked for {asked} times", "silence")
        if silent > limit:
            if sure:
                return Verdict("STALE", why if self.acked or self.last else f"{why}, and never acknowledged", "silence")
            market = hours.market if hours is not None else ""
            unknown = Verdict("QUIET", f"{why}, and the hours of market {market} are not known", "unknown")
            return None if self.cause == "unknown" else unknown
        if state == "LIVE" and silent > max(QUIET_MIN, self.longest):
            return Verdict("QUIET", f"{why}; it may be silent for {self.threshold / SECOND:.0f} s", "cadence")
        return None

    @property
    def flowed(self) -> int:
        """How long it had been speaking when it was last heard, ns."""
        return max(0, self.last - self.awaited)

    @property
    def readable(self) -> bool:
        """Whether a book's prices may be read: LIVE, or QUIET because nothing was due, with nothing missing from before."""
        if self.sync is None or not self.sync.live:
            return False
        return self.state == "LIVE" or (self.state == "QUIET" and self.blind is None and self.cause != "unknown")

    def enter(self, state: str, reason: str, now: int, cause: Cause = "") -> Status:
        """Change state; returns the Status that says so."""
        if state not in ("QUIET", "STALE"):
            self.awaited = now
        if state == "LIVE" and not self.began:
            self.began = now
        self.state = state
        self.cause = cause
        self.look_at = 0
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
            save_book(self.sync) if self.sync is not None else None, self.awaited, self.asks, self.ask_at, self.spells, self.cause,
            self.unlearned, self.late, self.began, self.paused,
        )  # fmt: skip

    def load(self, saved: StreamState) -> None:
        """Put back what was saved."""
        self.state, self.reason, self.evidence, self.since = saved.state, saved.reason, saved.evidence, saved.since
        self.last, self.last_ts, self.count, self.longest = saved.last, saved.last_ts, saved.count, saved.longest
        self.blind, self.acked, self.awaited, self.cause = saved.blind, saved.acked, saved.awaited, saved.cause
        self.asks, self.ask_at, self.spells, self.unlearned = saved.asks, saved.ask_at, saved.spells, saved.unlearned
        self.began, self.paused = saved.began, saved.paused
        self.late = saved.late
        if saved.slow_total:
            self.slow = Histogram()
            self.slow.buckets, self.slow.total, self.slow.largest = saved.slow, saved.slow_total, saved.longest
        if self.sync is not None and saved.book is not None:
            load_book(self.sync, saved.book)
