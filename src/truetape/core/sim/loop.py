"""Prepared flow for load: a stretch of a market, played forwards, then undone step by step, and again, for ever.

The order flow is run once, beforehand; what remains is to set levels and to number them. Every book stays one that really was, so that
levels, numbers, checksums and times are as true as live ones; trades are told on the way forwards only. What encoders keep in
`Change.made` is used in every round. Next door: `market.py`, whose part it takes.
"""

from __future__ import annotations

from truetape.core.feed.counterpart import Change, Ladder, Listed, Print, Steps
from truetape.core.sim.market import Market, TextLevel, copy_of, texts

Move = tuple[Listed, Change, Change]
"""A symbol, what happens to it, and what undoes that."""


class Loop:
    """`count` steps of `market`, which is used up; offers what a `Market` does, but for history."""

    def __init__(self, market: Market, count: int, orders: int, now: int) -> None:
        self.listed: dict[str, Listed] = {}
        self.steps = 0
        self._moves: list[Move] = []
        self._at = 0
        self._back = False
        for raw, row in market.listed.items():
            listed = Listed(row.instrument, row.day.close, now, copy_of(row.bids), copy_of(row.asks))
            listed.seq = row.seq
            self.listed[raw] = listed
        for _ in range(max(1, count)):
            change = market.step(now, orders)
            listed = self.listed[change.raw]
            before = (_replaced(listed.bids, change.bids), _replaced(listed.asks, change.asks))
            undo = Change(change.raw, 0, 0, *before, [], {})
            self._moves.append((listed, change, undo))
        for listed, _, undo in reversed(self._moves):
            _put(listed, undo)

    def step(self, now: int, orders: int = 1) -> Change:
        """The next move. `orders` was settled beforehand."""
        self.steps += 1
        listed, change, undo = self._moves[self._at]
        if self._back:
            change = undo
            self._back = self._at > 0
            self._at -= self._back
        elif self._at + 1 < len(self._moves):
            self._at += 1
        else:
            self._back = True
        _put(listed, change)
        change.first = listed.seq + 1
        listed.seq = change.seq = listed.seq + len(change.bids) + len(change.asks)
        if change.prints:
            change.prints = [self._again(listed, trade, now) for trade in change.prints]
        return change

    def _again(self, listed: Listed, trade: Print, now: int) -> Print:
        trade = Print(trade.price, trade.size, trade.side, listed.day.last_id + 1, now, trade.maker, trade.taker)
        listed.trade(trade)
        return trade

    def levels(self, raw: str, depth: int = 0) -> tuple[list[TextLevel], list[TextLevel]]:
        """As of a `Market`."""
        listed = self.listed[raw]
        return texts(listed, listed.bids, depth), texts(listed, listed.asks, depth)


def _replaced(side: Ladder, levels: list[Steps]) -> list[Steps]:
    """Set these levels; returns what they replaced, last first."""
    before = [(price, side.sizes.get(price * side.sign, 0)) for price, _ in levels]
    for price, size in levels:
        side.put(price, size)
    return before[::-1]


def _put(listed: Listed, change: Change) -> None:
    for price, size in change.bids:
        listed.bids.put(price, size)
    for price, size in change.asks:
        listed.asks.put(price, size)
