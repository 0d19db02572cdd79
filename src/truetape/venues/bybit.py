"""Bybit v5, linear and spot (inverse alike): one number per topic that rises by one, and a new snapshot whenever the venue likes.

Sources: bybit-exchange/docs 072c197 (2026-07-24: connect, orderbook, trade, ticker, kline) and recorded frames of 2025-06-13 and
2026-08-09, without a gap in 1,069 changes. Traps: the same topic name lives at the spot and at the linear address; level 1 sends
whole books only and repeats the last with its number; keys come in any order; one answer confirms or refuses a whole request and
names no topic; a field that a ticker lacks is unchanged; the documents do not promise the step of one, the frames keep it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import msgspec
from msgspec import Struct, field

from truetape.core.feed import venue as feed
from truetape.core.feed.parse import decimals, number, peek, salvage, signed
from truetape.core.feed.venue import Control, Damaged, Millis, Price, Rejected, Size, Want, Whole
from truetape.model.event import Bar, Book, Market, Quote, Ticker, Trade
from truetape.model.instrument import Instrument
from truetape.venues import _bybit as spelling

MS = 1_000_000
NOBODY = [(0.0, 0.0)]
DEPTHS = (50, 200, 1000)
RETURNS = {
    10001: "bad_request", 10003: "bad_key", 10004: "bad_key", 10005: "bad_key", 10006: "rate_limit", 10009: "region",
    10010: "bad_key", 10016: "venue_error", 10018: "rate_limit", 10024: "region", 10429: "rate_limit",
}  # fmt: skip
ASKED_MAX = 256  # requests remembered until they are answered


class _Data(Struct, gc=False):
    """A book or a ticker."""

    b: list[feed.RawLevel] | None = None
    a: list[feed.RawLevel] | None = None
    u: Whole = -1
    lastPrice: str = ""
    bid1Price: str = ""
    bid1Size: str = ""
    ask1Price: str = ""
    ask1Size: str = ""
    volume24h: str = ""
    highPrice24h: str = ""
    lowPrice24h: str = ""
    markPrice: str = ""
    indexPrice: str = ""
    fundingRate: str = ""


class _Row(Struct, gc=False):
    """A trade or a candle."""

    T: Millis = 0
    S: str = ""
    v: Size = 0.0
    p: Price = 0.0
    i: str = ""
    start: Millis = 0
    open: Size = 0.0
    high: Size = 0.0
    low: Size = 0.0
    close: Size = 0.0
    volume: Size = 0.0
    turnover: Size = 0.0
    confirm: bool = False


class _Frame(Struct, gc=False):
    topic: str = ""
    type: str = ""
    ts: Millis = 0
    data: _Data | list[_Row] = []
    op: str = ""
    success: bool = True
    ret_msg: str = ""
    req_id: str = ""


class Memory(Struct):
    """What one connection must remember: which request asked for what, and whose level 1 is wanted as quotes."""

    asked: dict[str, list[tuple[str, str]]] = field(default_factory=dict)
    last_id: int = 0
    quotes: dict[str, bool] = field(default_factory=dict)


_FRAMES = msgspec.json.Decoder(_Frame, strict=False)
_OURS = {"orderbook": "book", "publicTrade": "trade", "tickers": "ticker"}
_SIDES = {"Buy": "buy", "Sell": "sell"}


def _interval(text: str) -> str:
    """`1` -> `1m`, `240` -> `4h`, `D` -> `1d`."""
    if not text.isdecimal():
        return f"1{text if text == 'M' else text.lower()}"
    minutes = int(text)
    return f"{minutes // 60}h" if minutes and minutes % 60 == 0 else f"{minutes}m"


def _place(topic: str) -> tuple[str, str, str]:
    """`orderbook.50.BTCUSDT` -> (`orderbook`, `50`, `BTCUSDT`)."""
    word, _, rest = topic.partition(".")
    extra, _, raw = rest.rpartition(".")
    return word, extra, raw


def _topic(want: Want) -> str:
    kind, _, interval = want.channel.partition(".")
    extra = ""
    if kind == "book":
        extra = f".{next((depth for depth in DEPTHS if depth >= (want.depth or 1000)), 1000)}"
    elif kind == "bar":
        count, unit = interval[:-1], interval[-1]
        extra = f".{count if unit == 'm' else str(int(count) * 60) if unit == 'h' else unit.upper()}"
    return f"{Dialect.channels[kind]}{extra}.{want.raw}"


def category(url: str) -> str:
    """The last part of an address: `spot`, `linear`."""
    return url.rstrip("/").rpartition("/")[2]


class Dialect:
    """See `core.feed.venue.Dialect`."""

    name = "bybit"
    hosts = ("stream.bybit.com", "stream-testnet.bybit.com")
    channels: Mapping[str, str] = {
        "book": "orderbook", "trade": "publicTrade", "quote": "orderbook.1", "ticker": "tickers", "bar": "kline",
    }  # fmt: skip
    url = "wss://stream.bybit.com/v5/public"
    rest_url = "https://api.bybit.com"
    # 21,000 characters of topics on a connection, 10 topics in a request (spot)
    limits = feed.Limits(
        wants_per_connection=500, wants_per_message=10, messages_per_s=10, ping_every_s=20, dead_after_s=45
    )
    rule = feed.Rule(snapshot="stream", numbers="step")

    def __init__(self, label: str, names: Mapping[str, str], url: str) -> None:
        self.label = label
        self.names = names
        self.category = category(url)
        self.memory = Memory()
        self.symbols: dict[str, str] = {}

    @staticmethod
    def canonical(raw: str, url: str) -> str:
        """`BTCUSDT`: `BTC-USDT` at `/spot`, `BTC-USDT-PERP` at `/linear`; `BTCPERP`: `BTC-USDC-PERP`; `-25DEC26`: `-261225`."""
        return spelling.canonical(raw, category(url))

    @staticmethod
    def native(symbol: str) -> str:
        """The way back."""
        return spelling.native(symbol)

    @staticmethod
    def endpoints(wants: Sequence[Want], url: str, by_url: bool) -> list[feed.Endpoint]:
        """One address for each category, which the symbols tell; an address that names its category carries all."""
        base = url.rstrip("/")
        if category(base) in spelling.CATEGORIES:
            return [feed.Endpoint(base, list(wants))]
        groups: dict[str, list[Want]] = {}
        for want in wants:
            groups.setdefault(f"{base}/{spelling.category(want.symbol)}", []).append(want)
        return [feed.Endpoint(place, members) for place, members in groups.items()]

    def _request(self, kind: str, wants: Sequence[Want]) -> list[bytes]:
        memory = self.memory
        memory.last_id += 1
        if kind == "subscribe":
            memory.asked[str(memory.last_id)] = [(want.channel, want.raw) for want in wants]
            memory.asked.pop(str(memory.last_id - ASKED_MAX), None)
        topics = [_topic(want) for want in wants]
        return [msgspec.json.encode({"req_id": str(memory.last_id), "op": kind, "args": topics})]

    def subscribe(self, wants: Sequence[Want]) -> list[bytes]:
        """One message with all topics."""
        self.memory.quotes |= {want.raw: True for want in wants if want.channel == "quote"}
        return self._request("subscribe", wants)

    def unsubscribe(self, wants: Sequence[Want]) -> list[bytes]:
        """The same, the other way."""
        return self._request("unsubscribe", wants)

    def ping(self) -> bytes | None:
        """Every 20 s, as the venue recommends."""
        return b'{"op":"ping"}'

    def decode(self, data: bytes, recv: int) -> feed.Decoded:
        """Data of one topic, or an answer."""
        lost: list[str] = []
        try:
            frame = _FRAMES.decode(data)
        except msgspec.ValidationError as error:
            try:
                frame, lost = salvage(data, _FRAMES, "data", ())
            except msgspec.ValidationError:
                word, _, raw = _place(peek(data, "topic"))
                return (Damaged(str(error), raw, _OURS.get(word, word)),)
        word, extra, raw = _place(frame.topic)
        if not word:
            return (self._answer(frame),)
        channel, found, ts = _OURS.get(word, word), frame.data, frame.ts * MS
        if isinstance(found, list):
            events: list[Market | Control] = [Damaged("a member has a wrong type", raw, channel) for _ in lost]
            return events + [self._row(word, row, raw, extra, ts, recv) for row in found]
        if word == "orderbook" and extra.isdecimal() and len(extra) < 6:
            return (self._book(frame, found, raw, int(extra), recv),)
        return (self._ticker(found, raw, ts, recv) if word == "tickers" else feed.Ignored(channel),)

    def _symbol(self, raw: str) -> str:
        """Our name. A feed's names may be those of the other category, which is spelled alike."""
        name = self.symbols.get(raw)
        if name is None:
            name = self.names[raw]
            if self.category in spelling.CATEGORIES and spelling.category(name) != self.category:
                name = spelling.canonical(raw, self.category)
            self.symbols[raw] = name
        return name

    def _book(self, frame: _Frame, data: _Data, raw: str, depth: int, recv: int) -> Market | Control:
        name, ts, bids, asks, snapshot = self._symbol(raw), frame.ts * MS, data.b, data.a, frame.type == "snapshot"
        if bids is None or asks is None or data.u < 0 or not (snapshot or frame.type == "delta"):
            return Damaged(
                f"expected b, a, u in a snapshot or delta, found u {data.u} in a {frame.type[:20]!r}", raw, "book"
            )
        if depth == 1 and raw in self.memory.quotes:
            (bid, bid_size), (ask, ask_size) = (bids or NOBODY)[0], (asks or NOBODY)[0]
            return Quote(self.label, name, raw, ts, recv, bid, bid_size, ask, ask_size, data.u)
        return Book(self.label, name, raw, ts, recv, bids, asks, snapshot, seq=data.u, depth=depth if snapshot else 0)

    def _row(self, word: str, row: _Row, raw: str, extra: str, ts: int, recv: int) -> Market | Control:
        name = self._symbol(raw)
        if word == "publicTrade":
            side = _SIDES.get(row.S)
            if side is None or not row.p:
                return Damaged(f"expected side and price, found {row.S[:20]!r} and {row.p}", raw, "trade")
            return Trade(self.label, name, raw, row.T * MS, recv, row.p, row.v, side, row.i)
        if word == "kline":
            return Bar(
                self.label, name, raw, ts, recv, _interval(extra), row.start * MS, row.open, row.high, row.low, row.close,
                row.volume, row.turnover, 0, row.confirm,
            )  # fmt: skip
        return feed.Ignored(word)

    def _ticker(self, data: _Data, raw: str, ts: int, recv: int) -> Market | Control:
        texts = [data.lastPrice, data.bid1Price, data.bid1Size, data.ask1Price, data.ask1Size, data.volume24h]
        texts += [data.highPrice24h, data.lowPrice24h, data.markPrice, data.indexPrice]
        try:
            numbers = [number(text) if text else None for text in texts]
            numbers.append(signed(data.fundingRate) if data.fundingRate else None)
        except ValueError as error:
            return Damaged(str(error), raw, "ticker")
        return Ticker(self.label, self._symbol(raw), raw, ts, recv, *numbers)

    def _answer(self, frame: _Frame) -> Control:
        if frame.op in ("ping", "pong"):
            return feed.Alive(pong=True)
        asked = self.memory.asked.get(frame.req_id, [])
        if not frame.success:
            # one bad topic refuses the whole request: only what the text names is given up, the rest is asked for again
            text = frame.ret_msg
            named = re.findall(r"[\w-]+", text)
            pairs = [pair for pair in asked if pair[1] in named]
            if any(word in text.lower() for word in ("frequen", "rate limit", "too many visits")):
                return Rejected("rate_limit", text)
            reason, whole = (
                "unknown_symbol" if "symbol" in text.lower() else "bad_request",
                not pairs and len(asked) > 1,
            )
            return Rejected(reason, text, pairs=tuple(pairs or asked), whole=whole)
        if frame.op == "subscribe":
            return feed.Accepted(tuple(asked))
        return feed.Alive() if frame.op == "unsubscribe" else feed.Ignored(frame.op)

    @staticmethod
    def refusal(code: int, said: str) -> Rejected | None:
        """See `core.feed.refusal`: a 403 that says so asks for ten minutes; its other meaning is a country, or a firewall."""
        if code == 403 and "frequen" in said.lower():
            return Rejected("rate_limit", said, code, retry_after_s=600.0)
        found = re.search(r'"?retCode"?\s*:\s*(\d+)', said)
        return Rejected(RETURNS[int(found[1])], said, code) if found and int(found[1]) in RETURNS else None

    def snapshot_url(self, want: Want, rest_url: str) -> str | None:
        """Snapshots come in the stream."""
        return None

    @staticmethod
    def snapshot_raw(url: str) -> str | None:
        """Nothing fetched is a book of this stream."""
        return None

    def decode_snapshot(self, raw: str, body: bytes, recv: int) -> Book:
        """Cannot happen: nothing is fetched."""
        raise ValueError("bybit books are not fetched")

    @staticmethod
    def instruments_url(rest_url: str) -> str | None:
        """The spot list; linear symbols follow the rule."""
        return f"{rest_url}/v5/market/instruments-info?category=spot&limit=1000"

    @staticmethod
    def decode_instruments(body: bytes) -> list[Instrument]:
        """An answer of either category."""
        listed = msgspec.json.decode(body)["result"]
        rows = []
        for row in listed["list"]:
            raw, name, lots = row["symbol"], f"{row['baseCoin']}-{row['quoteCoin']}", row["lotSizeFilter"]
            if listed["category"] != "spot":
                name = spelling.canonical(raw, listed["category"])
            tick, lot = row["priceFilter"]["tickSize"], lots.get("qtyStep") or lots["basePrecision"]
            rows.append(Instrument(name, raw, float(tick), float(lot), decimals(tick), decimals(lot), row["status"]))
        return rows
