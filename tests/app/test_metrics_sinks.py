"""What `/metrics` tells of sinks, beside real servers that are killed and come back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
from redis.asyncio import Redis

from bus_servers import NatsServer, RedisServer
from sinks_room import row, running, until
from tests.app.test_metrics import parsed
from truetape.app.live import Gateway
from truetape.app.metrics import exposition
from truetape.app.metrics_sinks import DEFINITIONS


def told(gateway: Gateway, **labels: str) -> dict[str, float]:
    """Metrics of sinks with these labels, by their short name; `name:reason` and `name:state` where there is one."""
    found: dict[str, float] = {}
    for name, samples in parsed(exposition(gateway).text().decode()).items():
        for key, value in samples.items():
            has = dict(key)
            if name.startswith("truetape_sink_") and all(has.get(label) == want for label, want in labels.items()):
                more = has.get("state") or has.get("reason")
                found[name.removeprefix("truetape_sink_") + (f":{more}" if more else "")] = value
    return found


async def test_an_outage_and_its_losses_are_in_the_metrics_as_in_the_ledger() -> None:
    with RedisServer() as server:
        client = Redis(port=server.port)
        how: dict[str, Any] = {
            "kind": "redis_stream",
            "name": "cache",
            "url": server.url,
            "bound": 50,
            "in_flight_bytes": 4096,
        }
        async with running(600, **how, channels=["trade", "book_delta"], maxlen=0) as (_, gateway):
            await until(lambda: row(gateway)["published"] > 100, "100 events")
            up = told(gateway, sink="cache")
            assert (up["state:UP"], up["state:DOWN"], up["state:CLOSED"]) == (1, 0, 0)
            assert up["published_events_total"] > 100 and up["published_bytes_total"] > 10_000
            assert (up["outages_total"], up["reconnects_total"], up["lost_events_total:dropped"]) == (0, 0, 0)
            server.kill()
            await until(lambda: row(gateway)["ledger"]["dropped"] > 100, "the box gives way")
            shown, away = row(gateway), told(gateway, sink="cache")
            assert (away["state:UP"], away["state:DOWN"], away["outages_total"], away["reconnects_total"]) == (
                0,
                1,
                1,
                0,
            )
            assert away["queue_events"] == shown["ledger"]["queued"] + shown["in_hand"] == shown["queued"] > 0
            assert away["queue_bytes"] >= 140 * shown["ledger"]["queued"], (
                "a bare event has 280, of which others may hold a part"
            )
            assert away["errors_total"] > 0
            assert gateway.pulse.held()["sinks"] >= 280 * row(gateway)["in_hand"]
            server.start()
            await until(lambda: row(gateway)["published"] > up["published_events_total"] + 200, "it goes on")
            back = told(gateway, sink="cache")
            assert (back["state:UP"], back["outages_total"], back["reconnects_total"]) == (1, 1, 1)
            assert set(back) == set(away)
        last, final = row(gateway), told(gateway, sink="cache")
        assert final["state:CLOSED"] == 1
        assert final["lost_events_total:dropped"] == last["ledger"]["dropped"] > 100
        assert final["published_events_total"] == last["published"]
        assert final["published_bytes_total"] == last["bytes"]
        assert (final["queue_events"], final["queue_bytes"]) == (0, 0)
        keys = [key.decode() for key in await client.keys("truetape.*")]
        since = [msgspec.json.decode(fields[b"event"]) for key in keys for _, fields in await client.xrange(key)]
        assert (
            sum(event["dropped"] for event in since if event["kind"] == "lagged") == final["lost_events_total:dropped"]
        )
        await client.aclose()


async def test_what_is_too_big_and_what_was_merged_is_told_apart(tmp_path: Path) -> None:
    """NATS takes a kilobyte here: whole books of 50 levels do not fit, trades do."""
    (tmp_path / "nats.conf").write_text("max_payload: 1024\n")
    with NatsServer("-c", str(tmp_path / "nats.conf")) as server:
        how: dict[str, Any] = {"name": "bus", "url": server.url, "mode": "conflate", "conflate_ms": 50}
        async with running(600, **how, channels=["trade", "book"]) as (_, gateway):
            await until(lambda: row(gateway)["refused"] > 5 and row(gateway)["ledger"]["conflated"] > 50, "both")
        found, last = told(gateway, sink="bus"), row(gateway)
    assert found["lost_events_total:too_big"] == last["refused"] > 5
    assert found["lost_events_total:conflated"] == last["ledger"]["conflated"] > 50
    assert (found["lost_events_total:dropped"], found["outages_total"]) == (0, 0)


async def test_every_metric_of_sinks_has_a_value_as_soon_as_there_is_one() -> None:
    with RedisServer() as server:
        async with running(100, kind="redis", url=server.url) as (_, gateway):
            names = {name for name in parsed(exposition(gateway).text().decode()) if name.startswith("truetape_sink_")}
            assert names == {definition.name for definition in DEFINITIONS}


@pytest.mark.parametrize("name", ['a "quoted\\ name",} 1', "ü\n# HELP x"])
async def test_a_strange_name_is_a_label_and_nothing_else(name: str) -> None:
    with RedisServer() as server:
        async with running(100, kind="redis", url=server.url, name=name) as (_, gateway):
            assert told(gateway, sink=name)["outages_total"] == 0
