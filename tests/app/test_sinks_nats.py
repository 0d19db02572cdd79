"""Sinks with a real NATS server: what is published is what was in the gateway, and an outage is the sink's affair alone."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable
from typing import Any

import msgspec
import nats
import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg

import truetape
from bus_servers import NatsServer
from sinks_room import balanced, read, row, running, until
from truetape.app.config import ConfigError


class Reader:
    """All that comes by one subject, in order."""

    def __init__(self, decode: Callable[[bytes], Any] = msgspec.json.decode) -> None:
        self.got: list[tuple[str, dict[str, Any]]] = []
        self.decode = decode
        self.client: Client

    async def take(self, message: Msg) -> None:
        self.got.append((message.subject, self.decode(message.data)))

    async def begin(self, server: NatsServer, subject: str = "truetape.>", **how: Any) -> None:
        async def quiet(_: Exception) -> None:
            """The server is killed on purpose."""

        self.client = await nats.connect(server.url, error_cb=quiet, reconnect_time_wait=0.05, max_reconnect_attempts=-1, **how)  # fmt: skip
        await self.client.subscribe(subject, cb=self.take)
        await self.client.flush()

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [event for _, event in self.got if event["kind"] == kind]


@pytest.fixture
async def reader() -> AsyncIterator[Reader]:
    found = Reader()
    yield found
    if hasattr(found, "client"):
        await found.client.close()


@pytest.mark.parametrize("encoding", ["json", "msgpack"])
async def test_what_is_published_is_what_a_tap_in_process_reads_in_order(reader: Reader, encoding: str) -> None:
    if encoding == "msgpack":
        reader.decode = msgspec.msgpack.decode
    mine: list[Any] = []
    with NatsServer() as server:
        await reader.begin(server)
        async with running(400, url=server.url, channels=["trade", "book_delta"], encoding=encoding) as (sim, gateway):
            tap = asyncio.create_task(read(gateway.subscribe("*", ["trade", "book_delta"], bound=100_000), mine))
            await until(lambda: len(mine) > 500 and row(gateway)["state"] == "UP", "500 events")
            balanced(gateway)
        await tap
        last = row(gateway)
        assert (last["state"], last["abandoned"], last["outages"]) == ("CLOSED", 0, 0)
        await until(lambda: len(reader.got) >= last["published"], "what the sink flushed as it ended")
    assert len(reader.got) == last["published"], "nothing twice"
    for name in sim.symbols:
        for kind, tag in (("trade", "trade"), ("book_delta", "book")):
            place = f"truetape.{kind}.kraken.{name}"
            theirs = [event for at, event in reader.got if at == place and event["kind"] == tag]
            ours = [
                event
                for event in msgspec.to_builtins(mine)
                if event["kind"] == tag and event["symbol"] == name and not event.get("snapshot")
            ]
            stamps = [event["recv"] for event in theirs if not event.get("snapshot")]
            start = stamps.index(ours[0]["recv"])
            assert stamps[start : start + len(ours)] == [event["recv"] for event in ours]
            if kind == "book_delta":
                assert theirs[0]["snapshot"], "changes begin with a whole book"
                assert "marks" not in theirs[0]


async def test_an_outage_touches_no_feed_and_its_loss_is_told(reader: Reader) -> None:
    """The server stops as if its machine hung, and goes on: its readers stay connected, so that they must hear what they missed."""
    mine: list[Any] = []
    with NatsServer() as server:
        await reader.begin(server, ping_interval=3600)
        how = {"channels": ["trade", "book_delta"], "bound": 50, "confirm_s": 1.0, "in_flight_bytes": 4096}
        async with running(600, url=server.url, **how) as (_, gateway):
            tap = asyncio.create_task(read(gateway.subscribe("*", ["trade", "book_delta"], bound=100_000), mine))
            await until(lambda: len(reader.got) > 100, "100 events")
            server.freeze()
            await until(lambda: row(gateway)["state"] == "DOWN", "the outage is seen")
            before = len(mine)
            await until(lambda: len(mine) > before + 500, "the feed goes on")
            down = row(gateway)
            assert down["ledger"]["dropped"] > 0
            balanced(gateway)
            server.thaw()
            await until(lambda: row(gateway)["state"] == "UP", "back")
            await until(lambda: bool(reader.of("lagged")), "the loss is told")
            since = row(gateway)["published"]
            await until(lambda: row(gateway)["published"] > since + 200, "it goes on")
            balanced(gateway)
            connections = gateway.status()["connections"]
        await tap
        last = row(gateway)
        await until(lambda: len(reader.got) >= last["published"], "the rest")
    assert sum(event["dropped"] for event in reader.of("lagged")) == last["ledger"]["dropped"]
    assert last["outages"] == 1
    assert [link["reconnects"] for link in connections] == [0] * len(connections)
    assert not [event for event in mine if isinstance(event, truetape.Gap)]
    states = [event.state for event in mine if isinstance(event, truetape.Status) and not event.venue]
    assert [state for state in states if state.startswith("SINK")] == ["SINK_DOWN", "SINK_UP"]
    # after a loss of changes the next book of that symbol is whole
    for place in {at for at, _ in reader.got if ".book_delta." in at}:
        seen = [event for at, event in reader.got if at == place]
        for lost, then in itertools.pairwise(seen):
            if lost["kind"] == "lagged":
                assert then.get("snapshot"), then


async def test_a_server_that_is_killed_and_comes_back_is_found_again(reader: Reader) -> None:
    with NatsServer() as server:
        async with running(400, url=server.url, bound=50, confirm_s=60) as (
            _,
            gateway,
        ):  # seen by the loss, not by patience
            for outage in range(1, 4):
                await until(lambda: row(gateway)["state"] == "UP", "up")
                since = row(gateway)["published"]
                await until(lambda since=since: row(gateway)["published"] > since + 100, "it publishes")  # type: ignore[misc]
                server.kill()
                await until(lambda: row(gateway)["state"] == "DOWN", "the outage is seen")
                dropped = row(gateway)["ledger"]["dropped"]
                await until(lambda dropped=dropped: row(gateway)["ledger"]["dropped"] > dropped, "the box gives way")  # type: ignore[misc]
                balanced(gateway)
                assert row(gateway)["outages"] == outage
                server.start()
            await until(lambda: row(gateway)["state"] == "UP", "up at last")
            await reader.begin(server)
            await until(lambda: len(reader.got) > 100, "100 events")
            assert [link["reconnects"] for link in gateway.status()["connections"]] == [0]
            assert {s["state"] for s in gateway.status()["subscriptions"]} == {"LIVE"}
        balanced(gateway)


async def test_a_gateway_starts_and_ends_while_the_server_is_away() -> None:
    server = NatsServer()
    async with running(url=server.url, bound=20) as (_, gateway):
        await until(lambda: row(gateway)["ledger"]["dropped"] > 0, "the box gives way")
        assert row(gateway)["state"] == "DOWN"
        assert row(gateway)["last_error"]
    assert row(gateway)["state"] == "CLOSED"
    balanced(gateway)


CANARY = "canary-7d1f0c-of-a-token"


@pytest.mark.parametrize(("options", "user"), [(("--auth", CANARY), ""), (("--user", "u", "--pass", CANARY), "u")])
async def test_secrets_open_the_door_and_are_shown_nowhere(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str],
    options: tuple[str, ...], user: str,
) -> None:  # fmt: skip
    caplog.set_level("DEBUG")
    with NatsServer(*options) as server:
        monkeypatch.setenv("BUS_WORD", CANARY)
        async with running(url=server.url, user=user, secret="env:BUS_WORD") as (_, gateway):
            await until(lambda: row(gateway)["published"] > 20, "it is let in")
            shown = msgspec.json.encode(gateway.status()).decode()
        monkeypatch.setenv("BUS_WORD", CANARY + "-but-wrong")
        async with running(url=server.url, user=user, secret="env:BUS_WORD") as (_, gateway):
            await until(lambda: row(gateway)["errors"] > 1, "it is refused")
            assert row(gateway)["state"] == "DOWN"
            assert "uthorization" in row(gateway)["last_error"]
            shown += msgspec.json.encode(gateway.status()).decode()
            monkeypatch.setenv("BUS_WORD", CANARY)
            await until(lambda: row(gateway)["state"] == "UP", "the secret is read again on each dial")
    out, err = capfd.readouterr()
    assert CANARY not in shown + caplog.text + out + err


async def test_an_event_too_big_for_the_bus_is_told_in_its_place(reader: Reader, tmp_path: Any) -> None:
    config = tmp_path / "nats.conf"
    config.write_text("max_payload: 300\n")
    with NatsServer("-c", str(config)) as server:
        await reader.begin(server)
        async with running(url=server.url, depth=0) as (_, gateway):
            await until(lambda: row(gateway)["refused"] > 5 and len(reader.of("trade")) > 5, "both")
            found = row(gateway)
            assert found["state"] == "UP"
            assert found["outages"] == 0
            assert "expected at most 300 bytes" in found["last_error"]
            balanced(gateway)
        assert not reader.of("book")
        assert {(event["topic"], event["reason"]) for event in reader.of("lagged")} == {("book", "too_big")}


async def test_what_is_too_old_after_an_outage_is_told_and_not_sent(reader: Reader) -> None:
    with NatsServer() as server:
        await reader.begin(server, ping_interval=3600)
        how = {"mode": "max_age", "max_age_ms": 500, "confirm_s": 1.0, "in_flight_bytes": 1 << 20}
        async with running(400, url=server.url, **how) as (_, gateway):
            await until(lambda: len(reader.got) > 50, "50 events")
            server.freeze()
            await until(lambda: row(gateway)["state"] == "DOWN", "the outage is seen")
            server.thaw()
            await until(lambda: row(gateway)["state"] == "UP", "back")
            await until(lambda: any(e["reason"] == "expired" for e in reader.of("lagged")), "it is told")
            balanced(gateway)


@pytest.mark.parametrize(
    ("sink", "said"),
    [
        ({"url": "nats://user:word@127.0.0.1"}, "neither user, password nor query"),
        ({"url": "http://127.0.0.1"}, "begins with nats:// or tls://"),
        ({"url": "nats://127.0.0.1:99999"}, "begins with nats:// or tls://"),
        ({"secret": "the word itself"}, "expected a reference"),
        ({"user": "u"}, "expected the password"),
        ({"prefix": "a.*"}, "prefix"),
        ({"channels": ["nonsense"]}, "sinks[0]"),
        ({"symbols": ["nowhere:BTC-USD"]}, "sinks[0]"),
        ({"secret": "env:NOT_SET_ANYWHERE"}, "not set"),
        ({"mode": "disconnect"}, "mode"),
        ({"colour": 1}, "known keys: kind, url, name"),
    ],
)
async def test_what_cannot_be_is_said_at_start(sink: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said.replace("[", r"\[")) as refused:
        async with running(**{"url": "nats://127.0.0.1:4222", **sink}):
            pytest.fail("it started")
    assert "word itself" not in str(refused.value)
    assert ":word@" not in str(refused.value)


async def test_two_sinks_of_one_name_are_refused() -> None:
    sinks = [{"kind": "nats", "url": "nats://127.0.0.1"}] * 2
    with pytest.raises(ConfigError, match="unique names of sinks, found 'nats' twice"):
        truetape.open({"feeds": [{"venue": "kraken", "symbols": ["BTC-USD"]}], "sinks": sinks})
