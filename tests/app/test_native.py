"""The venues' own protocols, re-broadcast, with real sockets: a simulated venue, a gateway, and bots that know only the venue."""

from __future__ import annotations

import asyncio
import json
from decimal import Decimal

import pytest

import truetape
from native_bots import BinanceBot, ConnectionClosed, KrakenBot, connect, fetched, said, served, until
from truetape.app.config import ConfigError
from truetape.app.sim import Options, Simulator


def numbers(levels: list[tuple[str, str]]) -> list[tuple[Decimal, Decimal]]:
    return [(Decimal(price), Decimal(size)) for price, size in levels]


async def test_bots_of_binance_hold_the_venues_own_book_at_its_own_numbers() -> None:
    async with served("binance") as (sim, _gateway, base):
        raws = list(sim.market.listed)

        async def bot(raw: str, path: str) -> int:
            one = BinanceBot(raw)
            async with connect(f"ws://{base}{path}") as socket:
                await one.begin(socket, f"http://{base}")
                while one.diffs < 60 or len(one.trades) < 5:
                    if one.take(await said(socket)):
                        bids, asks = sim.market.levels_at(raw, one.seq)
                        assert one.levels() == (numbers(bids), numbers(asks))
            assert one.trades == sorted(set(one.trades))
            return one.diffs

        assert all(
            count >= 60 for count in await asyncio.gather(*(bot(raw, f"/ws/{n}") for n, raw in enumerate(raws * 2)))
        )
        assert sim.counts.clients == 1, "however many bots, one connection to the venue"


@pytest.mark.parametrize("depth", [10, 25])
async def test_bots_of_kraken_prove_every_state_by_its_checksum(depth: int) -> None:
    async with served("kraken", depth=25) as (sim, _gateway, base):

        async def bot(raw: str) -> None:
            one = KrakenBot(raw, depth)
            async with connect(f"ws://{base}/v2") as socket:
                await one.begin(socket)
                while one.proved < 60:
                    one.take(await said(socket))
                assert all(len(side) == depth for side in one.levels())

        await asyncio.gather(*(bot(raw) for raw in list(sim.market.listed) * 2))
        assert sim.counts.clients == 1


async def test_a_lost_change_hangs_up_whoever_holds_the_book_and_nobody_else() -> None:
    async with served("binance", "drop-delta@2s:BTCUSDT") as (sim, gateway, base):
        hit, spared = BinanceBot("BTCUSDT"), BinanceBot("ETHUSDT")
        async with connect(f"ws://{base}/ws") as first, connect(f"ws://{base}/ws") as second:
            await hit.begin(first, f"http://{base}")
            await spared.begin(second, f"http://{base}")
            with pytest.raises(ConnectionClosed) as closed:
                while True:
                    if hit.take(await said(first)):
                        bids, asks = sim.market.levels_at("BTCUSDT", hit.seq)
                        assert hit.levels() == (numbers(bids), numbers(asks)), "right to the last"
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == 1013
            assert "BTCUSDT" in closed.value.rcvd.reason
            before = spared.diffs
            while spared.diffs < before + 20:
                spared.take(await said(second))
        await until(lambda: gateway.book("binance:BTC-USDT").state == "LIVE")
        again = BinanceBot("BTCUSDT")
        async with connect(f"ws://{base}/ws") as third:
            await again.begin(third, f"http://{base}")
            while again.diffs < 20:
                if again.take(await said(third)):
                    bids, asks = sim.market.levels_at("BTCUSDT", again.seq)
                    assert again.levels()[0][:20] == numbers(bids)[:20]
        assert sim.counts.clients == 1


async def test_a_wrong_checksum_upstream_never_reaches_a_bot() -> None:
    async with served("kraken", "wrong-checksum@2s:BTC/USDT") as (_sim, _gateway, base):
        one = KrakenBot("BTC/USDT")
        async with connect(f"ws://{base}/v2") as socket:
            await one.begin(socket)
            with pytest.raises(ConnectionClosed) as closed:
                while True:
                    one.take(await said(socket))
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == 1013
        two = KrakenBot("BTC/USDT")  # at once: the snapshot comes when the book is LIVE again, not before
        async with connect(f"ws://{base}/v2") as socket:
            await two.begin(socket)
            while two.proved < 30:
                two.take(await said(socket))


