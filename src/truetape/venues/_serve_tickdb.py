"""TickDB's documented protocol from the venue's side: what `tickdb.py` reads, this writes. Not a venue of its own.

Sources: TickDB/tickdb-api-docs cd837a2 (2026-07-16; read 2026-11); nothing was ever recorded. Where the papers are silent this is chosen:
a depth message is the best `DEPTH` levels, sent at each change and once after the subscribe; a request with an unknown symbol is refused
whole; a wrong key is told after the handshake and the connection closed with 1008. Trades come as an array, as the prose has it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from urllib.parse import parse_qs

import msgspec
from msgspec import Struct

from truetape.core.feed.counterpart import (
    Answer,
    Change,
    Dismissed,
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
from truetape.core.feed.write import decimal

MS = 1_000_000
DEPTH = 10
DEPTH_MAX = 50
LISTED_MAX = 1_000
CHANNELS = ("ticker", "depth", "trade")
RELAYED = {"depth": "book", "trade": "trade", "ticker": "ticker"}
CODES = {
    1001: "API key invalid or expired",
    1002: "API key missing",
    2001: "invalid parameters",
    2002: "symbol not found",
    2004: "limit out of range",
    4001: "unknown command",
    4002: "invalid message format",
    4003: "channel not available",
}


class _Data(Struct):
    channel: str
    symbols: list[str]
    type: str = ""


class _Request(Struct):
    cmd: str
    data: _Data | None = None


class _Cmd(Struct):
    cmd: str = ""


_REQUEST = msgspec.json.Decoder(_Request)
_CMD = msgspec.json.Decoder(_Cmd)
_encode: Callable[[object], bytes] = msgspec.json.encode


def _levels(listed: Listed, levels: list[Steps]) -> str:
    places, digits = listed.instrument.price_decimals, listed.instrument.size_decimals
    return ",".join([f'["{decimal(price, places)}","{decimal(size, digits)}"]' for price, size in levels])


class Counterpart:
    """See `core.feed.counterpart.Counterpart`."""

    path = "/v1/realtime"
    size_decimals = 5
    ping_every_s = 0.0
    orders = 3
    relays = False
    decimals_max = 15
    first_trade = 1
    lists_all = False  # in pages
    wrong = Wrong(
        word=(b'"cmd":"depth"', b'"cmd":"merge"'), price=(rb'\["([0-9.]+)"', rb"[\1"),
        limited=b'{"cmd":"error","code":3001,"message":"rate limit exceeded","data":{"retry_after":5}}',
        expired=b'{"cmd":"error","code":1001,"message":"API key invalid or expired","data":{}}',
    )  # fmt: skip

    def __init__(self, listed: Mapping[str, Listed], key: str = "") -> None:
        self.listed = listed
        self.key = key
        self.held_by: dict[str, dict[str, None]] = {}  # raw symbol -> channels

    def opened(self, target: str, now: int) -> list[Answer]:
        """The key stands in the query."""
        given = parse_qs(target.partition("?")[2]).get("api_key", [""])[0]
        if not self.key or given == self.key:
            return []
        code = 1001 if given else 1002
        return [_answer("connect", code), Dismissed(1008, CODES[code])]

    def received(self, data: bytes, now: int) -> list[Answer]:
        """Subscribe, unsubscribe, ping."""
        try:
            request = _REQUEST.decode(data)
        except msgspec.ValidationError as error:
            return [_answer("error", 2001 if "$.data" in str(error) else 4002)]
        except (msgspec.MsgspecError, UnicodeDecodeError):
            return [_answer("error", 4002)]
        if request.cmd == "ping":
            return [f'{{"cmd":"pong","code":0,"message":"pong","data":{{"timestamp":{now // MS}}}}}'.encode()]
        if request.cmd not in ("subscribe", "unsubscribe"):
            return [_answer(request.cmd, 4001)]
        asked = request.data
        if asked is None or asked.channel not in CHANNELS or not asked.symbols:
            return [_answer(request.cmd, 2001)]
        if unknown := [symbol for symbol in asked.symbols if symbol not in self.listed]:
            return [_answer(request.cmd, 2002, f": {', '.join(unknown)[:100]}")]
        answers: list[Answer] = [_answer(request.cmd, 0)]
        for symbol in asked.symbols:
            if request.cmd == "subscribe":
                answers += self._subscribe(symbol, asked.channel, now)
            else:
                answers += self._unsubscribe(symbol, asked.channel)
        return answers

    def parts(self, data: bytes) -> list[bytes]:
        """One answer for all symbols."""
        return [data]

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
        asked = request.data
        if request.cmd != "subscribe" or asked is None or asked.channel not in RELAYED:
            return []
        return [(RELAYED[asked.channel], symbol) for symbol in dict.fromkeys(asked.symbols)]

    def held(self) -> list[Pair]:
        """All that it is told of, in our channels."""
        return [(RELAYED[kind], raw) for raw, kinds in self.held_by.items() for kind in kinds if kind in RELAYED]

    @staticmethod
    def spoken(data: bytes) -> list[bytes]:
        """A ticker's message, as it is."""
        return [data] if b'"ticker"' in data and _CMD.decode(data).cmd == "ticker" else []

    def relay(self, channel: str, raw: str, words: bytes, at: int) -> list[bytes]:
        """The same again."""
        return [words] if channel in self.held_by.get(raw, {}) else []

    def refuse(self, data: bytes, reason: str, text: str, now: int) -> list[Answer]:
        """An error for the whole request."""
        code = {"unknown_symbol": 2002, "unavailable": 4003}.get(reason, 2001)
        return [_answer(_REQUEST.decode(data).cmd, code, f": {text[:100]}")]

    def concerns(self, data: bytes) -> str:
        """None: a book that is not there yet comes with its first change."""
        return ""

    def _subscribe(self, symbol: str, channel: str, now: int) -> list[Answer]:
        self.held_by.setdefault(symbol, {})[channel] = None
        listed = self.listed[symbol]
        first: list[Answer] = [Subscribed(symbol)]
        if channel == "depth":
            if self.relays and not (listed.bids.keys or listed.asks.keys):
                return first  # each message is a whole book: the next change brings it
            first.append(_depth(listed, now))
        elif channel == "ticker":
            first += listed.words.get("ticker", {}).values() if self.relays else [_ticker(listed, now)]
        return first

    def _unsubscribe(self, symbol: str, channel: str) -> list[Answer]:
        channels = self.held_by.get(symbol, {})
        channels.pop(channel, None)
        if channels or symbol not in self.held_by:
            return []
        del self.held_by[symbol]
        return [Unsubscribed(symbol)]

    def encode(self, change: Change, now: int) -> list[Native]:
        """Trades, the book that they left, and the summary if something was traded."""
        frames: list[Native] = []
        listed = self.listed[change.raw]
        channels = self.held_by.get(change.raw, {})
        if change.prints and "trade" in channels:
            frames.append(("trade", _trades(listed, change.prints)))
        if "depth" in channels and (change.bids or change.asks):
            head = change.made.get(("depth", 0))
            if head is None:
                head = change.made["depth", 0] = _depth_head(listed, DEPTH, '"cmd":"depth"')
            frames.append(("book", b"%b%d}}" % (head, now // MS)))
        if change.prints and "ticker" in channels and not self.relays:
            frames.append(("ticker", _ticker(listed, now)))
        return frames

    def tick(self, now: int) -> list[tuple[str, Native]]:
        """The venue says nothing by the clock; heartbeats are the client's."""
        return []

    @staticmethod
    def messages(change: Change) -> int:
        """The trades of one change share a message."""
        return 1 + bool(change.prints)

    @staticmethod
    def http(listed: Mapping[str, Listed], path: str, query: Mapping[str, str], now: int) -> Reply:
        """The list of symbols, and a book."""
        limit = query.get("limit", "10" if path == "/v1/market/depth" else "100")
        offset = query.get("offset", "0")
        if not (limit.isdecimal() and offset.isdecimal()) or not 1 <= int(limit) <= LISTED_MAX:
            return _reply(400, 2004, None)
        if path == "/v1/symbols/available":
            return _available(listed, query, int(limit), int(offset))
        if path == "/v1/market/depth":
            row = listed.get(query.get("symbol", ""))
            if row is None:
                return _reply(404, 2002, None)
            return Reply(200, _depth(row, now, min(int(limit), DEPTH_MAX), '"code":0,"message":"success"'))
        return _reply(404, 2001, None)


def _answer(cmd: str, code: int, more: str = "") -> bytes:
    return _encode({"cmd": cmd, "code": code, "message": CODES.get(code, "success") + more, "data": {}})


def _reply(status: int, code: int, data: object) -> Reply:
    return Reply(status, _encode({"code": code, "message": CODES.get(code, "success"), "data": data}))


def _depth_head(listed: Listed, depth: int, head: str) -> bytes:
    """A whole book but its time."""
    return (
        f'{{{head},"data":{{"symbol":"{listed.instrument.raw}","bids":[{_levels(listed, listed.bids.top(depth))}],'
        f'"asks":[{_levels(listed, listed.asks.top(depth))}],"timestamp":'
    ).encode()


def _depth(listed: Listed, now: int, depth: int = DEPTH, head: str = '"cmd":"depth"') -> bytes:
    return b"%b%d}}" % (_depth_head(listed, depth, head), now // MS)


def _trades(listed: Listed, prints: list[Print]) -> bytes:
    places, digits = listed.instrument.price_decimals, listed.instrument.size_decimals
    rows = ",".join(
        f'{{"id":"{trade.id + 1}","price":"{decimal(trade.price, places)}","quantity":"{decimal(trade.size, digits)}",'
        f'"side":"{trade.side}","timestamp":{trade.ts // MS}}}'
        for trade in prints
    )
    return f'{{"cmd":"trade","data":{{"symbol":"{listed.instrument.raw}","trades":[{rows}]}}}}'.encode()


def _ticker(listed: Listed, now: int) -> bytes:
    """With the fields of the prose for its market; the 24 hours are those since the start."""
    places, digits = listed.instrument.price_decimals, listed.instrument.size_decimals
    day, raw = listed.day, listed.instrument.raw
    row: dict[str, object] = {"symbol": raw, "last_price": decimal(day.close, places), "timestamp": now // MS}
    row |= {
        "volume_24h": decimal(day.size, digits),
        "high_24h": decimal(day.high, places),
        "low_24h": decimal(day.low, places),
    }
    if "." not in raw:
        change = day.close - day.open
        row["price_change_24h"] = "-" * (change < 0) + decimal(abs(change), places)
        row["price_change_percent_24h"] = f"{100 * change / day.open:.2f}"
    return _encode({"cmd": "ticker", "data": row})


def _available(listed: Mapping[str, Listed], query: Mapping[str, str], limit: int, offset: int) -> Reply:
    rows = []
    for raw in listed:
        suffix = raw.rpartition(".")[2] if "." in raw else ""
        market, kind = suffix or "CRYPTO", "stock" if suffix else "crypto"
        if query.get("market", market) == market and query.get("type", kind) == kind:
            rows.append({"symbol": raw, "name": raw, "market": market, "type": kind, "is_active": True})
    data = {"products": rows[offset : offset + limit], "total": len(rows), "limit": limit, "offset": offset}
    return _reply(200, 0, data)
