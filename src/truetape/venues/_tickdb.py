"""What the dialects of TickDB have in common: codes, plans, symbols, and the shapes of data. Not a venue of its own.

`tickdb.py` is the documented protocol, the source of these facts (TickDB/tickdb-api-docs cd837a2, 2026-07-16; read 2026-11).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated

import msgspec
from msgspec import Meta, Raw, Struct

from truetape.core.feed.venue import Plan, Price, Rejected, Size, Want, WholeLevel
from truetape.model.event import Level
from truetape.model.instrument import Instrument

MS = 1_000_000
RETRY_MAX_S = 3600.0
SIDES: Mapping[str, str] = {"buy": "buy", "sell": "sell", "neutral": "", "": ""}
"""The vendor names the taker's side; neutral trades have none."""
MARKETS = ("US", "HK", "SZ", "SH")
STABLE = ("USDT", "USDC", "FDUSD", "TUSD", "BUSD")
"""Crypto quotes that end no other market's codes; `BTCUSD` could be a forex pair, and stays as it is."""

REASONS: Mapping[int, str] = {
    1001: "bad_key", 1002: "bad_key", 1003: "bad_key", 1004: "plan",
    2001: "bad_request", 2002: "unknown_symbol", 2003: "bad_request", 2004: "bad_request",
    3001: "rate_limit", 3002: "quota", 3003: "too_many_connections", 3004: "too_many_subscriptions",
    4001: "bad_request", 4002: "bad_request", 4003: "unavailable", 4004: "unavailable",
    5000: "venue_error", 5001: "venue_error", 5002: "venue_error",
}  # fmt: skip
"""en/errors.md, whole."""
_FAMILIES = {1: "bad_key", 2: "bad_request", 3: "rate_limit", 4: "bad_request"}

Millis = Annotated[int, Meta(ge=0, lt=9_223_372_036_855)]
"""Milliseconds whose nanoseconds fit 64 bits."""


PLANS: Mapping[str, Plan] = {
    "free": Plan(5, 1, 30, ("ticker", "quote", "bar")),
    "basic": Plan(50, 1, 60),
    "pro": Plan(300, 3, 600),
    "enterprise": Plan(5000, 10, 1800),
}
"""en/pricing.md (36cb4b6, read 2026-11). Its "concurrent subscriptions" stand beside the key's other limits, and are taken for the key's, not a
connection's: too few asked for is a choice of the user, too many is refused by the venue. Enterprise's numbers are its least."""


class Row(Struct, gc=False):
    price: Price
    quantity: Size


LooseLevel = Row | list[Size]
"""A level of any shape that the papers know: an object, or an array with perhaps more than a price and a size."""


class Depth(Struct, gc=False):
    symbol: str
    bids: list[WholeLevel]
    asks: list[WholeLevel]
    timestamp: Millis = 0
    type: str = ""


class LooseDepth(Struct, gc=False):
    """A whole book in any shape."""

    symbol: str
    bids: list[LooseLevel]
    asks: list[LooseLevel]
    timestamp: Millis = 0
    type: str = ""


class Print(Struct, gc=False):
    """One trade, in an array or by itself."""

    price: Price
    quantity: Size
    side: str = ""
    timestamp: Millis = 0
    id: str | int = ""


class Trades(Struct, gc=False):
    symbol: str
    trades: list[Print]
    type: str = ""


class LooseTrades(Struct, gc=False):
    """An array of trades whose members are not yet read; without the array it is itself a trade."""

    symbol: str
    trades: list[Raw] | None = None
    type: str = ""


class TickerRow(Struct, gc=False):
    """The fields of any market's ticker; most have only some."""

    symbol: str
    type: str = ""
    timestamp: Millis = 0
    last_price: Size | None = None
    bid_price: Size | None = None
    ask_price: Size | None = None
    volume_24h: Size | None = None
    high_24h: Size | None = None
    low_24h: Size | None = None


class Frame(Struct, gc=False):
    """The documented protocol's envelope."""

    cmd: str = ""
    code: int | str = 0
    message: str = ""
    data: Raw = Raw(b"null")


class DepthFrame(Struct, gc=False):
    data: Depth


class TradesFrame(Struct, gc=False):
    data: Trades


