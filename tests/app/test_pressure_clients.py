"""What downstream clients hold counts against the memory budget, and gives way in the declared order: real sockets, and nobody reads them."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from tests.app.test_attacks import UPGRADE, frame, port, rss_mb
from tests.app.test_serve import address, ask, events, said
from tests.native_bots import connect, served
from truetape.app import holders
from truetape.app.live import Gateway
from truetape.core.guard import ORDER
from truetape.io.clock import now as clock
from truetape.model.event import Trade

WITHIN = 30.0
LIMITS = {"buffer_bytes": 256 * 1024, "write_s": 600, "handshakes_per_s": 0}
PAD = "x" * 4000
KINDS = {"client_boxes", "client_buffers", "frames", "history", "connections", "native_books"}


class Crowd:
    """Clients by every door that subscribe and never read."""

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway
        self.published = 0
        self._open = ExitStack()

    def _socket(self, family: int, where: Any) -> socket.socket:
        raw = self._open.enter_context(socket.socket(family))
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        raw.connect(where)
        return raw

    def stream(self) -> None:
        asked = {"type": "subscribe", "id": 1, "symbols": ["binance:*"], "channels": ["trade"], "bound": 100_000}
        raw = self._socket(socket.AF_INET, ("127.0.0.1", port(self.gateway)))
        raw.sendall(
            (UPGRADE + "\r\n").encode() + frame(json.dumps(asked).encode()) + frame(b"{" + b" " * 999, fin=False)
        )

    def local(self, path: Path) -> None:
        asked = {"type": "subscribe", "id": 1, "symbols": ["binance:*"], "channels": ["trade"], "bound": 100_000}
        data = json.dumps(asked).encode()
        self._socket(socket.AF_UNIX, str(path)).sendall(b"truetape.v1.json\n" + len(data).to_bytes(4, "big") + data)

    def bot(self) -> None:
        target = "/native/binance/ws/btcusdt@depth/ethusdt@depth/solusdt@depth"
        raw = self._socket(socket.AF_INET, ("127.0.0.1", port(self.gateway)))
        raw.sendall((UPGRADE.replace("/v1/stream", target) + "\r\n").encode())

    def publish(self, count: int) -> None:
        """Trades so heavy that the system's own buffers fill."""
        router, now = self.gateway.pump.router, clock()
        topic = next(topic for topic in router.topics.values() if topic.kind == "trade")
        for _ in range(count):
            self.published += 1
            router.publish(topic, Trade("binance", topic.symbol, PAD, now, now, 1.0, 1.0, "buy", f"t{self.published}"))
        self.gateway.driver.wake(now)

    async def until(self, true: Callable[[], bool]) -> None:
        """Publish until it is so."""
        async with asyncio.timeout(WITHIN):
            while not true():
                self.publish(20)
                await asyncio.sleep(0.005)

    def full(self) -> bool:
        """Whether everybody's pipe is."""
        assert self.gateway.service is not None
        service = self.gateway.service
        mute = [client for client in service.hall.clients if client.peer.boxes and client.messages_out]
        full = [client for client in mute if client.blocked_since]
        return len(full) >= 3 and all(not visit.roomy() for visit in service.natives.visits.values())

    def close(self) -> None:
        self._open.close()


@asynccontextmanager
async def crowd(tmp_path: Path) -> AsyncIterator[Crowd]:
    """Two by WebSocket, one by the Unix socket and a bot, none of whom reads; all their pipes are full."""
    local = tmp_path / "s.sock"
    async with served("binance", rate=3000, limits=LIMITS, socket=str(local)) as (_, gateway, _base):
        here = Crowd(gateway)
        try:
            here.stream()
            here.stream()
            here.local(local)
            here.bot()
            await here.until(here.full)
            yield here
        finally:
            here.close()


def held(gateway: Gateway) -> dict[str, float]:
    found: dict[str, float] = gateway.status()["memory"]["held_mb"]
    return found


