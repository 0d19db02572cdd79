"""Binance futures: USD-M, and COIN-M by its symbols (`BTCUSD_PERP`, `BTCUSD_210924`). Diffs are chained by `pu`.

Sources: developers.binance.com derivatives pages and the notice on the URL split of 2026-03-06 (stored copies read 2026-11), recorded
frames of 2021-07, 2023-04 and 2024-08: no gap in any, and the top equals bookTicker at the same update id in all 14,000 checks. Traps:
high-frequency streams live under `/public`, the others under `/market`; `u` numbers are shared between symbols, so that only `pu`
tells a gap; a snapshot may hold a quantity that no later diff corrects; sizes of COIN-M are contracts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from truetape.core.feed.venue import Decoded, Endpoint, Limits, Rule, Want
from truetape.model.event import Book
from truetape.model.instrument import Instrument
from truetape.venues import _binance as wire

COIN_URL = "wss://dstream.binance.com"
COIN_REST_URL = "https://dapi.binance.com"


def _endpoint(base: str, wants: Sequence[Want], by_url: bool) -> Endpoint:
    if by_url:
        names = "/".join(wire.stream(want, Dialect.channels) for want in wants)
        return Endpoint(f"{base}/stream?streams={names}", list(wants))
    return Endpoint(base if base.endswith(("/stream", "/ws")) else f"{base}/stream", list(wants))


class Dialect:
    """See `core.feed.venue.Dialect`."""

    name = "binance_usdm"
    hosts = ("fstream.binance.com", "dstream.binance.com", "fapi.binance.com", "dapi.binance.com")
    channels: Mapping[str, str] = {
        "book": "depth@100ms", "trade": "aggTrade", "quote": "bookTicker", "ticker": "markPrice@1s", "bar": "kline",
    }  # fmt: skip
    url = "wss://fstream.binance.com"
    rest_url = "https://fapi.binance.com"
    limits = Limits(
        wants_per_connection=200,
        wants_per_message=100,
        messages_per_s=7,
        dead_after_s=60,
        lifetime_s=86_400,
        fetches_per_s=2,
    )
    rule = Rule(snapshot="rest", numbers="chain", overlap=True, trusted_depth=1000)

    def __init__(self, label: str, names: Mapping[str, str], url: str) -> None:
        self.label = label
        self.names = names
        self.memory = wire.Memory()
        self.by_url = "streams=" in url

    @staticmethod
    def canonical(raw: str, url: str) -> str:
        """`BTCUSDT` -> `BTC-USDT-PERP`, `BTCUSD_PERP` -> `BTC-USD-PERP`, `BTCUSD_210924` -> `BTC-USD-210924`."""
        pair, _, expiry = raw.partition("_")
        parts = wire.split(pair)
        return f"{parts[0]}-{parts[1]}-{expiry or 'PERP'}" if parts else raw

    @staticmethod
    def native(symbol: str) -> str:
        """The way back; COIN-M symbols are those quoted in USD. `BTC-USDT` is taken for the perpetual."""
        parts = symbol.upper().split("-")
        if len(parts) < 2:
            return symbol.upper()
        if len(parts) == 2:
            parts.append("PERP")
        coin = parts[1] == "USD" or parts[2] != "PERP"
        return f"{parts[0]}{parts[1]}_{parts[2]}" if coin else f"{parts[0]}{parts[1]}"

    @staticmethod
    def endpoints(wants: Sequence[Want], url: str, by_url: bool) -> list[Endpoint]:
        """USD-M serves books, trades and best prices under `/public`, the rest under `/market`; COIN-M everything at its own host."""
        base = url.rstrip("/")
        if base != Dialect.url:
            return [_endpoint(base, wants, by_url)]
        groups: dict[str, list[Want]] = {}
        for want in wants:
            fast = want.channel in ("book", "quote")
            place = COIN_URL if "_" in want.raw else f"{base}/public" if fast else f"{base}/market"
            groups.setdefault(place, []).append(want)
        return [_endpoint(place, members, by_url) for place, members in groups.items()]

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
        """A thousand levels: weight 20 of 2,400 a minute."""
        if "_" in want.raw and "fapi" in rest_url:
            rest_url = COIN_REST_URL
        api = "dapi" if "_" in want.raw else "fapi"
        return f"{rest_url}/{api}/v1/depth?symbol={want.raw}&limit=1000"

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
        return f"{rest_url}/fapi/v1/exchangeInfo"

    @staticmethod
    def decode_instruments(body: bytes) -> list[Instrument]:
        """An exchangeInfo answer."""
        return wire.instruments(body, futures=True)
