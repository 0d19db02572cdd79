"""Our own path as a watcher: the reference client's bytes through dialect, pump and book. See compare.py for what is printed."""

import asyncio
import json
import sys
import urllib.request
from contextlib import suppress

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from truetape.app.dialects import Names, dialect
from truetape.core.feed.plan import Feed
from truetape.core.feed.venue import Want
from truetape.core.route.pump import Pump
from truetape.io.clock import now

DEPTH = 25


class Reference:
    """One connection of our own path; what was lost on it is only told."""

    def __init__(self, venue: str, url: str, rest_url: str) -> None:
        kind = dialect(venue)
        self.venue = venue
        self.url = kind.endpoints([], url, False)[0].url
        self.rest_url = rest_url
        self.pump = Pump()
        self.pump.observe(
            "sim", Feed("sim", venue, venue, kind, self.url, rest_url, (), Names(kind, self.url)), self.url
        )
        self.pump.opened("sim", now())
        self.link = self.pump.links["sim"]
        self.messages = 0

    async def fetch(self, want: Want) -> None:
        address = self.link.dialect.snapshot_url(want, self.rest_url)
        if address is not None:
            body = await asyncio.to_thread(lambda: urllib.request.urlopen(address, timeout=10).read())
            self.pump.fetched("sim", f"depth:{want.raw}", 200, body, now())

    async def read(self, wants: list[Want]) -> None:
        """Until a book that was live is not any more, or the connection ends."""
        live: set[str] = set()
        async with connect(self.url, max_queue=None) as ws, asyncio.TaskGroup() as group:
            for message in self.link.dialect.subscribe(wants):
                await ws.send(message.decode())
            for want in wants:
                group.create_task(self.fetch(want))
            with suppress(ConnectionClosed):
                async for data in ws:
                    assert isinstance(data, str)
                    self.pump.frame("sim", data.encode(), now())
                    frame = json.loads(data, parse_float=str)
                    frame = frame.get("data", frame)
                    frame = frame[0] if isinstance(frame, list) else frame
                    raw = frame.get("symbol") or frame.get("s")
                    stream = self.link.streams.get(("book", raw))
                    if stream is None or stream.sync is None:
                        continue
                    if not stream.sync.live:
                        if raw in live:
                            return
                        continue
                    live.add(raw)
                    self.messages += 1
                    book = stream.sync.book
                    key = (
                        f"{frame['timestamp']} {frame['checksum']}" if self.venue == "kraken" else str(stream.sync.seq)
                    )
                    print(json.dumps({"raw": raw, "key": key, "bids": book.bids(DEPTH), "asks": book.asks(DEPTH)}))

    def errors(self) -> list[str]:
        counts = [stream.sync.counts for stream in self.link.streams.values() if stream.sync is not None]
        found = [f"{n} checksums failed" for n in (sum(count.checksums_failed for count in counts),) if n]
        found += [f"{n} gaps" for n in (sum(count.sequence_gaps for count in counts),) if n]
        return found + ([f"{self.link.counts.errors} frames were not understood"] if self.link.counts.errors else [])


async def main(ws_url: str, rest_url: str, seconds: float, symbols: list[str]) -> None:
    venue = "kraken" if ws_url.endswith("/v2") else "binance"
    wants = [Want("book", dialect(venue).native(symbol), symbol, DEPTH) for symbol in symbols]
    messages, errors = 0, []
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            while True:
                one = Reference(venue, ws_url, rest_url)
                try:
                    await one.read(wants)
                    errors.append("begun anew: a book or the connection was lost")
                finally:
                    messages += one.messages
                    errors += one.errors()
    print(json.dumps({"messages": messages, "errors": errors}))


asyncio.run(main(sys.argv[1], sys.argv[2], float(sys.argv[3]), sys.argv[4:]))
