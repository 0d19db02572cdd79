"""A matching book: resting orders by price, then by time, in whole ticks and lots.

    limit --crosses--> fills, the rest rests        market --> fills, the rest is void        cancel --> gone

Each input returns its fills and leaves in `touched_bids`/`touched_asks` the levels that it changed, each once. The best price of
a side is the end of a sorted list; a level's orders are a dict by number, which keeps them in time order: every step costs at most
the logarithm of the number of levels. Next door: `flow.py` decides what is sent in; `market.py` tells the world.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from typing import NamedTuple

from truetape.core.feed.counterpart import Ladder, Steps

ANY_PRICE = -(1 << 62)


class Fill(NamedTuple):
    """One maker met: at its price, so many lots; `buy` where the taker bought."""

    price: int
    size: int
    maker: int
    taker: int
    buy: bool


class Queued(Ladder):
    """One side, with the orders behind each level."""

    __slots__ = ("queues",)

    def __init__(self, sign: int) -> None:
        super().__init__(sign)
        self.queues: dict[int, dict[int, int]] = {}  # key -> order -> lots left, oldest first


class MatchingBook:
    """One symbol's order book. Order numbers count from 1."""

    __slots__ = ("asks", "bids", "last", "orders", "touched_asks", "touched_bids")

    def __init__(self) -> None:
        self.bids = Queued(1)
        self.asks = Queued(-1)
        self.orders: dict[int, int] = {}  # resting order -> its price, negated for asks
        self.last = 0
        self.touched_bids: dict[int, None] = {}
        self.touched_asks: dict[int, None] = {}

    def limit(self, buy: bool, price: int, lots: int) -> list[Fill]:
        """An order that trades at its price or better, and rests with what is left. Its number is `last` afterwards."""
        self.last += 1
        mine, theirs = (self.bids, self.asks) if buy else (self.asks, self.bids)
        key = price if buy else -price
        fills: list[Fill] = []
        if theirs.keys and theirs.keys[-1] >= -key:
            lots = self._match(theirs, -key, lots, fills)
        if lots:
            if key in mine.sizes:
                mine.sizes[key] += lots
                mine.queues[key][self.last] = lots
            else:
                insort(mine.keys, key)
                mine.sizes[key] = lots
                mine.queues[key] = {self.last: lots}
            self.orders[self.last] = key
            (self.touched_bids if buy else self.touched_asks)[key] = None
        return fills

    def market(self, buy: bool, lots: int) -> list[Fill]:
        """An order that takes the best there is; what the book cannot fill is void."""
        self.last += 1
        fills: list[Fill] = []
        self._match(self.asks if buy else self.bids, ANY_PRICE, lots, fills)
        return fills

    def _match(self, theirs: Queued, floor: int, lots: int, fills: list[Fill]) -> int:
        """Fill from the best level down to `floor`; returns what is left."""
        keys, sizes, queues = theirs.keys, theirs.sizes, theirs.queues
        buy = theirs is self.asks
        touched = self.touched_asks if buy else self.touched_bids
        taker = self.last
        while lots and keys and keys[-1] >= floor:
            key = keys[-1]
            queue = queues[key]
            touched[key] = None
            total = sizes[key]
            if lots >= total:
                for order, size in queue.items():
                    fills.append(Fill(abs(key), size, order, taker, buy))
                    del self.orders[order]
                keys.pop()
                del sizes[key], queues[key]
                lots -= total
                continue
            sizes[key] = total - lots
            while lots:
                order = next(iter(queue))
                size = queue[order]
                if size > lots:
                    queue[order] = size - lots
                    size = lots
                else:
                    del queue[order], self.orders[order]
                fills.append(Fill(abs(key), size, order, taker, buy))
                lots -= size
        return lots

    def cancel(self, order: int, buy: bool) -> bool:
        """Withdraw a resting order; False where it does not rest on that side."""
        side = self.bids if buy else self.asks
        key = self.orders.get(order)
        if key is None or (key > 0) is not buy:
            return False
        del self.orders[order]
        queue = side.queues[key]
        lots = queue.pop(order)
        if queue:
            side.sizes[key] -= lots
        else:
            del side.queues[key], side.sizes[key]
            del side.keys[bisect_left(side.keys, key)]
        (self.touched_bids if buy else self.touched_asks)[key] = None
        return True

    def changes(self) -> tuple[list[Steps], list[Steps]]:
        """The levels touched since the last call, with their size now."""
        bids = [(key, self.bids.sizes.get(key, 0)) for key in self.touched_bids]
        asks = [(-key, self.asks.sizes.get(key, 0)) for key in self.touched_asks]
        self.touched_bids.clear()
        self.touched_asks.clear()
        return bids, asks
