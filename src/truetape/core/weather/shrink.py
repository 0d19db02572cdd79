"""The shortest list that still fails: delta debugging (ddmin, Zeller and Hildebrandt 2002) with a bound on the tries.

Next door: `scenario.py` has what is made shorter.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

Item = TypeVar("Item")


def shortest(items: Sequence[Item], fails: Callable[[list[Item]], bool], tries: int) -> list[Item]:
    """A part of `items`, in order, that still `fails` and of which no single one can be left out; the best so far when `tries` are used up.

    The whole is taken to fail. `fails` is called `tries` times at most.
    """
    kept, parts = list(items), 2
    if tries > 0 and kept and fails([]):
        return []
    tries -= 1
    while kept and tries > 0:
        size = max(1, len(kept) // parts)
        for start in range(0, len(kept), size):
            if tries <= 0:
                return kept
            rest = kept[:start] + kept[start + size :]
            tries -= 1
            if fails(rest):
                kept, parts = rest, max(2, parts - 1)
                break
        else:
            if size == 1:
                return kept
            parts = min(len(kept), parts * 2)
    return kept
