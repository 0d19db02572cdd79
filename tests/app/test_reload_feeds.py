"""Whole feeds come, go and are made anew while a gateway runs: who is told what, who notices nothing, and that the tape tells it again."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect

import truetape
from tests.app.conftest import last_json, run
from tests.app.test_drain import free_port, running
from tests.app.test_reload import WITHIN, reconnects, until
from truetape.app.live import Gateway
from truetape.app.sim import Options, Simulator
from truetape.io.serve.control import ask
from truetape.io.store import reader
from truetape.model.event import Gap, Status


class File:
    """A configuration on disk; each feed is a list of lines, so that a test can change them."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.feeds: dict[str, list[str]] = {}
        self.more = ""

    def feed(self, sim: Simulator, *lines: str, count: int = 2, name: str = "") -> None:
        venue = sim.options.venue
        self.feeds[name or venue] = [
            f'venue = "{venue}"', f'name = "{name or venue}"', f"symbols = {json.dumps(sim.symbols[:count])}",
            f'url = "{sim.ws}"', f'rest_url = "{sim.rest}"', *lines,
        ]  # fmt: skip

    def write(self) -> None:
        tables = ["[[feeds]]\n" + "\n".join(lines) for lines in self.feeds.values()]
        tape = f'[journal]\ndir = "{self.path.parent / "tape"}"\nsegment_bytes = 65536\n'
        self.path.write_text("\n".join([*tables, tape, "[serve]\nport = 0\n", self.more]))


@asynccontextmanager
async def reloadable(
    tmp_path: Path, *lines: str, more: str = ""
) -> AsyncIterator[tuple[File, Gateway, Simulator, Simulator]]:
    """A gateway with a feed of Kraken; there is a Binance too."""
    kraken = Simulator(Options(venue="kraken", symbols=3, rate=100))
    binance = Simulator(Options(venue="binance", symbols=3, rate=100))
    async with kraken, binance:
        file = File(tmp_path / "gateway.toml")
        file.feed(kraken, *lines)
        file.more = more
        file.write()
        async with truetape.open(file.path) as gateway:
            assert await gateway.ready()
            yield file, gateway, kraken, binance


def books(gateway: Gateway) -> dict[str, str]:
    return {f"{s.venue}:{s.symbol}": s.state for link in gateway.pump.links.values() for s in link.book_streams()}


def live(gateway: Gateway, count: int) -> bool:
    return list(books(gateway).values()) == ["LIVE"] * count


def ids(sim: Simulator, count: int) -> list[str]:
    return [f"{sim.options.venue}:{symbol}" for symbol in sim.symbols[:count]]


async def reloaded(file: File, gateway: Gateway) -> dict[str, Any]:
    file.write()
    said = await gateway.reload()
    assert "error" not in said, said
    return said


def replayed(folder: Path, *arguments: object) -> dict[str, Any]:
    done = run("replay", folder, "--json", *arguments)
    assert done.returncode == 0, done.stderr
    tree: dict[str, Any] = last_json(done.stdout)
    return tree


def segments(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if ".tape" in path.name)


