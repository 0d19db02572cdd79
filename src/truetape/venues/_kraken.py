"""What Kraken's two spot protocols share: the checksum, depths, intervals, and the list of pairs. Not a venue of its own.

`kraken.py` (v2) and `kraken_v1.py` are the venues; they differ in frames and in the spelling of two assets.
"""

from __future__ import annotations

from collections.abc import Callable
from zlib import crc32

import msgspec
from msgspec import Struct

from truetape.core.feed.parse import decimals
from truetape.core.feed.venue import Want
from truetape.model.instrument import Instrument

DEPTHS = (10, 25, 100, 500, 1000)
ASKED_MAX = 256
"""Requests remembered until they are answered."""
RENAMED = {"XBT": "BTC", "XDG": "DOGE"}
"""v1 and the list of pairs write two assets in an older way."""


class _Pair(Struct, gc=False):
    wsname: str = ""
    pair_decimals: int = -1
    lot_decimals: int = -1
    tick_size: str = "0"
    status: str = ""


class _Pairs(Struct, gc=False):
    result: dict[str, _Pair] = {}
    error: list[str] = []


_PAIRS = msgspec.json.Decoder(_Pairs, strict=False)


def checksum(bids: list[str], asks: list[str]) -> int:
    """CRC32 over the digits of the best ten asks, lowest first, then the best ten bids, highest first."""
    return crc32("".join(asks + bids).encode())


def digits(text: str) -> str:
    """A number's digits as the checksum wants them: no point, no leading zeros."""
    return text.replace(".", "").lstrip("0")


def depth(want: Want) -> int:
    """The least depth on offer that holds what is wanted."""
    return next((each for each in DEPTHS if each >= (want.depth or 1000)), 1000)


def minutes(channel: str) -> int:
    """Minutes of `bar.1m`, `bar.4h`, `bar.1d`."""
    text = channel.partition(".")[2]
    return int(text[:-1]) * {"m": 1, "h": 60, "d": 1440, "w": 10080}[text[-1]]


def bar_name(interval: int) -> str:
    """`1m` for 1, `4h` for 240."""
    for unit, letter in ((10080, "w"), (1440, "d"), (60, "h")):
        if interval and interval % unit == 0:
            return f"{interval // unit}{letter}"
    return f"{interval}m"


def canonical(raw: str) -> str:
    """`XBT/USD` -> `BTC-USD`."""
    return "-".join(RENAMED.get(part, part) for part in raw.split("/"))


def instruments(body: bytes, spell: Callable[[str], str]) -> list[Instrument]:
    """An AssetPairs answer; `spell` turns a pair's WebSocket name into the protocol's own. Raises as `Dialect.decode`."""
    listed = _PAIRS.decode(body)
    if listed.error:
        raise ValueError(f"the venue answered {listed.error}")
    rows = []
    for pair in listed.result.values():
        if not pair.wsname:
            continue
        lots, tick = pair.lot_decimals, float(pair.tick_size)
        lot = 10.0**-lots if lots >= 0 else 0.0
        tick_digits = decimals(pair.tick_size) if tick else pair.pair_decimals
        rows.append(Instrument(canonical(pair.wsname), spell(pair.wsname), tick, lot, tick_digits, lots, pair.status))
    return rows
