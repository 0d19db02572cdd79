"""What Binance spot and its futures have in common: the wire structs and how they are read. Not a venue of its own.

`binance.py` and `binance_usdm.py` are the venues; they differ in rules, addresses and a few fields, and share this file so that one
protocol is read in one place.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from urllib.parse import parse_qs, urlsplit

import msgspec
from msgspec import Struct, field

from truetape.core.feed.parse import decimals, signed
from truetape.core.feed.venue import (
    Accepted,
    Control,
    Damaged,
    Decoded,
    Ignored,
    Leaving,
    Millis,
    RawLevel,
    Rejected,
    Signed,
    Size,
    Want,
    Whole,
)
from truetape.model.event import Bar, Book, Market, Quote, Ticker, Trade
from truetape.model.instrument import Instrument

MS = 1_000_000


class _Kline(Struct, gc=False):
    t: Millis = 0
    s: str = ""
    i: str = ""
    o: Size = 0.0
    c: Size = 0.0
    h: Size = 0.0
    l: Size = 0.0  # noqa: E741  the venue's own name
    v: Size = 0.0
    q: Size = 0.0
    n: Whole = 0
    x: bool = False


class _Error(Struct, gc=False):
    code: int = 0
    msg: str = ""


class _Data(Struct, gc=False):
    """Every event of interest in one struct: cheaper than choosing a decoder. `b` and `a` are levels or prices, or an id in aggTrade."""

    e: str = ""
    E: Millis = 0
    T: Millis = 0
    s: str = ""
    U: Whole = -1
    u: Whole = -1
    pu: Whole = -1
    b: Size | list[RawLevel] = 0.0
    a: Size | list[RawLevel] = 0.0
    B: Size = 0.0
    A: Size = 0.0
    t: Whole = 0
    p: Signed = 0.0
    q: Size = 0.0
    m: bool = False
    X: str = ""
    k: _Kline | None = None
    i: Signed = 0.0
    r: str = ""
    c: Size = 0.0
    h: Size = 0.0
    l: Size = 0.0  # noqa: E741  the venue's own name
    v: Size = 0.0


class _Flat(_Data, gc=False):
    """A raw stream's frame, an answer to a command, or a combined frame whose keys come in another order."""

    stream: str = ""
    data: _Data | None = None
    id: int | str | None = None
    code: int = 0
    msg: str = ""
    error: _Error | None = None


class _Wrapped(Struct, gc=False):
    stream: str
    data: _Data


class _Depth(Struct, gc=False):
    lastUpdateId: Whole
    bids: list[RawLevel]
    asks: list[RawLevel]
    T: Millis = 0


class _Filter(Struct, gc=False):
    filterType: str = ""
    tickSize: str = "0"
    stepSize: str = "0"


class _Symbol(Struct, gc=False):
    symbol: str
    baseAsset: str = ""
    quoteAsset: str = ""
    status: str = ""
    contractStatus: str = ""
    contractType: str = ""
    filters: list[_Filter] = []


class _Exchange(Struct, gc=False):
    symbols: list[_Symbol]


REASONS: Mapping[int, str] = {
    -1003: "rate_limit", -1034: "rate_limit", -1120: "unavailable", -1121: "unknown_symbol", -2014: "bad_key", -2015: "bad_key",
} | dict.fromkeys((-1000, -1001, -1006, -1007, -1008, -1016), "venue_error")  # fmt: skip
"""The venue's numbered errors; the rest (0 to 3 of the stream, -1100 and on) say that a request is wrong. developers.binance.com, errors."""
ASKED_MAX = 256
"""Requests that are remembered until their answer."""


class Memory(Struct):
    """What one connection must remember: which request asked for what."""

    asked: dict[str, list[tuple[str, str]]] = field(default_factory=dict)
    last_id: int = 0


