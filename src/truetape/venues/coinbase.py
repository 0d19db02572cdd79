"""Coinbase Advanced Trade: one counter over all frames of a connection is the only witness of loss.

Sources: docs.cdp.coinbase.com (Advanced Trade WebSocket; read 2026-11) and recorded frames of 2026-08-09: the counter holds over 1,030
frames. Traps: the BTC-USD snapshot is one frame of 5 MB; asks are called `offer`; a trade's `side` is the maker's; the snapshot of
`market_trades` holds old trades; channels close after 60 to 90 s of silence unless `heartbeats` is subscribed too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from truetape.core.feed.parse import decimals, rfc3339_ns, salvage
from truetape.core.feed.venue import (
    Accepted,
    Alive,
    Broken,
    Control,
    Damaged,
    Decoded,
    Endpoint,
    Ignored,
    Limits,
    Price,
    Rejected,
    Rule,
    Size,
    Want,
    Whole,
)
from truetape.model.event import Bar, Book, Level, Market, Ticker, Trade
from truetape.model.instrument import Instrument


class _Update(Struct, gc=False):
    side: str
    price_level: Price
    new_quantity: Size
    event_time: str = ""


class _Trade(Struct, gc=False):
    trade_id: str
    product_id: str
    price: Price
    size: Size
    time: str
    side: str


class _Candle(Struct, gc=False):
    start: Annotated[int, Meta(ge=0, lt=9_223_372_036)]
    high: Size
    low: Size
    open: Size
    close: Size
    volume: Size
    product_id: str


class _Ticker(Struct, gc=False):
    product_id: str
    price: Size = 0.0
    volume_24_h: Size = 0.0
    low_24_h: Size = 0.0
    high_24_h: Size = 0.0
    best_bid: Size = 0.0
    best_bid_quantity: Size = 0.0
    best_ask: Size = 0.0
    best_ask_quantity: Size = 0.0


class _Event(Struct, gc=False):
    type: str = ""
    product_id: str = ""
    updates: list[_Update] | None = None
    trades: list[_Trade] = []
    candles: list[_Candle] = []
    tickers: list[_Ticker] = []
    subscriptions: dict[str, list[str]] = {}


class _Frame(Struct, gc=False):
    channel: str = ""
    timestamp: str = ""
    sequence_num: Whole = -1
    events: list[_Event] = []
    type: str = ""
    message: str = ""


class _Product(Struct, gc=False):
    product_id: str
    price_increment: str = "0"
    base_increment: str = "0"
    status: str = ""


class _Products(Struct, gc=False):
    products: list[_Product]


_FRAMES = msgspec.json.Decoder(_Frame, strict=False)
_PRODUCTS = msgspec.json.Decoder(_Products, strict=False)
_LISTS = ("events.trades", "events.tickers", "events.candles", "events")  # a trade goes alone, a book's change does not
_OURS = {"level2": "book", "l2_data": "book", "market_trades": "trade", "ticker": "ticker", "candles": "bar.5m"}
_TAKER = {"BUY": "sell", "SELL": "buy"}  # measured: 73 of 76 trades lie on the other side of the book


class Dialect:
    """See `core.feed.venue.Dialect`."""

    name = "coinbase"
    hosts = ("advanced-trade-ws.coinbase.com", "advanced-trade-ws-user.coinbase.com")
    channels: Mapping[str, str] = {"book": "level2", "trade": "market_trades", "ticker": "ticker", "bar": "candles"}
    url = "wss://advanced-trade-ws.coinbase.com"
    rest_url = "https://api.coinbase.com"
    limits = Limits(wants_per_message=50, messages_per_s=7, dead_after_s=10, fetches_per_s=5)
    rule = Rule(snapshot="stream", counter=True)

    def __init__(self, label: str, names: Mapping[str, str], url: str) -> None:
        self.label = label
        self.names = names
        self.memory: dict[str, int] = {"counter": -1}

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
            groups.setdefault(self.channels[want.channel.partition(".")[0]], []).append(want.raw)
        return [
            msgspec.json.encode({"type": kind, "product_ids": symbols, "channel": channel})
            for channel, symbols in groups.items()
        ]

    def subscribe(self, wants: Sequence[Want]) -> list[bytes]:
        """One message for each channel, and the heartbeats that keep quiet channels open."""
        return [
            *self._requests("subscribe", wants),
            msgspec.json.encode({"type": "subscribe", "channel": "heartbeats"}),
        ]

    def unsubscribe(self, wants: Sequence[Want]) -> list[bytes]:
        """One message for each channel."""
        return self._requests("unsubscribe", wants)

    def ping(self) -> bytes | None:
        """The venue has none."""
        return None

    def decode(self, data: bytes, recv: int) -> Decoded:
        """Every frame is counted before it is read."""
        try:
            frame = _FRAMES.decode(data)
            lost: list[str] = []
        except msgspec.ValidationError:
            frame, lost = salvage(data, _FRAMES, _LISTS, ("product_id",))
        channel = _OURS.get(frame.channel, frame.channel)
        events: list[Market | Control] = []
        if frame.sequence_num >= 0:
            expected = self.memory["counter"] + 1
            if frame.sequence_num != expected and expected > 0:
                events.append(Broken(expected, frame.sequence_num))
            self.memory["counter"] = frame.sequence_num
        events += [Damaged("a member of the frame has a wrong type", raw, channel) for raw in lost]
        for event in frame.events:
            try:
                events += self._event(frame, event, channel, recv)
            except (
                ValueError
            ) as error:  # not raised: the frame was counted, and a change in it would be missed by nobody
                events.append(Damaged(str(error), event.product_id, channel))
        if frame.type == "error":
            return [*events, self._error(frame.message)]
        return events or [Ignored(frame.channel)]

    def _event(self, frame: _Frame, event: _Event, channel: str, recv: int) -> list[Market | Control]:
        ts = rfc3339_ns(frame.timestamp) if frame.timestamp else 0
        if channel == "book":
            return [self._book(event, ts, recv)]
        if channel == "trade" and event.type == "snapshot":
            return [Alive(ts)]  # a hundred old trades of each product
        if channel == "trade":
            return [self._trade(row, recv) for row in event.trades]
        if channel == "ticker":
            return [self._ticker(row, ts, recv) for row in event.tickers]
        if channel == "bar.5m":
            return [self._bar(row, ts, recv) for row in event.candles]
        if channel == "heartbeats":
            return [Alive(ts)]
        if channel == "subscriptions":
            pairs = [(_OURS.get(name, name), raw) for name, symbols in event.subscriptions.items() for raw in symbols]
            return [Accepted(tuple(pairs))]
        return [Ignored(channel)]

    def _book(self, event: _Event, ts: int, recv: int) -> Market | Control:
        bids: list[Level] = []
        asks: list[Level] = []
        raw, snapshot = event.product_id, event.type == "snapshot"
        if event.updates is None or not (snapshot or event.type == "update"):
            return Damaged(f"expected updates in a snapshot or update, found type {event.type[:20]!r}", raw, "book")
        for row in event.updates:
            if row.side == "bid":
                bids.append((row.price_level, row.new_quantity))
            elif row.side in ("offer", "ask"):
                asks.append((row.price_level, row.new_quantity))
            else:
                return Damaged(f"expected side bid or offer, found {row.side[:20]!r}", raw, "book")
        return Book(self.label, self.names[raw], raw, ts, recv, bids, asks, snapshot)

    def _trade(self, row: _Trade, recv: int) -> Market | Control:
        side, raw = _TAKER.get(row.side), row.product_id
        if side is None:
            return Damaged(f"expected side BUY or SELL, found {row.side[:20]!r}", raw, "trade")
        try:
            ts = rfc3339_ns(row.time)
        except ValueError as error:
            return Damaged(str(error), raw, "trade")
        return Trade(self.label, self.names[raw], raw, ts, recv, row.price, row.size, side, row.trade_id)

    def _ticker(self, row: _Ticker, ts: int, recv: int) -> Market:
        raw = row.product_id
        return Ticker(
            self.label, self.names[raw], raw, ts, recv, row.price, row.best_bid, row.best_bid_quantity, row.best_ask,
            row.best_ask_quantity, row.volume_24_h, row.high_24_h, row.low_24_h,
        )  # fmt: skip

    def _bar(self, row: _Candle, ts: int, recv: int) -> Market:
        raw, start = row.product_id, row.start * 1_000_000_000
        return Bar(
            self.label, self.names[raw], raw, ts, recv, "5m", start, row.open, row.high, row.low, row.close, row.volume
        )

    def _error(self, text: str) -> Control:
        if "rate" in text.lower():
            return Rejected("rate_limit", text, retry_after_s=1.0)
        return Rejected("bad_key" if "auth" in text.lower() else "bad_request", text)

    def snapshot_url(self, want: Want, rest_url: str) -> str | None:
        """Snapshots come in the stream."""
        return None

    @staticmethod
    def snapshot_raw(url: str) -> str | None:
        """Nothing fetched is a book of this stream."""
        return None

    def decode_snapshot(self, raw: str, body: bytes, recv: int) -> Book:
        """Cannot happen: nothing is fetched."""
        raise ValueError("coinbase books are not fetched")

    @staticmethod
    def instruments_url(rest_url: str) -> str | None:
        """The public list of products."""
        return f"{rest_url}/api/v3/brokerage/market/products"

    @staticmethod
    def decode_instruments(body: bytes) -> list[Instrument]:
        """A products answer."""
        return [
            Instrument(
                row.product_id, row.product_id, float(row.price_increment), float(row.base_increment),
                decimals(row.price_increment), decimals(row.base_increment), row.status,
            )
            for row in _PRODUCTS.decode(body).products
        ]  # fmt: skip