def balanced(gateway: Gateway) -> bool:
    return all(box.ledger().balanced for box in gateway.boxes)


async def test_clients_buffers_and_histories_are_declared_in_status_and_metrics(tmp_path: Path) -> None:
    async with crowd(tmp_path) as here:
        gateway = here.gateway
        assert gateway.service is not None
        found = holders.held(gateway)
        waiting = [client.pipe.waiting() for client in gateway.service.hall.clients]
        waiting += [visit.buffered for visit in gateway.service.natives.visits.values()]
        assert min(waiting) > LIMITS["buffer_bytes"] / 2
        assert found["client_buffers"] >= sum(waiting) + 2 * 1000  # and the half messages of two
        assert all(found[kind] > 0 for kind in KINDS), found
        assert set(KINDS) <= set(held(gateway))
        text = gateway.service.pages["/metrics"](None).body.decode()  # type: ignore[arg-type]
        for kind in found:
            assert f'truetape_memory_held_bytes{{holder="{kind}"}}' in text
        for kind in ORDER:
            assert f'truetape_memory_shed_bytes_total{{holder="{kind}"}}' in text


async def test_near_the_budget_clients_give_way_in_the_declared_order_and_who_reads_stays(tmp_path: Path) -> None:
    async with crowd(tmp_path) as here, connect(address(here.gateway)) as reader:
        gateway, guard = here.gateway, here.gateway.pulse.guard
        assert gateway.service is not None
        hall, natives = gateway.service.hall, gateway.service.natives
        await said(reader)
        await ask(reader, type="subscribe", id=1, symbols=["binance:*"], channels=["trade"])
        assert (await said(reader))["type"] == "subscribed"
        before = {kind: holders.held(gateway)[kind] for kind in ("client_buffers", "frames")}
        guard.budget = round(rss_mb() * 1e6 / 0.94)
        guard.due = 0
        async with asyncio.timeout(WITHIN):
            while len(hall.clients) > 1 or natives.visits:
                await events(reader, 1, {})
        assert guard.state == "shedding"
        freed = {kind: size for kind, (_, size) in guard.freed.items()}
        assert freed["frames"] > 0
        assert guard.freed["history"][0] > 0, "its events are free only when the stalled gave them up too"
        assert freed["oldest"] > 0
        assert guard.freed["stalled"][0] == 4, "who takes nothing was hung up, and nobody else"
        assert freed["stalled"] >= before["client_buffers"] / 2
        assert balanced(gateway)
        assert next(iter(hall.clients)).blocked_since == 0
        guard.budget = 1 << 40
        while guard.state != "ok":
            assert await events(reader, 1, {}), "it hears more"


async def test_who_comes_back_after_its_history_was_shed_is_told_what_it_missed(tmp_path: Path) -> None:
    async with served("binance", rate=10, limits=LIMITS) as (_, gateway, _base):
        here = Crowd(gateway)
        offsets: dict[str, int] = {}
        async with connect(address(gateway)) as client:
            epoch = (await said(client))["epoch"]
            await ask(client, type="subscribe", id=1, symbols=["binance:*"], channels=["trade"])
            await said(client)
            here.publish(10)
            await events(client, 10, offsets)
        (topic, at), *_ = ((topic, at) for topic, at in offsets.items() if at >= 10)
        assert gateway.service is not None
        here.publish(50)
        assert holders.give_up(gateway, "history", 1 << 40, clock())[0] >= 50
        async with connect(address(gateway)) as client:
            await said(client)
            resume = {"epoch": epoch, "offsets": {topic: at}}
            await ask(client, type="subscribe", id=1, symbols=["binance:*"], channels=["trade"], resume=resume)
            (row,) = [row for row in (await said(client))["topics"] if row["topic"] == topic]
            assert row["recovered"] is False
            lagged = (await events(client, 1, {}))[0]
            assert (lagged["kind"], lagged["reason"], lagged["dropped"]) == (
                "lagged",
                "not_recovered",
                row["offset"] - at,
            )
