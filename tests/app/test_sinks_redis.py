"""Sinks with a real Redis server, pub/sub and streams."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any

import msgspec
import pytest
from redis.asyncio import Redis

import truetape
from bus_servers import RedisServer
from sinks_room import balanced, read, row, running, until


async def entries(client: Redis, key: str, decode: Any = msgspec.json.decode) -> list[dict[str, Any]]:
    """Everything in a stream."""
    return [decode(fields[b"event"]) for _, fields in await client.xrange(key)]


@pytest.mark.parametrize("encoding", ["json", "msgpack"])
async def test_streams_hold_what_a_tap_in_process_reads_in_order(encoding: str) -> None:
    decode = msgspec.json.decode if encoding == "json" else msgspec.msgpack.decode
    mine: list[Any] = []
    with RedisServer() as server:
        client = Redis(port=server.port)
        how = {"kind": "redis_stream", "url": server.url, "channels": ["trade", "book_delta"], "encoding": encoding}
        async with running(400, **how) as (sim, gateway):
            from_now = gateway.subscribe("*", ["trade", "book_delta"], bound=100_000)
            tap = asyncio.create_task(read(from_now, mine))
            await until(lambda: len(mine) > 500 and row(gateway)["state"] == "UP", "500 events")
            balanced(gateway)
        await tap
        last = row(gateway)
        assert (last["state"], last["abandoned"], last["outages"]) == ("CLOSED", 0, 0)
        total = sum([await client.xlen(key) for key in await client.keys("truetape.*")])
        assert total == last["published"]
        for name in sim.symbols:
            for kind, tag in (("trade", "trade"), ("book_delta", "book")):
                theirs = await entries(client, f"truetape.{kind}.kraken.{name}", decode)
                stamps = [event["recv"] for event in theirs if event["kind"] == tag and not event.get("snapshot")]
                ours = [
                    event["recv"]
                    for event in msgspec.to_builtins(mine)
                    if event["kind"] == tag and event["symbol"] == name and not event.get("snapshot")
                ]
                start = stamps.index(ours[0])
                assert stamps[start : start + len(ours)] == ours
        await client.aclose()


async def test_pubsub_channels_carry_the_same_and_patterns_find_them() -> None:
    mine: list[Any] = []
    with RedisServer() as server:
        client = Redis(port=server.port)
        reader = client.pubsub()
        await reader.psubscribe("truetape.*")
        assert (await reader.get_message(timeout=10))["type"] == "psubscribe"
        async with running(400, kind="redis", url=server.url, channels=["trade"]) as (sim, gateway):
            tap = asyncio.create_task(read(gateway.subscribe("*", "trade", bound=100_000), mine))
            await until(lambda: len(mine) > 200, "200 trades")
        await tap
        got: list[tuple[str, dict[str, Any]]] = []
        while len(got) < row(gateway)["published"]:
            message = await reader.get_message(timeout=10)
            assert message is not None, f"{len(got)} of {row(gateway)['published']}"
            got.append((message["channel"].decode(), msgspec.json.decode(message["data"])))
        await reader.aclose()
        await client.aclose()
    for name in sim.symbols:
        at = f"truetape.trade.kraken.{name}"
        stamps = [event["id"] for where, event in got if where == at and event["kind"] == "trade"]
        ours = [event.id for event in mine if isinstance(event, truetape.Trade) and event.symbol == name]
        start = stamps.index(ours[0])
        assert stamps[start : start + len(ours)] == ours


async def test_a_killed_server_loses_nothing_of_the_feed_and_its_stream_begins_with_the_loss() -> None:
    """The stream is gone with the server: what the new one holds is what was sent again, the loss, and what came after."""
    mine: list[Any] = []
    with RedisServer() as server:
        client = Redis(port=server.port)
        how = {"channels": ["trade", "book_delta"], "bound": 50, "in_flight_bytes": 4096, "maxlen": 0}
        async with running(600, kind="redis_stream", url=server.url, **how) as (_, gateway):
            tap = asyncio.create_task(read(gateway.subscribe("*", ["trade", "book_delta"], bound=100_000), mine))
            await until(lambda: row(gateway)["published"] > 200, "200 events")
            server.kill()
            await until(lambda: row(gateway)["state"] == "DOWN", "the outage is seen")
            published = row(gateway)["published"]
            before = len(mine)
            await until(lambda: len(mine) > before + 500, "the feed goes on")
            balanced(gateway)
            server.start()
            await until(lambda: row(gateway)["published"] > published + 300, "it goes on")
            balanced(gateway)
            connections = gateway.status()["connections"]
        await tap
        last = row(gateway)
        keys = [key.decode() for key in await client.keys("truetape.*")]
        streams = {key: await entries(client, key) for key in keys}
        await client.aclose()
    assert last["outages"] == 1
    assert sum(map(len, streams.values())) == last["published"] - published, "every answer is one entry"
    told = [event for stream in streams.values() for event in stream if event["kind"] == "lagged"]
    assert sum(event["dropped"] for event in told) == last["ledger"]["dropped"] > 0
    for key, stream in streams.items():
        for lost, then in itertools.pairwise(stream):
            if lost["kind"] == "lagged" and ".book_delta." in key:
                assert then.get("snapshot"), "after a loss of changes the book begins whole"
    assert [link["reconnects"] for link in connections] == [0] * len(connections)
    assert not [event for event in mine if isinstance(event, truetape.Gap)]


async def test_a_server_that_hangs_is_given_up_and_nothing_is_lost_where_the_box_has_room() -> None:
    with RedisServer() as server:
        client = Redis(port=server.port)
        how = {"channels": ["trade"], "bound": 100_000, "confirm_s": 1.0, "maxlen": 0}
        mine: list[Any] = []
        async with running(400, kind="redis_stream", url=server.url, **how) as (sim, gateway):
            tap = asyncio.create_task(read(gateway.subscribe("*", "trade", bound=100_000), mine))
            await until(lambda: len(mine) > 50 and row(gateway)["published"] > 50, "50 events")
            server.freeze()
            await until(lambda: row(gateway)["state"] == "DOWN", "the outage is seen")
            server.thaw()
            await until(lambda: row(gateway)["state"] == "UP", "back")
            assert gateway.status()["loop"]["longest_lag_ms"] < 1000
        await tap
        last = row(gateway)
        assert (last["ledger"]["dropped"], last["abandoned"]) == (0, 0)
        for name in sim.symbols:
            ids = [
                event["id"]
                for event in await entries(client, f"truetape.trade.kraken.{name}")
                if event["kind"] == "trade"
            ]
            once = list(dict.fromkeys(ids))
            ours = [event.id for event in mine if isinstance(event, truetape.Trade) and event.symbol == name]
            start = once.index(ours[0])
            assert once[start : start + len(ours)] == ours, "at least once, and first times in order"
        await client.aclose()


async def test_streams_keep_about_maxlen_entries() -> None:
    with RedisServer("--stream-node-max-entries", "10") as server:
        client = Redis(port=server.port)
        async with running(600, kind="redis_stream", url=server.url, maxlen=30, channels=["book_delta"]) as (
            sim,
            gateway,
        ):
            await until(lambda: row(gateway)["published"] > 400, "400 events")
            for name in sim.symbols:
                assert 30 <= await client.xlen(f"truetape.book_delta.kraken.{name}") <= 41
        await client.aclose()


async def test_a_reader_too_slow_for_the_servers_output_buffer_is_the_servers_affair() -> None:
    """Redis cuts a subscriber that does not read; the sink and the feed do not notice."""
    with RedisServer("--client-output-buffer-limit", "pubsub 32kb 16kb 1") as server:
        client = Redis(port=server.port)
        lazy_reader, lazy = await asyncio.open_connection("127.0.0.1", server.port, limit=1024)
        lazy.write(b"PSUBSCRIBE truetape.*\r\n")
        async with asyncio.timeout(10):
            await lazy_reader.readline()
        async with running(1000, kind="redis", url=server.url, channels=["book"], depth=0) as (_, gateway):
            async with asyncio.timeout(60):
                while await client.client_list(_type="pubsub"):
                    await asyncio.sleep(0.05)
            since = row(gateway)["published"]
            await until(lambda: row(gateway)["published"] > since + 200, "it goes on")
            assert (row(gateway)["outages"], row(gateway)["ledger"]["dropped"]) == (0, 0)
            balanced(gateway)
        lazy.close()
        await client.aclose()


async def test_a_server_without_memory_is_an_outage_that_ends() -> None:
    with RedisServer() as server:
        client = Redis(port=server.port)
        how = {"channels": ["trade"], "bound": 50, "maxlen": 0}
        async with running(400, kind="redis_stream", url=server.url, **how) as (_, gateway):
            await until(lambda: row(gateway)["published"] > 50, "50 events")
            await client.config_set("maxmemory", 1)
            await until(lambda: row(gateway)["state"] == "DOWN" and row(gateway)["errors"] > 2, "it is refused")
            assert "OutOfMemory" in row(gateway)["last_error"]
            assert row(gateway)["outages"] == 1, "a socket that opens is no recovery"
            await until(lambda: row(gateway)["ledger"]["dropped"] > 0, "the box gives way")
            await client.config_set("maxmemory", 0)
            since = row(gateway)["published"]
            await until(lambda: row(gateway)["published"] > since + 100, "it goes on")
            balanced(gateway)
        last = row(gateway)
        every = [e for key in await client.keys("truetape.*") for e in await entries(client, key.decode())]
        assert len(every) == last["published"], "what was answered was not sent again"
        assert sum(e["dropped"] for e in every if e["kind"] == "lagged") == last["ledger"]["dropped"]
        await client.aclose()


CANARY = "canary-51ab9e-of-a-password"


async def test_a_wrong_password_is_shown_nowhere_and_a_right_one_is_read_on_the_next_dial(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level("DEBUG")
    with RedisServer("--requirepass", CANARY) as server:
        monkeypatch.setenv("BUS_WORD", CANARY + "-but-wrong")
        async with running(kind="redis", url=server.url, secret="env:BUS_WORD") as (_, gateway):
            await until(lambda: row(gateway)["errors"] > 1, "it is refused")
            assert row(gateway)["state"] == "DOWN"
            assert "invalid username-password" in row(gateway)["last_error"]
            shown = msgspec.json.encode(gateway.status()).decode()
            monkeypatch.setenv("BUS_WORD", CANARY)
            await until(lambda: row(gateway)["published"] > 20, "it is let in")
            shown += msgspec.json.encode(gateway.status()).decode()
    out, err = capfd.readouterr()
    assert CANARY not in shown + caplog.text + out + err