async def test_an_upstream_cut_is_a_close_and_then_the_right_book_again() -> None:
    async with served("binance", "close-1006@2s") as (sim, gateway, base):
        for visit in range(2):
            one = BinanceBot("BTCUSDT")
            async with connect(f"ws://{base}/ws/btcusdt@depth@100ms") as socket:
                await until(lambda: gateway.book("binance:BTC-USDT").state == "LIVE")
                await one.begin(socket, f"http://{base}")
                try:
                    while visit == 0 or one.diffs < 30:
                        if one.take(await said(socket)):
                            _bids, asks = sim.market.levels_at("BTCUSDT", one.seq)
                            assert one.levels()[1][:20] == numbers(asks)[:20]
                except ConnectionClosed as closed:
                    assert visit == 0, "cut once"
                    assert closed.rcvd is not None
                    assert closed.rcvd.code == 1013
        assert sim.counts.clients == 2


async def test_what_the_gateways_books_do_not_hold_is_refused_in_the_venues_words() -> None:
    async with served("binance") as (_, _gateway, base), connect(f"ws://{base}/ws") as socket:
        await socket.send('{"method":"SUBSCRIBE","params":["btcusdt@avgPrice"],"id":7}')
        answer = await said(socket)
        assert (answer["id"], answer["error"]["code"]) == (7, 2)
        async with connect(f"ws://{base}/ws/btcusdt@miniTicker") as other:
            assert (await said(other))["error"]["code"] == 2
            with pytest.raises(ConnectionClosed, match="1008"):
                await said(other)
        info = await fetched(f"http://{base}/api/v3/exchangeInfo")
        assert [row["symbol"] for row in info["symbols"]] == ["BTCUSDT", "ETHUSDT", "SOLUSDT"]
    async with served("kraken", depth=25) as (_, _gateway, base), connect(f"ws://{base}/v2") as socket:
        for params in (
            {"channel": "ticker", "symbol": ["BTC/USDT"], "event_trigger": "bbo"},
            {"channel": "book", "symbol": ["BTC/USDT"], "depth": 1000},
        ):
            await socket.send(json.dumps({"method": "subscribe", "params": params, "req_id": 3}))
            while "success" not in (answer := await said(socket)):
                pass
            assert answer["success"] is False
            assert "not supported" in answer["error"]


async def test_the_best_levels_alone_are_a_whole_book_each_time() -> None:
    async with (
        served("binance") as (sim, _gateway, base),
        connect(f"ws://{base}/stream?streams=btcusdt@depth5") as socket,
    ):
        for _ in range(20):
            message = await said(socket)
            assert message["stream"] == "btcusdt@depth5"
            bids, asks = sim.market.levels_at("BTCUSDT", message["data"]["lastUpdateId"], 5)
            assert numbers(message["data"]["bids"]) == numbers(bids)
            assert numbers(message["data"]["asks"]) == numbers(asks)


async def test_tickdb_whole_books_by_its_own_path() -> None:
    async with served("tickdb") as (sim, _gateway, base), connect(f"ws://{base}/v1/realtime?api_key=any") as socket:
        raw = next(iter(sim.market.listed))
        await socket.send(json.dumps({"cmd": "subscribe", "data": {"channel": "depth", "symbols": [raw]}}))
        assert (await said(socket))["code"] == 0
        for _ in range(20):
            message = await said(socket)
            assert message["cmd"] == "depth"
            bids, asks = ([Decimal(level[0]) for level in message["data"][side]] for side in ("bids", "asks"))
            assert bids == sorted(bids, reverse=True)
            assert asks == sorted(asks)
            assert bids[0] < asks[0]
        rows = await fetched(f"http://{base}/v1/symbols/available")
        assert raw in [row["symbol"] for row in rows["data"]["products"]]


async def test_a_dialect_without_a_feed_is_a_mistake_of_the_configuration() -> None:
    async with Simulator(Options(venue="kraken", symbols=1)) as sim:
        feed = {"venue": "kraken", "symbols": sim.symbols, "url": sim.ws, "rest_url": sim.rest}
        with pytest.raises(ConfigError, match=r"serve\.native.*kraken.*'binance'"):
            async with truetape.open({"feeds": [feed], "serve": {"port": 0, "native": ["binance"]}}):
                pass
