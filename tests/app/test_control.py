"""The control socket: a Unix socket of mode 0600 that answers one JSON object a line, and outlives whatever is sent to it."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import stat
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

import truetape
from tests.app.conftest import Simulator, states, until
from truetape.io.serve.control import ControlError, ControlServer, ask


@pytest.fixture
async def gw(tmp_path: Path, kraken: Simulator) -> AsyncIterator[truetape.Gateway]:
    tree = {"feeds": [kraken.feed(symbols=kraken.symbols[:1])], "control": {"socket": str(tmp_path / "run" / "s")}}
    async with truetape.open({**tree, "journal": {"dir": str(tmp_path / "tape")}}) as gateway:
        assert await gateway.ready()
        yield gateway


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run" / "s"


async def asked(path: Path, **request: Any) -> dict[str, Any]:
    return await asyncio.to_thread(ask, path, request)


async def test_only_its_owner_can_open_it(gw: truetape.Gateway, path: Path) -> None:
    mode = path.stat().st_mode
    assert stat.S_ISSOCK(mode)
    assert stat.S_IMODE(mode) == 0o600
    mask = os.umask(0)
    os.umask(mask)
    assert mask != 0o177, "the process's mask is as it was"


async def test_the_status_has_the_fields_of_the_contract(gw: truetape.Gateway, path: Path) -> None:
    await until(gw, lambda: gw.journal is not None and gw.journal.flushed_record >= 0)
    with gw.subscribe("*", ["book"], name="mine"):
        tree = await asked(path, do="status")
    for row in tree["subscriptions"]:
        fields = "venue symbol channel state evidence reason since age_s last_seq last_verified threshold_s samples"
        assert set(fields.split()) <= set(row)
    assert {"state", "rtt_ms", "offset_ms", "reconnects"} <= set(tree["connections"][0])
    mine = next(row for row in tree["consumers"] if row["name"] == "mine")
    assert mine["received"] == sum(mine[name] for name in ("delivered", "conflated", "dropped", "expired", "queued"))
    assert mine["balanced"] is True
    assert tree["journal"]["flushed_record"] >= 0
    assert tree["memory"]["rss_mb"] > 1
    assert tree["loop_lag_ms"] >= 0


async def test_symbols_are_subscribed_and_unsubscribed_over_it(
    gw: truetape.Gateway, path: Path, kraken: Simulator
) -> None:
    name = kraken.ids()[1]
    said = await asked(path, do="subscribe", symbols=[name], channels=["book"])
    assert said == {"ok": True, "subscriptions": [f"book {name}"]}
    await until(gw, lambda: states(gw).get(name) == "LIVE")
    reader = gw.subscribe(name, ["book"])
    reader.close()
    assert name in states(gw), "the operator still holds it"
    assert (await asked(path, do="unsubscribe", symbols=[name], channels=["book"]))["ok"] is True
    assert name not in states(gw)
    await asked(path, do="unsubscribe", symbols=[kraken.ids()[0]])
    assert kraken.ids()[0] in states(gw), "what the configuration names stays"


@pytest.mark.parametrize(
    ("request_", "said"),
    [
        ({}, "expected do = status"),
        ({"do": "reboot"}, "reboot"),
        ({"do": ["status"]}, "expected do = status"),
        ({"do": "subscribe"}, "symbols"),
        ({"do": "subscribe", "symbols": "kraken:BTC-USD"}, "lists"),
        ({"do": "subscribe", "symbols": [5]}, "lists"),
        ({"do": "subscribe", "symbols": ["nasdaq:AAPL"]}, "nasdaq"),
        ({"do": "subscribe", "symbols": ["kraken:BTC-USD"], "channels": ["candles"]}, "candles"),
        ({"do": "subscribe", "symbols": []}, "at least one symbol"),
    ],
)  # fmt: skip
async def test_a_wrong_request_is_answered_in_words(
    gw: truetape.Gateway, path: Path, request_: dict[str, Any], said: str
) -> None:
    answer = await asked(path, **request_)
    assert said in answer["error"]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b"hello\n", "one JSON object"),
        (b"[1,2]\n", "one JSON object"),
        (b"\xff\xfe\n", "one JSON object"),
        (b"\n", "one JSON object"),
        (b"[" * 60_000 + b"\n", "one JSON object"),
        (b"x" * 70_000 + b"\n", "at most 65536 bytes"),
    ],
    ids=["word", "list", "bytes", "empty", "deep", "long"],
)
async def test_garbage_is_answered_in_words(gw: truetape.Gateway, path: Path, line: bytes, said: str) -> None:
    reader, writer = await asyncio.open_unix_connection(str(path))
    writer.write(line)
    assert said in json.loads(await reader.readline())["error"]
    writer.close()
    assert (await asked(path, do="status"))["version"] == truetape.__version__


async def test_a_client_may_ask_again_and_go_in_the_middle(gw: truetape.Gateway, path: Path) -> None:
    reader, writer = await asyncio.open_unix_connection(str(path))
    for _ in range(3):
        writer.write(b'{"do":"status"}\n')
        assert json.loads(await reader.readline())["uptime_s"] > 0
    writer.write(b'{"do":"sta')
    writer.close()
    for _ in range(5):
        _, gone = await asyncio.open_unix_connection(str(path))
        gone.write(b'{"do":"status"}\n' * 20)
        gone.transport.abort()
    assert (await asked(path, do="status"))["uptime_s"] > 0


async def test_clients_that_are_connected_do_not_hold_up_the_end(tmp_path: Path) -> None:
    errors: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: errors.append(context))
    server = ControlServer(tmp_path / "s", lambda request: {"ok": True})
    await server.start()
    reader, writer = await asyncio.open_unix_connection(str(tmp_path / "s"))
    writer.write(b"{}\n")
    assert await reader.readline() == b'{"ok":true}\n'
    await asyncio.wait_for(server.close(), 2)
    assert await reader.read() == b""
    writer.close()
    await server.close()
    assert not (tmp_path / "s").exists()
    assert errors == []


async def test_a_dead_gateway_s_socket_is_replaced_and_a_living_one_s_is_not(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    server = ControlServer(path, lambda request: {"first": True})
    await server.start()
    with pytest.raises(ControlError, match="another gateway answers there; stop it"):
        await ControlServer(path, lambda request: {}).start()
    assert await asked(path) == {"first": True}
    await server.close()


async def test_a_file_that_is_no_socket_is_never_removed(tmp_path: Path) -> None:
    path = tmp_path / "gateway.toml"
    path.write_text("precious")
    with pytest.raises(ControlError, match="found another file; set another"):
        await ControlServer(path, lambda request: {}).start()
    assert path.read_text() == "precious"


async def test_an_impossible_path_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path / ("x" * 200), tmp_path / "file" / "s", Path("/proc/nowhere/s")):
        with pytest.raises(ControlError, match=r"control socket .*set"):
            await ControlServer(path, lambda request: {}).start()


def test_asking_where_nobody_answers_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "absent", tmp_path / "file", tmp_path, tmp_path / ("x" * 200)):
        with pytest.raises(ControlError, match="is it running"):
            ask(path, {"do": "status"})


async def test_an_answer_that_is_none_is_a_clear_error(tmp_path: Path) -> None:
    answers = iter([b"220 mail ready\r\n", b"", b"[]\n"])

    async def other(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.write(next(answers))
        writer.close()

    path = tmp_path / "s"
    server = await asyncio.start_unix_server(other, str(path))
    for why in ("found something else", "closed without an answer", "found something else"):
        with pytest.raises(ControlError, match=why):
            await asked(path, do="status")
    server.close()
