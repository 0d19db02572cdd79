"""Our own path as a watcher: the reference client's bytes through dialect, pump and book. See compare.py for what is printed."""

import asyncio
import json
import sys
import urllib.request

from websockets.asyncio.client import connect

from truetape.app.dialects import Names, dialect
from truetape.core.feed.plan import Feed
from truetape.core.feed.venue import Want
from truetape.core.route.pump import Pump
from truetape.io.clock import now

DEPTH = 25


async def main(ws_url: str, rest_url: str, seconds: float, symbols: list[str]) -> None:
    venue = "kraken" if ws_url.endswith("/v2") else "binance"
    kind = dialect(venue)
    url = kind.endpoints([], ws_url, False)[0].url
    pump = Pump()
    pump.observe("sim", Feed("sim", venue, venue, kind, url, rest_url, (), Names(kind, url)), url)
    pump.opened("sim", now())
    link = pump.links["sim"]
    wants = [Want("book", kind.native(symbol), symbol, DEPTH) for symbol in symbols]
    messages = 0

    async def fetch(want: Want) -> None:
        address = link.dialect.snapshot_url(want, rest_url)
        if address is not None:
            body = await asyncio.to_thread(lambda: urllib.request.urlopen(address, timeout=10).read())
            pump.fetched("sim", f"depth:{want.raw}", 200, body, now())

    async with connect(url, max_queue=None) as ws, asyncio.TaskGroup() as group:
        for message in link.dialect.subscribe(wants):
            await ws.send(message.decode())
        for want in wants:
            group.create_task(fetch(want))
        try:
            async with asyncio.timeout(seconds):
                async for data in ws:
                    assert isinstance(data, str)
                    pump.frame("sim", data.encode(), now())
                    frame = json.loads(data, parse_float=str)
                    frame = frame.get("data", frame)
                    frame = frame[0] if isinstance(frame, list) else frame
                    raw = frame.get("symbol") or frame.get("s")
                    stream = link.streams.get(("book", raw))
                    if stream is None or stream.sync is None or not stream.sync.live:
                        continue
                    messages += 1
                    book = stream.sync.book
                    key = f"{frame['timestamp']} {frame['checksum']}" if venue == "kraken" else str(stream.sync.seq)
                    print(json.dumps({"raw": raw, "key": key, "bids": book.bids(DEPTH), "asks": book.asks(DEPTH)}))
        except TimeoutError:
            pass
    counts = [stream.sync.counts for stream in link.streams.values() if stream.sync is not None]
    errors = [f"{n} checksums failed" for n in (sum(count.checksums_failed for count in counts),) if n]
    errors += [f"{n} gaps" for n in (sum(count.sequence_gaps for count in counts),) if n]
    errors += [f"{link.counts.errors} frames were not understood"] if link.counts.errors else []
    print(json.dumps({"messages": messages, "errors": errors}))


asyncio.run(main(sys.argv[1], sys.argv[2], float(sys.argv[3]), sys.argv[4:]))
