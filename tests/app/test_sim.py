"""The simulator before real clients: the reference WebSocket client, plain HTTP, and signals to a real process."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import tomllib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from conftest import ROOT
from truetape.app.config import load
from truetape.app.sim import Options, Simulator

COMMAND = [sys.executable, "-m", "truetape", "sim"]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
ADDRESSES = {"kraken": "/v2", "binance": "/stream", "tickdb": "/v1/realtime"}
SUBSCRIBE: dict[str, Any] = {
    "kraken": {"method": "subscribe", "params": {"channel": "book", "symbol": ["BTC/USDT"], "depth": 25}, "req_id": 1},
    "binance": {"method": "SUBSCRIBE", "params": ["btcusdt@depth@100ms"], "id": 1},
    "tickdb": {"cmd": "subscribe", "data": {"channel": "depth", "symbols": ["BTCUSDT"]}},
}
BOOK = {"kraken": '"type":"update"', "binance": "depthUpdate", "tickdb": '"cmd":"depth"'}


@asynccontextmanager
async def process(
    *arguments: str, stderr: int | None = None
) -> AsyncIterator[tuple[asyncio.subprocess.Process, dict[str, Any]]]:
    """The command itself; ended by its own id if the test did not."""
    child = await asyncio.create_subprocess_exec(
        *COMMAND, *arguments, stdout=subprocess.PIPE, stderr=stderr, env=ENVIRONMENT
    )
    assert child.stdout is not None
    try:
        yield child, json.loads(await child.stdout.readline())
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()


async def until(ws: ClientConnection, word: str) -> dict[str, Any]:
    """The next message that holds this word."""
    async for message in ws:
        assert isinstance(message, str)
        if word in message:
            found: dict[str, Any] = json.loads(message)
            return found
    raise AssertionError(f"the connection ended before {word!r}")


async def get(url: str) -> tuple[int, bytes]:
    """A plain GET, as small as it can be."""
    host, _, path = url.removeprefix("http://").partition("/")
    name, _, port = host.partition(":")
    reader, writer = await asyncio.open_connection(name, int(port))
    writer.write(f"GET /{path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
    answer = await reader.read()
    writer.close()
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]), body


@pytest.mark.parametrize("venue", ["kraken", "binance", "tickdb"])
async def test_a_process_serves_and_ends_with_zero_on_sigterm(venue: str) -> None:
    async with process("--venue", venue, "--symbols", "4", "--rate", "500") as (child, row):
        assert row["venue"] == venue
        assert len(row["symbols"]) == 4 and row["symbols"][0] == "BTC-USDT"
        assert row["ws"].startswith("ws://127.0.0.1:") and row["rest"].startswith("http://127.0.0.1:")
        async with connect(row["rest"].replace("http", "ws") + ADDRESSES[venue]) as ws:
            await ws.send(json.dumps(SUBSCRIBE[venue]))
            await until(ws, BOOK[venue])
            child.send_signal(signal.SIGTERM)
            with pytest.raises(ConnectionClosed):
                while True:
                    await ws.recv()
            assert ws.close_code == 1001
        assert await child.wait() == 0


async def test_prepared_flow_is_served_like_live_flow_and_accounted_for() -> None:
    command = [
        "--venue",
        "binance",
        "--symbols",
        "2",
        "--rate",
        "2000",
        "--pregenerate",
        "300",
        "--faults",
        "drop-delta@60s",
    ]
    async with process(*command, stderr=subprocess.PIPE) as (child, row):
        async with connect(f"{row['ws']}/ws/btcusdt@depth@100ms") as ws:
            last = (await until(ws, "depthUpdate"))["u"]
            for _ in range(1500):  # there and back more than once
                diff = await until(ws, "depthUpdate")
                assert diff["U"] == last + 1
                last = diff["u"]
        child.send_signal(signal.SIGTERM)
        assert child.stderr is not None
        said = (await child.stderr.read()).decode()
        assert await child.wait() == 0
    assert "messages made" in said and "to 1 clients" in said
    assert len(said.splitlines()) == 1


async def test_ctrl_c_ends_with_130() -> None:
    async with process("--venue", "kraken") as (child, _):
        child.send_signal(signal.SIGINT)
        assert await child.wait() == 130


async def test_the_reference_client_is_answered_refused_and_ponged() -> None:
    async with Simulator(Options(venue="kraken", rate=1000)) as simulator, connect(simulator.ws) as ws:
        assert json.loads(await ws.recv())["channel"] == "status"
        asked = {"method": "subscribe", "params": {"channel": "book", "symbol": ["NO/PE", "BTC/USDT"]}, "req_id": 5}
        await ws.send(json.dumps(asked))
        assert (await until(ws, "NO/PE"))["success"] is False
        assert (await until(ws, '"success":true'))["result"]["symbol"] == "BTC/USDT"
        assert len((await until(ws, '"snapshot"'))["data"][0]["bids"]) == 10
        await until(ws, '"update"')
        await (await ws.ping())
        await ws.send(iter(['{"method":', '"ping",', '"req_id":7}']))  # one message in three fragments
        assert (await until(ws, '"pong"'))["req_id"] == 7
        await ws.send(b'{"method":"ping","req_id":8}')
        assert (await until(ws, '"pong"'))["req_id"] == 8
        await until(ws, "heartbeat")


async def test_http_answers_on_the_same_port() -> None:
    async with Simulator(Options(venue="binance")) as simulator:
        status, body = await get(f"{simulator.rest}/api/v3/depth?symbol=BTCUSDT&limit=5")
        assert status == 200 and len(json.loads(body)["bids"]) == 5
        assert (await get(f"{simulator.rest}/api/v3/depth?symbol=NOPE"))[0] == 400
        assert (await get(f"{simulator.rest}/nothing"))[0] == 404


async def test_a_snapshot_fetched_in_the_middle_joins_the_stream() -> None:
    simulator = Simulator(Options(venue="binance", symbols=1, rate=3000))
    async with simulator, connect(f"ws://127.0.0.1:{simulator.port}/ws/btcusdt@depth@100ms") as ws:
        first = await until(ws, "depthUpdate")
        _, body = await get(f"{simulator.rest}/api/v3/depth?symbol=BTCUSDT&limit=5000")
        last = json.loads(body)["lastUpdateId"]
        assert last >= first["u"]
        expected = first["u"] + 1
        bridged = False
        for _ in range(500):
            diff = await until(ws, "depthUpdate")
            assert diff["U"] == expected
            expected = diff["u"] + 1
            bridged = bridged or diff["U"] <= last + 1 <= diff["u"]
        assert bridged


async def test_the_rate_is_kept() -> None:
    async with Simulator(Options(venue="kraken", symbols=1, rate=2000)) as simulator, connect(simulator.ws) as ws:
        await ws.send(
            json.dumps({**SUBSCRIBE["kraken"], "params": {"channel": "book", "symbol": ["BTC/USDT"], "depth": 1000}})
        )
        await ws.send(json.dumps({"method": "subscribe", "params": {"channel": "trade", "symbol": ["BTC/USDT"]}}))
        loop = asyncio.get_running_loop()
        await until(ws, '"update"')
        before, start = simulator.counts.messages, loop.time()
        seen = 0
        async for message in ws:
            seen += '"update"' in message  # type: ignore[operator]
            if seen == 4000:
                break
        made, late = simulator.counts.messages - before, simulator.counts.late
        due = (loop.time() - start) * 2000
        assert abs(made + late - due) < 700  # what lies in buffers, and one quarter of a second
        assert seen <= made + 10


async def test_a_client_that_does_not_read_is_cut_and_others_are_served() -> None:
    asked = {"method": "subscribe", "params": {"channel": "book", "symbol": ["BTC/USDT"] * 50, "depth": 1000}}
    async with Simulator(Options(venue="kraken", symbols=1, rate=500, backlog_max=1_000_000)) as simulator:
        async with connect(simulator.ws, close_timeout=0.1) as reader, connect(simulator.ws, max_queue=1) as mute:
            for _ in range(100):  # each asks for 50 snapshots of 5 kB, and none is read
                await mute.send(json.dumps(asked))
            await reader.send(json.dumps(SUBSCRIBE["kraken"]))
            while not simulator.counts.cut:
                await until(reader, BOOK["kraken"])
            with pytest.raises(ConnectionClosed):
                while True:
                    await mute.recv()
            assert mute.close_code == 1006
            await until(reader, BOOK["kraken"])
        assert simulator.counts.cut == 1


async def test_same_seed_same_market_in_two_processes() -> None:
    snapshots = []
    for _ in range(2):
        async with process("--venue", "binance", "--symbols", "30", "--rate", "0", "--seed", "9") as (_, row):
            bodies = [
                await get(f"{row['rest']}/api/v3/depth?symbol={symbol.replace('-', '')}") for symbol in row["symbols"]
            ]
            snapshots.append(bodies)
    assert snapshots[0] == snapshots[1]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *arguments], capture_output=True, text=True, env=ENVIRONMENT, timeout=60, check=False
    )


@pytest.mark.parametrize("venue", ["kraken", "binance", "tickdb"])
def test_the_printed_config_loads(venue: str, tmp_path: Path) -> None:
    done = run("--venue", venue, "--symbols", "2", "--port", "9700", "--print-config")
    assert done.returncode == 0, done.stderr
    (feed,) = tomllib.loads(done.stdout)["feeds"]
    assert feed["venue"] == venue and feed["rest_url"] == "http://127.0.0.1:9700"
    assert feed["symbols"] == (["BTC-USDT", "AAPL.US"] if venue == "tickdb" else ["BTC-USDT", "ETH-USDT"])
    (tmp_path / "gateway.toml").write_text(done.stdout)
    assert load(tmp_path / "gateway.toml", {}).feeds[0].url == feed["url"]
    assert feed.get("market") == ("always" if venue == "tickdb" else None), (
        "it never closes, whatever its shares are called"
    )
    assert "--port 9700" in done.stdout.splitlines()[0]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--venue", "nasdaq"], "expected one of binance, kraken, tickdb, found 'nasdaq'"),
        (["--venue", "kraken", "--faults", "explode@3s"], "half-open"),
        (["--venue", "kraken", "--faults", "close-1006@soon"], "expected name@12s"),
        (["--venue", "kraken", "--symbols", "0"], "--symbols"),
        (["--venue", "kraken", "--rate", "fast"], "--rate"),
        (["--venue", "kraken", "--port", "70000"], "--port"),
    ],
)
def test_wrong_use_is_one_clear_line_and_exit_2(arguments: list[str], said: str) -> None:
    done = run(*arguments)
    assert done.returncode == 2
    assert done.stdout == ""
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert len([line for line in done.stderr.splitlines() if said in line]) == 1


async def test_a_port_in_use_is_named() -> None:
    async with Simulator(Options(venue="kraken")) as simulator:
        done = await asyncio.to_thread(run, "--venue", "kraken", "--port", str(simulator.port))
        assert done.returncode == 2
        assert f"port: expected one that is free, found {simulator.port}" in done.stderr
