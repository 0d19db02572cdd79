"""Clients that do not read beside clients that do: the others lose nothing and hardly notice, the stalled are treated by their modes."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Iterator
from typing import Any

import pytest

import truetape
from tests.app.test_attacks import UPGRADE, frame, port, rss_mb
from truetape.app.live import Gateway
from truetape.io.clock import now as clock
from truetape.io.serve.client import Client
from truetape.model.event import Trade

MODES = ("drop_oldest", "drop_newest", "disconnect", "conflate")
BUFFER = 64 * 1024
TURN = 128 * 1024
BOUND = 500


class Stand:
    """A gateway that is published to directly, at a rate; and what came of it."""

    def __init__(self, gateway: Gateway, rate: float, pad: int) -> None:
        self.gateway, self.rate = gateway, rate
        self.pad = "x" * pad  # so that enough is offered for the system's own buffers to fill
        self.published = 0
        self.round = self.clients()

    async def publish(self, seconds: float) -> None:
        """Trades of all symbols in turn, numbered through."""
        router, driver = self.gateway.pump.router, self.gateway.driver
        topics = [topic for topic in router.topics.values() if topic.kind == "trade"]
        loop = asyncio.get_running_loop()
        began, start = loop.time(), self.published
        while (elapsed := loop.time() - began) < seconds:
            due = min(start + round(elapsed * self.rate), self.published + 500)
            while self.published < due:
                topic = topics[self.published % len(topics)]
                now = clock()
                trade = Trade("kraken", topic.symbol, self.pad, now, now, 67000.5, 0.01, "buy", str(self.published))
                router.publish(topic, trade)
                self.published += 1
            driver.wake(clock())
            self.look(next(self.round))
            await asyncio.sleep(0.002)

    def clients(self) -> Iterator[Client | None]:
        """All that are there, in turn and without end: to look at 200 ledgers at once would itself hold up the clients."""
        assert self.gateway.service is not None
        while True:
            yield None
            yield from list(self.gateway.service.hall.clients)

    def look(self, client: Client | None) -> None:
        """What must hold at any moment."""
        if client is None:
            return
        for box in client.peer.boxes.values():
            ledger = box.ledger()
            assert ledger.balanced, ledger
        assert client.pipe.waiting() <= BUFFER + 2 * TURN, "bytes of a client are bounded"


async def told(process: Process) -> dict[str, Any]:
    """What the readers have, once nothing more comes."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(b"tell\n")
    async with asyncio.timeout(60):
        found: dict[str, Any] = json.loads(await process.stdout.readline())
    return found


def stalled(gateway: Gateway, mode: str) -> socket.socket:
    """A client that subscribes to everything and reads nothing."""
    raw = socket.socket()
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
    raw.connect(("127.0.0.1", port(gateway)))
    asked = {"type": "subscribe", "id": 1, "symbols": ["kraken:*"], "channels": ["trade"], "mode": mode, "bound": BOUND}
    raw.sendall((UPGRADE + "\r\n").encode() + frame(json.dumps(asked).encode()))
    raw.setblocking(False)
    return raw


async def drip(raw: socket.socket) -> None:
    """A byte a second."""
    while True:
        await asyncio.get_running_loop().sock_recv(raw, 1)
        await asyncio.sleep(1)


async def scene(
    symbols: int, rate: float, readers: int, mute: int, phase_s: float, pad: int
) -> tuple[float, float, float]:
    """Baseline, the same with stalled clients, baseline: p99 of each, ms; all else is asserted."""
    write_s = phase_s + 2
    names = [f"S{at:04}-USD" for at in range(symbols)]
    feed = {"venue": "kraken", "symbols": names, "channels": ["trade"], "url": "ws://127.0.0.1:1"}
    limits = {"buffer_bytes": BUFFER, "write_s": write_s, "handshakes_per_s": 0}
    serve = {"port": 0, "coalesce_ms": 5, "limits": limits, "history": 10}
    async with truetape.open({"feeds": [feed], "serve": serve}) as gateway:
        assert gateway.service is not None
        hall = gateway.service.hall
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "tests.app.stalled_readers",
            str(port(gateway)),
            str(readers),
            "5",
            stdin=PIPE,
            stdout=PIPE,
        )
        assert process.stdout is not None
        dripping: asyncio.Task[None] | None = None
        socks: list[socket.socket] = []
        try:
            async with asyncio.timeout(60):
                assert await process.stdout.readline() == b"ready\n"
                while sum(len(client.peer.boxes) for client in hall.clients) < readers:
                    await asyncio.sleep(0.02)
            stand = Stand(gateway, rate, pad)
            await stand.publish(phase_s)
            before = await told(process)
            memory = rss_mb()

            honest = dict(hall.clients)
            socks = [stalled(gateway, MODES[at % len(MODES)]) for at in range(mute + 1)]
            dripping = asyncio.create_task(drip(socks[-1]))
            async with asyncio.timeout(30):
                while sum(bool(client.peer.boxes) for client in hall.clients) < readers + mute + 1:
                    await asyncio.sleep(0.02)
            bad = [client for client in hall.clients if client not in honest]
            boxes = [box for client in bad for box in client.peer.boxes.values()]
            await stand.publish(phase_s)
            during = await told(process)
            blocked = [client.blocked_since for client in bad if client in hall.clients]
            assert all(blocked), "each of them is blocked"
            for box in boxes:
                ledger = box.ledger()
                assert ledger.balanced
                if box.mode.name == "disconnect":
                    assert box.closed_reason is not None, "its policy is to be ended at its bound"
                elif box.mode.name != "conflate":
                    assert ledger.dropped > 0
                    assert ledger.queued <= BOUND + 512
            assert rss_mb() - memory < 30 + len(bad) * (BUFFER + 2 * TURN) / 1e6

            limit = max(blocked, default=clock()) + round((write_s + 1) * 1e9)
            while any(client in hall.clients for client in bad):
                assert clock() < limit + 1_000_000_000, "cut within a second (and one of a busy machine's) of write_s"
                await asyncio.sleep(0.02)
            assert list(hall.clients) == list(honest), "and nobody else"
            await stand.publish(phase_s)
            after = await told(process)
            assert after["counts"] == [stand.published] * readers, "none of the others' messages is lost"
            assert after["holes"] == 0
            print(
                f"\np99 {before['p99']:.2f} / {during['p99']:.2f} / {after['p99']:.2f} ms, {stand.published} messages, RSS {rss_mb():.0f} MB"
            )
            return before["p99"], during["p99"], after["p99"]
        finally:
            if dripping is not None:
                dripping.cancel()
            for raw in socks:
                raw.close()
            process.kill()
            await process.wait()


async def test_stalled_clients_cost_the_others_no_message() -> None:
    await scene(symbols=50, rate=1000, readers=10, mute=8, phase_s=3, pad=4000)


@pytest.mark.soak
async def test_stalled_clients_at_full_size() -> None:
    seconds = float(os.environ.get("TRUETAPE_SOAK_SECONDS", "20"))
    before, during, after = await scene(symbols=1000, rate=3400, readers=149, mute=50, phase_s=seconds, pad=200)
    baseline = max(before, after)
    assert during <= min(1.2 * baseline, baseline + 5), (before, during, after)
