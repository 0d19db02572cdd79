"""python-binance's depth cache as a watcher; it fetches anew where U is not the last u + 1. See compare.py for what is printed."""

import asyncio
import json
import sys

import snippets
from binance import AsyncClient, BinanceSocketManager, DepthCacheManager

STARTS = 2
"""It fetches once before it listens, and again at the first diff, for that never fits. More is a gap."""


class Watched(DepthCacheManager):
    fetched = 0
    joined = 0

    async def _init_cache(self) -> None:
        await super()._init_cache()
        self.fetched += 1
        self.joined = self._last_update_id


async def main(ws_url: str, rest_url: str, seconds: float, symbols: list[str]) -> None:
    names = {"AsyncClient": AsyncClient, "BinanceSocketManager": BinanceSocketManager}
    exec(snippets.code("python-binance", ws=ws_url, http=rest_url), names)
    client = await AsyncClient.create()
    messages = 0
    errors: list[str] = []
    managers: list[Watched] = []

    async def watch(raw: str) -> None:
        nonlocal messages
        manager = Watched(client, raw, limit=5000, ws_interval=100)
        managers.append(manager)
        async with manager:
            while True:
                book = await manager.recv()
                messages += 1
                if isinstance(book, dict):
                    errors.append(str(book)[:200])
                elif manager._last_update_id > manager.joined:  # before, it lays old changes over a newer snapshot
                    row = {"bids": book.get_bids()[:25], "asks": book.get_asks()[:25]}
                    print(json.dumps({"raw": raw, "key": str(manager._last_update_id), **row}))

    try:
        async with asyncio.timeout(seconds), asyncio.TaskGroup() as group:
            for symbol in symbols:
                group.create_task(watch(symbol.replace("-", "")))
    except TimeoutError:
        pass
    except Exception as error:
        errors += [repr(cause)[:200] for cause in getattr(error, "exceptions", [error])]
    await client.close_connection()
    errors += [f"fetched {m.fetched} times, so it saw a gap" for m in managers if m.fetched > STARTS]
    print(json.dumps({"messages": messages, "errors": errors}))


asyncio.run(main(sys.argv[1], sys.argv[2], float(sys.argv[3]), sys.argv[4:]))