class Client:
    """A downstream client that keeps what it was told until it is asked for."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self.told: list[dict[str, Any]] = []

    async def heard(self, venue: str, **fields: str) -> dict[str, Any]:
        """The next event of that venue with these fields; what came before it is let go."""
        async with asyncio.timeout(WITHIN):
            while True:
                while self.told:
                    event = self.told.pop(0)
                    if event.get("venue") == venue and all(event.get(key) == value for key, value in fields.items()):
                        return event
                self.told = json.loads(await self.socket.recv()).get("events", [])


async def subscribed(gateway: Gateway, *symbols: str) -> Client:
    assert gateway.service is not None
    socket = await connect(f"ws://127.0.0.1:{gateway.service.port}/v1/stream")
    asked = {"type": "subscribe", "id": 1, "symbols": symbols, "channels": ["book", "trade"]}
    await socket.send(json.dumps(asked))
    return Client(socket)


async def test_a_feed_comes_and_whoever_asked_for_everything_gets_it(tmp_path: Path) -> None:
    async with reloadable(tmp_path) as (file, gateway, kraken, binance):
        client = await subscribed(gateway, "*")
        await client.heard("kraken", kind="trade")
        with gateway.subscribe("*", "book", bound=100_000) as box:
            file.feed(binance)
            said = await reloaded(file, gateway)
            assert said["added"] == ["feed binance"]
            await client.heard("binance", kind="book")
            assert await client.heard("binance", kind="trade")
            async with asyncio.timeout(WITHIN):
                while (event := (await box.take(1))[0]).venue != "binance" or isinstance(event, Status):
                    pass
            await until(lambda: books(gateway) == dict.fromkeys([*ids(kraken, 2), *ids(binance, 2)], "LIVE"))
            assert gateway.book(f"binance:{binance.symbols[0]}").spread is not None
            with gateway.subscribe(f"binance:{binance.symbols[2]}", "trade") as more:
                assert await more.take(1), "what the file does not name can be asked of it"
        assert reconnects(gateway) == 0
        assert [feed.name for feed in gateway.feeds] == ["kraken", "binance"]
        await client.socket.close()


async def test_a_feed_goes_and_its_consumers_are_told_in_band(tmp_path: Path) -> None:
    async with reloadable(tmp_path) as (file, gateway, kraken, binance):
        file.feed(binance)
        await reloaded(file, gateway)
        await until(lambda: live(gateway, 4))
        client = await subscribed(gateway, f"kraken:{kraken.symbols[0]}", f"binance:{binance.symbols[0]}")
        await client.heard("kraken", kind="trade")
        await client.heard("binance", kind="trade")
        with gateway.subscribe("binance:*", "book", bound=100_000) as box:
            del file.feeds["binance"]
            said = await reloaded(file, gateway)
            assert said["removed"] == ["feed binance"]
            told = await box.take(100_000)
            gaps = [event for event in told if isinstance(event, Gap)]
            closed = [event for event in told if isinstance(event, Status) and event.state == "CLOSED"]
            why = "removed from the configuration"
            assert {(gap.symbol, gap.reason, gap.recovered) for gap in gaps} == {
                (s, why, False) for s in binance.symbols[:2]
            }
            assert {(row.channel, row.reason) for row in closed} == {("book", why), ("trade", why), ("", why)}
        assert (await client.heard("binance", kind="gap"))["reason"] == why
        assert (await client.heard("binance", kind="status", channel="book"))["state"] == "CLOSED"
        await client.heard("kraken", kind="trade")
        with pytest.raises(truetape.ConfigError, match="expected a symbol as venue:SYMBOL with a venue of kraken"):
            gateway.subscribe(f"binance:{binance.symbols[0]}")
        tree = gateway.status()
        assert {row["venue"] for row in tree["subscriptions"]} == {"kraken"}
        assert [row["name"] for row in tree["connections"]] == ["kraken-1"]
        assert {row["feed"] for row in tree["endpoints"]} == {"kraken"}
        assert gateway.service is not None
        assert gateway.service.waiting_for() is None
        await until(lambda: not binance._peers)
        file.feed(binance)
        await reloaded(file, gateway)
        await client.heard("binance", kind="book")
        assert reconnects(gateway) == 0
        await client.socket.close()


async def test_a_feed_that_changed_is_made_anew_and_others_notice_nothing(tmp_path: Path) -> None:
    async with reloadable(tmp_path) as (file, gateway, kraken, binance):
        file.feed(binance)
        await reloaded(file, gateway)
        await until(lambda: live(gateway, 4))
        own = f"kraken:{kraken.symbols[2]}"  # only a consumer wants it
        with gateway.subscribe([own, "kraken:*"], "book", bound=100_000, depth=5) as box:
            await until(lambda: books(gateway).get(own) == "LIVE")
            before = gateway.pump.links["kraken-1"].session
            frames = gateway.pump.links["kraken-1"].counts.frames
            await box.take(100_000)
            file.feed(kraken, "depth = 10", 'profile = "fast"')
            said = await reloaded(file, gateway)
            assert said["changed"] == ["feeds.kraken (depth, profile): made anew"]
            assert said["added"] == said["removed"] == []
            assert gateway.pump.links["kraken-1"].session is not before
            assert gateway.pump.links["kraken-1"].counts.frames >= frames, "counters never fall"
            await until(lambda: live(gateway, 5))
            told = await box.take(100_000)
            why = "the configuration changed: depth, profile"
            assert any(isinstance(event, Gap) and event.reason == why and not event.recovered for event in told)
            assert any(isinstance(event, Gap) and event.reason == why and event.recovered for event in told)
        assert not any(gap.venue == "binance" for gap in gateway.pump.gaps)
        assert reconnects(gateway) == 0


async def test_the_tape_of_a_run_with_reloads_is_played_to_the_same_digest(tmp_path: Path) -> None:
    """From its beginning, and from any later segment: what runs is in the checkpoints."""
    async with reloadable(tmp_path, "lines = 2") as (file, gateway, kraken, binance):

        async def on(count: int) -> None:
            begun = gateway.pump.digest.counts().get("trade", 0)
            await until(lambda: gateway.pump.digest.counts().get("trade", 0) > begun + count)

        await on(100)
        file.feed(binance)
        await reloaded(file, gateway)
        await on(300)
        file.feed(kraken, "depth = 10", count=3)
        await reloaded(file, gateway)
        await on(300)
        del file.feeds["kraken"]
        await reloaded(file, gateway)
        await on(100)
        file.feed(kraken, name="other")
        file.feed(binance, count=3)
        await reloaded(file, gateway)
        await until(lambda: list(books(gateway).values()).count("LIVE") == 5)
        await on(100)
    digest = gateway.pump.digest.value()
    folder = tmp_path / "tape"
    verified = run("verify", folder)
    assert verified.returncode == 0, verified.stderr
    tree = replayed(folder)
    assert tree["digest"] == digest
    assert "diverged" not in tree
    assert {name.partition(":")[0] for name in tree["books"]} == {"kraken", "binance"}
    files = segments(folder)
    assert len(files) > 4
    for count in range(1, len(files)):
        copy = tmp_path / f"from-{count}"
        shutil.copytree(folder, copy)
        for path in segments(copy)[:count]:
            path.unlink()
        tree = replayed(copy)
        assert tree["digest"] == digest, f"without the first {count} segments of {len(files)}"
        assert "diverged" not in tree
    assert any(not isinstance(part, reader.Header) for part in reader.read(folder))


async def test_a_feed_of_a_venue_that_is_away_comes_when_the_venue_does(tmp_path: Path) -> None:
    async with reloadable(tmp_path) as (file, gateway, _kraken, _binance):
        port = free_port()
        file.feeds["away"] = ['venue = "binance"', 'name = "away"', 'symbols = ["BTC-USDT"]', f'url = "ws://127.0.0.1:{port}/stream"',
                              f'rest_url = "http://127.0.0.1:{port}"', "backoff_first_s = 0.1", "backoff_max_s = 0.2"]  # fmt: skip
        await reloaded(file, gateway)
        link = gateway.pump.links["away-1"]
        assert link.session is not None
        session = link.session
        await until(lambda: session.state == "WAITING" and session.attempts > 1)
        assert gateway.service is not None
        assert gateway.service.waiting_for() == "waiting for binance:BTC-USDT SYNCING"
        await reloaded(file, gateway)
        assert gateway.pump.links["away-1"] is link, "nothing had changed"
        async with Simulator(Options(venue="binance", symbols=1, rate=50, port=port)):
            await until(lambda: books(gateway)["binance:BTC-USDT"] == "LIVE" and gateway.service.waiting_for() is None)  # type: ignore[union-attr]
        del file.feeds["away"]
        await reloaded(file, gateway)
        assert list(gateway.pump.links) == ["kraken-1"]


async def test_a_feed_that_goes_while_it_is_dialed_is_not_heard_of_again(tmp_path: Path) -> None:
    """Its name may be another's at once."""

    async def mute(reading: asyncio.StreamReader, writing: asyncio.StreamWriter) -> None:
        await reading.read()  # no answer to a handshake
        writing.close()

    async with (
        reloadable(tmp_path) as (file, gateway, _kraken, binance),
        await asyncio.start_server(mute, "127.0.0.1") as server,
    ):
        port = server.sockets[0].getsockname()[1]
        file.feed(binance)
        lines = file.feeds["binance"]
        file.feeds["binance"] = [
            *(line for line in lines if "url" not in line),
            f'url = "ws://127.0.0.1:{port}/"',
            f'rest_url = "{binance.rest}"',
        ]
        await reloaded(file, gateway)
        session = gateway.pump.links["binance-1"].session
        assert session is not None
        assert session.state == "DIALING"
        file.feed(binance)
        await reloaded(file, gateway)
        await until(lambda: live(gateway, 4))
        assert reconnects(gateway) == 0
        file.feeds["binance"] = [
            *(line for line in lines if "url" not in line),
            f'url = "ws://127.0.0.1:{port}/"',
            f'rest_url = "{binance.rest}"',
        ]
        await reloaded(file, gateway)
        del file.feeds["binance"]
        await reloaded(file, gateway)
        await heard_of_nothing(gateway)


