"""How to rehearse a strategy of your own: `pytest examples/test_my_strategy.py`, with truetape installed."""

import asyncio

import truetape


def quote(book: truetape.BookView) -> float | None:
    """The strategy: quote the microprice, but only of a book that can be believed."""
    try:
        return book.microprice
    except truetape.NotLive:
        return None


async def until(gateway: truetape.Gateway, claim, within: float = 20.0) -> None:
    """Wait for something to become true, whenever the gateway says anything."""
    with gateway.subscribe("*", ["book"]) as news:
        async with asyncio.timeout(within):
            while not claim():
                await news.take()


def test_it_stands_aside_while_a_symbol_is_mute(truetape_sim) -> None:
    async def rehearsal() -> None:
        async with truetape_sim("kraken", symbols=2) as sim, truetape.open(sim.config()) as gw:
            assert await gw.ready()
            mute, other = (gw.book(name) for name in sim.ids)
            assert quote(mute) is not None
            sim.fault(f"mute-symbol:{sim.symbols[0]}=5")
            await until(gw, lambda: quote(mute) is None)  # after 3 s of silence
            assert quote(other) is not None
            await until(gw, lambda: quote(mute) is not None)

    asyncio.run(rehearsal())


def test_it_comes_back_with_the_true_book_after_a_break(truetape_sim) -> None:
    async def rehearsal() -> None:
        async with truetape_sim("binance", faults="close-1006@2s") as sim, truetape.open(sim.config()) as gw:
            assert await gw.ready()
            with gw.subscribe("*", ["book"]) as news:
                async for event in news:
                    if isinstance(event, truetape.Gap) and event.recovered:
                        break
            await until(gw, lambda: all(gw.book(name).state == "LIVE" for name in sim.ids))
            sim.pause()
            await until(gw, lambda: gw.book(sim.ids[0]).top(5) == sim.book(sim.ids[0], 5))

    asyncio.run(rehearsal())


def test_a_plain_test_can_use_it_too(truetape_sim) -> None:
    with truetape_sim("tickdb", symbols=3) as sim:
        assert sim.ws.startswith("ws://127.0.0.1:") and len(sim.book(sim.symbols[0])[0]) == 10
