"""What a simulated venue lists: names, decimals and first prices that look like the real ones, as many as are asked for."""

from __future__ import annotations

from random import Random

from msgspec import Struct

from truetape.model.instrument import Instrument

QUOTED = (
    ("BTC-USDT", 671_234, 1), ("ETH-USDT", 351_245, 2), ("SOL-USDT", 15_231, 2), ("XRP-USDT", 51_234, 5), ("BNB-USDT", 58_150, 2),
    ("DOGE-USDT", 12_345, 5), ("ADA-USDT", 38_512, 5), ("LINK-USDT", 13_871, 3), ("AVAX-USDT", 27_123, 3), ("LTC-USDT", 6_854, 2),
    ("DOT-USDT", 61_234, 4), ("TRX-USDT", 12_871, 5), ("BCH-USDT", 34_512, 2), ("UNI-USDT", 8_123, 3), ("ATOM-USDT", 62_345, 4),
    ("XLM-USDT", 9_876, 5), ("NEAR-USDT", 51_234, 4), ("FIL-USDT", 41_234, 4), ("APT-USDT", 7_123, 3), ("ARB-USDT", 71_234, 5),
)  # fmt: skip
"""Crypto pairs: canonical name, first price in ticks, decimals of the price."""

SHARES = (
    ("AAPL.US", 22_834, 2), ("NVDA.US", 13_912, 2), ("TSLA.US", 34_512, 2), ("MSFT.US", 41_523, 2), ("700.HK", 42_160, 2),
    ("9988.HK", 8_845, 2), ("600519.SH", 151_203, 2), ("000001.SZ", 11_420, 3), ("AMZN.US", 20_431, 2), ("5.HK", 72_150, 3),
)  # fmt: skip
"""Shares, for venues that list them."""


class Listing(Struct, frozen=True):
    """A symbol before it is listed: canonical name, first price in ticks, digits of price and size, lots of a mean order."""

    symbol: str
    price: int
    price_decimals: int
    size_decimals: int
    unit: int

    def instrument(self, raw: str) -> Instrument:
        """As the venue that spells it `raw` lists it."""
        tick, lot = 10.0**-self.price_decimals, 10.0**-self.size_decimals
        return Instrument(self.symbol, raw, tick, lot, self.price_decimals, self.size_decimals, "online")


def listings(count: int, seed: int, size_decimals: int, shares: bool = False) -> list[Listing]:
    """The first `count`: known names (with `shares`, every second one of those), then `S0021-USDT` and so on with seeded prices."""
    known = list(QUOTED)
    if shares:
        known = [row for pair in zip(QUOTED, SHARES, strict=False) for row in pair] + list(QUOTED[len(SHARES) :])
    rows = [_listing(*row, size_decimals) for row in known[:count]]
    random = Random(f"{seed}:listing")
    for number in range(len(rows) + 1, count + 1):
        price, places = int(5_000 * 200 ** random.random()), 2 + int(random.random() * 3)
        rows += [_listing(f"S{number:04}-USDT", price, places, size_decimals)]
    return rows


def _listing(symbol: str, price: int, places: int, size_decimals: int) -> Listing:
    """A mean order is worth about 2,000 of the quote currency."""
    digits = 0 if "." in symbol else size_decimals
    unit = max(1, int(2_000 * 10**places * 10**digits / price))
    return Listing(symbol, price, places, digits, unit)
