"""What the status says of a link: round trips, answers, the venue's clock, and where the time goes."""

from __future__ import annotations

import asyncio

import pytest

import truetape
from tests.app.conftest import Simulator, until


@pytest.mark.parametrize("venue", ["tickdb", "kraken"])
async def test_a_link_tells_its_round_trips_answers_and_clock(venue: str, request: pytest.FixtureRequest) -> None:
    simulator: Simulator = request.getfixturevalue(venue)
    feed = simulator.feed(ping_every_s=0.1, pong_within_s=2.0, app_ping_every_s=0.1, messages_per_s=0)
    async with truetape.open({"feeds": [feed]}) as gateway:
        await until(gateway, lambda: gateway.status()["connections"][0]["pings"]["answered"] >= 5)
        await until(gateway, lambda: gateway.status()["connections"][0]["app_pings"]["answered"] >= 5)
        row = gateway.status()["connections"][0]
    for kind in ("pings", "app_pings"):
        assert row[kind]["sent"] >= row[kind]["answered"] >= 5
        assert 0 < row[kind]["rate"] <= 1 and 0 < row[kind]["rtt_ms_longest"] < 5000
    assert 0 < row["rtt_ms"] < 5000
    # one machine, one clock; TickDB tells its time in whole milliseconds
    assert abs(row["offset_ms"]) <= row["app_pings"]["rtt_ms_longest"] + 2


async def test_the_stages_after_receipt_are_measured(kraken: Simulator) -> None:
    async with truetape.open({"feeds": [kraken.feed(channels=["book"])]}) as gateway:
        assert await gateway.ready()
        said = gateway.subscribe("*", "book", name="said")
        async with asyncio.timeout(20):
            while min(row["samples"] for row in gateway.status()["stages"].values()) < 3:
                await said.take()
        stages = gateway.status()["stages"]
    assert list(stages) == ["decode", "queue", "delivery"]
    assert all(0 < row["ms_p50"] <= row["ms_p99"] < 10_000 for row in stages.values())
