"""Binance spot from the venue's side: what `binance.py` reads, this writes. Not a venue of its own.

Sources: binance-spot-api-docs a5e0bc3 (2026-07-21, web-socket-streams.md) and what ccxt, python-binance and cryptofeed were seen
to ask. Streams come raw on `/ws…` and wrapped on `/stream…`; `/ws/<number>` subscribes nothing (ccxt counts its sockets so).
A stream that does not exist is accepted and stays silent; a second SUBSCRIBE to the same stream is accepted. One change of the
market is one diff: they are not collected for 100 ms, so that the simulator's rate is the rate that arrives.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from urllib.parse import parse_qs

import msgspec
from msgspec import Raw, Struct

from truetape.core.feed.counterpart import (
    Answer,
    Change,
    Dismissed,
    Listed,
    Native,
    Pair,
    Reply,
    Subscribed,
    Unsubscribed,
    Wrong,
)
from truetape.venues import _serve_binance_rest as rest
from truetape.venues import _serve_binance_words as wording

MS = 1_000_000
STREAMS_MAX = 1024
"""Streams of one connection."""
SPANS = {"1s": 1, "1m": 60, "3m": 180, "5m": 300, "15m": 900, "30m": 1800, "1h": 3600, "2h": 7200, "4h": 14_400, "6h": 21_600,
         "8h": 28_800, "12h": 43_200, "1d": 86_400}  # fmt: skip
EVERY = {"ticker": 1_000_000_000, "miniTicker": 1_000_000_000, "kline_1s": 1_000_000_000}
KLINE_EVERY = 2_000_000_000
KINDS = ("depth", "depth5", "depth10", "depth20", "trade", "aggTrade", "bookTicker", "ticker", "miniTicker")
CODES = {"unknown_symbol": -1121, "rate_limit": -1003, "too_many_subscriptions": -1034, "unavailable": -1120}
KLINES = (*SPANS, "3d", "1w", "1M")
NOT_RELAYED = "Invalid request: depth, trade, aggTrade, bookTicker, ticker and kline are re-broadcast, not {}"


class _Request(Struct):
    method: str = ""
    params: list[str | bool] = []
    id: Raw = Raw(b"null")


class _Combined(Struct):
    data: Raw = Raw()


_REQUEST = msgspec.json.Decoder(_Request)
_COMBINED = msgspec.json.Decoder(_Combined)
_encode: Callable[[object], bytes] = msgspec.json.encode


class Counterpart:
    """See `core.feed.counterpart.Counterpart`."""

    path = ""
    size_decimals = 5
    ping_every_s = 20.0
    orders = 4
    relays = False
    decimals_max = 8
    first_trade = 0
    lists_all = True
    wrong = Wrong(
        word=(b'"depthUpdate"', b'"depthMerge"'), price=(rb'\["([0-9.]+)"', rb"[\1"), numbered=True,
        limited=b'{"error":{"code":-1003,"msg":"Too many requests; current limit is 5 messages per second."},"id":null}',
        leaving=b'{"e":"serverShutdown","E":1780000000000}',
    )  # fmt: skip

    def __init__(self, listed: Mapping[str, Listed], key: str = "") -> None:
        self.listed = listed
        self.wrapped = False
        self.streams: dict[str, dict[str, bytes]] = {}  # raw symbol -> kind of stream -> what stands before each frame
        self.unknown: dict[str, None] = {}  # accepted, and silent for ever
        self._quoted: dict[str, tuple[int, int, int, int]] = {}
        self._said: dict[tuple[str, str], int] = {}  # (raw, kind) -> when it was last said by the clock
        self._starts: dict[tuple[str, str], int] = {}  # (raw, kind) -> start of the candle said last

    def opened(self, target: str, now: int) -> list[Answer]:
        """Streams named in the URL; the rest comes by command."""
        self.wrapped = target.partition("?")[0].rstrip("/") == "/stream"
        names = _names(target)
        answers: list[Answer] = []
        for name in names:
            if self.relays and name and not name.isdecimal() and not _relayed(name):
                text = NOT_RELAYED.format(name[:60])
                return [_refuse(2, text, b"null"), Dismissed(1008, text[17:])]
            if name and not name.isdecimal():
                answers += self._subscribe(name)
        return answers

    def received(self, data: bytes, now: int) -> list[Answer]:
        """SUBSCRIBE, UNSUBSCRIBE, LIST_SUBSCRIPTIONS, SET_PROPERTY, GET_PROPERTY."""
        try:
            request = _REQUEST.decode(data)
        except msgspec.ValidationError as error:
            return [_refuse(2, f"Invalid request: {error}", b"null")]
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            return [_refuse(3, f"Invalid JSON: {error}", b"null")]
        number = bytes(request.id)
        names = [name for name in request.params if isinstance(name, str)]
        if request.method == "SUBSCRIBE":
            if not names or self._count() + len(names) > STREAMS_MAX:
                return [_refuse(2, f"Invalid request: expected 1 to {STREAMS_MAX} streams in all", number)]
            if self.relays and (others := [name for name in names if not _relayed(name)]):
                return [_refuse(2, NOT_RELAYED.format(others[0][:60]), number)]
            answers: list[Answer] = [_result(b"null", number)]
            return answers + [answer for name in names for answer in self._subscribe(name)]
        if request.method == "UNSUBSCRIBE":
            answers = [_result(b"null", number)]
            return answers + [answer for name in names for answer in self._unsubscribe(name)]
        if request.method == "LIST_SUBSCRIPTIONS":
            listed = [f"{raw.lower()}@{kind}" for raw, kinds in self.streams.items() for kind in kinds]
            return [_result(_encode(listed + list(self.unknown)), number)]
        if request.method == "GET_PROPERTY" and names == ["combined"]:
            return [_result(_encode(self.wrapped), number)]
        if request.method == "SET_PROPERTY" and request.params in (["combined", True], ["combined", False]):
            self.wrapped = request.params[1] is True
            for raw, kinds in self.streams.items():
                self.streams[raw] = {kind: self._head(raw, kind) for kind in kinds}
            return [_result(b"null", number)]
        code = 0 if request.method in ("GET_PROPERTY", "SET_PROPERTY") else 2
        return [_refuse(code, f"Invalid request: unknown method or property in {request.method[:40]!r}", number)]

    def parts(self, data: bytes) -> list[bytes]:
        """No answer holds a book: those are fetched."""
        return [data]

    def concerns(self, data: bytes) -> str:
        """None."""
        return ""

    @staticmethod
    def named(target: str) -> list[Pair]:
        """Streams in the URL."""
        return _pairs(_names(target))

    def asks(self, data: bytes) -> list[Pair]:
        """Streams of a SUBSCRIBE."""
        try:
            request = _REQUEST.decode(data)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            return []
        names = [name for name in request.params if isinstance(name, str)]
        return _pairs(names[:STREAMS_MAX]) if request.method == "SUBSCRIBE" else []

    def held(self) -> list[Pair]:
        """Its streams; several of them may be made of one subscription of ours."""
        return _pairs([f"{raw.lower()}@{kind}" for raw, kinds in self.streams.items() for kind in kinds])

    def refuse(self, data: bytes, reason: str, text: str, now: int) -> list[Answer]:
        """An error for the whole request; of streams in the URL there is nothing left to say but that."""
        code = CODES.get(reason, 2)
        if not data:
            return [_refuse(code, text, b"null"), Dismissed(1008, text[:100])]
        return [_refuse(code, text, bytes(_REQUEST.decode(data).id))]

    @staticmethod
    def spoken(data: bytes) -> list[bytes]:
        """A 24hrTicker or kline, without what a combined stream puts around it."""
        if b'"24hrTicker"' not in data and b'"kline"' not in data:
            return []
        inner = _COMBINED.decode(data).data
        return [bytes(inner) if inner else data]

    def relay(self, channel: str, raw: str, words: bytes, at: int) -> list[bytes]:
        """On the stream of that name."""
        kind = "kline_" + channel[4:] if channel.startswith("bar.") else channel
        head = self.streams.get(raw, {}).get(kind)
        return [] if head is None else [head + words + b"}" if head else words]

    def _count(self) -> int:
        return sum(map(len, self.streams.values())) + len(self.unknown)

    def _head(self, raw: str, kind: str) -> bytes:
        return f'{{"stream":"{raw.lower()}@{kind}","data":'.encode() if self.wrapped else b""

    def _subscribe(self, name: str) -> list[Answer]:
        symbol, _, kind = name.partition("@")
        raw = symbol.upper()
        known = kind.partition("@")[0] in KINDS or (kind.startswith("kline_") and kind[6:] in KLINES)
        if self._count() >= STREAMS_MAX:
            return []
        if raw not in self.listed or symbol != raw.lower() or not known:
            self.unknown[name] = None
            return []
        self.streams.setdefault(raw, {})[kind] = self._head(raw, kind)
        return [Subscribed(raw)]

    def _unsubscribe(self, name: str) -> list[Answer]:
        symbol, _, kind = name.partition("@")
        self.unknown.pop(name, None)
        kinds = self.streams.get(symbol.upper(), {})
        if kinds.pop(kind, None) is None or kinds:
            return []
        del self.streams[symbol.upper()]
        return [Unsubscribed(symbol.upper())]

    def encode(self, change: Change, now: int) -> list[Native]:
        """Every stream of this symbol that the change concerns."""
        frames: list[Native] = []
        listed = self.listed[change.raw]
        for kind, head in self.streams.get(change.raw, {}).items():
            end = b"}" if head else b""
            if kind[:6] in ("depth1", "depth2", "depth5"):
                if change.bids or change.asks:
                    frames.append(
                        ("book", head + wording.partial(listed, change, int(kind[5:].partition("@")[0])) + end)
                    )
            elif kind[:5] == "depth":
                if change.bids or change.asks:
                    body = wording.diff(listed, change)
                    start = f'{{"e":"depthUpdate","E":{now // MS},"s":"{change.raw}","U":{change.first},"u":{change.seq},'.encode()
                    frames.append(("book", b"%b%b%b%b" % (head, start, body, end)))
            elif kind == "trade":
                frames += [("trade", head + wording.trade(listed, trade, now) + end) for trade in change.prints]
            elif kind == "aggTrade":
                frames += [
                    ("trade", head + wording.aggregate(listed, row, now) + end) for row in wording.merged(change.prints)
                ]
            elif kind == "bookTicker" and (body := self._quote(listed)):
                frames.append(("quote", head + body + end))
        return frames

    def _quote(self, listed: Listed) -> bytes:
        """The best prices, where they changed since this client was told."""
        raw = listed.instrument.raw
        if not (listed.bids.keys and listed.asks.keys):
            return b""
        quoted = (*listed.bids.top(1)[0], *listed.asks.top(1)[0])
        if self._quoted.get(raw) == quoted:
            return b""
        self._quoted[raw] = quoted
        grain = (listed.instrument.price_decimals, listed.instrument.size_decimals)
        best_bid = wording.pair(grain, *quoted[:2]).replace(",", ',"B":')
        best_ask = wording.pair(grain, *quoted[2:]).replace(",", ',"A":')
        return f'{{"u":{listed.seq},"s":"{raw}","b":{best_bid},"a":{best_ask}}}'.encode()

    def tick(self, now: int) -> list[tuple[str, Native]]:
        """Candles every two seconds, summaries every second; none where those of the venue are passed on."""
        frames: list[tuple[str, Native]] = []
        if self.relays:
            return frames
        for raw, kinds in self.streams.items():
            for kind, head in kinds.items():
                clocked = kind in EVERY or kind.startswith("kline_")
                if not clocked or now - self._said.get((raw, kind), 0) < EVERY.get(kind, KLINE_EVERY):
                    continue
                self._said[raw, kind] = now
                listed, end = self.listed[raw], b"}" if head else b""
                if not kind.startswith("kline_"):
                    frames.append((raw, ("ticker", head + wording.summary(listed, kind, now) + end)))
                    continue
                candle, before = listed.candle(SPANS[kind[6:]], now)
                if before is not None and self._starts.get((raw, kind)) == before.start:
                    frames.append((raw, ("bar", head + wording.kline(listed, before, kind[6:], True, now) + end)))
                self._starts[raw, kind] = candle.start
                frames.append((raw, ("bar", head + wording.kline(listed, candle, kind[6:], False, now) + end)))
        return frames

    @staticmethod
    def messages(change: Change) -> int:
        """Each trade is a message of its own."""
        return 1 + len(change.prints)

    @staticmethod
    def http(listed: Mapping[str, Listed], path: str, query: Mapping[str, str], now: int) -> Reply:
        """See `_serve_binance_rest`."""
        return rest.answer(listed, path, query, now)


def _result(value: bytes, number: bytes) -> bytes:
    return b'{"result":%b,"id":%b}' % (value, number)


def _names(target: str) -> list[str]:
    """Streams in a path and query. No whole URL: `urlsplit` would take //[ for a broken address, and raise."""
    path, _, query = target.partition("?")
    if path.rstrip("/") == "/stream":
        return parse_qs(query).get("streams", [""])[0].split("/")
    return path.split("/")[2:]


def _pairs(names: Sequence[str]) -> list[Pair]:
    """What a gateway must be subscribed to for these streams, each once."""
    pairs: dict[Pair, None] = {}
    for name in names:
        symbol, _, kind = name.partition("@")
        if symbol == symbol.lower() and _relayed(name):
            pairs[_channel(kind), symbol.upper()] = None
    return list(pairs)


def _channel(kind: str) -> str:
    """Which of our channels a stream is made of."""
    if kind.startswith("kline_"):
        return f"bar.{kind[6:]}"
    return {"trade": "trade", "aggTrade": "trade", "ticker": "ticker"}.get(kind, "book")


def _relayed(name: str) -> bool:
    """Whether a gateway can make this stream, or pass it on."""
    kind = name.partition("@")[2]
    return kind.partition("@")[0] in KINDS[:7] or kind == "ticker" or (kind[:6] == "kline_" and kind[6:] in KLINES)


def _refuse(code: int, text: str, number: bytes) -> bytes:
    return b'{"error":%b,"id":%b}' % (_encode({"code": code, "msg": text}), number)
