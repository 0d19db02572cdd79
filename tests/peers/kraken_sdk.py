"""python-kraken-sdk's order book client as a watcher; it checks every update's CRC32. See compare.py for what is printed."""

import asyncio
import json
import sys
from typing import Any

import snippets
from kraken.spot import Market, SpotOrderBookClient, SpotWSClient

DEPTH = 25


class Watched(SpotOrderBookClient):
    messages = 0
    errors: list[str] = []

    async def on_book_update(self, pair: str, message: dict[str, Any]) -> None:
        if "error" in message:
            self.errors.append(message["error"])
            return
        self.messages += 1
        book = self.get(pair=pair)
        assert book is not None
        bids, asks = (
            [[float(price), float(level[0])] for price, level in book[side].items()] for side in ("bid", "ask")
        )
        row = message["data"][0]
        print(json.dumps({"raw": pair, "key": f"{row['timestamp']} {row['checksum']}", "bids": bids, "asks": asks}))


async def main(ws_url: str, rest_url: str, seconds: float, symbols: list[str]) -> None:
    exec(
        snippets.code("python-kraken-sdk", ws=ws_url.removesuffix("/v2"), http=rest_url),
        {"Market": Market, "SpotWSClient": SpotWSClient},
    )
    client = Watched(depth=DEPTH)
    errors: list[str] = []
    try:
        async with asyncio.timeout(seconds):
            await client.start()
            await client.add_book(pairs=[symbol.replace("-", "/") for symbol in symbols])
            while not client.exception_occur:
                await asyncio.sleep(0.1)
            errors.append("it gave up")
    except TimeoutError:
        pass
    except Exception as error:
        errors.append(repr(error)[:200])
    print(json.dumps({"messages": client.messages, "errors": errors + client.errors}))
    sys.stdout.flush()
    await client.close()


asyncio.run(main(sys.argv[1], sys.argv[2], float(sys.argv[3]), sys.argv[4:]))
