"""Data that come, and come late: a link that drips, a venue's queue that grows. What is true then was true seconds ago.

    in time --twice later than the bound--> late --less than half of it--> in time

How late a message is, is told by the venue's own stamp; but clocks differ, so only what a subscription adds to its own least delay of
the last ten to twenty minutes counts. A delay cannot grow faster than time passes: where it does, the stamps went back, and that is a
clock which was set. One that was set while a subscription was silent for longer looks like lateness, until the least delay is learned
anew; the other way round, a lateness that never ends passes for a clock after that time.
Next door: `core.route.watch` looks at each subscription's newest message when health is looked at, and `health.py` has the state.
"""

from __future__ import annotations

from msgspec import Struct

SECOND = 1_000_000_000
WINDOW = 600 * SECOND
"""The least delay is that of this window and the one before."""
STEP = SECOND
"""Stamps that go back by more are those of a clock that was set; by less, of messages in disorder."""
TIMES = 5
"""How many times its usual delay is late, where that is more than the bound."""
STRIKES = 2
"""Looks in a row that found a message late: one old stamp, such as that of a quiet book's snapshot, is no lateness."""
STAMPED = ("book", "trade", "quote")
"""Channels whose stamps say when something happened. A bar's is that of its end, a ticker's often that of the last trade."""


class Late(Struct, array_like=True):
    """One subscription's delays, ns; all of it is for a checkpoint."""

    at: int  # of the newest message looked at: when it came, and its stamp
    ts: int
    floor: int  # the least delay of this window, and of the one before
    before: int
    turn: int  # when the window ends
    usual: int = 0  # what it adds to the least delay, as a running mean
    extra: int = 0  # what the newest message added
    strikes: int = 0
    on: bool = False

    @staticmethod
    def first(at: int, ts: int) -> Late:
        """Nothing is known but one message."""
        return Late(at, ts, at - ts, at - ts, at + WINDOW)

    def heard(self, at: int, ts: int, bound: int) -> None:
        """The newest message came at `at` and is stamped `ts`; `bound` is how late one may be at least, ns."""
        if ts == self.ts:
            return  # the same again proves nothing
        delay = at - ts
        back = self.ts - ts
        self.at, self.ts = at, ts
        if back > STEP:
            self.floor = self.before = delay
            self.turn, self.strikes, self.on, self.extra = at + WINDOW, 0, False, 0
            return
        if at >= self.turn:
            self.before, self.floor, self.turn = self.floor, delay, at + WINDOW
        elif delay < self.floor:
            self.floor = delay
        self.extra = extra = delay - min(self.floor, self.before)
        limit = max(bound, TIMES * self.usual)
        if extra > limit:
            self.strikes += 1
            self.on = self.on or self.strikes >= STRIKES
            return
        self.strikes = 0
        self.on = self.on and extra > limit // 2
        if not self.on:
            self.usual += (extra - self.usual) >> 6
