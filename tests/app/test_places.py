"""Subscriptions of a running gateway: on connections with room, on one more where the plan allows it, else refused before anything is asked."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import truetape
from tests.app.conftest import Simulator, last_json, run, states, until
from truetape.io.store import reader

TICKER = ["ticker"]


def limited(simulator: Simulator, configured: int, **more: Any) -> dict[str, Any]:
    return {"feeds": [simulator.feed(symbols=simulator.symbols[:configured], channels=["book"], depth=10, **more)]}


def carried(gateway: truetape.Gateway) -> dict[str, int]:
    return {source: len(link.streams) for source, link in gateway.pump.links.items()}


@pytest.fixture
def twelve(simulate: Callable[..., Simulator]) -> Simulator:
    return simulate("kraken", 12, 300)


async def test_a_further_connection_is_opened_and_the_tape_replays_it(twelve: Simulator, tmp_path: Path) -> None:
    tree = {
        **limited(twelve, 2, symbols_per_connection=2),
        "journal": {"dir": str(tmp_path / "tape"), "segment_bytes": 65_536},
    }
    async with truetape.open(tree) as gateway:
        assert await gateway.ready()
        assert carried(gateway) == {"kraken-1": 2}
        more = gateway.subscribe(twelve.ids()[2:5], "book", mode=truetape.drop_oldest)
        assert carried(gateway) == {"kraken-1": 2, "kraken-2": 2, "kraken-3": 1}
        await until(gateway, lambda: list(states(gateway).values()) == ["LIVE"] * 5, what="five LIVE books")
        await until(gateway, lambda: len(reader.segments(tmp_path / "tape")) > 2, what="a checkpoint")
        more.close()
        stopped = lambda: [row["state"] for row in gateway.status()["connections"]] == ["OPEN", "STOPPED", "STOPPED"]  # noqa: E731
        await until(gateway, stopped, what="what was opened is hung up")
        again = gateway.subscribe(twelve.ids()[6], "book")
        assert carried(gateway) == {"kraken-1": 2, "kraken-2": 1, "kraken-3": 0}
        await until(
            gateway, lambda: list(states(gateway).values()) == ["LIVE"] * 3, what="on the connection opened again"
        )
        again.close()
    done = run("replay", tmp_path / "tape", "--json")
    assert done.returncode == 0, done.stderr
    tree = last_json(done.stdout)
    assert tree["digest"] == gateway.pump.digest.value()
    assert "diverged" not in tree


async def test_what_no_connection_can_carry_is_refused_before_anything_is_asked_for(twelve: Simulator) -> None:
    async with truetape.open(limited(twelve, 2, symbols_per_connection=2, connections=1)) as gateway:
        with pytest.raises(truetape.ConfigError, match=r"full \(2 symbols on each\), and config connections"):
            gateway.subscribe(twelve.ids()[:5], "book")
        assert carried(gateway) == {"kraken-1": 2}
        again = gateway.subscribe(twelve.ids()[0], "book")
        again.close()


async def test_a_list_that_fits_in_part_is_refused_whole(twelve: Simulator) -> None:
    async with truetape.open(limited(twelve, 2, symbols_per_connection=3, connections=1)) as gateway:
        with pytest.raises(truetape.ConfigError, match="full"):
            gateway.subscribe(twelve.ids()[2:4], "book")
        assert carried(gateway) == {"kraken-1": 2}
        assert not gateway.boxes
        more = gateway.subscribe(twelve.ids()[2], "book")
        assert carried(gateway) == {"kraken-1": 3}
        more.close()


async def test_a_plan_bounds_what_is_subscribed_while_running(simulate: Callable[..., Simulator]) -> None:
    simulator = simulate("tickdb", 8, 100)
    feed = simulator.feed(symbols=simulator.symbols[:2], channels=TICKER, plan="free")
    async with truetape.open({"feeds": [feed]}) as gateway:
        ids = simulator.ids()
        with pytest.raises(truetape.ConfigError, match="plan free has no book"):
            gateway.subscribe(ids[0], "book")
        with pytest.raises(
            truetape.ConfigError,
            match=r"plan free allows 5 subscriptions, and so many there are",
        ):
            gateway.subscribe(ids[2:6], "ticker")
        more = gateway.subscribe(ids[2:5], "ticker")
        quotes = gateway.subscribe(ids[:5], "quote")
        assert carried(gateway) == {"tickdb-1": 10}, "a quote is the ticker's: five subscriptions of the venue's"
        more.close()
        quotes.close()


async def test_nothing_that_runs_is_moved_or_renamed(twelve: Simulator) -> None:
    async with truetape.open(limited(twelve, 6, symbols_per_connection=4)) as gateway:

        def homes() -> dict[str, str]:
            return {
                stream.raw: source for source, link in gateway.pump.links.items() for stream in link.streams.values()
            }

        before = homes()
        boxes = [gateway.subscribe(name, "book") for name in twelve.ids()[6:]]
        assert {raw: home for raw, home in homes().items() if raw in before} == before
        assert max(carried(gateway).values()) <= 4
        for box in boxes:
            box.close()
        assert homes() == before
