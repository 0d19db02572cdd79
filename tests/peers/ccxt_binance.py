"""ccxt's Pro class for Binance as a watcher; it raises where U is not the last u + 1. See compare.py for what is printed."""

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable

import ccxt.pro
import snippets


async def main(ws_url: str, rest_url: str, seconds: float, symbols: list[str]) -> None:
    names = {"ccxt": ccxt}
    exec(snippets.code("ccxt Pro", ws=ws_url, http=rest_url), names)
    exchange = names["exchange"]
    counted = {"messages": 0, "trades": 0}
    errors: list[str] = []

    async def ever(watch: Callable[[str], Awaitable[None]], symbol: str) -> None:
        """As its users do: an error is told, and the same is asked again."""
        while True:
            try:
                await watch(symbol)
            except Exception as error:
                errors.append(repr(error)[:200])
                await asyncio.sleep(0.2)

    async def books(symbol: str) -> None:
        while True:
            book = await exchange.watch_order_book(symbol, 1000)
            counted["messages"] += 1
            bids, asks = ([level[:2] for level in book[side][:25]] for side in ("bids", "asks"))
            print(
                json.dumps(
                    {"raw": exchange.market(symbol)["id"], "key": str(book["nonce"]), "bids": bids, "asks": asks}
                )
            )

    async def trades(symbol: str) -> None:
        while True:
            counted["trades"] += len(await exchange.watch_trades(symbol))

    try:
        async with asyncio.timeout(seconds), asyncio.TaskGroup() as group:
            await exchange.load_markets()
            for symbol in symbols:
                group.create_task(ever(books, symbol.replace("-", "/")))
                group.create_task(ever(trades, symbol.replace("-", "/")))
    except TimeoutError:
        pass
    except Exception as error:
        errors += [repr(cause)[:200] for cause in getattr(error, "exceptions", [error])]
    await exchange.close()
    if not counted["trades"]:
        errors.append("no trade came")
    print(json.dumps({"messages": counted["messages"] + counted["trades"], "errors": errors}))


asyncio.run(main(sys.argv[1], sys.argv[2], float(sys.argv[3]), sys.argv[4:]))
