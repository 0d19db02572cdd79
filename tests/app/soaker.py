"""A gateway with one consumer that reads everything, for long runs: `python -m tests.app.soaker CONFIG`.

A JSON line every five seconds, and a last one after SIGTERM. `delay` is from the stamp that the venue wrote to the consumer (TickDB's are
in whole ms, rounded down: up to one ms too much), `inside` from our stamp of the frame to the consumer.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections import Counter
from typing import Any

import truetape
from truetape.app.cli.run import loop_factory
from truetape.core.feed.delay import Histogram
from truetape.io.clock import now as clock
from truetape.io.clock import wall_ns

EVERY_S = 5.0
BOUND = 1_000_000


class Meter:
    """What one consumer saw."""

    def __init__(self, gateway: truetape.Gateway) -> None:
        self.gateway = gateway
        self.subscription = gateway.subscribe("*", ["book", "trade"], bound=BOUND, name="reader")
        self.delay, self.inside = Histogram(), Histogram()
        self.lagged = 0
        self.rss_mb: list[float] = []
        self.fullest = 0

    async def read(self) -> None:
        delay, inside = self.delay, self.inside
        while True:
            events = await self.subscription.take(5_000)
            wall, now = wall_ns(), clock()
            for event in events:
                if isinstance(event, truetape.Book | truetape.Trade):
                    delay.note(wall - event.ts)
                    inside.note(now - event.recv)
                elif isinstance(event, truetape.Lagged):
                    self.lagged += event.dropped
            if len(inside.pending) > 10_000:
                delay.fold()
                inside.fold()

    def report(self) -> dict[str, Any]:
        status = self.gateway.status()
        ledger = self.subscription.ledger
        self.rss_mb.append(status["memory"]["rss_mb"])
        return {
            "delay_ms": spread(self.delay),
            "inside_ms": spread(self.inside),
            "frames": sum(row["frames"] for row in status["connections"]),
            "reconnects": sum(row["reconnects"] for row in status["connections"]),
            "states": sorted({row["state"] for row in status["connections"]}),
            "received": ledger.received, "delivered": ledger.delivered, "dropped": ledger.dropped, "queued": ledger.queued,
            "balanced": ledger.balanced, "lagged": self.lagged,
            "live": sum(row["state"] == "LIVE" for row in status["subscriptions"] if row["channel"] == "book"),
            "gaps": Counter(gap.reason for gap in self.gateway.pump.gaps),
            "errors": sum(row["errors"] + row["damaged"] for row in status["connections"]),
            "holes": status["journal"]["holes"],
            "rss_mb": self.rss_mb[-1], "rss_mb_first": self.rss_mb[0], "peak_mb": status["memory"]["peak_mb"],
            "gc": status["gc"], "loop": status["loop"], "cpu_s": status["cpu_s"], "uptime_s": status["uptime_s"],
        }  # fmt: skip


def spread(of: Histogram) -> dict[str, float]:
    """Percentiles in ms."""
    named = {name: of.percentile(share) for name, share in (("p50", 0.5), ("p99", 0.99), ("p999", 0.999))}
    return {name: round((ns or 0) / 1e6, 3) for name, ns in named.items()} | {"max": round(of.largest / 1e6, 3)}


async def main(config: str) -> None:
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    async with truetape.open(config) as gateway, asyncio.TaskGroup() as group:
        meter = Meter(gateway)
        reader = group.create_task(meter.read())
        while not ended.is_set():
            print(json.dumps(meter.report()), flush=True)
            try:
                async with asyncio.timeout(EVERY_S):
                    await ended.wait()
            except TimeoutError:
                pass
        reader.cancel()
        print(json.dumps(meter.report() | {"last": True}), flush=True)


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(main(sys.argv[1]))