_WRAPPED = msgspec.json.Decoder(_Wrapped, strict=False)
_FLAT = msgspec.json.Decoder(_Flat, strict=False)
_DEPTH = msgspec.json.Decoder(_Depth, strict=False)
_EXCHANGE = msgspec.json.Decoder(_Exchange, strict=False)


def decode(data: bytes, recv: int, label: str, names: Mapping[str, str], memory: Memory) -> Decoded:
    """One frame of either shape: `{"stream","data"}` or flat."""
    if data.startswith(b'{"stream"'):
        try:
            return (_event(_WRAPPED.decode(data).data, recv, label, names),)
        except msgspec.ValidationError as error:
            return (_damaged(data, error),)
    try:
        flat = _FLAT.decode(data)
    except msgspec.ValidationError as error:
        return (_damaged(data, error),)
    if flat.data is not None:
        return (_event(flat.data, recv, label, names),)
    if flat.s or flat.e:
        return (_event(flat, recv, label, names),)
    return (_answer(flat, memory),)


def _damaged(data: bytes, error: Exception) -> Control:
    """Well-formed JSON whose types are wrong: name the symbol where it can still be read."""
    tree = msgspec.json.decode(data)
    inner = tree.get("data", tree) if isinstance(tree, dict) else {}
    raw = inner.get("s") if isinstance(inner, dict) else ""
    kind = inner.get("e", "") if isinstance(inner, dict) else ""
    if not isinstance(raw, str) or not isinstance(kind, str):
        return Damaged(str(error))
    return Damaged(
        str(error), raw, {"depthUpdate": "book", "trade": "trade", "aggTrade": "trade", "kline": "bar"}.get(kind, "")
    )


def _event(data: _Data, recv: int, label: str, names: Mapping[str, str]) -> Market | Control:
    kind, raw = data.e, data.s
    if kind == "" or kind == "bookTicker":
        if isinstance(data.b, float) and isinstance(data.a, float) and data.u >= 0:
            return Quote(label, names[raw], raw, (data.T or data.E) * MS, recv, data.b, data.B, data.a, data.A, data.u)
        return Ignored("partial depth")
    if kind == "depthUpdate":
        if isinstance(data.b, list) and isinstance(data.a, list):
            ts = data.E * MS
            return Book(label, names[raw], raw, ts, recv, data.b, data.a, False, data.U, data.u, data.pu)
        return Damaged("expected lists of levels in b and a", raw, "book")
    if kind == "trade" or kind == "aggTrade":
        if data.X not in ("", "MARKET"):
            return Ignored(f"trade {data.X}")  # insurance fund and auto-deleveraging fills are not trades of the market
        if not data.p > 0.0:
            return Damaged(f"expected a price above 0, found {data.p}", raw, "trade")
        number = data.t if kind == "trade" else int(data.a) if isinstance(data.a, float) else 0
        return Trade(
            label, names[raw], raw, data.T * MS, recv, data.p, data.q, "sell" if data.m else "buy", str(number)
        )
    if kind == "kline" and (bar := data.k) is not None:
        return Bar(
            label, names[raw], raw, data.E * MS, recv, bar.i, bar.t * MS, bar.o, bar.h, bar.l, bar.c, bar.v, bar.q, bar.n, bar.x
        )  # fmt: skip
    return _summary(data, recv, label, names)


def _summary(data: _Data, recv: int, label: str, names: Mapping[str, str]) -> Market | Control:
    kind, raw = data.e, data.s
    if kind == "24hrTicker" and isinstance(data.b, float) and isinstance(data.a, float):
        return Ticker(
            label, names[raw], raw, data.E * MS, recv, data.c, data.b, data.B, data.a, data.A, data.v, data.h, data.l
        )
    if kind == "markPriceUpdate":
        if not (data.p >= 0.0 and data.i >= 0.0):
            return Damaged(f"expected a mark and an index price, found {data.p} and {data.i}", raw, "ticker")
        try:
            funding = signed(data.r) if data.r else None
        except ValueError as error:
            return Damaged(str(error), raw, "ticker")
        return Ticker(label, names[raw], raw, data.E * MS, recv, mark=data.p, index=data.i, funding=funding)
    if kind == "serverShutdown":
        return Leaving("the venue announced a shutdown")
    return Ignored(kind)


