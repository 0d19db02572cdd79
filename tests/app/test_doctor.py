"""The doctor, on real sockets: what is well, what is not, and that it works without a network."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path
from typing import Any

from tests.app.child import Child
from tests.app.conftest import last_json, run
from trace_room import Collector
from truetape.app.cert import make, pin
from truetape.app.config import parse
from truetape.app.doctor import examine
from truetape.app.finding import Finding
from truetape.app.sim import Options, Simulator
from truetape.app.stage import Stage
from truetape.app.symbols import resolve_all


async def examined(tree: dict[str, Any]) -> dict[str, Finding]:
    config = parse(tree, "config", {})
    return {row.check: row for row in await examine(config, resolve_all(config))}


def feed(sim: Simulator, **more: Any) -> dict[str, Any]:
    return {"name": "spot", "venue": "kraken", "symbols": sim.symbols, "url": sim.ws, "rest_url": sim.rest, **more}


async def test_a_sound_machine_is_well(tmp_path: Path) -> None:
    async with Simulator(Options(venue="kraken", symbols=2, rate=10)) as sim:
        found = await examined({
            "feeds": [feed(sim)], "journal": {"dir": str(tmp_path / "not" / "yet")}, "serve": {"port": 0, "socket": str(tmp_path / "s")},
            "control": {"socket": str(tmp_path / "c")},
        })  # fmt: skip
    for check in ("spot: name", "spot: TCP", "control socket", "unix socket", "memory", "extras"):
        assert found[check].verdict == "ok", found[check]
    assert "p99" in found["disk speed"].found
    assert list(tmp_path.iterdir()) == [], "nothing is left behind"


async def test_what_is_not_well_says_what_to_do(tmp_path: Path) -> None:
    with socket.socket() as taken, socket.socket() as closed:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        closed.bind(("127.0.0.1", 0))
        found = await examined({
            "feeds": [
                {"name": "shut", "venue": "kraken", "symbols": ["BTC-USD"], "url": f"ws://127.0.0.1:{closed.getsockname()[1]}"},
                {"name": "lost", "venue": "okx", "symbols": ["BTC-USDT"], "url": "wss://nowhere.invalid/ws", "secret": "env:NOT_SET_HERE"},
            ],
            "serve": {"port": taken.getsockname()[1], "limits": {"connections": 1_000_000}},
            "memory": {"budget_mb": 1 << 20},
        })  # fmt: skip
    for check in ("shut: TCP", "lost: name", "data port", "secret of lost", "memory"):
        assert (found[check].verdict, bool(found[check].todo)) == ("fail", True), found[check]
    assert "could not be checked" in found["lost: name"].todo
    assert found["open files"].verdict == "warn"
    assert "ulimit -n" in found["open files"].todo


def test_beside_its_own_gateway_what_that_listens_on_is_well(tmp_path: Path) -> None:
    with Stage("kraken", symbols=1) as stage:
        child = Child(tmp_path, stage.feed(), 'socket = "s.sock"\n[control]\nsocket = "c.sock"')
        child.start()
        assert child.process is not None
        try:
            done = run("doctor", child.path, "--json", cwd=tmp_path)
            rows = {row["check"]: row for row in last_json(done.stdout)["checks"]}
            assert f"process {child.process.pid}, up for" in rows["gateway"]["found"]
            for check in ("gateway", "data port", "control socket", "unix socket"):
                assert rows[check]["verdict"] == "ok", rows[check]
            with socket.create_server(("127.0.0.1", 0)) as taken:
                text = child.path.read_text().replace(str(child.port), str(taken.getsockname()[1]))
                other = tmp_path / "other.toml"
                other.write_text(text.replace('"s.sock"', '"t.sock"'))
                done = run("doctor", other, "--json", cwd=tmp_path)
            rows = {row["check"]: row for row in last_json(done.stdout)["checks"]}
            assert (done.returncode, rows["data port"]["verdict"]) == (1, "fail"), "somebody else's"
        finally:
            child.end()


async def test_a_collector_is_asked_whether_it_takes_spans() -> None:
    with Collector() as server:
        async with Simulator(Options(venue="kraken", symbols=1, rate=10)) as sim:
            tree: dict[str, Any] = {"feeds": [feed(sim)], "trace": {"endpoint": server.url, "within_s": 0.5}}
            assert (await examined(tree))["traces"] == Finding("traces", "ok", f"{server.url}/v1/traces takes them")
            assert (len(server.requests), server.spans) == (1, [])
            server.answer = 403
            refused = (await examined(tree))["traces"]
            server.stop()
            away = (await examined(tree))["traces"]
            server.start()
            assert "traces" not in await examined({"feeds": [feed(sim)]})
    assert (refused.verdict, "403" in refused.found, "docs" in refused.todo) == ("warn", True, False)
    assert away.found.endswith("Connection refused")
    assert "the gateway runs without it too" in away.todo


async def test_certificates_and_pins_are_looked_at(tmp_path: Path) -> None:
    make(tmp_path)
    async with Simulator(Options(venue="kraken", symbols=1, rate=10, tls=str(tmp_path))) as sim:
        ca = str(tmp_path / "ca.pem")
        found = await examined({"feeds": [feed(sim, ca_file=ca, pins=[pin(tmp_path, "first")])]})
        assert found["spot: certificate"].verdict == "ok"
        assert "valid for 36" in found["spot: certificate"].found
        assert found["spot: pins"].verdict == "ok"
        found = await examined({"feeds": [feed(sim, ca_file=ca, pins=[pin(tmp_path, "unknown")])]})
        assert found["spot: pins"].verdict == "fail"
        found = await examined({"feeds": [feed(sim)]})
        assert found["spot: TLS"].verdict == "fail", "a certificate that the system does not know"


async def dated(seconds: str) -> Finding:
    """The clock's finding beside a venue that says this date."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(f"HTTP/1.1 404 Not Found\r\nDate: {seconds}\r\n\r\n".encode())
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        feed = {"name": "spot", "venue": "kraken", "symbols": ["BTC-USD"], "url": f"ws://127.0.0.1:{port}"}
        return (await examined({"feeds": [feed]}))["spot: clock"]


async def test_the_clock_is_held_against_the_venue_s() -> None:
    assert (await dated("Sat, 01 Jan 2000 00:00:00 GMT")).verdict == "fail"
    assert (await dated("yesterday")).verdict == "unknown"


def test_the_command_ends_with_one_where_something_fails(tmp_path: Path) -> None:
    (tmp_path / "gateway.toml").write_text(
        '[[feeds]]\nvenue = "kraken"\nsymbols = ["BTC-USD"]\nurl = "ws://nowhere.invalid"\n'
    )
    done = run("doctor", "gateway.toml", "--json", cwd=tmp_path)
    assert done.returncode == 1
    said = last_json(done.stdout)
    assert said["ok"] is False
    assert {"check", "verdict", "found", "todo"} <= set(said["checks"][0])
    table = run("doctor", "gateway.toml", cwd=tmp_path)
    assert table.returncode == 1
    assert "could not be checked" in table.stdout
