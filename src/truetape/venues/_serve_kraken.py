"""Kraken spot v2 from the venue's side: what `kraken.py` reads, this writes. Not a venue of its own.

Sources: docs.kraken.com/api (book v2, trade, ticker, ohlc, status, ping; read 2026-11), the recorded frames of 2026-07-07, and what
python-kraken-sdk and ccxt were seen to ask. A client's window of a book is its best `depth` levels: nothing is sent for levels that
fall out of it, the worst level is sent again when one comes back, removals stand before the rest, numbers have every digit of the
pair, and the checksum covers the best ten. A second subscribe to the same book is answered with a fresh snapshot.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Mapping
from zlib import crc32

import msgspec
from msgspec import Struct, field

from truetape.core.feed.counterpart import (
    Answer,
    Change,
    Ladder,
    Listed,
    Native,
    Pair,
    Print,
    Reply,
    Steps,
    Subscribed,
    Unsubscribed,
    Wrong,
)
from truetape.core.feed.write import decimal, rfc3339
from truetape.venues import _serve_kraken_rest as rest

DEPTHS = (10, 25, 100, 500, 1000)
MINUTES = (1, 5, 15, 30, 60, 240, 1440, 10080, 21600)
CHANNELS = ("book", "trade", "ticker", "ohlc")
RELAYED = ("book", "trade")
SUMMED = 10  # levels of each side under the checksum
EVERYTHING = -(1 << 62)
HEARTBEAT = 1_000_000_000


class _Params(Struct):
    channel: str = ""
    symbol: list[str] = []
    depth: int = 10
    interval: int = 1
    snapshot: bool | None = None
    event_trigger: str = "trades"


class _Request(Struct):
    method: str = ""
    params: _Params = field(default_factory=_Params)
    req_id: int | None = None


class _Sub(Struct):
    """What one client has of one symbol. An edge is the key of the worst level that it holds, EVERYTHING where none is left out."""

    depth: int = 0
    bid_edge: int = EVERYTHING
    ask_edge: int = EVERYTHING
    trade: bool = False
    ticker: str = ""
    quoted: tuple[int, int] = (0, 0)
    intervals: list[int] = []


_REQUEST = msgspec.json.Decoder(_Request)
_encode: Callable[[object], bytes] = msgspec.json.encode


def checksum(bids: Ladder, asks: Ladder) -> int:
    """Ten asks lowest first, then ten bids highest first. Digits without point and leading zeros are the number of steps."""
    text = [f"{abs(key)}{side.sizes[key]}" for side in (asks, bids) for key in side.keys[: -SUMMED - 1 : -1]]
    return crc32("".join(text).encode())


def _levels(levels: list[Steps], places: int, digits: int) -> str:
    return ",".join([f'{{"price":{decimal(price, places)},"qty":{decimal(size, digits)}}}' for price, size in levels])


def _edge(side: Ladder, depth: int) -> int:
    return side.keys[-depth] if len(side.keys) >= depth else EVERYTHING


def window(side: Ladder, touched: list[Steps], before: int, after: int) -> list[Steps]:
    """What a client holding everything down to key `before` must be told, so that it holds all down to `after`: removals first."""
    sign = side.sign
    gone = [(price, 0) for price, size in touched if not size and price * sign >= before]
    told = [level for level in touched if level[1] and level[0] * sign >= after]
    if after < before:
        known = {price * sign for price, _ in touched}
        back = side.keys[bisect_left(side.keys, after) : bisect_left(side.keys, before)]
        told += [(abs(key), side.sizes[key]) for key in back if key not in known]
    return gone + told


class Counterpart:
    """See `core.feed.counterpart.Counterpart`. One book for each symbol and connection."""

    path = "/v2"
    size_decimals = 8
    ping_every_s = 0.0
    orders = 1
    relays = False
    decimals_max = 15
    first_trade = 1
    lists_all = True
    wrong = Wrong(
        word=(b'"type":"update"', b'"type":"merge"'), price=(rb'"price":([0-9.]+)', rb'"price":"\1"'), summed=True,
        limited=b'{"error":"Exceeded msg rate","method":"subscribe","success":false}',
    )  # fmt: skip

    def __init__(self, listed: Mapping[str, Listed], key: str = "") -> None:
        self.listed = listed
        self.subs: dict[str, _Sub] = {}
        self._beat = 0

    def opened(self, target: str, now: int) -> list[Answer]:
        """The status comes unasked, first; its connection id is beyond 2^53 as the venue's is."""
        row = {"api_version": "v2", "connection_id": (now & ~0xFFF) * 8 + 1, "system": "online", "version": "2.0.10"}
        return [_encode({"channel": "status", "data": [row], "type": "update"})]

    def received(self, data: bytes, now: int) -> list[Answer]:
        """Subscribe, unsubscribe, ping; everything else is refused in the venue's words."""
        try:
            request = _REQUEST.decode(data)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            wrong = "Malformed request" if isinstance(error, msgspec.ValidationError) else "Invalid JSON"
            return [_encode({"error": wrong, "success": False, "time_in": rfc3339(now), "time_out": rfc3339(now)})]
        if request.method == "ping":
            return [_encode({"method": "pong", **self._times(request, now)})]
        if request.method not in ("subscribe", "unsubscribe"):
            return [self._refuse(request, "Unsupported method", "", now)]
        params = request.params
        if params.channel not in CHANNELS or (self.relays and params.channel not in RELAYED):
            return [self._refuse(request, "Channel not supported", "", now)]
        if params.channel == "book" and params.depth not in DEPTHS:
            return [self._refuse(request, "Subscription depth not supported", "", now)]
        if params.channel == "ohlc" and params.interval not in MINUTES:
            return [self._refuse(request, "Subscription ohlc interval not supported", "", now)]
        answers: list[Answer] = []
        for symbol in params.symbol:
            if symbol not in self.listed:
                answers.append(self._refuse(request, f"Currency pair not supported {symbol}", symbol, now))
            elif params.channel == "book" and 0 < self.listed[symbol].depth < params.depth:
                kept = f"Subscription depth not supported: this gateway keeps {self.listed[symbol].depth} levels"
                answers.append(self._refuse(request, kept, symbol, now))
            elif request.method == "subscribe":
                answers += self._subscribe(request, symbol, now)
            else:
                answers += self._unsubscribe(request, symbol, now)
        return answers

    def parts(self, data: bytes) -> list[bytes]:
        """One request for each symbol, as they are answered."""
        try:
            request = msgspec.json.decode(data)
            symbols = request["params"]["symbol"]
            if len(symbols) < 2 or not isinstance(symbols, list):
                return [data]
            return [_encode({**request, "params": {**request["params"], "symbol": [symbol]}}) for symbol in symbols]
        except (msgspec.MsgspecError, UnicodeDecodeError, LookupError, TypeError):
            return [data]  # `received` says what is wrong with it

    @staticmethod
    def named(target: str) -> list[Pair]:
        """None: it is asked for by command."""
        return []

    def asks(self, data: bytes) -> list[Pair]:
        """The symbols of a subscribe."""
        try:
            request = _REQUEST.decode(data)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            return []
        params = request.params
        if request.method != "subscribe" or params.channel not in RELAYED:
            return []
        return [(params.channel, symbol) for symbol in dict.fromkeys(params.symbol)]

    def held(self) -> list[Pair]:
        """Books and trades."""
        books = [("book", symbol) for symbol, sub in self.subs.items() if sub.depth]
        return books + [("trade", symbol) for symbol, sub in self.subs.items() if sub.trade]

    def refuse(self, data: bytes, reason: str, text: str, now: int) -> list[Answer]:
        """In the words of the venue's own answer."""
        request = _REQUEST.decode(data)
        return [self._refuse(request, text, symbol, now) for symbol in request.params.symbol]

    def concerns(self, data: bytes) -> str:
        """The book that a subscribe is answered with."""
        try:
            request = _REQUEST.decode(data)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            return ""
        params = request.params
        return params.symbol[0] if request.method == "subscribe" and params.channel == "book" and params.symbol else ""

    def _times(self, request: _Request, now: int) -> dict[str, object]:
        number: dict[str, object] = {} if request.req_id is None else {"req_id": request.req_id}
        return number | {"time_in": rfc3339(now), "time_out": rfc3339(now)}

    def _refuse(self, request: _Request, error: str, symbol: str, now: int) -> bytes:
        row = {"error": error, "method": request.method, "success": False, **self._times(request, now)}
        return _encode(row | {"symbol": symbol} if symbol else row)

    def _accept(self, request: _Request, result: dict[str, object], now: int) -> bytes:
        return _encode({"method": request.method, "result": result, "success": True, **self._times(request, now)})

    def _subscribe(self, request: _Request, symbol: str, now: int) -> list[Answer]:
        params = request.params
        sub = self.subs.setdefault(symbol, _Sub())
        snapshot = params.snapshot is not False
        result: dict[str, object] = {"channel": params.channel, "snapshot": snapshot, "symbol": symbol}
        listed = self.listed[symbol]
        if params.channel == "book":
            result["depth"] = sub.depth = params.depth
            sub.bid_edge, sub.ask_edge = _edge(listed.bids, params.depth), _edge(listed.asks, params.depth)
            first = self._snapshot(listed, params.depth, now)
        elif params.channel == "trade":
            sub.trade = True
            first = _trades(listed, list(listed.prints), "snapshot")
        elif params.channel == "ticker":
            result["event_trigger"] = sub.ticker = params.event_trigger
            first = self._ticker(listed, "snapshot", now)
        else:
            result["interval"] = params.interval
            sub.intervals = sorted({*sub.intervals, params.interval})
            first = self._ohlc(listed, params.interval, "snapshot", now)
        answers: list[Answer] = [self._accept(request, result, now), Subscribed(symbol)]
        return [*answers, first] if snapshot else answers

    def _unsubscribe(self, request: _Request, symbol: str, now: int) -> list[Answer]:
        params = request.params
        sub = self.subs.get(symbol, _Sub())
        held = {"book": sub.depth == params.depth, "trade": sub.trade, "ticker": bool(sub.ticker)}
        held["ohlc"] = params.interval in sub.intervals
        if not held[params.channel]:
            return [self._refuse(request, "Subscription Not Found", symbol, now)]
        result: dict[str, object] = {"channel": params.channel, "symbol": symbol}
        if params.channel == "book":
            result["depth"] = sub.depth
            sub.depth = 0
        elif params.channel == "trade":
            sub.trade = False
        elif params.channel == "ticker":
            sub.ticker = ""
        else:
            result["interval"] = params.interval
            sub.intervals.remove(params.interval)
        answers: list[Answer] = [self._accept(request, result, now)]
        if not (sub.depth or sub.trade or sub.ticker or sub.intervals):
            del self.subs[symbol]
            answers.append(Unsubscribed(symbol))
        return answers

    def encode(self, change: Change, now: int) -> list[Native]:
        """Trades first, then the book that they left, as the venue's own order is."""
        sub = self.subs.get(change.raw)
        if sub is None:
            return []
        listed = self.listed[change.raw]
        frames: list[Native] = []
        if change.prints:
            if sub.trade:
                frames.append(("trade", _trades(listed, change.prints, "update")))
            frames += [("bar", self._ohlc(listed, minutes, "update", now)) for minutes in sub.intervals]
        if sub.depth and (head := self._book(listed, sub, change)):
            frames.append(("book", b'%b%b"}]}' % (head, rfc3339(now).encode())))
        if sub.ticker:
            quoted = (listed.bids.best, listed.asks.best)
            if (sub.ticker == "bbo" and quoted != sub.quoted) or (sub.ticker == "trades" and change.prints):
                sub.quoted = quoted
                frames.append(("quote", self._ticker(listed, "update", now)))
        return frames

    def _book(self, listed: Listed, sub: _Sub, change: Change) -> bytes:
        """The update but its time; empty where nothing of the client's window changed."""
        bids, asks = listed.bids, listed.asks
        bid_edge, ask_edge = _edge(bids, sub.depth), _edge(asks, sub.depth)
        head = change.made.get(("book", sub.depth))
        if head is None:
            of_bids = window(bids, change.bids, sub.bid_edge, bid_edge) if change.bids else []
            of_asks = window(asks, change.asks, sub.ask_edge, ask_edge) if change.asks else []
            head = b""
            if of_bids or of_asks:
                places, digits = listed.instrument.price_decimals, listed.instrument.size_decimals
                head = (
                    f'{{"channel":"book","type":"update","data":[{{"symbol":"{change.raw}",'
                    f'"bids":[{_levels(of_bids, places, digits)}],"asks":[{_levels(of_asks, places, digits)}],'
                    f'"checksum":{checksum(bids, asks)},"timestamp":"'
                ).encode()
            change.made["book", sub.depth] = head
        sub.bid_edge, sub.ask_edge = bid_edge, ask_edge
        return head

    def _snapshot(self, listed: Listed, depth: int, now: int) -> bytes:
        places, digits = listed.instrument.price_decimals, listed.instrument.size_decimals
        bids, asks = listed.bids.top(depth), listed.asks.top(depth)
        return (
            f'{{"channel":"book","type":"snapshot","data":[{{"symbol":"{listed.instrument.raw}",'
            f'"bids":[{_levels(bids, places, digits)}],"asks":[{_levels(asks, places, digits)}],'
            f'"checksum":{checksum(listed.bids, listed.asks)},"timestamp":"{rfc3339(now)}"}}]}}'
        ).encode()

    def _ticker(self, listed: Listed, kind: str, now: int) -> bytes:
        places, digits = listed.instrument.price_decimals, listed.instrument.size_decimals
        day, bid, ask = listed.day, listed.bids.top(1)[0], listed.asks.top(1)[0]
        change = day.close - day.open
        prices = {"bid": bid[0], "ask": ask[0], "last": day.close, "vwap": day.mean, "low": day.low, "high": day.high}
        return (
            f'{{"channel":"ticker","type":"{kind}","data":[{{"symbol":"{listed.instrument.raw}",'
            + "".join([f'"{name}":{decimal(price, places)},' for name, price in prices.items()])
            + f'"bid_qty":{decimal(bid[1], digits)},"ask_qty":{decimal(ask[1], digits)},"volume":{decimal(day.size, digits)},'
            f'"change":{"-" * (change < 0)}{decimal(abs(change), places)},"change_pct":{100 * change / day.open:.2f},'
            f'"timestamp":"{rfc3339(now)}"}}]}}'
        ).encode()

    def _ohlc(self, listed: Listed, minutes: int, kind: str, now: int) -> bytes:
        places, digits = listed.instrument.price_decimals, listed.instrument.size_decimals
        bar = listed.candle(minutes * 60, now)[0]
        prices = {"open": bar.open, "high": bar.high, "low": bar.low, "close": bar.close, "vwap": bar.mean}
        return (
            f'{{"channel":"ohlc","type":"{kind}","timestamp":"{rfc3339(now)}","data":[{{"symbol":"{listed.instrument.raw}",'
            + "".join(f'"{name}":{decimal(price, places)},' for name, price in prices.items())
            + f'"trades":{bar.count},"volume":{decimal(bar.size, digits)},"interval_begin":"{rfc3339(bar.start)}",'
            f'"interval":{minutes},"timestamp":"{rfc3339(bar.start + minutes * 60_000_000_000)}"}}]}}'
        ).encode()

    def tick(self, now: int) -> list[tuple[str, Native]]:
        """A heartbeat each second, once something is subscribed."""
        if not self.subs or now - self._beat < HEARTBEAT:
            return []
        self._beat = now
        return [("", ("", b'{"channel":"heartbeat"}'))]

    @staticmethod
    def messages(change: Change) -> int:
        """The trades of one order share a message."""
        return 1 + bool(change.prints)

    @staticmethod
    def http(listed: Mapping[str, Listed], path: str, query: Mapping[str, str], now: int) -> Reply:
        """See `_serve_kraken_rest`."""
        return rest.answer(listed, path, query, now)


def _trades(listed: Listed, prints: list[Print], kind: str) -> bytes:
    places, digits = listed.instrument.price_decimals, listed.instrument.size_decimals
    rows = ",".join(
        f'{{"symbol":"{listed.instrument.raw}","side":"{trade.side}","price":{decimal(trade.price, places)},'
        f'"qty":{decimal(trade.size, digits)},"ord_type":"limit","trade_id":{trade.id + 1},"timestamp":"{rfc3339(trade.ts)}"}}'
        for trade in prints
    )
    return f'{{"channel":"trade","type":"{kind}","data":[{rows}]}}'.encode()
