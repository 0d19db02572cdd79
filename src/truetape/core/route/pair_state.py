"""Two lines as a checkpoint keeps them: `save` and `load` are the way back to the very same decisions.

Next door: `pair.py` merges the lines; `checkpoint.py` saves it with the pump.
"""

from __future__ import annotations

from msgspec import Struct
from msgspec.structs import replace

from truetape.core.book import state as books
from truetape.core.feed.lines import Arbiter, Tally
from truetape.core.feed.prints import Prints
from truetape.core.feed.sequenced import Sequenced
from truetape.core.route.pair import Pair


class PairState(Struct, array_like=True):
    """Two lines, for a checkpoint."""

    sources: tuple[str, str]
    successor: int  # -1: none, two lines for good
    switched: int
    floor: int
    leader: int
    alone: list[bool]
    tally: list[Tally]
    arbiters: list[tuple[str, str, Arbiter]]
    warm: list[tuple[str, books.BookState]]
    refused: list[list[tuple[str, str]]]
    waiting: list[tuple[str, str]]


def save(pair: Pair) -> PairState:
    """All that later decisions depend on."""
    arbiters = [(channel, raw, _saved(arbiter)) for (channel, raw), arbiter in pair.arbiters.items()]
    warm = pair.standbys.save()
    refused = [list(pairs) for pairs in pair.refused]
    sources = (pair.links[0].source, pair.links[1].source)
    successor = pair.successor.line if pair.successor is not None else -1
    return PairState(
        sources, successor, pair.switched, pair.floor, pair.leader.line, pair.alone, pair.tally, arbiters, warm, refused,
        list(pair.waiting),
    )  # fmt: skip


def load(pair: Pair, saved: PairState) -> None:
    """Put a fresh pair back as it was saved; the links' streams are put back afterwards."""
    to = pair.links[saved.leader]
    if to is not pair.leader:
        pair.move(to)
    pair.alone, pair.tally = saved.alone, saved.tally
    pair.successor = pair.links[saved.successor] if saved.successor >= 0 else None
    pair.switched, pair.floor = saved.switched, saved.floor
    pair.arbiters = {(channel, raw): arbiter for channel, raw, arbiter in saved.arbiters}
    pair.refused = [dict.fromkeys(pairs) for pairs in saved.refused]
    pair.waiting = dict.fromkeys(saved.waiting)
    pair.standbys.load(saved.warm)


def _saved(arbiter: Arbiter) -> Arbiter:
    """Without what only the tally is made from."""
    if isinstance(arbiter, Sequenced):
        return replace(arbiter, recent=[])
    return replace(arbiter, line=replace(arbiter.line, recent=[])) if isinstance(arbiter, Prints) else arbiter
