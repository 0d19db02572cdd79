"""What Kraken's two spot protocols share: the checksum, depths, intervals, and the list of pairs. Not a venue of its own.

`kraken.py` (v2) and `kraken_v1.py` are the venues; they differ in frames and in the spelling of two assets.
"""

from __future__ import annotations

from collections.abc import Callable
from zlib import crc32

import msgspec
from msgspec import Struct

from truetape.core.feed.parse import decimals
from truetape.core.feed.venue import Accepted, Rejected, Want
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


REASONS = (
    ("rate", "rate_limit", 5.0), ("too many requests", "rate_limit", 5.0), ("throttled", "rate_limit", 5.0),
    ("temporary lockout", "rate_limit", 900.0), ("invalid key", "bad_key", -1.0), ("invalid session", "bad_key", -1.0),
    ("permission denied", "bad_key", -1.0), ("eservice", "venue_error", -1.0), ("internal error", "venue_error", -1.0),
    ("depth", "bad_request", -1.0), ("interval", "bad_request", -1.0), ("currency pair", "unknown_symbol", -1.0),
    ("unknown asset pair", "unknown_symbol", -1.0), ("invalid permissions", "unavailable", -1.0),
)  # fmt: skip
"""Words of the venue's errors (it numbers none), what they mean, and how long to wait, s; the first that is found holds."""


def refused(text: str, pairs: tuple[tuple[str, str], ...]) -> Rejected | Accepted:
    """An error in the venue's words. Pairs of a limit or a trouble of its own are asked for again; what is subscribed already stands."""
    low = text.lower()
    if "already subscribed" in low:
        return Accepted(pairs)
    for word, reason, wait_s in REASONS:
        if word in low:
            return Rejected(reason, text, pairs=pairs, retry_after_s=wait_s, whole=len(pairs) > 1)
    return Rejected("bad_request", text, pairs=pairs, whole=len(pairs) > 1)


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
