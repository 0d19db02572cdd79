"""Floats back to whole steps of 10^-places, exactly, and how many places a venue's numbers have. Next door: `native.py`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from decimal import Decimal

from truetape.model.event import Level

TEN: list[int] = [10**places for places in range(31)]
PLACES_MAX = 18
SAMPLE = 200
"""Marked levels of a side that are read for their places: more than one is needed only where a text can be cut in two ways."""


def whole(value: float, places: int) -> int:
    """How many steps of 10^-places this number is; -1 where it has more digits than that, so that nothing is ever rounded."""
    steps: int = round(value * TEN[places])
    if (
        steps / TEN[places] == value
    ):  # ints are divided with correct rounding: only the number's own decimal text comes back
        return steps
    exact = Decimal(repr(value)).scaleb(places)
    return int(exact) if exact == exact.to_integral_value() else -1


def places(value: float) -> int:
    """Digits behind the point that this number needs: 0.5 -> 1, 3.0 -> 0, 1e-08 -> 8."""
    return max(0, -int(Decimal(repr(value)).normalize().as_tuple().exponent))


def needed(levels: Iterable[Level]) -> tuple[int, int]:
    """The places that prices and sizes of all these levels need."""
    of_price = of_size = 0
    for price, size in levels:
        of_price, of_size = max(of_price, places(price)), max(of_size, places(size))
    return of_price, of_size


def marked(levels: Sequence[Level], marks: Sequence[str]) -> tuple[int, int] | None:
    """The places of the text that a checksum is made from: price and size without point and leading zeros; None where they do not agree.

    One text may be cut in more ways than one; what all of them allow is the answer, the fewest places where that is still several.
    """
    left: set[tuple[int, int]] | None = None
    for (price, size), mark in list(zip(levels, marks, strict=True))[:SAMPLE]:
        if not size:
            continue
        ways = set(_cuts(price, size, mark))
        left = ways if left is None else left & ways
        if len(left) <= 1:
            break
    return min(left) if left else None


def _cuts(price: float, size: float, mark: str) -> Iterable[tuple[int, int]]:
    for of_price in range(PLACES_MAX + 1):
        steps = whole(price, of_price)
        text = str(steps)
        if steps < 0 or not mark.startswith(text):
            continue
        rest = mark[len(text) :]
        for of_size in range(PLACES_MAX + 1):
            lots = whole(size, of_size)
            if lots >= 0 and str(lots) == rest:
                yield of_price, of_size


def agrees(price: int, size: int, mark: str) -> bool:
    """Whether these steps are the text that the venue sums."""
    return not size or f"{price}{size}" == mark
