"""Kraken spot, WebSocket v1 (frozen, still served): arrays, and a CRC32 of the best ten levels in every change, none in a snapshot.

Sources: docs.kraken.com/api (v1: book, trade, ticker, spread, ohlc, checksum guide; read 2026-11) and recorded frames of
2021-04-17, in which 4,269 of 4,269 checksums hold. Traps: bids and asks of one change may come as two objects, with the checksum in
the second only; a level may carry `r` (sent again, with its old time); XBT and XDG are BTC and DOGE; no deletes are sent for levels
that fall out of the subscribed depth; trades have no ids; connection ids exceed 2^63.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec
from msgspec import Raw, Struct, field

from truetape.core.feed import venue as feed
from truetape.core.feed.parse import TextLevel, salvage, seconds_ns, side
from truetape.core.feed.venue import Accepted, Alive, Control, Damaged, Ignored, Price, Size, Want, Whole
from truetape.model.event import Bar, Book, Market, Quote, Ticker, Trade
from truetape.model.instrument import Instrument
from truetape.venues import _kraken as spot
from truetape.venues._kraken import checksum, digits


class _Level(TextLevel, array_like=True, gc=False):
    time: str
    again: str = ""


class _Sides(Struct, gc=False):
    """A snapshot (`as`, `bs`) or a change (`a`, `b`, and the checksum `c`)."""

    all_asks: list[_Level] | None = field(name="as", default=None)
    all_bids: list[_Level] | None = field(name="bs", default=None)
    a: list[_Level] = []
    b: list[_Level] = []
    c: Whole | None = None


class _Trade(Struct, array_like=True, gc=False):
    price: Price
    size: Size
    time: str
    side: str


class _Spread(Struct, array_like=True, gc=False):
    bid: Size
    ask: Size
    time: str
    bid_size: Size
    ask_size: Size


class _Bar(Struct, array_like=True, gc=False):
    time: str
    end: str
    open: Size
    high: Size
    low: Size
    close: Size
    vwap: Size
    volume: Size
    count: Whole


class _Ticker(Struct, gc=False):
    """Best ask and bid [price, whole lots, volume]; the other lists are [today, last 24 hours]."""

    a: list[Size]
    b: list[Size]
    c: list[Size]
    v: list[Size]
    h: list[Size]
    l: list[Size]  # noqa: E741  the venue's own name


class _Asked(Struct, gc=False):
    name: str = ""
    interval: int = 0


class _Event(Struct, gc=False):
    event: str = ""
    status: str = ""
    pair: str = ""
    subscription: _Asked = field(default_factory=_Asked)
    errorMessage: str = ""
    reqid: int = 0


class Memory(Struct):
    """What one connection must remember: which request asked for what."""

    asked: dict[str, list[tuple[str, str]]] = field(default_factory=dict)
    last_id: int = 0


class _Update(Struct, array_like=True, gc=False):
    """A book update in one piece: `[id, {...}, "book-1000", "XBT/USD"]`."""

    id: int
    sides: _Sides
    channel: str
    pair: str


_UPDATES = msgspec.json.Decoder(_Update, strict=False)
_DEPTHS = frozenset(str(each) for each in spot.DEPTHS)
_ARRAYS = msgspec.json.Decoder(list[Raw])
_TEXT = msgspec.json.Decoder(str)
_SIDES = msgspec.json.Decoder(_Sides, strict=False)
_TRADES = msgspec.json.Decoder(list[_Trade], strict=False)
_SPREADS = msgspec.json.Decoder(_Spread, strict=False)
_BARS = msgspec.json.Decoder(_Bar, strict=False)
_TICKERS = msgspec.json.Decoder(_Ticker, strict=False)
_EVENTS = msgspec.json.Decoder(_Event, strict=False)
_OURS = {"book": "book", "trade": "trade", "spread": "quote", "ticker": "ticker"}
_TAKER = {"b": "buy", "s": "sell"}
_NATIVE = {ours: theirs for theirs, ours in spot.RENAMED.items()}


def _marks(levels: Sequence[TextLevel]) -> list[str]:
    """Digits of price and size as the checksum wants them: no point, no leading zeros."""
    return [digits(row.price) + digits(row.size) for row in levels]


def _channel(word: str, extra: int) -> str:
    """Our name of `book`, `trade`, `spread`, `ticker` or, with its minutes, `ohlc`."""
    return f"bar.{spot.bar_name(extra)}" if word == "ohlc" else _OURS.get(word, word)


class Dialect:
    """See `core.feed.venue.Dialect`."""

    name = "kraken_v1"
    hosts = ("ws.kraken.com",)
    channels: Mapping[str, str] = {
        "book": "book",
        "trade": "trade",
        "quote": "spread",
        "ticker": "ticker",
        "bar": "ohlc",
    }
    url = "wss://ws.kraken.com"
    rest_url = "https://api.kraken.com"
    limits = feed.Limits(wants_per_message=50, messages_per_s=10, dead_after_s=10)
    rule = feed.Rule(snapshot="stream", truncate=True, checksum=checksum, checksum_depth=10)

    def __init__(self, label: str, names: Mapping[str, str], url: str) -> None:
        self.label = label
        self.names = names
        self.memory = Memory()

    @staticmethod
    def canonical(raw: str, url: str) -> str:
        """`XBT/USD` -> `BTC-USD`."""
        return spot.canonical(raw)

    @staticmethod
    def native(symbol: str) -> str:
        """`BTC-USD` -> `XBT/USD`."""
        return "/".join(_NATIVE.get(part, part) for part in symbol.replace("/", "-").split("-"))

    @staticmethod
    def endpoints(wants: Sequence[Want], url: str, by_url: bool) -> list[feed.Endpoint]:
        """One address carries every channel."""
        return [feed.Endpoint(url, list(wants))]

    def _requests(self, kind: str, wants: Sequence[Want]) -> list[bytes]:
        groups: dict[tuple[str, int], list[Want]] = {}
        for want in wants:
            name = want.channel.partition(".")[0]
            extra = spot.depth(want) if name == "book" else spot.minutes(want.channel) if name == "bar" else 0
            groups.setdefault((self.channels[name], extra), []).append(want)
        frames, memory = [], self.memory
        for (word, extra), members in groups.items():
            memory.last_id += 1
            memory.asked[str(memory.last_id)] = [(want.channel, want.raw) for want in members]
            memory.asked.pop(str(memory.last_id - spot.ASKED_MAX), None)
            extras = {"depth": extra} if word == "book" else {"interval": extra} if word == "ohlc" else {}
            subscription: dict[str, object] = {"name": word, **extras}
            pairs = [want.raw for want in members]
            frames.append({"event": kind, "pair": pairs, "subscription": subscription, "reqid": memory.last_id})
        return [msgspec.json.encode(frame) for frame in frames]

    def subscribe(self, wants: Sequence[Want]) -> list[bytes]:
        """One message for each channel and depth, with all its pairs."""
        return self._requests("subscribe", wants)

    def unsubscribe(self, wants: Sequence[Want]) -> list[bytes]:
        """The same, the other way."""
        return self._requests("unsubscribe", wants)

    def ping(self) -> bytes | None:
        """The venue offers one; the protocol's own ping does the same work here."""
        return None

    def decode(self, data: bytes, recv: int) -> feed.Decoded:
        """`[id, data, (more data,) channel, pair]`, or an object that is an answer or a heartbeat."""
        try:  # the usual message, at a quarter of the time; what follows tells the others apart
            update = _UPDATES.decode(data)
            word, _, text = update.channel.partition("-")
            if word == "book" and text in _DEPTHS:
                return (self._book([update.sides], int(text), update.pair, recv),)
        except (msgspec.ValidationError, ValueError):
            pass
        if not data.lstrip().startswith(b"["):
            return (self._answer(_EVENTS.decode(data)),)
        parts = _ARRAYS.decode(data)
        if len(parts) < 4:
            raise ValueError(f"expected an array of 4 or more, found {len(parts)}")
        raw = _TEXT.decode(parts[-1])
        word, _, text = _TEXT.decode(parts[-2]).partition("-")
        extra = int(text) if text.isdecimal() and len(text) < 6 else 0
        channel = _channel(word, extra)
        try:
            return self._data(word, channel, extra, parts[1:-2], raw, recv)
        except (msgspec.ValidationError, ValueError) as error:
            return (Damaged(str(error), raw, channel),)

    def _data(self, word: str, channel: str, extra: int, parts: list[Raw], raw: str, recv: int) -> feed.Decoded:
        if word == "book":
            if extra not in spot.DEPTHS:
                return (Damaged(f"expected a depth of {spot.DEPTHS}, found {extra}", raw, channel),)
            return (self._book([_SIDES.decode(part) for part in parts], extra, raw, recv),)
        if word == "trade":
            rows, lost = salvage(bytes(parts[0]), _TRADES, "", ())
            damaged: list[Market | Control] = [Damaged("a trade has a wrong type", raw, channel) for _ in lost]
            return damaged + [self._trade(row, raw, recv) for row in rows]
        if word == "ticker":
            return (self._ticker(_TICKERS.decode(parts[0]), raw, recv),)
        if word == "spread":
            row = _SPREADS.decode(parts[0])
            name, ts = self.names[raw], seconds_ns(row.time)
            return (Quote(self.label, name, raw, ts, recv, row.bid, row.bid_size, row.ask, row.ask_size),)
        if word == "ohlc":
            return (self._bar(_BARS.decode(parts[0]), extra, raw, recv),)
        return (Ignored(word),)

    def _book(self, parts: list[_Sides], depth: int, raw: str, recv: int) -> Market | Control:
        name, first = self.names[raw], parts[0]
        if first.all_bids is not None and first.all_asks is not None:
            bids, asks = first.all_bids, first.all_asks
            marks = (_marks(bids), _marks(asks))
            return Book(self.label, name, raw, 0, recv, side(bids), side(asks), True, marks=marks, depth=depth)
        bids, asks, found = first.b, first.a, first.c
        for part in parts[1:]:
            bids, asks, found = bids + part.b, asks + part.a, found if found is not None else part.c
        if not (bids or asks) or found is None:
            return Damaged("expected levels and a checksum", raw, "book")
        # times are ten digits, a point and six: the latest text is the latest time
        ts = seconds_ns(max([level.time for level in bids + asks if not level.again], default="0"))
        marks = (_marks(bids), _marks(asks))
        return Book(self.label, name, raw, ts, recv, side(bids), side(asks), checksum=found, marks=marks)

    def _trade(self, row: _Trade, raw: str, recv: int) -> Market | Control:
        taker = _TAKER.get(row.side)
        try:
            ts = seconds_ns(row.time) if taker else 0
        except ValueError as error:
            return Damaged(str(error), raw, "trade")
        if taker is None:
            return Damaged(f"expected side b or s, found {row.side[:20]!r}", raw, "trade")
        return Trade(self.label, self.names[raw], raw, ts, recv, row.price, row.size, taker)

    def _ticker(self, row: _Ticker, raw: str, recv: int) -> Market:
        (ask, _, ask_size), (bid, _, bid_size) = row.a, row.b
        name, volume, high, low = self.names[raw], row.v[1], row.h[1], row.l[1]
        return Ticker(self.label, name, raw, 0, recv, row.c[0], bid, bid_size, ask, ask_size, volume, high, low)

    def _bar(self, row: _Bar, minutes: int, raw: str, recv: int) -> Market:
        ts, start = seconds_ns(row.time), seconds_ns(row.end) - minutes * 60_000_000_000
        return Bar(
            self.label, self.names[raw], raw, ts, recv, spot.bar_name(minutes), start, row.open, row.high, row.low, row.close, row.volume,
            0.0, row.count,
        )  # fmt: skip

    def _answer(self, frame: _Event) -> Control:
        asked = frame.subscription
        channel = _channel(asked.name, asked.interval or 1)
        if frame.event in ("heartbeat", "systemStatus", "pong"):
            return Alive(pong=frame.event == "pong")
        if frame.event != "subscriptionStatus" and not frame.errorMessage:
            return Ignored(frame.event)
        if frame.status == "subscribed":
            return Accepted(((channel, frame.pair),))
        if not frame.errorMessage:
            return Alive()
        text = frame.errorMessage
        pairs = ((channel, frame.pair),) if frame.pair else tuple(self.memory.asked.pop(str(frame.reqid), ()))
        return spot.refused(text, pairs)

    def snapshot_url(self, want: Want, rest_url: str) -> str | None:
        """Snapshots come in the stream."""
        return None

    @staticmethod
    def snapshot_raw(url: str) -> str | None:
        """Nothing fetched is a book of this stream."""
        return None

    def decode_snapshot(self, raw: str, body: bytes, recv: int) -> Book:
        """Cannot happen: nothing is fetched."""
        raise ValueError("kraken_v1 books are not fetched")

    @staticmethod
    def instruments_url(rest_url: str) -> str | None:
        """AssetPairs names every pair and its decimals."""
        return f"{rest_url}/0/public/AssetPairs"

    @staticmethod
    def decode_instruments(body: bytes) -> list[Instrument]:
        """Pairs by their WebSocket name."""
        return spot.instruments(body, str)
