"""Seeded order flow for one symbol: limit orders, cancels and market orders around a fair price that wanders.

The shape is that of a small liquid market: most inputs place or withdraw an order near the best prices, about one in twelve takes;
when the fair price leaves the spread, orders cross it and pull the book along. A side never has fewer than `LEVELS_MIN` levels
after a step; one that has hardly more is filled where the market is, so that the book stays together however long it runs.
Chance comes from the draw that it was given: same seed, same flow.
Next door: `matching.py` holds the book; `market.py` has one flow for each symbol.
"""

from __future__ import annotations

from collections.abc import Callable
from math import log

from truetape.core.sim.matching import Fill, MatchingBook, Queued

LEVELS_MIN = 25
LEVELS = 50
"""Levels on a side at the opening, and about as many later."""
LEVELS_TAKEN = 5
"""By one order, at most."""
REACH_MIN = 24.0
"""Ticks. Within fewer there is no room for so many levels."""
QUANTILES = tuple(-log((i + 0.5) / 256) for i in range(256))
"""An exponential distribution of mean 1, by table: sizes and distances."""


class Flow:
    """Sends one order into its book at each step."""

    __slots__ = ("_anchor", "_draw", "_fair", "_half", "_reach", "_unit", "_volatility", "book")

    def __init__(self, book: MatchingBook, price: int, unit: int, draw: Callable[[], float]) -> None:
        self.book = book
        self._draw = draw
        self._anchor = float(price)
        self._fair = float(price)
        self._unit = unit  # lots of a mean order
        self._reach = max(REACH_MIN, min(40.0, price / 1000))  # mean distance of an order from the best price, in ticks
        self._half = self._reach / 24  # half a spread at rest
        self._volatility = self._reach / 6

    def open(self) -> None:
        """Fill both sides, so that the market opens with a whole book."""
        fair, draw, book = round(self._fair), self._draw, self.book
        for buy in (True, False):
            price = fair - 1 if buy else fair + 1
            for _ in range(LEVELS):
                book.limit(buy, price, self._size())
                price += (-1 if buy else 1) * (1 + int(draw() * draw() * 6))
        book.changes()

    def step(self) -> list[Fill]:
        """One order or cancel; always changes a level."""
        draw, book = self._draw, self.book
        self._fair += (draw() - 0.5) * self._volatility + (self._anchor - self._fair) * 0.0002
        buy = draw() < 0.5
        side = book.bids if buy else book.asks
        count = len(side.keys)
        if count < LEVELS_MIN + 3:
            return self._fill(buy, side)
        kind = draw()
        other = book.asks if buy else book.bids
        if kind < 0.08 and len(other.keys) > LEVELS_MIN:
            if draw() < 0.75:  # most who take go where the fair price went
                wanted = self._fair > (book.bids.best + book.asks.best) / 2
                if wanted is not buy:
                    buy, other = wanted, side
            return self._take(buy, other)
        if kind < 0.08 + 0.14 * len(book.orders) / LEVELS:  # as many withdrawals as orders at 1.6 orders for each level
            return self._cancel(buy, side)
        return self._place(buy)

    def _size(self) -> int:
        return 1 + int(self._unit * QUANTILES[int(self._draw() * 256)])

    def _place(self, buy: bool) -> list[Fill]:
        distance = self._half + self._reach * QUANTILES[int(self._draw() * 256)]
        price = int(self._fair - distance) if buy else int(self._fair + distance) + 1
        opposite = self.book.asks if buy else self.book.bids
        spare = spared(opposite)
        limit = opposite.keys[-spare] if spare else opposite.keys[-1] + 1
        price = min(price, -limit) if buy else max(price, limit)
        return self.book.limit(buy, max(1, price), self._size())

    def _fill(self, buy: bool, side: Queued) -> list[Fill]:
        """A new level in the first room near the fair price: the side has become thin. Behind the worst one it would drift away for good."""
        distance, opposite = self._half + self._reach * self._draw(), self.book.asks if buy else self.book.bids
        key = int(self._fair - distance) if buy else -int(self._fair + distance)
        if opposite.keys:
            key = min(key, -opposite.keys[-1] - 1)
        sizes = side.sizes
        while key in sizes:
            key -= 1
        return self.book.limit(buy, max(1, key) if buy else -key, self._size())

    def _take(self, buy: bool, theirs: Queued) -> list[Fill]:
        """A market order of about the best level's size, that takes only what is to spare."""
        keys, sizes = theirs.keys, theirs.sizes
        lots = 1 + int(sizes[keys[-1]] * QUANTILES[int(self._draw() * 256)] * 0.8)
        return self.book.market(buy, min(lots, sum([sizes[key] for key in keys[-spared(theirs) :]])))

    def _cancel(self, buy: bool, side: Queued) -> list[Fill]:
        """Withdraw an order; those far from the best price sooner than those near it."""
        place = self._draw()
        queue = side.queues[side.keys[int(place * place * len(side.keys))]]
        number = int(self._draw() * len(queue))
        for order in queue:
            if not number:
                self.book.cancel(order, buy)
                break
            number -= 1
        return []


def spared(side: Queued) -> int:
    """How many of the best levels one order may take."""
    return max(0, min(LEVELS_TAKEN, len(side.keys) - LEVELS_MIN))
