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


def total(levels: Sequence[Level], n: int) -> float:
    """The summed size of the best n levels."""
    if (
        n == 5 and len(levels) >= 5
    ):  # the founding documents' depth, asked for on every message: half the time of the loop below
        (_, a), (_, b), (_, c), (_, d), (_, e) = levels[:5]
        return a + b + c + d + e
    return sum([level[1] for level in levels[:n]])


def pressure(bids: Sequence[Level], asks: Sequence[Level], n: int) -> float | None:
    """Summed size of the best n bids over that of the best n asks."""
    if not bids or not asks:
        return None
    bid, ask = total(bids, n), total(asks, n)
    return bid / ask if ask else None


def imbalance(bids: Sequence[Level], asks: Sequence[Level], n: int) -> float | None:
    """(bids - asks) / (bids + asks) over the summed sizes of the best n levels: -1 all asks, +1 all bids."""
    if not bids or not asks:
        return None
    bid, ask = total(bids, n), total(asks, n)
    return (bid - ask) / (bid + ask) if bid + ask else None


def summary(bids: Sequence[Level], asks: Sequence[Level], n: int) -> tuple[float, float, float] | None:
    """(spread in bps, pressure, imbalance) over the best n levels, at the price of one; None where a side is empty."""
    if n == 5 and len(bids) >= 5 and len(asks) >= 5:
        (bid_price, a), (_, b), (_, c), (_, d), (_, e) = bids if len(bids) == 5 else bids[:5]
        (ask_price, f), (_, g), (_, h), (_, i), (_, j) = asks if len(asks) == 5 else asks[:5]
        bid, ask = a + b + c + d + e, f + g + h + i + j
    elif bids and asks:
        bid_price, ask_price = bids[0][0], asks[0][0]
        bid, ask = total(bids, n), total(asks, n)
    else:
        return None
    both = bid + ask
    return (
        (ask_price - bid_price) * 20_000 / (ask_price + bid_price),
        bid / ask if ask else 0.0,
        (bid - ask) / both if both else 0.0,
    )
