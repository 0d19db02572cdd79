"""One server of the fan-out bench: `python -m bench.fanout_server HOW CLIENTS DELIVERIES` (`main` has what HOW can be); a JSON line last."""

import asyncio
import contextlib
import json
import resource
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import uvloop
import websockets
from websockets.asyncio.server import ServerConnection, broadcast, serve

import truetape
from bench import build, machine
from truetape.io.clock import now as clock
from truetape.model.event import Trade
from truetape.model.wire import Data

RATE, DELIVERIES_PER_S = 400.0, 100_000.0
"""Messages a second, and what that may come to over all clients: one that falls behind would join messages in a turn."""
WINDOW_RATE = 2000.0
SETTLE_S = 1.0


def rate(clients_: int) -> float:
    """Messages a second to so many."""
    return min(RATE, DELIVERIES_PER_S / clients_)


def trade(now: int) -> Trade:
    """A message of usual size."""
    return Trade("kraken", "BTC-USD", "BTC/USD", now, now, 67000.5, 0.01, "buy", "123456789")


@asynccontextmanager
async def clients(port: int, count: int, how: str) -> AsyncIterator[Process]:
    """The other process, once all are connected and subscribed."""
    with machine.pinned(machine.SENDER_CORE):
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "bench.fanout_clients", str(port), str(count), how, stdout=PIPE, stdin=PIPE
        )
    assert process.stdout is not None
    try:
        line = await process.stdout.readline()
        assert line == b"ready\n", line
        await asyncio.sleep(SETTLE_S)
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def received(process: Process) -> int:
    """Data messages' events that came in all clients, once no more come."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(b"count\n")
    return int(await process.stdout.readline())


async def paced(publish: Callable[[], None], count: int, rate: float) -> float:
    """CPU seconds of so many messages."""
    began, due = time.process_time(), time.perf_counter()
    for _ in range(count):
        publish()
        due += 1 / rate
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
    await asyncio.sleep(0.1)
    return time.process_time() - began


def config(window_ms: float) -> dict[str, Any]:
    """A gateway whose venue is not there, without limits on connections."""
    limits = {"connections": 0, "connections_per_address": 0, "handshakes_per_s": 0, "buffer_bytes": 1 << 20}
    feed = {"venue": "kraken", "symbols": ["BTC-USD"], "channels": ["trade"], "url": "ws://127.0.0.1:1"}
    return {"feeds": [feed], "serve": {"port": 0, "coalesce_ms": window_ms, "limits": limits}}


async def ours(count: int, messages: int, window_ms: float) -> dict[str, float]:
    """Published into the router, as the pump does."""
    async with truetape.open(config(window_ms)) as gateway:
        assert gateway.service is not None
        async with clients(gateway.service.port, count, "ours") as process:
            (topic,) = [topic for topic in gateway.pump.router.topics.values() if topic.boxes]

            def publish() -> None:
                now = clock()
                gateway.pump.router.publish(topic, trade(now))
                gateway.driver.wake(now)

            cpu = await paced(publish, messages, WINDOW_RATE if window_ms else rate(count))
            got = await received(process)
    return {"per_cpu_s": got / cpu, "lost": messages * count - got, "cpu_s": cpu}


async def theirs(count: int, messages: int) -> dict[str, float]:
    """The library's own broadcast, compression off."""
    there: list[ServerConnection] = []

    async def handler(one: ServerConnection) -> None:
        there.append(one)
        await one.wait_closed()

    async with (
        serve(handler, "127.0.0.1", 0, compression=None, ping_interval=None) as server,
        clients(server.sockets[0].getsockname()[1], count, "theirs") as process,
    ):
        text = msgspec.json.encode(Data(1, [trade(clock())], {"trade:kraken:BTC-USD": 1})).decode()
        cpu = await paced(lambda: broadcast(there, text), messages, rate(count))
        got = await received(process)
    return {"per_cpu_s": got / cpu, "lost": messages * count - got, "cpu_s": cpu}


async def gorilla(count: int, messages: int) -> dict[str, float]:
    """A Go process on this core; it counts its own CPU."""
    command = build.go("gorilla_fanout")
    if command is None:
        raise SystemExit(f"gorilla: {build.MISSING['gorilla_fanout']}")
    go = await asyncio.create_subprocess_exec(*command, stdin=PIPE, stdout=PIPE)
    assert go.stdin is not None
    assert go.stdout is not None
    try:
        port = json.loads(await go.stdout.readline())["port"]
        async with clients(port, count, "theirs") as process:
            text = msgspec.json.encode(Data(1, [trade(clock())], {"trade:kraken:BTC-USD": 1})).decode()
            order = {"messages": messages, "rate": rate(count), "text": text}
            go.stdin.write(json.dumps(order).encode() + b"\n")
            did = json.loads(await go.stdout.readline())
            got = await received(process)
    finally:
        with contextlib.suppress(ProcessLookupError):
            go.kill()
        await go.wait()
    return {"per_cpu_s": got / did["cpu_s"], "lost": messages * count - got, "cpu_s": did["cpu_s"]}


def rss_kb() -> float:
    """What is resident of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 1024


def main(how: str, clients_: str, deliveries: str) -> None:
    """Run one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 20_000)), hard))
    count = int(clients_)
    messages = max(20, int(deliveries) // count)
    run = {
        "ours": lambda: ours(count, messages, 0),
        "window": lambda: ours(count, messages, 5),
        "websockets": lambda: theirs(count, messages),
        "websockets_asyncio": lambda: theirs(count, messages),
        "gorilla": lambda: gorilla(count, messages),
    }[how]
    print(
        json.dumps(
            {
                "websockets": websockets.__version__,
                **(asyncio.run if how == "websockets_asyncio" else uvloop.run)(run()),
            }
        )
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
