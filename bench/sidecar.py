"""How long one event takes from the gateway's router to a program in another process, Python to Python: Unix socket beside WebSocket.

    python -m bench.sidecar [EVENTS]

The gateway publishes 200 events a second, stamped with the system's monotonic clock, which both processes read. The ways take turns in
rounds, so that a noisy machine is noisy for all; the table gives each way's median over rounds of its p50 and p99.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import uvloop

import truetape
from truetape.app.sim import Options, Simulator
from truetape.io.clock import now as clock

ROUNDS = 5
EVERY_S = 0.005
WAYS = [("unix", "msgpack"), ("ws", "msgpack"), ("unix", "json"), ("ws", "json")]


async def publish(gateway: truetape.Gateway, symbol: str) -> None:
    """One event each 5 ms, for ever."""
    topic = gateway.pump.router.topic("quote", "kraken", symbol)
    while True:
        await asyncio.sleep(EVERY_S)
        now = clock()
        gateway.pump.router.publish(
            topic, truetape.Quote("kraken", symbol, symbol, time.monotonic_ns(), now, 1.0, 2.0, 3.0, 4.0)
        )
        gateway.driver.wake(now)


async def measure(urls: dict[str, str], symbol: str, count: int) -> dict[str, list[tuple[float, float]]]:
    """{way: (p50, p99) in µs of each round}."""
    found: dict[str, list[tuple[float, float]]] = {}
    for _ in range(ROUNDS):
        for kind, encoding in WAYS:
            spoken: Any = encoding
            async with truetape.client(urls[kind], encoding=spoken) as client:
                sub = client.subscribe(f"kraken:{symbol}", ["quote"])
                took: list[float] = []
                while len(took) < count:
                    events = await sub.take()
                    at = time.monotonic_ns()
                    took += [(at - event.ts) / 1000 for event in events if isinstance(event, truetape.Quote)]
            cuts = statistics.quantiles(took[10:], n=100)
            found.setdefault(f"{kind} {encoding}", []).append((cuts[49], cuts[98]))
    return found


async def child(urls: str, symbol: str, count: str) -> None:
    """The program that listens, a process of its own."""
    print(json.dumps(await measure(json.loads(urls), symbol, int(count))))


async def main(count: int) -> None:
    """The gateway's side, and the table."""
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "s.sock")
        async with Simulator(Options(venue="kraken", symbols=1, rate=1)) as sim:
            feed = {"venue": "kraken", "symbols": sim.symbols, "url": sim.ws, "rest_url": sim.rest}
            config = {"feeds": [feed], "serve": {"port": 0, "socket": path}}
            async with truetape.open(config) as gateway, asyncio.TaskGroup() as group:
                assert gateway.service is not None
                source = group.create_task(publish(gateway, sim.symbols[0]))
                urls = {"ws": f"ws://127.0.0.1:{gateway.service.port}", "unix": f"unix:{path}"}
                run = await asyncio.create_subprocess_exec(
                    sys.executable, "-m", "bench.sidecar", "child", json.dumps(urls), sim.symbols[0], str(count), stdout=asyncio.subprocess.PIPE
                )  # fmt: skip
                out, _ = await run.communicate()
                source.cancel()
    print(f"| way | p50 µs | p99 µs | ({ROUNDS} rounds of {count} events)\n|---|---|---|")
    for way, rounds in json.loads(out).items():
        p50, p99 = (statistics.median(row[at] for row in rounds) for at in (0, 1))
        print(f"| {way} | {p50:.0f} | {p99:.0f} |")


if __name__ == "__main__":
    if sys.argv[1:2] == ["child"]:
        uvloop.run(child(*sys.argv[2:5]))
    else:
        uvloop.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 400))
