"""Bots of a venue's protocol that ask for what the gateway does not carry: by changing the URL they have what the venue has."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.error import HTTPError

import pytest

import truetape
from native_bots import BinanceBot, ConnectionClosed, KrakenBot, connect, fetched, said, until
from tests.app.conftest import last_json, run
from truetape.app.live import Gateway
from truetape.app.sim import Options, Simulator
from truetape.io.clock import now as clock
from truetape.io.serve.tokens import Key, Keyring
from truetape.io.store import reader
from truetape.model.record import Sent

SECRET = "a-secret-of-more-than-thirty-two-bytes!"


@asynccontextmanager
async def before(
    venue: str, *, symbols: int = 5, rest: str = "", journal: Path | None = None, **serve: Any
) -> AsyncIterator[tuple[Simulator, Gateway, str]]:
    """A venue of several symbols, and a gateway that was told of the first one's book alone."""
    async with Simulator(Options(venue=venue, symbols=symbols, rate=300, history=True)) as sim:
        feed = {
            "venue": venue, "symbols": sim.symbols[:1], "channels": ["book"], "url": sim.ws, "rest_url": rest or sim.rest, "depth": 25,
        }  # fmt: skip
        tree: dict[str, Any] = {"feeds": [feed], "serve": {"port": 0, "native": [venue], **serve}}
        if journal is not None:
            tree["journal"] = {"dir": str(journal)}
        async with truetape.open(tree) as gateway:
            await until(lambda: bool(gateway.pump.links))
            assert gateway.service is not None
            yield sim, gateway, f"127.0.0.1:{gateway.service.port}/native/{venue}"


def carried(gateway: Gateway) -> list[tuple[str, str]]:
    return sorted(pair for link in gateway.pump.links.values() for pair in link.streams)


def right(sim: Simulator, one: BinanceBot) -> bool:
    bids, asks = sim.market.levels_at(one.raw, one.seq)
    return one.levels() == ([(Decimal(p), Decimal(s)) for p, s in bids], [(Decimal(p), Decimal(s)) for p, s in asks])


async def test_a_binance_bot_has_a_symbol_and_its_trades_that_no_feed_names() -> None:
    async with before("binance", linger_s=1.0) as (sim, gateway, base):
        raw = list(sim.market.listed)[3]
        one = BinanceBot(raw)
        async with connect(f"ws://{base}/ws") as socket:
            await one.begin(socket, f"http://{base}")
            while one.diffs < 40 or len(one.trades) < 5:
                if one.take(await said(socket)):
                    assert right(sim, one)
            assert ("book", raw) in carried(gateway)
            assert ("trade", raw) in carried(gateway)
        await until(lambda: carried(gateway) == [("book", next(iter(sim.market.listed)))])
        assert gateway.service is not None
        assert list(gateway.service.natives.speakers["binance"].room.rows) == [next(iter(sim.market.listed))]
        assert sim.counts.clients == 1


async def test_streams_in_the_url_and_a_book_that_is_fetched_before_it_is_there() -> None:
    async with before("binance") as (sim, _gateway, base):
        raw = list(sim.market.listed)[2]
        whole, listed = await asyncio.gather(
            fetched(f"http://{base}/api/v3/depth?symbol={raw}&limit=5000"),
            fetched(f"http://{base}/api/v3/exchangeInfo"),
        )
        assert whole["lastUpdateId"] > 0, "answered at the first try, when the book was there"
        assert {row["symbol"] for row in listed["symbols"]} == set(sim.market.listed), "all that the venue lists"
        for row in listed["symbols"]:
            steps = {item["filterType"]: item for item in row["filters"]}
            instrument = sim.market.listed[row["symbol"]].instrument
            assert Decimal(steps["PRICE_FILTER"]["tickSize"]) == Decimal(1).scaleb(-instrument.price_decimals)
        async with connect(f"ws://{base}/stream?streams={raw.lower()}@depth5/{raw.lower()}@bookTicker") as socket:
            seen = {(await said(socket))["stream"] for _ in range(40)}
        assert seen == {f"{raw.lower()}@depth5", f"{raw.lower()}@bookTicker"}
        assert sim.counts.clients == 1


