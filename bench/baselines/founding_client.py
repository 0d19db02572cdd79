"""The founding Python client, as PERFORMANCE.md section 7 describes it: `websockets`, `json`, two dicts per message.

Written the way the founding load test is, without a single improvement: a baseline that is better than the original
would flatter nobody. Kept apart from it is only the list of delays, filled when `--delay` asks for it.
"""

import asyncio
import json
import time
from collections import deque
from typing import Any

import websockets

from bench.frames import sent_ns, symbols
from bench.report import Account, arguments


class Client:
    """The state of one connection: per-symbol sequence, recent delays, the two sides of each book."""

    def __init__(self) -> None:
        self.last_seq: dict[str, int] = {}
        self.seq_gaps = 0
        self.delays_ms: deque[float] = deque(maxlen=1000)
        self.books: dict[str, dict[str, dict[float, float]]] = {}
        self.metrics: dict[str, dict[str, float]] = {}

    def on_message(self, text: str | bytes) -> dict[str, Any] | None:
        """Take one message; the depth it holds, or None."""
        message = json.loads(text)
        if message.get("cmd") != "depth":
            return None
        data: dict[str, Any] = message["data"]
        symbol = data["symbol"]
        seq = data.get("seq")
        if seq is not None:
            last = self.last_seq.get(symbol)
            if last is not None and seq != last + 1:
                self.seq_gaps += 1
            self.last_seq[symbol] = seq
        self.delays_ms.append(time.time() * 1000 - data["timestamp"])
        self.on_depth(symbol, data)
        return data

    def on_depth(self, symbol: str, data: dict[str, Any]) -> None:
        """Rebuild both sides and compute what the founding client shows."""
        bids = {float(price): float(size) for price, size in data["bids"]}
        asks = {float(price): float(size) for price, size in data["asks"]}
        self.books[symbol] = {"bids": bids, "asks": asks}
        best_bid, best_ask = max(bids), min(asks)
        mid = (best_bid + best_ask) / 2
        bid_sum = sum(bids[price] for price in sorted(bids, reverse=True)[:5])
        ask_sum = sum(asks[price] for price in sorted(asks)[:5])
        total = bid_sum + ask_sum
        self.metrics[symbol] = {
            "best_bid": best_bid,
            "best_ask": best_ask,
            "spread_bps": (best_ask - best_bid) / mid * 10_000,
            "pressure": bid_sum / total,
            "imbalance": (bid_sum - ask_sum) / total,
        }


async def receive(url: str, frames: int, names: list[str], delay: bool) -> None:
    """Subscribe, take the frames, report."""
    client = Client()
    delays: list[int] = []
    messages = 0
    async with websockets.connect(url, ping_interval=None, max_size=None) as ws:
        await ws.send(json.dumps({"cmd": "subscribe", "data": {"channel": "depth", "symbols": names}}))
        account = Account()
        while messages < frames:
            try:
                text = await asyncio.wait_for(ws.recv(), 5)
            except (TimeoutError, websockets.ConnectionClosed):
                break
            data = client.on_message(text)
            if data is None:
                continue
            messages += 1
            if delay:
                delays.append(time.time_ns() - sent_ns(data["timestamp"], float(data["bids"][0][1])))
        account.finish(frames, messages, delays)


def main() -> None:
    """Run one receiver."""
    options = arguments("the founding Python client")
    asyncio.run(receive(options.url, options.frames, symbols(options.symbols), options.delay))


if __name__ == "__main__":
    main()
