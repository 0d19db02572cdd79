"""One order book: levels by price, the best of them at hand, and the marks that a venue's checksum is made from.

Each side is a dict (price -> size) beside a sorted list of keys with the best one last, where it is cheap to change (asks are
kept as negated prices). A book that is replaced whole by every message never builds either: it keeps the venue's own lists until
a change arrives. Next door: `sync.py` decides what may be applied; `metrics.py` computes.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Callable

from truetape.model.event import Level


def merge(bids: list[Level], asks: list[Level]) -> bool:
    """Of a price that stands twice in a whole book the last holds; True where one did."""
    twice = False
    for side in (bids, asks):
        if len(dict(side)) != len(side):
            side[:] = dict(side).items()
            twice = True
    return twice


class OrderBook:
    """Levels of one symbol. It holds what it was told: whether that may be believed is `BookSync`'s to say."""

    __slots__ = ("_ask_keys", "_ask_marks", "_ask_sizes", "_bid_keys", "_bid_marks", "_bid_sizes", "_sum", "_whole")

    def __init__(self) -> None:
        self._bid_sizes: dict[float, float] = {}
        self._ask_sizes: dict[float, float] = {}
        self._bid_keys: list[float] = []
        self._ask_keys: list[float] = []
        self._bid_marks: dict[float, str] = {}
        self._ask_marks: dict[float, str] = {}
        self._whole: tuple[list[Level], list[Level]] | None = None
        self._sum: int | None = None

    def clear(self) -> None:
        """Forget every level."""
        self.replace([], [])

    def replace(self, bids: list[Level], asks: list[Level], marks: tuple[list[str], list[str]] | None = None) -> None:
        """Take a whole book. The lists are kept and put in order, best first; levels of size 0 are left out."""
        if marks is not None:
            self._bid_marks = {level[0]: mark for level, mark in zip(bids, marks[0], strict=True)}
            self._ask_marks = {level[0]: mark for level, mark in zip(asks, marks[1], strict=True)}
        elif self._bid_marks or self._ask_marks:
            self._bid_marks, self._ask_marks = {}, {}  # those of the book before tell nothing of this one
        merge(bids, asks)
        if not all([size for _, size in bids]):  # noqa: C419  a list is twice as quick here
            bids[:] = [level for level in bids if level[1]]
        if not all([size for _, size in asks]):  # noqa: C419
            asks[:] = [level for level in asks if level[1]]
        self.take(bids, asks)
        self._sum = None

    def take(self, bids: list[Level], asks: list[Level]) -> None:
        """Take a whole book that has no empty levels and no marks: the quick way of `replace`."""
        bids.sort(reverse=True)
        asks.sort()
        self._whole = (bids, asks)

    def _split(self) -> None:
        """Build the dicts and key lists of a book that was taken whole: a change is about to be applied."""
        assert self._whole is not None, "split is called only on a whole book"
        bids, asks = self._whole
        self._bid_sizes = dict(bids)
        self._ask_sizes = dict(asks)
        self._bid_keys = sorted(self._bid_sizes)
        self._ask_keys = sorted([-price for price in self._ask_sizes])
        self._whole = None

    def apply(self, bids: list[Level], asks: list[Level]) -> None:
        """Apply absolute sizes; 0 removes, and removing what is not there is normal."""
        if self._whole is not None:
            self._split()
        if bids:
            sizes, keys = self._bid_sizes, self._bid_keys
            for price, size in bids:
                if size:
                    if price not in sizes:
                        insort(keys, price)
                    sizes[price] = size
                elif price in sizes:
                    del sizes[price]
                    del keys[bisect_left(keys, price)]
        if asks:
            sizes, keys = self._ask_sizes, self._ask_keys
            for price, size in asks:
                if size:
                    if price not in sizes:
                        insort(keys, -price)
                    sizes[price] = size
                elif price in sizes:
                    del sizes[price]
                    del keys[bisect_left(keys, -price)]

    def mark(self, bids: list[Level], asks: list[Level], marks: tuple[list[str], list[str]], top: int) -> None:
        """Remember the checksum text of changed levels; call after `apply`. Keeps the last sum if the best `top` did not change."""
        bid_keys, ask_keys = self._bid_keys, self._ask_keys
        worst_bid = bid_keys[-top] if len(bid_keys) >= top else 0.0
        worst_ask = -ask_keys[-top] if len(ask_keys) >= top else float("inf")
        texts = self._bid_marks
        for (price, size), text in zip(bids, marks[0], strict=True) if bids else ():
            if price >= worst_bid:
                self._sum = None
            if size:
                texts[price] = text
            else:
                texts.pop(price, None)
        texts = self._ask_marks
        for (price, size), text in zip(asks, marks[1], strict=True) if asks else ():
            if price <= worst_ask:
                self._sum = None
            if size:
                texts[price] = text
            else:
                texts.pop(price, None)

    def truncate(self, depth: int) -> None:
        """Drop the levels beyond `depth` on each side, as a venue does that sends no deletes for them."""
        if self._whole is not None:
            bids, asks = self._whole
            for side, marks in ((bids, self._bid_marks), (asks, self._ask_marks)):
                for price, _ in side[depth:]:
                    marks.pop(price, None)
            self._whole = (bids[:depth], asks[:depth])
            return
        keys = self._bid_keys
        while len(keys) > depth:
            price = keys.pop(0)
            del self._bid_sizes[price]
            self._bid_marks.pop(price, None)
        keys = self._ask_keys
        while len(keys) > depth:
            price = -keys.pop(0)
            del self._ask_sizes[price]
            self._ask_marks.pop(price, None)

    def checksum(self, rule: Callable[[list[str], list[str]], int], top: int) -> int:
        """The venue's number over the marks of the best `top` levels of each side; computed only when one of them changed.

        A level that came without its mark counts as empty text: the number will not hold, and says so.
        """
        if self._sum is None:
            bid_mark, ask_mark = self._bid_marks.get, self._ask_marks.get
            if self._whole is not None:
                bids, asks = [price for price, _ in self._whole[0][:top]], [price for price, _ in self._whole[1][:top]]
            else:
                bids, asks = self._bid_keys[: -top - 1 : -1], [-key for key in self._ask_keys[: -top - 1 : -1]]
            self._sum = rule([bid_mark(price, "") for price in bids], [ask_mark(price, "") for price in asks])
        return self._sum

    def bids(self, n: int = 0) -> list[Level]:
        """The best n bids (0: all), highest first; a new list."""
        if self._whole is not None:
            return self._whole[0][:n] if n else self._whole[0][:]
        sizes = self._bid_sizes
        keys = self._bid_keys[: -n - 1 : -1] if n else self._bid_keys[::-1]
        return [(price, sizes[price]) for price in keys]

    def asks(self, n: int = 0) -> list[Level]:
        """The best n asks (0: all), lowest first; a new list."""
        if self._whole is not None:
            return self._whole[1][:n] if n else self._whole[1][:]
        sizes = self._ask_sizes
        keys = self._ask_keys[: -n - 1 : -1] if n else self._ask_keys[::-1]
        return [(-key, sizes[-key]) for key in keys]

    @property
    def crossed(self) -> bool:
        """True when the best bid is not below the best ask."""
        if self._whole is not None:
            bids, asks = self._whole
            return bool(bids and asks and bids[0][0] >= asks[0][0])
        return bool(self._bid_keys and self._ask_keys and self._bid_keys[-1] >= -self._ask_keys[-1])

    @property
    def counts(self) -> tuple[int, int]:
        """How many bids and asks it holds."""
        if self._whole is not None:
            return len(self._whole[0]), len(self._whole[1])
        return len(self._bid_keys), len(self._ask_keys)

    def marks(self) -> tuple[list[str], list[str]]:
        """The checksum texts beside `bids()` and `asks()`; empty lists where none are kept."""
        if not self._bid_marks and not self._ask_marks:
            return [], []
        bid_mark, ask_mark = self._bid_marks.get, self._ask_marks.get
        return [bid_mark(price, "") for price, _ in self.bids()], [ask_mark(price, "") for price, _ in self.asks()]
