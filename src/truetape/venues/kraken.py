"""Kraken spot, WebSocket v2. Every book message carries a CRC32 of its best ten levels, made from the digits as sent.

Sources: docs.kraken.com/api (book v2, trade, ticker, ohlc, checksum guide; read 2026-11) and recorded frames of 2026-07-07, in which
1,477 of 1,477 checksums hold. Traps: prices are JSON numbers whose trailing zeros count; there is one acknowledgment for each
symbol; the venue sends no deletes for levels that fall out of the subscribed depth; heartbeats do not prove that data flow.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec
from msgspec import Raw, Struct

from truetape.core.feed import venue as feed
from truetape.core.feed.parse import rfc3339_ns, salvage
from truetape.core.feed.venue import Accepted, Alive, Control, Damaged, Ignored, Price, Size, Want, Whole
from truetape.model.event import Bar, Book, Level, Market, Quote, Ticker, Trade
from truetape.model.instrument import Instrument
from truetape.venues import _kraken as spot
from truetape.venues._kraken import checksum, digits

INFINITY = float("inf")


class _Level(Struct, gc=False):
    price: Raw
    qty: Raw


class _Item(Struct, gc=False):
    symbol: str = ""
    timestamp: str = ""
    bids: list[_Level] | None = None
    asks: list[_Level] | None = None
    checksum: Whole | None = None
    side: str = ""
    price: Price = 0.0
    qty: Size = 0.0
    trade_id: int = 0
    bid: Size = 0.0
    bid_qty: Size = 0.0
    ask: Size = 0.0
    ask_qty: Size = 0.0
    last: Size = 0.0
    volume: Size = 0.0
    high: Size = 0.0
    low: Size = 0.0
    open: Size = 0.0
    close: Size = 0.0
    trades: Whole = 0
    interval: int = 0
    interval_begin: str = ""


class _Result(Struct, gc=False):
    channel: str = ""
    symbol: str = ""
    depth: int = 0
    interval: int = 0


class _Frame(Struct, gc=False):
    channel: str = ""
    type: str = ""
    data: list[_Item] = []
    method: str = ""
    success: bool = True
    error: str = ""
    symbol: str = ""
    req_id: int = 0
    result: _Result | None = None


class _Pong(Struct, gc=False):
    time_in: str = ""
    time_out: str = ""


class _Memory(Struct):
    """What one connection must remember: who asked for what, the depth of each book, and how often it was pinged."""

    asked: dict[str, list[tuple[str, str]]] = {}
    last_id: int = 0
    depths: dict[str, int] = {}
    pings: int = 0


PINGS_FROM = 1 << 32
"""Numbers of pings begin here, so that an answer to one is never taken for that to a request."""
_PONGS = msgspec.json.Decoder(_Pong)
_FRAMES = msgspec.json.Decoder(_Frame, strict=False)


def _side(levels: list[_Level]) -> tuple[list[Level], list[str]]:
    parsed: list[Level] = []
    marks: list[str] = []
    for level in levels:
        price_text, size_text = str(level.price, "ascii"), str(level.qty, "ascii")
        price, size = float(price_text), float(size_text)
        if not (0.0 < price < INFINITY and 0.0 <= size < INFINITY):
            raise ValueError(
                f"expected a finite price above 0 and a size, found {price_text[:30]} and {size_text[:30]}"
            )
        parsed.append((price, size))
        marks.append(digits(price_text) + digits(size_text))
    return parsed, marks


class Dialect:
    """See `core.feed.venue.Dialect`."""

    name = "kraken"
    hosts = ("ws.kraken.com/v2", "ws-auth.kraken.com/v2")
    channels: Mapping[str, str] = {
        "book": "book",
        "trade": "trade",
        "quote": "ticker",
        "ticker": "ticker",
        "bar": "ohlc",
    }
    url = "wss://ws.kraken.com/v2"
    rest_url = "https://api.kraken.com"
    limits = feed.Limits(wants_per_message=50, messages_per_s=10, ping_every_s=20, dead_after_s=10)
    rule = feed.Rule(snapshot="stream", truncate=True, checksum=checksum, checksum_depth=10)

    def __init__(self, label: str, names: Mapping[str, str], url: str) -> None:
        self.label = label
        self.names = names
        self.memory = _Memory()

    @staticmethod
    def canonical(raw: str, url: str) -> str:
        """`BTC/USD` -> `BTC-USD`."""
        return raw.replace("/", "-")

    @staticmethod
    def native(symbol: str) -> str:
        """`BTC-USD` -> `BTC/USD`."""
        return symbol.replace("-", "/", 1)

    @staticmethod
    def endpoints(wants: Sequence[Want], url: str, by_url: bool) -> list[feed.Endpoint]:
        """One address carries every channel."""
        return [feed.Endpoint(url, list(wants))]

    def _requests(self, method: str, wants: Sequence[Want]) -> list[bytes]:
        groups: dict[tuple[str, int], list[Want]] = {}
        for want in wants:
            kind = want.channel.partition(".")[0]
            extra = spot.depth(want) if kind == "book" else spot.minutes(want.channel) if kind == "bar" else 0
            groups.setdefault((self.channels[kind], extra), []).append(want)
        frames = []
        for (channel, number), members in groups.items():
            symbols = list(dict.fromkeys(want.raw for want in members))
            params: dict[str, object] = {"channel": channel, "symbol": symbols}
            if channel == "book":
                params["depth"] = number
            elif channel == "ohlc":
                params["interval"] = number
            elif channel == "ticker":
                params["event_trigger"] = "bbo" if any(want.channel == "quote" for want in members) else "trades"
            if method == "subscribe" and channel != "book":
                params["snapshot"] = channel != "trade"
            request = self.memory.last_id = self.memory.last_id + 1
            self.memory.asked[str(request)] = [(want.channel, want.raw) for want in members]
            self.memory.asked.pop(str(request - spot.ASKED_MAX), None)
            frames.append(msgspec.json.encode({"method": method, "params": params, "req_id": request}))
        return frames

    def subscribe(self, wants: Sequence[Want]) -> list[bytes]:
        """One message for each channel and depth, with all its symbols."""
        return self._requests("subscribe", wants)

    def unsubscribe(self, wants: Sequence[Want]) -> list[bytes]:
        """The same, the other way."""
        return self._requests("unsubscribe", wants)

    def ping(self) -> bytes | None:
        """Its answer tells the venue's clock; the protocol's own pings say whether the link lives."""
        self.memory.pings += 1
        return b'{"method":"ping","req_id":%d}' % (PINGS_FROM + self.memory.pings)

    def decode(self, data: bytes, recv: int) -> feed.Decoded:
        """Book, trade, ticker and ohlc messages, acknowledgments and heartbeats."""
        try:
            frame = _FRAMES.decode(data)
            lost: list[str] = []
        except msgspec.ValidationError:
            frame, lost = salvage(data, _FRAMES, "data", ("symbol",))
        channel = frame.channel
        events: list[Market | Control] = [
            Damaged("a member of the frame has a wrong type", raw, channel) for raw in lost
        ]
        if channel == "book":
            events += [self._book(item, frame.type, recv) for item in frame.data]
        elif channel == "trade" and frame.type == "snapshot":
            events.append(Alive())  # the last 50 trades, which are not new
        elif channel in ("trade", "ticker", "ohlc"):
            for item in frame.data:
                try:
                    events += self._said(channel, item, recv)
                except ValueError as error:
                    events.append(Damaged(str(error), item.symbol, channel))
        elif channel in ("heartbeat", "status"):
            events.append(Alive())
        elif channel:
            events.append(Ignored(channel))
        else:
            events.append(_pong(data) if frame.method == "pong" else self._answer(frame))
        return events

    def _said(self, channel: str, item: _Item, recv: int) -> Sequence[Market | Control]:
        """What a member says that is no book. Raises ValueError."""
        if channel == "trade":
            return (self._trade(item, recv),)
        return self._ticker(item, recv) if channel == "ticker" else (self._bar(item, recv),)

    def _book(self, item: _Item, kind: str, recv: int) -> Market | Control:
        snapshot = kind == "snapshot"
        if item.bids is None or item.asks is None or not (snapshot or kind == "update"):
            return Damaged(f"expected bids and asks in a snapshot or update, found {kind[:20]!r}", item.symbol, "book")
        try:
            bids, bid_marks = _side(item.bids)
            asks, ask_marks = _side(item.asks)
            ts = rfc3339_ns(item.timestamp) if item.timestamp else 0
        except ValueError as error:
            return Damaged(str(error), item.symbol, "book")
        return Book(
            self.label, self.names[item.symbol], item.symbol, ts, recv, bids, asks, snapshot,
            checksum=item.checksum, marks=(bid_marks, ask_marks), depth=self.memory.depths.get(item.symbol, 10) if snapshot else 0,
        )  # fmt: skip

    def _trade(self, item: _Item, recv: int) -> Market | Control:
        if item.side not in ("buy", "sell") or not item.price:
            return Damaged(
                f"expected a trade's side and price, found {item.side[:20]!r} and {item.price}", item.symbol, "trade"
            )
        return Trade(
            self.label, self.names[item.symbol], item.symbol, rfc3339_ns(item.timestamp), recv, item.price, item.qty, item.side,
            str(item.trade_id),
        )  # fmt: skip

    def _ticker(self, item: _Item, recv: int) -> list[Market | Control]:
        symbol = self.names[item.symbol]
        ts = rfc3339_ns(item.timestamp) if item.timestamp else 0
        quote = Quote(self.label, symbol, item.symbol, ts, recv, item.bid, item.bid_qty, item.ask, item.ask_qty)
        ticker = Ticker(
            self.label, symbol, item.symbol, ts, recv, item.last, item.bid, item.bid_qty, item.ask, item.ask_qty, item.volume,
            item.high, item.low,
        )  # fmt: skip
        return [quote, ticker]

    def _bar(self, item: _Item, recv: int) -> Market:
        start = rfc3339_ns(item.interval_begin)
        ts = rfc3339_ns(item.timestamp) if item.timestamp else 0
        return Bar(
            self.label, self.names[item.symbol], item.symbol, ts, recv, spot.bar_name(item.interval), start, item.open, item.high,
            item.low, item.close, item.volume, 0.0, item.trades,
        )  # fmt: skip

    def _answer(self, frame: _Frame) -> Control:
        if not frame.success:
            asked = self.memory.asked.get(str(frame.req_id), [])
            if not frame.symbol:  # it may be said once for each symbol: what it answers is asked for alone, once
                self.memory.asked.pop(str(frame.req_id), None)
            pairs = tuple(pair for pair in asked if not frame.symbol or pair[1] == frame.symbol)
            answer = spot.refused(frame.error, pairs)
            if isinstance(answer, Accepted):
                return answer
            return msgspec.structs.replace(answer, whole=answer.whole and not frame.symbol)
        if frame.method == "subscribe" and (result := frame.result) is not None:
            if result.channel == "book" and result.depth in spot.DEPTHS:
                self.memory.depths[result.symbol] = result.depth
            ours = {"ticker": ("ticker", "quote"), "ohlc": (f"bar.{spot.bar_name(result.interval)}",)}
            return Accepted(tuple((channel, result.symbol) for channel in ours.get(result.channel, (result.channel,))))
        return Alive()

    def snapshot_url(self, want: Want, rest_url: str) -> str | None:
        """Snapshots come in the stream."""
        return None

    @staticmethod
    def snapshot_raw(url: str) -> str | None:
        """Nothing fetched is a book of this stream."""
        return None

    def decode_snapshot(self, raw: str, body: bytes, recv: int) -> Book:
        """Cannot happen: nothing is fetched."""
        raise ValueError("kraken books are not fetched")

    @staticmethod
    def instruments_url(rest_url: str) -> str | None:
        """AssetPairs names every pair and its decimals."""
        return f"{rest_url}/0/public/AssetPairs"

    @staticmethod
    def decode_instruments(body: bytes) -> list[Instrument]:
        """Pairs by their WebSocket name; v2 writes BTC and DOGE where the list says XBT and XDG."""
        return spot.instruments(body, lambda name: spot.canonical(name).replace("-", "/"))


def _pong(data: bytes) -> Control:
    """`{"method":"pong","req_id":…,"time_in":…,"time_out":…}`: our ping reached the venue between the two."""
    try:
        pong = _PONGS.decode(data)
        came, left = rfc3339_ns(pong.time_in), rfc3339_ns(pong.time_out)
    except (msgspec.ValidationError, ValueError):
        return Alive(pong=True)
    return Alive((came + left) // 2, pong=True)