async def test_a_kraken_bot_proves_the_book_of_a_symbol_that_no_feed_names() -> None:
    async with before("kraken") as (sim, gateway, base):
        raws = list(sim.market.listed)[1:]
        pairs = await fetched(f"http://{base}/0/public/AssetPairs?pair={raws[0]}")
        assert list(pairs["result"]) == [raws[0]]

        async def bot(raw: str) -> None:
            one = KrakenBot(raw)
            async with connect(f"ws://{base}/v2") as socket:
                await one.begin(socket)
                while one.proved < 30 or not one.trades:
                    one.take(await said(socket))

        await asyncio.gather(*map(bot, raws * 2))
        assert sim.counts.clients == 1
        assert len(carried(gateway)) == 1 + 2 * len(raws)


@pytest.mark.parametrize("listed", [True, False])
async def test_what_the_venue_does_not_have_is_refused_in_the_venues_own_words(listed: bool) -> None:
    """Without its list the venue is asked, and what it says is passed on."""
    nowhere = "" if listed else "http://127.0.0.1:9"
    async with before("kraken", rest=nowhere) as (sim, gateway, base), connect(f"ws://{base}/v2") as socket:
        good = list(sim.market.listed)[1]
        request = {"channel": "trade", "symbol": ["FOO/USD", good]}
        answers: dict[str, dict[str, Any]] = {}
        for turn in (3, 4):
            await socket.send(json.dumps({"method": "subscribe", "params": request, "req_id": turn}))
            answers.clear()
            while len(answers) < 2:
                message = await said(socket)
                if "success" in message:
                    answers[message.get("symbol") or message["result"]["symbol"]] = message
            assert answers["FOO/USD"]["error"] == "Currency pair not supported FOO/USD"
            assert answers["FOO/USD"]["req_id"] == turn
            assert answers[good]["success"]
        assert ("trade", "FOO/USD") not in carried(gateway)


async def test_binance_and_tickdb_refuse_as_they_do() -> None:
    async with before("binance") as (_sim, gateway, base), connect(f"ws://{base}/ws") as socket:
        with pytest.raises(HTTPError) as failed:
            await fetched(f"http://{base}/api/v3/depth?symbol=FOOUSDT")
        assert json.loads(failed.value.read())["code"] == -1121
        await socket.send('{"method":"SUBSCRIBE","params":["foousdt@trade"],"id":1}')
        assert await said(socket) == {"result": None, "id": 1}, "it accepts what does not exist, and stays silent"
        assert len(carried(gateway)) == 1
    async with before("tickdb") as (sim, gateway, base), connect(f"ws://{base}/v1/realtime") as socket:
        good = list(sim.market.listed)[1]
        for symbol, code in (("FOOUSDT", 2002), (good, 0)):
            await socket.send(json.dumps({"cmd": "subscribe", "data": {"channel": "depth", "symbols": [symbol]}}))
            answer = await said(socket)
            assert (answer["cmd"], answer["code"]) == ("subscribe", code), answer
        assert (await said(socket))["data"]["symbol"] == good
        assert ("book", "FOOUSDT") not in carried(gateway)


async def test_limits_bound_what_one_bot_and_all_together_may_add() -> None:
    limits = {"native_adds_per_bot": 2, "native_adds": 3}
    async with before("kraken", limits=limits) as (sim, gateway, base):
        raws = list(sim.market.listed)

        async def refused(socket: Any, raw: str) -> str:
            request = {"method": "subscribe", "params": {"channel": "trade", "symbol": [raw], "snapshot": False}}
            await socket.send(json.dumps(request))
            while "success" not in (message := await said(socket)):
                pass
            return str(message.get("error", ""))

        async with connect(f"ws://{base}/v2") as first, connect(f"ws://{base}/v2") as second:
            assert [await refused(first, raw) for raw in raws[1:3]] == ["", ""]
            assert "no more than 2 subscriptions for one client" in await refused(first, raws[3])
            assert await refused(second, raws[1]) == "", "there already: it costs nothing"
            assert await refused(second, raws[3]) == ""
            third = await connect(f"ws://{base}/v2")
            assert "no more than 3 subscriptions for all" in await refused(third, raws[4])
            await third.close()
            unsubscribe = {"method": "unsubscribe", "params": {"channel": "trade", "symbol": [raws[2]]}}
            await first.send(json.dumps(unsubscribe))
            await until(lambda: ("trade", raws[2]) not in carried(gateway))
            assert await refused(first, raws[4]) == "", "there is room again"


