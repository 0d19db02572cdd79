"""The floor: picows, one typed msgspec decode, a replaced book, spread, pressure(5), imbalance(5), the delay. No more.

No journal, session, health, router or consumer: what is left of a figure here is what the rest of a gateway may cost
on top of the same libraries. It is the "picows + msgspec, pure Python above" column of PERFORMANCE.md section 1.
"""

import asyncio
import gc
import time
from collections import deque

import msgspec
import uvloop
from picows import WSFrame, WSListener, WSMsgType, WSTransport, ws_connect

from bench.frames import sent_ns, symbols
from bench.report import Account, arguments

Level = tuple[float, float]


class Depth(msgspec.Struct, gc=False):
    """The data of a depth message."""

    symbol: str
    bids: list[Level]
    asks: list[Level]
    timestamp: int


class Message(msgspec.Struct, gc=False):
    """Any message, for the answers to commands: they hold no depth."""

    cmd: str


class DepthMessage(msgspec.Struct, gc=False):
    """A depth message."""

    cmd: str
    data: Depth


class Floor(WSListener):
    """One connection, everything done in the callback of its frame."""

    def __init__(self, frames: int, names: list[str], delay: bool, done: asyncio.Future[None]) -> None:
        self.frames = frames
        self.names = names
        self.done = done
        self.messages = 0
        self.books: dict[str, Depth] = {}
        self.metrics: dict[str, tuple[float, float, float]] = {}
        self.delays_ms: deque[float] = deque(maxlen=1000)
        self.delays_ns: list[int] | None = [] if delay else None
        self.decode = msgspec.json.Decoder(DepthMessage, strict=False).decode
        self.account = Account()

    def on_ws_connected(self, transport: WSTransport) -> None:
        """Subscribe; the account starts here."""
        command = {"cmd": "subscribe", "data": {"channel": "depth", "symbols": self.names}}
        transport.send(WSMsgType.TEXT, msgspec.json.encode(command))
        self.account = Account()

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        """Decode, replace the book, compute."""
        if frame.msg_type != WSMsgType.TEXT:
            if frame.msg_type == WSMsgType.CLOSE:
                transport.disconnect()
            return
        payload = frame.get_payload_as_memoryview()
        try:
            depth = self.decode(payload).data
        except msgspec.ValidationError:
            msgspec.json.decode(payload, type=Message)  # an acknowledgment; anything else raises
            return
        self.on_depth(depth)
        self.messages += 1
        if self.messages == self.frames:
            transport.disconnect()

    def on_depth(self, depth: Depth) -> None:
        """The book and its three figures."""
        self.books[depth.symbol] = depth
        now_ns = time.time_ns()
        self.delays_ms.append(now_ns / 1e6 - depth.timestamp)
        bids, asks = depth.bids, depth.asks
        best_bid, best_ask = bids[0][0], asks[0][0]
        bid_sum = bids[0][1] + bids[1][1] + bids[2][1] + bids[3][1] + bids[4][1]
        ask_sum = asks[0][1] + asks[1][1] + asks[2][1] + asks[3][1] + asks[4][1]
        total = bid_sum + ask_sum
        spread_bps = (best_ask - best_bid) / (best_bid + best_ask) * 20_000
        self.metrics[depth.symbol] = (spread_bps, bid_sum / total, (bid_sum - ask_sum) / total)
        if self.delays_ns is not None:
            self.delays_ns.append(now_ns - sent_ns(depth.timestamp, bids[0][1]))

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        """Report, whoever closed."""
        self.account.finish(self.frames, self.messages, self.delays_ns or [])
        self.done.set_result(None)


async def receive(url: str, frames: int, names: list[str], delay: bool) -> None:
    """Run one connection to its end."""
    done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    await asyncio.wait_for(ws_connect(lambda: Floor(frames, names, delay, done), url), 10)
    gc.freeze()
    await done


def main() -> None:
    """Run one receiver."""
    options = arguments("picows and msgspec with nothing above them")
    uvloop.run(receive(options.url, options.frames, symbols(options.symbols), options.delay))


if __name__ == "__main__":
    main()
