"""The configuration read again while running: what changes, what is refused, and that nobody else notices."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

import truetape
from tests.app.conftest import last_json, run
from tests.app.test_drain import running
from truetape.app.live import Gateway
from truetape.app.sim import Options, Simulator
from truetape.io.clock import now as clock
from truetape.io.serve.control import ask
from truetape.io.serve.tokens import Keyring

APPLIED_S = 2.0
"""Promised."""
WITHIN = 20.0


class File:
    """A configuration on disk, of a simulated venue with four symbols."""

    def __init__(self, path: Path, sim: Simulator, serve: str = "") -> None:
        self.path = path
        self.sim = sim
        self.serve = serve

    def write(self, count: int, *, feed: str = "", serve: str = "", more: str = "") -> None:
        names = json.dumps(self.sim.symbols[:count])
        self.path.write_text(
            f'[[feeds]]\nvenue = "kraken"\nsymbols = {names}\nurl = "{self.sim.ws}"\nrest_url = "{self.sim.rest}"\n{feed}\n'
            f'[journal]\ndir = "{self.path.parent / "tape"}"\n{more}\n[serve]\nport = 0\n{self.serve}\n{serve}\n'
        )


@asynccontextmanager
async def reloadable(tmp_path: Path, serve: str = "") -> AsyncIterator[tuple[File, Gateway]]:
    async with Simulator(Options(venue="kraken", symbols=4, rate=200)) as sim:
        file = File(tmp_path / "gateway.toml", sim, serve)
        file.write(2)
        async with truetape.open(file.path) as gateway:
            assert await gateway.ready()
            yield file, gateway


def books(gateway: Gateway) -> dict[str, str]:
    return {s.symbol: s.state for link in gateway.pump.links.values() for s in link.book_streams()}


def reconnects(gateway: Gateway) -> int:
    return sum(link.session.reconnects for link in gateway.pump.links.values() if link.session is not None)


async def until(true: Callable[[], bool], within: float = WITHIN) -> None:
    async with asyncio.timeout(within):
        while not true():
            await asyncio.sleep(0.01)


async def test_symbols_come_and_go_and_nobody_else_notices(tmp_path: Path) -> None:
    async with reloadable(tmp_path) as (file, gateway):
        names = file.sim.symbols
        with gateway.subscribe(f"kraken:{names[0]}", "book_delta", bound=100_000) as box:
            file.write(3)
            began = clock()
            said = await gateway.reload()
            assert said["ok"]
            assert len(said["added"]) == 2, "book and trade"
            await until(lambda: books(gateway).get(names[2]) == "LIVE", APPLIED_S)
            assert clock() - began < APPLIED_S * 1e9
            file.write(1)
            assert len((await gateway.reload())["removed"]) == 4
            await until(lambda: set(books(gateway)) == {names[0]})
            file.write(2)
            assert (await gateway.reload())["ok"]
            await until(lambda: books(gateway) == {names[0]: "LIVE", names[1]: "LIVE"})
            assert await gateway.reload() == {
                "ok": True,
                "added": [],
                "removed": [],
                "changed": [],
                "said": ["nothing had changed"],
            }
            assert reconnects(gateway) == 0
            assert box.closed is None
            assert not any(gap.symbol == names[0] for gap in gateway.pump.gaps)
    digest = gateway.pump.digest.value()
    replayed = await asyncio.to_thread(run, "replay", tmp_path / "tape", "--json")
    assert last_json(replayed.stdout)["digest"] == digest, "orders of a reload are on the tape"


async def test_what_a_consumer_holds_stays_when_the_file_names_it_no_more(tmp_path: Path) -> None:
    async with reloadable(tmp_path) as (file, gateway):
        name = file.sim.symbols[1]
        with gateway.subscribe(f"kraken:{name}", "book"):
            file.write(1)
            assert (await gateway.reload())["ok"]
            assert books(gateway)[name] == "LIVE"
        await until(lambda: name not in books(gateway))


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"feed": 'url = "wss://elsewhere"'}, "expected TOML"),  # twice the same key
        ({"feed": 'secret = "env:NOT_SET"'}, "feed kraken: secret env:NOT_SET: the environment variable NOT_SET"),
        ({"feed": 'plan = "gold"'}, "feed kraken: plan: expected none"),
        ({"feed": 'ca_file = "/none.pem"'}, "ca_file /none.pem"),
        ({"feed": 'symbol = ["X"]'}, "symbol"),
        ({"more": "flush_ms = 20"}, "journal: cannot be changed while running"),
        ({"more": "[memory]\nbudget_mb = 1"}, "budget_mb"),
        ({"serve": 'host = "0.0.0.0"'}, "serve.host: cannot be changed while running"),
        ({"serve": 'native = ["kraken"]'}, "serve.native: cannot be changed while running"),
        ({"serve": '[[serve.keys]]\nid = "a"\nsecret = "env:NOT_SET"'}, "NOT_SET is not set"),
        ({"serve": '[[feeds]]\nvenue = "nyse"\nsymbols = ["BTC-USDT"]'}, "feed nyse: expected a venue of"),
        ({"serve": '[[feeds]]\nvenue = "tickdb"\nsymbols = ["AAPL.US"]'}, "feed tickdb: tickdb needs a key"),
        ({"serve": '[[feeds]]\nvenue = "kraken"\nname = "two"\nsymbols = ["BTC-USDT"]'}, "both carry kraken:BTC-USDT"),
        ({"serve": '[[sinks]]\nkind = "nats"\nurl = "nats://127.0.0.1"\nsymbols = ["okx:*"]'}, "sinks[0]: okx:*: expected"),
    ],
)  # fmt: skip
async def test_what_cannot_be_is_refused_and_nothing_changes(tmp_path: Path, change: dict[str, str], why: str) -> None:
    async with reloadable(tmp_path) as (file, gateway):
        before, config = books(gateway), gateway.config
        file.write(3, **change)  # a valid change of symbols beside it
        said = await gateway.reload()
        assert why in said["error"]
        assert "nothing was changed" in said["error"]
        assert (set(books(gateway)), gateway.config) == (set(before), config)
        file.path.unlink()
        assert "expected a config file, found nothing" in (await gateway.reload())["error"]


SECRETS = ("first-first-first-first-first-first", "other-other-other-other-other-other")


async def entered(url: str, keys: Keyring, key: str, name: str) -> ClientConnection:
    token = keys.issue(name, "reader", ["*"], clock() + 10**12, clock(), key)[0]
    client = await connect(url, additional_headers={"Authorization": f"Bearer {token}"})
    assert json.loads(await client.recv())["type"] == "hello"
    return client


async def test_keys_are_replaced_and_only_who_came_with_an_old_one_goes(tmp_path: Path) -> None:
    rows = []
    for name, secret in zip("ab", SECRETS, strict=True):
        (tmp_path / name).write_text(secret)
        rows.append(f'[[serve.keys]]\nid = "{name}"\nsecret = "file:{tmp_path / name}"\n')
    async with reloadable(tmp_path, "".join(rows)) as (file, gateway):
        assert gateway.service is not None
        keys = gateway.service.keyring
        assert keys is not None
        url = f"ws://127.0.0.1:{gateway.service.port}/v1/stream"
        old, kept = await entered(url, keys, "a", "anna"), await entered(url, keys, "b", "bob")
        file.serve = rows[1]
        file.write(2)
        assert (await gateway.reload())["changed"] == ["serve.keys"]
        assert json.loads(await old.recv())["reason"] == "revoked"
        with pytest.raises(ConnectionClosed):
            await old.recv()
        assert old.close_code == 4503
        await kept.send('{"type":"ping","ts":1}')
        assert json.loads(await kept.recv())["type"] == "pong"
        (tmp_path / "b").write_text(SECRETS[1] + "-new")  # the same reference, another value
        assert (await gateway.reload())["ok"]
        assert json.loads(await kept.recv())["reason"] == "revoked"
        assert gateway.service.keyring is not None
        again = await entered(url, gateway.service.keyring, "b", "bob")
        await again.close()
        await kept.close()


async def test_limits_are_replaced(tmp_path: Path) -> None:
    async with reloadable(tmp_path) as (file, gateway):
        assert gateway.service is not None
        file.write(
            2, serve="limits = { connections_per_address = 1, subscriptions = 3 }", more="[memory]\nbudget_mb = 640"
        )
        assert sorted((await gateway.reload())["changed"]) == ["memory", "serve.limits"]
        url = f"ws://127.0.0.1:{gateway.service.port}/v1/stream"
        async with connect(url) as client, connect(url) as refused:
            hello: dict[str, Any] = json.loads(await client.recv())
            assert 3 in [row.get("subscriptions") for row in hello.values() if isinstance(row, dict)]
            assert json.loads(await refused.recv())["reason"] == "policy"
        assert gateway.pulse.guard.budget == 640_000_000


async def test_a_signal_and_the_command_do_it_in_a_process(tmp_path: Path) -> None:
    async with Simulator(Options(venue="kraken", symbols=3, rate=100)) as sim:
        head = f'[[feeds]]\nvenue = "kraken"\nurl = "{sim.ws}"\nrest_url = "{sim.rest}"\nsymbols = '
        with running(tmp_path, head + json.dumps(sim.symbols[:1])) as gateway:
            await gateway.until("/readyz", 200)
            path = tmp_path / "gateway.toml"
            text = path.read_text()
            socket = tmp_path / "run" / "truetape.sock"

            def live() -> list[str]:
                rows = ask(socket, {"do": "status"})["subscriptions"]
                return sorted({row["symbol"] for row in rows if (row["channel"], row["state"]) == ("book", "LIVE")})

            path.write_text(text.replace(json.dumps(sim.symbols[:1]), json.dumps(sim.symbols[:2])))
            os.kill(gateway.pid, signal.SIGHUP)
            await until(lambda: live() == sorted(sim.symbols[:2]), APPLIED_S)
            path.write_text("[[feeds]]\nvenue = 5\n")
            done = await asyncio.to_thread(run, "reload", cwd=tmp_path)
            assert done.returncode == 1
            assert "refused, and nothing was changed" in done.stderr
            os.kill(gateway.pid, signal.SIGHUP)
            await until(lambda: (tmp_path / "stderr").read_text().count("reload refused") == 2)
            path.write_text(text.replace(json.dumps(sim.symbols[:1]), json.dumps(sim.symbols)))
            done = await asyncio.to_thread(run, "reload", "--json", cwd=tmp_path)
            assert done.returncode == 0
            assert len(last_json(done.stdout)["added"]) == 2
            await until(lambda: live() == sorted(sim.symbols))
            rows = ask(socket, {"do": "status"})["connections"]
            assert [row["reconnects"] for row in rows] == [0]
            os.kill(gateway.pid, signal.SIGTERM)
            assert await asyncio.to_thread(gateway.process.wait, WITHIN) == 0
