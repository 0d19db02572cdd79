"""Our own clients, with real sockets: a simulated venue, a gateway, and a program with or without an event loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

import truetape
from truetape.app.live import Gateway
from truetape.app.sim import Options, Simulator

WITHIN = 10.0


@asynccontextmanager
async def served(tmp_path: Path, rate: float = 200, **serve: Any) -> AsyncIterator[tuple[Simulator, Gateway]]:
    async with Simulator(Options(venue="kraken", symbols=2, rate=rate)) as sim:
        feed = {"venue": "kraken", "symbols": sim.symbols, "url": sim.ws, "rest_url": sim.rest}
        how = {"port": 0, "socket": str(tmp_path / "s.sock"), **serve}
        async with truetape.open({"feeds": [feed], "serve": how}) as gateway:
            assert await gateway.ready()
            yield sim, gateway


def address(gateway: Gateway, kind: str) -> str:
    assert gateway.service is not None
    return f"ws://127.0.0.1:{gateway.service.port}" if kind == "ws" else f"unix:{gateway.service.how.socket}"


@pytest.mark.parametrize("kind", ["ws", "unix"])
@pytest.mark.parametrize("encoding", ["json", "msgpack"])
async def test_events_come_as_they_do_in_process(tmp_path: Path, kind: str, encoding: Any) -> None:
    async with served(tmp_path) as (sim, gateway):
        url = address(gateway, kind)
        async with truetape.client(url, encoding=encoding) as client, asyncio.timeout(WITHIN):
            kinds: set[str] = set()
            async for event in client.subscribe(f"kraken:{sim.symbols[0]}", ["book", "trade"], depth=10):
                kinds.add(type(event).__name__)
                if isinstance(event, truetape.Book):
                    assert event.snapshot
                    assert len(event.bids) <= 10
                if kinds >= {"Book", "Trade"}:
                    break
            assert client.state == "live"


@pytest.mark.parametrize("kind", ["ws", "unix"])
async def test_a_broken_connection_is_made_again_and_goes_on_where_it_stopped(tmp_path: Path, kind: str) -> None:
    async with served(tmp_path) as (_, gateway):
        tap = gateway.subscribe("kraken:*", ["book_delta"], bound=100_000)
        async with truetape.client(address(gateway, kind), backoff_first_s=0.01) as client, asyncio.timeout(WITHIN):
            sub = client.subscribe("kraken:*", ["book_delta"])
            got: list[Any] = []
            async for event in sub:
                if isinstance(event, truetape.Book):
                    got.append(event)
                assert not isinstance(event, truetape.Lagged)
                if len(got) == 50 and sub.reconnects == 0:
                    for one in list(gateway.service.hall.clients):  # type: ignore[union-attr]
                        one.pipe.abort()
                if len(got) >= 200 and sub.reconnects:
                    break
            assert sub.reconnects == 1
        published = tap._box.take(100_000, 0)
        for name in {event.symbol for event in got}:
            mine = [event.recv for event in got if event.symbol == name and not event.snapshot]
            theirs = [e.recv for e in published if isinstance(e, truetape.Book) and e.symbol == name and not e.snapshot]
            start = theirs.index(mine[0])
            assert mine == theirs[start : start + len(mine)]