class Details(Struct, gc=False, rename={"retry_header": "Retry-After"}):
    """What an answer's `data` may hold; none of it is promised."""

    channel: str = ""
    symbol: str = ""
    symbols: list[str] = []
    timestamp: Millis = 0
    suggestion: str = ""
    retry_after: Size = -1.0
    retry_header: Size = -1.0

    @property
    def retry_after_s(self) -> float:
        """How long to wait, -1 where it is not said; an hour at most, for a wrong number must not mute a feed for good."""
        return min(max(self.retry_after, self.retry_header), RETRY_MAX_S)


class _Product(Struct, gc=False):
    symbol: str
    is_active: bool = True


class _Products(Struct, gc=False):
    products: list[_Product] = []


class _Listing(Struct, gc=False):
    data: _Products | None = None
    code: int = 0
    message: str = ""


DEPTH_FRAMES = msgspec.json.Decoder(DepthFrame, strict=False)
TRADES_FRAMES = msgspec.json.Decoder(TradesFrame, strict=False)
FRAMES = msgspec.json.Decoder(Frame, strict=False)
LOOSE_DEPTHS = msgspec.json.Decoder(LooseDepth, strict=False)
LOOSE_TRADES = msgspec.json.Decoder(LooseTrades, strict=False)
PRINTS = msgspec.json.Decoder(Print, strict=False)
TICKERS = msgspec.json.Decoder(TickerRow, strict=False)
DETAILS = msgspec.json.Decoder(Details, strict=False)
_LISTINGS = msgspec.json.Decoder(_Listing, strict=False)


