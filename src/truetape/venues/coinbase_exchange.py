"""Coinbase Exchange, the older feed: whole books and changes without any number, so that a lost change cannot be seen.

Sources: docs.cdp.coinbase.com (Exchange WebSocket; read 2026-11) and recorded frames of 2021-04-17 (then called Coinbase Pro).
Traps: `level2` wants a login today, `level2_batch` does not, and is called `level2_50` in the acknowledgment; a match's `side` is
the maker's; `last_match` repeats an old trade; `sequence` counts the `full` feed, and jumps in matches; a connection that asks
for nothing within 5 s is cut.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import msgspec
from msgspec import Struct

from truetape.core.feed.parse import decimals, peek, rfc3339_ns
from truetape.core.feed.venue import (
    Accepted,
    Alive,
    Control,
    Damaged,
    Decoded,
    Endpoint,
    Ignored,
    Limits,
    Price,
    RawLevel,
    Rejected,
    Rule,
    Size,
    Want,
)
from truetape.model.event import Book, Level, Market, Ticker, Trade
from truetape.model.instrument import Instrument


class _Channel(Struct, gc=False):
    name: str = ""
    product_ids: list[str] = []


class _Frame(Struct, gc=False):
    type: str
    product_id: str = ""
    time: str = ""
    changes: list[tuple[str, Price, Size]] | None = None
    bids: list[RawLevel] | None = None
    asks: list[RawLevel] | None = None
    side: str = ""
    price: Price = 0.0
    size: Size = 0.0
    trade_id: int = 0
    best_bid: Size | None = None
    best_bid_size: Size | None = None
    best_ask: Size | None = None
    best_ask_size: Size | None = None
    volume_24h: Size | None = None
    high_24h: Size | None = None
    low_24h: Size | None = None
    channels: list[_Channel] = []
    message: str = ""
    reason: str = ""


class _Product(Struct, gc=False):
    id: str
    quote_increment: str = "0"
    base_increment: str = "0"
    status: str = ""


_FRAMES = msgspec.json.Decoder(_Frame, strict=False)
_PRODUCTS = msgspec.json.Decoder(list[_Product], strict=False)
_OURS = {
    "level2": "book", "level2_batch": "book", "level2_50": "book", "matches": "trade", "ticker": "ticker", "ticker_batch": "ticker",
}  # fmt: skip
_CHANNELS = {"l2update": "book", "snapshot": "book", "match": "trade", "ticker": "ticker"}
_TAKER = {"buy": "sell", "sell": "buy"}  # the documents: `sell` is an up-tick, the taker bought
_NAMED = re.compile(r"\b[A-Z0-9]+-[A-Z0-9]+\b")


class Dialect:
    """See `core.feed.venue.Dialect`."""

    name = "coinbase_exchange"
    hosts = ("ws-feed.exchange.coinbase.com", "ws-direct.exchange.coinbase.com", "ws-feed.pro.coinbase.com")
    channels: Mapping[str, str] = {"book": "level2_batch", "trade": "matches", "ticker": "ticker"}
    url = "wss://ws-feed.exchange.coinbase.com"
    rest_url = "https://api.exchange.coinbase.com"
    limits = Limits(wants_per_message=50, messages_per_s=7, dead_after_s=10)
    rule = Rule(snapshot="stream")

    def __init__(self, label: str, names: Mapping[str, str], url: str) -> None:
        self.label = label
        self.names = names

    @staticmethod
    def canonical(raw: str, url: str) -> str:
        """Coinbase writes `BTC-USD` as we do."""
        return raw

    @staticmethod
    def native(symbol: str) -> str:
        """The same."""
        return symbol

    @staticmethod
    def endpoints(wants: Sequence[Want], url: str, by_url: bool) -> list[Endpoint]:
        """One address carries every channel."""
        return [Endpoint(url, list(wants))]

    def _requests(self, kind: str, wants: Sequence[Want]) -> list[bytes]:
        groups: dict[str, list[str]] = {}
        for want in wants:
            groups.setdefault(self.channels[want.channel], []).append(want.raw)
        return [
            msgspec.json.encode({"type": kind, "product_ids": symbols, "channels": [channel]})
            for channel, symbols in groups.items()
        ]

    def subscribe(self, wants: Sequence[Want]) -> list[bytes]:
        """One message for each channel, and one product's heartbeat, by which silence is told from death."""
        beat = {"type": "subscribe", "product_ids": [wants[0].raw], "channels": ["heartbeat"]} if wants else None
        return [*self._requests("subscribe", wants), *([msgspec.json.encode(beat)] if beat else [])]

    def unsubscribe(self, wants: Sequence[Want]) -> list[bytes]:
        """One message for each channel."""
        return self._requests("unsubscribe", wants)

    def ping(self) -> bytes | None:
        """The venue has none."""
        return None

    def decode(self, data: bytes, recv: int) -> Decoded:
        """One message says one thing."""
        try:
            frame = _FRAMES.decode(data)
        except msgspec.ValidationError as error:
            return (Damaged(str(error), peek(data, "product_id"), _CHANNELS.get(peek(data, "type"), "")),)
        try:
            return (self._event(frame, frame.type, frame.product_id, recv),)
        except ValueError as error:
            return (Damaged(str(error), frame.product_id, _CHANNELS.get(frame.type, "")),)

    def _event(self, frame: _Frame, kind: str, raw: str, recv: int) -> Market | Control:
        if kind == "l2update":
            return self._change(frame, raw, recv)
        if kind == "snapshot":
            if frame.bids is None or frame.asks is None:
                return Damaged("expected bids and asks", raw, "book")
            return Book(self.label, self.names[raw], raw, _ts(frame), recv, frame.bids, frame.asks, True)
        if kind == "match":
            side = _TAKER.get(frame.side)
            if side is None or not frame.price:
                return Damaged(f"expected side and price, found {frame.side[:20]!r} and {frame.price}", raw, "trade")
            name, ts, number = self.names[raw], _ts(frame), str(frame.trade_id)
            return Trade(self.label, name, raw, ts, recv, frame.price, frame.size, side, number)
        if kind == "ticker":
            return self._ticker(frame, raw, recv)
        if kind == "subscriptions":
            pairs = [(_OURS.get(group.name, group.name), raw) for group in frame.channels for raw in group.product_ids]
            return Accepted(tuple(pairs))
        if kind == "error":
            return _refused(frame)
        return Alive(_ts(frame)) if kind in ("heartbeat", "last_match") else Ignored(kind)

    def _change(self, frame: _Frame, raw: str, recv: int) -> Market | Control:
        bids: list[Level] = []
        asks: list[Level] = []
        for side, price, size in frame.changes or ():
            if side == "buy":
                bids.append((price, size))
            elif side == "sell":
                asks.append((price, size))
            else:
                return Damaged(f"expected side buy or sell, found {side[:20]!r}", raw, "book")
        if frame.changes is None:
            return Damaged("expected changes", raw, "book")
        return Book(self.label, self.names[raw], raw, _ts(frame), recv, bids, asks)

    def _ticker(self, frame: _Frame, raw: str, recv: int) -> Market:
        return Ticker(
            self.label, self.names[raw], raw, _ts(frame), recv, frame.price, frame.best_bid, frame.best_bid_size, frame.best_ask,
            frame.best_ask_size, frame.volume_24h, frame.high_24h, frame.low_24h,
        )  # fmt: skip

    def snapshot_url(self, want: Want, rest_url: str) -> str | None:
        """Snapshots come in the stream."""
        return None

    @staticmethod
    def snapshot_raw(url: str) -> str | None:
        """Nothing fetched is a book of this stream."""
        return None

    def decode_snapshot(self, raw: str, body: bytes, recv: int) -> Book:
        """Cannot happen: nothing is fetched."""
        raise ValueError("coinbase_exchange books are not fetched")

    @staticmethod
    def instruments_url(rest_url: str) -> str | None:
        """The public list of products."""
        return f"{rest_url}/products"

    @staticmethod
    def decode_instruments(body: bytes) -> list[Instrument]:
        """A products answer."""
        return [
            Instrument(
                row.id, row.id, float(row.quote_increment), float(row.base_increment), decimals(row.quote_increment),
                decimals(row.base_increment), row.status,
            )
            for row in _PRODUCTS.decode(body)
        ]  # fmt: skip


def _ts(frame: _Frame) -> int:
    return rfc3339_ns(frame.time) if frame.time else 0


def _refused(frame: _Frame) -> Control:
    """`{"type":"error","message":"Failed to subscribe","reason":"XYZ-USD is not a valid product"}`"""
    text = f"{frame.message}: {frame.reason}" if frame.reason else frame.message
    if "rate limit" in text.lower() or "too many" in text.lower():
        return Rejected("rate_limit", text, retry_after_s=1.0)
    if "authenticat" in text.lower():
        return Rejected("bad_key", text)
    pairs = tuple((channel, raw) for raw in _NAMED.findall(text) for channel in Dialect.channels)
    return Rejected("unknown_symbol" if pairs else "bad_request", text, pairs=pairs)
