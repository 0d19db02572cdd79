"""Binance spot (and binance.us, by its URL): diff depth joined to a REST snapshot, trades, best prices, klines.

Sources: binance/binance-spot-api-docs a5e0bc3 (2026-07-21) and recorded frames of 2021-10-12, 2024-08-08 and 2026-07-07: no sequence
gap in any, and the book's top equals bookTicker at the same update id in 5,734 of 5,736. Traps: bookTicker has neither time nor event
name; an update may start before the snapshot ends; five incoming messages a second are the limit, pings and pongs included.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from truetape.core.feed.venue import Decoded, Endpoint, Limits, Rule, Want
from truetape.model.event import Book
from truetape.model.instrument import Instrument
from truetape.venues import _binance as wire


class Dialect:
    """See `core.feed.venue.Dialect`."""

    name = "binance"
    hosts = (
        "stream.binance.com",
        "stream.binance.us",
        "data-stream.binance.vision",
        "api.binance.com",
        "api.binance.us",
    )
    channels: Mapping[str, str] = {
        "book": "depth@100ms", "trade": "trade", "quote": "bookTicker", "ticker": "ticker", "bar": "kline",
    }  # fmt: skip
    url = "wss://stream.binance.com:9443"
    rest_url = "https://api.binance.com"
    # 5 messages a second in all: our pings and the answers to theirs need some of them
    limits = Limits(
        wants_per_connection=1024,
        wants_per_message=100,
        messages_per_s=3,
        dead_after_s=60,
        lifetime_s=86_400,
        fetches_per_s=4,
    )
    rule = Rule(snapshot="rest", numbers="range", trusted_depth=1000)

    def __init__(self, label: str, names: Mapping[str, str], url: str) -> None:
        self.label = label
        self.names = names
        self.memory = wire.Memory()
        self.by_url = "streams=" in url

    @staticmethod
    def canonical(raw: str, url: str) -> str:
        """`BTCUSDT` -> `BTC-USDT`, by the quote assets that end it."""
        parts = wire.split(raw)
        return f"{parts[0]}-{parts[1]}" if parts else raw

    @staticmethod
    def native(symbol: str) -> str:
        """`BTC-USDT` -> `BTCUSDT`."""
        return symbol.replace("-", "").upper()

    @staticmethod
    def endpoints(wants: Sequence[Want], url: str, by_url: bool) -> list[Endpoint]:
        """Streams by command on `/stream`, or named in the URL."""
        base = url.rstrip("/")
        if by_url:
            names = "/".join(wire.stream(want, Dialect.channels) for want in wants)
            return [Endpoint(f"{base}/stream?streams={names}", list(wants))]
        return [Endpoint(base if base.endswith(("/stream", "/ws")) else f"{base}/stream", list(wants))]

    def subscribe(self, wants: Sequence[Want]) -> list[bytes]:
        """One command; nothing where the URL named the streams."""
        return [] if self.by_url else wire.command("SUBSCRIBE", wants, self.channels, self.memory)

    def unsubscribe(self, wants: Sequence[Want]) -> list[bytes]:
        """One command."""
        return wire.command("UNSUBSCRIBE", wants, self.channels, self.memory)

    def ping(self) -> bytes | None:
        """The venue pings us; the protocol's own pings serve us."""
        return None

    def decode(self, data: bytes, recv: int) -> Decoded:
        """Combined or raw frames, and answers to commands."""
        return wire.decode(data, recv, self.label, self.names, self.memory)

    def snapshot_url(self, want: Want, rest_url: str) -> str | None:
        """A thousand levels: weight 50 of 6,000 a minute."""
        return f"{rest_url}/api/v3/depth?symbol={want.raw}&limit=1000"

    @staticmethod
    def snapshot_raw(url: str) -> str | None:
        """The symbol of a depth URL."""
        return wire.snapshot_raw(url)

    def decode_snapshot(self, raw: str, body: bytes, recv: int) -> Book:
        """A REST depth answer."""
        return wire.snapshot(raw, body, recv, self.label, self.names)

    @staticmethod
    def instruments_url(rest_url: str) -> str | None:
        """The whole list of symbols."""
        return f"{rest_url}/api/v3/exchangeInfo"

    @staticmethod
    def decode_instruments(body: bytes) -> list[Instrument]:
        """An exchangeInfo answer."""
        return wire.instruments(body, futures=False)
