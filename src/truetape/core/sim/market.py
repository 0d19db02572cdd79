"""A market of simulated symbols: one step sends one order into one book and says what changed.

Everything that a simulated venue tells is read from here, so that levels, sequence numbers, checksums and candles are true by
construction; tests ask the same books as an oracle. Next door: `matching.py` and `flow.py` make the changes; a `Counterpart` in
`venues` words them.
"""

from __future__ import annotations

from bisect import bisect
from collections.abc import Callable, Sequence
from itertools import accumulate
from random import Random

from truetape.core.feed.counterpart import Change, Ladder, Listed, Print
from truetape.core.feed.write import decimal
from truetape.core.sim.flow import Flow
from truetape.core.sim.listing import Listing
from truetape.core.sim.matching import MatchingBook

FIRST_SEQ = 1_000_000
"""The number of every opening book."""

TextLevel = tuple[str, str]
"""(price, size) with every digit that the venue writes."""


class Market:
    """Books of many symbols, moved by seeded flow. `listed` is what counterparts read; `native` spells a canonical name."""

    def __init__(
        self, rows: Sequence[Listing], native: Callable[[str], str], seed: int, now: int, *, history: bool = False
    ) -> None:
        self.listed: dict[str, Listed] = {}
        self.steps = 0
        self._history: dict[str, list[Change]] | None = {} if history else None
        self._opening: dict[str, tuple[Ladder, Ladder]] = {}
        self._flows: list[tuple[Flow, Listed]] = []
        self._random = Random(f"{seed}:market")
        self._draw = self._random.random
        for row in rows:
            instrument = row.instrument(native(row.symbol))
            book = MatchingBook()
            flow = Flow(book, row.price, row.unit, Random(f"{seed}:flow:{row.symbol}").random)
            flow.open()
            listed = self.listed[instrument.raw] = Listed(instrument, row.price, now, book.bids, book.asks)
            listed.seq = FIRST_SEQ
            self._flows.append((flow, listed))
            if self._history is not None:
                self._history[instrument.raw] = []
                self._opening[instrument.raw] = (copy_of(book.bids), copy_of(book.asks))
        # some symbols are busier than others: the first gets about ten times the share of the last
        self._weights = list(accumulate(1 / (1 + 9 * i / max(1, len(rows))) for i in range(len(rows))))

    def step(self, now: int, orders: int = 1) -> Change:
        """So many orders in one book. Which book and what orders depend on the seed and the steps before, not on `now`."""
        self.steps += 1
        weights = self._weights
        flow, listed = self._flows[bisect(weights, self._draw() * weights[-1], 0, len(weights) - 1)]
        fills = flow.step()
        for _ in range(orders - 1):
            fills += flow.step()
        bids, asks = flow.book.changes()
        first = listed.seq + 1
        listed.seq += len(bids) + len(asks)
        prints: list[Print] = []
        number = listed.day.last_id
        for price, size, maker, taker, buy in fills:
            number += 1
            trade = Print(price, size, "buy" if buy else "sell", number, now, maker, taker)
            listed.trade(trade)
            prints.append(trade)
        change = Change(listed.instrument.raw, first, listed.seq, bids, asks, prints, {})
        if self._history is not None:
            self._history[change.raw].append(change)
        return change

    def levels(self, raw: str, depth: int = 0) -> tuple[list[TextLevel], list[TextLevel]]:
        """The oracle: bids and asks now, best first, as text with every digit."""
        listed = self.listed[raw]
        return texts(listed, listed.bids, depth), texts(listed, listed.asks, depth)

    def history(self) -> dict[str, list[Change]]:
        """Every change by the venue's spelling, in order; empty where none is kept."""
        return self._history or {}

    def levels_at(self, raw: str, seq: int, depth: int = 0) -> tuple[list[TextLevel], list[TextLevel]]:
        """The same, as it was after the change that ended with `seq`; needs `history`. ValueError where no change ended there."""
        if self._history is None:
            raise ValueError("the market keeps no history")
        bids, asks = (copy_of(side) for side in self._opening[raw])
        last = FIRST_SEQ
        for change in self._history[raw]:
            if last >= seq:
                break
            for ladder, levels in ((bids, change.bids), (asks, change.asks)):
                for price, size in levels:
                    ladder.put(price, size)
            last = change.seq
        if last != seq:
            raise ValueError(f"{raw}: expected the last number of a change, found {seq}")
        listed = self.listed[raw]
        return texts(listed, bids, depth), texts(listed, asks, depth)


def copy_of(side: Ladder) -> Ladder:
    """The levels alone, in a ladder of their own."""
    ladder = Ladder(side.sign)
    ladder.keys = side.keys[:]
    ladder.sizes = dict(side.sizes)
    return ladder


def texts(listed: Listed, side: Ladder, depth: int) -> list[TextLevel]:
    """The best levels of a side as text."""
    places, digits = listed.instrument.price_decimals, listed.instrument.size_decimals
    return [(decimal(price, places), decimal(size, digits)) for price, size in side.top(depth)]
