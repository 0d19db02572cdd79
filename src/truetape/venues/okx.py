"""OKX v5 (and OKCoin, by its URL): books chained by `prevSeqId`, and a CRC32 of the best 25 levels where the venue still sends one.

Sources: okx.com/docs-v5 (WebSocket, order book channel; read 2026-11), gocryptotrader PR 2337 (2026-08-18) and recorded frames of
2022-05-13 and, of OKCoin, 2023-05-27, in which 296 of 296 checksums hold. Those are older than seqId: the chain is tested on
frames made after the documents. Traps: today `checksum` is 0 in every frame, which means "not offered"; `seqId` may fall after
maintenance, and stays the same in a keep-alive; pings are bare text; candles are served at `/business`; sizes of derivatives
are contracts.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import chain, zip_longest
from zlib import crc32

import msgspec
from msgspec import Struct, field

from truetape.core.feed import venue as feed
from truetape.core.feed.parse import TextLevel, decimals, number, salvage, side
from truetape.core.feed.venue import (
    Accepted,
    Alive,
    Control,
    Damaged,
    Ignored,
    Leaving,
    Millis,
    Price,
    Rejected,
    Size,
    Want,
    Whole,
)
from truetape.model.event import Bar, Book, Market, Quote, Ticker, Trade
from truetape.model.instrument import Instrument

MS = 1_000_000
ASKED_MAX = 256
"""Requests remembered until they are answered."""


class _Arg(Struct, gc=False):
    channel: str = ""
    instId: str = ""


class _Item(Struct, gc=False):
    instId: str = ""
    ts: Millis = 0
    asks: list[TextLevel] | None = None
    bids: list[TextLevel] | None = None
    checksum: Whole = 0
    seqId: Whole = -1
    prevSeqId: Whole = -1
    px: Price = 0.0
    sz: Size = 0.0
    side: str = ""
    tradeId: str = ""
    last: str = ""
    askPx: str = ""
    askSz: str = ""
    bidPx: str = ""
    bidSz: str = ""
    vol24h: str = ""
    high24h: str = ""
    low24h: str = ""


class _Frame(Struct, gc=False):
    arg: _Arg | None = None
    action: str = ""
    data: list[_Item | list[str]] = []
    event: str = ""
    code: str = ""
    msg: str = ""
    id: str = ""


class Memory(Struct):
    """What one connection must remember: which request asked for what, and whose snapshot came with a checksum."""

    asked: dict[str, list[tuple[str, str]]] = field(default_factory=dict)
    last_id: int = 0
    sums: dict[str, bool] = field(default_factory=dict)


_FRAMES = msgspec.json.Decoder(_Frame, strict=False)
_OURS = {
    "books": "book", "books-l2-tbt": "book", "books50-l2-tbt": "book", "trades": "trade", "trades-all": "trade",
    "bbo-tbt": "quote", "tickers": "ticker",
}  # fmt: skip
_UTC = {"6h": "6Hutc", "12h": "12Hutc", "1d": "1Dutc", "1w": "1Wutc"}  # without `utc`, days begin at 16:00 of ours
_NAMED = re.compile(r"channel:(?P<channel>[\w-]+),instId:(?P<raw>[\w-]+)")
_REASONS = dict.fromkeys(("50001", "50004", "50005", "50013", "50026", "50113", "60001", "60005"), "venue_error")
_REASONS |= {"63999": "venue_error", "64000": "venue_error", "64001": "venue_error", "64002": "venue_error"}
_REASONS |= {"50011": "rate_limit", "60014": "rate_limit", "60023": "rate_limit"}
_REASONS |= {"60018": "unknown_symbol", "60008": "unavailable", "64003": "unavailable"}
_REASONS |= dict.fromkeys(("60006", "60007", "60009", "60011", "60024", "60032"), "bad_key")
_CLOSES = {
    4001: "bad_key",
    4002: "bad_request",
    4003: "rate_limit",
    4005: "venue_error",
    4007: "bad_key",
    4008: "rate_limit",
}
"""The venue's close codes. 4004 (nothing for 30 s) and 4006 (a broken connection) say no more than that it ended."""


def checksum(bids: list[str], asks: list[str]) -> int:
    """CRC32, signed, of `price:size` of the best 25 bids and asks by turns; where one side is shorter, the other goes on alone."""
    texts = chain.from_iterable(zip_longest(bids, asks))
    number = crc32(":".join([text for text in texts if text is not None]).encode())
    return number - 0x1_0000_0000 if number & 0x8000_0000 else number


def _word(channel: str) -> str:
    """The venue's name of our channel: `book` -> `books`, `bar.4h` -> `candle4H`, `bar.1d` -> `candle1Dutc`."""
    kind, _, interval = channel.partition(".")
    text = _UTC.get(interval) or (interval if interval.endswith("m") else interval.upper())
    return f"{Dialect.channels[kind]}{text}"


