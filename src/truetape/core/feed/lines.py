"""Two lines of one feed: of what both say, the first to come is passed on, once, in the venue's order.

    each line's decoder ─► arbiter of the stream ─► judge, book, consumers

What the venue numbers is merged by its numbers (`Sequenced`): a message that is ahead waits until the other line brought what lies between,
or has itself gone beyond it, or `WAIT` is over. Trades go by their id, else by content, as often as the line that said it most often
(`Prints`). Of quotes, tickers, bars and unnumbered whole books only news pass (`Latest`). Changes that nothing numbers cannot be merged:
one line is primary, the other keeps a book of its own warm (`Standby`, and `core.route.standby`). `core.route.pair` knows connections.

All of it is plain data that a checkpoint keeps as it is. `line` is 0 or 1; `alone` says that the other line does not stand. Next door:
`sequenced.py`, `prints.py` and `latest.py` have one arbiter each.
"""

from __future__ import annotations

from typing import TypeAlias

from msgspec import Struct

from truetape.core.feed.latest import Latest
from truetape.core.feed.prints import Prints
from truetape.core.feed.sequenced import Sequenced, by_line


class Tally(Struct):
    """What one line was good for: messages it brought first, and again; its own jumps, and messages that it alone brought."""

    wins: int = 0
    late: int = 0
    missed: int = 0
    saved: int = 0


class Standby(Struct, tag="standby"):
    """Changes that nothing numbers: `primary` is published, the other line's book is kept warm beside it."""

    primary: int = 0
    since: int = 0  # when the standby spoke a second time after the primary's last word
    row: int = 0  # how often it did
    came: list[int] = by_line(0)

    def opened(self, line: int) -> None:
        """A line begins anew."""
        self.came[line] = 0


Arbiter: TypeAlias = Sequenced | Prints | Latest | Standby
