"""Whole books that nothing numbers or checks, and when a venue's rule asks for no more than that.

Next door: `sync.py` keeps every other book.
"""

from __future__ import annotations

from collections.abc import Sequence

from truetape.core.book.book import merge
from truetape.core.book.sync import NOTHING, BookSync
from truetape.core.feed.venue import Rule
from truetape.model.event import Book


class WholeSync(BookSync):
    """Whole books that nothing numbers or checks: the last one is the book, if it is not crossed.

    Looking for prices that stand twice takes a seventh of the time of a message, so the first and every 32nd are looked at, and all of a
    venue that was ever caught.
    """

    __slots__ = ("_twice",)

    def __init__(self, rule: Rule, depth: int = 0) -> None:
        super().__init__(rule, depth)
        self._twice = False

    def feed(self, event: Book) -> Sequence[Book]:
        """Take it; see `BookSync.feed`."""
        bids, asks = event.bids, event.asks
        counts = self.counts
        if self._twice or not counts.snapshots & 31:
            self._twice = merge(bids, asks) or self._twice
        counts.snapshots += 1
        self.book.take(bids, asks)
        if bids and asks and bids[0][0] >= asks[0][0]:
            self.fail("GAP", "crossed: the best bid is not below the best ask")
            return NOTHING
        if not self.live:
            self._live()
        return (event,)


def make(rule: Rule, depth: int = 0) -> BookSync:
    """The keeper that a venue's rule needs."""
    plain = rule.snapshot == "whole" and rule.numbers == "none" and rule.checksum is None and not rule.counter
    return WholeSync(rule, depth) if plain else BookSync(rule, depth)