async def heard_of_nothing(gateway: Gateway) -> None:
    """Some ticks later the gateway runs as before."""
    with gateway.subscribe("*", "trade") as trades:
        for _ in range(20):
            async with asyncio.timeout(WITHIN):
                await trades.take(1)
    assert list(gateway.pump.links) == ["kraken-1"]


async def test_what_consumers_hold_of_a_feed_that_went_is_asked_for_when_it_comes_again(tmp_path: Path) -> None:
    async with reloadable(tmp_path) as (file, gateway, _kraken, binance):
        file.feed(binance)
        await reloaded(file, gateway)
        await until(lambda: live(gateway, 4))
        own = binance.symbols[2]
        client = await subscribed(gateway, f"binance:{own}")
        await client.heard("binance", kind="book")
        other = await subscribed(gateway, f"binance:{own}")
        await other.heard("binance", kind="book")
        lines = file.feeds.pop("binance")
        await reloaded(file, gateway)
        other.socket.transport.abort()  # what it held is kept for a while, of a feed that is not there
        await until(lambda: sum("#" in box.name for box in gateway.boxes) == 1)
        file.feeds["binance"] = lines
        await reloaded(file, gateway)
        await until(lambda: books(gateway).get(f"binance:{own}") == "LIVE")
        await client.heard("binance", symbol=own, kind="book")
        await client.socket.close()


