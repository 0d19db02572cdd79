"""`/metrics`, scraped from a real gateway over a real socket, and read by Prometheus' own parser."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import pytest
from prometheus_client.parser import text_string_to_metric_families
from websockets.asyncio.client import connect

import truetape
from truetape.app.config_serve import ServeConfig
from truetape.app.live import Gateway
from truetape.app.metrics import DEFINITIONS, exposition
from truetape.app.sim import Options, Simulator
from truetape.app.tape_server import TapeServer
from truetape.core.route.tally import CAUSES, cause

HOSTILE = 'a "quoted\\ name",} 1\n# HELP x\ntruetape_fake_total 7'
Found = dict[str, dict[tuple[tuple[str, str], ...], float]]


@asynccontextmanager
async def served(tmp_path: Path, name: str = "spot", **serve: Any) -> AsyncIterator[Gateway]:
    async with Simulator(Options(venue="kraken", symbols=3, rate=200)) as sim:
        feed = {"name": name, "venue": "kraken", "symbols": sim.symbols, "url": sim.ws, "rest_url": sim.rest}
        tree = {"feeds": [feed], "serve": {"port": 0, **serve}, "journal": {"dir": str(tmp_path / "tape")}}
        async with truetape.open(tree) as gateway:
            assert await gateway.ready()
            yield gateway


async def get(gateway: Gateway, path: str) -> tuple[int, str, str]:
    assert gateway.service is not None
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.service.port)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
    async with asyncio.timeout(10):
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        size = int(re.search(r"(?i)content-length: (\d+)", head)[1])  # type: ignore[index]
        body = (await reader.readexactly(size)).decode()
    writer.close()
    return int(head.split()[1]), head, body


def parsed(text: str) -> Found:
    found: Found = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found.setdefault(sample.name, {})[tuple(sorted(sample.labels.items()))] = sample.value
    return found


async def scraped(gateway: Gateway) -> Found:
    status, head, body = await get(gateway, "/metrics")
    assert status == 200, body
    assert "text/plain; version=0.0.4" in head
    return parsed(body)


async def test_what_is_exposed_is_what_the_gateway_counted(tmp_path: Path) -> None:
    async with served(tmp_path) as gateway:
        with gateway.subscribe("*", ["book", "trade"], name="reader") as box:
            got = 0
            while got < 200:
                got += len(await box.take())
            found = await scraped(gateway)
            labels = (("feed", "spot"), ("venue", "kraken"))
            assert found["truetape_feed_connections"][(*labels[:1], ("state", "OPEN"), *labels[1:])] == 1
            link = next(iter(gateway.pump.links.values()))
            assert 0 < found["truetape_feed_messages_total"][labels] <= link.counts.frames
            assert found["truetape_feed_books"][(("feed", "spot"), ("state", "LIVE"), ("venue", "kraken"))] == 3
            delivered = found["truetape_consumer_delivered_events_total"][(("consumer", "reader"),)]
            assert delivered == box.ledger.delivered > 0, "data; notices are not among them"
            assert found["truetape_ready_state"][()] == 1
            assert found["truetape_journal_flushed_record"][()] <= found["truetape_journal_next_record"][()]
            assert found["truetape_memory_budget_bytes"][()] == 512e6
            assert 10e6 < found["truetape_memory_resident_bytes"][()] < 512e6
            counted = found["truetape_delay_seconds_bucket"]
            total = counted[(("feed", "spot"), ("le", "+Inf"), ("stage", "network"), ("venue", "kraken"))]
            assert total > 0
            edges = [value for key, value in counted.items() if ("stage", "network") in key]
            assert edges == sorted(edges), "cumulative, in the order of the edges"
        after = await scraped(gateway)
        assert after["truetape_consumer_delivered_events_total"][(("consumer", "reader"),)] >= delivered


async def test_prometheus_own_linter_finds_nothing(tmp_path: Path) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        assert os.environ.get("CI") != "true", "promtool is missing; .ci/run installs it"
        pytest.skip("needs promtool (apt-get install prometheus)")
    async with served(tmp_path) as gateway:
        _, _, body = await get(gateway, "/metrics")
    assert re.search(r'truetape_delay_quantile_seconds{.*quantile="0.5".*stage="network".*} [0-9.e-]+', body)
    done = subprocess.run([promtool, "check", "metrics"], input=body, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


async def test_totals_of_clients_never_fall_when_they_leave(tmp_path: Path) -> None:
    async with served(tmp_path) as gateway:
        assert gateway.service is not None
        async with connect(f"ws://127.0.0.1:{gateway.service.port}/v1/stream") as client:
            await client.recv()
            await client.send(json.dumps({"type": "subscribe", "id": 1, "symbols": ["*"], "channels": ["trade"]}))
            while json.loads(await client.recv())["type"] != "data":
                pass
            during = await scraped(gateway)
            assert during["truetape_clients_connected"][(("transport", "websocket"),)] == 1
        async with asyncio.timeout(10):
            while gateway.service.hall.clients:
                await asyncio.sleep(0.01)
        after = await scraped(gateway)
        assert after["truetape_clients_connected"][(("transport", "websocket"),)] == 0
        assert after["truetape_clients_sent_bytes_total"][()] >= during["truetape_clients_sent_bytes_total"][()] > 0
        key = (("consumer", next(dict(key)["consumer"] for key in during["truetape_consumer_boxes"])),)
        names = "truetape_consumer_delivered_events_total"
        assert after[names][key] >= during[names][key] > 0
        assert sum(after["truetape_clients_ended_total"].values()) == 1


async def test_totals_do_not_fall_when_a_bot_of_a_native_dialect_leaves(tmp_path: Path) -> None:
    async with served(tmp_path, native=["kraken"]) as gateway:
        assert gateway.service is not None
        async with connect(f"ws://127.0.0.1:{gateway.service.port}/native/kraken/v2") as bot:
            asked = {"channel": "trade", "symbol": list(gateway.feeds[0].names)[:1]}
            await bot.send(json.dumps({"method": "subscribe", "params": asked}))
            await bot.recv()
            during = await scraped(gateway)
            assert during["truetape_clients_connected"][(("transport", "native"),)] == 1
        async with asyncio.timeout(10):
            while gateway.service.natives.visits:
                await asyncio.sleep(0.01)
        after = await scraped(gateway)
        for name in ("truetape_clients_sent_bytes_total", "truetape_clients_sent_messages_total"):
            assert after[name][()] >= during[name][()] > 0


async def test_a_hostile_name_makes_no_metric_of_its_own(tmp_path: Path) -> None:
    async with served(tmp_path, name=HOSTILE) as gateway:
        with gateway.subscribe("*", "trade", name="\ud800" + "x" * 1000):
            found = await scraped(gateway)
    assert "truetape_fake_total" not in found
    assert {dict(key)["feed"] for key in found["truetape_feed_messages_total"]} == {HOSTILE}
    assert max(len(dict(key)["consumer"]) for key in found["truetape_consumer_boxes"]) == 200


async def test_no_label_tells_a_symbol_and_names_are_those_of_the_page(tmp_path: Path) -> None:
    async with served(tmp_path) as gateway:
        _, _, body = await get(gateway, "/metrics")
        symbols = [stream.symbol for link in gateway.pump.links.values() for stream in link.streams.values()]
    assert symbols
    assert [name for name in symbols if name in body] == []
    known = {row.name for row in DEFINITIONS}
    for family in text_string_to_metric_families(body):
        name = family.name + "_total" if family.type == "counter" else family.name
        assert name in known
    assert [row.name for row in DEFINITIONS if not re.fullmatch("truetape(_[a-z]+){2,}", row.name)] == []
    assert [row.name for row in DEFINITIONS if (row.kind == "counter") != row.name.endswith("_total")] == []


async def test_where_tokens_are_asked_for_only_operators_read_it(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("0123456789abcdef0123456789abcdef")
    keys = [{"id": "one", "secret": f"file:{secret}"}]
    async with served(tmp_path, keys=keys, revoked_file=str(tmp_path / "revoked")) as gateway:
        assert (await get(gateway, "/metrics"))[0] == 401
        assert (await get(gateway, "/livez"))[0] == 200


async def test_a_tape_that_is_served_has_metrics_too(tmp_path: Path) -> None:
    async with served(tmp_path) as gateway:
        with gateway.subscribe("*", "trade") as box:
            await box.take()
    server = TapeServer(tmp_path / "tape", venue="", speed="max", start="", end="", how=ServeConfig(port=0))
    server.lead()
    found = parsed(exposition(cast("Gateway", server.stand)).text().decode())
    assert found["truetape_feed_messages_total"][(("feed", "spot"), ("venue", "kraken"))] > 0
    assert "truetape_loop_lag_seconds" not in found


def test_causes_are_a_closed_list() -> None:
    reasons = (
        "connection lost: reset by peer",
        "expected 5, found 8",
        "stale",
        "drift: price was a text",
        "what the venue said: 17",
    )
    assert [cause(reason) for reason in reasons] == ["connection_lost", "sequence", "stale", "drift", "other"]
    assert {cause(reason) for reason in reasons} <= set(CAUSES)
