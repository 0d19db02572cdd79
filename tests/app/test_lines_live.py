"""Two lines and hand-overs on real sockets, against the simulator; and what was recorded of them, played again."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

import truetape
from tests.app.conftest import WITHIN_S, last_json, run, until
from truetape.app.sim import Options, Simulator
from truetape.core.route.pair import Pair
from truetape.core.sim.faults import parse
from truetape.model.event import Book, Gap, Status, Trade


def simulator(venue: str, *faults: str) -> Simulator:
    return Simulator(Options(venue=venue, symbols=2, rate=300, seed=5, faults=parse(faults), history=True))


def feed(venue: str, sim: Simulator, **more: Any) -> dict[str, Any]:
    return {"venue": venue, "symbols": sim.symbols, "url": sim.ws, "rest_url": sim.rest, "depth": 10, **more}


def complaints(events: list[Any]) -> list[str]:
    """Gaps, states and trades that came twice, out of order, or not."""
    rows = [f"{event.channel} {event.reason}" for event in events if isinstance(event, Gap)]
    rows += [event.reason for event in events if isinstance(event, Status) and event.channel and event.state != "LIVE"]
    for raw in {event.raw for event in events if isinstance(event, Trade)}:
        told = [int(event.id) for event in events if isinstance(event, Trade) and event.raw == raw]
        if told != list(range(told[0], told[0] + len(told))):
            rows.append(f"{raw}: ids {told[0]}..{told[-1]} in {len(told)} trades")
    return rows


def carries_all(pair: Pair) -> bool:
    """Both stand, and everything was confirmed to both, with books that could take over."""
    return (
        not any(pair.alone)
        and all(link.session is not None and not link.session.unacknowledged for link in pair.links)
        and all(sync.live for sync in pair.standbys.warm.values())
    )


async def heard(gateway: truetape.Gateway, events: list[Any]) -> None:
    with gateway.subscribe("*", ["book_delta", "trade"], bound=100_000) as news:
        async for event in news:
            events.append(event)  # noqa: PERF401  it is looked into while it grows


@pytest.mark.parametrize("venue", ["binance", "kraken"])
async def test_a_line_whose_socket_breaks_costs_nothing(venue: str, tmp_path: Path) -> None:
    folder, events = tmp_path / "tape", list[Any]()
    async with simulator(venue) as sim:
        tree = {"feeds": [feed(venue, sim, lines=2)], "journal": {"dir": str(folder)}}
        async with truetape.open(tree) as gateway:
            assert await gateway.ready(WITHIN_S)
            pair = gateway.pump.pairs[0]
            await until(gateway, lambda: not any(pair.alone) and min(one.wins + one.late for one in pair.tally) > 100)
            listener = asyncio.create_task(heard(gateway, events))
            for _ in range(3):
                await until(gateway, lambda: not any(pair.alone))
                leader = pair.leader.source
                await until(gateway, lambda: carries_all(pair))
                line = gateway.driver._lines[leader]
                line.abort()
                await until(gateway, lambda leader=leader: pair.leader.source != leader)  # type: ignore[misc]
                count = len(events)
                await until(gateway, lambda count=count: len(events) > count + 100)  # type: ignore[misc]
            listener.cancel()
            row = next(row for row in gateway.status()["connections"] if row["name"] == f"{venue}-1b")
            assert row["line"]["wins"] + row["line"]["late"] > 100
        assert complaints(events) == []
    assert last_json(run("replay", folder, "--json").stdout)["digest"] == gateway.pump.digest.value()


@pytest.mark.parametrize("venue", ["binance", "kraken"])
async def test_a_venue_that_cuts_by_age_never_gets_to_it(venue: str, tmp_path: Path) -> None:
    folder, events = tmp_path / "tape", list[Any]()
    async with simulator(venue, "lifetime-cut@0s=12") as sim:
        tree = {"feeds": [feed(venue, sim, lifetime_s=12)], "journal": {"dir": str(folder)}}
        async with truetape.open(tree) as gateway:
            assert await gateway.ready(WITHIN_S)
            listener = asyncio.create_task(heard(gateway, events))
            for name in (f"{venue}-1", f"{venue}-1~"):
                async with asyncio.timeout(30):
                    while not (name in gateway.pump.links and gateway.pump.links[name].parked):
                        await asyncio.sleep(0.1)
            count = len(events)
            await until(gateway, lambda: len(events) > count + 100)
            listener.cancel()
        said = [event for event in events if isinstance(event, Status) and not event.channel]
        assert [event.reason for event in said if "closed_by_venue" in event.reason] == []
        assert complaints(events) == []
        assert any(isinstance(event, Book) for event in events)
    assert last_json(run("replay", folder, "--json").stdout)["digest"] == gateway.pump.digest.value()
