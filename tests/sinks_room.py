"""A gateway with a simulated venue and one sink, for tests of sinks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

import truetape
from truetape.app.live import Gateway
from truetape.app.sim import Options, Simulator

WITHIN = 20.0


@asynccontextmanager
async def running(rate: float = 200, /, **sink: Any) -> AsyncIterator[tuple[Simulator, Gateway]]:
    async with Simulator(Options(venue="kraken", symbols=2, rate=rate)) as sim:
        feed = {"venue": "kraken", "symbols": sim.symbols, "url": sim.ws, "rest_url": sim.rest, "profile": "relaxed"}
        sink = {"kind": "nats", "backoff_max_s": 0.3, **sink}
        async with truetape.open({"feeds": [feed], "sinks": [sink]}) as gateway:
            assert await gateway.ready()
            yield sim, gateway


async def until(claim: Callable[[], bool], what: str) -> None:
    try:
        async with asyncio.timeout(WITHIN):
            while not claim():
                await asyncio.sleep(0.01)
    except TimeoutError:
        pytest.fail(f"not within {WITHIN} s: {what}")


def row(gateway: Gateway) -> dict[str, Any]:
    found: dict[str, Any] = gateway.status()["sinks"][0]
    return found


def balanced(gateway: Gateway) -> None:
    found = row(gateway)
    assert found["balanced"]
    assert found["taken"] == found["published"] + found["in_hand"] + found["expired"] + found["abandoned"], found


async def read(tap: truetape.Subscription, into: list[Any]) -> None:
    """Everything, until the gateway closes it."""
    try:
        while True:
            into += await tap.take()
    except truetape.Closed:
        return
