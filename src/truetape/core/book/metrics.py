"""What a book says about the market: pure functions of its best levels, None where a side is empty.

`bids` are (price, size) best (highest) first, `asks` best (lowest) first, as `OrderBook.bids` and `Book` snapshots give them.
Terms as in the founding documents: pressure is bids over asks, imbalance lies in [-1, +1] with + for more bids.
"""

from __future__ import annotations

from collections.abc import Sequence

from truetape.model.event import Level


def spread(bids: Sequence[Level], asks: Sequence[Level]) -> float | None:
    """Best ask minus best bid, in price units."""
    return asks[0][0] - bids[0][0] if bids and asks else None


def mid(bids: Sequence[Level], asks: Sequence[Level]) -> float | None:
    """The middle between best bid and best ask."""
    return (asks[0][0] + bids[0][0]) / 2 if bids and asks else None


def spread_bps(bids: Sequence[Level], asks: Sequence[Level]) -> float | None:
    """The spread in hundredths of a percent of the mid price."""
    if not bids or not asks:
        return None
    bid, ask = bids[0][0], asks[0][0]
    return (ask - bid) * 20_000 / (ask + bid)


def microprice(bids: Sequence[Level], asks: Sequence[Level]) -> float | None:
    """The mid weighted by the opposite sizes: leans to the side that is about to give way."""
    if not bids or not asks:
        return None
    (bid, bid_size), (ask, ask_size) = bids[0], asks[0]
    total = bid_size + ask_size
    return (bid * ask_size + ask * bid_size) / total if total else None


def sizes(bids: Sequence[Level], asks: Sequence[Level], n: int) -> tuple[float, float]:
    """The summed sizes of the best n bids and asks."""
    return sum([level[1] for level in bids[:n]]), sum([level[1] for level in asks[:n]])


def pressure(bids: Sequence[Level], asks: Sequence[Level], n: int) -> float | None:
    """Summed size of the best n bids over that of the best n asks."""
    bid, ask = sizes(bids, asks, n)
    return bid / ask if bids and asks and ask else None


def imbalance(bids: Sequence[Level], asks: Sequence[Level], n: int) -> float | None:
    """(bids - asks) / (bids + asks) over the summed sizes of the best n levels: -1 all asks, +1 all bids."""
    bid, ask = sizes(bids, asks, n)
    return (bid - ask) / (bid + ask) if bids and asks and bid + ask else None
