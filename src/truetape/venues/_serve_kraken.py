"""Kraken spot v2 from the venue's side: what `kraken.py` reads, this writes. Not a venue of its own.

Sources: docs.kraken.com/api (book v2, trade, ticker, ohlc, status, ping; read 2026-11), the recorded frames of 2026-07-07, and what
python-kraken-sdk and ccxt were seen to ask. A client's window of a book is its best `depth` levels: nothing is sent for levels that
fall out of it, the worst level is sent again when one comes back, removals stand before the rest, numbers have every digit of the
pair, and the checksum covers the best ten. A second subscribe to the same book is answered with a fresh snapshot.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import msgspec
from msgspec import Raw, Struct, field

from truetape.core.feed.counterpart import (
    Answer,
    Change,
    Listed,
    Native,
    Pair,
    Reply,
    Subscribed,
    Unsubscribed,
    Wrong,
)
from truetape.core.feed.write import rfc3339
from truetape.venues import _serve_kraken_rest as rest
from truetape.venues import _serve_kraken_words as wording
from truetape.venues._kraken import bar_name

DEPTHS = (10, 25, 100, 500, 1000)
MINUTES = (1, 5, 15, 30, 60, 240, 1440, 10080, 21600)
CHANNELS = ("book", "trade", "ticker", "ohlc")
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
    bid_edge: int = wording.EVERYTHING
    ask_edge: int = wording.EVERYTHING
    trade: bool = False
    ticker: str = ""
    quoted: tuple[int, int] = (0, 0)
    intervals: list[int] = []
    promised: list[str] = []  # channels whose snapshot is still to come


class _Said(Struct):
    channel: str = ""
    data: list[Raw] = []


_SAID = msgspec.json.Decoder(_Said)
_REQUEST = msgspec.json.Decoder(_Request)
_encode: Callable[[object], bytes] = msgspec.json.encode


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
        if params.channel not in CHANNELS:
            return [self._refuse(request, "Channel not supported", "", now)]
        if self.relays and params.channel == "ticker" and params.event_trigger != "trades":
            return [self._refuse(request, "Subscription event_trigger not supported: here it is trades", "", now)]
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
        if request.method != "subscribe" or params.channel not in CHANNELS or params.event_trigger != "trades":
            return []
        word = params.channel
        if word == "ohlc":
            if params.interval not in MINUTES:
                return []
            word = f"bar.{bar_name(params.interval)}"
        return [(word, symbol) for symbol in dict.fromkeys(params.symbol)]

    def held(self) -> list[Pair]:
        """All that it is told of, in our channels."""
        pairs: list[Pair] = []
        for symbol, sub in self.subs.items():
            words = {"book": bool(sub.depth), "trade": sub.trade, "ticker": bool(sub.ticker)}
            pairs += [(word, symbol) for word, there in words.items() if there]
            pairs += [(word, symbol) for word in _bars(sub)]
        return pairs

    @staticmethod
    def spoken(data: bytes) -> list[bytes]:
        """The members of a ticker or ohlc message."""
        if b'"ticker"' not in data and b'"ohlc"' not in data:
            return []
        said = _SAID.decode(data)
        return [bytes(member) for member in said.data] if said.channel in ("ticker", "ohlc") else []

    def relay(self, channel: str, raw: str, words: bytes, at: int) -> list[bytes]:
        """In a message of its own; the first is a snapshot where one was promised and there was nothing yet."""
        sub = self.subs.get(raw)
        if sub is None or not (channel in _bars(sub) or (channel == "ticker" and sub.ticker)):
            return []
        kind = "snapshot" if channel in sub.promised else "update"
        sub.promised = [other for other in sub.promised if other != channel]
        return [wording.relayed(channel, kind, [words], at)]

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
            sub.bid_edge, sub.ask_edge = (
                wording.edge(listed.bids, params.depth),
                wording.edge(listed.asks, params.depth),
            )
            first = wording.snapshot(listed, params.depth, now)
        elif params.channel == "trade":
            sub.trade = True
            first = wording.trades(listed, list(listed.prints), "snapshot")
        elif params.channel == "ticker":
            result["event_trigger"] = sub.ticker = params.event_trigger
            first = b"" if self.relays else wording.ticker(listed, "snapshot", now)
        else:
            result["interval"] = params.interval
            sub.intervals = sorted({*sub.intervals, params.interval})
            first = b"" if self.relays else wording.ohlc(listed, params.interval, "snapshot", now)
        answers: list[Answer] = [self._accept(request, result, now), Subscribed(symbol)]
        if not first and snapshot:
            first = self._kept(sub, listed, params)
        return [*answers, first] if snapshot and first else answers

    def _kept(self, sub: _Sub, listed: Listed, params: _Params) -> bytes:
        """What the venue said so far; where that is nothing, its next words are the snapshot."""
        channel = "ticker" if params.channel == "ticker" else f"bar.{bar_name(params.interval)}"
        kept = listed.words.get(channel)
        if not kept:
            sub.promised = [*sub.promised, channel]
            return b""
        return wording.relayed(channel, "snapshot", list(kept.values()), 0)

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
                frames.append(("trade", wording.trades(listed, change.prints, "update")))
            bars = () if self.relays else sub.intervals
            frames += [("bar", wording.ohlc(listed, minutes, "update", now)) for minutes in bars]
        if sub.depth and (head := self._book(listed, sub, change)):
            frames.append(("book", b'%b%b"}]}' % (head, rfc3339(now).encode())))
        if sub.ticker and not self.relays:
            quoted = (listed.bids.best, listed.asks.best)
            if (sub.ticker == "bbo" and quoted != sub.quoted) or (sub.ticker == "trades" and change.prints):
                sub.quoted = quoted
                frames.append(("quote", wording.ticker(listed, "update", now)))
        return frames

    def _book(self, listed: Listed, sub: _Sub, change: Change) -> bytes:
        """The update but its time; empty where nothing of the client's window changed."""
        bids, asks = listed.bids, listed.asks
        bid_edge, ask_edge = wording.edge(bids, sub.depth), wording.edge(asks, sub.depth)
        head = change.made.get(("book", sub.depth))
        if head is None:
            of_bids = wording.window(bids, change.bids, sub.bid_edge, bid_edge) if change.bids else []
            of_asks = wording.window(asks, change.asks, sub.ask_edge, ask_edge) if change.asks else []
            head = b""
            if of_bids or of_asks:
                places, digits = listed.instrument.price_decimals, listed.instrument.size_decimals
                head = (
                    f'{{"channel":"book","type":"update","data":[{{"symbol":"{change.raw}",'
                    f'"bids":[{wording.levels_of(of_bids, places, digits)}],"asks":[{wording.levels_of(of_asks, places, digits)}],'
                    f'"checksum":{wording.checksum(bids, asks)},"timestamp":"'
                ).encode()
            change.made["book", sub.depth] = head
        sub.bid_edge, sub.ask_edge = bid_edge, ask_edge
        return head

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


def _bars(sub: _Sub) -> list[str]:
    return [f"bar.{bar_name(minutes)}" for minutes in sub.intervals]
