"""The downstream service with real sockets: a simulated venue, a gateway, and clients that are not ours."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
import websockets
from websockets.asyncio.client import ClientConnection, connect

import truetape
from truetape.app.config import ConfigError
from truetape.app.live import Gateway
from truetape.app.sim import Options, Simulator

WITHIN = 10.0


@asynccontextmanager
async def served(rate: float = 200, **serve: Any) -> AsyncIterator[tuple[Simulator, Gateway]]:
    async with Simulator(Options(venue="kraken", symbols=2, rate=rate)) as sim:
        feed = {"venue": "kraken", "symbols": sim.symbols, "url": sim.ws, "rest_url": sim.rest}
        async with truetape.open({"feeds": [feed], "serve": {"port": 0, **serve}}) as gateway:
            assert await gateway.ready()
            yield sim, gateway


def address(gateway: Gateway) -> str:
    assert gateway.service is not None
    return f"ws://127.0.0.1:{gateway.service.port}/v1/stream"


async def said(client: ClientConnection) -> dict[str, Any]:
    async with asyncio.timeout(WITHIN):
        found: dict[str, Any] = json.loads(await client.recv())
        return found


async def ask(client: ClientConnection, **fields: Any) -> None:
    await client.send(json.dumps(fields))


async def events(client: ClientConnection, count: int, offsets: dict[str, int]) -> list[dict[str, Any]]:
    """At least so many events, as they came; `offsets` is brought up to date."""
    got: list[dict[str, Any]] = []
    while len(got) < count:
        message = await said(client)
        if message["type"] == "data":
            got += message["events"]
            offsets.update(message["offsets"])
    return got


async def test_a_late_subscriber_has_the_whole_book_at_once_and_then_the_changes() -> None:
    async with served() as (sim, gateway), connect(address(gateway)) as client:
        hello = await said(client)
        assert (hello["type"], hello["protocol"], hello["token"]) == ("hello", "truetape.v1", "none")
        await ask(client, type="subscribe", id=7, symbols=["kraken:*"], channels=["book_delta"])
        answer = await said(client)
        assert answer["type"] == "subscribed"
        assert {row["topic"] for row in answer["topics"]} == {f"book_delta:kraken:{name}" for name in sim.symbols}
        got = await events(client, 20, {})
        for name in sim.symbols:
            assert next(event for event in got if event["symbol"] == name)["snapshot"]


async def test_who_comes_back_goes_on_exactly_where_it_stopped() -> None:
    async with served() as (_, gateway):
        box = gateway.subscribe("kraken:*", ["trade", "book_delta"], bound=100_000)
        offsets: dict[str, int] = {}
        got: list[dict[str, Any]] = []
        epoch = ""
        for visit in range(6):
            async with connect(address(gateway)) as client:
                hello = await said(client)
                epoch = epoch or hello["epoch"]
                resume = {"epoch": epoch, "offsets": offsets} if visit else None
                await ask(
                    client,
                    type="subscribe",
                    id=1,
                    symbols=["kraken:*"],
                    channels=["trade", "book_delta"],
                    resume=resume,
                )
                answer = await said(client)
                assert all(row.get("recovered") is True for row in answer["topics"] if row["topic"] in offsets)
                got += await events(client, 30, offsets)
        changes = [event for event in got if not event.get("snapshot")]
        published = msgspec.to_builtins(box_events(box))
        box.close()
        for name in {event["symbol"] for event in changes}:
            mine = [event["recv"] for event in changes if event["symbol"] == name and event["kind"] == "book"]
            theirs = [
                event["recv"]
                for event in published
                if event["symbol"] == name and event["kind"] == "book" and not event.get("snapshot")
            ]
            start = theirs.index(mine[0])
            assert mine == theirs[start : start + len(mine)], "nothing missing, nothing twice"


def box_events(box: truetape.Subscription) -> list[Any]:
    return box._box.take(100_000, 0)


async def test_who_was_away_for_too_long_is_told_so_and_begins_anew() -> None:
    async with served(history=5) as (sim, gateway), connect(address(gateway)) as client:
        await said(client)
        topic = f"book_delta:kraken:{sim.symbols[0]}"
        await ask(
            client, type="subscribe", id=1, symbols=[f"kraken:{sim.symbols[0]}"], channels=["book_delta"],
            resume={"epoch": "another", "offsets": {topic: 3}},
        )  # fmt: skip
        answer = await said(client)
        assert answer["topics"] == [{"topic": topic, "offset": answer["topics"][0]["offset"], "recovered": False}]
        got = await events(client, 2, {})
        assert (got[0]["kind"], got[0]["reason"], got[0]["dropped"]) == ("lagged", "not_recovered", -1)
        assert got[1]["snapshot"]


async def test_messages_that_are_none_are_explained_and_ten_of_them_end_it() -> None:
    async with served() as (_, gateway), connect(address(gateway)) as client:
        await said(client)
        for _ in range(9):
            await client.send('{"type":"subscribe"}')
            answer = await said(client)
            assert answer["type"] == "error"
            assert "missing required field `id`" in answer["text"]
        await client.send("[]")
        assert (await said(client))["reason"] == "bad_message"
        with pytest.raises(websockets.ConnectionClosed):
            await said(client)
        assert client.close_code == 4505


async def test_message_pack_by_sub_protocol_and_a_wrong_kind_of_frame_ends_it() -> None:
    packed: Any = ["truetape.v1.msgpack"]
    async with served() as (_, gateway), connect(address(gateway), subprotocols=packed) as client:
        assert msgspec.msgpack.decode(await client.recv())["type"] == "hello"
        await client.send(msgspec.msgpack.encode({"type": "ping", "ts": 5}))
        answer = msgspec.msgpack.decode(await client.recv())
        assert (answer["type"], answer["ts"]) == ("pong", 5)
        await client.send("{}")
        with pytest.raises(websockets.ConnectionClosed):
            await client.recv()
        assert client.close_code == 1003


async def test_the_unix_socket_speaks_the_same_messages(tmp_path: Path) -> None:
    path = tmp_path / "serve.sock"
    async with served(socket=str(path)) as (_, gateway):
        assert gateway.service is not None
        assert path.stat().st_mode & 0o777 == 0o600
        reader, writer = await asyncio.open_unix_connection(path)

        async def next_one() -> dict[str, Any]:
            async with asyncio.timeout(WITHIN):
                size = int.from_bytes(await reader.readexactly(4), "big")
                found: dict[str, Any] = json.loads(await reader.readexactly(size))
                return found

        writer.write(b"truetape.v1.json\n")
        assert (await next_one())["type"] == "hello"
        asked = json.dumps({"type": "subscribe", "id": 1, "symbols": ["kraken:*"], "channels": ["trade"]}).encode()
        writer.write(len(asked).to_bytes(4, "big") + asked)
        assert (await next_one())["type"] == "subscribed"
        while not any(event["kind"] == "trade" for event in (await next_one())["events"]):
            pass  # statuses of the books come first
        writer.close()
    assert not path.exists()


async def test_at_the_end_clients_are_told_to_come_back() -> None:
    async with served() as (_, gateway):
        client = await connect(address(gateway))
        await said(client)
    bye = await said(client)
    assert (bye["type"], bye["reason"], bye["code"]) == ("bye", "draining", 4000)
    with pytest.raises(websockets.ConnectionClosed):
        await said(client)
    assert client.close_code == 4000


async def test_a_gateway_does_not_listen_beyond_this_machine_unless_told_in_words() -> None:
    with pytest.raises(ConfigError, match='accept_risk = "no TLS and no tokens"'):
        async with served(host="0.0.0.0"):
            pass
    async with (
        served(host="0.0.0.0", accept_risk="no TLS and no tokens") as (_, gateway),
        connect(address(gateway)) as client,
    ):
        assert (await said(client))["type"] == "hello"
