"""Sinks that come, go and change by a reload: what goes publishes what it had, what changed begins where the old one ended, others go on."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import truetape
from bus_servers import NatsServer, free_port
from sinks_room import WITHIN, read, until
from tests.app.test_sinks_nats import Reader
from truetape.app.live import Gateway
from truetape.app.sim import Options, Simulator


class File:
    """A configuration with sinks; each a tree of keys."""

    def __init__(self, path: Path, sim: Simulator) -> None:
        self.path = path
        self.sim = sim
        self.sinks: list[dict[str, Any]] = []

    def write(self) -> None:
        names = json.dumps(self.sim.symbols)
        text = f'[[feeds]]\nvenue = "kraken"\nsymbols = {names}\nurl = "{self.sim.ws}"\nrest_url = "{self.sim.rest}"\n'
        for sink in self.sinks:
            text += "[[sinks]]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in sink.items())
        self.path.write_text(text)


@asynccontextmanager
async def reloadable(tmp_path: Path, *sinks: dict[str, Any]) -> AsyncIterator[tuple[File, Gateway]]:
    async with Simulator(Options(venue="kraken", symbols=2, rate=300)) as sim:
        file = File(tmp_path / "gateway.toml", sim)
        file.sinks += sinks
        file.write()
        async with truetape.open(file.path) as gateway:
            assert await gateway.ready()
            yield file, gateway


async def reloaded(file: File, gateway: Gateway) -> dict[str, Any]:
    file.write()
    said = await gateway.reload()
    assert "error" not in said, said
    return said


def rows(gateway: Gateway) -> dict[str, dict[str, Any]]:
    return {row["name"]: row for row in gateway.status()["sinks"]}


def trades(reader: Reader, prefix: str) -> list[str]:
    return [event["id"] for at, event in reader.got if at.startswith(f"{prefix}.trade") and event["kind"] == "trade"]


async def test_a_changed_sink_goes_on_where_the_old_one_ended_and_others_are_left_alone(tmp_path: Path) -> None:
    reader, mine = Reader(), list[Any]()
    with NatsServer() as server:
        await reader.begin(server, ">")
        one = {"kind": "nats", "name": "one", "url": server.url, "prefix": "a", "channels": ["trade"]}
        two = {"kind": "nats", "name": "two", "url": server.url, "prefix": "z", "channels": ["trade"]}
        async with reloadable(tmp_path, one, two) as (file, gateway):
            tap = asyncio.create_task(read(gateway.subscribe("*", "trade", bound=100_000), mine))
            await until(lambda: len(trades(reader, "a")) > 100, "trades of the first")
            stands = gateway.sinks.sinks[1]
            file.sinks[0] = {**one, "prefix": "b"}
            said = await reloaded(file, gateway)
            assert said["changed"] == ["sinks.one (prefix): made anew"]
            await until(lambda: len(trades(reader, "b")) > 100, "trades of the second")
            assert gateway.sinks.sinks[1] is stands
            assert list(rows(gateway)) == ["one", "two"]
            assert [row["state"] for row in rows(gateway).values()] == ["UP", "UP"]
            await until(
                lambda: len([box for box in gateway.boxes if box.name.startswith("sink:")]) == 2, "the old box is gone"
            )
        await tap
        published = [row["published"] for row in rows(gateway).values()]
        for prefix, count in zip("bz", published, strict=True):
            await until(lambda: sum(at.startswith(f"{prefix}.") for at, _ in reader.got) >= count, "the rest")  # noqa: B023
    ours = [event.id for event in mine if isinstance(event, truetape.Trade)]
    theirs = trades(reader, "a") + trades(reader, "b")
    start = theirs.index(ours[0])
    assert theirs[start : start + len(ours)] == ours, "none lost, none twice, in order, over the change"
    others = trades(reader, "z")
    assert others[others.index(ours[0]) :][: len(ours)] == ours
    await reader.client.close()


async def test_sinks_come_and_go(tmp_path: Path) -> None:
    reader = Reader()
    with NatsServer() as server:
        await reader.begin(server, ">")
        async with reloadable(tmp_path) as (file, gateway):
            file.sinks = [
                {"kind": "nats", "url": server.url, "channels": ["trade"], "mode": "conflate", "conflate_ms": 50}
            ]
            assert (await reloaded(file, gateway))["added"] == ["sink nats"]
            await until(lambda: len(reader.got) > 20, "events")
            (sink,) = gateway.sinks.sinks
            file.sinks = []
            assert (await reloaded(file, gateway))["removed"] == ["sink nats"]
            assert rows(gateway) == {}
            await until(lambda: not any(box.name == "sink:nats" for box in gateway.boxes), "its box is gone")
            assert (sink.state, sink.counts.abandoned, sink.status()["in_hand"]) == ("CLOSED", 0, 0)
            count = sink.counts.published
            await until(lambda: len(reader.got) >= count, "what it had")
            with gateway.subscribe("*", "trade") as others:
                assert await others.take()
    await reader.client.close()


async def test_a_sink_whose_server_is_away_goes_and_comes_back_elsewhere(tmp_path: Path) -> None:
    reader = Reader()
    away = {"kind": "nats", "url": f"nats://127.0.0.1:{free_port()}", "channels": ["trade"], "backoff_max_s": 0.2}
    async with reloadable(tmp_path, away) as (file, gateway):
        await until(lambda: rows(gateway)["nats"]["errors"] > 0, "a refused dial")
        (old,) = gateway.sinks.sinks
        with NatsServer() as server:
            await reader.begin(server, ">")
            file.sinks = [{**away, "url": server.url}]
            await reloaded(file, gateway)
            async with asyncio.timeout(WITHIN):
                await until(lambda: rows(gateway)["nats"]["state"] == "UP" and len(reader.got) > 10, "the new server")
            assert old.state == "CLOSED"
            for _ in range(3):  # faster than one can end
                file.sinks[0]["prefix"] = file.sinks[0].get("prefix", "p") + "x"
                await reloaded(file, gateway)
            await until(lambda: any(at.startswith("pxxx.") for at, _ in reader.got), "the last of them")
            await until(
                lambda: len([box for box in gateway.boxes if box.name == "sink:nats"]) == 1, "the others are gone"
            )
            await reader.client.close()


async def test_what_cannot_be_is_refused_and_the_sinks_stay(tmp_path: Path) -> None:
    with NatsServer() as server:
        async with reloadable(tmp_path, {"kind": "nats", "url": server.url}) as (file, gateway):
            before = gateway.sinks.sinks
            for change, why in (
                ({"secret": "env:NOT_SET"}, "sinks[0]: secret env:NOT_SET"),
                ({"channels": ["nonsense"]}, "sinks[0]: "),
                ({"symbols": ["nowhere:BTC-USD"]}, "sinks[0]: nowhere:BTC-USD"),
                ({"bound": 0}, "sinks"),
                ({"url": "http://x"}, "sinks[0].url"),
            ):
                file.sinks = [{"kind": "nats", "url": server.url, **change}]
                file.write()
                said = await gateway.reload()
                assert why in said["error"], said
                assert gateway.sinks.sinks == before
