"""When a market trades: a table of openings and closings in ns, told by a command; no calendar is known here.

Next door: `io.hours` reads the tables in a child process; `health.py` asks them whether silence means anything; a market without a table,
or beyond its end, is not known.
"""

from __future__ import annotations

from bisect import bisect_right

from msgspec import Struct

HOUR = 3600 * 1_000_000_000


class Table(Struct, frozen=True, forbid_unknown_fields=True):
    """One market's sessions in ns: (opens, closes) in order, lunch breaks left out. Nothing is said of before `start`, or from `end` on."""

    market: str
    start: int
    end: int
    spans: list[tuple[int, int]]


def market_of(named: str, dialect: type, raw: str) -> str:
    """The market whose hours a symbol keeps: what the feed says (`always`: none), else what the venue file does; empty: always open."""
    if named:
        return "" if named == "always" else named
    rule = getattr(dialect, "market_of", None)
    return str(rule(raw)) if rule is not None else ""


class Hours:
    """One market's present table; streams hold on to this, and a new table replaces the old one inside."""

    __slots__ = ("_opens", "market", "table")

    def __init__(self, market: str) -> None:
        self.market = market
        self.told(Table(market, 0, 0, []))

    def told(self, table: Table) -> None:
        """A table came."""
        self.table = table
        self._opens = [opens for opens, _ in table.spans]

    def known(self, now: int) -> bool:
        """Whether the table says anything of this moment."""
        return self.table.start <= now < self.table.end

    def opened(self, now: int) -> int:
        """When the session began that is on now; 0 where none is."""
        place = bisect_right(self._opens, now) - 1
        if place < 0:
            return 0
        opens, closes = self.table.spans[place]
        return opens if now < closes else 0

    def within(self, start: int, end: int) -> bool:
        """Whether one session holds both moments; True where nothing is known."""
        if not (self.known(start) and self.known(end)):
            return True
        opened = self.opened(start)
        return opened > 0 and opened == self.opened(end)

    def closed(self, now: int) -> str:
        """What is told of a market that is closed now."""
        place = bisect_right(self._opens, now)
        when = f", and opens in {(self._opens[place] - now) / HOUR:.1f} h" if place < len(self._opens) else ""
        return f"market {self.market} is closed{when}"
