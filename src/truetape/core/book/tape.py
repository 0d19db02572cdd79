"""Trade flow: what was traded, by which side."""

from __future__ import annotations

from msgspec import Struct

from truetape.model.event import Trade


class Flow(Struct):
    """Running sums over the trades of one symbol: `base` and `quote` volumes, and how many had which taker side."""

    n: int = 0
    base: float = 0.0
    quote: float = 0.0
    buy: int = 0
    sell: int = 0

    def add(self, trade: Trade) -> None:
        """Count one trade."""
        self.n += 1
        size = trade.size
        self.base += size
        self.quote += size * trade.price
        if trade.side == "buy":
            self.buy += 1
        elif trade.side == "sell":
            self.sell += 1

    @property
    def vwap(self) -> float | None:
        """Volume-weighted average price, None before the first trade."""
        return self.quote / self.base if self.base else None
