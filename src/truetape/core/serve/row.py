"""One symbol as bots of a venue's protocol are told of it: its book in whole steps of the venue's own digits, and whether it is whole.

    unsound --load--> sound --lose--> unsound          apply: a change of a sound book, False where its digits do not fit

Next door: `native.py` has the rows of a venue; `grain.py` finds the digits, `ladders.py` works on sides.
"""

from __future__ import annotations

from msgspec.structs import replace

from truetape.core.feed.counterpart import Counterpart, Listed, Print, Steps
from truetape.core.serve import grain
from truetape.core.serve.ladders import cut, difference, fill
from truetape.model.event import Book, Trade


class Row:
    """What bots are told of, whether its book is whole, and why not. `truncate`: the venue keeps no more levels than it said."""

    __slots__ = ("book", "depth", "kind", "known", "listed", "sound", "truncate", "why")

    def __init__(self, listed: Listed, kind: type[Counterpart], truncate: bool, book: bool) -> None:
        self.listed = listed
        self.kind = kind
        self.truncate = truncate
        self.book = book  # whether the gateway has a book of it at all
        self.known = listed.instrument.price_decimals >= 0  # whether its digits are
        self.sound = False
        self.why = "waiting for the first book"
        self.depth = 0  # levels that the venue maintains; 0 all

    def lose(self) -> None:
        """Not whole any more."""
        self.sound = False
        fill(self.listed.bids, ())
        fill(self.listed.asks, ())

    def load(self, book: Book) -> None:
        """A whole book to begin with; `why` says what was wrong with it where it is not sound then."""
        places, digits = self._grain(book)
        if max(places, digits) > grain.PLACES_MAX or min(places, digits) < 0:
            self.why = "its digits cannot be told"
            return
        listed = self.listed
        old = listed.instrument
        listed.instrument = replace(old, symbol=book.symbol, price_decimals=places, size_decimals=digits)
        if (places, digits) != (old.price_decimals, old.size_decimals):
            listed.prints.clear()
        self.known = True
        sides = self._steps(book)
        if sides is None:
            self.why = "its digits do not agree with its checksum"
            return
        for side, levels in ((listed.bids, sides[0]), (listed.asks, sides[1])):
            fill(side, levels)
        listed.seq = book.seq if book.seq >= 0 else listed.seq + 1
        listed.depth = self.depth = book.depth
        self.sound, self.why = True, ""

    def apply(self, event: Book) -> tuple[list[Steps], list[Steps]] | None:
        """What a change of a sound book, or another whole one, changes; None where it cannot be laid over it."""
        listed = self.listed
        sides = self._steps(event)
        if sides is None or (event.snapshot and 0 <= event.seq < listed.seq):
            return None
        bids, asks = sides
        if event.snapshot:
            bids, asks = difference(listed.bids, bids), difference(listed.asks, asks)
        for side, levels in ((listed.bids, bids), (listed.asks, asks)):
            for price, size in levels:
                side.put(price, size)
            if self.truncate and self.depth:
                levels += cut(side, self.depth)
        return bids, asks

    def print(self, event: Trade, count: int) -> Print | None:
        """A trade in whole steps, numbered by the venue or else by `count`; None where its digits do not fit those of the book."""
        listed = self.listed
        if not self.known:
            places, digits = grain.needed([(event.price, event.size)])
            listed.instrument = replace(listed.instrument, price_decimals=places, size_decimals=digits)
            self.known = True
        instrument = listed.instrument
        price = grain.whole(event.price, instrument.price_decimals)
        size = grain.whole(event.size, instrument.size_decimals)
        if price < 0 or size < 0:
            fits = self._widen(grain.needed([(event.price, event.size)]))
            return self.print(event, count) if fits else None
        number = int(event.id) - self.kind.first_trade if event.id.isdecimal() else count
        trade = Print(price, size, event.side, number, event.ts or event.recv, taker=count)
        listed.trade(trade)
        return trade

    def _steps(self, event: Book) -> tuple[list[Steps], list[Steps]] | None:
        """Both sides in whole steps; None where they have other digits than the book."""
        instrument = self.listed.instrument
        places, digits = instrument.price_decimals, instrument.size_decimals
        sides: list[list[Steps]] = []
        for number, levels in enumerate((event.bids, event.asks)):
            side = [(grain.whole(price, places), grain.whole(size, digits)) for price, size in levels]
            if any(price < 0 or size < 0 for price, size in side):
                return self._steps(event) if self._widen(grain.needed(event.bids + event.asks)) else None
            if event.marks is not None and not all(
                grain.agrees(price, size, mark) for (price, size), mark in zip(side, event.marks[number], strict=True)
            ):
                return None
            sides.append(list(dict(side).items()))  # Kraken may name a price twice in one message: the last word holds
        return sides[0], sides[1]

    def _grain(self, book: Book) -> tuple[int, int]:
        if book.marks is not None:
            levels, marks = book.bids + book.asks, book.marks[0] + book.marks[1]
            return grain.marked(levels, marks) or (-1, -1)
        of_price, of_size = grain.needed(book.bids + book.asks)
        known = self.listed.instrument
        return max(of_price, known.price_decimals), max(of_size, known.size_decimals)

    def _widen(self, wanted: tuple[int, int]) -> bool:
        """More digits than so far: the same book in finer steps. Never where a checksum counts digits, nor beyond what can be written."""
        listed = self.listed
        old = listed.instrument
        places, digits = max(wanted[0], old.price_decimals), max(wanted[1], old.size_decimals)
        if self.kind.wrong.summed or max(places, digits) > self.kind.decimals_max:
            return False
        by_price, by_size = 10 ** (places - old.price_decimals), 10 ** (digits - old.size_decimals)
        for side in (listed.bids, listed.asks):
            fill(side, [(price * by_price, size * by_size) for price, size in side.top()])
        listed.prints.clear()
        listed.instrument = replace(old, price_decimals=places, size_decimals=digits)
        return True
