"""What a re-broadcast book does with whole sides: begin anew, become another, lose its end. Next door: `native.py`."""

from __future__ import annotations

from collections.abc import Iterable

from truetape.core.feed.counterpart import Ladder, Steps


def fill(side: Ladder, levels: Iterable[Steps]) -> None:
    """These and no other levels; the ladder stays the same object."""
    side.sizes = {price * side.sign: size for price, size in levels if size}
    side.keys = sorted(side.sizes)


def difference(side: Ladder, levels: list[Steps]) -> list[Steps]:
    """What turns a side into these levels."""
    new = {price * side.sign: size for price, size in levels if size}
    gone = [(abs(key), 0) for key in side.keys if key not in new]
    return gone + [(abs(key), size) for key, size in new.items() if side.sizes.get(key) != size]


def cut(side: Ladder, depth: int) -> list[Steps]:
    """Levels that fell out of what the venue maintains are no more."""
    gone = [(abs(key), 0) for key in side.keys[:-depth]] if len(side.keys) > depth else []
    for price, _ in gone:
        side.put(price, 0)
    return gone