async def test_symbols_of_a_feed_that_spells_by_the_venues_list_come_and_go(tmp_path: Path) -> None:
    async with reloadable(tmp_path) as (file, gateway, kraken, binance):
        file.feed(binance, "instruments = true", count=1)
        await reloaded(file, gateway)
        await until(lambda: live(gateway, 3))
        assert len(gateway.feeds[1].names) == 3, "the venue's own list was fetched"
        file.feed(binance, "instruments = true", count=3)
        said = await reloaded(file, gateway)
        assert len(said["added"]) == 4
        await until(lambda: live(gateway, 5))
        file.feed(binance, "instruments = true", count=2)
        assert len((await reloaded(file, gateway))["removed"]) == 2
        assert sorted(books(gateway)) == sorted([*ids(kraken, 2), *ids(binance, 2)])
        assert reconnects(gateway) == 0


async def test_many_orders_at_once_are_followed_one_after_the_other(tmp_path: Path) -> None:
    async with reloadable(tmp_path) as (file, gateway, _kraken, binance):
        file.feed(binance, "instruments = true")
        file.write()
        asked = [gateway.reload_soon() for _ in range(10)]
        (first,) = dict.fromkeys(asked)
        assert first is not None
        await asyncio.sleep(0)  # it has begun, and waits for the venue's list
        del file.feeds["binance"]
        file.write()
        later = gateway.reload_soon()
        assert later is not None
        assert later is not first
        assert (await first)["added"] == ["feed binance"]
        assert (await later)["removed"] == ["feed binance"]
        assert list(gateway.pump.links) == ["kraken-1"]


