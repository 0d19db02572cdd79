"""Bots that speak a venue's protocol by hand, as strict as the protocol lets one be: what they hold is compared with the venue's own books."""

from __future__ import annotations

import asyncio
import json
import urllib.request
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any
from zlib import crc32

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

import truetape
from truetape.app.live import Gateway
from truetape.app.sim import Options, Simulator
from truetape.core.sim.faults import parse

WITHIN = 20.0
Levels = dict[Decimal, str]


@asynccontextmanager
async def served(
    venue: str, *faults: str, rate: float = 300, depth: int = 0, **serve: Any
) -> AsyncIterator[tuple[Simulator, Gateway, str]]:
    """A simulated venue with these faults, a gateway before it, and the address of its dialect without the scheme."""
    options = Options(venue=venue, symbols=3, rate=rate, history=True, faults=tuple(parse(faults)))
    async with Simulator(options) as sim:
        feed = {"venue": venue, "symbols": sim.symbols, "url": sim.ws, "rest_url": sim.rest, "depth": depth}
        async with truetape.open({"feeds": [feed], "serve": {"port": 0, "native": [venue], **serve}}) as gateway:
            assert await gateway.ready()
            assert gateway.service is not None
            yield sim, gateway, f"127.0.0.1:{gateway.service.port}/native/{venue}"


async def until(true: Callable[[], bool]) -> None:
    """Wait for it."""
    async with asyncio.timeout(WITHIN):
        while not true():
            await asyncio.sleep(0.01)


async def fetched(address: str, headers: dict[str, str] | None = None) -> Any:
    """The JSON of a plain GET."""
    request = urllib.request.Request(address, headers=headers or {})
    body = await asyncio.to_thread(lambda: urllib.request.urlopen(request, timeout=WITHIN).read())
    return json.loads(body, parse_float=Decimal)


async def said(socket: ClientConnection) -> dict[str, Any]:
    """The next message; floats keep their digits as text."""
    async with asyncio.timeout(WITHIN):
        found: dict[str, Any] = json.loads(await socket.recv(), parse_float=str)
        return found


def put(side: Levels, price: str, size: str) -> None:
    """One level; a size of zero removes it."""
    if Decimal(size):
        side[Decimal(price)] = size
    else:
        side.pop(Decimal(price), None)


class BinanceBot:
    """The published recipe: subscribe, fetch, join, then U must be the last u + 1. `states` counts what was compared."""

    def __init__(self, raw: str) -> None:
        self.raw = raw
        self.bids: Levels = {}
        self.asks: Levels = {}
        self.seq = -1
        self.diffs = 0
        self.trades: list[int] = []

    async def begin(self, socket: ClientConnection, rest: str) -> None:
        name = self.raw.lower()
        await socket.send(
            json.dumps({"method": "SUBSCRIBE", "params": [f"{name}@depth@100ms", f"{name}@trade"], "id": 1})
        )
        while (await said(socket)).get("id") != 1:
            pass
        whole = await fetched(f"{rest}/api/v3/depth?symbol={self.raw}&limit=5000")
        self.seq = whole["lastUpdateId"]
        for side, levels in ((self.bids, whole["bids"]), (self.asks, whole["asks"])):
            side.clear()
            for price, size in levels:
                put(side, price, size)

    def take(self, message: dict[str, Any]) -> bool:
        """Whether it changed the book."""
        if message.get("e") == "trade":
            self.trades.append(message["t"])
        if message.get("e") != "depthUpdate" or message["u"] <= self.seq:
            return False
        if self.diffs:
            assert message["U"] == self.seq + 1, f"a hole: {self.seq} then {message['U']}"
        else:
            assert message["U"] <= self.seq + 1 <= message["u"]
        for side, levels in ((self.bids, message["b"]), (self.asks, message["a"])):
            for price, size in levels:
                put(side, price, size)
        self.seq = message["u"]
        self.diffs += 1
        return True

    def levels(self) -> tuple[list[tuple[Decimal, Decimal]], list[tuple[Decimal, Decimal]]]:
        """Bids and asks, best first, as numbers."""
        return of(self.bids, True), of(self.asks, False)


class KrakenBot:
    """Takes a snapshot and updates, keeps `depth` levels, and proves each by its checksum over the digits as they came."""

    def __init__(self, symbol: str, depth: int = 10) -> None:
        self.symbol = symbol
        self.depth = depth
        self.bids: dict[Decimal, tuple[str, str]] = {}
        self.asks: dict[Decimal, tuple[str, str]] = {}
        self.proved = 0
        self.trades: list[int] = []

    async def begin(self, socket: ClientConnection) -> None:
        for channel, more in (("book", {"depth": self.depth}), ("trade", {})):
            params = {"channel": channel, "symbol": [self.symbol], **more}
            await socket.send(json.dumps({"method": "subscribe", "params": params, "req_id": 1}))

    def take(self, message: dict[str, Any]) -> bool:
        """Whether it changed the book."""
        assert message.get("success", True), message
        if message.get("channel") == "trade":
            self.trades += [row["trade_id"] for row in message["data"] if row["symbol"] == self.symbol]
        if message.get("channel") != "book" or message["data"][0]["symbol"] != self.symbol:
            return False
        (row,) = message["data"]
        if message["type"] == "snapshot":
            self.bids, self.asks = {}, {}
        else:
            assert self.bids, "an update before the snapshot"
        for name, side in (("bids", self.bids), ("asks", self.asks)):
            for level in row[name]:
                price, size = str(level["price"]), str(level["qty"])
                if Decimal(size):
                    side[Decimal(price)] = (price, size)
                else:
                    del side[Decimal(price)]  # what it never had is never removed
                for worst in sorted(side, reverse=name == "bids")[self.depth :]:
                    del side[worst]
        text = "".join(
            part.replace(".", "").lstrip("0")
            for side, down in ((self.asks, False), (self.bids, True))
            for price in sorted(side, reverse=down)[:10]
            for part in side[price]
        )
        assert crc32(text.encode()) == row["checksum"], f"checksum of {self.symbol} after {self.proved}"
        self.proved += 1
        return True

    def levels(self) -> tuple[list[tuple[Decimal, Decimal]], list[tuple[Decimal, Decimal]]]:
        """Bids and asks, best first, as numbers."""
        plain = [{price: size for price, (_, size) in side.items()} for side in (self.bids, self.asks)]
        return of(plain[0], True), of(plain[1], False)


def of(side: Levels, down: bool) -> list[tuple[Decimal, Decimal]]:
    """Sorted, as numbers."""
    return [(price, Decimal(side[price])) for price in sorted(side, reverse=down)]


__all__ = ["WITHIN", "BinanceBot", "ConnectionClosed", "KrakenBot", "connect", "fetched", "said", "served", "until"]