def _answer(flat: _Flat, memory: Memory) -> Control:
    pairs = tuple(memory.asked.pop(str(flat.id), ()))
    error = flat.error if flat.error is not None else _Error(flat.code, flat.msg)
    if not error.code and not error.msg:
        return Accepted(pairs)
    reason = "rate_limit" if "too many" in error.msg.lower() else REASONS.get(error.code, "bad_request")
    return Rejected(reason, error.msg, error.code, pairs, whole=len(pairs) > 1)


def stream(want: Want, words: Mapping[str, str]) -> str:
    """The stream's name: `btcusdt@depth@100ms`."""
    kind, _, interval = want.channel.partition(".")
    return f"{want.raw.lower()}@{words[kind]}{'_' + interval if interval else ''}"


def command(method: str, wants: Sequence[Want], words: Mapping[str, str], memory: Memory) -> list[bytes]:
    """SUBSCRIBE or UNSUBSCRIBE; remembers the request so that its answer can be told to whom it belongs."""
    memory.last_id += 1
    memory.asked.pop(str(memory.last_id - ASKED_MAX), None)
    memory.asked[str(memory.last_id)] = [(want.channel, want.raw) for want in wants] if method == "SUBSCRIBE" else []
    return [
        msgspec.json.encode({"method": method, "params": [stream(want, words) for want in wants], "id": memory.last_id})
    ]


def snapshot_raw(url: str) -> str | None:
    """The symbol of a depth URL."""
    parts = urlsplit(url)
    return parse_qs(parts.query).get("symbol", [""])[0] or None if parts.path.endswith("/depth") else None


def snapshot(raw: str, body: bytes, recv: int, label: str, names: Mapping[str, str]) -> Book:
    """A REST depth answer."""
    depth = _DEPTH.decode(body)
    return Book(
        label, names[raw], raw, depth.T * MS, recv, depth.bids, depth.asks, True, -1, depth.lastUpdateId, depth=0
    )


def instruments(body: bytes, futures: bool) -> list[Instrument]:
    """The symbols of an exchangeInfo answer."""
    rows = []
    for row in _EXCHANGE.decode(body).symbols:
        steps = {item.filterType: item for item in row.filters}
        tick = steps["PRICE_FILTER"].tickSize if "PRICE_FILTER" in steps else "0"
        lot = steps["LOT_SIZE"].stepSize if "LOT_SIZE" in steps else "0"
        name = f"{row.baseAsset}-{row.quoteAsset}" if row.baseAsset else row.symbol
        if futures:
            delivery = row.symbol.rpartition("_")[2]
            name += f"-{delivery}" if delivery.isdecimal() else "-PERP"
        rows.append(
            Instrument(
                name,
                row.symbol,
                float(tick),
                float(lot),
                decimals(tick),
                decimals(lot),
                row.status or row.contractStatus,
            )
        )
    return rows


QUOTES = ("USDT", "USDC", "FDUSD", "TUSD", "BUSD", "USD1", "USDP", "PAX", "DAI", "USD", "BTC", "ETH", "BNB", "EUR", "GBP", "TRY", "BRL",
          "AUD", "JPY", "RUB", "UAH", "NGN", "ZAR", "PLN", "RON", "ARS", "MXN", "COP", "CZK", "IDRT", "BIDR", "BVND", "TRX", "XRP", "DOGE",
          "DOT", "VAI")  # fmt: skip
"""Quote assets seen in the venue's list, tried in this order where the list itself is not at hand."""


def split(raw: str) -> tuple[str, str] | None:
    """Base and quote of a spelling without a separator, by rule; None where no known quote ends it."""
    for quote in QUOTES:
        if raw.endswith(quote) and len(raw) > len(quote):
            return raw[: -len(quote)], quote
    return None