def _channel(word: str) -> str:
    """Our name of a venue's channel, or the venue's own."""
    if word.startswith("candle"):
        interval = word[6:].removesuffix("utc")
        return f"bar.{interval if interval.endswith('M') else interval.lower()}"
    return _OURS.get(word, word)


class Dialect:
    """See `core.feed.venue.Dialect`."""

    name = "okx"
    hosts = ("ws.okx.com", "wspap.okx.com", "real.okcoin.com")
    channels: Mapping[str, str] = {
        "book": "books", "trade": "trades", "quote": "bbo-tbt", "ticker": "tickers", "bar": "candle",
    }  # fmt: skip
    url = "wss://ws.okx.com:8443/ws/v5"
    rest_url = "https://www.okx.com"
    # 480 requests an hour for a connection, however many subscriptions each holds; closed after 30 s in which nothing moved
    limits = feed.Limits(wants_per_message=100, ping_every_s=20, dead_after_s=30)
    rule = feed.Rule(snapshot="stream", numbers="chain", checksum=checksum, checksum_depth=25, trusted_depth=400)

    def __init__(self, label: str, names: Mapping[str, str], url: str) -> None:
        self.label = label
        self.names = names
        self.memory = Memory()

    @staticmethod
    def canonical(raw: str, url: str) -> str:
        """`BTC-USDT-SWAP` -> `BTC-USDT-PERP`; spot and dated futures are spelled as ours."""
        return f"{raw.removesuffix('-SWAP')}-PERP" if raw.endswith("-SWAP") else raw

    @staticmethod
    def native(symbol: str) -> str:
        """`BTC-USDT-PERP` -> `BTC-USDT-SWAP`."""
        return f"{symbol.removesuffix('-PERP')}-SWAP" if symbol.endswith("-PERP") else symbol

    @staticmethod
    def endpoints(wants: Sequence[Want], url: str, by_url: bool) -> list[feed.Endpoint]:
        """Candles live at `/business`, the rest at `/public`; an address that names its place carries all (OKCoin's does)."""
        base = url.rstrip("/")
        if base.endswith(("/public", "/business", "/private")):
            return [feed.Endpoint(base, list(wants))]
        groups: dict[str, list[Want]] = {}
        for want in wants:
            place = "business" if want.channel.startswith("bar") else "public"
            groups.setdefault(f"{base}/{place}", []).append(want)
        return [feed.Endpoint(place, members) for place, members in groups.items()]

    def _request(self, kind: str, wants: Sequence[Want]) -> list[bytes]:
        args = [{"channel": _word(want.channel), "instId": want.raw} for want in wants]
        memory = self.memory
        memory.last_id += 1
        if kind == "subscribe":
            memory.asked[str(memory.last_id)] = [(want.channel, want.raw) for want in wants]
            memory.asked.pop(str(memory.last_id - ASKED_MAX), None)
        return [msgspec.json.encode({"id": str(memory.last_id), "op": kind, "args": args})]

    def subscribe(self, wants: Sequence[Want]) -> list[bytes]:
        """One message, one argument for each."""
        return self._request("subscribe", wants)

    def unsubscribe(self, wants: Sequence[Want]) -> list[bytes]:
        """The same, the other way."""
        return self._request("unsubscribe", wants)

    def ping(self) -> bytes | None:
        """Bare text, no JSON."""
        return b"ping"

    def decode(self, data: bytes, recv: int) -> feed.Decoded:
        """Data of one channel and symbol, an answer, or the bare text `pong`."""
        if data == b"pong":
            return (Alive(pong=True),)
        try:
            frame = _FRAMES.decode(data)
            lost: list[str] = []
        except msgspec.ValidationError:
            frame, lost = salvage(data, _FRAMES, "data", ("instId",))
        if frame.event:
            return (self._answer(frame),)
        arg = frame.arg
        if arg is None:
            return (Ignored("no channel"),)
        channel = _channel(arg.channel)
        events: list[Market | Control] = [
            Damaged("a member has a wrong type", raw or arg.instId, channel) for raw in lost
        ]
        for item in frame.data:
            try:
                events.append(self._event(frame, arg.instId, channel, item, recv))
            except ValueError as error:
                events.append(Damaged(str(error), arg.instId, channel))
        return events

    def _event(self, frame: _Frame, raw: str, channel: str, item: _Item | list[str], recv: int) -> Market | Control:
        if isinstance(item, list):
            return self._bar(raw, channel, item, recv)
        if channel == "book":
            return self._book(frame.action, raw, item, recv)
        if channel == "trade":
            if item.side not in ("buy", "sell") or not item.px:
                return Damaged(f"expected side and price, found {item.side[:20]!r} and {item.px}", raw, channel)
            ts, price, size = item.ts * MS, item.px, item.sz
            return Trade(self.label, self.names[raw], raw, ts, recv, price, size, item.side, item.tradeId)
        if channel == "quote":
            bid, bid_size = side(item.bids[:1])[0] if item.bids else (0.0, 0.0)
            ask, ask_size = side(item.asks[:1])[0] if item.asks else (0.0, 0.0)
            return Quote(self.label, self.names[raw], raw, item.ts * MS, recv, bid, bid_size, ask, ask_size, item.seqId)
        if channel == "ticker":
            texts = (item.last, item.bidPx, item.bidSz, item.askPx, item.askSz, item.vol24h, item.high24h, item.low24h)
            numbers = [number(text) if text else None for text in texts]  # what the venue does not know is empty
            return Ticker(self.label, self.names[raw], raw, item.ts * MS, recv, *numbers)
        return Ignored(channel)

    def _bar(self, raw: str, channel: str, row: list[str], recv: int) -> Market | Control:
        """[start, open, high, low, close, volume, volume in coin, volume in quote, closed "0" or "1"]"""
        if not channel.startswith("bar.") or len(row) < 9:
            return Damaged(f"expected an object, or nine fields of a candle, found {len(row)} fields", raw, channel)
        first, high, low, last, size, _, worth = map(number, row[1:8])
        name, start, closed = self.names[raw], int(row[0]) * MS, row[8] == "1"
        return Bar(self.label, name, raw, 0, recv, channel[4:], start, first, high, low, last, size, worth, 0, closed)

    def _book(self, action: str, raw: str, item: _Item, recv: int) -> Market | Control:
        snapshot = action == "snapshot"
        if item.bids is None or item.asks is None or not (snapshot or action == "update"):
            return Damaged(f"expected bids and asks in a snapshot or update, found action {action[:20]!r}", raw, "book")
        bids, asks = side(item.bids), side(item.asks)
        # 0 and absent mean "not offered". Marks cost time: only a book whose snapshot had a checksum keeps them.
        sums = self.memory.sums
        if snapshot:
            sums[raw] = item.checksum != 0
        found = marks = None
        if sums.get(raw):
            found = item.checksum or None
            marks = ([f"{row.price}:{row.size}" for row in item.bids], [f"{row.price}:{row.size}" for row in item.asks])
        name, ts, depth = self.names[raw], item.ts * MS, 400 if snapshot else 0
        seq, prev = item.seqId, item.prevSeqId
        return Book(self.label, name, raw, ts, recv, bids, asks, snapshot, -1, seq, prev, found, marks, depth)

    def _answer(self, frame: _Frame) -> Control:
        arg = frame.arg
        pairs = [(_channel(arg.channel), arg.instId)] if arg is not None and arg.channel else []
        if frame.event == "subscribe":
            return Accepted(tuple(pairs))
        if frame.event == "error":
            if not pairs and (named := _NAMED.search(frame.msg)) is not None:
                pairs = [(_channel(named["channel"]), named["raw"])]
            reason, code = _REASONS.get(frame.code, "bad_request"), int(frame.code) if frame.code.isdecimal() else 0
            if not pairs:  # each alone, so that the venue says which it meant
                pairs = self.memory.asked.pop(frame.id, [])
            return Rejected(reason, frame.msg, code, tuple(pairs), whole=len(pairs) > 1)
        if frame.event == "notice":
            return Leaving(frame.msg)
        return Alive() if frame.event in ("unsubscribe", "channel-conn-count") else Ignored(frame.event)

    @staticmethod
    def refusal(code: int, said: str) -> Rejected | None:
        """See `core.feed.refusal`."""
        return Rejected(_CLOSES[code], said, code) if code in _CLOSES else None

    def snapshot_url(self, want: Want, rest_url: str) -> str | None:
        """Snapshots come in the stream."""
        return None

    @staticmethod
    def snapshot_raw(url: str) -> str | None:
        """Nothing fetched is a book of this stream."""
        return None

    def decode_snapshot(self, raw: str, body: bytes, recv: int) -> Book:
        """Cannot happen: nothing is fetched."""
        raise ValueError("okx books are not fetched")

    @staticmethod
    def instruments_url(rest_url: str) -> str | None:
        """The spot list; the other kinds (SWAP, FUTURES) are spelled by rule."""
        return f"{rest_url}/api/v5/public/instruments?instType=SPOT"

    @staticmethod
    def decode_instruments(body: bytes) -> list[Instrument]:
        """An instruments answer of any kind."""
        listed = msgspec.json.decode(body)
        if listed["code"] != "0":
            raise ValueError(f"the venue answered {listed['code']}")
        rows = []
        for row in listed["data"]:
            raw, tick, lot = row["instId"], row["tickSz"] or "0", row["lotSz"] or "0"
            name, steps = Dialect.canonical(raw, ""), (decimals(tick), decimals(lot))
            rows.append(Instrument(name, raw, float(tick), float(lot), *steps, row["state"]))
        return rows