async def test_where_it_is_switched_off_bots_have_what_the_configuration_names() -> None:
    async with before("kraken", native_add=False) as (sim, gateway, base), connect(f"ws://{base}/v2") as socket:
        raw = list(sim.market.listed)[1]
        await socket.send(json.dumps({"method": "subscribe", "params": {"channel": "trade", "symbol": [raw]}}))
        while "success" not in (message := await said(socket)):
            pass
        assert message["error"] == f"Currency pair not supported {raw}"
        first = next(iter(sim.market.listed))
        await socket.send(json.dumps({"method": "subscribe", "params": {"channel": "ticker", "symbol": [first]}}))
        while message.get("symbol") != first:
            message = await said(socket)
        assert message["error"] == f"this gateway does not carry ticker of {first}"
        assert len(carried(gateway)) == 1


async def test_a_token_adds_only_what_it_may_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TT_NATIVE_KEY", SECRET)
    keys = [{"id": "k1", "secret": "env:TT_NATIVE_KEY"}]
    ring = Keyring([Key("k1", "HS256", lambda: SECRET, lambda: SECRET)])
    async with before("kraken", keys=keys, revoked_file=str(tmp_path / "revoked")) as (sim, gateway, base):
        mine, other = sim.symbols[1:3]
        allow = (f"kraken:{mine}/book", f"kraken:{mine}/trade")
        token, _ = ring.issue("bot", "reader", allow, clock() + 3600 * 1_000_000_000, clock())
        headers = {"Authorization": f"Bearer {token}"}
        pairs = await fetched(f"http://{base}/0/public/AssetPairs", headers)
        assert [row["wsname"].replace("XBT", "BTC") for row in pairs["result"].values()] == [mine.replace("-", "/")]
        async with connect(f"ws://{base}/v2", additional_headers=headers) as socket:
            one = KrakenBot(mine.replace("-", "/"))
            await one.begin(socket)
            while one.proved < 10:
                one.take(await said(socket))
            two = other.replace("-", "/")
            await socket.send(json.dumps({"method": "subscribe", "params": {"channel": "book", "symbol": [two]}}))
            while (message := await said(socket)).get("symbol") != two:
                pass
            assert message["error"] == f"Currency pair not supported {two}"
            await socket.send(
                json.dumps({"method": "subscribe", "params": {"channel": "ohlc", "symbol": [one.symbol]}})
            )
            while message.get("symbol") != one.symbol:
                message = await said(socket)
            assert message["error"] == "the token of bot does not allow bar.1m"
            assert {raw for _, raw in carried(gateway)} == {next(iter(sim.market.listed)), one.symbol}


async def test_many_symbols_cost_few_messages_at_the_venue_and_the_tape_replays_them(tmp_path: Path) -> None:
    tape = tmp_path / "tape"
    async with before("kraken", symbols=60, journal=tape) as (sim, gateway, base), connect(f"ws://{base}/v2") as socket:
        raws = list(sim.market.listed)
        await socket.send(
            json.dumps({"method": "subscribe", "params": {"channel": "book", "symbol": raws, "depth": 10}})
        )
        books: set[str] = set()
        while len(books) < len(raws):
            message = await said(socket)
            if message.get("channel") == "book":
                books.add(message["data"][0]["symbol"])
        assert len(carried(gateway)) == len(raws)
    done = await asyncio.to_thread(run, "replay", tape, "--json")
    report = last_json(done.stdout)
    assert report["digest"] == gateway.pump.digest.value()
    assert report["events"]["book"] > 60
    sent = [part for part in reader.read(tape) if isinstance(part, Sent) and b'"subscribe"' in part.data]
    assert len(sent) == 3, "the configured one, then 50 and 9 together"


async def test_who_was_cut_off_finds_what_it_added_still_there() -> None:
    async with before("binance", linger_s=60.0) as (sim, gateway, base):
        raw = list(sim.market.listed)[1]
        for _ in range(2):
            one = BinanceBot(raw)
            async with connect(f"ws://{base}/ws") as socket:
                await one.begin(socket, f"http://{base}")
                while one.diffs < 5:
                    one.take(await said(socket))
        stream = gateway.stream(f"binance:{sim.symbols[1]}")
        assert stream.count > 10
        assert sum(link.desk.waiting for link in gateway.pump.links.values()) == 0


async def test_a_bot_of_streams_that_cannot_be_added_is_told_and_sent_away() -> None:
    async with before("binance", limits={"native_adds_per_bot": 1}) as (sim, _gateway, base):
        raws = [raw.lower() for raw in sim.market.listed]
        async with connect(f"ws://{base}/stream?streams={raws[1]}@trade/{raws[2]}@trade") as socket:
            assert "no more than 1 subscription" in (await said(socket))["error"]["msg"]
            with pytest.raises(ConnectionClosed, match="1008"):
                await said(socket)
