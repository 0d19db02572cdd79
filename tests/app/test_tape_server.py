"""A recording served as if it were live: by the venues' protocols and by ours, from any time, at any speed."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest

import truetape
from native_bots import BinanceBot, ConnectionClosed, KrakenBot, connect, said
from truetape.app.capture import BadInput
from truetape.app.config_serve import ServeConfig
from truetape.app.sim import Options, Simulator
from truetape.app.tape_server import TapeServer

WITHIN = 30.0
SOURCES = Path(truetape.__file__).parents[1]


async def recorded(folder: Path, venue: str, updates: int) -> tuple[Path, Simulator]:
    """A tape of a simulated venue, and the market that it shows."""
    async with Simulator(Options(venue=venue, symbols=2, rate=400, history=True)) as sim:
        feed = {"venue": venue, "symbols": sim.symbols, "url": sim.ws, "rest_url": sim.rest, "depth": 25}
        tape = folder / "tape"
        async with truetape.open({"feeds": [feed], "journal": {"dir": str(tape)}}) as gateway:
            assert await gateway.ready()
            with gateway.subscribe("*", ["book_delta"], bound=100_000) as news:
                seen = 0
                async with asyncio.timeout(WITHIN):
                    while seen < updates:
                        seen += len(await news.take())
        return tape, sim


@asynccontextmanager
async def shown(
    path: Path, speed: str, native: list[Any], start: str = "", venue: str = "", *, loop: bool = False
) -> AsyncIterator[dict[str, Any]]:
    """The tape, served in this process."""
    told: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
    stopped: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    how = ServeConfig(port=0, native=native)
    server = TapeServer(path, venue=venue, speed=speed, start=start, end="", how=how, loop=loop)
    task = asyncio.ensure_future(server.serve(told.set_result, stopped))
    try:
        done, _ = await asyncio.wait((task, told), return_when=asyncio.FIRST_COMPLETED)
        if task in done:
            task.result()
        yield told.result()
    finally:
        if not stopped.done():
            stopped.set_result(0)
        async with asyncio.timeout(WITHIN):
            await task


async def told_by(socket: Any) -> list[str]:
    """Everything until the tape ends."""
    frames: list[str] = []
    try:
        async with asyncio.timeout(WITHIN):
            while True:
                frames.append(await socket.recv())
    except ConnectionClosed as closed:
        assert closed.rcvd is not None
        assert (closed.rcvd.code, closed.rcvd.reason) == (1000, "the tape ends")
    return frames


@pytest.mark.parametrize("speed", ["max", "4"])
async def test_a_tape_is_the_venue_once_more_and_twice_the_same(tmp_path: Path, speed: str) -> None:
    tape, sim = await recorded(tmp_path, "binance", 600)
    plays: list[list[str]] = []
    for _ in range(2):
        async with shown(tape, speed, ["binance"]) as where:
            native = where["native"]["binance"]
            one = BinanceBot("BTCUSDT")
            async with connect(f"{native['ws']}/ws", max_queue=None) as socket:
                await one.begin(socket, native["rest"])
                frames = await told_by(socket)
            for frame in frames:
                if one.take(json.loads(frame)):
                    bids, asks = sim.market.levels_at("BTCUSDT", one.seq)
                    assert one.levels() == (
                        [(Decimal(p), Decimal(s)) for p, s in bids], [(Decimal(p), Decimal(s)) for p, s in asks]
                    )  # fmt: skip
            assert one.diffs > 100
            plays.append(frames)
    shortest = min(map(len, plays))
    assert plays[0][-shortest:] == plays[1][-shortest:], "how much came before the answer may differ, nothing else"
    assert shortest > 100


async def test_from_a_time_on_the_tape_begins_with_the_book_of_that_time(tmp_path: Path) -> None:
    tape, _ = await recorded(tmp_path, "kraken", 600)
    proved: list[int] = []
    for start in ("", "+0.8"):
        async with shown(tape, "max", ["kraken"], start) as where:
            one = KrakenBot("BTC/USDT", 25)
            async with connect(f"{where['native']['kraken']['ws']}/v2", max_queue=None) as socket:
                await one.begin(socket)
                for frame in await told_by(socket):
                    one.take(json.loads(frame, parse_float=str))
            proved.append(one.proved)
    assert 20 < proved[1] < proved[0], "the later it begins, the less there is to prove"
    with pytest.raises(BadInput, match="--from: expected a time before the last record"):
        async with shown(tape, "max", ["kraken"], "+3600"):
            pass


async def test_our_own_protocol_is_served_from_the_tape_too(tmp_path: Path) -> None:
    tape, sim = await recorded(tmp_path, "kraken", 300)
    async with shown(tape, "max", []) as where, connect(where["stream"]) as socket:
        assert (await said(socket))["type"] == "hello"
        await socket.send(
            json.dumps({"type": "subscribe", "id": 1, "symbols": ["kraken:*"], "channels": ["book_delta"]})
        )
        events: list[dict[str, Any]] = []
        while (message := await said(socket))["type"] != "bye":
            events += message.get("events", [])
    books = [event for event in events if event["kind"] == "book"]
    assert {event["symbol"] for event in books if event.get("snapshot")} == set(sim.symbols)
    assert len(books) > 100


async def test_a_served_tape_tells_how_it_is(tmp_path: Path) -> None:
    tape, sim = await recorded(tmp_path, "kraken", 100)
    async with shown(tape, "max", []) as where:
        address = where["stream"].replace("ws://", "http://").replace("/v1/stream", "/status")

        def ask() -> dict[str, Any]:
            with urlopen(address, timeout=10) as answer:
                found: dict[str, Any] = json.loads(answer.read())
                return found

        found = await asyncio.to_thread(ask)
    assert {row["symbol"] for row in found["subscriptions"]} == set(sim.symbols)
    assert (found["sinks"], found["trace"], found["journal"]) == ([], None, None)


async def test_a_tape_that_loops_begins_anew_and_never_goes_on(tmp_path: Path) -> None:
    tape, sim = await recorded(tmp_path, "binance", 300)
    async with shown(tape, "max", ["binance"], loop=True) as where:
        native = where["native"]["binance"]
        begun: list[int] = []
        while len(begun) < 3:
            one = BinanceBot("BTCUSDT")
            try:
                async with connect(f"{native['ws']}/ws", max_queue=None) as socket:
                    await one.begin(socket, native["rest"])
                    begun.append(one.seq)
                    with pytest.raises(ConnectionClosed) as closed:
                        while True:
                            if one.take(await said(socket)):
                                bids, asks = sim.market.levels_at("BTCUSDT", one.seq)
                                assert one.levels() == (
                                    [(Decimal(p), Decimal(s)) for p, s in bids], [(Decimal(p), Decimal(s)) for p, s in asks]
                                )  # fmt: skip
                assert closed.value.rcvd is not None
                assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (1012, "the tape begins anew")
                assert one.diffs > 50
            except OSError:
                await asyncio.sleep(0.02)  # the moment between two rounds
        assert begun[0] == begun[1] == begun[2], "the same beginning each time"


async def test_our_own_client_sees_where_a_tape_began_anew(tmp_path: Path) -> None:
    tape, _ = await recorded(tmp_path, "kraken", 200)
    async with (
        shown(tape, "20", [], loop=True) as where,
        truetape.client(where["stream"], backoff_first_s=0.05) as client,
    ):
        events: list[Any] = []
        async with asyncio.timeout(WITHIN):
            async for event in client.subscribe("kraken:BTC-USDT", ["book_delta"], bound=100_000):
                events.append(event)
                wholes = [at for at, one in enumerate(events) if isinstance(one, truetape.Book) and one.snapshot]
                if len(wholes) >= 2:
                    break
    between = events[: wholes[1]]
    lost = [one for one in between if isinstance(one, truetape.Lagged)]
    assert [one.reason for one in lost] == ["not_recovered"], "an explicit loss, before the new beginning"
    assert len([one for one in between if isinstance(one, truetape.Book)]) > 20
    assert events[wholes[1]].recv < max(one.recv for one in between if isinstance(one, truetape.Book)), "back in time"


async def test_what_kraken_once_sent_holds_for_a_bot_that_proves_every_message(shared_data: Path) -> None:
    capture = next(iter(sorted(shared_data.glob("kraken_v2*.jsonl.gz"))))
    async with shown(capture, "max", ["kraken"]) as where:
        raw = "BTC/USD"
        one = KrakenBot(raw)
        async with connect(f"{where['native']['kraken']['ws']}/v2", max_queue=None) as socket:
            await one.begin(socket)
            for frame in await told_by(socket):
                one.take(json.loads(frame, parse_float=str))
    assert one.proved > 100


def test_the_command_tells_where_and_ends_with_its_tape(tmp_path: Path) -> None:
    tape, _ = asyncio.run(recorded(tmp_path, "kraken", 100))
    command = [sys.executable, "-m", "truetape", "replay", str(tape), "--serve", "--speed", "max"]
    child = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(SOURCES)},
    )
    try:
        assert child.stdout is not None
        where = json.loads(child.stdout.readline())
        assert where["native"]["kraken"]["ws"].endswith(f":{where['port']}/native/kraken")
        child.send_signal(signal.SIGTERM)
        _, said_last = child.communicate(timeout=WITHIN)
    finally:
        child.kill()
    assert child.returncode == 0
    assert "0 records played; stopped" in said_last
