"""Watch the spread of a symbol, with an event loop: `python examples/watch_async.py ws://127.0.0.1:8787 kraken:BTC-USD`."""

import asyncio
import sys

import truetape


async def main(url: str, symbol: str, count: int) -> None:
    async with truetape.client(url) as c:
        async for event in c.subscribe(symbol, ["book"], mode=truetape.conflate(ms=100), depth=1):
            if isinstance(event, truetape.Book) and event.bids and event.asks:
                print(f"{event.symbol} {event.bids[0][0]} / {event.asks[0][0]}")
                count -= 1
            elif isinstance(event, truetape.Status | truetape.Lagged):
                print(event)
            if not count:
                return


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3]) if len(sys.argv) > 3 else -1))
