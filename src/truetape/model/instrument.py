"""What can be traded: the venue's spelling of a symbol, ours, and the grain of its numbers."""

from __future__ import annotations

from msgspec import Struct


class Instrument(Struct, frozen=True, gc=False, omit_defaults=True):
    """One row of a venue's instrument list.

    `symbol` is canonical (`BTC-USDT`, `BTC-USDT-PERP`, `BTC-USD-210924`), `raw` the venue's own. `tick` and `lot` are the smallest
    steps of price and size (0 unknown); `price_decimals`/`size_decimals` how many digits the venue writes (-1 unknown).
    """

    symbol: str
    raw: str
    tick: float = 0.0
    lot: float = 0.0
    price_decimals: int = -1
    size_decimals: int = -1
    status: str = ""
