"""The judge of books: every state that a simulated market's books were in, to hold a client's book against.

It follows `Market.history()`, change by change. A book with a number must equal the state at that number; a book without one must equal some
state that was, and how long ago that state ended says how far it is behind. Next door: `market.py` makes the changes.
"""

from __future__ import annotations

from collections.abc import Sequence

from truetape.core.feed.counterpart import Ladder, Steps
from truetape.core.sim.market import FIRST_SEQ, Market, copy_of

DEPTH = 10
"""Levels of each side that are compared: the least that any simulated venue tells."""
KEPT = 100_000
"""States of one symbol that are remembered."""

State = tuple[tuple[Steps, ...], tuple[Steps, ...]]


class _Past:
    """The states of one symbol."""

    def __init__(self, bids: Ladder, asks: Ladder, now: int) -> None:
        self.bids, self.asks = bids, asks
        self.read = 0
        self.now_is = self.state()
        self.ended: dict[State, int] = {}  # when each was last left
        self.at_seq: dict[int, list[State]] = {FIRST_SEQ: [self.now_is]}

    def state(self) -> State:
        return tuple(self.bids.top(DEPTH)), tuple(self.asks.top(DEPTH))

    def went(self, state: State, seq: int, now: int) -> None:
        if state != self.now_is:
            self.ended.pop(self.now_is, None)
            self.ended[self.now_is] = now
            self.now_is = state
        self.at_seq.setdefault(seq, []).append(state)
        if len(self.at_seq) > KEPT:
            del self.at_seq[next(iter(self.at_seq))]
        if len(self.ended) > KEPT:
            del self.ended[next(iter(self.ended))]


class Oracle:
    """Knows the books of a market that keeps its history; make it before the first step."""

    def __init__(self, market: Market, now: int) -> None:
        self._market = market
        self._past = {
            raw: _Past(copy_of(listed.bids), copy_of(listed.asks), now) for raw, listed in market.listed.items()
        }

    def follow(self, now: int) -> None:
        """Take in what happened since the last call."""
        for raw, history in self._market.history().items():
            past = self._past[raw]
            for change in history[past.read :]:
                for ladder, levels in ((past.bids, change.bids), (past.asks, change.asks)):
                    for price, size in levels:
                        ladder.put(price, size)
                past.went(past.state(), change.seq, now)
            past.read = len(history)

    def behind(
        self, raw: str, bids: Sequence[tuple[float, float]], asks: Sequence[tuple[float, float]], seq: int, now: int
    ) -> int | None:
        """How long ago, ns, the book stood as these best levels say; 0 where it does now, None where it never did (at that number)."""
        past, instrument = self._past[raw], self._market.listed[raw].instrument
        grain, lots = 10**instrument.price_decimals, 10**instrument.size_decimals
        told = [
            tuple((round(price * grain), round(size * lots)) for price, size in side[:DEPTH]) for side in (bids, asks)
        ]
        state = (told[0], told[1])
        if seq >= 0 and state not in past.at_seq.get(seq, ()):
            return None
        if state == past.now_is:
            return 0
        ended = past.ended.get(state)
        return now - ended if ended is not None else None