async def test_any_part_of_a_file_is_refused_or_is_what_it_says(tmp_path: Path) -> None:
    async with reloadable(tmp_path) as (file, gateway, _kraken, binance):
        file.feed(binance)
        file.write()
        text = file.path.read_text()
        for end in range(0, len(text), 23):
            file.path.write_text(text[:end])
            said = await gateway.reload()
            assert ("error" in said) != said.get("ok", False)
            config = gateway.config
            assert [feed.name for feed in config.feeds] == [feed.name for feed in gateway.feeds]
        file.write()
        assert "cannot come or go" in (await gateway.reload()).get("error", "cannot come or go")


async def test_a_feed_that_is_re_broadcast_does_not_go(tmp_path: Path) -> None:
    async with reloadable(tmp_path, more='native = ["kraken"]') as (file, gateway, _kraken, binance):
        file.feed(binance)
        del file.feeds["kraken"]
        file.write()
        assert "serve.native: expected venues that a feed carries (binance)" in (await gateway.reload())["error"]
        assert books(gateway)


async def test_signals_in_a_process_ten_in_a_row_and_during_a_drain(tmp_path: Path) -> None:
    async with (
        Simulator(Options(venue="kraken", symbols=2, rate=50)) as kraken,
        Simulator(Options(venue="binance", symbols=2, rate=50)) as binance,
    ):
        file = File(tmp_path / "unused.toml")
        file.feed(kraken)
        file.feed(binance)
        tables = {name: "[[feeds]]\n" + "\n".join(lines) + "\n" for name, lines in file.feeds.items()}
        with running(tmp_path, tables["kraken"]) as gateway:
            await gateway.until("/readyz", 200)
            path, socket = tmp_path / "gateway.toml", tmp_path / "run" / "truetape.sock"
            text = path.read_text()

            def put(extra: str) -> None:
                (tmp_path / "next.toml").write_text(text.replace(tables["kraken"], tables["kraken"] + extra))
                (tmp_path / "next.toml").rename(path)

            def names() -> list[str]:
                return [row["name"] for row in ask(socket, {"do": "status"})["connections"]]

            for number in range(10):
                put(tables["binance"] if number % 2 else "")
                os.kill(gateway.pid, signal.SIGHUP)
            await until(lambda: names() == ["kraken-1", "binance-1"])
            await gateway.until("/readyz", 200)
            done = await asyncio.to_thread(run, "reload", cwd=tmp_path)
            assert (done.returncode, done.stderr.strip()) == (0, "nothing had changed")
            put("")
            os.kill(gateway.pid, signal.SIGTERM)
            os.kill(gateway.pid, signal.SIGHUP)
            assert await asyncio.to_thread(gateway.process.wait, WITHIN) == 0
        said = [json.loads(line) for line in (tmp_path / "stderr").read_text().splitlines() if line.startswith("{")]
        assert not [
            row
            for row in said
            if row["event"] in ("bug", "reload refused") and "the gateway ends" not in row.get("reason", "")
        ]
        stopped = next(row for row in said if row["event"] == "stopped")
        assert replayed(tmp_path / "tape")["digest"] == stopped["digest"]
