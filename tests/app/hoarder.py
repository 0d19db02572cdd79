"""A program with a consumer that never reads, for tests of the memory guard: `python -m tests.app.hoarder CONFIG`.

It prints its status twice a second as a JSON line, with what was told to a second, reading consumer; SIGTERM ends it with one more
line, after the hoard was read to its end and counted.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from typing import Any

import truetape
from truetape.model.event import Lagged, Status


async def main(config: str) -> None:
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    async with truetape.open(config) as gateway:
        hoard = gateway.subscribe("*", ["book", "trade"], bound=100_000_000, name="hoard")
        said = gateway.subscribe("*", ["trade"], mode=truetape.conflate(ms=100), name="said")
        told: list[str] = []
        restarts: list[str] = []
        gateway.on_restart = restarts.append

        async def listen() -> None:
            while True:
                events = await said.take()
                told.extend(f"{e.state} {e.reason}" for e in events if isinstance(e, Status) and not e.venue)

        async with asyncio.TaskGroup() as group:
            reader = group.create_task(listen())
            while not ended.is_set():
                show(gateway, told, restarts)
                try:
                    async with asyncio.timeout(0.5):
                        await ended.wait()
                except TimeoutError:
                    pass
            reader.cancel()
        lagged = data = 0
        while hoard.ledger.queued:
            for event in await hoard.take(10_000):
                if isinstance(event, Lagged):
                    assert event.reason == "memory", event
                    lagged += event.dropped
                elif not isinstance(event, truetape.Gap | Status):
                    data += 1
        ledger = hoard.ledger
        print(
            json.dumps(
                {
                    "lagged": lagged,
                    "data": data,
                    "dropped": ledger.dropped,
                    "delivered": ledger.delivered,
                    "balanced": ledger.balanced,
                }
            ),
            flush=True,
        )


def show(gateway: Any, told: list[str], restarts: list[str]) -> None:
    status = gateway.status()
    rows = {row["name"]: row for row in status["consumers"]}
    print(
        json.dumps(
            {
                **{key: status[key] for key in ("memory", "gc", "loop", "loop_lag_ms")},
                "hoard": rows["hoard"], "told": told, "restarts": restarts,
                "reconnects": sum(row["reconnects"] for row in status["connections"]),
            }
        ),
        flush=True,
    )  # fmt: skip


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