def reason(code: int | str, text: str) -> str:
    """The name in `model.reason` of one of the venue's codes; codes that the table lacks go by their thousand."""
    if "AMBIGUOUS_SYMBOL" in f"{code} {text}":
        return "ambiguous_symbol"
    number = int(code) if isinstance(code, int) or (code.isdecimal() and len(code) < 9) else 0
    return REASONS.get(number) or _FAMILIES.get(number // 1000, "venue_error")


def refusal(code: int, said: str) -> Rejected | None:
    """The vendor's code in a close frame or an HTTP answer: in its JSON, before its text, or, from 3000 on, as the close code itself.

    Close codes 1001 to 1004 are the protocol's own (going away ...) and say nothing of a key.
    """
    number: int | str = 0
    text, wait = said, -1.0
    try:
        frame = FRAMES.decode(said.encode())
        number, text, wait = frame.code, frame.message, details(frame.data).retry_after_s
    except (msgspec.DecodeError, UnicodeEncodeError):
        head = said.lstrip().partition(" ")[0].rstrip(":,")
        number = head if head.isdecimal() and int(head) in REASONS else 0
    if number in (0, "0", "") and (code >= 3000 and code in REASONS):
        number = code
    if number in (0, "0", ""):
        return Rejected("bad_key", text.strip()[:200], code) if code == 403 else None
    whole = int(number) if isinstance(number, int) or (number.isdecimal() and len(number) < 9) else code
    return Rejected(reason(number, text), text.strip()[:200], whole, (), wait)


def details(data: bytes) -> Details:
    """An answer's details, all absent where they have another shape."""
    try:
        return DETAILS.decode(data)
    except msgspec.ValidationError:
        return Details()


def levels(rows: Sequence[LooseLevel]) -> list[Level]:
    """Levels of any shape as (price, size), empty ones left out. Raises ValueError."""
    found: list[Level] = []
    for row in rows:
        pair = [row.price, row.quantity] if isinstance(row, Row) else row[:2]
        if len(pair) < 2 or not pair[0]:
            raise ValueError(f"expected a level of a price above 0 and a size, found {str(row)[:60]}")
        if pair[1]:
            found.append((pair[0], pair[1]))
    return found


CURRENCIES = ("AUD", "CAD", "CHF", "CNH", "EUR", "GBP", "HKD", "JPY", "NZD", "SGD", "USD", "XAG", "XAU", "XPD", "XPT")


def market_of(raw: str) -> str:
    """Whose hours a symbol keeps: `AAPL.US` -> `US`, `EURUSD` and `XAUUSD` -> `FX`; crypto, and whatever this does not know, is always open."""
    tail = raw.rpartition(".")[2]
    if tail != raw and tail in MARKETS:
        return tail
    return "FX" if len(raw) == 6 and raw[:3] in CURRENCIES and raw[3:] in CURRENCIES else ""


def canonical(raw: str) -> str:
    """`BTCUSDT` -> `BTC-USDT`; stocks, forex, metals, indices and futures keep their spelling."""
    for quote in STABLE if raw.isalnum() else ():
        if raw.endswith(quote) and len(raw) > len(quote):
            return f"{raw[: -len(quote)]}-{quote}"
    return raw


def native(symbol: str) -> str:
    """`BTC-USDT` -> `BTCUSDT`."""
    base, _, quote = symbol.rpartition("-")
    return base + quote if base.isalnum() and quote in STABLE else symbol


def instruments(body: bytes) -> list[Instrument]:
    """The products of a `/v1/symbols/available` answer. It gives no tick or lot sizes."""
    listing = _LISTINGS.decode(body)
    if listing.code or listing.data is None:
        raise ValueError(f"the venue answered {listing.code} {listing.message[:200]}")
    return [
        Instrument(canonical(row.symbol), row.symbol, status="active" if row.is_active else "inactive")
        for row in listing.data.products
    ]


def aliases(code: str) -> list[str]:
    """All spellings under which a symbol's data may come: `700.HK` is also `700`, `00700` and `00700.HK`."""
    bare, _, market = code.rpartition(".")
    if market not in MARKETS or not bare:
        return [code]
    if market != "HK" or not bare.isdecimal():
        return [code, bare]
    short, long = bare.lstrip("0"), bare.zfill(5)
    return list(dict.fromkeys([code, bare, short, long, f"{short}.HK", f"{long}.HK"]))


def type_of(raw: str) -> str:
    """`SPX@indices` says its type; a market's suffix says stock; else unknown."""
    code, _, said = raw.partition("@")
    return said or ("stock" if code.rpartition(".")[2] in MARKETS and "." in code else "")


class Spellings(Struct):
    """Which wanted symbol a message is about, for one channel: the venue may answer `AAPL.US` with `AAPL`.

    Wants are never forgotten while the connection lasts: late data of one must not be taken for another's.
    """

    owners: dict[str, tuple[str, str]] = {}  # spelling -> (raw, symbol) of the only want that it can mean
    contested: dict[str, list[tuple[str, str]]] = {}

    def claim(self, want: Want) -> None:
        """Remember a want under all spellings of its symbol."""
        mine = (want.raw, want.symbol)
        for alias in aliases(want.raw.partition("@")[0]):
            rivals = self.contested.get(alias)
            if rivals is None and self.owners.setdefault(alias, mine) != mine:
                rivals = self.contested[alias] = [self.owners.pop(alias)]
            if rivals is not None and mine not in rivals:
                rivals.append(mine)

    def who(self, code: str, type_: str, names: Mapping[str, str]) -> tuple[str, str]:
        """(raw, symbol) of a message about `code`. What was never asked for keeps its spelling; ValueError where two claim it."""
        owner = self.owners.get(code)
        if owner is not None:
            return owner
        rivals = self.contested.get(code)
        if rivals is None:
            return code, names[code]
        fit = [rival for rival in rivals if type_ and type_of(rival[0]) == type_]
        fit = fit or [rival for rival in rivals if type_ and not type_of(rival[0])]
        if len(fit) != 1:
            raise ValueError(f"{code!r} may be any of {', '.join(raw for raw, _ in rivals)}")
        return fit[0]


def mend(data: bytes) -> tuple[TickerRow, list[str]]:
    """A ticker without the fields that cannot be read, and their names. Raises where its symbol is one of them."""
    tree = msgspec.json.decode(data, type=dict[str, Raw])
    kept: dict[str, object] = {"symbol": msgspec.json.decode(tree.pop("symbol", Raw(b"null")), type=str)}
    lost = []
    for name, value in tree.items():
        try:
            msgspec.convert({"symbol": "", name: msgspec.json.decode(value)}, TickerRow, strict=False)
            kept[name] = msgspec.json.decode(value)
        except msgspec.ValidationError:
            lost.append(name)
    return msgspec.convert(kept, TickerRow, strict=False), lost
